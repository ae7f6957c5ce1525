//! Data, the closed-form fit, training and evaluation of networks.
//!
//! This crate knows networks and images, not which blocks are pruned: that is `updp-prune`. It prints nothing; progress goes to
//! an [`observer::Observer`].

pub mod activation_cache;
pub mod data;
pub mod error;
pub mod evaluator;
pub mod finetune;
pub mod fit;
pub mod hash;
pub mod images;
pub mod observer;
pub mod predictions;
pub mod run;
pub mod seed;
pub mod train;

/// Has linear algebra and decoding use so many threads; without a number, every core.
pub fn use_threads(threads: Option<std::num::NonZeroUsize>) {
    if let Some(threads) = threads {
        // The pool exists already when this is called twice; then it stays as it is.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
        faer::set_global_parallelism(faer::Par::rayon(threads.get()));
    }
}
