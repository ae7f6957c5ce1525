//! `inspect MODEL`: the contents of a model, and what compiling it would do.

use updp_ir::{Model, text};

use crate::api::{self, InspectOptions, InspectReport};
use crate::block_map;
use crate::block_report;
use crate::cli::{InspectArgs, TargetChoice};
use crate::deploy;
use crate::error::CliError;
use crate::model_file::ModelFile;
use crate::report;
use crate::terminal::{Progress, say};
use crate::write;

/// Runs the subcommand.
pub(super) fn run(arguments: &InspectArgs) -> Result<(), CliError> {
    arguments.paths().check()?;
    if arguments.text {
        say(text::to_text(&ModelFile::open(&arguments.model)?.model).trim_end());
        return Ok(());
    }
    if arguments.dot {
        say(text::to_dot(&ModelFile::open(&arguments.model)?.model.graph).trim_end());
        return Ok(());
    }
    let options = InspectOptions {
        rules: arguments.rules.options(),
        is_compiled: !arguments.json,
        form: arguments.form.as_form(),
        shrink: arguments.shrink.as_shrink(),
        is_measured: arguments.latency,
        batch: arguments.batch.get(),
        latency_table: arguments.latency_table.clone(),
        freeze_weights: arguments.weights.options(),
        target: arguments.target.map(TargetChoice::target),
        runtime: arguments.runtime.options(),
    };
    let report = api::inspect(&arguments.model, &options, &mut Progress::default())?;
    if let Some(path) = &arguments.map {
        let name = arguments.model.file_name().unwrap_or_default().to_string_lossy();
        write::text(path, &block_map::html(&name, &report.blocks))?;
    }
    if arguments.json {
        let mut value = text::to_json(&report.model);
        value["overridable_weights"] = report.overridable_weights.into();
        value["blocks"] = block_report::json(&report.blocks);
        if let (Some(target), Some(findings)) = (options.target, &report.findings) {
            value["deploy"] = deploy::json(target, findings);
        }
        say(&format!("{value:#}"));
        return Ok(());
    }
    tell(arguments, &report);
    if let (Some(target), Some(findings)) = (options.target, &report.findings) {
        say(&deploy::table(target, findings));
    }
    let name = arguments.model.display().to_string();
    if let Some(outlook) = block_report::outlook(&name, &report.blocks) {
        say(&outlook);
    }
    Ok(())
}

/// The model, its blocks, and the effect of compiling.
fn tell(arguments: &InspectArgs, report: &InspectReport) {
    tell_boundary(arguments, &report.model);
    if let Some(notice) = api::overridable_notice(report.overridable_weights) {
        say(&format!("  {notice}"));
    }
    say(&block_report::table(&report.blocks));
    let Some((log, after)) = &report.compiled else { return };
    if log.rewrites.is_empty() {
        say("  nothing to merge: the model is compiled already");
    }
    say(&report::table(&report.before, after));
    for (rule, count) in report::by_rule(log) {
        say(&format!("  {rule}: {count}"));
    }
    if arguments.why_not {
        say(&report::why_not(log));
    }
}

/// Versions, inputs and outputs.
fn tell_boundary(arguments: &InspectArgs, model: &Model) {
    let (producer, version) = model.producer();
    say(&format!(
        "{}: ir {}, producer {producer} {version}",
        arguments.model.display(),
        model.ir_version()
    ));
    for (domain, version) in model.opsets() {
        say(&format!("  opset {} {version}", if domain.is_empty() { "ai.onnx" } else { domain }));
    }
    let graph = &model.graph;
    let boundary = |kind: &str, id| {
        let value = graph.value(id);
        let ty = value.declared().map_or_else(|| "?".to_owned(), ToString::to_string);
        say(&format!("  {kind} {}: {ty}", value.name()));
    };
    graph.required_inputs().for_each(|id| boundary("input", id));
    graph.outputs().for_each(|id| boundary("output", id));
}
