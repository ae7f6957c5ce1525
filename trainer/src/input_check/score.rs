//! How well a network does on images, before anything is done to it.

use std::fmt;

use indexmap::{IndexMap, IndexSet};
use serde::Serialize;
use updp_exec::Executor;

use crate::error::TrainerError;
use crate::evaluator::{first_class, main_output};
use crate::fit::floats;
use crate::images::Images;
use crate::predictions::filled;
use crate::similarity::distribution;

/// The accuracy of a classifier on some images or, without labels, how sure it is of its answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InputScore {
    /// Number of images.
    pub images: usize,
    /// Number of classes that the network tells apart.
    pub classes: usize,
    /// Share of the images whose label is the first class, 0 to 1; `None` without labels.
    pub accuracy: Option<f64>,
    /// Mean probability of the first class, 0 to 1.
    pub confidence: f64,
    /// Mean entropy of the class distributions, in nats.
    pub entropy: f64,
    /// Number of different classes that the network predicts.
    pub predicted_classes: usize,
    /// Share of the images with the class that is predicted most often.
    pub most_frequent: f64,
    /// For each image, whether its label is the first class; empty without labels.
    #[serde(skip)]
    pub(super) right: Vec<bool>,
}

impl InputScore {
    /// Runs a classifier over the images. Returns `None` if its output is no row of class scores for each image.
    ///
    /// Labels that are no class of the network belong to another set of classes; then there is no accuracy.
    ///
    /// # Errors
    /// T0004 without images; errors of reading the images and of running the network.
    pub fn of(
        executor: &mut dyn Executor,
        images: &Images,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Option<Self>, TrainerError> {
        let mut sums = Sums::default();
        for batch in images.all()? {
            let batch = batch?;
            let count = batch.images.dims().first().copied().unwrap_or(0);
            let size = images.fixed_batch().unwrap_or(count);
            let inputs = images.inputs(filled(batch.images, size));
            let outputs = executor.run(&inputs)?;
            let name = main_output(&outputs, size);
            let scores = name.and_then(|name| outputs.get(&name));
            let Some(scores) = scores.filter(|it| it.dims().len() == 2 && it.dims()[1] > 1) else {
                return Ok(None);
            };
            sums.classes = scores.dims()[1];
            let values = floats(scores).ok_or(TrainerError::NoOutput)?;
            for (at, row) in values.chunks_exact(sums.classes).take(count).enumerate() {
                let labels = batch.labels.as_ref();
                sums.add(row, labels.and_then(|labels| labels.get(at)).copied());
            }
            progress(sums.images);
        }
        if sums.images == 0 {
            return Err(TrainerError::TooFew { found: 0, needed: 1 });
        }
        Ok(Some(sums.score()))
    }

    /// Standard error of the accuracy, `√(p (1 − p) / n)`; 0 without labels.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        self.accuracy.map_or(0.0, |share| standard_error(share, self.images))
    }

    /// The accuracy beyond chance, as a share of what is possible: `(p − 1/C) / (1 − 1/C)` for C classes. 0 = chance,
    /// 1 = every label is found. `None` without labels.
    #[must_use]
    pub fn beyond_chance(&self) -> Option<f64> {
        let chance = 1.0 / self.classes as f64;
        Some((self.accuracy? - chance) / (1.0 - chance))
    }

    /// Whether this score is higher than another one by more than two standard errors. Both are of the same images, so
    /// only images count on which one is right and the other wrong.
    pub(super) fn is_clearly_above(&self, other: &Self) -> bool {
        let count = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| **a && !**b).count();
        let (gained, lost) = (count(&self.right, &other.right), count(&other.right, &self.right));
        gained > lost && (gained - lost) as f64 > 2.0 * ((gained + lost) as f64).sqrt()
    }
}

/// Standard error of a share of `images` images.
pub(super) fn standard_error(share: f64, images: usize) -> f64 {
    (share * (1.0 - share) / images.max(1) as f64).sqrt()
}

impl fmt::Display for InputScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, classes, confidence, entropy, predicted_classes, .. } = self;
        if let Some(accuracy) = self.accuracy {
            let (accuracy, error) = (100.0 * accuracy, 200.0 * self.standard_error());
            write!(f, "accuracy {accuracy:.1} % ± {error:.1} on {images} images")?;
        } else {
            let most = (*classes as f64).ln();
            write!(
                f,
                "mean confidence {confidence:.2} and entropy {entropy:.2} of at most {most:.2} nats on {images} images without labels"
            )?;
        }
        write!(f, ", {predicted_classes} of {classes} classes predicted")
    }
}

#[derive(Default)]
struct Sums {
    classes: usize,
    images: usize,
    /// Images whose distribution is finite.
    finite: usize,
    confidence: f64,
    entropy: f64,
    predicted: IndexMap<usize, usize>,
    labels: IndexSet<usize>,
    unlabelled: usize,
    right: Vec<bool>,
}

impl Sums {
    fn add(&mut self, row: &[f32], label: Option<usize>) {
        self.images += 1;
        self.unlabelled += usize::from(label.is_none());
        self.labels.extend(label);
        let shares = distribution(row);
        let is_finite = shares.iter().all(|share| share.is_finite());
        let class = first_class(row);
        self.right.push(is_finite && label == Some(class));
        if !is_finite {
            return;
        }
        self.finite += 1;
        *self.predicted.entry(class).or_default() += 1;
        self.confidence += shares.get(class).copied().unwrap_or(0.0);
        let of = |share: &f64| if *share > 0.0 { -share * share.ln() } else { 0.0 };
        self.entropy += shares.iter().map(of).sum::<f64>();
    }

    fn score(self) -> InputScore {
        let images = self.images as f64;
        let has_labels =
            self.unlabelled == 0 && self.labels.iter().all(|label| *label < self.classes);
        let right = if has_labels { self.right } else { Vec::new() };
        let count = right.iter().filter(|is| **is).count();
        let finite = self.finite.max(1) as f64;
        let most = self.predicted.values().copied().max().unwrap_or(0);
        InputScore {
            images: self.images,
            classes: self.classes,
            accuracy: has_labels.then_some(count as f64 / images),
            confidence: self.confidence / finite,
            entropy: self.entropy / finite,
            predicted_classes: self.predicted.len(),
            most_frequent: most as f64 / images,
            right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(rows: &[(&[f32], Option<usize>)]) -> InputScore {
        let mut sums = Sums { classes: rows[0].0.len(), ..Sums::default() };
        for (row, label) in rows {
            sums.add(row, *label);
        }
        sums.score()
    }

    #[test]
    fn labels_give_the_accuracy_and_without_them_the_confidence_counts() {
        let (sure, unsure): (&[f32], &[f32]) = (&[0.0, 20.0], &[0.0, 0.0]);
        let scored =
            score(&[(sure, Some(1)), (sure, Some(0)), (unsure, Some(0)), (unsure, Some(0))]);
        assert_eq!((scored.accuracy, scored.predicted_classes), (Some(0.75), 2));
        assert!((scored.confidence - 0.75).abs() < 1e-6);
        assert!((scored.entropy - 0.5 * 2.0_f64.ln()).abs() < 1e-6);
        assert_eq!(scored.beyond_chance(), Some(0.5));
        assert!((scored.standard_error() - (0.75_f64 * 0.25 / 4.0).sqrt()).abs() < 1e-12);
        assert_eq!(
            scored.to_string(),
            "accuracy 75.0 % ± 43.3 on 4 images, 2 of 2 classes predicted"
        );
        let blind = score(&[(sure, None), (sure, None)]);
        assert_eq!((blind.accuracy, blind.beyond_chance(), blind.most_frequent), (None, None, 1.0));
        let told = "mean confidence 1.00 and entropy 0.00 of at most 0.69 nats on 2 images without labels, 1 of 2 classes predicted";
        assert_eq!(blind.to_string(), told);
        // Labels of other classes are none.
        assert_eq!(score(&[(sure, Some(1)), (sure, Some(2))]).accuracy, None);
        // A row that is not finite is never right.
        assert_eq!(score(&[(&[f32::NAN, 1.0], Some(1))]).accuracy, Some(0.0));
    }

    #[test]
    fn only_images_that_differ_decide_which_score_is_higher() {
        let of = |right: &[usize]| InputScore {
            right: (0..100).map(|at| right.contains(&at)).collect(),
            ..score(&[(&[0.0, 1.0], Some(1))])
        };
        let (low, same): (Vec<usize>, Vec<usize>) = ((0..50).collect(), (2..53).collect());
        let high: Vec<usize> = (0..60).collect();
        assert!(!of(&same).is_clearly_above(&of(&low)));
        assert!(of(&high).is_clearly_above(&of(&low)));
        assert!(!of(&low).is_clearly_above(&of(&high)));
        assert!(!of(&low).is_clearly_above(&of(&low)));
    }
}
