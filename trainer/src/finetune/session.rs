//! Runs the step in the runtime. It uses the form that is fast on the device if a check shows that this form computes
//! the same result.

use updp_autodiff::Target;
use updp_autodiff::step::TrainingStep;
use updp_exec::{Device, ModelSource, Options, StateSpec, StepSession};
use updp_ir::{DataPlacement, DataType, Model, Tensor, TensorType};

use crate::error::TrainerError;
use crate::hash::Fnv;
use crate::train::TrainError;

/// Largest relative difference of loss and gradient norm between the two forms of a step.
const SAME: f64 = 1e-3;

/// The same limit for steps that compute in half precision.
const SAME_ROUNDED: f64 = 2e-2;

/// A step that can run.
pub(super) struct Opened {
    pub(super) session: StepSession,
    /// Hash of the model in the session.
    pub(super) hash: u64,
    /// Why the portable form is used although the device has a faster form.
    pub(super) notice: Option<String>,
}

/// Opens a step. It is lowered for the processor ([`Target::this_cpu`]), an NVIDIA card ([`Target::Cuda`]) or an AMD
/// card ([`Target::MiGraphX`]). The portable form runs once, then the lowered form runs once. The portable form is used
/// if the lowered one cannot be loaded or gives a different loss or gradient: the runtime alone decides the layout of
/// its operators. MIGraphX compiles for minutes, so there the processor supplies the reference loss and gradient.
///
/// # Errors
/// T0311 when MIGraphX does not accept the step in any form, T0402 when it computes something else, and the errors of
/// the session.
pub(super) fn open(
    options: &Options,
    is_rounded: bool,
    step: &TrainingStep,
    states: &[StateSpec],
    results: &[&str],
) -> Result<Opened, TrainerError> {
    let on = |model: &Model, options: &Options| -> Result<(StepSession, u64), TrainerError> {
        let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
        let session = StepSession::open(ModelSource::Bytes(&bytes), options, states, results)?;
        Ok((session, Fnv::of(&bytes)))
    };
    let session = |model: &Model| on(model, options);
    let target = match options.device {
        Device::Cpu => Target::this_cpu(),
        Device::Cuda | Device::TensorRt => Target::Cuda,
        Device::MiGraphX => Target::MiGraphX,
    };
    let (lowered, replaced) = step.lowered(target)?;
    if replaced == 0 {
        let (session, hash) = session(&step.model)?;
        return Ok(Opened { session, hash, notice: None });
    }
    let judging = match options.device {
        Device::MiGraphX => Options { device: Device::Cpu, ..options.clone() },
        _ => options.clone(),
    };
    let (mut portable, _) = on(&step.model, &judging)?;
    let initial = portable.state()?;
    let expected = probe(&mut portable, step)?;
    // Both forms together would take twice the memory, and the portable form is rarely needed again.
    drop(portable);
    let reason = match session(&lowered) {
        Ok((mut session, hash)) => {
            let found = probe(&mut session, step)?;
            let bound = if is_rounded { SAME_ROUNDED } else { SAME };
            // The first loss scale may be too large in both forms.
            let is_same =
                |(a, b): (&f64, &f64)| a == b || (a - b).abs() <= bound * a.abs().max(1e-6);
            if expected.iter().zip(&found).all(is_same) {
                session.set_state(&initial)?;
                return Ok(Opened { session, hash, notice: None });
            }
            format!("it gives {found:?} instead of {expected:?}")
        }
        // On MIGraphX the portable form would remain unchecked: nothing else could be compared with the processor.
        Err(error) if target == Target::MiGraphX => return Err(error),
        Err(error) => error.to_string(),
    };
    if target == Target::MiGraphX {
        let detail = format!("is computed otherwise on this device: {reason}");
        return Err(TrainError::Step { detail }.into());
    }
    let notice = format!("the step for this device is not used, the portable one is: {reason}");
    let (portable, hash) = session(&step.model)?;
    Ok(Opened { session: portable, hash, notice: Some(notice) })
}

/// Loss and gradient norm of one run with fixed numbers.
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
    let numbers = [&step.names.loss, &step.names.gradient_norm].into_iter();
    Ok(numbers.filter_map(|name| outputs.get(name)?.scalar_f64()).collect())
}

#[cfg(test)]
mod tests {
    use updp_autodiff::StepSpec;
    use updp_autodiff::step::Objective;
    use updp_ir::{ModelBuilder, Node};
    use updp_testkit::{find_ort, known, skip, tensor};

    use super::super::states_of;
    use super::*;

    /// The step of a layer that follows one operator on the images.
    fn step(opset: i64, node: Node) -> TrainingStep {
        let mut builder = ModelBuilder::new(opset);
        builder.input("images", DataType::Float, &known(&[4, 1, 6, 6]));
        builder.node(node.named("it"), &["images"], &["y"]);
        builder.node(Node::new("GlobalAveragePool"), &["y"], &["mean"]);
        builder.node(Node::new("Flatten"), &["mean"], &["flat"]);
        builder.initializer("weight", &tensor(DataType::Float, &[1, 3], &[0.1, -0.2, 0.3]));
        builder.node(Node::new("MatMul"), &["flat", "weight"], &["scores"]);
        builder.output("scores", DataType::Float, None);
        let spec = StepSpec::new(Objective::Labels { smoothing: 0.0 });
        TrainingStep::build(builder.build().unwrap(), &spec).unwrap()
    }

    #[test]
    fn a_step_for_migraphx_is_lowered_and_judged_before_its_library_is_asked_for() {
        if find_ort().is_none() {
            return skip("a_step_for_migraphx", "no ONNX Runtime");
        }
        let pool =
            Node::new("MaxPool").with("kernel_shape", vec![4, 4]).with("strides", vec![4, 4]);
        let cases = [
            // Nodes that MIGraphX does not document are named, whatever libraries exist.
            (step(22, pool.with("ceil_mode", 1_i64)), "T0311"),
            // A step with a form runs on the processor first; the library here has no MIGraphX.
            (step(20, Node::new("Gelu")), "X0201"),
        ];
        for (step, code) in cases {
            let states = states_of(&step);
            let options =
                Options { library: find_ort(), device: Device::MiGraphX, ..Options::default() };
            let results = [step.names.loss.as_str(), step.names.gradient_norm.as_str()];
            let error =
                open(&options, false, &step, &states, &results).err().map(|error| error.code());
            assert_eq!(error, Some(code));
        }
    }
}
