//! One rewrite rule per file; each keeps the function of the graph. `pipeline.rs` gives their order.

mod budget;
mod choose_branch;
mod composite;
mod convert_token_linear;
mod drop_empty_operands;
mod eliminate_dead;
mod eliminate_identity;
mod fold_channel_affine;
mod fold_constants;
mod fold_into_consumer;
mod fold_space_to_depth;
mod fold_through_concat;
mod fuse_pad;
mod merge_affine_pair;
mod merge_chain;
mod merge_constant_adds;
mod merge_parallel;
mod merge_reshapes;
mod merge_transposes;
mod quantization;
mod swap_transpose_affine;
#[cfg(test)]
mod tests;
mod unchanged;
mod write_sum_as_product;
mod zero_sign;

pub use choose_branch::ChooseBranch;
pub use convert_token_linear::ConvertTokenLinear;
pub use drop_empty_operands::DropEmptyOperands;
pub use eliminate_dead::EliminateDead;
pub use eliminate_identity::EliminateIdentity;
pub use fold_channel_affine::FoldChannelAffine;
pub use fold_constants::FoldConstants;
pub use fold_into_consumer::FoldIntoConsumer;
pub use fold_space_to_depth::FoldSpaceToDepth;
pub use fold_through_concat::FoldThroughConcat;
pub use fuse_pad::FusePad;
pub use merge_affine_pair::MergeAffinePair;
pub use merge_chain::MergeChain;
pub use merge_constant_adds::MergeConstantAdds;
pub use merge_parallel::MergeParallel;
pub use merge_reshapes::MergeReshapes;
pub use merge_transposes::MergeTransposes;
pub use swap_transpose_affine::SwapTransposeAffine;
pub use write_sum_as_product::WriteSumAsProduct;
