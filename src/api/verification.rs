//! Verification of a compilation: compares the written model with the reference, as a whole or part by part.

use updp_exec::ModelSource;
use updp_ir::DataPlacement;
use updp_passes::Log;
use updp_verify::{Oracle, Parts, Silence, Verification, VerifyError, parts, regions};

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
        match self.verify(written, rewrites) {
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
            other => {
                let (verification, status) = other?;
                Ok((Some(verification), status))
            }
        }
    }

    pub(super) fn oracle(&self) -> Result<Oracle<'_>, Error> {
        let model = self.reference()?;
        let source = self.source.for_runtime();
        let (data, count) = (&self.options.input_data, self.options.inputs);
        Ok(Oracle::new(source, &model.graph, data, count, &self.options.runtime)?)
    }

    /// Compares the result with the reference: the outputs of both, and every changed part by itself.
    fn verify(
        &self,
        written: &ModelFile,
        rewrites: usize,
    ) -> Result<(Verification, VerificationStatus), Error> {
        let oracle = self.oracle()?;
        let mut verification = oracle.compare(written.source.for_runtime())?;
        // A part that no runtime can cut out is no fault of the result.
        verification.local = parts::compare(&self.reference()?, &written.model, &oracle).ok();
        let is_proved = verification.local.as_ref().is_some_and(Parts::is_proof);
        let status = match verification.failure() {
            None if self.is_in_vain(&verification, is_proved) => {
                let detail = verification.proves_nothing().unwrap_or_default();
                return Err(Error::ProvesNothing { detail });
            }
            None => VerificationStatus::Passed,
            Some(_) if verification.is_chaotic() && is_proved => VerificationStatus::Local,
            Some(detail) if verification.is_chaotic() => {
                return Err(Error::Chaotic { detail });
            }
            Some(detail) => {
                let place = self.bisect(&oracle, rewrites).map_or_else(String::new, |name| {
                    format!("; the first rewrite that makes the difference is {name}")
                });
                return Err(Error::VerificationFailed { detail: format!("{detail}{place}") });
            }
        };
        Ok((verification, status))
    }

    /// Whether the comparison proves nothing, and the inputs are to blame. Given inputs must prove something. A model may
    /// well answer drawn ones with one constant, but not with NaN only, unless its changed parts are proved.
    fn is_in_vain(&self, verification: &Verification, is_proved: bool) -> bool {
        let is_given = !self.options.input_data.arrays.is_empty();
        let is_constant = |why: Option<Silence>| why == Some(Silence::Constant);
        let is_excused =
            is_proved || verification.outputs.iter().any(|output| is_constant(output.silence));
        verification.proves_nothing().is_some() && (is_given || !is_excused)
    }

    /// The first rewrite after which the outputs differ, found by bisection.
    fn bisect(&self, oracle: &Oracle<'_>, rewrites: usize) -> Option<String> {
        let differs = |count: usize| -> Option<(bool, Log)> {
            let mut model = self.reference().ok()?;
            let log = self.compile(&mut model, Some(count), &mut Silent).ok()?;
            let bytes = model.encode(&DataPlacement::Inline).ok()?.model_to_bytes();
            let mut result = oracle.compare(ModelSource::Bytes(&bytes)).ok();
            if let Some(result) = &mut result {
                result.local = parts::compare(&self.reference().ok()?, &model, oracle).ok();
            }
            Some((result.is_none_or(|result| !result.is_passed()), log))
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
