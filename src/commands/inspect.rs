//! `inspect MODEL`: the contents of a model, and what compiling it would do.

use updp_ir::{Model, text};

use crate::api::{self, InspectOptions, InspectReport};
use crate::block_map;
use crate::block_report;
use crate::cli::{InspectArgs, TargetChoice};
use crate::deploy;
use crate::error::CliError;
use crate::listener::{Listener, Outcome};
use crate::model_file::ModelFile;
use crate::report;
use crate::write;

/// Runs the subcommand.
pub(super) fn run(
    arguments: &InspectArgs,
    listener: &mut Listener<'_>,
) -> Result<Outcome, CliError> {
    arguments.paths().check()?;
    if arguments.text {
        listener.say(text::to_text(&ModelFile::open(&arguments.model)?.model).trim_end());
        return Ok(Outcome::default());
    }
    if arguments.dot {
        listener.say(text::to_dot(&ModelFile::open(&arguments.model)?.model.graph).trim_end());
        return Ok(Outcome::default());
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
    let report = listener.during(|observer| api::inspect(&arguments.model, &options, observer))?;
    if let Some(path) = &arguments.map {
        let name = arguments.model.file_name().unwrap_or_default().to_string_lossy();
        write::text(path, &block_map::html(&name, &report.blocks))?;
    }
    if arguments.json {
        let mut value = text::to_json(&report.model);
        value["schema"] = "updp-inspect/1".into();
        value["overridable_weights"] = report.overridable_weights.into();
        value["blocks"] = block_report::json(&report.blocks);
        if let (Some(target), Some(findings)) = (options.target, &report.findings) {
            value["deploy"] = deploy::json(target, findings);
        }
        listener.say(&format!("{value:#}"));
        return Ok(Outcome::of(value));
    }
    tell(arguments, &report, listener);
    if let (Some(target), Some(findings)) = (options.target, &report.findings) {
        listener.say(&deploy::table(target, findings));
    }
    let name = arguments.model.display().to_string();
    if let Some(outlook) = block_report::outlook(&name, &report.blocks) {
        listener.say(&outlook);
    }
    Ok(Outcome::default())
}

/// The model, its blocks, and the effect of compiling.
fn tell(arguments: &InspectArgs, report: &InspectReport, listener: &Listener<'_>) {
    tell_boundary(arguments, &report.model, listener);
    if let Some(notice) = api::overridable_notice(report.overridable_weights) {
        listener.say(&format!("  {notice}"));
    }
    listener.say(&block_report::table(&report.blocks));
    let Some((log, after)) = &report.compiled else { return };
    if log.rewrites.is_empty() {
        listener.say("  nothing to merge: the model is compiled already");
    }
    listener.say(&report::table(&report.before, after));
    for (rule, count) in report::by_rule(log) {
        listener.say(&format!("  {rule}: {count}"));
    }
    if arguments.why_not {
        listener.say(&report::why_not(log));
    }
}

/// Versions, inputs and outputs.
fn tell_boundary(arguments: &InspectArgs, model: &Model, listener: &Listener<'_>) {
    let (producer, version) = model.producer();
    listener.say(&format!(
        "{}: ir {}, producer {producer} {version}",
        arguments.model.display(),
        model.ir_version()
    ));
    for (domain, version) in model.opsets() {
        listener.say(&format!(
            "  opset {} {version}",
            if domain.is_empty() { "ai.onnx" } else { domain }
        ));
    }
    let graph = &model.graph;
    let boundary = |kind: &str, id| {
        let value = graph.value(id);
        let ty = value.declared().map_or_else(|| "?".to_owned(), ToString::to_string);
        listener.say(&format!("  {kind} {}: {ty}", value.name()));
    };
    graph.required_inputs().for_each(|id| boundary("input", id));
    graph.outputs().for_each(|id| boundary("output", id));
}
