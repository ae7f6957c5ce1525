//! `verify A B`: compares two models by running both.

use crate::api::{self, VerifyOptions};
use crate::cli::VerifyArgs;
use crate::error::CliError;
use crate::listener::{Listener, Outcome};
use crate::terminal::remark;
use crate::{data, report};

/// Runs the subcommand.
pub(super) fn run(
    arguments: &VerifyArgs,
    listener: &mut Listener<'_>,
) -> Result<Outcome, CliError> {
    let options = VerifyOptions {
        input_data: data::read(&arguments.input_data)?,
        inputs: arguments.check.get(),
        limit: arguments.limit,
        runtime: arguments.runtime.options(),
    };
    let (reference, model) = (&arguments.reference, &arguments.model);
    let result = listener.during(|observer| api::verify(reference, model, &options, observer))?;
    let document = report::comparison(reference, model, &result);
    if arguments.json {
        listener.say(&format!("{document:#}"));
    } else {
        listener.say(&report::verification(&result));
    }
    if options.input_data.labels.is_some() && result.top1.is_none() {
        remark(
            "warning: the labels name classes that the model does not have: accuracy is left out",
        );
    }
    let failure = match result.failure() {
        None => result.proves_nothing().map(|detail| CliError::ProvesNothing { detail }),
        Some(detail) if result.is_chaotic() => Some(CliError::Chaotic { detail }),
        Some(detail) => Some(CliError::Different { detail }),
    };
    Ok(Outcome { document: Some(document), failure })
}
