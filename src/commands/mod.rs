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

use crate::cli::{Cli, Command, CompileArgs};
use crate::error::CliError;

/// Runs the command that the arguments ask for.
///
/// # Errors
/// A [`CliError`]; the program ends with its exit code.
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        None => compile::run(&cli.bare.into()),
        Some(Command::Compile(arguments)) => compile::run(&(*arguments).into()),
        Some(Command::Prune(arguments)) => {
            let arguments = CompileArgs::from(*arguments);
            if !arguments.prune.is_asked_for() && arguments.images.data.is_none() {
                let detail = "say what to prune: --prune N, --speedup X, --latency-ms T, --macs SHARE or --max-drop P with --data, or --blocks LIST";
                return Err(CliError::Usage { detail: detail.to_owned() });
            }
            compile::run(&arguments)
        }
        Some(Command::Finetune(arguments)) => finetune::run(&arguments),
        Some(Command::Inspect(arguments)) => inspect::run(&arguments),
        Some(Command::Verify(arguments)) => verify::run(&arguments),
        Some(Command::Evaluate(arguments)) => evaluate::run(&arguments),
        Some(Command::Bench(arguments)) => bench::run(&arguments),
        Some(Command::Doctor(arguments)) => doctor::run(&arguments),
        Some(Command::Errors { code }) => reference::errors(code.as_deref()),
        Some(Command::Completions { shell }) => {
            reference::completions(shell);
            Ok(())
        }
        Some(Command::Man) => reference::man(),
    }
}
