//! Scores the input model before any work, and finds the preprocessing that fits it.
//!
//! A few images are enough, so this takes seconds. A model near chance is refused, because all later work would be for
//! nothing; the error lists what the known preprocessings give. Each is tried on a part of the images first, and the
//! best ones on all of them.

mod candidates;
mod score;

use updp_exec::Executor;
use updp_ir::Model;

pub use score::InputScore;

use serde::Serialize;

use crate::data::{DataError, Dataset, Preprocess};
use crate::error::TrainerError;
use crate::images::Images;
use crate::observer::Observer;

/// The value of `--preprocess` that asks for a choice.
const AUTO: &str = "auto";

/// Multiply-adds of one scoring. This takes about two seconds on two cores.
const SCORE_MACS: u64 = 80_000_000_000;

/// Fewest and most images of one scoring.
const IMAGES: (u64, u64) = (32, 200);

/// Most images if an accuracy is expected: more images decide with a smaller error.
const MOST_EXPECTED: u64 = 500;

/// Images of the first round of a choice, as a part of all.
const FIRST_ROUND: usize = 3;

/// Number of preprocessings in the second round of a choice, before the variants of the best one.
const SECOND_ROUND: usize = 3;

/// With fewer images, accuracy says too little to refuse a model.
const FEWEST_TO_REFUSE: usize = 10;

/// Below this share of the possible accuracy beyond chance, a model is near chance.
const NEAR_CHANCE: f64 = 0.1;

/// Below this share, other preprocessings are tried, and a better one is a warning.
const LOW: f64 = 0.3;

/// Without labels, a class for more than this share of the images is a warning.
const MOST_FREQUENT: f64 = 0.9;

/// The preprocessing that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum PreprocessChoice {
    /// This one.
    Given(Preprocess),
    /// The one with the highest accuracy.
    Auto,
}

impl PreprocessChoice {
    /// Reads `auto`, or what [`Preprocess::parse`] reads.
    ///
    /// # Errors
    /// T0109.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        if text == AUTO {
            return Ok(Self::Auto);
        }
        Preprocess::parse(text).map(Self::Given)
    }
}

/// Whether an accuracy, 0 to 1, is near chance for this number of classes: below `0.1 + 0.9 / classes`.
#[must_use]
pub fn is_near_chance(accuracy: f64, classes: usize) -> bool {
    accuracy < NEAR_CHANCE + (1.0 - NEAR_CHANCE) / classes as f64
}

/// What a model near chance means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NearChance {
    /// An error.
    #[default]
    Refuse,
    /// A warning: the model is to be trained, or someone asked to go on.
    Warn,
}

/// What is asked of the input model.
#[derive(Clone, Debug, PartialEq)]
pub struct InputCheck<'a> {
    /// `auto`, or the text of a preprocessing.
    pub preprocess: &'a str,
    /// The least accuracy, 0 to 1, within two standard errors; `None` = any.
    pub expected: Option<f64>,
    /// What a model near chance means.
    pub near_chance: NearChance,
    /// Seed that draws the images.
    pub seed: u64,
    /// Multiply-adds of the model for one image; they decide how many images are used.
    pub macs: u64,
}

/// A model with its images.
pub struct Subject<'a> {
    /// The model; its input says what images it takes.
    pub model: &'a Model,
    /// The model, loaded.
    pub executor: &'a mut dyn Executor,
    /// The images.
    pub dataset: &'a Dataset,
}

/// A preprocessing that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Its text, as `--preprocess` takes it.
    pub preprocess: String,
    /// Number of images.
    pub images: usize,
    /// Share of them whose label is the first class, 0 to 1.
    pub accuracy: f64,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckedInput {
    /// The text of the preprocessing, as `--preprocess` takes it.
    pub preprocess: String,
    /// The score of the input model; `None` if its output holds no class scores.
    pub score: Option<InputScore>,
    /// The preprocessings that were tried, the best first; empty if none was.
    pub tried: Vec<Trial>,
    /// The preprocessing.
    #[serde(skip)]
    pub chosen: Preprocess,
}

/// A preprocessing with its text and the model's score.
struct Tried {
    text: String,
    preprocess: Preprocess,
    score: InputScore,
}

impl Tried {
    fn accuracy(&self) -> f64 {
        self.score.accuracy.unwrap_or(0.0)
    }

    fn trial(&self) -> Trial {
        Trial {
            preprocess: self.text.clone(),
            images: self.score.images,
            accuracy: self.accuracy(),
        }
    }
}

impl InputCheck<'_> {
    /// Scores the model, says the score, and chooses the preprocessing if `auto` is asked for.
    ///
    /// # Errors
    /// T0007 for a model near chance, T0008 for one below the expected accuracy, T0009 where labels are needed and there
    /// are none; T0109 for the preprocessing; errors of reading the images and of running the model.
    pub fn run(
        &self,
        subject: &mut Subject<'_>,
        observer: &mut dyn Observer,
    ) -> Result<CheckedInput, TrainerError> {
        if self.expected.is_some() && !subject.dataset.has_labels() {
            return Err(needs_labels("--expect-accuracy", "the images have none"));
        }
        let checked = match PreprocessChoice::parse(self.preprocess)? {
            PreprocessChoice::Given(preprocess) => self.given(preprocess, subject, observer)?,
            PreprocessChoice::Auto => self.auto(subject, observer)?,
        };
        self.hold(&checked)?;
        Ok(checked)
    }

    fn given(
        &self,
        preprocess: Preprocess,
        subject: &mut Subject<'_>,
        observer: &mut dyn Observer,
    ) -> Result<CheckedInput, TrainerError> {
        let drawn = subject.dataset.sample(self.count(), self.seed);
        let score = score(subject, &drawn, &preprocess, "scoring the input model", observer)?;
        let mut checked = CheckedInput {
            preprocess: self.preprocess.to_owned(),
            score,
            tried: Vec::new(),
            chosen: preprocess.clone(),
        };
        let Some(score) = checked.score.clone() else {
            observer
                .message("input model: its output is no row of class scores, so it is not scored");
            return Ok(checked);
        };
        observer.message(&format!("input model: {score}"));
        let Some(beyond) = score.beyond_chance() else {
            if score.images >= IMAGES.0 as usize && score.most_frequent > MOST_FREQUENT {
                observer.warning(&format!(
                    "the input model predicts one class for {:.0} % of the images; a wrong --preprocess is the usual cause",
                    100.0 * score.most_frequent
                ));
            }
            return Ok(checked);
        };
        if beyond < LOW && score.images >= FEWEST_TO_REFUSE {
            let own = Tried { text: self.preprocess.to_owned(), preprocess, score: score.clone() };
            let tried = self.tried(subject, Some(own), observer)?;
            checked.tried = tried.iter().map(Tried::trial).collect();
            self.judge(&score, &tried, observer)?;
        }
        Ok(checked)
    }

    /// Takes the preprocessing with the highest accuracy.
    fn auto(
        &self,
        subject: &mut Subject<'_>,
        observer: &mut dyn Observer,
    ) -> Result<CheckedInput, TrainerError> {
        if !subject.dataset.has_labels() {
            return Err(needs_labels("--preprocess auto", "the images have none"));
        }
        let tried = self.tried(subject, None, observer)?;
        let Some(best) = tried.first() else {
            let detail =
                "the model's output is no row of class scores, or the labels are of other classes";
            return Err(needs_labels("--preprocess auto", detail));
        };
        if tried.len() == 1 {
            observer.message("every preprocessing gives the same: the images are floats, which are inputs already");
        }
        observer.message(&format!("preprocessings tried: {}", told(&tried)));
        observer.message(&format!("--preprocess {} is taken: {}", best.text, best.score));
        let near: Vec<&str> = tried
            .iter()
            .skip(1)
            .filter(|it| it.score.images == best.score.images)
            .filter(|it| !best.score.is_clearly_above(&it.score))
            .map(|it| it.text.as_str())
            .collect();
        if !near.is_empty() {
            observer.warning(&format!(
                "on {} images {} may be as good as {}: the difference is within the noise",
                best.score.images,
                near.join(" and "),
                best.text
            ));
        }
        self.judge(&best.score, &tried, observer)?;
        Ok(CheckedInput {
            preprocess: best.text.clone(),
            score: Some(best.score.clone()),
            chosen: best.preprocess.clone(),
            tried: tried.iter().map(Tried::trial).collect(),
        })
    }

    /// Refuses a model near chance, and warns of a preprocessing that is clearly worse than another.
    fn judge(
        &self,
        score: &InputScore,
        tried: &[Tried],
        observer: &mut dyn Observer,
    ) -> Result<(), TrainerError> {
        let better = tried.first().filter(|best| {
            best.text != self.preprocess
                && best.score.images == score.images
                && best.score.is_clearly_above(score)
        });
        let is_near = score.accuracy.is_some_and(|share| is_near_chance(share, score.classes));
        if is_near && score.images >= FEWEST_TO_REFUSE {
            let error = TrainerError::NearChance {
                preprocess: self.preprocess.to_owned(),
                percent: format!("{:.1}", 100.0 * score.accuracy.unwrap_or(0.0)),
                images: score.images,
                classes: score.classes,
                tried: told(tried),
                better: better.map(|best| best.text.clone()),
            };
            if self.near_chance == NearChance::Refuse {
                return Err(error);
            }
            observer.warning(&error.to_string());
        } else if let Some(best) = better {
            observer.warning(&format!(
                "--preprocess {} has {:.1} % on the same images, and --preprocess {} {:.1} %",
                best.text,
                100.0 * best.accuracy(),
                self.preprocess,
                100.0 * score.accuracy.unwrap_or(0.0)
            ));
        }
        Ok(())
    }

    /// Holds the score against the expected accuracy.
    fn hold(&self, checked: &CheckedInput) -> Result<(), TrainerError> {
        let Some(expected) = self.expected else { return Ok(()) };
        let found = checked.score.as_ref().and_then(|score| Some((score.accuracy?, score.images)));
        let Some((accuracy, images)) = found else {
            let detail = "there are none that are classes of the model";
            return Err(needs_labels("--expect-accuracy", detail));
        };
        let tolerance = 2.0 * score::standard_error(expected, images);
        if accuracy + tolerance >= expected {
            return Ok(());
        }
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        Err(TrainerError::BelowExpected {
            percent: percent(accuracy),
            expected: percent(expected),
            tolerance: percent(tolerance),
            images,
            preprocess: checked.preprocess.clone(),
        })
    }

    /// Tries the known preprocessings, the best first. `own` has been scored already. Empty if accuracy is unknown.
    fn tried(
        &self,
        subject: &mut Subject<'_>,
        own: Option<Tried>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Tried>, TrainerError> {
        let channels = channels(subject)?;
        let all = subject.dataset.sample(self.count(), self.seed);
        let few = (all.len() / FIRST_ROUND).max(IMAGES.0 as usize);
        let few = subject.dataset.sample(few.min(all.len()), self.seed);
        let texts: Vec<String> = candidates::all(channels).into_iter().map(str::to_owned).collect();
        let mut tried = try_each(subject, &few, &texts, observer)?;
        sort(&mut tried);
        let best: Vec<String> = tried.iter().take(SECOND_ROUND).map(|it| it.text.clone()).collect();
        let Some(first) = best.first() else { return Ok(Vec::new()) };
        let again = [best.clone(), candidates::variants(first, channels)].concat();
        let mut second = try_each(subject, &all, &again, observer)?;
        let own = own.filter(|own| !second.iter().any(|it| it.text == own.text));
        second.extend(own);
        sort(&mut second);
        tried.retain(|it| !second.iter().any(|better| better.text == it.text));
        second.extend(tried);
        Ok(second)
    }

    /// Number of images of one scoring.
    fn count(&self) -> usize {
        let most = if self.expected.is_some() { MOST_EXPECTED } else { IMAGES.1 };
        let budget = if self.expected.is_some() { 4 * SCORE_MACS } else { SCORE_MACS };
        (budget / self.macs.max(1)).clamp(IMAGES.0, most) as usize
    }
}

/// The highest accuracy first; equal ones keep their order.
fn sort(tried: &mut [Tried]) {
    tried.sort_by(|a, b| b.accuracy().total_cmp(&a.accuracy()));
}

fn needs_labels(option: &'static str, detail: &str) -> TrainerError {
    TrainerError::NoLabels { option, detail: detail.to_owned() }
}

/// The preprocessings with their accuracies, in one sentence.
fn told(tried: &[Tried]) -> String {
    let most = tried.first().map_or(0, |first| first.score.images);
    let each = tried.iter().map(|it| {
        let images = it.score.images;
        let on = if images == most { String::new() } else { format!(" (on {images})") };
        format!("{} {:.1} %{on}", it.text, 100.0 * it.accuracy())
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Channels of the images that the model takes.
fn channels(subject: &Subject<'_>) -> Result<usize, TrainerError> {
    // The size does not matter here, so a preset with any size will do.
    let preset = Preprocess { size: Some((1, 1)), ..Preprocess::parse("unit")? };
    let images = Images::new(subject.model, subject.dataset.sample(1, 0), &preset)?;
    Ok(images.spec().channels)
}

/// Scores each preprocessing that fits the model; without accuracy nothing is returned.
fn try_each(
    subject: &mut Subject<'_>,
    images: &Dataset,
    texts: &[String],
    observer: &mut dyn Observer,
) -> Result<Vec<Tried>, TrainerError> {
    let mut tried = Vec::new();
    for (text, preprocess) in texts.iter().filter_map(|text| candidates::parsed(text)) {
        let what = format!("trying --preprocess {text}");
        match score(subject, images, &preprocess, &what, observer) {
            // The same inputs again: images that need no resizing, or floats that are inputs already.
            Ok(Some(score)) if tried.iter().any(|it: &Tried| it.score == score) => {}
            Ok(Some(score)) if score.accuracy.is_some() => {
                tried.push(Tried { text, preprocess, score });
            }
            Ok(_) => return Ok(Vec::new()),
            Err(TrainerError::Data(
                DataError::DoesNotFit { .. } | DataError::SizeUnknown { .. },
            )) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tried)
}

fn score(
    subject: &mut Subject<'_>,
    images: &Dataset,
    preprocess: &Preprocess,
    what: &str,
    observer: &mut dyn Observer,
) -> Result<Option<InputScore>, TrainerError> {
    let total = images.len();
    observer.progress(what, 0, total);
    let images = Images::new(subject.model, images.clone(), preprocess)?;
    InputScore::of(subject.executor, &images, &mut |done| observer.progress(what, done, total))
}

#[cfg(test)]
mod tests;
