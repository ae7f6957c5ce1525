//! `finetune`: trains a model without changing its structure.

use std::path::{Path, PathBuf};

use serde_json::json;
use updp_autodiff::step::TrainingStep;
use updp_prune::work_folder;

use crate::api::prune::encode;
use crate::api::{self, FinetuneOptions, FinetuneReport};
use crate::cli::TrainArgs;
use crate::error::CliError;
use crate::interrupt;
use crate::listener::{Listener, Outcome};
use crate::model_file::is_pipe;
use crate::paint::Tone;
use crate::report_page::{self, Origin};
use crate::terminal::{self, Verbosity, note, say};
use crate::write;

/// Trains a model.
pub(super) fn run(arguments: &TrainArgs, listener: &mut Listener<'_>) -> Result<Outcome, CliError> {
    if arguments.verbosity() == Verbosity::Quiet {
        terminal::be_quiet();
    }
    let usage = |detail: &str| CliError::Usage { detail: detail.to_owned() };
    let target = arguments.output.as_ref().or(arguments.in_place.then_some(&arguments.model));
    let target = target.map(PathBuf::as_path);
    arguments.paths(target).check()?;
    let images = &arguments.images;
    let data = images.data.clone().ok_or_else(|| usage("training needs images: --data PATH"))?;
    let work = target.and_then(|target| images.work_folder(target));
    let options = FinetuneOptions {
        output: None,
        data,
        validation: images.val.clone(),
        preprocess: images.preprocess.clone(),
        expect_accuracy: images.expect_accuracy.map(|percent| percent / 100.0),
        use_of_data: images.config(),
        epochs: arguments.epochs.get(),
        training: arguments.training.config(),
        input_shapes: arguments.input_shape.clone(),
        freeze_weights: arguments.weights.options(),
        work: work.clone(),
        work_wait: images.work_wait(),
        runtime: arguments.runtime.options(),
    };
    let model = &arguments.model;
    if let Some(path) = &arguments.emit_step {
        let step = listener.during(|observer| api::training_step(model, &options, observer))?;
        write_step(path, &step)?;
    }
    if arguments.dry_run {
        let estimate =
            listener.during(|observer| api::estimate_finetune(model, &options, observer))?;
        listener.say(&format!(
            "dry run: nothing is written\n  images: {} to train with, {} to score by; before: {}\n  {}",
            estimate.training_images,
            estimate.validation_images,
            estimate.before,
            estimate.training.words("training")
        ));
        return Ok(Outcome::default());
    }
    let Some(target) = target else { return Ok(Outcome::default()) };
    // The result may replace the model.
    let page = arguments.report.as_ref().filter(|path| report_page::is_page(path));
    let origin = page.map(|_| Origin::of(&arguments.command_line).model("Input", model));
    if let Some(work) = &work {
        interrupt::keep(work);
    }
    // A folder that the user asked for is kept.
    let work = work.filter(|_| images.work.is_none());
    let report = listener.during(|observer| api::finetune(model, &options, observer));
    let report = report.inspect_err(|_| {
        if let Some(work) = &work {
            work_folder::remove_empty(work);
        }
    })?;
    if let Some(bytes) = &report.model {
        write::model(target, bytes)?;
    }
    if listener.prints() {
        tell(arguments, target, &report);
    }
    let document = json(arguments, target, &report);
    if let Some(path) = &arguments.report {
        let text = match origin {
            Some(origin) => self::page(arguments, target, &report, origin),
            None => format!("{document:#}\n"),
        };
        write::text(path, &text)?;
    }
    if let Some(work) = work {
        work_folder::remove(&work);
    }
    Ok(Outcome::of(document))
}

/// Prints the outcome of the training.
fn tell(arguments: &TrainArgs, target: &Path, report: &FinetuneReport) {
    if arguments.verbosity() == Verbosity::Quiet {
        return;
    }
    let FinetuneReport { before, trained, .. } = report;
    let (tensors, elements) = trained.parameters;
    let print = |text: &str| if is_pipe(target) { note(text) } else { say(text) };
    print(&format!(
        "trained {tensors} tensors of {elements} elements in {} steps\n  before: {before}\n  after:  {}",
        trained.steps, trained.score
    ));
    // The number that stands above decides: a better one is no loss, whatever the overlap says.
    let lost = 100.0 * before.answer_loss(&trained.score);
    if lost > 0.0 {
        print(&format!(
            "WARNING: the trained model is worse than the input model by {lost:.2} points on the held-out images; more images, more --epochs or a smaller --lr may help"
        ));
    }
    let name = if is_pipe(target) { String::new() } else { format!(" {}", target.display()) };
    let (tone, warned) = if lost > 0.0 { (Tone::Warning, ", 1 warning") } else { (Tone::Good, "") };
    let text = format!("wrote{name}: trained in {} steps{warned}", trained.steps);
    terminal::verdict(tone, &text, is_pipe(target));
}

/// The training as a page.
fn page(arguments: &TrainArgs, target: &Path, report: &FinetuneReport, origin: Origin) -> String {
    let origin = origin
        .model("Output", target)
        .threads(arguments.runtime.threads.map(usize::from))
        .fact("Preprocessing", &*arguments.images.preprocess);
    let names = (&*arguments.model.display().to_string(), &*target.display().to_string());
    let FinetuneReport { before, trained, .. } = report;
    report_page::trained(names, (*before, trained.score), trained.steps, &trained.course, &origin)
}

/// The training, schema `updp-train/1`.
fn json(arguments: &TrainArgs, target: &Path, report: &FinetuneReport) -> serde_json::Value {
    let FinetuneReport { before, trained, .. } = report;
    let (tensors, elements) = trained.parameters;
    json!({
        "schema": "updp-train/1",
        "model": arguments.model.display().to_string(),
        "output": target.display().to_string(),
        "before": before,
        "after": trained.score,
        "steps": trained.steps,
        "tensors": tensors,
        "parameters": elements,
        "images_per_second": trained.course.images_per_second,
        "epochs": trained.course.epochs,
        "course": trained.course.steps,
        "validations": trained.validations,
    })
}

/// Writes a step as a model, with the first state as defaults of its inputs. A file beside it describes the role of
/// each input and output.
fn write_step(path: &Path, step: &TrainingStep) -> Result<(), CliError> {
    let mut model = step.model.clone();
    for state in &step.states {
        if let Some(input) = model.graph.find(&state.input) {
            model.graph.set_default(input, state.initial.clone())?;
        }
    }
    let bytes = encode(&model)?;
    let states: Vec<_> = step
        .states
        .iter()
        .map(|state| {
            let kind = format!("{:?}", state.kind).to_lowercase();
            json!({
                "input": state.input,
                "output": state.output,
                "kind": kind,
                "source": state.source,
                "dims": state.initial.dims(),
            })
        })
        .collect();
    let description = json!({
        "schema": "updp-step/1",
        "network_inputs": step.network_inputs,
        "network_outputs": step.network_outputs,
        "targets": step.names.targets,
        "teachers": step.names.teachers,
        "features": step.names.features,
        "learning_rate": step.names.learning_rate,
        "step": step.names.step,
        "apply": step.names.apply,
        "share": step.names.share,
        "loss": step.names.loss,
        "correct": step.names.correct,
        "gradient_norm": step.names.gradient_norm,
        "states": states,
    });
    write::model(path, &bytes)?;
    write::text(&path.with_extension("json"), &format!("{description:#}\n"))?;
    terminal::remark(&format!(
        "training step: {}; what its inputs and outputs are: {}",
        path.display(),
        path.with_extension("json").display()
    ));
    Ok(())
}
