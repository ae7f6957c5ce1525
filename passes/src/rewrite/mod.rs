//! One rewrite rule per file; each keeps the function of the graph. `pipeline.rs` gives their order.

mod budget;
mod composite;
mod convert_token_linear;
mod eliminate_dead;
mod eliminate_identity;
mod fold_channel_affine;
mod fold_constants;
mod fold_into_consumer;
mod fuse_pad;
mod merge_affine_pair;
mod merge_chain;
mod merge_constant_adds;
mod merge_parallel;
mod merge_transposes;
mod quantization;
mod swap_transpose_affine;
#[cfg(test)]
mod tests;
mod zero_sign;

pub use convert_token_linear::ConvertTokenLinear;
pub use eliminate_dead::EliminateDead;
pub use eliminate_identity::EliminateIdentity;
pub use fold_channel_affine::FoldChannelAffine;
pub use fold_constants::FoldConstants;
pub use fold_into_consumer::FoldIntoConsumer;
pub use fuse_pad::FusePad;
pub use merge_affine_pair::MergeAffinePair;
pub use merge_chain::MergeChain;
pub use merge_constant_adds::MergeConstantAdds;
pub use merge_parallel::MergeParallel;
pub use merge_transposes::MergeTransposes;
pub use swap_transpose_affine::SwapTransposeAffine;
