//! Connects the loop to the caller: the teacher runs before each step, the evaluator after each epoch.

use indexmap::IndexMap;
use updp_autodiff::step::{Settled, TrainingStep};
use updp_exec::Executor;
use updp_ir::{Model, Tensor};
use updp_passes::surgery::{self, LAMBDA_INPUT};

use super::diagnosis::activations;
use super::history::History;
use super::{FinetuneSettings, Finetuning};
use crate::error::TrainerError;
use crate::evaluator::Score;
use crate::observer::{Observer, TrainingEvent};
use crate::train::error::Activations;
use crate::train::sandwich::sandwich;
use crate::train::{Hooks, Point, Progress, TrainError};

/// A training that is watched.
pub(super) struct Watch<'a> {
    pub(super) finetuning: &'a Finetuning<'a>,
    /// The trained network in its state before training.
    pub(super) network: &'a Model,
    pub(super) step: &'a TrainingStep,
    /// Name of the image input, which is the same in the network and the teacher.
    pub(super) input: &'a str,
    pub(super) teacher: Option<Taught>,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) history: History,
    /// The network after the last epoch, with its score.
    pub(super) last: Option<(Model, Score)>,
}

/// The teacher of a training.
pub(super) struct Taught {
    pub(super) executor: Box<dyn Executor>,
    /// Names of each value that is matched in the teacher, and of the step's input that takes it.
    pub(super) features: Vec<(String, String)>,
}

impl Watch<'_> {
    /// The network with these states, and its score.
    pub(super) fn scored(
        &mut self,
        state: &IndexMap<String, Tensor>,
        which: Settled,
    ) -> Result<(Model, Score), TrainerError> {
        let Finetuning { evaluator, runner, .. } = *self.finetuning;
        let network = self.step.settle(self.network.clone(), state, which)?;
        self.observer.training(TrainingEvent::Evaluating);
        let mut final_network = network.clone();
        // Sets λ to its final value. A network without λ is unchanged.
        surgery::settle(&mut final_network)?;
        let score = evaluator.score(runner, &final_network)?;
        Ok((network, score))
    }

    /// The teacher's outputs for the images, as inputs of the step; nothing without a teacher.
    fn taught(&mut self, images: &Tensor) -> Result<IndexMap<String, Tensor>, TrainerError> {
        let Some(teacher) = &mut self.teacher else { return Ok(IndexMap::new()) };
        let inputs = IndexMap::from([(self.input.to_owned(), images.clone())]);
        let mut given = teacher.executor.run(&inputs)?;
        let features = teacher.features.iter();
        let features: Vec<(String, Tensor)> = features
            .filter_map(|(value, input)| Some((input.clone(), given.shift_remove(value)?)))
            .collect();
        let outputs = given.into_values().filter(|tensor| tensor.dtype().is_foldable_float());
        let mut named: IndexMap<String, Tensor> =
            self.step.names.teachers.iter().cloned().zip(outputs).collect();
        if named.len() < self.step.names.teachers.len() {
            let detail = "wants more outputs of a teacher than the teacher has".to_owned();
            return Err(TrainError::Step { detail }.into());
        }
        named.extend(features);
        Ok(named)
    }
}

impl Hooks for Watch<'_> {
    fn progress(&mut self, progress: &Progress) {
        self.history.step(progress);
        self.observer.training(TrainingEvent::Step(progress));
    }

    fn notice(&mut self, text: &str) {
        self.observer.message(text);
    }

    fn is_stopped(&mut self) -> bool {
        self.observer.is_cancelled()
    }

    fn inputs(
        &mut self,
        images: &Tensor,
        point: &Point,
        batch: u64,
    ) -> Result<IndexMap<String, Tensor>, TrainerError> {
        let mut named = self.taught(images)?;
        let FinetuneSettings { is_sandwich, seed, pruned, .. } = self.finetuning.settings;
        if *is_sandwich {
            let lambda = sandwich(*seed, point.step, batch, pruned.len());
            named.insert(LAMBDA_INPUT.to_owned(), Tensor::from_f32(vec![lambda.len()], &lambda)?);
        }
        Ok(named)
    }

    fn validate(
        &mut self,
        state: &IndexMap<String, Tensor>,
        epoch: u64,
    ) -> Result<Option<f64>, TrainerError> {
        let (model, score) = self.scored(state, self.finetuning.settled())?;
        self.history.epoch(epoch, &score);
        self.observer.training(TrainingEvent::Epoch { epoch, score: &score });
        self.last = Some((model, score));
        Ok(Some(score.accuracy.or(score.agreement).unwrap_or(score.overlap)))
    }

    fn activations(&mut self, given: &IndexMap<String, Tensor>) -> Option<Activations> {
        // The reported error is always the error of the training, even if this diagnosis fails.
        activations(self.finetuning.runner, self.network, self.step, given).ok().flatten()
    }
}
