//! Arguments of training.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::{not_negative, part, positive, share};
use super::{DataArgs, RuntimeArgs};
use crate::terminal::Verbosity;

/// Which rule turns gradients into weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerChoice {
    /// adamw where the network has LayerNorms or attention, else sgd
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
    /// Fitted first, and trained in the form it is merged to
    Fit,
    /// Fitted first, and what is fitted faded in by λ from 0 to 1 while the blocks it replaces fade out
    Blend,
    /// Activations and norms fade by λ from 0 to 1, as in the paper, and the blocks are merged at the end
    Progressive,
    /// As progressive, with λ = 1 from the first step on
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
    /// At once, when so many epochs are over
    Epoch(f64),
}

/// How a network is trained.
#[derive(Args, Clone, Debug)]
pub struct TrainingArgs {
    /// Images of a step; a model of fixed batch keeps its own where that cannot be opened
    #[arg(long, value_name = "N", default_value = "64")]
    pub batch_size: NonZeroUsize,
    /// Batches whose gradients make one update
    #[arg(long, value_name = "N", default_value = "1")]
    pub accumulate: NonZeroUsize,
    /// Rule that turns gradients into weights
    #[arg(long, value_enum, default_value = "auto")]
    pub optimizer: OptimizerChoice,
    /// Learning rate after the warm-up, falling along half a cosine [default: 0.0005 of adamw, 0.02 of sgd; of sgd 0.05 where a pruned network is trained for 1000 steps or more, or by progressive or direct]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub lr: Option<f64>,
    /// Epochs in which the learning rate rises from 0 [default: a twentieth of them]
    #[arg(long, value_name = "EPOCHS", value_parser = not_negative)]
    pub warm_up: Option<f64>,
    /// Decay of weights; norms and biases have none [default: 0.0005 of sgd, 0.05 of adamw]
    #[arg(long, value_name = "X", value_parser = not_negative)]
    pub weight_decay: Option<f64>,
    /// Largest norm of all gradients together [default: 1 of sgd, 5 of adamw]
    #[arg(long, value_name = "NORM", value_parser = positive)]
    pub clip: Option<f64>,
    /// Share of a label that goes to all classes alike
    #[arg(long, value_name = "SHARE", value_parser = part, default_value = "0")]
    pub label_smoothing: f64,
    /// Weight of what the input model says beside the labels; without labels it is all there is
    #[arg(long, value_name = "WEIGHT", value_parser = part, default_value = "0.5")]
    pub distill: f64,
    /// How much the input model's scores are evened out for that
    #[arg(long, value_name = "T", value_parser = positive, default_value = "2")]
    pub temperature: f64,
    /// Writes the moving average of the weights, with this decay a step
    #[arg(long, value_name = "DECAY", value_parser = share)]
    pub ema: Option<f64>,
    /// How images are changed; what the network was not trained with costs accuracy first
    #[arg(long, value_enum, default_value = "none")]
    pub augment: AugmentChoice,
    /// Counts images of rare classes more
    #[arg(long)]
    pub balance_classes: bool,
    /// How much images of each class count, in the order of the classes: 1,1,4; scaled to a mean of 1 over the images
    #[arg(long, value_delimiter = ',', value_name = "WEIGHTS", value_parser = not_negative, conflicts_with = "balance_classes")]
    pub class_weights: Vec<f64>,
    /// Computes activations again in the backward pass instead of keeping all of them: less memory, up to a third more time
    #[arg(long)]
    pub recompute: bool,
    /// Numbers that convolutions and matrix products are computed in; all else, and the weights, stay f32
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionChoice,
    /// Initializers that stay as they are, by name
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub freeze: Vec<String>,
}

/// Arguments of `train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// Model to train
    pub model: PathBuf,
    /// Where the trained model goes
    #[arg(short, long, value_name = "OUT", required_unless_present_any = ["emit_step", "dry_run"])]
    pub output: Option<PathBuf>,
    /// Images
    #[command(flatten, next_help_heading = "Data")]
    pub images: DataArgs,
    /// Times every image is trained with
    #[arg(long, value_name = "N", default_value = "10")]
    pub epochs: NonZeroUsize,
    /// Training
    #[command(flatten, next_help_heading = "Training")]
    pub training: TrainingArgs,
    /// Writes the training step as a model, and with no output nothing else
    #[arg(long, value_name = "FILE.onnx")]
    pub emit_step: Option<PathBuf>,
    /// Says what would be done and how long it would take, measured on a few images and steps, and writes nothing
    #[arg(long, conflicts_with = "emit_step")]
    pub dry_run: bool,
    /// Fixes the shape of an input in the model: NAME:1,3,224,224
    #[arg(long, value_name = "SHAPE")]
    pub input_shape: Vec<String>,
    /// Writes what was trained, and how it went, as JSON
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
    /// Long options as keys of a file, without the dashes in front; the command line wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Prints errors only
    #[arg(short, long)]
    pub quiet: bool,
}

impl TrainArgs {
    /// How much to print.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        if self.quiet { Verbosity::Quiet } else { Verbosity::Normal }
    }
}
