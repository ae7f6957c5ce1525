//! What a training step minimizes, and how.

use crate::error::{AutodiffError, Result};

/// What is minimized: a mean over the images of the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Objective {
    /// Cross-entropy −Σ t·ln softmax(z) of the class scores z `[N, classes]` with soft labels t.
    Labels {
        /// s of t′ = (1 − s)·t + s / classes, in `[0, 1)`.
        smoothing: f64,
    },
    /// \[KD\]: T²·KL(softmax(u/T) ‖ softmax(z/T)) with the class scores u of a teacher.
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
    /// The distance of every float output to that of a teacher, summed over the outputs: for models without class scores.
    Outputs(Distance),
}

/// How far two outputs are apart, per image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distance {
    /// Mean of (y − u)² over the elements.
    MeanSquare,
    /// 1 − y·u / (‖y‖·‖u‖) of all elements of an image.
    Cosine,
}

/// The rule that turns gradients into better parameters; as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub enum Optimizer {
    /// d = g + decay·p, m ← μ·m + d, p ← p − rate·m; with Nesterov p ← p − rate·(d + μ·m).
    Sgd {
        /// μ in `[0, 1)`; 0 keeps no moment.
        momentum: f64,
        /// Whether the step looks ahead.
        nesterov: bool,
    },
    /// \[AdamW\]: p ← (1 − rate·decay)·p, m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²,
    /// p ← p − rate·m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε), t counted from 1.
    AdamW {
        /// β₁ in `[0, 1)`.
        beta1: f64,
        /// β₂ in `[0, 1)`.
        beta2: f64,
        /// ε above 0.
        epsilon: f64,
    },
}

/// A training step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    /// What is minimized.
    pub objective: Objective,
    /// How.
    pub optimizer: Optimizer,
    /// Decay of parameters with more than one axis longer than 1; scales, shifts and biases have none.
    pub weight_decay: f64,
    /// Gradients whose common norm is larger are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Share of a batch in the running statistics of BatchNormalizations, which then take those of the batch;
    /// `None` leaves them as they are and differentiates the inference form.
    pub batch_norm_momentum: Option<f64>,
    /// d of the averages e ← d·e + (1 − d)·p that are kept of parameters and running statistics.
    pub average: Option<f64>,
    /// Whether several batches may make one update: the step gets the inputs `apply` and `share`.
    pub accumulates: bool,
    /// Whether the loss is scaled, and updates left out whose gradients are not finite, as f16 needs it.
    pub scales_loss: bool,
    /// Names of initializers that stay as they are, as [`super::State::source`] gives them; the running statistics of a BatchNormalization named here stay
    /// in use.
    pub frozen: Vec<String>,
}

impl StepSpec {
    /// SGD with Nesterov momentum 0.9 on labels, batch statistics with momentum 0.1, nothing else.
    #[must_use]
    pub fn new(objective: Objective) -> Self {
        Self {
            objective,
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

    /// Every number is in its range.
    ///
    /// # Errors
    /// T0310 with the first that is not.
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
