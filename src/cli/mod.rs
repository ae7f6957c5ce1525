//! Arguments. The only place that knows clap.

use std::ffi::OsString;

mod compile;
mod config;
mod help;
mod inputs;
mod options;
mod paths;
mod prune;
#[cfg(test)]
mod python;
mod reference;
mod runtime;
mod search;
mod tools;
mod train;
mod values;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{FromArgMatches, Parser, Subcommand};

use crate::error::CliError;
use crate::shell::own_command;
use crate::untrusted::{distrust, visible};

pub use compile::{
    BareArgs, CommonArgs, CompileArgs, CompileCommand, DataArgs, DebugArgs, MergePolicy,
    PruneCommand, PruningArgs, RuleArgs, TargetChoice, WeightArgs,
};
pub use help::command;
pub use inputs::InputArgs;
pub use prune::{FormChoice, GateArgs, PruneArgs, Recovery, ShrinkChoice, Stage};
pub use reference::{Shell, completions, man_page};
pub use runtime::{DeviceChoice, RuntimeArgs, RuntimeChoice, use_workers};
pub use search::{SearchArgs, SearchChoice, StartChoice};
pub use tools::{BenchArgs, DoctorArgs, EvaluateArgs, InspectArgs, VerifyArgs};
pub use train::{
    AugmentChoice, Method, OptimizerChoice, PrecisionChoice, RampForm, ShrinkAt, TrainArgs,
    TrainingArgs,
};
pub use values::{BlockList, FormList};

const EXAMPLES: &str = "\
Examples:
  updp-compile model.onnx -o out.onnx            merge layers exactly, verify, write
  updp-compile compile model.onnx -o out.onnx --why-not
                                                 the same, and list what stays as it is, and why
  updp-compile inspect model.onnx                list the blocks that can be pruned and merged
  updp-compile prune model.onnx -o out.onnx --data images/ --prune 3
                                                 prune the three blocks with the smallest degradation, and fit
  updp-compile prune model.onnx -o out.onnx --blocks 3,5 --recover none
                                                 prune two blocks without recovering accuracy
  updp-compile evaluate a.onnx b.onnx --data images/
                                                 compare the accuracy of two models
  updp-compile verify a.onnx b.onnx              compare the outputs of two models
  updp-compile bench a.onnx b.onnx               compare their speed
  updp-compile doctor                            show which runtime is found, and what is missing

Exit codes: 0 done, 1 our bug, 2 usage, 3 bad model, 4 unsupported, 5 verification failed,
6 nothing to prune, 7 goal missed, 8 runtime missing, 130 interrupted.";

/// Makes ONNX vision models faster: merges layers exactly, and prunes blocks and recovers accuracy.
///
/// Without a subcommand it compiles, and prunes where a goal is given.
#[derive(Debug, Parser)]
#[command(
    name = "updp-compile",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Arguments of the bare form.
    #[command(flatten)]
    pub bare: BareArgs,
    /// The command as it can be typed again.
    #[arg(skip)]
    pub line: String,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Merges layers without changing the function, verifies the result and writes it
    Compile(Box<CompileCommand>),
    /// Replaces blocks by cheaper ones, recovers accuracy, merges and writes the result
    Prune(Box<PruneCommand>),
    /// Trains a model as it is on images, without a deep-learning framework
    #[command(visible_alias = "train")]
    Finetune(Box<TrainArgs>),
    /// Shows what is in a model and what compiling it would do
    Inspect(InspectArgs),
    /// Compares the outputs of two models by running both
    Verify(VerifyArgs),
    /// Measures accuracy on images, or how often two models agree
    Evaluate(EvaluateArgs),
    /// Measures the latency of one or two models
    Bench(BenchArgs),
    /// Shows what this machine has for running models, and what to type where something is missing
    Doctor(DoctorArgs),
    /// Explains an error code, or lists them all
    Errors {
        /// Error code, such as I0102
        code: Option<String>,
    },
    /// Writes shell completions to standard output
    Completions {
        /// Shell to write completions for
        shell: Shell,
    },
    /// Writes the man page to standard output
    Man,
}

/// Parses arguments; help and version are printed, errors too. `Err` is the exit code.
///
/// # Errors
/// 0 after help or version, 2 for wrong arguments.
pub fn parse(arguments: Vec<OsString>) -> Result<Cli, u8> {
    let line = own_command(&arguments);
    let given = config::expand(arguments).map_err(|error| {
        crate::terminal::complain(&error);
        error.exit_code()
    })?;
    let matches = command().try_get_matches_from(&given.arguments);
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map(|cli| Cli { line, ..cli }).map_err(|error| {
        if !error.use_stderr() {
            return match error.print() {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    let detail = error.to_string();
                    let error = CliError::Write { path: "standard output".into(), detail };
                    crate::terminal::complain(&error);
                    error.exit_code()
                }
                _ => 0,
            };
        }
        if let Some(error) = given.explain(&error) {
            crate::terminal::complain(&error);
            return error.exit_code();
        }
        complain(&error, &given.arguments);
        2
    })
}

/// Parses the arguments of a program that calls the library; nothing is printed.
///
/// # Errors
/// C0001 for wrong arguments, C0018 for those of a file of options.
pub fn parse_for_program(arguments: Vec<OsString>) -> Result<Cli, CliError> {
    let name = OsString::from("updp-compile");
    let arguments: Vec<OsString> = std::iter::once(name).chain(arguments).collect();
    let line = own_command(&arguments);
    let given = config::expand(arguments)?;
    let matches = command().try_get_matches_from(&given.arguments);
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map(|cli| Cli { line, ..cli }).map_err(|error| {
        if let Some(error) = given.explain(&error) {
            return error;
        }
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        // What follows is the usage of the command line.
        let first = text.split("\n\n").next().unwrap_or(text);
        let lines: Vec<&str> = first.lines().map(str::trim).collect();
        CliError::Usage { detail: lines.join(" ") }
    })
}

/// Prints what clap says of wrong arguments, and the cure where it is an option at the wrong place.
fn complain(error: &clap::Error, arguments: &[OsString]) {
    for word in arguments {
        distrust(&word.to_string_lossy());
    }
    let text = error.to_string();
    let text = visible(&text);
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or("wrong arguments");
    crate::terminal::note(&format!("error[C0001]: {first}"));
    if let Some(cure) = misplaced(error, arguments) {
        crate::terminal::note(&format!("help: {cure}"));
        return;
    }
    for line in lines {
        crate::terminal::note(line);
    }
}

/// The cure for an option of another subcommand, and for options in front of the subcommand.
fn misplaced(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        let owners = help::owners(option.trim_start_matches('-'));
        return (!owners.is_empty())
            .then(|| format!("{option} is an option of {}", owners.join(", ")));
    }
    let command = command();
    let words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let mut words = words.skip_while(|word| command.find_subcommand(word).is_none());
    let name = words.next().filter(|name| arguments.get(1).is_some_and(|first| first != name))?;
    Some(format!("options follow the subcommand: updp-compile {name} MODEL …"))
}
