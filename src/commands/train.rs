//! `train`: the model as it is, trained on images.

use std::path::Path;

use serde_json::json;
use updp_autodiff::step::TrainingStep;
use updp_exec::Optimizer;
use updp_ir::Model;
use updp_passes::surgery;
use updp_trainer::data::{Dataset, Preprocess};
use updp_trainer::images::Images;
use updp_trainer::judge::Judge;
use updp_trainer::outcome::Score;
use updp_trainer::recovery::price;
use updp_trainer::run::{Feed, Runner};
use updp_trainer::train::End;
use updp_trainer::tune::{Tuned, Tuning};

use super::compile::fix_shapes;
use crate::cli::TrainArgs;
use crate::error::CliError;
use crate::model_file::{ModelFile, is_pipe};
use crate::prune::encode;
use crate::recover;
use crate::rehearsal::rehearse;
use crate::terminal::{self, Bar, Verbosity, note, say};
use crate::training::{self, Shown};
use crate::write;

/// Trains a model.
pub(super) fn run(arguments: &TrainArgs) -> Result<(), CliError> {
    if arguments.verbosity() == Verbosity::Quiet {
        terminal::be_quiet();
    }
    let usage = |detail: &str| CliError::Usage { detail: detail.to_owned() };
    let path = arguments.images.data.as_deref();
    let path = path.ok_or_else(|| usage("training needs images: --data PATH"))?;
    let ModelFile { mut model, .. } = ModelFile::open(&arguments.model)?;
    fix_shapes(&arguments.input_shape, &mut model)?;
    let has_lambda = model.graph.find(surgery::LAMBDA_INPUT).is_some();
    if has_lambda && (arguments.output.is_some() || arguments.dry_run) {
        return Err(usage(
            "an expanded network is trained while it is pruned: --blocks LIST --epochs N --method progressive; its step can be written with --emit-step",
        ));
    }
    let bar = Bar::new("reading data", 0);
    let preprocess = Preprocess::parse(&arguments.images.preprocess)?;
    let seed = arguments.images.seed;
    let (dataset, held_out) = Dataset::open(path)?.split(arguments.images.val_split, seed);
    let dataset = match arguments.images.images {
        Some(count) => dataset.sample(count.get(), seed),
        None => dataset,
    };
    let validation = match &arguments.images.val {
        Some(path) => Dataset::open(path)?,
        None => held_out,
    };
    updp_trainer::use_threads(arguments.runtime.threads);
    let (runtime, options) = arguments.runtime.split(Optimizer::All);
    let runner = Runner { runtime, options };
    bar.say("running the model");
    // What is trained; what is written has the batch of the input.
    let (model, written) = if has_lambda {
        (model, None)
    } else {
        (opened(&model, &runner, &dataset, &preprocess)?, Some(model))
    };
    let mut teacher = model.clone();
    if has_lambda {
        surgery::fix_lambda(&mut teacher, 0.0)?;
    }
    let feed = Images::new(&model, validation, &preprocess)?;
    let judge = Judge::new(&runner, &teacher, &feed)?;
    drop(bar);
    let images = Images::new(&model, dataset.clone(), &preprocess)?;
    let (epochs, work) = (arguments.epochs.get(), work(arguments));
    let mut settings = arguments.training.settings(&model, &images, (epochs, seed));
    let job = format!(
        "{:x} {:x} {preprocess:?} {:?}",
        updp_trainer::hash::Fnv::of(&encode(&model)?),
        dataset.fingerprint(),
        arguments.runtime
    );
    settings.folder = work.as_deref().map(|work| training::folder(work, &job, &settings));
    let tuning = Tuning {
        runner: &runner,
        dataset: &dataset,
        preprocess: &preprocess,
        judge: &judge,
        teacher: &teacher,
        settings: &settings,
    };
    if let Some(path) = &arguments.emit_step {
        write_step(path, &tuning.step(&model)?)?;
    }
    if arguments.dry_run {
        say(&format!(
            "dry run: nothing is written\n  images: {} to train with, {} to score by; before: {}\n  {}",
            dataset.len(),
            feed.images(),
            training::words(&judge.baseline()),
            rehearse(&tuning, &model)?.words("training")
        ));
        return Ok(());
    }
    let Some(target) = &arguments.output else { return Ok(()) };
    if let (Some(work), Some(folder)) = (&work, &settings.folder) {
        if folder.exists() {
            terminal::remark(&format!("going on with what {} holds", work.display()));
        }
        recover::mark_work(work)?;
    }
    let before = judge.baseline();
    let text =
        format!("training with {} images; before: {}", dataset.len(), training::words(&before));
    terminal::remark(&text);
    let mut shown = Shown::new(epochs, false);
    let tuned = tuning.run(&model, &mut shown).inspect_err(|_| {
        if let (None, Some(work)) = (&arguments.images.work, &work) {
            recover::remove_empty_work(work);
        }
    })?;
    if tuned.end == End::Stopped {
        training::tell_stopped(tuned.steps, work.as_deref());
        return Err(CliError::Interrupted);
    }
    let trained = written.map_or_else(|| Ok(tuned.model.clone()), |model| tuned.put_into(model))?;
    finish(arguments, (target, &trained), &before, &tuned, &shown)?;
    if let (Some(work), None) = (work, &arguments.images.work) {
        recover::remove_work(&work);
    }
    Ok(())
}

/// The model with its batch opened, where every image keeps its result then.
fn opened(
    model: &Model,
    runner: &Runner,
    dataset: &Dataset,
    preprocess: &Preprocess,
) -> Result<Model, CliError> {
    let (working, is_opened) = recover::working(model, runner, dataset, preprocess)?;
    let batch = Images::new(&working, dataset.clone(), preprocess)?.fixed_batch();
    if let (false, Some(batch)) = (is_opened, batch) {
        terminal::remark(&format!(
            "the batch of the model is fixed at {batch}, and it is trained with that"
        ));
    }
    Ok(working)
}

fn work(arguments: &TrainArgs) -> Option<std::path::PathBuf> {
    let target = arguments.output.as_deref()?;
    recover::work_folder(arguments.images.work.as_deref(), target)
}

/// Writes the trained model and says how it went.
fn finish(
    arguments: &TrainArgs,
    (target, trained): (&Path, &Model),
    before: &Score,
    tuned: &Tuned,
    shown: &Shown,
) -> Result<(), CliError> {
    let bytes = encode(trained)?;
    // What is written can be read.
    ModelFile::read(target, bytes.clone())?;
    if is_pipe(target) || write::is_special(target) {
        write::special(target, &bytes)?;
    } else {
        write::model(target, &bytes)?;
    }
    let (tensors, elements) = tuned.parameters;
    if arguments.verbosity() != Verbosity::Quiet {
        let print = |text: &str| if is_pipe(target) { note(text) } else { say(text) };
        print(&format!(
            "trained {tensors} tensors of {elements} elements in {} steps\n  before: {}\n  after:  {}",
            tuned.steps,
            training::words(before),
            training::words(&tuned.score)
        ));
        let lost = price(before, &tuned.score);
        if lost > 0.0 {
            print(&format!(
                "WARNING: the trained model is worse than the input model by {lost:.2} points on the held-out images; more images, more --epochs or a smaller --lr may help"
            ));
        }
    }
    if let Some(path) = &arguments.report {
        let report = json!({
            "schema": "updp-train/1",
            "model": arguments.model,
            "output": target,
            "before": before,
            "after": tuned.score,
            "steps": tuned.steps,
            "tensors": tensors,
            "parameters": elements,
            "images_per_second": shown.images_per_second(),
            "epochs": shown.history,
            "course": shown.course(),
            "validations": tuned.validations,
        });
        write::text(path, &format!("{report:#}\n"))?;
    }
    Ok(())
}

/// Writes a step, the first state as defaults of its inputs, and beside it which of its inputs and outputs are what.
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
        "the training step is in {}, which of its inputs and outputs are what in {}",
        path.display(),
        path.with_extension("json").display()
    ));
    Ok(())
}
