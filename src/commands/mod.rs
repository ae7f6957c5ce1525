//! One subcommand a file.

mod bench;
mod compile;
mod inspect;
mod prune;
mod reference;
mod train;
mod verify;

use updp_passes::Options;

use crate::cli::{Cli, Command, MergePolicy, RuleArgs};
use crate::error::CliError;

pub(crate) use compile::fix_shapes;

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

/// Options of the passes as the arguments give them.
fn pass_options(rules: &RuleArgs, model_bytes: u64) -> Options {
    Options {
        merge_all: rules.merge == MergePolicy::All,
        skip: rules.skip.iter().cloned().collect(),
        only: rules.only.iter().cloned().collect(),
        model_bytes: usize::try_from(model_bytes).unwrap_or(usize::MAX),
        ..Options::default()
    }
}
