//! The results of choosing and fitting blocks, in the form that reports use.

use serde::Serialize;
use updp_trainer::evaluator::{OutputScore, Score};
use updp_trainer::finetune::{EpochSummary, StepSummary};
use updp_trainer::input_check::CheckedInput;
use updp_trainer::other_inputs::OtherInputOutcome;

/// One form of one block, fitted alone, with its cost and its gain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidateOutcome {
    /// Name of the form.
    pub form: String,
    /// Median latency of the block in this form, in milliseconds.
    pub latency_ms: f64,
    /// `‖y − ŷ‖² / ‖y − mean y‖²` on held-out rows. `y` is the block's output, after the rectifier at its end if there
    /// is one.
    pub output_error: f64,
    /// Ridge strength relative to the mean of the Gram matrix's diagonal; `None` if nothing is solved.
    pub ridge: Option<f64>,
    /// Score of the network with only this block pruned, on the held-out images.
    pub score: Score,
    /// Degradation in points (per cent of the images).
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
    /// Median latency of the baseline, in milliseconds.
    pub baseline_ms: f64,
    /// Its forms with their costs.
    pub candidates: Vec<CandidateOutcome>,
    /// The form that the block was pruned to; `None` if it stays.
    pub chosen: Option<String>,
    /// Why the block has no candidate, or why it was not pruned.
    pub reason: Option<String>,
}

/// One set of blocks that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetOutcome {
    /// Blocks with their forms.
    pub blocks: Vec<(usize, String)>,
    /// Sum of the blocks' latencies from the table, in milliseconds.
    pub latency_ms: f64,
    /// Sum of the degradations of the single blocks, in points.
    pub degradation: f64,
    /// Degradation of all the blocks together on the held-out images, in points. The blocks are as they were fitted
    /// alone, or as they are in the supernet. `None` if the set was not tried.
    pub joint_degradation: Option<f64>,
    /// Degradation after the blocks are fitted one after another and kept layers are solved again; `None` if this was
    /// not done.
    pub fitted_degradation: Option<f64>,
}

/// A set of blocks that was fitted as a whole: a network between the input model and a faster one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrontNetwork {
    /// Number, from 1, in the order of speed. `--pick` takes it after a run with `--front`.
    pub number: usize,
    /// Whether this set was selected.
    pub is_chosen: bool,
    /// Whether another measured point is at least as fast and no more degraded.
    pub is_beaten: bool,
    /// Its measured speed; `None` if it was not measured.
    pub speed: Option<NetworkSpeed>,
    /// Multiply-adds, as a share of those of the exactly compiled input model.
    pub macs_share: f64,
    /// Score of the fitted network on the held-out images.
    pub score: Score,
    /// Blocks with their forms.
    pub blocks: Vec<(usize, String)>,
}

/// The measured speed of a network against the exactly compiled input model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NetworkSpeed {
    /// Latency in milliseconds.
    pub after_ms: f64,
    /// Median of the paired ratios.
    pub speedup: f64,
    /// Lower end of the 95 % confidence interval of the speedup.
    pub low: f64,
    /// Upper end of the 95 % confidence interval of the speedup.
    pub high: f64,
}

/// Latency of the written network, measured afresh at the end. Both networks are measured in turns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Latency of the exactly compiled input model, in milliseconds.
    pub before_ms: f64,
    /// Latency of the result, in milliseconds.
    pub after_ms: f64,
    /// Median of the paired ratios.
    pub speedup: f64,
    /// Lower end of the 95 % confidence interval of the speedup.
    pub low: f64,
    /// Upper end of the 95 % confidence interval of the speedup.
    pub high: f64,
    /// Images per run.
    pub batch: usize,
    /// Threads that ran the networks.
    pub threads: usize,
    /// The runtime that ran the networks.
    pub runtime: String,
}

/// The data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataOutcome {
    /// Number of images that the fit uses.
    pub calibration: usize,
    /// Number of images that decide between forms and blocks.
    pub held_out: usize,
    /// Number of images of `--val`; 0 = the held-out images are used.
    pub validation: usize,
    /// Class names in the order of the output; empty without labels.
    pub classes: Vec<String>,
    /// Files that could not be read.
    pub skipped: Vec<String>,
    /// The input that takes the images.
    pub image_input: ImageInputOutcome,
    /// The other inputs of the model, each with its constant.
    pub other_inputs: Vec<OtherInputOutcome>,
}

/// The input that takes the images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImageInputOutcome {
    /// Name of the input.
    pub name: String,
    /// Dims of one image, as the input takes it.
    pub dims: Vec<usize>,
}

/// How a pruned network was trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingOutcome {
    /// `fit`, `blend`, `progressive` or `direct`.
    pub method: String,
    /// Number of requested epochs.
    pub epochs: usize,
    /// Number of updates that were made.
    pub steps: u64,
    /// Number of training images.
    pub images: usize,
    /// Images per second at the end; `None` if nothing was left to do.
    pub images_per_second: Option<f64>,
    /// Score of the network before training, on the validation images.
    pub before: Score,
    /// Score of the trained network, on the validation images.
    pub after: Score,
    /// Whether the trained network was written. Otherwise the network before training scores higher on the held-out
    /// images, and that one was written.
    pub is_written: bool,
    /// Results after each epoch of the last run, on the held-out images.
    pub history: Vec<EpochSummary>,
    /// The steps of the last run, thinned evenly to a few hundred.
    pub course: Vec<StepSummary>,
}

/// A subnet of a supernet before and after training, on the held-out images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SubnetOutcome {
    /// With the weights it started from: the input model's and those of the fit.
    pub before: Score,
    /// The score after training.
    pub after: Score,
}

/// How the supernet was trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SupernetOutcome {
    /// Number of requested epochs.
    pub epochs: usize,
    /// Number of updates that were made, with four subnets each.
    pub steps: u64,
    /// Number of training images.
    pub images: usize,
    /// Images per second at the end; `None` if nothing was left to do.
    pub images_per_second: Option<f64>,
    /// Blocks with two flows, and the pruned form of each.
    pub blocks: Vec<(usize, String)>,
    /// The subnet with no block pruned: λ is 0.
    pub baseline: SubnetOutcome,
    /// The subnet with all its blocks pruned: λ is 1.
    pub all_pruned: SubnetOutcome,
    /// Results after each epoch of the last run with λ = 1, on the held-out images.
    pub history: Vec<EpochSummary>,
    /// The steps of the last run, thinned evenly to a few hundred.
    pub course: Vec<StepSummary>,
    /// The source of the weights of the chosen blocks and of the layers around them, `supernet` or `fit`. `None` until
    /// it is known, and if the network was trained from other weights.
    pub start: Option<String>,
}

/// A search that tries sets as a whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchOutcome {
    /// `genetic`, `random` or `greedy`.
    pub strategy: String,
    /// Seed of the random draws.
    pub seed: u64,
    /// Number of sets that were tried as a whole.
    pub evaluated: usize,
    /// The tried sets on the Pareto front of latency and degradation, with the unpruned network first. No other tried
    /// set is both faster and less degraded.
    pub by_latency: Vec<SetOutcome>,
    /// The tried sets on the Pareto front of block count and degradation, with the unpruned network first. No other
    /// tried set prunes as many blocks with less degradation.
    pub by_count: Vec<SetOutcome>,
}

/// The complete outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The data.
    pub data: DataOutcome,
    /// The metric in which degradations are counted: `accuracy` with labels, otherwise `agreement` with the original.
    pub metric: String,
    /// A description of the goal.
    pub goal: String,
    /// The input model on a few images before any work; `None` if it was not scored.
    pub input: Option<CheckedInput>,
    /// Score of the input model, on the held-out images.
    pub held_out_baseline: Score,
    /// Score of the input model, on the validation images.
    pub before: Score,
    /// Score of the result, on the validation images.
    pub after: Score,
    /// The training of the result; `None` if the network was only fitted.
    pub training: Option<TrainingOutcome>,
    /// The outputs that count, with the degradation of each on the validation images, before training.
    pub outputs: Vec<OutputScore>,
    /// Whole-network latency; `None` when it was not measured.
    pub speed: Option<Speed>,
    /// Every block.
    pub blocks: Vec<BlockOutcome>,
    /// The Pareto front of latency and summed degradation: no other choice is both faster and less degraded.
    pub front: Vec<SetOutcome>,
    /// Sets that were tried as a whole, in order.
    pub tried: Vec<SetOutcome>,
    /// The sets that were fitted as a whole, in the order of speed.
    pub networks: Vec<FrontNetwork>,
    /// The supernet in which sets were tried; `None` if they were tried with the blocks as they were fitted.
    pub supernet: Option<SupernetOutcome>,
    /// The search that tries sets as a whole; `None` if degradations of single blocks guided the search.
    pub search: Option<SearchOutcome>,
    /// How the choice was made, in sentences.
    pub explanation: Vec<String>,
    /// A description of the gates that were missed; empty = all gates passed.
    pub missed: Vec<String>,
}
