//! A supernet in one session: every subnet is a λ.
//!
//! A supernet has every block in two flows, as it is and pruned, mixed by the graph input λ (`surgery::blend`). At λ of 0s and
//! 1s it is a subnet, so one session scores all of them. It has no statistics of its own: in supernets BatchNormalizations
//! that are left after preparing keep those of the input model, in training too ([`crate::tune::TuneSettings::is_sandwich`]), so
//! there is nothing to estimate anew for a subnet.

use indexmap::IndexMap;
use updp_exec::Executor;
use updp_ir::{Model, Tensor};
use updp_passes::surgery::LAMBDA_INPUT;

use crate::error::TrainerError;
use crate::judge::Judge;
use crate::outcome::Score;
use crate::run::Runner;

/// Scores of subnets.
pub struct Supernet<'a> {
    judge: &'a Judge<'a>,
    executor: Box<dyn Executor>,
}

impl<'a> Supernet<'a> {
    /// Opens a network with the inputs of the judge's original and [`LAMBDA_INPUT`].
    ///
    /// # Errors
    /// What encoding and the runtime refuse.
    pub fn open(
        runner: &Runner,
        judge: &'a Judge<'a>,
        network: &Model,
    ) -> Result<Self, TrainerError> {
        Ok(Self { judge, executor: runner.open(network)? })
    }

    /// The score of a subnet: λ, an entry a block, 1 = pruned.
    ///
    /// # Errors
    /// What running refuses, such as a λ of another length.
    pub fn score(&mut self, lambda: &[f32]) -> Result<Score, TrainerError> {
        let tensor = Tensor::from_f32(vec![lambda.len()], lambda)?;
        let more = IndexMap::from([(LAMBDA_INPUT.to_owned(), tensor)]);
        self.judge.score_in(self.executor.as_mut(), &more)
    }
}
