//! Training as the command line asks for it: settings from arguments, and what is shown on the way.

use std::path::{Path, PathBuf};

use updp_autodiff::Precision;
use updp_autodiff::step::Optimizer;
use updp_ir::Model;
use updp_passes::surgery;
use updp_trainer::error::TrainerError;
use updp_trainer::hash::Fnv;
use updp_trainer::images::Images;
use updp_trainer::outcome::{EpochOutcome, Moment, Score};
use updp_trainer::train::{Augment, ClassWeights, Progress, Ramp, Row, Shrink};
use updp_trainer::tune::{Observer, TuneSettings};

use crate::cli::{AugmentChoice, OptimizerChoice, PrecisionChoice, TrainingArgs};
use crate::interrupt;
use crate::terminal::{self, Bar};

/// Operators of networks that AdamW trains better than SGD does.
const ADAMW_OPERATORS: [&str; 6] =
    ["LayerNormalization", "Erf", "Gelu", "Attention", "MultiHeadAttention", "GroupNormalization"];

/// Most steps of a training that are told.
const COURSE: usize = 300;

/// Share of the side that images are shifted by.
const CROP_SHARE: usize = 8;

impl TrainingArgs {
    /// Settings for a network and images of its size, with these epochs and this seed.
    #[must_use]
    pub fn settings(
        &self,
        network: &Model,
        images: &Images,
        (epochs, seed): (usize, u64),
    ) -> TuneSettings {
        let graph = &network.graph;
        let is_modern =
            || graph.nodes().iter().any(|id| ADAMW_OPERATORS.contains(&graph.node(*id).op_type()));
        let is_adamw = match self.optimizer {
            OptimizerChoice::Auto => is_modern(),
            OptimizerChoice::Sgd => false,
            OptimizerChoice::Adamw => true,
        };
        let optimizer = if is_adamw {
            Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
        } else {
            Optimizer::Sgd { momentum: 0.9, nesterov: true }
        };
        let (peak, decay) = if is_adamw { (5e-4, 0.05) } else { (0.02, 5e-4) };
        let peak = self.lr.unwrap_or(peak);
        TuneSettings {
            epochs,
            batch: self.batch_size.get(),
            accumulate: self.accumulate.get(),
            optimizer,
            peak,
            floor: peak / 100.0,
            warm_up_epochs: self.warm_up.unwrap_or(epochs as f64 / 20.0),
            weight_decay: self.weight_decay.unwrap_or(decay),
            clip_norm: Some(self.clip.unwrap_or(if is_adamw { 5.0 } else { 1.0 })),
            smoothing: self.label_smoothing,
            distill: self.distill,
            temperature: self.temperature,
            average: self.ema,
            augment: augment(self.augment, images),
            weights: match (self.balance_classes, self.class_weights.as_slice()) {
                (true, _) => ClassWeights::Balanced,
                (false, []) => ClassWeights::Equal,
                (false, given) => ClassWeights::Given(given.to_vec()),
            },
            frozen: self.freeze.clone(),
            recompute: self.recompute,
            precision: match self.precision {
                PrecisionChoice::F32 => Precision::Single,
                PrecisionChoice::F16 => Precision::Half,
                PrecisionChoice::Bf16 => Precision::Brain,
            },
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

fn augment(choice: AugmentChoice, images: &Images) -> Augment {
    let side = images.spec().height.min(images.spec().width);
    let crop_padding = (side / CROP_SHARE).max(1);
    match choice {
        AugmentChoice::None => Augment::default(),
        AugmentChoice::Crop => Augment { crop_padding, ..Augment::default() },
        AugmentChoice::Light => Augment::light(crop_padding),
        AugmentChoice::Strong => Augment {
            operations: 2,
            magnitude: 5.0,
            erase: 0.25,
            mixup: 0.2,
            ..Augment::light(crop_padding)
        },
    }
}

/// The folder of one training in a work folder: another training has another one.
#[must_use]
pub fn folder(work: &Path, job: &str, settings: &TuneSettings) -> PathBuf {
    let text = format!("{} {job} {settings:?}", env!("CARGO_PKG_VERSION"));
    work.join(format!("{:016x}", Fnv::of(text.as_bytes())))
}

/// Shows a training, and ends it after Ctrl-C. While it is there, an interrupt waits for the step to end.
#[derive(Debug)]
pub struct Shown {
    bar: Bar,
    epochs: usize,
    /// Whether λ rises, which is told then.
    has_lambda: bool,
    /// What is scored after each epoch, where that has to be said.
    scored: &'static str,
    last: Option<Progress>,
    /// After each epoch of this run.
    pub history: Vec<EpochOutcome>,
    steps: Vec<Moment>,
    _deferred: interrupt::Deferred,
}

impl Shown {
    /// Shows a training of so many epochs.
    #[must_use]
    pub fn new(epochs: usize, has_lambda: bool) -> Self {
        Self {
            bar: Bar::new("training", 0),
            epochs,
            has_lambda,
            scored: "",
            last: None,
            history: Vec::new(),
            steps: Vec::new(),
            _deferred: interrupt::defer(),
        }
    }

    /// Shows the training of a supernet; scored is its network with every block pruned.
    #[must_use]
    pub fn supernet(epochs: usize) -> Self {
        Self { scored: "every block pruned: ", ..Self::new(epochs, false) }
    }

    /// The steps of this run, thinned out.
    #[must_use]
    pub fn course(&self) -> Vec<Moment> {
        thinned(&self.steps, COURSE)
    }

    /// Images a second, at the last step.
    #[must_use]
    pub fn images_per_second(&self) -> Option<f64> {
        self.last.map(|last| last.images_per_second)
    }
}

impl Observer for Shown {
    fn progress(&mut self, progress: &Progress) {
        let row = &progress.row;
        let lambda =
            if self.has_lambda { format!(", λ {:.2}", row.lambda) } else { String::new() };
        let accuracy =
            row.accuracy.map_or_else(String::new, |right| format!(", {:.1} %", 100.0 * right));
        let text = format!(
            "epoch {:.1}/{}: loss {:.3}{accuracy}{lambda}, rate {:.1e}, {:.0} images/s",
            row.epoch, self.epochs, row.loss, row.learning_rate, progress.images_per_second
        );
        self.bar.set(&text, progress.done as usize, progress.steps as usize);
        self.last = Some(*progress);
        let lambda = self.has_lambda.then_some(row.lambda);
        let Row { loss, learning_rate, .. } = *row;
        self.steps.push(Moment { step: progress.done, loss, lambda, learning_rate });
    }

    fn notice(&mut self, text: &str) {
        self.bar.above(text);
    }

    fn epoch(&mut self, epoch: u64, score: &Score) {
        let loss = self.last.map_or(f64::NAN, |last| last.row.loss);
        let lambda = self.last.filter(|_| self.has_lambda).map(|last| last.row.lambda);
        let at = lambda.map_or_else(String::new, |lambda| format!(", λ {lambda:.2}"));
        self.bar.above(&format!(
            "  epoch {epoch}/{}: loss {loss:.3}{at}, {}{}",
            self.epochs,
            self.scored,
            words(score)
        ));
        self.history.push(EpochOutcome { epoch, loss, lambda, score: *score });
    }

    fn is_stopped(&mut self) -> bool {
        interrupt::is_requested()
    }

    fn judged(&mut self, mut network: Model) -> Result<Model, TrainerError> {
        // A network without λ stays as it is.
        surgery::settle(&mut network)?;
        Ok(network)
    }
}

/// At most so many moments: the last of each run of equal length, with the mean of its losses.
fn thinned(steps: &[Moment], most: usize) -> Vec<Moment> {
    let length = steps.len().div_ceil(most.max(1)).max(1);
    let last = |chunk: &[Moment]| {
        let loss = chunk.iter().map(|it| it.loss).sum::<f64>() / chunk.len() as f64;
        chunk.last().map(|last| Moment { loss, ..*last })
    };
    steps.chunks(length).filter_map(last).collect()
}

/// A score in words.
#[must_use]
pub fn words(score: &Score) -> String {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    match (score.accuracy, score.agreement) {
        (Some(accuracy), _) => {
            let five = score.top5.map(|share| format!(", top-5 {}", percent(share)));
            let (first, five) = (percent(accuracy), five.unwrap_or_default());
            format!("accuracy {first}{five} on {} images", score.images)
        }
        (None, Some(agreement)) => {
            format!("agreement {} on {} images", percent(agreement), score.images)
        }
        (None, None) => format!("overlap {} on {} images", percent(score.overlap), score.images),
    }
}

/// Says where an interrupted training stopped.
pub fn tell_stopped(steps: u64, work: Option<&Path>) {
    let kept = work.map_or_else(
        || "nothing was kept, because there is no work folder".to_owned(),
        |work| format!("the same command goes on from {}", work.display()),
    );
    terminal::remark(&format!("stopped after {steps} steps; {kept}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_is_thinned_to_means_and_keeps_its_last_step() {
        let moment =
            |step: u64| Moment { step, loss: step as f64, lambda: Some(0.5), learning_rate: 0.1 };
        let steps: Vec<Moment> = (1..=7).map(moment).collect();
        assert_eq!(thinned(&steps, 7), steps);
        let thin: Vec<(u64, f64)> =
            thinned(&steps, 3).iter().map(|it| (it.step, it.loss)).collect();
        assert_eq!(thin, [(3, 2.0), (6, 5.0), (7, 7.0)]);
        assert!(thinned(&[], 3).is_empty());
    }
}
