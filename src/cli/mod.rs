//! Arguments.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

mod config;
mod prune;
mod search;
mod tools;
mod train;
mod values;

use clap::{Args, Parser, Subcommand, ValueEnum};
use updp_exec::{Device, Runtime, RuntimeOptions};

pub use prune::{FormChoice, GateArgs, PruneArgs, Recovery, ShrinkChoice, Stage};
pub use search::{SearchArgs, SearchChoice, StartChoice};
pub use tools::{BenchArgs, InspectArgs, VerifyArgs};
pub use train::{
    AugmentChoice, Method, OptimizerChoice, PrecisionChoice, RampForm, ShrinkAt, TrainArgs,
    TrainingArgs,
};
pub use values::BlockList;
use values::{at_least_one, share, shrink_at};

use crate::api::RuleOptions;
use crate::deploy::DeployTarget;
use crate::terminal::Verbosity;

const EXAMPLES: &str = "\
Examples:
  updp-compile model.onnx -o out.onnx            merge what can be merged, verify, write
  updp-compile model.onnx -o out.onnx --why-not  and say what was left alone, and why
  updp-compile inspect model.onnx                its blocks, what could be pruned and merged
  updp-compile model.onnx -o out.onnx --data images/ --prune 3
                                                 prune the three blocks that lose least, and fit
  updp-compile model.onnx -o out.onnx --blocks 3,5 --recover none
                                                 prune two blocks without recovering accuracy
  updp-compile verify a.onnx b.onnx              compare two models by running them
  updp-compile bench a.onnx b.onnx               compare their speed

Exit codes: 0 done, 1 our bug, 2 usage, 3 bad model, 4 unsupported, 5 verification failed,
6 nothing to prune, 7 goal missed, 8 runtime missing, 130 interrupted.";

/// Reparameterization compiler for ONNX vision models: merges what trains as many layers into few,
/// without changing the function.
#[derive(Debug, Parser)]
#[command(
    name = "updp-compile",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Arguments of the compilation.
    #[command(flatten)]
    pub compile: CompileArgs,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows what is in a model and what compiling it would do
    Inspect(InspectArgs),
    /// Compares two models by running both
    Verify(VerifyArgs),
    /// Measures the latency of one or two models
    Bench(BenchArgs),
    /// Trains a model as it is on images, without a deep-learning framework
    Train(Box<TrainArgs>),
    /// Explains an error code, or lists them all
    Errors {
        /// Such as I0102
        code: Option<String>,
    },
    /// Writes shell completions to standard output
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Writes the man page to standard output
    Man,
}

/// When merges are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MergePolicy {
    /// Where the cost model says the model gets no slower
    Auto,
    /// Wherever it is exact
    All,
}

/// Which runtime runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeChoice {
    /// ONNX Runtime where it is found, else tract
    Auto,
    /// ONNX Runtime
    Ort,
    /// The embedded tract
    Tract,
}

/// Which device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// Processor
    Cpu,
    /// NVIDIA, CUDA provider
    Cuda,
    /// NVIDIA, TensorRT provider
    Tensorrt,
    /// AMD, MIGraphX provider
    #[value(alias = "migraphx")]
    Rocm,
}

/// How models are run.
#[derive(Args, Clone, Debug)]
pub struct RuntimeArgs {
    /// Runtime that runs models
    #[arg(long, value_enum, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Device of ONNX Runtime
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: DeviceChoice,
    /// Path of libonnxruntime
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Threads inside an operator [default: one a core, or as many as a container or an affinity allows]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

impl RuntimeArgs {
    /// As the executors take it.
    #[must_use]
    pub fn options(&self) -> RuntimeOptions {
        RuntimeOptions {
            runtime: match self.runtime {
                RuntimeChoice::Auto => Runtime::Auto,
                RuntimeChoice::Ort => Runtime::Ort,
                RuntimeChoice::Tract => Runtime::Tract,
            },
            device: match self.device {
                DeviceChoice::Cpu => Device::Cpu,
                DeviceChoice::Cuda => Device::Cuda,
                DeviceChoice::Tensorrt => Device::TensorRt,
                DeviceChoice::Rocm => Device::MiGraphX,
            },
            library: self.ort_lib.clone(),
            threads: self.threads,
        }
    }

    /// Runtime and options of one session.
    #[must_use]
    pub fn split(&self, optimizer: updp_exec::Optimizer) -> (Runtime, updp_exec::Options) {
        let options = self.options();
        (options.runtime, options.session(optimizer))
    }
}

/// Rules that run.
#[derive(Args, Clone, Debug)]
pub struct RuleArgs {
    /// When merges are made
    #[arg(long, value_enum, default_value = "auto")]
    pub merge: MergePolicy,
    /// Rules to leave out
    #[arg(long, value_delimiter = ',', value_name = "RULES")]
    pub skip: Vec<String>,
    /// The only rules to run
    #[arg(long, value_delimiter = ',', value_name = "RULES")]
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

/// Epochs of `--recover train` without a number.
const EPOCHS: NonZeroUsize = NonZeroUsize::new(10).expect("it is not 0");

impl CompileArgs {
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
}

/// Images to recover accuracy with.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// Images: a folder (of folders, one a class), .npz, .npy, IDX or .tar; no labels needed
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Images to report on; without them those held out serve
    #[arg(long, value_name = "PATH", requires = "data")]
    pub val: Option<PathBuf>,
    /// Share of --data that is held out to choose by
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0.1")]
    pub val_split: f64,
    /// Preset (imagenet, cifar, fashion-mnist, none) or file, as Hugging Face and timm publish it beside a model
    #[arg(long, value_name = "NAME|FILE.json", default_value = "imagenet")]
    pub preprocess: String,
    /// Most images to fit with; by default what a minute's run of the model takes, 500 to 4000
    #[arg(long, value_name = "N")]
    pub images: Option<NonZeroUsize>,
    /// Seed of what is drawn: the images held out and the rows fitted with
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// Keeps what was found, so that the same command goes on where it stopped [default: OUT.work, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
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

/// Arguments of the compilation.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct CompileArgs {
    /// Model to compile; - for standard input
    #[arg(required_unless_present = "list_passes")]
    pub model: Option<PathBuf>,
    /// Where the result goes; - for standard output
    #[arg(value_name = "OUT", conflicts_with = "output")]
    pub out: Option<PathBuf>,
    /// Where the result goes; - for standard output
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Rules that run
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Pruning
    #[command(flatten, next_help_heading = "Pruning")]
    pub prune: PruneArgs,
    /// Gates
    #[command(flatten, next_help_heading = "Gates")]
    pub gates: GateArgs,
    /// Images
    #[command(flatten, next_help_heading = "Data")]
    pub images: DataArgs,
    /// Trains the pruned network, every image so many times [default with --recover train: 10]
    #[arg(long, value_name = "N", help_heading = "Training", requires = "data")]
    pub epochs: Option<NonZeroUsize>,
    /// Where training starts
    #[arg(long, value_enum, default_value = "fit", help_heading = "Training")]
    pub method: Method,
    /// λ is 1 after 1/K of the epochs [default: 3; ConvNeXt 4.5, transformers 6]
    #[arg(long, value_name = "K", value_parser = at_least_one, help_heading = "Training")]
    pub ramp: Option<f64>,
    /// How λ gets from 0 to 1
    #[arg(long, value_enum, default_value = "linear", help_heading = "Training")]
    pub ramp_form: RampForm,
    /// When kernels of progressive and direct shrink: with lambda, or at once after so many epochs [default: lambda]
    #[arg(long, value_name = "EPOCH|lambda", value_parser = shrink_at, help_heading = "Training")]
    pub shrink_at: Option<ShrinkAt>,
    /// Training
    #[command(flatten, next_help_heading = "Training")]
    pub training: TrainingArgs,
    /// Fixes the shape of an input in the model: NAME:1,3,224,224 (also with x between the dims, or in brackets)
    #[arg(long, value_name = "SHAPE")]
    pub input_shape: Vec<String>,
    /// Inputs to verify with: FILE.npz, NAME:FILE.npy
    #[arg(long, value_name = "FILE")]
    pub input_data: Vec<String>,
    /// Writes large tensors to OUT.data
    #[arg(long)]
    pub external_data: bool,
    /// Writes the result without running it
    #[arg(long)]
    pub no_verify: bool,
    /// Says what would be done and how long it would take, measured on a few images and steps, and writes nothing
    #[arg(long, conflicts_with = "until")]
    pub dry_run: bool,
    /// Number of inputs to verify with
    #[arg(long, value_name = "N", default_value = "3")]
    pub check: NonZeroUsize,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Checks the result against what this target documents; exit 4 when it refuses something
    #[arg(long, value_enum)]
    pub target: Option<TargetChoice>,
    /// Writes inputs and outputs of the reference for other runners, as ONNX backend tests lie
    #[arg(long, value_name = "DIR")]
    pub test_vectors: Option<PathBuf>,
    /// Writes a report, as JSON or, after pruning with data, as a page; may be given twice
    #[arg(long, value_name = "FILE.json|FILE.html")]
    pub report: Vec<PathBuf>,
    /// Long options as keys of a file, without the dashes in front; the command line wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Lists what was left alone, and why
    #[arg(long)]
    pub why_not: bool,
    /// Lists the rules in the order they run
    #[arg(long)]
    pub list_passes: bool,
    /// Prints the graph as text to standard error after each run of a phase
    #[arg(long, value_name = "PHASE")]
    pub dump_after: Option<String>,
    /// Stops after this many rewrites
    #[arg(long, value_name = "N")]
    pub stop_after: Option<usize>,
    /// Prints the time of each phase
    #[arg(long)]
    pub time_passes: bool,
    /// Prints every rewrite
    #[arg(short, long)]
    pub verbose: bool,
    /// Prints errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl CompileArgs {
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

/// Parses arguments; help and version are printed, errors too. `Err` is the exit code.
///
/// # Errors
/// 0 after help or version, 2 for wrong arguments.
pub fn parse(arguments: Vec<OsString>) -> Result<Cli, u8> {
    let given = config::expand(arguments).map_err(|error| {
        crate::terminal::complain(&error);
        error.exit_code()
    })?;
    Cli::try_parse_from(&given.arguments).map_err(|error| {
        if !error.use_stderr() {
            let _ = error.print();
            return 0;
        }
        if let Some(error) = given.explain(&error) {
            crate::terminal::complain(&error);
            return error.exit_code();
        }
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or("wrong arguments");
        crate::terminal::note(&format!("error[C0001]: {first}"));
        for line in lines {
            crate::terminal::note(line);
        }
        2
    })
}
