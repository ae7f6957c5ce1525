//! `verify A B`: compares two models by running both.

use crate::api::{self, VerifyOptions};
use crate::cli::VerifyArgs;
use crate::error::CliError;
use crate::terminal::{Progress, say};
use crate::{data, report};

/// Runs the subcommand.
pub(super) fn run(arguments: &VerifyArgs) -> Result<(), CliError> {
    let options = VerifyOptions {
        input_data: data::read(&arguments.input_data)?,
        inputs: arguments.check.get(),
        limit: arguments.limit,
        runtime: arguments.runtime.options(),
    };
    let (reference, model) = (&arguments.reference, &arguments.model);
    let result = api::verify(reference, model, &options, &mut Progress::default())?;
    say(&report::verification(&result));
    match result.failure() {
        None => Ok(()),
        Some(detail) if result.is_chaotic() => Err(CliError::Chaotic { detail }),
        Some(detail) => Err(CliError::Different { detail }),
    }
}
