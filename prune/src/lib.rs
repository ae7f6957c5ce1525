//! Depth pruning as a library: the blocks of UPDP, a closed-form fit, a search by measured latency, a supernet and
//! fine-tuning.
//!
//! [`prune()`] runs the stages one after another. Each stage takes and returns plain data:
//!
//! | stage | returns |
//! |---|---|
//! | [`profile::profile`] | blocks, forms, latencies |
//! | [`fit_alone::fit_alone`] | the candidate set: every form of every block, fitted and scored alone |
//! | [`supernet::train`] | a network to evaluate sets of blocks in (optional) |
//! | [`select::select`] | the set of blocks for the goal |
//! | [`fit_set::fit_set`] | the set, fitted as a whole |
//! | [`finetune::finetune`] | the trained network (optional) |
//!
//! Exact compilation ([`updp_passes::pipeline::compile`]) then merges each pruned block. This crate prints nothing:
//! progress, warnings and cancellation go through an [`Observer`]. It writes only to the work folder and to the latency
//! table.

mod block_profile;
pub mod candidates;
pub mod checkpoint;
mod clock_threads;
pub mod config;
pub mod context;
mod data_warnings;
pub mod error;
pub mod estimate;
pub mod evaluation_cache;
mod files;
pub mod finetune;
pub mod fit_alone;
pub mod fit_set;
pub mod fitter;
mod front;
pub mod latency_model;
pub mod latency_table;
pub mod network_latency;
pub mod outcome;
mod pareto_filter;
pub mod part;
pub mod profile;
mod progress;
mod refinement;
mod run;
mod score_bits;
pub mod search;
pub mod select;
mod session_latency;
pub mod stages;
pub mod starting_network;
mod statistics;
pub mod structure;
pub mod supernet;
mod time_budget;
pub mod words;
pub mod work_folder;

pub use config::{BlockSelection, Goal, NetworkScore, PruneConfig};
pub use context::ImageSets;
pub use error::PruneError;
pub use run::{Pruned, prune};
pub use updp_trainer::observer::{Observer, Silent, TrainingEvent};
