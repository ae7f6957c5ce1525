//! `inspect MODEL`: what is in a model and what compiling it would do.

use updp_ir::text;
use updp_passes::{Options, pipeline, surgery};

use crate::block_map;
use crate::block_report;
use crate::cli::InspectArgs;
use crate::deploy;
use crate::error::CliError;
use crate::latency_table::{Conditions, LatencyTable};
use crate::model_file::ModelFile;
use crate::report;
use crate::survey::{Row, SHORT_EFFORT, Survey, wanted};
use crate::terminal::say;
use crate::write;
use updp_passes::ModelSummary;

/// Seconds for each form of a block.
const PROBE_SECONDS: f64 = 0.25;

/// Runs the subcommand.
pub(super) fn run(arguments: &InspectArgs) -> Result<(), CliError> {
    let file = ModelFile::open(&arguments.model)?;
    if arguments.text {
        say(text::to_text(&file.model).trim_end());
        return Ok(());
    }
    if arguments.dot {
        say(text::to_dot(&file.model.graph).trim_end());
        return Ok(());
    }
    let options = super::pass_options(&arguments.rules, file.total_bytes());
    let rows = rows(arguments, &file, &options)?;
    if let Some(path) = &arguments.map {
        let name = arguments.model.file_name().unwrap_or_default().to_string_lossy();
        write::text(path, &block_map::html(&name, &rows))?;
    }
    let has_data = !file.source.data_files.is_empty();
    if arguments.json {
        let mut value = text::to_json(&file.model);
        value["blocks"] = block_report::json(&rows);
        if let Some(target) = arguments.target {
            let findings = deploy::check(&file.model, has_data, target);
            value["deploy"] = deploy::json(target, &findings);
        }
        say(&format!("{value:#}"));
        return Ok(());
    }
    let before = ModelSummary::of(&file.model, file.total_bytes());
    let (producer, version) = file.model.producer();
    say(&format!(
        "{}: ir {}, producer {producer} {version}",
        arguments.model.display(),
        file.model.ir_version()
    ));
    for (domain, version) in file.model.opsets() {
        say(&format!("  opset {} {version}", if domain.is_empty() { "ai.onnx" } else { domain }));
    }
    let graph = &file.model.graph;
    let boundary = |kind: &str, id| {
        let value = graph.value(id);
        let ty = value.declared().map_or_else(|| "?".to_owned(), ToString::to_string);
        say(&format!("  {kind} {}: {ty}", value.name()));
    };
    graph.required_inputs().for_each(|id| boundary("input", id));
    graph.outputs().for_each(|id| boundary("output", id));
    say(&block_report::table(&rows));
    let mut model = file.model;
    let log = pipeline::compile(&mut model, &options, &mut |_, _| {})?;
    if log.rewrites.is_empty() {
        say("  nothing to merge: the model is compiled already");
    }
    say(&report::table(&before, &ModelSummary::of(&model, before.bytes)));
    for (rule, count) in report::by_rule(&log) {
        say(&format!("  {rule}: {count}"));
    }
    if arguments.why_not {
        say(&report::why_not(&log));
    }
    if let Some(target) = arguments.target {
        let findings = deploy::check(&file.source.again()?, has_data, target);
        say(&deploy::table(target, &findings));
    }
    if let Some(outlook) = block_report::outlook(&arguments.model.display().to_string(), &rows) {
        say(&outlook);
    }
    Ok(())
}

/// The blocks with the forms asked for, measured when that is asked for.
fn rows(
    arguments: &InspectArgs,
    file: &ModelFile,
    options: &Options,
) -> Result<Vec<Row>, CliError> {
    let mut model = file.source.again()?;
    pipeline::prepare(&mut model)?;
    let conditions = Conditions {
        runtime: arguments.runtime.clone(),
        batch: arguments.batch.get(),
        seconds: PROBE_SECONDS,
    };
    let path = arguments.latency_table.as_deref();
    let mut table = arguments.latency.then(|| LatencyTable::open(path, conditions)).transpose()?;
    let survey = Survey {
        is_fitted: false,
        model: &model,
        shrink: arguments.shrink.as_shrink(),
        options,
        effort: if arguments.latency { f64::INFINITY } else { SHORT_EFFORT },
    };
    let asked = arguments.form.as_form();
    let blocks = surgery::blocks_of(&model)?;
    let rows = survey.rows(blocks, |block| wanted(block, asked), table.as_mut())?;
    if let Some(table) = &table {
        table.save()?;
    }
    Ok(rows)
}
