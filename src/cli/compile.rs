//! Arguments of compiling and pruning: the groups, and the subcommands and the bare form that are made of them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, FromArgMatches, ValueEnum};

use super::inputs::InputArgs;
use super::prune::{GateArgs, PruneArgs, Recovery};
use super::runtime::RuntimeArgs;
use super::train::{Method, RampForm, ShrinkAt, TrainingArgs};
use super::values::{at_least_one, from_zero_to, percent, share, shrink_at, up_to};
use crate::api::{FreezeWeights, RuleOptions};
use crate::deploy::DeployTarget;
use crate::terminal::Verbosity;

/// Epochs of `--recover train` without a number.
const EPOCHS: NonZeroUsize = NonZeroUsize::new(10).expect("it is not 0");

/// When merges are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MergePolicy {
    /// Where the cost model says that the model gets no slower
    Auto,
    /// Wherever a merge is exact
    All,
}

/// Weights that are also inputs.
#[derive(Args, Clone, Debug)]
pub struct WeightArgs {
    /// Makes constants of weights that are also inputs of the graph, so that they can be merged, pruned and trained: all of them, or those named
    #[arg(long, value_name = "NAMES", num_args = 0.., require_equals = true, value_delimiter = ',')]
    pub freeze_weights: Option<Vec<String>>,
}

impl WeightArgs {
    /// As the library takes it.
    #[must_use]
    pub fn options(&self) -> FreezeWeights {
        match &self.freeze_weights {
            None => FreezeWeights::None,
            Some(names) if names.is_empty() => FreezeWeights::All,
            Some(names) => FreezeWeights::Named(names.clone()),
        }
    }
}

/// Rules that run.
#[derive(Args, Clone, Debug)]
pub struct RuleArgs {
    /// When layers are merged
    #[arg(long, help_heading = "Rules", value_enum, default_value = "auto")]
    pub merge: MergePolicy,
    /// Rules to leave out
    #[arg(long, help_heading = "Rules", value_delimiter = ',', value_name = "RULES")]
    pub skip: Vec<String>,
    /// The only rules to run
    #[arg(long, help_heading = "Rules", value_delimiter = ',', value_name = "RULES")]
    pub only: Vec<String>,
}

impl RuleArgs {
    /// As the library takes it.
    #[must_use]
    pub fn options(&self) -> RuleOptions {
        RuleOptions {
            merge_all: self.merge == MergePolicy::All,
            skip: self.skip.clone(),
            only: self.only.clone(),
        }
    }
}

/// Where a model is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetChoice {
    /// ONNX Runtime
    Ort,
    /// NVIDIA TensorRT
    Tensorrt,
    /// AMD MIGraphX
    Migraphx,
}

impl TargetChoice {
    /// As the library takes it.
    #[must_use]
    pub fn target(self) -> DeployTarget {
        match self {
            Self::Ort => DeployTarget::Ort,
            Self::Tensorrt => DeployTarget::Tensorrt,
            Self::Migraphx => DeployTarget::Migraphx,
        }
    }
}

/// Images to recover accuracy with.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// Images: a folder (with labels: one subfolder per class), .npz, .npy, IDX or .tar; labels are not needed
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Images to report on [default: the held-out images]
    #[arg(long, value_name = "PATH", requires = "data")]
    pub val: Option<PathBuf>,
    /// Share of --data that is held out to choose the blocks by
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0.1")]
    pub val_split: f64,
    /// How images become inputs: a preset (imagenet, cifar, fashion-mnist, mnist, unit, symmetric, caffe, none; with ,crop ,squeeze ,bgr ,bicubic behind it), or the file that Hugging Face or timm publishes beside a model; auto takes the one with the highest accuracy (needs labels)
    #[arg(long, value_name = "NAME|FILE.json|auto", default_value = "imagenet")]
    pub preprocess: String,
    /// Refuses to start unless the input model has this accuracy on the images, in per cent, within two standard errors: 88
    #[arg(long, value_name = "PERCENT", value_parser = percent, requires = "data")]
    pub expect_accuracy: Option<f64>,
    /// Largest number of images to fit with [default: as many as the model runs in a minute, 500 to 4000]
    #[arg(long, value_name = "N", value_parser = up_to::<1_000_000_000>)]
    pub images: Option<NonZeroUsize>,
    /// Seed of all random draws: the held-out images and the rows to fit with
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// Folder that keeps results, so that the same command continues where it stopped [default: OUT.work, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Most seconds to wait for another process that uses this folder
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    pub work_wait: u32,
}

/// What compiling and pruning share.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct CommonArgs {
    /// Model to read; - for standard input
    #[arg(index = 1)]
    pub model: Option<PathBuf>,
    /// File to write; - for standard output
    #[arg(index = 2, value_name = "OUT", conflicts_with = "output")]
    pub out: Option<PathBuf>,
    /// File to write; - for standard output
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Writes the result over the model that is read; without it, an output that is the input is refused
    #[arg(long)]
    pub in_place: bool,
    /// Fixes the shape of an input in the model: NAME:1,3,224,224 (also with x between the dims, or in brackets)
    #[arg(long, value_name = "SHAPE")]
    pub input_shape: Vec<String>,
    /// Weights that are also inputs
    #[command(flatten)]
    pub weights: WeightArgs,
    /// Writes a report as JSON or as a page; can be given twice
    #[arg(long, value_name = "FILE.json|FILE.html")]
    pub report: Vec<PathBuf>,
    /// Checks the result against the documentation of this target; exits with 4 if the target refuses something
    #[arg(long, value_enum)]
    pub target: Option<TargetChoice>,
    /// Lists what was left unchanged, and why
    #[arg(long)]
    pub why_not: bool,
    /// Writes large tensors to OUT.data
    #[arg(long)]
    pub external_data: bool,
    /// Reads options from a file, as keys without the leading dashes; the command line wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Prints every rewrite
    #[arg(short, long)]
    pub verbose: bool,
    /// Prints errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Inputs to verify with: FILE.npz, NAME:FILE.npy
    #[arg(long, help_heading = "Verification", value_name = "FILE")]
    pub input_data: Vec<String>,
    /// Number of inputs to verify with
    #[arg(long, help_heading = "Verification", value_name = "N", default_value = "3", value_parser = up_to::<10_000>)]
    pub check: NonZeroUsize,
    /// Writes the result without running it
    #[arg(long, help_heading = "Verification")]
    pub no_verify: bool,
    /// Writes inputs and outputs of the reference for other runners, in the layout of the ONNX backend tests
    #[arg(long, help_heading = "Verification", value_name = "DIR")]
    pub test_vectors: Option<PathBuf>,
    /// Gates
    #[command(flatten, next_help_heading = "Gates")]
    pub gates: GateArgs,
    /// Rules that run
    #[command(flatten)]
    pub rules: RuleArgs,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// What helps to find a mistake in a rule.
#[derive(Args, Clone, Debug)]
pub struct DebugArgs {
    /// Lists the rules in the order in which they run
    #[arg(long, help_heading = "Rules")]
    pub list_passes: bool,
    /// Prints the graph as text to standard error after each run of a phase
    #[arg(long, help_heading = "Rules", value_name = "PHASE")]
    pub dump_after: Option<String>,
    /// Stops after this many rewrites
    #[arg(long, help_heading = "Rules", value_name = "N", value_parser = from_zero_to::<1_000_000_000>)]
    pub stop_after: Option<usize>,
    /// Prints the time of each phase
    #[arg(long, help_heading = "Rules")]
    pub time_passes: bool,
}

/// What pruning adds.
#[derive(Args, Clone, Debug)]
pub struct PruningArgs {
    /// Pruning
    #[command(flatten, next_help_heading = "Pruning")]
    pub prune: PruneArgs,
    /// Says what would be done and how long it would take, measured on a few images and steps; writes nothing
    #[arg(long, help_heading = "Pruning", conflicts_with = "until")]
    pub dry_run: bool,
    /// Images
    #[command(flatten, next_help_heading = "Data")]
    pub images: DataArgs,
    /// Inputs of the model
    #[command(flatten, next_help_heading = "Data")]
    pub inputs: InputArgs,
    /// Trains the pruned network for this many epochs [default with --recover train: 10]
    #[arg(long, value_name = "N", help_heading = "Training", requires = "data", value_parser = up_to::<1_000_000>)]
    pub epochs: Option<NonZeroUsize>,
    /// How training starts
    #[arg(long, value_enum, default_value = "fit", help_heading = "Training")]
    pub method: Method,
    /// λ reaches 1 after 1/K of the epochs [default: 3; ConvNeXt 4.5, transformers 6]
    #[arg(long, value_name = "K", value_parser = at_least_one, help_heading = "Training")]
    pub ramp: Option<f64>,
    /// How λ gets from 0 to 1
    #[arg(long, value_enum, default_value = "linear", help_heading = "Training")]
    pub ramp_form: RampForm,
    /// When the kernels of progressive and direct shrink: with lambda, or at once after this many epochs [default: lambda]
    #[arg(long, value_name = "EPOCH|lambda", value_parser = shrink_at, help_heading = "Training")]
    pub shrink_at: Option<ShrinkAt>,
    /// Training
    #[command(flatten, next_help_heading = "Training")]
    pub training: TrainingArgs,
}

impl Default for PruningArgs {
    fn default() -> Self {
        let command = Self::augment_args(clap::Command::new("defaults"));
        let matches = command.get_matches_from(["defaults"]);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The bare form: compiles, and prunes where a goal is given.
#[derive(Args, Clone, Debug)]
pub struct BareArgs {
    /// Files, verification, rules, runtime
    #[command(flatten)]
    pub common: CommonArgs,
    /// Rules
    #[command(flatten)]
    pub debug: DebugArgs,
    /// Pruning
    #[command(flatten)]
    pub pruning: PruningArgs,
}

/// Arguments of `compile`.
#[derive(Args, Clone, Debug)]
pub struct CompileCommand {
    /// Files, verification, rules, runtime
    #[command(flatten)]
    pub common: CommonArgs,
    /// Rules
    #[command(flatten)]
    pub debug: DebugArgs,
}

/// Arguments of `prune`.
#[derive(Args, Clone, Debug)]
pub struct PruneCommand {
    /// Files, verification, rules, runtime
    #[command(flatten)]
    pub common: CommonArgs,
    /// Pruning
    #[command(flatten)]
    pub pruning: PruningArgs,
}

/// What compiling and pruning were asked for, whichever form said it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[expect(missing_docs, reason = "each field is an option, and documented there")]
pub struct CompileArgs {
    pub model: Option<PathBuf>,
    pub out: Option<PathBuf>,
    pub output: Option<PathBuf>,
    pub in_place: bool,
    pub config: Option<PathBuf>,
    pub rules: RuleArgs,
    pub prune: PruneArgs,
    pub gates: GateArgs,
    pub images: DataArgs,
    pub inputs: InputArgs,
    pub epochs: Option<NonZeroUsize>,
    pub method: Method,
    pub ramp: Option<f64>,
    pub ramp_form: RampForm,
    pub shrink_at: Option<ShrinkAt>,
    pub training: TrainingArgs,
    pub input_shape: Vec<String>,
    pub weights: WeightArgs,
    pub input_data: Vec<String>,
    pub external_data: bool,
    pub no_verify: bool,
    pub dry_run: bool,
    pub check: NonZeroUsize,
    pub runtime: RuntimeArgs,
    pub target: Option<TargetChoice>,
    pub test_vectors: Option<PathBuf>,
    pub report: Vec<PathBuf>,
    pub why_not: bool,
    pub list_passes: bool,
    pub dump_after: Option<String>,
    pub stop_after: Option<usize>,
    pub time_passes: bool,
    pub verbose: bool,
    pub quiet: bool,
    pub command_line: String,
}

impl CompileArgs {
    /// The arguments with the command that they come from.
    #[must_use]
    pub fn typed(self, command_line: String) -> Self {
        Self { command_line, ..self }
    }

    fn of(common: CommonArgs, debug: Option<DebugArgs>, pruning: PruningArgs) -> Self {
        let has = |flag: fn(&DebugArgs) -> bool| debug.as_ref().is_some_and(flag);
        Self {
            model: common.model,
            out: common.out,
            output: common.output,
            in_place: common.in_place,
            config: common.config,
            rules: common.rules,
            prune: pruning.prune,
            gates: common.gates,
            images: pruning.images,
            inputs: pruning.inputs,
            epochs: pruning.epochs,
            method: pruning.method,
            ramp: pruning.ramp,
            ramp_form: pruning.ramp_form,
            shrink_at: pruning.shrink_at,
            training: pruning.training,
            input_shape: common.input_shape,
            weights: common.weights,
            input_data: common.input_data,
            external_data: common.external_data,
            no_verify: common.no_verify,
            dry_run: pruning.dry_run,
            check: common.check,
            runtime: common.runtime,
            target: common.target,
            test_vectors: common.test_vectors,
            report: common.report,
            why_not: common.why_not,
            list_passes: has(|debug| debug.list_passes),
            time_passes: has(|debug| debug.time_passes),
            stop_after: debug.as_ref().and_then(|debug| debug.stop_after),
            dump_after: debug.and_then(|debug| debug.dump_after),
            verbose: common.verbose,
            quiet: common.quiet,
            command_line: String::new(),
        }
    }

    /// Epochs to train for; `None` = no training.
    #[must_use]
    pub fn training_epochs(&self) -> Option<NonZeroUsize> {
        match self.prune.recover {
            None => self.epochs,
            Some(Recovery::Train) => Some(self.epochs.unwrap_or(EPOCHS)),
            Some(Recovery::None | Recovery::Fit) => None,
        }
    }

    /// Whether there is a training in which kernels may shrink little by little.
    #[must_use]
    pub fn has_shrinking_kernels(&self) -> bool {
        let is_by_lambda = matches!(self.method, Method::Progressive | Method::Direct);
        is_by_lambda && self.training_epochs().is_some() && self.prune.until.is_none()
    }

    /// How much to print.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}

impl From<BareArgs> for CompileArgs {
    fn from(BareArgs { common, debug, pruning }: BareArgs) -> Self {
        Self::of(common, Some(debug), pruning)
    }
}

impl From<CompileCommand> for CompileArgs {
    fn from(CompileCommand { common, debug }: CompileCommand) -> Self {
        Self::of(common, Some(debug), PruningArgs::default())
    }
}

impl From<PruneCommand> for CompileArgs {
    fn from(PruneCommand { common, pruning }: PruneCommand) -> Self {
        Self::of(common, None, pruning)
    }
}
