//! Data, the closed-form fit, training and evaluation of networks.
//!
//! This crate handles networks and images. It does not know which blocks are pruned; `updp-prune` does. It prints
//! nothing; progress goes to an [`observer::Observer`].

pub mod activation_cache;
pub mod block_evaluator;
pub mod data;
pub mod error;
pub mod evaluator;
pub mod files;
pub mod finetune;
pub mod fit;
pub mod hash;
pub mod images;
pub mod input_check;
pub mod observer;
pub mod other_inputs;
pub mod predictions;
pub mod run;
pub mod seed;
mod similarity;
pub mod stored_batches;
pub mod train;

/// Sets the number of threads for linear algebra and decoding. Without a number, they use every core.
pub fn use_threads(threads: Option<std::num::NonZeroUsize>) {
    if let Some(threads) = threads {
        // On a second call the pool already exists, and it stays unchanged.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
        faer::set_global_parallelism(faer::Par::rayon(threads.get()));
    }
}
