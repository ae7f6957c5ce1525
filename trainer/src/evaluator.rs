//! Measures how close a network is to the labels and to the original.

mod answer;
mod cotangents;
mod outputs;

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use updp_exec::Executor;
use updp_ir::{Model, Tensor};

use answer::Answer;
pub use outputs::{OutputScore, OutputWeights};

use crate::error::TrainerError;
use crate::run::{BatchSource, Runner};
use crate::similarity::{cosine, overlap};

/// With more classes than this, the score also says how often the label is among the first five.
pub const FEW_CLASSES: usize = 10;

/// How close a network is to the labels or to the original, over one set of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Number of images that were scored.
    pub images: usize,
    /// Share of the images for which the network's first class is the label; `None` without labels.
    pub accuracy: Option<f64>,
    /// Share of the images whose label is among the network's first five classes. `None` without labels, and if the
    /// network has ten classes or fewer.
    #[serde(default)]
    pub top5: Option<f64>,
    /// Share of the images for which the first class is that of the original; `None` if the output holds no class
    /// scores.
    pub agreement: Option<f64>,
    /// `1 − TV(p, q)`, the overlap of the two class distributions, averaged over the images. For other outputs it is
    /// the cosine. 1 = identical.
    pub overlap: f64,
    /// Divergence from the original, averaged over the images and (by their weights) the outputs, in nats; 0 = identical. For class scores
    /// it is `KL(p ‖ q)` of the two class distributions. For other outputs it is `mean (y − ŷ)² / (2·var y)`, the
    /// divergence of two normal distributions with the variance of the original's output.
    #[serde(default)]
    pub kl: f64,
}

impl Score {
    /// Points that `after` loses relative to this score: the mean of the lost share of answers and the lost overlap, times
    /// 100. The overlap has less noise; answers are the number that users care about.
    #[must_use]
    pub fn points_lost(&self, after: &Self) -> f64 {
        50.0 * (self.answer_loss(after) + self.overlap - after.overlap)
    }

    /// Share of the images whose answer `after` loses relative to this score. It uses accuracy if there are labels,
    /// otherwise agreement with the original, otherwise overlap.
    #[must_use]
    pub fn answer_loss(&self, after: &Self) -> f64 {
        match (self.accuracy, after.accuracy, self.agreement, after.agreement) {
            (Some(before), Some(after), ..) | (None, None, Some(before), Some(after)) => {
                before - after
            }
            _ => self.overlap - after.overlap,
        }
    }

    /// The degradation: the divergence from the original, in nats. Labels do not count, so a network is pruned in the
    /// same way with and without them. A divergence that is not finite is infinite.
    #[must_use]
    pub fn degradation(&self) -> f64 {
        if self.kl.is_finite() { self.kl } else { f64::INFINITY }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        match (self.accuracy, self.agreement) {
            (Some(accuracy), _) => {
                write!(f, "accuracy {}", percent(accuracy))?;
                if let Some(top5) = self.top5 {
                    write!(f, ", top-5 {}", percent(top5))?;
                }
            }
            (None, Some(agreement)) => write!(f, "agreement {}", percent(agreement))?,
            (None, None) => write!(f, "overlap {}", percent(self.overlap))?,
        }
        write!(f, " on {} images", self.images)
    }
}

/// Images with the outputs of the original.
pub struct Evaluator {
    source: Box<dyn BatchSource>,
    /// Names of the compared outputs; the main one comes first.
    outputs: Vec<String>,
    /// The weights that were asked for.
    weights: OutputWeights,
    /// Share of each of `outputs` in the degradation; they sum to 1.
    shares: Vec<f64>,
    /// The original's outputs for each batch, in the order of `outputs`.
    reference: Vec<Vec<Answer>>,
    /// Variance of the elements of each of the original's outputs.
    variance: Vec<f64>,
    /// Class of each image of each batch.
    labels: Option<Vec<Vec<usize>>>,
}

impl Evaluator {
    /// Runs the original over the images. All its outputs with floats for each image count, with equal weights.
    ///
    /// # Errors
    /// T0002 when the original's output is not finite; T0003 when there is no output to compare; errors of running the
    /// model.
    pub fn new(
        runner: &Runner,
        original: &Model,
        source: impl BatchSource + 'static,
    ) -> Result<Self, TrainerError> {
        Self::weighted(runner, original, source, &OutputWeights::new())
    }

    /// The same outputs and weights for other images.
    ///
    /// # Errors
    /// The same as [`Self::new`].
    pub fn again(
        &self,
        runner: &Runner,
        original: &Model,
        source: impl BatchSource + 'static,
    ) -> Result<Self, TrainerError> {
        Self::weighted(runner, original, source, &self.weights)
    }

    /// Runs the original over the images. Only the outputs in `weights` count, unless that is empty.
    ///
    /// # Errors
    /// The same as [`Self::new`]; T0003 also when an output in `weights` has no floats for each image.
    pub fn weighted(
        runner: &Runner,
        original: &Model,
        source: impl BatchSource + 'static,
        weights: &OutputWeights,
    ) -> Result<Self, TrainerError> {
        let mut executor = runner.open(original)?;
        let mut names = Vec::new();
        let mut reference: Vec<Vec<Answer>> = Vec::new();
        let mut labels: Option<Vec<Vec<usize>>> = Some(Vec::new());
        for batch in source.batches()? {
            let batch = batch?;
            let outputs = executor.run(&batch.inputs)?;
            if names.is_empty() {
                names = outputs::compared_outputs(&outputs, batch.images(), weights)?;
            }
            let answers = Answer::all(&outputs, &names, batch.images())?;
            let is_finite = |answer: &Answer| answer.values.iter().all(|v| v.is_finite());
            if let Some(at) = answers.iter().position(|answer| !is_finite(answer)) {
                return Err(TrainerError::NotFinite { output: names.swap_remove(at) });
            }
            reference.push(answers);
            labels = labels.and_then(|mut all| {
                all.push(batch.labels?);
                Some(all)
            });
        }
        let Some(first) = reference.first() else {
            return Err(TrainerError::TooFew { found: 0, needed: 1 });
        };
        // If labels exceed the classes of the model, they name other classes.
        let main = first.first().ok_or(TrainerError::NoOutput)?;
        let classes = if main.is_classes { main.width } else { 0 };
        let labels = labels.filter(|all| all.iter().flatten().all(|label| *label < classes));
        let variance = (0..names.len()).map(|at| variance(&reference, at)).collect();
        Ok(Self {
            source: Box::new(source),
            shares: outputs::shares(&names, weights),
            outputs: names,
            weights: weights.clone(),
            reference,
            variance,
            labels,
        })
    }

    /// Whether accuracy can be computed.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Number of classes of the model; `None` if its output holds no class scores.
    #[must_use]
    pub fn classes(&self) -> Option<usize> {
        self.reference
            .first()?
            .first()
            .filter(|answer| answer.is_classes)
            .map(|answer| answer.width)
    }

    /// Number of images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.reference.iter().filter_map(|answers| answers.first()).map(Answer::images).sum()
    }

    /// The class that the original gives each image, in order; `None` if its output holds no class scores.
    #[must_use]
    pub fn predicted_classes(&self) -> Option<Vec<usize>> {
        self.classes()?;
        let main = self.reference.iter().filter_map(|answers| answers.first());
        Some(main.flat_map(|answer| answer.rows().map(first_class)).collect())
    }

    /// Number of batches.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.reference.len()
    }

    /// The images.
    #[must_use]
    pub fn source(&self) -> &dyn BatchSource {
        self.source.as_ref()
    }

    /// The score of a network that has the original's inputs.
    ///
    /// # Errors
    /// Errors of running the model.
    pub fn score(&self, runner: &Runner, model: &Model) -> Result<Score, TrainerError> {
        self.score_in(runner.open(model)?.as_mut(), &IndexMap::new())
    }

    /// The score of an open network. Each batch passes the `more` inputs in addition to the original's.
    ///
    /// # Errors
    /// Errors of running the model.
    pub fn score_in(
        &self,
        executor: &mut dyn Executor,
        more: &IndexMap<String, Tensor>,
    ) -> Result<Score, TrainerError> {
        let mut sums = Sums::default();
        for (at, batch) in self.source.batches()?.enumerate() {
            let mut batch = batch?;
            batch.inputs.extend(more.clone());
            let outputs = executor.run(&batch.inputs)?;
            self.add(&mut sums, at, &Answer::all(&outputs, &self.outputs, batch.images())?);
        }
        Ok(sums.score(self.has_labels()))
    }

    /// The original's score against itself.
    #[must_use]
    pub fn baseline(&self) -> Score {
        let mut sums = Sums::default();
        for (at, reference) in self.reference.iter().enumerate() {
            self.add(&mut sums, at, reference);
        }
        sums.score(self.has_labels())
    }

    fn add(&self, sums: &mut Sums, at: usize, answers: &[Answer]) {
        let labels = self.labels.as_ref().and_then(|all| all.get(at)).map(Vec::as_slice);
        let Some(reference) = self.reference.get(at) else { return };
        if let (Some(main), Some(answer)) = (reference.first(), answers.first()) {
            sums.add(main, answer, labels);
            sums.divergence += self.divergence(reference, answers) * main.images() as f64;
        }
    }

    /// The divergence of a network from the original for each image, in nats ([`Score::kl`] is their mean). Networks are
    /// compared image by image with it.
    ///
    /// # Errors
    /// T0003 when an output is missing; errors of running the model.
    pub fn divergences(&self, runner: &Runner, model: &Model) -> Result<Vec<f64>, TrainerError> {
        let mut executor = runner.open(model)?;
        let mut found = Vec::new();
        for (batch, reference) in self.source.batches()?.zip(&self.reference) {
            let batch = batch?;
            let outputs = executor.run(&batch.inputs)?;
            let answers = Answer::all(&outputs, &self.outputs, batch.images())?;
            let images = reference.first().map_or(0, Answer::images);
            found.extend((0..images).map(|at| {
                let alone = |all: &[Answer]| all.iter().map(|it| it.image(at)).collect::<Vec<_>>();
                self.divergence(&alone(reference), &alone(&answers))
            }));
        }
        Ok(found)
    }

    /// Starts a score that is added up batch by batch.
    #[must_use]
    pub fn tally(&self) -> Tally<'_> {
        Tally { evaluator: self, sums: Sums::default() }
    }

    /// The names of the compared outputs; the main one comes first.
    #[must_use]
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }
}

/// A score that is added up batch by batch.
pub struct Tally<'a> {
    evaluator: &'a Evaluator,
    sums: Sums,
}

impl Tally<'_> {
    /// Adds the outputs that a network gives for the batch with this number.
    ///
    /// # Errors
    /// T0003 when an output is missing.
    pub fn add(
        &mut self,
        at: usize,
        outputs: &IndexMap<String, Tensor>,
    ) -> Result<(), TrainerError> {
        let Self { evaluator, sums } = self;
        let reference = evaluator.reference.get(at).and_then(|answers| answers.first());
        let images = reference.map_or(0, Answer::images);
        evaluator.add(sums, at, &Answer::all(outputs, &evaluator.outputs, images)?);
        Ok(())
    }

    /// The score of the batches that were added.
    #[must_use]
    pub fn score(&self) -> Score {
        self.sums.score(self.evaluator.has_labels())
    }
}

/// Variance of the elements of an output over all batches.
fn variance(reference: &[Vec<Answer>], at: usize) -> f64 {
    let (mut count, mut sum, mut square) = (0.0, 0.0, 0.0);
    for value in reference.iter().filter_map(|answers| answers.get(at)).flat_map(|a| &a.values) {
        let value = f64::from(*value);
        (count, sum, square) = (count + 1.0, sum + value, square + value * value);
    }
    if count > 0.0 { (square / count - (sum / count).powi(2)).max(0.0) } else { 0.0 }
}

/// The output to compare: the first one with one row of floats per image, otherwise the first one with floats.
pub(crate) fn main_output(outputs: &IndexMap<String, Tensor>, images: usize) -> Option<String> {
    let is_float = |t: &Tensor| t.dtype().is_foldable_float() && t.dims().first() == Some(&images);
    let is_row = |t: &Tensor| is_float(t) && t.dims().len() == 2 && t.dims()[1] > 1;
    let found = outputs
        .iter()
        .find(|(_, t)| is_row(t))
        .or_else(|| outputs.iter().find(|(_, t)| is_float(t)));
    found.map(|(name, _)| name.clone())
}

#[derive(Default)]
struct Sums {
    images: usize,
    right: usize,
    among_five: usize,
    has_many: bool,
    same: usize,
    overlap: f64,
    divergence: f64,
    is_classes: bool,
}

impl Sums {
    fn add(&mut self, reference: &Answer, answer: &Answer, labels: Option<&[usize]>) {
        self.is_classes = reference.is_classes;
        self.has_many = reference.is_classes && reference.width > FEW_CLASSES;
        for (at, (old, new)) in reference.rows().zip(answer.rows()).enumerate() {
            self.images += 1;
            if reference.is_classes {
                let first = first_class(new);
                self.same += usize::from(first == first_class(old));
                let label = labels.and_then(|labels| labels.get(at));
                self.right += usize::from(label == Some(&first));
                self.among_five +=
                    usize::from(label.is_some_and(|label| is_among_five(new, *label)));
                self.overlap += overlap(old, new);
            } else {
                self.overlap += cosine(old, new);
            }
        }
    }

    fn score(&self, has_labels: bool) -> Score {
        let images = self.images.max(1) as f64;
        Score {
            images: self.images,
            accuracy: has_labels.then_some(self.right as f64 / images),
            top5: (has_labels && self.has_many).then_some(self.among_five as f64 / images),
            agreement: self.is_classes.then_some(self.same as f64 / images),
            overlap: self.overlap / images,
            kl: self.divergence / images,
        }
    }
}

/// Index of the largest element. NaN never counts as the largest.
pub(crate) fn first_class(row: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (at, value) in row.iter().enumerate() {
        if *value > best.1 {
            best = (at, *value);
        }
    }
    best.0
}

/// Whether fewer than five classes rank before this one. Larger scores rank before it, and so do equal scores with a
/// lower index. NaN ranks last.
pub(crate) fn is_among_five(row: &[f32], label: usize) -> bool {
    let Some(own) = row.get(label).filter(|own| !own.is_nan()) else { return false };
    let is_before = |(at, value): &(usize, &f32)| *value > own || (*value == own && *at < label);
    row.iter().enumerate().filter(is_before).count() < 5
}

#[cfg(test)]
mod tests;
