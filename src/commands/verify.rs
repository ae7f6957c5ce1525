//! `verify A B`: compares two models by running both.

use crate::api::{self, VerifyOptions};
use crate::cli::VerifyArgs;
use crate::error::CliError;
use crate::terminal::{Progress, remark, say};
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
    if options.input_data.labels.is_some() && result.top1.is_none() {
        remark(
            "warning: the labels name classes that the model does not have: accuracy is left out",
        );
    }
    match result.failure() {
        None => {
            result.proves_nothing().map_or(Ok(()), |detail| Err(CliError::ProvesNothing { detail }))
        }
        Some(detail) if result.is_chaotic() => Err(CliError::Chaotic { detail }),
        Some(detail) => Err(CliError::Different { detail }),
    }
}
