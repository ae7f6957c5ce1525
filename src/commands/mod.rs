//! One subcommand a file.

mod bench;
mod compile;
mod inspect;
mod prune;
mod reference;
mod train;
mod verify;

use crate::cli::{Cli, Command};
use crate::error::CliError;

/// Runs what the arguments ask for.
///
/// # Errors
/// [`CliError`], whose exit code the program ends with.
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        None => compile::run(&cli.compile),
        Some(Command::Inspect(arguments)) => inspect::run(&arguments),
        Some(Command::Verify(arguments)) => verify::run(&arguments),
        Some(Command::Bench(arguments)) => bench::run(&arguments),
        Some(Command::Train(arguments)) => train::run(&arguments),
        Some(Command::Errors { code }) => reference::errors(code.as_deref()),
        Some(Command::Completions { shell }) => {
            reference::completions(shell);
            Ok(())
        }
        Some(Command::Man) => reference::man(),
    }
}
