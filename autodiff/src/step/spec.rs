//! The objective of a training step and its optimizer settings.

use crate::error::{AutodiffError, Result};

/// The quantity to minimize: a mean over the images of the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Objective {
    /// Cross-entropy −Σ t·ln softmax(z) of the class scores z `[N, classes]` with soft labels t.
    Labels {
        /// s of t′ = (1 − s)·t + s / classes, in `[0, 1)`.
        smoothing: f64,
    },
    /// \[KD\]: T²·KL(softmax(u/T) ‖ softmax(z/T)) where u are the class scores of a teacher.
    Teacher {
        /// T, above 0.
        temperature: f64,
    },
    /// (1 − `weight`)·cross-entropy + `weight`·T²·KL.
    LabelsAndTeacher {
        /// As in [`Objective::Labels`].
        smoothing: f64,
        /// As in [`Objective::Teacher`].
        temperature: f64,
        /// Weight of the teacher, in `[0, 1]`.
        weight: f64,
    },
    /// The distance of every float output from the same output of a teacher, summed over the outputs. For models
    /// without class scores.
    Outputs(Distance),
}

/// The distance between two outputs, per image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distance {
    /// The mean of (y − u)² over the elements.
    MeanSquare,
    /// 1 − y·u / (‖y‖·‖u‖) over all elements of an image.
    Cosine,
}

/// The rule that turns gradients into better parameters, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub enum Optimizer {
    /// d = g + decay·p, m ← μ·m + d, p ← p − rate·m. With Nesterov, p ← p − rate·(d + μ·m).
    Sgd {
        /// μ in `[0, 1)`. The step keeps no moment for 0.
        momentum: f64,
        /// Whether the step uses Nesterov momentum.
        nesterov: bool,
    },
    /// \[AdamW\]: p ← (1 − rate·decay)·p, m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², p ← p − rate·m/(1 − β₁ᵗ) /
    /// (√(v/(1 − β₂ᵗ)) + ε), with t counted from 1.
    AdamW {
        /// β₁ in `[0, 1)`.
        beta1: f64,
        /// β₂ in `[0, 1)`.
        beta2: f64,
        /// ε above 0.
        epsilon: f64,
    },
}

/// A value inside the network that is matched with the same value of a teacher. For a value `f` and the teacher's `u` of
/// the same shape the loss gets `weight · Σ (f − u)² / Σ (u − mean u)²`: both sums are over all elements, the mean is
/// over the images of the batch. A batch of one image takes Σ u² as its divisor.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// The name of the value.
    pub value: String,
    /// The weight of the term, above 0.
    pub weight: f64,
}

/// The settings of a training step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    /// The quantity to minimize.
    pub objective: Objective,
    /// Values inside the network that are matched beside the outputs.
    pub features: Vec<Features>,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The weight decay of parameters with more than one axis longer than 1. Scales, shifts and biases have none.
    pub weight_decay: f64,
    /// The upper limit of the common norm of the gradients. Gradients with a larger norm are scaled down to it.
    pub clip_norm: Option<f64>,
    /// The weight of a batch in the running statistics of BatchNormalizations, which then use the statistics of the
    /// batch. `None` leaves the running statistics unchanged and differentiates the inference form.
    pub batch_norm_momentum: Option<f64>,
    /// d of the averages e ← d·e + (1 − d)·p of parameters and running statistics.
    pub average: Option<f64>,
    /// Whether several batches may make one update. The step then gets the inputs `apply` and `share`.
    pub accumulates: bool,
    /// Whether the loss is scaled and updates with gradients that are not finite are skipped. f16 needs this.
    pub scales_loss: bool,
    /// Names of initializers that do not change, as [`super::State::source`] gives them. A BatchNormalization whose
    /// running statistics are named here continues to use them.
    pub frozen: Vec<String>,
}

impl StepSpec {
    /// SGD with Nesterov momentum 0.9 on labels, and batch statistics with momentum 0.1. Everything else is off.
    #[must_use]
    pub fn new(objective: Objective) -> Self {
        Self {
            objective,
            features: Vec::new(),
            optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: true },
            weight_decay: 0.0,
            clip_norm: None,
            batch_norm_momentum: Some(0.1),
            average: None,
            accumulates: false,
            scales_loss: false,
            frozen: Vec::new(),
        }
    }

    /// AdamW with β = 0.9, 0.999 and ε = 1e-8.
    #[must_use]
    pub fn with_adamw(mut self) -> Self {
        self.optimizer = Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        self
    }

    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// T0310 with the first number that is out of range.
    pub fn validate(&self) -> Result<()> {
        let unit = |setting, value: f64| {
            let is_good = (0.0..1.0).contains(&value);
            require(setting, value, is_good, "a number of [0, 1)")
        };
        let positive = |setting, value: f64| {
            require(setting, value, value > 0.0 && value.is_finite(), "a number above 0")
        };
        match self.objective {
            Objective::Labels { smoothing } => unit("smoothing", smoothing)?,
            Objective::Teacher { temperature } => positive("temperature", temperature)?,
            Objective::LabelsAndTeacher { smoothing, temperature, weight } => {
                unit("smoothing", smoothing)?;
                positive("temperature", temperature)?;
                let is_good = (0.0..=1.0).contains(&weight);
                require("weight", weight, is_good, "a number of [0, 1]")?;
            }
            Objective::Outputs(_) => {}
        }
        for features in &self.features {
            positive("weight of the features", features.weight)?;
        }
        match self.optimizer {
            Optimizer::Sgd { momentum, .. } => unit("momentum", momentum)?,
            Optimizer::AdamW { beta1, beta2, epsilon } => {
                unit("beta1", beta1)?;
                unit("beta2", beta2)?;
                positive("epsilon", epsilon)?;
            }
        }
        let is_good = self.weight_decay >= 0.0 && self.weight_decay.is_finite();
        require("weight_decay", self.weight_decay, is_good, "a number of at least 0")?;
        if let Some(norm) = self.clip_norm {
            positive("clip_norm", norm)?;
        }
        if let Some(average) = self.average {
            unit("average", average)?;
        }
        if let Some(momentum) = self.batch_norm_momentum {
            let is_good = (0.0..=1.0).contains(&momentum);
            require("batch_norm_momentum", momentum, is_good, "a number of [0, 1]")?;
        }
        Ok(())
    }
}

fn require(setting: &'static str, found: f64, is_good: bool, expected: &'static str) -> Result<()> {
    if is_good {
        return Ok(());
    }
    Err(AutodiffError::Setting { setting, found: found.to_string(), expected })
}
