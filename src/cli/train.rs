//! Arguments of training.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::{not_negative, part, positive, share, up_to};
use super::{DataArgs, RuntimeArgs, WeightArgs};
use crate::terminal::Verbosity;

/// Which rule turns gradients into weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerChoice {
    /// adamw where the network has LayerNorms or attention, or after a fit with fewer than 2000 images, else sgd
    Auto,
    /// SGD with Nesterov momentum 0.9
    Sgd,
    /// `AdamW`, β 0.9 and 0.999
    Adamw,
}

/// How images are changed while training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AugmentChoice {
    /// Not at all
    None,
    /// Shifted by up to an eighth
    Crop,
    /// Mirrored and shifted
    Light,
    /// Mirrored and shifted, two random operations, a box erased in a quarter of the images, mixup
    Strong,
}

/// How a pruned network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The network is fitted first, then trained in its merged form
    Fit,
    /// The network is fitted first; λ from 0 to 1 fades the fitted operators in and the old blocks out
    Blend,
    /// λ from 0 to 1 fades activations and norms out, as in the paper; the blocks are merged at the end
    Progressive,
    /// As progressive, with λ = 1 from the first step
    Direct,
}

/// How λ gets from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RampForm {
    /// Evenly
    Linear,
    /// Along half a cosine: slowly at both ends
    Cosine,
}

/// In which numbers convolutions and matrix products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionChoice {
    /// f32
    F32,
    /// f16, with a scaled loss
    F16,
    /// bf16; convolutions from opset 22 on
    Bf16,
}

/// When the kernels of pruned blocks shrink.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ShrinkAt {
    /// Little by little, with λ
    Lambda,
    /// At once, after this many epochs
    Epoch(f64),
}

/// How a network is trained.
#[derive(Args, Clone, Debug)]
pub struct TrainingArgs {
    /// Images in a step; a model keeps the batch that it fixes where that cannot be opened [default: 64; 32 after a fit with fewer than 2000 images]
    #[arg(long, value_name = "N", value_parser = up_to::<65_536>)]
    pub batch_size: Option<NonZeroUsize>,
    /// Batches whose gradients are summed for one update
    #[arg(long, value_name = "N", default_value = "1", value_parser = up_to::<65_536>)]
    pub accumulate: NonZeroUsize,
    /// Optimizer
    #[arg(long, value_enum, default_value = "auto")]
    pub optimizer: OptimizerChoice,
    /// Learning rate after the warm-up; it then falls along half a cosine [default: adamw 0.0005, sgd 0.02; sgd 0.05 for a pruned network with 1000 steps or more, or with progressive or direct; adamw 0.00005 after a fit with fewer than 2000 images]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub lr: Option<f64>,
    /// Epochs in which the learning rate rises from 0 [default: a twentieth of all epochs]
    #[arg(long, value_name = "EPOCHS", value_parser = not_negative)]
    pub warm_up: Option<f64>,
    /// Weight decay; norms and biases have none [default: sgd 0.0005, adamw 0.05; adamw 0.0001 after a fit with fewer than 2000 images]
    #[arg(long, value_name = "X", value_parser = not_negative)]
    pub weight_decay: Option<f64>,
    /// Largest norm of all gradients together [default: sgd 1, adamw 5]
    #[arg(long, value_name = "NORM", value_parser = positive)]
    pub clip: Option<f64>,
    /// Share of a label that is spread over all classes
    #[arg(long, value_name = "SHARE", value_parser = part, default_value = "0")]
    pub label_smoothing: f64,
    /// Weight of the input model's scores beside the labels; without labels only the scores count [default: 0.5; 1 after a fit with fewer than 2000 images]
    #[arg(long, value_name = "WEIGHT", value_parser = part)]
    pub distill: Option<f64>,
    /// Temperature of the input model's scores [default: 2; 1 after a fit with fewer than 2000 images]
    #[arg(long, value_name = "T", value_parser = positive)]
    pub temperature: Option<f64>,
    /// Writes the moving average of the weights, with this decay in each step
    #[arg(long, value_name = "DECAY", value_parser = share)]
    pub ema: Option<f64>,
    /// How images are changed; changes that are new to the network cost accuracy at first
    #[arg(long, value_enum, default_value = "none")]
    pub augment: AugmentChoice,
    /// Gives images of rare classes more weight
    #[arg(long)]
    pub balance_classes: bool,
    /// Weights of the classes, in their order: 1,1,4; scaled to a mean of 1 over the images
    #[arg(long, value_delimiter = ',', value_name = "WEIGHTS", value_parser = not_negative, conflicts_with = "balance_classes")]
    pub class_weights: Vec<f64>,
    /// Computes activations again in the backward pass instead of keeping them: less memory, up to a third more time
    #[arg(long)]
    pub recompute: bool,
    /// Number type of convolutions and matrix products; everything else, and the weights, stay f32
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionChoice,
    /// Initializers that are not trained, by name
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub freeze: Vec<String>,
}

/// Arguments of `finetune`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// Model to train
    pub model: PathBuf,
    /// File to write the trained model to
    #[arg(short, long, value_name = "OUT", required_unless_present_any = ["emit_step", "dry_run", "in_place"])]
    pub output: Option<PathBuf>,
    /// Images
    #[command(flatten, next_help_heading = "Data")]
    pub images: DataArgs,
    /// Epochs to train for
    #[arg(long, value_name = "N", default_value = "10", value_parser = up_to::<1_000_000>)]
    pub epochs: NonZeroUsize,
    /// Training
    #[command(flatten, next_help_heading = "Training")]
    pub training: TrainingArgs,
    /// Writes the training step as a model; without --output, writes nothing else
    #[arg(long, value_name = "FILE.onnx")]
    pub emit_step: Option<PathBuf>,
    /// Writes the trained model over the model that is read; without it, an output that is the input is refused
    #[arg(long)]
    pub in_place: bool,
    /// Says what would be done and how long it would take, measured on a few images and steps; writes nothing
    #[arg(long, conflicts_with = "emit_step")]
    pub dry_run: bool,
    /// Fixes the shape of an input in the model: NAME:1,3,224,224
    #[arg(long, value_name = "SHAPE")]
    pub input_shape: Vec<String>,
    /// Weights that are also inputs
    #[command(flatten)]
    pub weights: WeightArgs,
    /// Writes a report as JSON or as a page
    #[arg(long, value_name = "FILE.json|FILE.html")]
    pub report: Option<PathBuf>,
    /// Reads options from a file, as keys without the leading dashes; the command line wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Prints errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// The command as it can be typed again
    #[arg(skip)]
    pub command_line: String,
}

impl TrainArgs {
    /// How much to print.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        if self.quiet { Verbosity::Quiet } else { Verbosity::Normal }
    }
}
