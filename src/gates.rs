//! What a result is held against at the end: speed and size. It is written in any case.

use std::time::Duration;

use serde_json::{Value, json};
use updp_exec::{
    Budget, Executor, ModelSource, Optimizer, RuntimeOptions, batch_plan, input_specs, measure,
    sample_inputs,
};
use updp_ir::{DataPlacement, Graph};

use crate::api::shapes::fix_shapes;
use crate::error::CliError;
use crate::model_file::{ModelFile, Source};

/// Seconds to measure both models together.
const SECONDS: f64 = 4.0;

/// What a result is held against.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GateOptions {
    /// How many times as fast as the input model it has to be; below 1 it may be slower.
    pub min_speedup: Option<f64>,
    /// Bytes it may take, external data included.
    pub max_bytes: Option<u64>,
}

/// How a result stood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates {
    /// The speedup asked for, and the one measured.
    pub speedup: Option<(f64, f64)>,
    /// The bytes allowed, and those there are.
    pub bytes: Option<(u64, u64)>,
}

impl Gates {
    /// Measures what is asked for.
    ///
    /// # Errors
    /// C0009 when an input has no known shape, X codes when the model cannot be run.
    pub fn measure(
        options: &GateOptions,
        bytes: u64,
        speedup: impl FnOnce() -> Result<f64, CliError>,
    ) -> Result<Self, CliError> {
        let speedup = match options.min_speedup {
            Some(least) => Some((least, speedup()?)),
            None => None,
        };
        Ok(Self { speedup, bytes: options.max_bytes.map(|most| (most, bytes)) })
    }

    /// What was missed, in words.
    #[must_use]
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        // A speedup that is no number holds no gate.
        if let Some((least, found)) =
            self.speedup.filter(|(least, found)| found.is_nan() || found < least)
        {
            missed.push(format!("{found:.3} times as fast as the input model instead of {least}"));
        }
        if let Some((most, found)) = self.bytes.filter(|(most, found)| found > most) {
            missed.push(format!("{found} bytes instead of {most}"));
        }
        missed
    }

    /// For the report; `None` when nothing was asked for.
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
            "missed": self.missed(),
        }))
    }

    /// Gates that were held, in words; empty when there are none.
    #[must_use]
    pub fn held(&self) -> Vec<String> {
        let speed = self.speedup.filter(|(least, found)| found >= least);
        let speed = speed.map(|(least, found)| {
            format!("{found:.3} times as fast as the input model, at least {least} asked for")
        });
        let size = self.bytes.filter(|(most, found)| found <= most);
        let size = size.map(|(most, found)| format!("{found} bytes, at most {most} allowed"));
        speed.into_iter().chain(size).collect()
    }
}

/// How many times as fast the written model is as the input, both run in turns on the same drawn inputs, the runtime's
/// optimizer on; median of pairs.
///
/// # Errors
/// C0009 when an input has no known shape, X codes when a model cannot be run.
pub fn speedup(
    input: &Source,
    shapes: &[String],
    written: &ModelFile,
    batch: usize,
    runtime: &RuntimeOptions,
) -> Result<f64, CliError> {
    let mut before = if shapes.is_empty() {
        runtime.open(input.for_runtime(), Optimizer::All)?
    } else {
        let mut model = input.again()?;
        fix_shapes(shapes, &mut model)?;
        let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
        runtime.open(ModelSource::Bytes(&bytes), Optimizer::All)?
    };
    let mut after = runtime.open(written.source.for_runtime(), Optimizer::All)?;
    in_turns(&mut *before, &mut *after, &written.model.graph, batch)
}

fn in_turns(
    before: &mut dyn Executor,
    after: &mut dyn Executor,
    graph: &Graph,
    batch: usize,
) -> Result<f64, CliError> {
    let specs = input_specs(graph)
        .ok_or_else(|| CliError::Unverifiable { detail: "an input has no known shape".into() })?;
    let inputs = sample_inputs(&specs, 0, &batch_plan(&specs, batch))?;
    let budget = Budget::Time(Duration::from_secs_f64(SECONDS));
    let result = measure(&mut [before, after], &inputs, 3, budget)?;
    Ok(result.speedups.get(1).copied().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_hold_at_their_bounds_and_not_beyond_them() {
        let at = Gates { speedup: Some((1.5, 1.5)), bytes: Some((10, 10)) };
        assert!(at.missed().is_empty() && at.held().len() == 2);
        let beyond = Gates { speedup: Some((1.5, 1.499)), bytes: Some((10, 11)) };
        let missed = beyond.missed();
        assert_eq!(missed[0], "1.499 times as fast as the input model instead of 1.5");
        assert_eq!(missed[1], "11 bytes instead of 10");
        assert!(beyond.held().is_empty());
        let unknown = Gates { speedup: Some((0.5, f64::NAN)), bytes: None };
        assert_eq!((unknown.missed().len(), unknown.held().len()), (1, 0));
        assert!(Gates::default().json().is_none());
    }
}
