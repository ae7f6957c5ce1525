//! The library: one function for each job, plain options, plain reports.
//!
//! Nothing here prints. Progress, warnings and cancellation go through an [`Observer`].

pub mod bench;
pub mod compile;
mod constants;
pub mod doctor;
pub mod error;
pub mod evaluate;
pub mod finetune;
pub mod input_check;
mod inputs;
pub mod inspect;
mod near;
pub mod prune;
pub mod shapes;
pub mod source;
mod telling;
mod verification;
pub mod verify;
pub mod weights;

use updp_exec::RuntimeOptions;
use updp_passes::{Evaluator, Options};
pub use updp_prune::{Goal, Observer, Silent, TrainingEvent};

pub use bench::{
    BenchOptions, BenchReport, BenchedModel, BlockBenchOptions, BlockBenchReport, bench,
    bench_blocks,
};
pub use compile::{BlockCount, CompileOptions, CompileReport, VerificationStatus, compile};
use constants::RuntimeEvaluator;
pub use doctor::{Cure, DoctorLibrary, DoctorProvider, DoctorReport, PassedOver, doctor};
pub use error::Error;
pub use evaluate::{
    ClassScore, EvaluateOptions, EvaluateReport, FlippedImage, ModelScore, evaluate,
};
pub use finetune::{
    FinetuneEstimate, FinetuneOptions, FinetuneReport, estimate_finetune, finetune, training_step,
};
pub use input_check::InputCheckOptions;
pub use inspect::{InspectOptions, InspectReport, inspect};
pub use prune::{
    ExpandReport, PruneOptions, PruneReport, estimate, expand, prune, prune_structure,
};
pub use source::Source;
pub use verify::{VerifyOptions, VerifyReport, verify};
pub use weights::{FreezeWeights, freeze_weights, overridable_notice, overridable_weights};

/// Which rules of exact compilation run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleOptions {
    /// Whether every exact merge is made. Otherwise merges are made only if the model gets no slower by the cost model.
    pub merge_all: bool,
    /// The rules to leave out.
    pub skip: Vec<String>,
    /// If not empty, only these rules run.
    pub only: Vec<String>,
}

impl RuleOptions {
    /// The options of the passes for a model of this size; `runtime` computes its constant expressions.
    pub(crate) fn passes(&self, model_bytes: u64, runtime: &RuntimeOptions) -> Options {
        Options {
            evaluator: Some(Evaluator::new(RuntimeEvaluator::new(runtime))),
            merge_all: self.merge_all,
            skip: self.skip.iter().cloned().collect(),
            only: self.only.iter().cloned().collect(),
            model_bytes: usize::try_from(model_bytes).unwrap_or(usize::MAX),
            ..Options::default()
        }
    }
}
