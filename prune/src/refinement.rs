//! Refining a fitted network with few images: the learning rate, and whether training brought the network closer to the
//! original.

use updp_ir::Model;
use updp_trainer::error::TrainerError;
use updp_trainer::evaluator::Evaluator;
use updp_trainer::finetune::FinetuneSettings;
use updp_trainer::fit::with_mixtures;
use updp_trainer::observer::Observer;
use updp_trainer::train::{End, TrainError};

use crate::context::Context;
use crate::error::{PruneError, Result};
use crate::finetune::{JobKey, folder, settled, tell_stopped};
use crate::time_budget::MOST_IMAGE_BYTES;

/// Learning rates that are tried, relative to the default rate, in this order.
const FACTORS: [f64; 4] = [1.0, 4.0, 16.0, 64.0];

/// A rate is tried for this share of the epochs.
const TRIAL_SHARE: usize = 6;

/// Trainings with fewer epochs take the default rate.
const LEAST_EPOCHS: usize = 4;

/// Standard errors beyond which a difference counts.
const CERTAINTY: f64 = 1.0;

/// Divergences from the original, in nats, of each held-out image and of each mixture of two of them.
#[derive(Debug)]
pub(crate) struct Divergences {
    images: Vec<f64>,
    mixtures: Vec<f64>,
}

/// The mean by which divergences fell, and its standard error.
#[derive(Clone, Copy, Debug)]
struct Gain {
    mean: f64,
    error: f64,
}

impl Gain {
    /// Compared image by image.
    fn of(start: &[f64], trained: &[f64]) -> Self {
        let gains: Vec<f64> =
            start.iter().zip(trained).map(|(start, trained)| start - trained).collect();
        let mean = mean(&gains);
        let square = gains.iter().map(|each| (each - mean).powi(2)).sum::<f64>();
        let error = (square / (gains.len().max(2) - 1) as f64 / gains.len().max(1) as f64).sqrt();
        Self { mean, error }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

impl Divergences {
    /// Whether `other` is closer to the original: on the held-out images if these can tell, otherwise on the mixtures,
    /// which are more but no real images. Divergences that are no numbers are never closer.
    fn is_closer(&self, other: &Self) -> bool {
        self.prefers(other, 0.0)
    }

    /// The gain on the images if it is clear; otherwise the gain on the mixtures must be above `-allowed` errors.
    fn prefers(&self, other: &Self, allowed: f64) -> bool {
        let images = Gain::of(&self.images, &other.images);
        if images.mean > CERTAINTY * images.error {
            return true;
        }
        // Written so that NaN is refused.
        let is_open = images.mean > -CERTAINTY * images.error;
        let deciding = if self.mixtures.is_empty() {
            images
        } else {
            Gain::of(&self.mixtures, &other.mixtures)
        };
        is_open && deciding.mean > -allowed * deciding.error
    }

    /// Why a network with the divergences `trained` is not written: it is farther from the original than this one.
    pub(crate) fn farther(&self, trained: &Self) -> Option<String> {
        if self.prefers(trained, CERTAINTY) {
            return None;
        }
        let told = |start: &[f64], trained: &[f64], what: &str| {
            let gain = Gain::of(start, trained);
            format!(
                "from {:.4} to {:.4} nats on {} {what}, a gain of {:.4} ± {:.4}",
                mean(start),
                mean(trained),
                start.len(),
                gain.mean,
                gain.error
            )
        };
        let images = told(&self.images, &trained.images, "held-out images");
        let mixtures = if self.mixtures.is_empty() {
            String::new()
        } else {
            format!(", and {}", told(&self.mixtures, &trained.mixtures, "mixtures of them"))
        };
        Some(format!(
            "training changed the divergence from the input model {images}{mixtures}, so the fitted network is written without training; more images or more --epochs may help"
        ))
    }
}

/// Compares networks with the original on the held-out images and on mixtures of them.
pub(crate) struct Judge<'a> {
    cx: &'a Context<'a>,
    /// The held-out images with mixtures behind them; `None` if there are enough images.
    mixed: Option<Evaluator>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(cx: &'a Context<'a>) -> Result<Self> {
        let source = cx.evaluator.source();
        let mixed = with_mixtures(source, 1, MOST_IMAGE_BYTES, cx.config.data.seed)?;
        let mixed = mixed.map(|images| cx.evaluator.again(&cx.runner, &cx.original, images));
        Ok(Self { cx, mixed: mixed.transpose()? })
    }

    pub(crate) fn divergences(&self, network: &Model) -> Result<Divergences> {
        let evaluator = self.mixed.as_ref().unwrap_or(&self.cx.evaluator);
        let mut images = evaluator.divergences(&self.cx.runner, network)?;
        let mixtures = images.split_off(self.cx.evaluator.source().images().min(images.len()));
        Ok(Divergences { images, mixtures })
    }
}

/// The largest number of short trainings for the learning rate, and the epochs of each.
pub(crate) fn most_trials(epochs: usize) -> (usize, usize) {
    let count = if epochs < LEAST_EPOCHS { 0 } else { FACTORS.len() };
    (count, (epochs / TRIAL_SHARE).max(1))
}

/// Chooses the learning rate of a refinement by short trainings from low to high, until a higher rate does not bring the
/// network closer to the original. `encoded` are the bytes of the network before training.
///
/// # Errors
/// C0011 when the observer cancels; T codes for errors of training.
pub(crate) fn choose_rate(
    judge: &Judge<'_>,
    network: &Model,
    encoded: &[u8],
    settings: &mut FinetuneSettings,
    observer: &mut dyn Observer,
) -> Result<()> {
    let cx = judge.cx;
    let (most, epochs) = most_trials(settings.epochs);
    let mut best: Option<(f64, Divergences)> = None;
    for factor in FACTORS.into_iter().take(most) {
        let mut trial = settings.clone();
        trial.scale_rate(factor);
        trial.epochs = epochs;
        trial.warm_up_epochs *= trial.epochs as f64 / settings.epochs as f64;
        trial.contender = None;
        trial.folder = folder(cx, &JobKey::new(cx, "rate", encoded, &trial))?;
        let trained = match cx.finetuning(&trial).run(network, observer) {
            Err(TrainerError::Train(TrainError::Diverged { .. })) => break,
            trained => trained?,
        };
        if trained.end == End::Stopped {
            tell_stopped(cx.config.work.as_deref(), trained.steps, observer);
            return Err(PruneError::Interrupted);
        }
        let found = judge.divergences(&settled(trained.model)?)?;
        if best.as_ref().is_some_and(|(_, best)| !best.is_closer(&found)) {
            break;
        }
        best = Some((factor, found));
    }
    if let Some((factor, _)) = best {
        settings.scale_rate(factor);
        let rate = settings.peak;
        observer.message(&format!(
            "learning rate {rate:.1e}: the best in short trainings from the default {:.1e} upwards",
            rate / factor
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(images: &[f64], mixtures: &[f64]) -> Divergences {
        Divergences { images: images.to_vec(), mixtures: mixtures.to_vec() }
    }

    #[test]
    fn a_training_is_written_unless_it_is_clearly_farther_than_the_fit() {
        let start = found(&[0.1, 0.2, 0.3, 0.4], &[]);
        let changed = |by: [f64; 4]| {
            let pairs = start.images.iter().zip(by);
            found(&pairs.map(|(start, by)| start + by).collect::<Vec<_>>(), &[])
        };
        assert_eq!(start.farther(&changed([-0.02, -0.01, -0.03, -0.02])), None);
        assert_eq!(start.farther(&changed([0.05, -0.05, 0.04, -0.03])), None, "noise");
        let told = start.farther(&changed([0.02, 0.01, 0.03, 0.02])).expect("it is worse");
        assert!(told.contains("from 0.2500 to 0.2700 nats on 4 held-out images"), "{told}");
        assert!(start.farther(&start).is_some(), "the same network gains nothing");
        assert!(start.farther(&found(&[0.0, 0.0, 0.0, f64::INFINITY], &[])).is_some());
        assert!(start.farther(&found(&[0.0, 0.0, 0.0, f64::NAN], &[])).is_some());
    }

    #[test]
    fn images_decide_where_they_can_and_mixtures_where_not() {
        let start = found(&[0.2; 4], &[0.3, 0.31, 0.29]);
        let better = [0.1, 0.11, 0.1, 0.09];
        let open = [0.25, 0.15, 0.24, 0.16];
        let (low, high) = ([0.2, 0.21, 0.19], [0.4, 0.42, 0.39]);
        assert!(start.is_closer(&found(&better, &high)), "the images are clear");
        assert!(!start.is_closer(&found(&[0.3, 0.31, 0.3, 0.29], &low)), "the images are clear");
        assert!(start.is_closer(&found(&open, &low)), "the mixtures decide");
        assert!(!start.is_closer(&found(&open, &high)), "the mixtures decide");
        let told = start.farther(&found(&open, &high)).expect("it is worse");
        assert!(told.contains("on 3 mixtures of them"), "{told}");
    }
}
