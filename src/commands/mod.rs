//! One module for each subcommand.

mod bench;
mod compile;
mod doctor;
mod evaluate;
mod finetune;
mod inspect;
mod prune;
mod reference;
mod verify;

use std::path::PathBuf;

use serde_json::Value;

use crate::cli::{Cli, Command, CompileArgs};
use crate::error::CliError;
use crate::listener::{Listener, Outcome};
use crate::{report_page, write};

/// Runs the command that the arguments ask for.
///
/// # Errors
/// A [`CliError`]; the program ends with its exit code.
pub(crate) fn run(cli: Cli, listener: &mut Listener<'_>) -> Result<Outcome, CliError> {
    let line = cli.line;
    match cli.command {
        None => compile::run(&CompileArgs::from(cli.bare).typed(line), listener),
        Some(Command::Compile(arguments)) => {
            compile::run(&CompileArgs::from(*arguments).typed(line), listener)
        }
        Some(Command::Prune(arguments)) => {
            let arguments = CompileArgs::from(*arguments).typed(line);
            if !arguments.prune.is_asked_for() && arguments.images.data.is_none() {
                let detail = "say what to prune: --prune N, --speedup X, --latency-ms T, --macs SHARE or --max-drop P with --data, or --blocks LIST";
                return Err(CliError::Usage { detail: detail.to_owned() });
            }
            compile::run(&arguments, listener)
        }
        Some(Command::Finetune(mut arguments)) => {
            arguments.command_line = line;
            finetune::run(&arguments, listener)
        }
        Some(Command::Inspect(arguments)) => inspect::run(&arguments, listener),
        Some(Command::Verify(arguments)) => verify::run(&arguments, listener),
        Some(Command::Evaluate(mut arguments)) => {
            arguments.command_line = line;
            evaluate::run(&arguments, listener)
        }
        Some(Command::Bench(mut arguments)) => {
            arguments.command_line = line;
            bench::run(&arguments, listener)
        }
        Some(Command::Doctor(arguments)) => doctor::run(&arguments, listener),
        Some(Command::Errors { code }) => done(reference::errors(code.as_deref())),
        Some(Command::Completions { shell }) => {
            reference::completions(shell);
            Ok(Outcome::default())
        }
        Some(Command::Man) => done(reference::man()),
    }
}

/// The outcome of a command that only prints.
fn done(result: Result<(), CliError>) -> Result<Outcome, CliError> {
    result.map(|()| Outcome::default())
}

/// Writes `--report`: the document, or the page if the name asks for one.
fn write_report(
    path: Option<&PathBuf>,
    document: &Value,
    page: impl FnOnce() -> String,
) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(()) };
    let text = if report_page::is_page(path) { page() } else { format!("{document:#}\n") };
    write::text(path, &text)
}
