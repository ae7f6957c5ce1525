//! Writes the training step of a network, its initial states, and the names of both.
//!
//!     write_step NETWORK STEP STATES [--batch N] [--smoothing S] [--target portable|cpu|cuda]
//!
//! SGD with momentum 0.9. STATES is a model without nodes whose initializers are called as the step's inputs. Each line printed
//! is a kind (`image`, `targets`, `learning_rate`, `loss`, `state`) and its names, tabs between: a state has its input and its
//! output.

use std::path::Path;
use std::process::ExitCode;

use updp_autodiff::step::{Objective, Optimizer};
use updp_autodiff::{StepSpec, Target, TrainingStep, lower};
use updp_ir::{Model, ModelBuilder};
use updp_testkit::{encode, read_model};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("write_step: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [network, step_path, states_path, options @ ..] = arguments else {
        return Err("expected NETWORK STEP STATES [--batch N] [--smoothing S] [--target T]".into());
    };
    let (mut batch, mut smoothing, mut target) = (None, 0.0, Target::Portable);
    for option in options.chunks(2) {
        match option {
            [name, value] if name == "--batch" => batch = Some(value.parse::<usize>()?),
            [name, value] if name == "--smoothing" => smoothing = value.parse::<f64>()?,
            [name, value] if name == "--target" => {
                target = match value.as_str() {
                    "portable" => Target::Portable,
                    "cpu" => Target::this_cpu(),
                    "cuda" => Target::Cuda,
                    _ => return Err(format!("unknown target {value:?}").into()),
                }
            }
            _ => return Err(format!("unknown option {option:?}").into()),
        }
    }
    let mut model = read_model(Path::new(network));
    if let Some(batch) = batch {
        rebatch(&mut model, batch)?;
    }
    let optimizer = Optimizer::Sgd { momentum: 0.9, nesterov: false };
    let spec = StepSpec { optimizer, ..StepSpec::new(Objective::Labels { smoothing }) };
    let mut step = TrainingStep::build(model, &spec)?;
    lower(&mut step.model, target)?;
    step.model.validate()?;
    std::fs::write(step_path, encode(&step.model))?;
    let mut states = ModelBuilder::new(17);
    for state in &step.states {
        states.initializer(&state.input, &state.initial);
    }
    std::fs::write(states_path, encode(&states.build()?))?;
    for name in &step.network_inputs {
        println!("image\t{name}");
    }
    if let Some(name) = &step.names.targets {
        println!("targets\t{name}");
    }
    println!("learning_rate\t{}", step.names.learning_rate);
    println!("loss\t{}", step.names.loss);
    for state in &step.states {
        println!("state\t{}\t{}", state.input, state.output);
    }
    Ok(())
}

/// Gives the first input another batch size; the rest of the shape must be fixed.
fn rebatch(model: &mut Model, batch: usize) -> Result<(), Box<dyn std::error::Error>> {
    let input = model.graph.required_inputs().next().ok_or("the network has no input")?;
    let declared = model.graph.value(input).declared();
    let shape = declared.and_then(|ty| ty.shape.as_ref()).ok_or("the input has no shape")?;
    let mut dims = vec![batch];
    for dim in &shape[1..] {
        dims.push(dim.known().ok_or("a dimension behind the batch is open")?);
    }
    model.graph.set_input_dims(input, &dims)?;
    Ok(())
}
