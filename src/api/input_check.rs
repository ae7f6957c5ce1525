//! The check of the input model on a few images, before any work.

use updp_exec::{Optimizer, RuntimeOptions};
use updp_ir::Model;
use updp_passes::surgery;
use updp_trainer::data::Dataset;
use updp_trainer::input_check::{CheckedInput, InputCheck, NearChance, Subject};
use updp_trainer::run::Runner;

use super::{Error, Observer, near};

/// What is asked of the input model before any work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InputCheckOptions {
    /// The least accuracy of the input model on the images, 0 to 1, within two standard errors; `None` = any.
    pub expect_accuracy: Option<f64>,
    /// Whether a model near chance is a warning instead of an error.
    pub allow_low_accuracy: bool,
}

/// Refuses names of initializers that are not trained if the model has no such initializer.
///
/// # Errors
/// C0001, with the name.
pub(super) fn refuse_unknown_frozen<'a>(
    model: &Model,
    frozen: impl IntoIterator<Item = &'a String>,
) -> Result<(), Error> {
    let graph = &model.graph;
    let is_constant = |node| graph.node(node).op_type() == "Constant";
    let is_known = |name: &str| {
        let value = graph.find(name);
        value.is_some_and(|value| match graph.producer(value) {
            Some((node, _)) => is_constant(node),
            None => graph.initializers().any(|known| known == value),
        })
    };
    match frozen.into_iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            let weights = graph.initializers().map(|value| graph.value(value).name());
            let near = near::matches(name, weights);
            let near = match near.as_slice() {
                [] => String::new(),
                near => format!("; near: {}", near.join(", ")),
            };
            Err(Error::Usage {
                detail: format!(
                    "--freeze: the model has no initializer {name:?}; an initializer is a weight, and not a node{near}"
                ),
            })
        }
    }
}

/// A model that is about to be checked.
pub(super) struct Checked<'a> {
    pub(super) model: &'a Model,
    /// Multiply-adds of the model.
    pub(super) macs: u64,
    /// The text of the preprocessing, or `auto`.
    pub(super) preprocess: &'a str,
    pub(super) seed: u64,
    pub(super) runtime: &'a RuntimeOptions,
}

impl Checked<'_> {
    /// Scores the model on a few images and says the score. The images are those of `validation` if it has labels, else
    /// those of `images`.
    ///
    /// # Errors
    /// T0007, T0008, T0009 for the score; T0109 for the preprocessing; errors of reading images and running models.
    pub(super) fn run(
        &self,
        images: &Dataset,
        validation: Option<&Dataset>,
        options: InputCheckOptions,
        observer: &mut dyn Observer,
    ) -> Result<CheckedInput, Error> {
        updp_trainer::use_threads(self.runtime.threads);
        let runner =
            Runner { runtime: self.runtime.runtime, options: self.runtime.session(Optimizer::All) };
        let mut model = self.model.clone();
        if model.graph.find(surgery::LAMBDA_INPUT).is_some() {
            surgery::fix_lambda(&mut model, 0.0)?;
        }
        let check = InputCheck {
            preprocess: self.preprocess,
            expected: options.expect_accuracy,
            near_chance: if options.allow_low_accuracy {
                NearChance::Warn
            } else {
                NearChance::Refuse
            },
            seed: self.seed,
            macs: self.macs,
        };
        let mut executor = runner.open(&model)?;
        let dataset = validation.filter(|images| images.has_labels()).unwrap_or(images);
        let mut subject = Subject { model: &model, executor: executor.as_mut(), dataset };
        Ok(check.run(&mut subject, observer)?)
    }
}
