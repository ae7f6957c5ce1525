//! The step in the runtime, in the form that the device runs fast where that is proved to compute the same.

use updp_autodiff::Target;
use updp_autodiff::step::TrainingStep;
use updp_exec::{Device, ModelSource, Options, StateSpec, StepSession};
use updp_ir::{DataPlacement, DataType, Model, Tensor, TensorType};

use crate::error::TrainerError;
use crate::hash::Fnv;
use crate::train::TrainError;

/// Largest relative difference of loss and gradient norm between both forms of a step.
const SAME: f64 = 1e-3;

/// A step that can run.
pub(super) struct Opened {
    pub(super) session: StepSession,
    /// Hash of the model in the session.
    pub(super) hash: u64,
    /// Why it is the portable form although the device has a faster one.
    pub(super) notice: Option<String>,
}

/// Opens a step. It is lowered for the processor ([`Target::this_cpu`]) or a card of NVIDIA ([`Target::Cuda`]) and run once, after the
/// portable form, which is
/// taken where the other one cannot be loaded or gives another loss or gradient: the layout of its operators is a matter of the
/// runtime's own.
pub(super) fn open(
    options: &Options,
    step: &TrainingStep,
    states: &[StateSpec],
    results: &[&str],
) -> Result<Opened, TrainerError> {
    let session = |model: &Model| -> Result<(StepSession, u64), TrainerError> {
        let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
        let session = StepSession::open(ModelSource::Bytes(&bytes), options, states, results)?;
        Ok((session, Fnv::of(&bytes)))
    };
    let (mut portable, hash) = session(&step.model)?;
    let target = match options.device {
        Device::Cpu => Target::this_cpu(),
        Device::Cuda | Device::TensorRt => Target::Cuda,
        Device::MiGraphX => Target::Portable,
    };
    let (lowered, replaced) = step.lowered(target)?;
    if replaced == 0 {
        return Ok(Opened { session: portable, hash, notice: None });
    }
    let initial = portable.state()?;
    let expected = probe(&mut portable, step)?;
    // Both at once would take twice the memory, and the portable one is hardly ever needed again.
    drop(portable);
    let reason = match session(&lowered) {
        Ok((mut session, hash)) => {
            let found = probe(&mut session, step)?;
            let is_same = |(a, b): (&f64, &f64)| (a - b).abs() <= SAME * a.abs().max(1e-6);
            if expected.iter().zip(&found).all(is_same) {
                session.set_state(&initial)?;
                return Ok(Opened { session, hash, notice: None });
            }
            format!("it gives {found:?} instead of {expected:?}")
        }
        Err(error) => error.to_string(),
    };
    let notice = format!("the step for this device is not used, the portable one is: {reason}");
    let (portable, hash) = session(&step.model)?;
    Ok(Opened { session: portable, hash, notice: Some(notice) })
}

/// Loss and gradient norm of one run on fixed numbers.
fn probe(session: &mut StepSession, step: &TrainingStep) -> Result<Vec<f64>, TrainerError> {
    let mut inputs = Vec::new();
    let graph = &step.model.graph;
    for name in session.input_names() {
        let declared = graph.find(name).and_then(|value| graph.value(value).declared());
        let dims =
            declared.filter(|ty| ty.dtype == DataType::Float).and_then(TensorType::known_dims);
        let dims = dims.ok_or_else(|| TrainError::Step {
            detail: format!("takes {name:?}, which is no f32 of known size"),
        })?;
        let count = dims.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|at| (at * 37 % 101) as f32 / 101.0).collect();
        inputs.push((name.to_owned(), Tensor::from_f32(dims, &values)?));
    }
    let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, t)| (name.as_str(), t)).collect();
    let outputs = session.step(&given)?;
    let numbers = [&step.loss, &step.gradient_norm].into_iter();
    Ok(numbers.filter_map(|name| outputs.get(name)?.scalar_f64()).collect())
}
