//! Pruning, as the main job does it: the settled network takes the place of the input.

use std::path::PathBuf;

use updp_exec::ModelSource;
use updp_ir::{DataPlacement, Model};
use updp_passes::surgery;

use super::compile::Job;
use crate::api::shapes::fix_shapes;
use crate::block_report;
use crate::cli::{CompileArgs, Method, Recovery, ShrinkAt, Stage, StartChoice};
use crate::data;
use crate::error::CliError;
use crate::model_file::{ModelFile, Source, is_pipe};
use crate::prune::{Pruned, Request};
use crate::recover::{self, Plan, Recover, SupernetPlan};
use crate::report;
use crate::report_page;
use crate::terminal::{Verbosity, note, say};
use crate::write;
use updp_passes::ModelSummary;
use updp_verify::Oracle;

/// Prunes, then goes on as ever with the settled network in place of the input.
pub(super) fn run(
    arguments: &CompileArgs,
    source: Source,
    mut model: Model,
    target: &PathBuf,
) -> Result<(), CliError> {
    let usage = |detail: &str| CliError::Usage { detail: detail.to_owned() };
    if let (Some(_), Some(Recovery::None | Recovery::Fit)) =
        (arguments.epochs, arguments.prune.recover)
    {
        return Err(usage("--epochs is for --recover train"));
    }
    if arguments.shrink_at.is_some() && !arguments.has_shrinking_kernels() {
        return Err(usage("--shrink-at is for training with --method progressive or direct"));
    }
    refuse_search(arguments)?;
    refuse_until(arguments)?;
    let with_data =
        arguments.images.data.is_some() && arguments.prune.recover != Some(Recovery::None);
    if !with_data {
        refuse_page(arguments)?;
        refuse_without_data(arguments)?;
        super::compile::refuse_dry(arguments)?;
    }
    let before = ModelSummary::of(&model, source.total_bytes());
    fix_shapes(&arguments.input_shape, &mut model)?;
    let options = arguments.rules.options().passes(source.total_bytes());
    let data = data::read(&arguments.input_data)?;
    let request = Request {
        arguments: &arguments.prune,
        options: &options,
        runtime: &arguments.runtime,
        data: &data,
    };
    if arguments.prune.until == Some(Stage::Expand) {
        let has_gates = arguments.gates.is_asked_for();
        if arguments.target.is_some() || arguments.test_vectors.is_some() || has_gates {
            let detail = "--target, --test-vectors, --min-speedup and --max-bytes are for finished networks, not with --until expand";
            return Err(usage(detail));
        }
        let expanded = request.expand(model)?;
        return Expanded { arguments, source, target, before }.write(&expanded);
    }
    let work = recover::work_folder(arguments.images.work.as_deref(), target);
    let work = work.filter(|_| !arguments.dry_run);
    let pruned = if with_data {
        let (images, work) = (&arguments.images, work.as_deref());
        let epochs = arguments.prune.search.supernet_epochs;
        let supernet =
            (epochs > 0).then_some(SupernetPlan { arguments: &arguments.training, epochs });
        let is_dry = arguments.dry_run;
        let training = arguments.training_epochs().map(|epochs| Plan {
            arguments: &arguments.training,
            epochs: epochs.get(),
            method: arguments.method,
            ramp: arguments.ramp,
            ramp_form: arguments.ramp_form,
            shrink_at: arguments.shrink_at.unwrap_or(ShrinkAt::Lambda),
        });
        let recover = Recover { request: &request, images, work, supernet, training, is_dry };
        let pruned = recover.prune(model).inspect_err(|error| match (&images.work, work) {
            // Latencies of blocks are of no use where there is nothing to prune.
            (None, Some(work)) if matches!(error, CliError::NothingToPrune { .. }) => {
                recover::remove_work(work);
            }
            (None, Some(work)) => recover::remove_empty_work(work),
            _ => {}
        });
        let Some(pruned) = pruned? else { return Ok(()) };
        pruned
    } else {
        request.prune(model)?
    };
    let settled = ModelFile::read(target, pruned.bytes.clone())?;
    let input = Some(source);
    let path = arguments.model.clone().unwrap_or_default();
    let source = Source { path, ..settled.source };
    let result =
        Job { arguments, source, target, before, pruned: Some(pruned), input }.run(settled.model);
    let is_done = matches!(result, Ok(()) | Err(CliError::GoalMissed { .. }));
    if let (true, true, None, Some(work)) = (with_data, is_done, &arguments.images.work, work) {
        recover::remove_work(&work);
    }
    result
}

/// A page shows what fitting found out; other reports are JSON.
pub(super) fn refuse_page(arguments: &CompileArgs) -> Result<(), CliError> {
    if arguments.report.iter().any(|path| report_page::is_page(path)) {
        let detail = "a page is made of pruning with --data; other reports are JSON".to_owned();
        return Err(CliError::Usage { detail });
    }
    Ok(())
}

/// A search and a supernet need what fitting finds out, and a supernet gradients.
fn refuse_search(arguments: &CompileArgs) -> Result<(), CliError> {
    let search = &arguments.prune.search;
    let (has_supernet, recover) = (search.has_supernet(), arguments.prune.recover);
    let is_fit = arguments.training_epochs().is_none() || arguments.method == Method::Fit;
    let detail = if search.is_asked_for() && recover == Some(Recovery::None) {
        "--search, --evaluations, --finalists and --supernet-epochs choose blocks by what they lose: not with --recover none"
    } else if has_supernet && recover == Some(Recovery::Fit) {
        "--supernet-epochs trains: not with --recover fit"
    } else if search.start == StartChoice::Supernet && !is_fit {
        "--start supernet is for --method fit; the other methods start from the input model's weights"
    } else {
        return Ok(());
    };
    Err(CliError::Usage { detail: detail.to_owned() })
}

/// What an early end needs.
fn refuse_until(arguments: &CompileArgs) -> Result<(), CliError> {
    let CompileArgs { prune, images, .. } = arguments;
    let Some(stage) = prune.until else { return Ok(()) };
    let has_data = images.data.is_some() && prune.recover != Some(Recovery::None);
    let detail = match stage {
        Stage::Expand if prune.blocks.is_none() => "--until expand needs --blocks LIST",
        Stage::Expand if prune.search.is_asked_for() => {
            "--until expand takes the blocks of --blocks: no --search, --evaluations, --finalists or --supernet-epochs"
        }
        Stage::Expand => return Ok(()),
        _ if !has_data => {
            "--until supernet, search and train are for pruning with --data and a goal"
        }
        _ if images.work.is_none() => {
            "--until supernet, search and train need a folder that keeps what there is then: --work DIR"
        }
        Stage::Supernet if !prune.search.has_supernet() => {
            "--until supernet needs --supernet-epochs N"
        }
        Stage::Train if arguments.training_epochs().is_none() => "--until train needs --epochs N",
        _ => return Ok(()),
    };
    Err(CliError::Usage { detail: detail.to_owned() })
}

/// Without data only `--blocks` can be pruned, and only as an experiment.
fn refuse_without_data(arguments: &CompileArgs) -> Result<(), CliError> {
    let prune = &arguments.prune;
    let detail = if prune.blocks.is_none() && prune.recover == Some(Recovery::None) {
        "--recover none prunes --blocks LIST only: a goal needs what fitting finds out"
    } else if prune.blocks.is_none() {
        "a goal needs images: --data DIR (labels are not needed)"
    } else if matches!(prune.recover, Some(Recovery::Fit | Recovery::Train)) {
        "--recover fit and train need images: --data DIR (labels are not needed)"
    } else if prune.max_drop.is_some() {
        "--max-drop needs images: --data DIR"
    } else if prune.until.is_none() && prune.recover.is_none() {
        "pruning changes the function: give images with --data DIR, or --recover none for an experiment with the structure"
    } else {
        return Ok(());
    };
    Err(CliError::Usage { detail: detail.to_owned() })
}

/// The expanded network on its way to a file.
struct Expanded<'a> {
    arguments: &'a CompileArgs,
    source: Source,
    target: &'a PathBuf,
    before: ModelSummary,
}

impl Expanded<'_> {
    /// Verifies at λ = 0 against the input model, then writes.
    fn write(&self, expanded: &Pruned) -> Result<(), CliError> {
        let mut verified = None;
        if !self.arguments.no_verify {
            let mut baseline = ModelFile::read(self.target, expanded.bytes.clone())?.model;
            surgery::fix_lambda(&mut baseline, 0.0)?;
            let bytes = baseline.encode(&DataPlacement::Inline)?.model_to_bytes();
            let mut reference = self.source.again()?;
            fix_shapes(&self.arguments.input_shape, &mut reference)?;
            let data = data::read(&self.arguments.input_data)?;
            let count = self.arguments.check.get();
            let source = self.source.for_runtime();
            let oracle = Oracle::new(
                source,
                &reference.graph,
                &data,
                count,
                &self.arguments.runtime.options(),
            )?;
            let result = oracle.compare(ModelSource::Bytes(&bytes))?;
            if let Some(failure) = result.failure() {
                let detail = format!("at λ = 0 {failure}");
                return Err(CliError::VerificationFailed { detail });
            }
            verified = Some(result);
        }
        let written = ModelFile::read(self.target, expanded.bytes.clone())?;
        let after = ModelSummary::of(&written.model, written.total_bytes());
        write::model(self.target, &expanded.bytes)?;
        if self.arguments.verbosity() == Verbosity::Quiet {
            return Ok(());
        }
        let print = |text: &str| if is_pipe(self.target) { note(text) } else { say(text) };
        print(&format!(
            "expanded: λ is the input {:?}, one number a block; at 0 it is the input model",
            surgery::LAMBDA_INPUT
        ));
        print(&block_report::chosen(expanded));
        print(&report::table(&self.before, &after));
        if let Some(result) = &verified {
            print(&report::verification(result));
        }
        Ok(())
    }
}
