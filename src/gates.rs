//! The gates that a result must pass at the end: speed and size. The result is written in any case.

use std::time::Duration;

use serde_json::{Value, json};
use updp_exec::{
    Budget, ModelSource, Optimizer, RuntimeOptions, batch_plan, combined, input_specs, measure,
    sample_inputs,
};
use updp_ir::DataPlacement;

use crate::api::shapes::fix_shapes;
use crate::error::CliError;
use crate::model_file::{ModelFile, Source};
use crate::score_command::{ScoreCommand, ScorePair};

/// Time for measuring both models together, in seconds.
const SECONDS: f64 = 4.0;
/// Sessions of each model.
const SESSIONS: usize = 6;

/// The gates for a result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateOptions {
    /// The speedup over the input model that the result must reach; below 1 the result may be slower.
    pub min_speedup: Option<f64>,
    /// The size that the result may have, in bytes, including external data.
    pub max_bytes: Option<u64>,
    /// A command that scores the input model and the result.
    pub score: Option<ScoreCommand>,
}

/// How a result compares with its gates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates {
    /// The requested speedup and the measured one.
    pub speedup: Option<(f64, f64)>,
    /// The allowed size and the actual size, in bytes.
    pub bytes: Option<(u64, u64)>,
    /// The scores of the user's command.
    pub score: Option<ScorePair>,
}

impl Gates {
    /// Measures what the gates need.
    ///
    /// # Errors
    /// C0009 if an input has no known shape, X codes if the model cannot be run.
    pub fn measure(
        options: &GateOptions,
        bytes: u64,
        speedup: impl FnOnce() -> Result<f64, CliError>,
        score: impl FnOnce(&ScoreCommand) -> Result<ScorePair, CliError>,
    ) -> Result<Self, CliError> {
        let score = options.score.as_ref().map(score).transpose()?;
        let speedup = match options.min_speedup {
            Some(least) => Some((least, speedup()?)),
            None => None,
        };
        Ok(Self { speedup, bytes: options.max_bytes.map(|most| (most, bytes)), score })
    }

    /// The missed gates, in words.
    #[must_use]
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        // A speedup that is not a number passes no gate.
        if let Some((least, found)) =
            self.speedup.filter(|(least, found)| found.is_nan() || found < least)
        {
            missed.push(format!("{found:.3} times as fast as the input model instead of {least}"));
        }
        if let Some((most, found)) = self.bytes.filter(|(most, found)| found > most) {
            missed.push(format!("{found} bytes instead of {most}"));
        }
        if let Some(score) = self.score.as_ref().filter(|score| score.is_missed()) {
            let most = score.max_drop.unwrap_or_default();
            missed.push(format!("{}, at most {most} may be lost", score.words()));
        }
        missed
    }

    /// The gates for the report; `None` if there are none.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        if *self == Self::default() {
            return None;
        }
        Some(json!({
            "min_speedup": self.speedup.map(|it| it.0),
            "speedup": self.speedup.map(|it| it.1),
            "max_bytes": self.bytes.map(|it| it.0),
            "bytes": self.bytes.map(|it| it.1),
            "score": self.score.as_ref().map(|it| json!({
                "command": it.command,
                "before": it.before,
                "after": it.after,
                "max_drop": it.max_drop,
            })),
            "missed": self.missed(),
        }))
    }

    /// The gates that the result passes, in words; empty if there are none.
    #[must_use]
    pub fn held(&self) -> Vec<String> {
        let speed = self.speedup.filter(|(least, found)| found >= least);
        let speed = speed.map(|(least, found)| {
            format!("{found:.3} times as fast as the input model, at least {least} asked for")
        });
        let size = self.bytes.filter(|(most, found)| found <= most);
        let size = size.map(|(most, found)| format!("{found} bytes, at most {most} allowed"));
        let score = self.score.as_ref().filter(|score| !score.is_missed()).map(ScorePair::words);
        speed.into_iter().chain(size).chain(score).collect()
    }
}

/// The speedup of the written model over the input. Both models run in turns on the same random inputs, with the
/// optimizer of the runtime on, in several sessions (`updp_exec::sessions`).
///
/// # Errors
/// C0009 if an input has no known shape, X codes if a model cannot be run.
pub fn speedup(
    input: &Source,
    shapes: &[String],
    written: &ModelFile,
    batch: usize,
    runtime: &RuntimeOptions,
) -> Result<f64, CliError> {
    let fixed = if shapes.is_empty() {
        None
    } else {
        let mut model = input.again()?;
        fix_shapes(shapes, &mut model)?;
        Some(model.encode(&DataPlacement::Inline)?.model_to_bytes())
    };
    let before = fixed.as_ref().map_or_else(|| input.for_runtime(), ModelSource::Bytes);
    let specs = input_specs(&written.model.graph)
        .ok_or_else(|| CliError::Unverifiable { detail: "an input has no known shape".into() })?;
    let inputs = sample_inputs(&specs, 0, &batch_plan(&specs, batch))?;
    let budget = Budget::Time(Duration::from_secs_f64(SECONDS / SESSIONS as f64));
    let mut measured = Vec::new();
    for _ in 0..SESSIONS {
        let mut before = runtime.open_fresh(before, Optimizer::All)?;
        let mut after = runtime.open_fresh(written.source.for_runtime(), Optimizer::All)?;
        measured.push(measure(&mut [before.as_mut(), after.as_mut()], &inputs, 3, budget)?);
    }
    Ok(combined(&measured).speedups.get(1).copied().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_hold_at_their_bounds_and_not_beyond_them() {
        let at = Gates { speedup: Some((1.5, 1.5)), bytes: Some((10, 10)), score: None };
        assert!(at.missed().is_empty() && at.held().len() == 2);
        let beyond = Gates { speedup: Some((1.5, 1.499)), bytes: Some((10, 11)), score: None };
        let missed = beyond.missed();
        assert_eq!(missed[0], "1.499 times as fast as the input model instead of 1.5");
        assert_eq!(missed[1], "11 bytes instead of 10");
        assert!(beyond.held().is_empty());
        let unknown = Gates { speedup: Some((0.5, f64::NAN)), ..Gates::default() };
        assert_eq!((unknown.missed().len(), unknown.held().len()), (1, 0));
        assert!(Gates::default().json().is_none());
    }
}
