//! What choosing and fitting blocks found out, as it goes into reports.

use serde::Serialize;
use updp_trainer::evaluator::Score;
use updp_trainer::finetune::{EpochSummary, StepSummary};

/// One form of one block, fitted alone: what it costs and saves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidateOutcome {
    /// Name of the form.
    pub form: String,
    /// Median latency of the block in this form, in milliseconds.
    pub latency_ms: f64,
    /// `‖y − ŷ‖² / ‖y − mean y‖²` of the block's output behind the rectifier at its end, if there is one, on held-out rows.
    pub output_error: f64,
    /// Ridge strength, relative to the mean of the Gram matrix's diagonal; `None` where nothing is solved.
    pub ridge: Option<f64>,
    /// The network with this one block pruned, on the held-out images.
    pub score: Score,
    /// What is lost, in points (per cent of the images).
    pub degradation: f64,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockOutcome {
    /// Index as `inspect` prints it.
    pub index: usize,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Median latency as it is, in milliseconds.
    pub baseline_ms: f64,
    /// Its forms with what they cost.
    pub candidates: Vec<CandidateOutcome>,
    /// The form it was pruned to; `None` when it stays.
    pub chosen: Option<String>,
    /// Why it candidates nothing, or why it was left alone.
    pub reason: Option<String>,
}

/// One set of blocks that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetOutcome {
    /// Blocks with their forms.
    pub blocks: Vec<(usize, String)>,
    /// Sum of the blocks' latencies by the table, in milliseconds.
    pub latency_ms: f64,
    /// Sum of the single degradations, in points.
    pub degradation: f64,
    /// What all of them together lose on the held-out images, as they were fitted alone or in the supernet, in points; `None` when not tried.
    pub joint_degradation: Option<f64>,
    /// What the network loses once they are fitted one after the other and kept layers solved for again; `None` when it was not.
    pub fitted_degradation: Option<f64>,
}

/// Whole-network latency, both measured in turns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// The input model, compiled exactly, in milliseconds.
    pub before_ms: f64,
    /// The result, in milliseconds.
    pub after_ms: f64,
    /// Median of the paired ratios.
    pub speedup: f64,
    /// Images a run.
    pub batch: usize,
    /// What ran it.
    pub runtime: String,
}

/// The data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataOutcome {
    /// Images the fit saw.
    pub calibration: usize,
    /// Images that forms and blocks are chosen by.
    pub held_out: usize,
    /// Images of `--val`; 0 = the held-out images serve.
    pub validation: usize,
    /// Class names in the order of the output; empty without labels.
    pub classes: Vec<String>,
    /// Files that could not be read.
    pub skipped: Vec<String>,
}

/// How a pruned network was trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingOutcome {
    /// `fit`, `blend`, `progressive` or `direct`.
    pub method: String,
    /// Epochs asked for.
    pub epochs: usize,
    /// Updates made.
    pub steps: u64,
    /// Images trained with.
    pub images: usize,
    /// Images a second at the end; `None` when everything was done before.
    pub images_per_second: Option<f64>,
    /// The network before it was trained, on the validation images.
    pub before: Score,
    /// The trained network, on the validation images.
    pub after: Score,
    /// Whether it is what was written; else what it was trained from is worth more on the held-out images, and that was.
    pub is_written: bool,
    /// After each epoch of the last run, on the held-out images.
    pub history: Vec<EpochSummary>,
    /// The steps of the last run, evenly thinned out to some hundred.
    pub course: Vec<StepSummary>,
}

/// A subnet of a supernet before and after it was trained, on the held-out images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SubnetOutcome {
    /// With the weights it started from: the input model's and those of the fit.
    pub before: Score,
    /// Trained.
    pub after: Score,
}

/// How the supernet was trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SupernetOutcome {
    /// Epochs asked for.
    pub epochs: usize,
    /// Updates made, of four subnets each.
    pub steps: u64,
    /// Images trained with.
    pub images: usize,
    /// Images a second at the end; `None` when everything was done before.
    pub images_per_second: Option<f64>,
    /// Blocks in two flows, with the pruned form of each.
    pub blocks: Vec<(usize, String)>,
    /// Nothing pruned: λ is 0.
    pub baseline: SubnetOutcome,
    /// Every one of its blocks pruned: λ is 1.
    pub all_pruned: SubnetOutcome,
    /// After each epoch of the last run, λ being 1, on the held-out images.
    pub history: Vec<EpochSummary>,
    /// The steps of the last run, evenly thinned out to some hundred.
    pub course: Vec<StepSummary>,
    /// Where the weights of the chosen blocks and the layers around them come from, `supernet` or `fit`; `None` before that is
    /// known, and where the network was trained from other weights.
    pub start: Option<String>,
}

/// A search by sets tried together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchOutcome {
    /// `genetic`, `random` or `greedy`.
    pub strategy: String,
    /// Seed of what was drawn.
    pub seed: u64,
    /// Sets tried together.
    pub evaluated: usize,
    /// Of the sets tried those that no other is both faster than and loses less than, the unpruned network first.
    pub by_latency: Vec<SetOutcome>,
    /// Of the sets tried those that no other prunes as many blocks as and loses less than, the unpruned network first.
    pub by_count: Vec<SetOutcome>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The data.
    pub data: DataOutcome,
    /// `accuracy` with labels, `agreement` with the original otherwise: what degradations are counted in.
    pub metric: String,
    /// The goal in words.
    pub goal: String,
    /// The input model, on the validation images.
    pub before: Score,
    /// The result, on the validation images.
    pub after: Score,
    /// How it was trained; `None` when it was only fitted.
    pub training: Option<TrainingOutcome>,
    /// Whole-network latency; `None` when it was not measured.
    pub speed: Option<Speed>,
    /// Every block.
    pub blocks: Vec<BlockOutcome>,
    /// Best sums of degradations against latency: no other choice is both faster and cheaper.
    pub front: Vec<SetOutcome>,
    /// Sets tried together, in order.
    pub tried: Vec<SetOutcome>,
    /// The supernet that sets were tried in; `None` when they were tried as they were fitted.
    pub supernet: Option<SupernetOutcome>,
    /// The search by sets tried together; `None` where degradations of single blocks led it.
    pub search: Option<SearchOutcome>,
    /// How the choice came about, in sentences.
    pub explanation: Vec<String>,
    /// Gates that were missed, in words; empty = all held.
    pub missed: Vec<String>,
}
