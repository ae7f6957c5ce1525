//! `prune`: the pruned network replaces the input, and exact compilation merges it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use updp_passes::surgery;
use updp_prune::structure::StructureConfig;
use updp_prune::{BlockSelection, PruneError, work_folder};

use super::compile::Output;
use crate::api::{self, CompileOptions, InputCheckOptions, PruneOptions};
use crate::block_report;
use crate::cli::{BlockList, CompileArgs, Method, Recovery, ShrinkChoice, Stage, StartChoice};
use crate::data;
use crate::error::CliError;
use crate::front_table;
use crate::interrupt;
use crate::listener::{Listener, Outcome};
use crate::report;
use crate::terminal::Verbosity;
use crate::write;

/// The share of held-out images where `--val-split` is not given.
const DEFAULT_VAL_SPLIT: f64 = 0.1;

/// Prunes, merges and prints a summary.
pub(super) fn run(
    arguments: &CompileArgs,
    input: &Path,
    target: &Path,
    listener: &mut Listener<'_>,
) -> Result<Outcome, CliError> {
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
    refuse_front(arguments)?;
    let with_data =
        arguments.images.data.is_some() && arguments.prune.recover != Some(Recovery::None);
    if !with_data {
        refuse_without_data(arguments)?;
        super::compile::refuse_dry(arguments)?;
    }
    let output = Output::new(arguments, input, target, listener);
    let options = output.options(true)?;
    if arguments.prune.until == Some(Stage::Expand) {
        return expand(arguments, &output, &options, listener);
    }
    if with_data {
        return with_images(arguments, &output, options, listener);
    }
    let config = structure(arguments, &options);
    let pruned =
        listener.during(|observer| api::prune_structure(input, &config, &options, observer))?;
    output.finish(&pruned.compiled, Some(&pruned.pruned), None)
}

/// Prunes with images, and keeps intermediate results in the work folder until the result is written.
fn with_images(
    arguments: &CompileArgs,
    output: &Output<'_>,
    compile: CompileOptions,
    listener: &mut Listener<'_>,
) -> Result<Outcome, CliError> {
    let images = &arguments.images;
    let work = images.work_folder(output.target).filter(|_| !arguments.dry_run);
    let options = PruneOptions {
        data: images.data.clone().unwrap_or_default(),
        validation: images.val.clone(),
        preprocess: images.preprocess.clone(),
        inputs: data::model_inputs(&arguments.inputs)?,
        check: InputCheckOptions {
            expect_accuracy: images.expect_accuracy.map(|percent| percent / 100.0),
            allow_low_accuracy: arguments.prune.allow_low_accuracy,
        },
        config: arguments.prune_config(work.clone())?,
        compile,
    };
    if arguments.dry_run {
        let estimate =
            listener.during(|observer| api::estimate(output.input, &options, observer))?;
        listener.say(&estimate.to_string());
        return Ok(Outcome::default());
    }
    if arguments.prune.pick.is_some() && work.is_none() {
        return Err(CliError::Usage {
            detail: "--pick needs the work folder of the run with --front: --work DIR".to_owned(),
        });
    }
    if let Some(work) = &work {
        interrupt::keep(work);
    }
    // A folder that the user asked for is kept, and so is one that networks can be picked from.
    let folder = work.clone();
    let has_front = arguments.prune.pick.is_some() || arguments.prune.front.is_some();
    let work = work.filter(|_| images.work.is_none() && !has_front);
    let report = listener.during(|observer| api::prune(output.input, &options, observer));
    let report = report.inspect_err(|error| {
        match (&work, error) {
            // Latencies of blocks are useless if there is nothing to prune.
            (Some(work), CliError::Prune(PruneError::NothingToPrune { .. })) => {
                work_folder::remove(work);
            }
            (Some(work), _) => work_folder::remove_empty(work),
            (None, _) => {}
        }
    });
    let Some(report) = report? else { return Ok(Outcome::default()) };
    let folder = folder.filter(|_| arguments.prune.front.is_some());
    let hint = folder.map(|folder| {
        let command = pick_command(arguments, output.input, &folder);
        format!("another network of the front: {command}")
    });
    let result = output.finish(&report.compiled, Some(&report.pruned), hint.as_deref());
    if let Some(work) = work.filter(|_| result.is_ok()) {
        work_folder::remove(&work);
    }
    result
}

/// The command that writes another network of the front: with the options of this run that decide the fits.
fn pick_command(arguments: &CompileArgs, input: &Path, work: &Path) -> String {
    let CompileArgs { images, runtime, prune, .. } = arguments;
    let data = images.data.as_deref().unwrap_or(Path::new("DIR"));
    let (model, data, preprocess) = (input.display(), data.display(), &images.preprocess);
    let mut command =
        format!("updp-compile prune {model} -o OUT --data {data} --preprocess {preprocess}");
    let mut add = |option: &str, value: String| {
        let _ = write!(command, " {option} {value}");
    };
    if let Some(count) = images.images {
        add("--images", count.to_string());
    }
    if let Some(name) = &arguments.inputs.image_input {
        add("--image-input", name.clone());
    }
    for constant in &arguments.inputs.constants {
        add("--input", constant.clone());
    }
    if images.val_split != DEFAULT_VAL_SPLIT {
        add("--val-split", images.val_split.to_string());
    }
    if images.seed != 0 {
        add("--seed", images.seed.to_string());
    }
    if !prune.outputs.is_empty() {
        let each = prune.outputs.iter().map(|(name, weight)| format!("{name}={weight}"));
        add("--outputs", each.collect::<Vec<_>>().join(","));
    }
    if prune.shrink == ShrinkChoice::None {
        add("--shrink", "none".to_owned());
    }
    if let Some(threads) = runtime.threads {
        add("--threads", threads.to_string());
    }
    add("--work", work.display().to_string());
    add("--pick", "K".to_owned());
    command
}

/// The configuration for pruning the structure without images.
fn structure(arguments: &CompileArgs, options: &CompileOptions) -> StructureConfig {
    let blocks = arguments.prune.blocks.as_ref();
    StructureConfig {
        blocks: blocks.map_or(BlockSelection::All, BlockList::selection),
        forms: arguments.prune.forms(),
        latency: arguments.prune.latency(),
        passes: updp_passes::Options::default(),
        runtime: options.runtime.clone(),
    }
}

/// Refuses options without their requirements: a search needs the results of fitting; a supernet also needs gradients.
fn refuse_search(arguments: &CompileArgs) -> Result<(), CliError> {
    let search = &arguments.prune.search;
    let (has_supernet, recover) = (search.has_supernet(), arguments.prune.recover);
    let is_fit = arguments.training_epochs().is_none() || arguments.method == Method::Fit;
    let detail = if search.is_asked_for() && recover == Some(Recovery::None) {
        "--search, --evaluations, --shortlist and --supernet-epochs choose blocks by what they lose: not with --recover none"
    } else if has_supernet && recover == Some(Recovery::Fit) {
        "--supernet-epochs trains: not with --recover fit"
    } else if search.start == StartChoice::Supernet && !is_fit {
        "--start supernet is for --method fit; the other methods start from the input model's weights"
    } else {
        return Ok(());
    };
    Err(CliError::Usage { detail: detail.to_owned() })
}

/// Refuses a front, and a network of one, without their requirements.
fn refuse_front(arguments: &CompileArgs) -> Result<(), CliError> {
    let CompileArgs { prune, images, .. } = arguments;
    if prune.pick.is_none() && prune.front.is_none() {
        return Ok(());
    }
    let has_data = images.data.is_some() && prune.recover != Some(Recovery::None);
    let is_table = |path: &PathBuf| front_table::is_table(path);
    let detail = if !has_data {
        "--front and --pick are for pruning with --data: a front is made of fitted networks"
    } else if prune.front.as_ref().is_some_and(|path| !is_table(path)) {
        "--front writes a table: FILE.tsv or FILE.json"
    } else if prune.search.has_supernet() {
        "--front and --pick are for fitted networks, not with --supernet-epochs"
    } else if prune.until.is_some() {
        "--front and --pick go to the end: not with --until"
    } else if prune.pick.is_some() && arguments.dry_run {
        "--pick fits nothing, so there is nothing to estimate: not with --dry-run"
    } else if prune.pick.is_some() && prune.search.is_asked_for() {
        "--pick takes a set that is known: not with --search, --evaluations or --shortlist"
    } else {
        return Ok(());
    };
    Err(CliError::Usage { detail: detail.to_owned() })
}

/// Refuses an early end without its requirements.
fn refuse_until(arguments: &CompileArgs) -> Result<(), CliError> {
    let CompileArgs { prune, images, .. } = arguments;
    let Some(stage) = prune.until else { return Ok(()) };
    let has_data = images.data.is_some() && prune.recover != Some(Recovery::None);
    let detail = match stage {
        Stage::Expand if prune.blocks.is_none() => "--until expand needs --blocks LIST",
        Stage::Expand if prune.search.is_asked_for() => {
            "--until expand takes the blocks of --blocks: no --search, --evaluations, --shortlist or --supernet-epochs"
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

/// Writes the expanded network. At λ = 0 it is verified against the input model.
fn expand(
    arguments: &CompileArgs,
    output: &Output<'_>,
    options: &CompileOptions,
    listener: &mut Listener<'_>,
) -> Result<Outcome, CliError> {
    let has_gates = arguments.gates.is_asked_for();
    if arguments.target.is_some() || arguments.test_vectors.is_some() || has_gates {
        let detail = "--target, --test-vectors, --min-speedup and --max-bytes are for finished networks, not with --until expand";
        return Err(CliError::Usage { detail: detail.to_owned() });
    }
    let config = structure(arguments, options);
    let expanded =
        listener.during(|observer| api::expand(output.input, &config, options, observer))?;
    write::model(output.target, &expanded.model)?;
    if arguments.verbosity() == Verbosity::Quiet {
        return Ok(Outcome::default());
    }
    output.print(&format!(
        "expanded: λ is the input {:?}, one number a block; at 0 it is the input model",
        surgery::LAMBDA_INPUT
    ));
    output.print(&block_report::chosen(&expanded.pruned));
    output.print(&report::table(&expanded.before, &expanded.after));
    if let Some(result) = &expanded.verification {
        output.print(&report::verification(result));
    }
    Ok(Outcome::default())
}
