//! `verify A B`: compares two models by running both.

use updp_ir::{Graph, ValueId};

use crate::cli::VerifyArgs;
use crate::error::CliError;
use crate::model_file::ModelFile;
use crate::terminal::say;
use crate::{data, report};
use updp_verify::Oracle;

/// Runs the subcommand.
pub(super) fn run(arguments: &VerifyArgs) -> Result<(), CliError> {
    let reference = ModelFile::open(&arguments.reference)?;
    let model = ModelFile::open(&arguments.model)?;
    same("inputs", &names(&reference.model.graph, true), &names(&model.model.graph, true))?;
    same("outputs", &names(&reference.model.graph, false), &names(&model.model.graph, false))?;
    let data = data::read(&arguments.input_data)?;
    let count = arguments.check.get();
    let graph = &reference.model.graph;
    let oracle = Oracle::new(
        reference.source.for_runtime(),
        graph,
        &data,
        count,
        &arguments.runtime.options(),
    )?
    .with_limit(arguments.limit);
    let result = oracle.compare(model.source.for_runtime())?;
    say(&report::verification(&result));
    match result.failure() {
        None => Ok(()),
        Some(detail) => Err(CliError::Different { detail }),
    }
}

fn names(graph: &Graph, is_input: bool) -> String {
    let name = |id: ValueId| graph.value(id).name().to_owned();
    let names: Vec<String> = if is_input {
        graph.required_inputs().map(name).collect()
    } else {
        graph.outputs().map(name).collect()
    };
    names.join(", ")
}

fn same(what: &'static str, first: &str, second: &str) -> Result<(), CliError> {
    if first == second {
        return Ok(());
    }
    let (first, second) = (first.to_owned(), second.to_owned());
    Err(CliError::DifferentSignature { what, first, second })
}
