//! Constant expressions of a model, computed by a runtime.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use indexmap::IndexMap;
use updp_exec::{Device, ModelSource, Optimizer, RuntimeOptions};
use updp_ir::{DataPlacement, Model, Tensor};
use updp_passes::ConstantEvaluator;

type Outcome = Result<Vec<Tensor>, String>;

/// Computes constants on the processor, with the optimizer of the runtime off. Outcomes are kept, because rules
/// ask again in every round, also for what was refused.
pub(crate) struct RuntimeEvaluator {
    runtime: RuntimeOptions,
    outcomes: Mutex<BTreeMap<Bytes, Outcome>>,
}

impl RuntimeEvaluator {
    /// An evaluator that opens this runtime when it is first needed.
    pub(crate) fn new(runtime: &RuntimeOptions) -> Self {
        let runtime = RuntimeOptions { device: Device::Cpu, ..runtime.clone() };
        Self { runtime, outcomes: Mutex::default() }
    }

    fn run(&self, bytes: &Bytes) -> Outcome {
        let source = ModelSource::Bytes(bytes);
        let opened = self.runtime.open(source, Optimizer::Off);
        let mut session = opened.map_err(|error| error.to_string())?;
        let outputs = session.run(&IndexMap::new()).map_err(|error| error.to_string())?;
        Ok(outputs.into_values().collect())
    }
}

impl ConstantEvaluator for RuntimeEvaluator {
    fn evaluate(&self, model: &Model) -> Outcome {
        let encoded = model.encode(&DataPlacement::Inline).map_err(|error| error.to_string())?;
        let bytes = encoded.model_to_bytes();
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.entry(bytes).or_insert_with_key(|bytes| self.run(bytes)).clone()
    }
}
