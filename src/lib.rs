//! Makes trained ONNX vision models faster: merges layers exactly, and prunes blocks and recovers accuracy.
//!
//! The library has one function for each job. Each function takes a model ([`Source`]: a path, bytes or a graph), plain
//! options with defaults, and an [`Observer`] that follows the work and can end it. Each function returns a report of
//! plain data.
//!
//! | function | what it does |
//! |---|---|
//! | [`compile()`] | merges layers without changing the function, and verifies the result by running it |
//! | [`prune()`] | prunes blocks with images and recovers accuracy; [`estimate`] says what that would do; [`prune_structure`] and [`expand`] need no images |
//! | [`finetune()`] | trains a model as it is; [`estimate_finetune`] says how long that takes; [`training_step`] is the step as a graph |
//! | [`inspect()`] | says what is in a model and what compiling it would do |
//! | [`verify()`] | compares two models by running both |
//! | [`evaluate()`] | runs one or two models over images: accuracy, agreement, images that change their class |
//! | [`doctor()`] | says what this machine has for running models, and what is missing |
//! | [`bench()`] | measures one or two models in turns; [`bench_blocks`] measures the blocks of one |
//!
//! ```
//! use updp_compile::{CompileOptions, Silent, compile};
//!
//! let options = CompileOptions::default();
//! let report = compile("fixtures/trained/fmnist_repvgg.bn.onnx", &options, &mut Silent)?;
//! println!("{} nodes become {}", report.before.nodes, report.after.nodes);
//! assert!(report.after.nodes < report.before.nodes);
//! assert!(report.verification.is_some_and(|outputs| outputs.is_passed()));
//! # let bytes = report.model.expect("no output file is asked for");
//! # assert!(!bytes.is_empty());
//! # Ok::<(), updp_compile::Error>(())
//! ```
//!
//! Everything that prints, draws or reads arguments belongs to the command line, which [`run`] starts.

pub mod api;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod deploy;
#[doc(hidden)]
pub mod interrupt;
#[doc(hidden)]
mod score_command;
pub mod terminal;

mod block_map;
mod block_report;
mod clock;
mod commands;
mod data;
mod error;
mod front_table;
mod gates;
mod listener;
mod model_file;
mod paint;
mod paths;
mod progress_lines;
mod report;
mod report_page;
mod sha256;
mod shell;
mod test_vectors;
mod untrusted;
mod verdict;
mod write;

pub use api::{
    BenchOptions, BenchReport, BenchedModel, BlockBenchOptions, BlockBenchReport, BlockCount,
    ClassScore, CompileOptions, CompileReport, Cure, DoctorLibrary, DoctorProvider, DoctorReport,
    Error, EvaluateOptions, EvaluateReport, ExpandReport, FinetuneEstimate, FinetuneOptions,
    FinetuneReport, FlippedImage, FreezeWeights, Goal, InputCheckOptions, InspectOptions,
    InspectReport, ModelScore, Observer, PassedOver, PruneOptions, PruneReport, RuleOptions,
    Silent, Source, TrainingEvent, VerificationStatus, VerifyOptions, VerifyReport, bench,
    bench_blocks, compile, doctor, estimate, estimate_finetune, evaluate, expand, finetune,
    freeze_weights, inspect, overridable_weights, prune, prune_structure, training_step, verify,
};
pub use deploy::{DeployTarget, Finding, Severity};
pub use gates::{GateOptions, Gates};
pub use listener::Outcome;
pub use report::Versions;
pub use score_command::{ScoreCommand, ScorePair};

use listener::Listener;

/// The exit code after an interruption.
const INTERRUPTED: u8 = 130;

/// Runs the command line and returns the exit code.
#[must_use]
pub fn run(arguments: Vec<std::ffi::OsString>) -> u8 {
    let command = match cli::parse(arguments) {
        Ok(command) => command,
        Err(code) => return code,
    };
    let result = commands::run(command, &mut Listener::Terminal).and_then(Outcome::into_result);
    match result.and_then(|()| terminal::check_output()) {
        Ok(()) => 0,
        Err(error) => {
            terminal::complain(&error);
            if error.exit_code() == INTERRUPTED {
                terminal::note(&format!("help: {}", interrupt::what_to_type()));
            }
            error.exit_code()
        }
    }
}

/// Runs one command of the command line for a program: progress goes to the observer, and nothing is printed.
///
/// The arguments are those that follow the name of the program: `["compile", "model.onnx", "-o", "out.onnx"]`. Bindings of
/// other languages call this function, so that they have every option of the command line, with the same names, ranges
/// and defaults.
///
/// # Errors
/// C0001 for wrong arguments, and the errors of the command.
pub fn run_command(
    arguments: Vec<std::ffi::OsString>,
    observer: &mut dyn Observer,
) -> Result<Outcome, Error> {
    let command = cli::parse_for_program(arguments)?;
    commands::run(command, &mut Listener::Program(observer))
}
