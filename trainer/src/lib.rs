//! Recovers the accuracy of pruned networks: calibration data, the closed-form fit, and which blocks to prune.

pub mod checkpoint;
pub mod data;
pub mod error;
pub mod fit;
pub mod hash;
pub mod images;
pub mod judge;
pub mod ledger;
pub mod outcome;
pub mod predictions;
pub mod recovery;
mod rivals;
pub mod run;
pub mod search;
mod seed;
pub mod stage;
pub mod supernet;
pub mod train;
pub mod tune;

/// Has linear algebra and decoding use so many threads; without a number, every core.
pub fn use_threads(threads: Option<std::num::NonZeroUsize>) {
    if let Some(threads) = threads {
        // The pool exists already when this is called twice; then it stays as it is.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
        faer::set_global_parallelism(faer::Par::rayon(threads.get()));
    }
}
