//! Arguments.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

mod search;
mod tools;
mod train;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use search::{SearchArgs, SearchChoice};
pub use tools::{BenchArgs, InspectArgs, VerifyArgs};
pub use train::{AugmentChoice, Method, OptimizerChoice, TrainArgs, TrainingArgs};

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
    /// Threads inside an operator
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

impl RuntimeArgs {
    /// As the executors take it.
    #[must_use]
    pub fn split(
        &self,
        optimizer: updp_exec::Optimizer,
    ) -> (updp_exec::Runtime, updp_exec::Options) {
        let runtime = match self.runtime {
            RuntimeChoice::Auto => updp_exec::Runtime::Auto,
            RuntimeChoice::Ort => updp_exec::Runtime::Ort,
            RuntimeChoice::Tract => updp_exec::Runtime::Tract,
        };
        let device = match self.device {
            DeviceChoice::Cpu => updp_exec::Device::Cpu,
            DeviceChoice::Cuda => updp_exec::Device::Cuda,
            DeviceChoice::Tensorrt => updp_exec::Device::TensorRt,
            DeviceChoice::Rocm => updp_exec::Device::MiGraphX,
        };
        let options = updp_exec::Options {
            optimizer,
            threads: self.threads,
            device,
            library: self.ort_lib.clone(),
        };
        (runtime, options)
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

/// The blocks `--blocks` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockList {
    /// Every block that can be pruned.
    All,
    /// These, as `inspect` numbers them, rising, each once.
    Some(Vec<usize>),
}

/// Reads `all`, or numbers and ranges with commas between: `3,5,9-11`.
fn block_list(text: &str) -> Result<BlockList, String> {
    if text == "all" {
        return Ok(BlockList::All);
    }
    let number = |text: &str| {
        text.trim().parse::<usize>().map_err(|_| format!("{text:?} is no block number"))
    };
    let mut list = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => list.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first || last - first > 100_000 {
                    return Err(format!("{part:?} is no range"));
                }
                list.extend(first..=last);
            }
        }
    }
    list.sort_unstable();
    list.dedup();
    Ok(BlockList::Some(list))
}

/// What a pruned block becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormChoice {
    /// With data what loses least for the goal, else the fastest of conv, dwpw and norm
    Auto,
    /// One convolution or fully connected operator
    Conv,
    /// A depthwise and a pointwise convolution
    Dwpw,
    /// One pointwise convolution
    Pw,
    /// A convolution to a quarter of the channels and a pointwise one back; needs data
    LowRank,
    /// The normalization and one pointwise or fully connected operator
    Norm,
    /// The shortcut alone
    Drop,
}

/// Whether kernels shrink so that the merged one stays small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShrinkChoice {
    /// As the block's family asks for
    Auto,
    /// Never
    None,
}

/// How accuracy is recovered after pruning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Recovery {
    /// Not at all: an experiment with the structure; the result is not usable
    None,
    /// In closed form, without labels and without gradients; needs --data
    Fit,
    /// By training, from what --method says; needs --data
    Train,
}

/// Where pruning stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// After both flows of every block stand side by side, mixed by one input, λ
    Expand,
}

/// Arguments of pruning.
#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Blocks to prune, as inspect numbers them: 3,5,9-11 or all
    #[arg(long, value_name = "LIST", value_parser = block_list)]
    pub blocks: Option<BlockList>,
    /// What a pruned block becomes
    #[arg(long, value_enum, default_value = "auto")]
    pub form: FormChoice,
    /// Whether kernels shrink: the first 3x3 to 1x1, a depthwise 7x7 to 3x3
    #[arg(long, value_enum, default_value = "auto")]
    pub shrink: ShrinkChoice,
    /// Prunes so many blocks, those that lose least
    #[arg(long, value_name = "N", conflicts_with = "blocks")]
    pub prune: Option<NonZeroUsize>,
    /// Prunes until the model is so many times as fast
    #[arg(long, value_name = "X", value_parser = above_one, conflicts_with_all = ["blocks", "prune"])]
    pub speedup: Option<f64>,
    /// Prunes until the model takes so many milliseconds
    #[arg(long, value_name = "T", value_parser = positive, conflicts_with_all = ["blocks", "prune", "speedup"])]
    pub latency_ms: Option<f64>,
    /// Most points of accuracy (without labels: of agreement) that may be lost; alone: prunes as much as that allows
    #[arg(long, value_name = "P", value_parser = positive)]
    pub max_drop: Option<f64>,
    /// How the blocks are chosen
    #[command(flatten)]
    pub search: SearchArgs,
    /// How accuracy is recovered; with --data the default is fit
    #[arg(long, value_enum)]
    pub recover: Option<Recovery>,
    /// Stops early and writes what there is then
    #[arg(long, value_enum, requires = "blocks")]
    pub until: Option<Stage>,
    /// Prunes blocks even where every form is slower
    #[arg(long)]
    pub force: bool,
    /// Batch that forms are measured with, where the model leaves it open
    #[arg(long, value_name = "N", default_value = "1")]
    pub batch: NonZeroUsize,
    /// Keeps measured latencies for the next run
    #[arg(long, value_name = "FILE.json")]
    pub latency_table: Option<PathBuf>,
    /// Seconds to measure each form of a block
    #[arg(long, value_name = "S", default_value = "0.25")]
    pub probe_seconds: f64,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| format!("{text:?} is no positive number"))
}

fn at_least_one(text: &str) -> Result<f64, String> {
    positive(text).and_then(|x| {
        if x >= 1.0 { Ok(x) } else { Err("below 1 the ramp would not end".to_owned()) }
    })
}

fn above_one(text: &str) -> Result<f64, String> {
    positive(text).and_then(|x| {
        if x > 1.0 { Ok(x) } else { Err("1 and below would not be faster".to_owned()) }
    })
}

fn share(text: &str) -> Result<f64, String> {
    let share = positive(text).ok().filter(|x| *x < 1.0);
    share.ok_or_else(|| format!("{text:?} is no share between 0 and 1"))
}

impl PruneArgs {
    /// Whether anything says which blocks to prune, or how many.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.blocks.is_some()
            || self.prune.is_some()
            || self.speedup.is_some()
            || self.latency_ms.is_some()
            || self.max_drop.is_some()
            || self.recover.is_some()
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
    Cli::try_parse_from(arguments).map_err(|error| {
        if !error.use_stderr() {
            let _ = error.print();
            return 0;
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
