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
    /// Images per step. A network with a fixed batch keeps its own batch size.
    pub batch_size: usize,
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
    /// Weight of the teacher relative to the labels, 0 to 1; without labels it is 1.
    pub distill: f64,
    /// Temperature of the teacher's distribution.
    pub temperature: f64,
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
            batch_size: 64,
            accumulate: 1,
            optimizer: OptimizerChoice::Auto,
            learning_rate: None,
            warm_up_epochs: None,
            weight_decay: None,
            clip_norm: None,
            label_smoothing: 0.0,
            distill: 0.5,
            temperature: 2.0,
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
            batch: self.batch_size,
            accumulate: self.accumulate,
            optimizer,
            peak,
            floor: peak / 100.0,
            warm_up_epochs: self.warm_up_epochs.unwrap_or(epochs as f64 / 20.0),
            weight_decay: self.weight_decay.unwrap_or(decay),
            clip_norm: Some(self.clip_norm.unwrap_or(if is_adamw { 5.0 } else { 1.0 })),
            smoothing: self.label_smoothing,
            distill: self.distill,
            temperature: self.temperature,
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
            seed,
            folder: None,
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
