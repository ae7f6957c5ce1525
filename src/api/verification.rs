//! Verification of a compilation: compares the written model with the reference, as a whole or part by part.

use updp_exec::ModelSource;
use updp_ir::DataPlacement;
use updp_passes::Log;
use updp_verify::{Oracle, Verification, VerifyError, regions};

use super::compile::{Job, VerificationStatus};
use super::{Error, Observer, Silent};
use crate::model_file::ModelFile;

impl Job<'_> {
    /// Verifies the written model unless that is unnecessary.
    pub(super) fn verified(
        &self,
        written: &ModelFile,
        rewrites: usize,
        is_unchanged: bool,
        observer: &mut dyn Observer,
    ) -> Result<(Option<Verification>, VerificationStatus), Error> {
        if !self.options.is_verified {
            return Ok((None, VerificationStatus::Skipped));
        }
        if is_unchanged {
            return Ok((None, VerificationStatus::Unchanged));
        }
        observer.progress("verifying the result", 0, 0);
        match self.verify(written.source.for_runtime(), rewrites) {
            // If the user gave input data, the verification must use it; it does not fall back to another comparison.
            Err(Error::Unverifiable { detail }) if self.options.input_data.arrays.is_empty() => {
                let (before, after) = (self.reference()?, &written.model);
                let (count, runtime) = (self.options.inputs, &self.options.runtime);
                match regions::compare(&before, after, count, runtime) {
                    Err(VerifyError::Unverifiable { detail: part }) => {
                        let detail = format!("{detail}; nor part by part: {part}");
                        Err(Error::Unverifiable { detail })
                    }
                    other => Ok((Some(other?), VerificationStatus::Local)),
                }
            }
            other => Ok((Some(other?), VerificationStatus::Passed)),
        }
    }

    pub(super) fn oracle(&self) -> Result<Oracle<'_>, Error> {
        let model = self.reference()?;
        let source = self.source.for_runtime();
        let (data, count) = (&self.options.input_data, self.options.inputs);
        Ok(Oracle::new(source, &model.graph, data, count, &self.options.runtime)?)
    }

    /// Compares the result with the reference by running both.
    fn verify(&self, result: ModelSource<'_>, rewrites: usize) -> Result<Verification, Error> {
        let oracle = self.oracle()?;
        let verification = oracle.compare(result)?;
        let Some(failure) = verification.failure() else { return Ok(verification) };
        let detail = match self.bisect(&oracle, rewrites) {
            Some(name) => {
                format!("{failure}; the first rewrite that makes the difference is {name}")
            }
            None => failure,
        };
        Err(Error::VerificationFailed { detail })
    }

    /// The first rewrite after which the outputs differ, found by bisection.
    fn bisect(&self, oracle: &Oracle<'_>, rewrites: usize) -> Option<String> {
        let differs = |count: usize| -> Option<(bool, Log)> {
            let mut model = self.reference().ok()?;
            let log = self.compile(&mut model, Some(count), &mut Silent).ok()?;
            let bytes = model.encode(&DataPlacement::Inline).ok()?.model_to_bytes();
            let is_passed =
                oracle.compare(ModelSource::Bytes(&bytes)).is_ok_and(|result| result.is_passed());
            Some((!is_passed, log))
        };
        let (mut good, mut bad) = (0, rewrites);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if differs(middle)?.0 { bad = middle } else { good = middle }
        }
        let (_, log) = differs(bad)?;
        log.rewrites.last().map(|rewrite| format!("{} at {:?}", rewrite.rule, rewrite.node))
    }
}
