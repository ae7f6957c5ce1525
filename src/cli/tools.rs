//! Arguments of the subcommands that look at models.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use updp_exec::RuntimeOptions;

use super::runtime::worker;
use super::values::{from_zero_to, not_negative, percent, positive_up_to, up_to};
use super::{
    FormChoice, InputArgs, MergePolicy, RuleArgs, RuntimeArgs, ShrinkChoice, TargetChoice,
    WeightArgs,
};

/// Arguments of `inspect`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct InspectArgs {
    /// Model to show
    pub model: PathBuf,
    /// Prints the graph as text
    #[arg(long, conflicts_with_all = ["dot", "json"])]
    pub text: bool,
    /// Prints the graph for Graphviz
    #[arg(long, conflicts_with = "json")]
    pub dot: bool,
    /// Prints the graph and the blocks as JSON
    #[arg(long)]
    pub json: bool,
    /// Lists what would be left unchanged, and why
    #[arg(long)]
    pub why_not: bool,
    /// Checks the model as it is against the documentation of this target
    #[arg(long, value_enum)]
    pub target: Option<TargetChoice>,
    /// Measures each block as it is and in each of its forms
    #[arg(long)]
    pub latency: bool,
    /// Writes a page that shows the blocks before and after pruning
    #[arg(long, value_name = "FILE.html")]
    pub map: Option<PathBuf>,
    /// What a pruned block would become
    #[arg(long, value_enum, default_value = "auto")]
    pub form: FormChoice,
    /// Whether kernels would shrink
    #[arg(long, value_enum, default_value = "auto")]
    pub shrink: ShrinkChoice,
    /// Batch size for measurements, where the model leaves it open
    #[arg(long, value_name = "N", default_value = "1", value_parser = up_to::<65_536>)]
    pub batch: NonZeroUsize,
    /// File that keeps measured latencies for the next run
    #[arg(long, value_name = "FILE.json", requires = "latency")]
    pub latency_table: Option<PathBuf>,
    /// Weights that are also inputs
    #[command(flatten)]
    pub weights: WeightArgs,
    /// Rules that would run
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Reads options from a file, as keys without the leading dashes; the command line wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Reference model
    pub reference: PathBuf,
    /// Model to compare with it
    pub model: PathBuf,
    /// Inputs: FILE.npz (with an array `labels`, the top-1 accuracy of both is printed), NAME:FILE.npy
    #[arg(long, value_name = "FILE")]
    pub input_data: Vec<String>,
    /// Number of inputs to draw
    #[arg(long, value_name = "N", default_value = "3", value_parser = up_to::<10_000>)]
    pub check: NonZeroUsize,
    /// Largest allowed max|Δ| / max|reference| [default: by the dtype of the output]
    #[arg(long, value_name = "X", value_parser = not_negative)]
    pub limit: Option<f64>,
    /// Prints the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Reads options from a file, as keys without the leading dashes; the command line wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// Arguments of `evaluate`.
#[derive(Args, Debug)]
pub struct EvaluateArgs {
    /// Model A
    pub model: PathBuf,
    /// Model B, to compare with A
    pub other: Option<PathBuf>,
    /// Images: a folder (with labels: one subfolder per class), .npz, .npy, IDX or .tar; two models need no labels
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// How images become inputs: a preset (imagenet, cifar, fashion-mnist, mnist, unit, symmetric, caffe, none; with ,crop ,squeeze ,bgr ,bicubic behind it), or the file that Hugging Face or timm publishes beside a model; auto takes the one with the highest accuracy of A (needs labels)
    #[arg(long, value_name = "NAME|FILE.json|auto", default_value = "imagenet")]
    pub preprocess: String,
    /// Refuses to start unless A has this accuracy on a part of the images, in per cent, within two standard errors: 88
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub expect_accuracy: Option<f64>,
    /// Largest number of images to evaluate, drawn with --seed [default: all]
    #[arg(long, value_name = "N", value_parser = up_to::<1_000_000_000>)]
    pub images: Option<NonZeroUsize>,
    /// Seed that draws the images
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// Fixes the shape of an input in both models: NAME:1,3,224,224
    #[arg(long, value_name = "SHAPE")]
    pub input_shape: Vec<String>,
    /// Inputs of the models
    #[command(flatten)]
    pub inputs: InputArgs,
    /// How many images to list whose class changes from A to B
    #[arg(long, value_name = "N", default_value = "10", value_parser = from_zero_to::<1_000_000_000>)]
    pub flipped: usize,
    /// Prints the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Writes the result to a file, as JSON or as a page
    #[arg(long, value_name = "FILE.json|FILE.html")]
    pub report: Option<PathBuf>,
    /// Reads options from a file, as keys without the leading dashes; the command line wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// The command as it can be typed again
    #[arg(skip)]
    pub command_line: String,
}

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Model to measure
    pub model: PathBuf,
    /// Second model, measured in turns with the first
    pub other: Option<PathBuf>,
    /// Batch size, where the model leaves it open
    #[arg(long, value_name = "N", default_value = "1", value_parser = up_to::<65_536>)]
    pub batch: NonZeroUsize,
    /// Seconds to measure, for all models together
    #[arg(long, value_name = "S", default_value = "4", value_parser = positive_up_to::<86_400>)]
    pub seconds: f64,
    /// Prints the numbers as JSON
    #[arg(long)]
    pub json: bool,
    /// Writes the result to a file, as JSON or as a page
    #[arg(long, value_name = "FILE.json|FILE.html")]
    pub report: Option<PathBuf>,
    /// Measures every block by itself, as it is and in each of its forms
    #[arg(long, conflicts_with = "other")]
    pub per_block: bool,
    /// File that keeps measured latencies of blocks for the next run
    #[arg(long, value_name = "FILE.json", requires = "per_block")]
    pub latency_table: Option<PathBuf>,
    /// When layers are merged in the forms
    #[arg(long, value_enum, default_value = "auto", requires = "per_block")]
    pub merge: MergePolicy,
    /// Reads options from a file, as keys without the leading dashes; the command line wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// The command as it can be typed again
    #[arg(skip)]
    pub command_line: String,
}

/// Most time for each thing that `doctor` tries: a library that waits for ever does not work.
const TRY: Duration = Duration::from_mins(1);

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Prints the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Path of the ONNX Runtime library (libonnxruntime) to try
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
}

impl DoctorArgs {
    /// How models are run.
    #[must_use]
    pub fn options(&self) -> RuntimeOptions {
        RuntimeOptions {
            library: self.ort_lib.clone(),
            worker: worker(TRY),
            ..RuntimeOptions::default()
        }
    }
}
