//! Peak memory and time of a training step in ONNX Runtime: `step_memory MODEL BATCH [--recompute] [--plain]`.
//!
//! One process measures one form, because the peak of a process never falls. `--plain` leaves out the form for this processor.

use std::error::Error;
use std::time::Instant;

use updp_autodiff::step::Objective;
use updp_autodiff::{StepSpec, Target, TrainingStep};
use updp_exec::{ModelSource, Options, StepSession};
use updp_ir::{DataPlacement, Model, Tensor, TensorType};
use updp_trainer::finetune::states_of;

/// Steps that are run.
const STEPS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let [path, batch, ..] = arguments.as_slice() else { return Err("MODEL BATCH".into()) };
    let bytes = std::fs::read(path)?.into();
    let mut model = Model::decode(bytes, &mut updp_ir::no_external_data)?;
    let input = model.graph.required_inputs().next().ok_or("the model has no input")?;
    let declared = model.graph.value(input).declared().and_then(|ty| ty.shape.clone());
    let mut dims: Vec<usize> =
        declared.unwrap_or_default().iter().map(|dim| dim.known().unwrap_or(1)).collect();
    *dims.first_mut().ok_or("the input has no batch")? = batch.parse()?;
    model.graph.set_input_dims(input, &dims)?;
    let spec = StepSpec::new(Objective::Labels { smoothing: 0.1 });
    let mut step = TrainingStep::build(model, &spec)?;
    if has("--recompute") {
        println!("{:?}", step.recompute()?);
    }
    let model =
        if has("--plain") { step.model.clone() } else { step.lowered(Target::this_cpu())?.0 };
    let states = states_of(&step);
    let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
    let before = peak_mib()?;
    let results = [step.names.loss.as_str(), step.names.gradient_norm.as_str()];
    let source = ModelSource::Bytes(&bytes);
    let mut session = StepSession::open(source, &Options::default(), &states, &results)?;
    let mut inputs = Vec::new();
    for name in session.input_names() {
        let value = step.model.graph.find(name).ok_or("an input without a value")?;
        let declared = step.model.graph.value(value).declared();
        let dims = declared.and_then(TensorType::known_dims).ok_or("an input of open size")?;
        let count = dims.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|at| (at * 37 % 101) as f32 / 1010.0).collect();
        inputs.push((name.to_owned(), Tensor::from_f32(dims, &values)?));
    }
    let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, t)| (name.as_str(), t)).collect();
    for _ in 0..STEPS {
        let start = Instant::now();
        let outputs = session.step(&given)?;
        let numbers: Vec<f64> = outputs.values().filter_map(Tensor::scalar_f64).collect();
        println!("{:.0} ms, loss and norm {numbers:?}", 1e3 * start.elapsed().as_secs_f64());
    }
    println!("peak {:.0} MiB, {before:.0} MiB before the session", peak_mib()?);
    Ok(())
}

/// The most memory this process had so far.
fn peak_mib() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM")).ok_or("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib / 1024.0)
}
