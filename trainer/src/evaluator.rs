//! Measures how close a network is to the labels and to the original.

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use updp_exec::Executor;
use updp_ir::{Model, Tensor};
use updp_passes::surgery;

use crate::activation_cache::ActivationCache;
use crate::error::TrainerError;
use crate::fit::floats;
use crate::run::{BatchSource, Runner};

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
}

impl Score {
    /// Degradation of `after` relative to this score, in points: the mean of the lost share of answers and the lost
    /// overlap, times 100. The overlap has less noise; answers are the number that users care about.
    #[must_use]
    pub fn degradation(&self, after: &Self) -> f64 {
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

    /// How close the network is to the original: the sum of agreement and overlap, 2 = identical. Labels do not count,
    /// so a network is fitted in the same way with and without them.
    #[must_use]
    pub fn fidelity(&self) -> f64 {
        self.agreement.unwrap_or(self.overlap) + self.overlap
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
    output: String,
    /// Output of the original for each batch.
    reference: Vec<Answer>,
    /// Class of each image of each batch.
    labels: Option<Vec<Vec<usize>>>,
}

/// Output of a network for a batch.
#[derive(Clone, Debug)]
struct Answer {
    /// Output elements, image by image.
    values: Vec<f32>,
    /// Number of elements per image.
    width: usize,
    /// Whether the elements are class scores: one number per class.
    is_classes: bool,
}

impl Evaluator {
    /// Runs the original over the images.
    ///
    /// # Errors
    /// T0002 when the original's output is not finite; T0003 when there is no output to compare; errors of running the
    /// model.
    pub fn new(
        runner: &Runner,
        original: &Model,
        source: impl BatchSource + 'static,
    ) -> Result<Self, TrainerError> {
        let mut executor = runner.open(original)?;
        let mut output = String::new();
        let mut reference = Vec::new();
        let mut labels: Option<Vec<Vec<usize>>> = Some(Vec::new());
        for batch in source.batches()? {
            let batch = batch?;
            let outputs = executor.run(&batch.inputs)?;
            if output.is_empty() {
                output = main_output(&outputs, batch.images()).ok_or(TrainerError::NoOutput)?;
            }
            let answer = Answer::of(&outputs, &output, batch.images())?;
            if answer.values.iter().any(|v| !v.is_finite()) {
                return Err(TrainerError::NotFinite { output });
            }
            reference.push(answer);
            labels = labels.and_then(|mut all| {
                all.push(batch.labels?);
                Some(all)
            });
        }
        if reference.is_empty() {
            return Err(TrainerError::TooFew { found: 0, needed: 1 });
        }
        // If labels exceed the classes of the model, they name other classes.
        let classes = reference.first().filter(|a| a.is_classes).map_or(0, |a| a.width);
        let labels = labels.filter(|all| all.iter().flatten().all(|label| *label < classes));
        Ok(Self { source: Box::new(source), output, reference, labels })
    }

    /// Whether accuracy can be computed.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Number of classes of the model; `None` if its output holds no class scores.
    #[must_use]
    pub fn classes(&self) -> Option<usize> {
        self.reference.first().filter(|answer| answer.is_classes).map(|answer| answer.width)
    }

    /// Number of images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.reference.iter().map(|answer| answer.values.len() / answer.width.max(1)).sum()
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
            self.add(&mut sums, at, &Answer::of(&outputs, &self.output, batch.images())?);
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

    fn add(&self, sums: &mut Sums, at: usize, answer: &Answer) {
        let labels = self.labels.as_ref().and_then(|all| all.get(at)).map(Vec::as_slice);
        if let Some(reference) = self.reference.get(at) {
            sums.add(reference, answer, labels);
        }
    }

    /// The score of a network that differs from the cached network only after the cut.
    ///
    /// # Errors
    /// Errors of cutting and running the model.
    pub fn score_from(
        &self,
        runner: &Runner,
        cache: &ActivationCache,
        model: &Model,
    ) -> Result<Score, TrainerError> {
        let (Some(cut), Some(values)) = (cache.cut(), cache.held_out()) else {
            return self.score(runner, model);
        };
        let tail = surgery::part_between(model, &[cut], &[&self.output])?;
        let mut executor = runner.open(&tail)?;
        let mut sums = Sums::default();
        for (at, value) in values.enumerate() {
            let inputs = IndexMap::from([(cut.to_owned(), value.clone())]);
            let outputs = executor.run(&inputs)?;
            let images = value.dims().first().copied().unwrap_or(0);
            self.add(&mut sums, at, &Answer::of(&outputs, &self.output, images)?);
        }
        Ok(sums.score(self.has_labels()))
    }

    /// The name of the compared output.
    #[must_use]
    pub fn output(&self) -> &str {
        &self.output
    }
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

impl Answer {
    fn of(
        outputs: &IndexMap<String, Tensor>,
        name: &str,
        images: usize,
    ) -> Result<Self, TrainerError> {
        let tensor = outputs.get(name).ok_or(TrainerError::NoOutput)?;
        let values = floats(tensor).ok_or(TrainerError::NoOutput)?.into_owned();
        let width = values.len() / images.max(1);
        Ok(Self { values, width, is_classes: tensor.dims().len() == 2 && width > 1 })
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

#[derive(Default)]
struct Sums {
    images: usize,
    right: usize,
    among_five: usize,
    has_many: bool,
    same: usize,
    overlap: f64,
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

/// `Σ min(p, q)` of the two class distributions.
fn overlap(old: &[f32], new: &[f32]) -> f64 {
    let (p, q) = (distribution(old), distribution(new));
    // The minimum of a number and NaN would return the number.
    if !p.iter().chain(&q).all(|share| share.is_finite()) {
        return 0.0;
    }
    p.iter().zip(&q).map(|(p, q)| p.min(*q)).sum()
}

/// The softmax of the row, or the row itself if it is a distribution already.
pub(crate) fn distribution(row: &[f32]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|v| f64::from(*v)).sum();
    if (sum - 1.0).abs() < 1e-3 && row.iter().all(|v| *v >= 0.0) {
        return row.iter().map(|v| f64::from(*v)).collect();
    }
    let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let powers: Vec<f64> = row.iter().map(|v| (f64::from(*v) - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

fn cosine(old: &[f32], new: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let norm = (dot(old, old) * dot(new, new)).sqrt();
    let cosine = if norm > 0.0 { dot(old, new) / norm } else { f64::from(old == new) };
    if cosine.is_finite() { cosine } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_one_for_the_same_classes_and_falls_with_the_difference() {
        let same = overlap(&[1.0, 2.0, 3.0], &[2.0, 3.0, 4.0]);
        assert!((same - 1.0).abs() < 1e-9);
        let near = overlap(&[1.0, 2.0, 3.0], &[1.0, 2.1, 2.9]);
        let far = overlap(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]);
        assert!(1.0 > near && near > far && far > 0.0);
        assert!((overlap(&[0.5, 0.5], &[0.25, 0.75]) - 0.75).abs() < 1e-6);
        assert_eq!(overlap(&[0.0, 1.0, 3.0], &[f32::NAN, 1.0, 1.0]), 0.0);
    }

    #[test]
    fn a_label_is_among_the_first_five_by_score_then_by_index() {
        let row = [0.0, 5.0, 4.0, 3.0, 2.0, 1.0, 2.0, f32::NAN];
        let among: Vec<usize> = (0..9).filter(|label| is_among_five(&row, *label)).collect();
        assert_eq!(among, [1, 2, 3, 4, 6]);
        assert!(is_among_five(&[1.0; 6], 4) && !is_among_five(&[1.0; 6], 5));
    }

    #[test]
    fn the_first_five_are_told_of_labels_and_more_than_ten_classes_only() {
        let answer = |width: usize| Answer {
            values: (0..2 * width).map(|at| (at % width) as f32).collect(),
            width,
            is_classes: true,
        };
        let score = |width: usize, has_labels: bool| {
            let mut sums = Sums::default();
            let labels = [width - 3, 0];
            sums.add(&answer(width), &answer(width), has_labels.then_some(&labels[..]));
            sums.score(has_labels)
        };
        let many = score(11, true);
        assert_eq!((many.accuracy, many.top5), (Some(0.0), Some(0.5)));
        assert_eq!((score(10, true).top5, score(11, false).top5), (None, None));
    }

    #[test]
    fn scores_kept_by_earlier_versions_are_read() {
        let kept = r#"{"images":3,"accuracy":0.5,"agreement":1.0,"overlap":0.25}"#;
        let score: Score = serde_json::from_str(kept).unwrap();
        assert_eq!((score.images, score.accuracy, score.top5), (3, Some(0.5), None));
    }
}
