//! The training settings of a user. The network and the images decide the settings that are left open.

use updp_autodiff::Precision;
use updp_autodiff::step::Optimizer;
use updp_ir::Model;

use super::FinetuneSettings;
use crate::images::Images;
use crate::train::{Augment, ClassWeights, Ramp, Shrink};

/// Operators that mark a network as better trained with AdamW than with SGD.
const ADAMW_OPERATORS: [&str; 6] =
    ["LayerNormalization", "Erf", "Gelu", "Attention", "MultiHeadAttention", "GroupNormalization"];

/// Images are shifted by up to their side length divided by this.
const CROP_SHARE: usize = 8;

/// The optimizer: the rule that updates weights from gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OptimizerChoice {
    /// AdamW if the network has layer norms or attention, otherwise SGD.
    #[default]
    Auto,
    /// SGD with Nesterov momentum 0.9.
    Sgd,
    /// AdamW, β 0.9 and 0.999.
    AdamW,
}

/// How images are changed during training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Augmentation {
    /// Images are not changed.
    #[default]
    None,
    /// Images are shifted by up to an eighth of the side.
    Crop,
    /// Images are mirrored and shifted.
    Light,
    /// Images are mirrored and shifted and get two random operations. A box is erased in a quarter of the images. Mixup
    /// is used.
    Strong,
}

/// Settings of a training. `None` uses the default of the optimizer, which docs/train.md lists.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingConfig {
    /// Images per step; `None` = 64, or 32 with few images. A network with a fixed batch keeps its own batch size.
    pub batch_size: Option<usize>,
    /// Number of batches whose gradients make one update, at least 1.
    pub accumulate: usize,
    /// The optimizer.
    pub optimizer: OptimizerChoice,
    /// Learning rate after the warm-up; it falls along half a cosine to a hundredth.
    pub learning_rate: Option<f64>,
    /// Number of epochs in which the learning rate rises from 0. The default is a twentieth of all epochs.
    pub warm_up_epochs: Option<f64>,
    /// Weight decay. Norms and biases have none.
    pub weight_decay: Option<f64>,
    /// Largest common norm of all gradients.
    pub clip_norm: Option<f64>,
    /// ε of label smoothing, 0 to 1.
    pub label_smoothing: f64,
    /// Weight of the teacher relative to the labels, 0 to 1; without labels it is 1. `None` = 0.5, or 1 with few images.
    pub distill: Option<f64>,
    /// Temperature of the teacher's distribution. `None` = 2, or 1 with few images.
    pub temperature: Option<f64>,
    /// Decay of the moving average of the weights. If it is set, the average is the result.
    pub average: Option<f64>,
    /// How images are changed.
    pub augmentation: Augmentation,
    /// How much images of each class count.
    pub class_weights: ClassWeights,
    /// Initializers that are not trained, by name.
    pub frozen: Vec<String>,
    /// Whether the backward pass computes activations again. This saves memory and costs time.
    pub recompute: bool,
    /// The number format for convolutions and matrix products.
    pub precision: Precision,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            batch_size: None,
            accumulate: 1,
            optimizer: OptimizerChoice::Auto,
            learning_rate: None,
            warm_up_epochs: None,
            weight_decay: None,
            clip_norm: None,
            label_smoothing: 0.0,
            distill: None,
            temperature: None,
            average: None,
            augmentation: Augmentation::None,
            class_weights: ClassWeights::Equal,
            frozen: Vec::new(),
            recompute: false,
            precision: Precision::Single,
        }
    }
}

impl TrainingConfig {
    /// The settings for a network and for images of its size.
    #[must_use]
    pub fn settings(
        &self,
        network: &Model,
        images: &Images,
        epochs: usize,
        seed: u64,
    ) -> FinetuneSettings {
        let graph = &network.graph;
        let is_modern =
            || graph.nodes().iter().any(|id| ADAMW_OPERATORS.contains(&graph.node(*id).op_type()));
        let is_adamw = match self.optimizer {
            OptimizerChoice::Auto => is_modern(),
            OptimizerChoice::Sgd => false,
            OptimizerChoice::AdamW => true,
        };
        let optimizer = if is_adamw {
            Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
        } else {
            Optimizer::Sgd { momentum: 0.9, nesterov: true }
        };
        let (peak, decay) = if is_adamw { (5e-4, 0.05) } else { (0.02, 5e-4) };
        let peak = self.learning_rate.unwrap_or(peak);
        FinetuneSettings {
            epochs,
            batch: self.batch_size.unwrap_or(64),
            accumulate: self.accumulate,
            optimizer,
            peak,
            floor: peak / 100.0,
            warm_up_epochs: self.warm_up_epochs.unwrap_or(epochs as f64 / 20.0),
            weight_decay: self.weight_decay.unwrap_or(decay),
            clip_norm: Some(self.clip_norm.unwrap_or(if is_adamw { 5.0 } else { 1.0 })),
            smoothing: self.label_smoothing,
            distill: self.distill.unwrap_or(0.5),
            temperature: self.temperature.unwrap_or(2.0),
            average: self.average,
            augment: self.augmentation.for_images(images),
            weights: self.class_weights.clone(),
            frozen: self.frozen.clone(),
            recompute: self.recompute,
            precision: self.precision,
            pruned: Vec::new(),
            speed: f64::INFINITY,
            ramp: Ramp::Linear,
            shrink: Shrink::WithLambda,
            is_sandwich: false,
            keeps_statistics: false,
            features: None,
            matched: Vec::new(),
            contender: None,
            seed,
            folder: None,
        }
    }
}

/// Settings for few images, measured in docs/experiments/few-images-training.md.
mod few {
    /// Images in a step: more updates an epoch than with 64.
    pub const BATCH: usize = 32;
    /// Peak of the learning rate. 2e-4 destroys a closed-form fit.
    pub const RATE: f64 = 5e-5;
    /// Weight decay.
    pub const DECAY: f64 = 1e-4;
    /// Temperature: the divergence that is minimized is the one that is reported.
    pub const TEMPERATURE: f64 = 1.0;
    /// Weight of the features beside the divergence of the scores.
    pub const FEATURES: f64 = 1.0;
    /// The moving average reaches back over this share of the updates.
    pub const AVERAGED_SHARE: f64 = 0.15;
}

impl TrainingConfig {
    /// The settings for a network that is close to its teacher already and for few images of its size. Nothing may
    /// destroy the start: the rate is small, norms keep their statistics, the teacher alone is imitated, in its scores
    /// and its features. A moving average contends with the last state.
    #[must_use]
    pub fn settings_for_few(
        &self,
        network: &Model,
        images: &Images,
        epochs: usize,
        seed: u64,
    ) -> FinetuneSettings {
        let optimizer = match self.optimizer {
            OptimizerChoice::Auto => OptimizerChoice::AdamW,
            chosen => chosen,
        };
        let is_adamw = optimizer == OptimizerChoice::AdamW;
        // Weights and smoothing are of labels, so labels count for those who set them.
        let is_of_labels = self.class_weights != ClassWeights::Equal || self.label_smoothing > 0.0;
        let config = Self {
            optimizer,
            batch_size: Some(self.batch_size.unwrap_or(few::BATCH)),
            learning_rate: self.learning_rate.or(is_adamw.then_some(few::RATE)),
            weight_decay: self.weight_decay.or(is_adamw.then_some(few::DECAY)),
            distill: Some(self.distill.unwrap_or(if is_of_labels { 0.5 } else { 1.0 })),
            temperature: Some(self.temperature.unwrap_or(few::TEMPERATURE)),
            ..self.clone()
        };
        let settings = config.settings(network, images, epochs, seed);
        let per_update = settings.batch * settings.accumulate.max(1);
        let updates = (epochs * images.dataset().len()) as f64 / per_update as f64;
        let decay = (1.0 - 1.0 / (few::AVERAGED_SHARE * updates)).clamp(0.0, 0.9999);
        FinetuneSettings {
            keeps_statistics: true,
            features: Some(few::FEATURES),
            contender: Some(decay).filter(|_| self.average.is_none()),
            ..settings
        }
    }
}

impl Augmentation {
    fn for_images(self, images: &Images) -> Augment {
        let side = images.spec().height.min(images.spec().width);
        let crop_padding = (side / CROP_SHARE).max(1);
        match self {
            Self::None => Augment::default(),
            Self::Crop => Augment { crop_padding, ..Augment::default() },
            Self::Light => Augment::light(crop_padding),
            Self::Strong => Augment {
                operations: 2,
                magnitude: 5.0,
                erase: 0.25,
                mixup: 0.2,
                ..Augment::light(crop_padding)
            },
        }
    }
}
