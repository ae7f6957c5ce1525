//! Runs the training step of a network on one batch of drawn images, a step a line of its input, for `scripts/step_speed.py`.
//!
//!     step_speed NETWORK --batch N --threads N [--form portable|blocked|cpu] [--profile PREFIX]
//!
//! SGD with momentum 0.9, learning rate 0.01. `portable` is the step of standard operators, `blocked` has convolutions in
//! ONNX Runtime's blocked layout, `cpu` our operators as well: what a training on the processor runs. Prints the number of
//! nodes when it is ready, then after each step its loss. The images are those of the script: image, channel and pixel number i has
//! the value sin(0.7·i).

use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use updp_autodiff::step::{Objective, Optimizer};
use updp_autodiff::{StepSpec, Target, TrainingStep, lower};
use updp_exec::{ModelSource, Options, StateSpec, StepSession};
use updp_ir::{Model, Tensor, TensorType};
use updp_testkit::{encode, read_model};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("step_speed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What was typed.
struct Arguments {
    network: PathBuf,
    batch: usize,
    form: String,
    options: Options,
}

impl Arguments {
    fn of(arguments: &[String]) -> Result<Self, Failure> {
        let [network, options @ ..] = arguments else { return Err("expected NETWORK".into()) };
        let mut read = Self {
            network: network.into(),
            batch: 64,
            form: "cpu".to_owned(),
            options: Options::default(),
        };
        for option in options.chunks(2) {
            match option {
                [name, value] if name == "--batch" => read.batch = value.parse()?,
                [name, value] if name == "--form" => read.form.clone_from(value),
                [name, value] if name == "--threads" => {
                    read.options.threads = NonZeroUsize::new(value.parse()?);
                }
                [name, value] if name == "--profile" => read.options.profile = Some(value.into()),
                _ => return Err(format!("unknown option {option:?}").into()),
            }
        }
        Ok(read)
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let arguments = Arguments::of(arguments)?;
    let step = step(&arguments.network, arguments.batch)?;
    let target = Target::this_cpu();
    let model = match arguments.form.as_str() {
        "portable" => step.model.clone(),
        "blocked" => {
            let mut model = step.model.clone();
            lower(&mut model, target)?;
            model
        }
        "cpu" => step.lowered(target)?.0,
        form => return Err(format!("unknown form {form:?}").into()),
    };
    let states: Vec<StateSpec> = step.states.iter().map(state).collect();
    let bytes = encode(&model);
    let results = [step.names.loss.as_str()];
    let source = ModelSource::Bytes(&bytes);
    let mut session = StepSession::open(source, &arguments.options, &states, &results)?;
    let inputs = inputs(&step)?;
    let given: Vec<(&str, &Tensor)> =
        inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    println!("{}", model.graph.node_count());
    for line in std::io::stdin().lock().lines() {
        line?;
        let outputs = session.step(&given)?;
        let loss = outputs[&step.names.loss].scalar_f64().ok_or("the loss is no number")?;
        println!("{loss}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The step of the network with its batch.
fn step(network: &Path, batch: usize) -> Result<TrainingStep, Failure> {
    let mut model: Model = read_model(network);
    let input = model.graph.required_inputs().next().ok_or("the network has no input")?;
    let declared = model.graph.value(input).declared().and_then(TensorType::known_dims);
    let mut dims = declared.ok_or("the input has no known dims")?;
    dims[0] = batch;
    model.graph.set_input_dims(input, &dims)?;
    let optimizer = Optimizer::Sgd { momentum: 0.9, nesterov: false };
    let spec = StepSpec { optimizer, ..StepSpec::new(Objective::Labels { smoothing: 0.0 }) };
    Ok(TrainingStep::build(model, &spec)?)
}

fn state(state: &updp_autodiff::step::State) -> StateSpec {
    StateSpec {
        input: state.input.clone(),
        output: state.output.clone(),
        initial: state.initial.clone(),
    }
}

/// Images, labels one class after another, and the learning rate.
fn inputs(step: &TrainingStep) -> Result<Vec<(String, Tensor)>, Failure> {
    let dims = |name: &str| {
        let value = step.model.graph.find(name)?;
        step.model.graph.value(value).declared().and_then(TensorType::known_dims)
    };
    let images = step.network_inputs.first().ok_or("the network has no input")?;
    let image = dims(images).ok_or("the images have no known dims")?;
    let values: Vec<f32> =
        (0..image.iter().product::<usize>()).map(|at| (0.7 * at as f64).sin() as f32).collect();
    let labels = step.names.targets.as_ref().ok_or("the step has no labels")?;
    let label = dims(labels).ok_or("the labels have no known dims")?;
    let is_own = |at: usize| at % label[1] == (at / label[1]) % label[1];
    let ones: Vec<f32> =
        (0..label[0] * label[1]).map(|at| f32::from(u8::from(is_own(at)))).collect();
    Ok(vec![
        (images.clone(), Tensor::from_f32(image, &values)?),
        (labels.clone(), Tensor::from_f32(label.clone(), &ones)?),
        (step.names.learning_rate.clone(), Tensor::from_f32(Vec::new(), &[0.01])?),
    ])
}
