//! `inspect MODEL`: what is in a model and what compiling it would do.

use updp_ir::text;

use crate::cli::InspectArgs;
use crate::error::CliError;
use crate::model_file::ModelFile;
use crate::report::{self, Facts};
use crate::terminal::say;

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
    if arguments.json {
        say(&format!("{:#}", text::to_json(&file.model)));
        return Ok(());
    }
    let before = Facts::of(&file.model, file.total_bytes());
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
    let mut model = file.model;
    let options = super::pass_options(&arguments.rules, before.bytes);
    let log = updp_passes::pipeline::compile(&mut model, &options, &mut |_, _| {})?;
    if log.rewrites.is_empty() {
        say("  nothing to merge: the model is compiled already");
    }
    say(&report::table(&before, &Facts::of(&model, before.bytes)));
    for (rule, count) in report::by_rule(&log) {
        say(&format!("  {rule}: {count}"));
    }
    if arguments.why_not {
        say(&report::why_not(&log));
    }
    Ok(())
}
