//! Plants errors in compiled models and counts those that verification finds:
//! `cargo run --example planted_errors SEEDS MODEL...`.

use std::path::Path;

use updp_compile::Error;
use updp_exec::{InputData, ModelSource, RuntimeOptions};
use updp_ir::{DataPlacement, Model};
use updp_passes::{Options, pipeline};
use updp_testkit::{Bytes, Fault, decode, plant};
use updp_verify::{Oracle, Verification, VerifyError, parts};

/// What verification says of a planted error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An output of the whole network differs.
    InOutputs,
    /// A changed part differs, run by itself.
    InParts,
    /// The error changes the result of its own layer by no more than rounding does, so that no run shows it: the weight
    /// is next to nothing, or its channel is zero on all inputs.
    BelowRounding,
    /// Verification gives up on the model instead of calling it equal.
    Undecided,
    /// Verification calls the model equal, and the error is larger than rounding.
    Missed,
}

/// What became of one planted error.
#[derive(Debug)]
pub struct Trial {
    /// The kind of error.
    pub fault: Fault,
    /// The layer, and what was changed.
    pub place: String,
    /// What verification says.
    pub finding: Finding,
    /// Largest relative difference of an output, and of a channel of a part.
    pub differences: (f64, f64),
}

impl Trial {
    /// Whether verification refuses the model because of the error.
    #[must_use]
    pub fn is_found(&self) -> bool {
        matches!(self.finding, Finding::InOutputs | Finding::InParts)
    }
}

/// What became of one model.
#[derive(Debug)]
pub struct Outcome {
    /// Verification of the model without an error; it must pass.
    pub clean: Verification,
    /// The planted errors.
    pub trials: Vec<Trial>,
}

/// Compiles a model and plants errors of every kind in the result, `seeds` of each.
///
/// # Errors
/// The errors of compiling, and of running the model.
pub fn run(model: &Path, seeds: u64) -> Result<Outcome, Error> {
    let bytes: Bytes = std::fs::read(model)
        .map(Bytes::from)
        .map_err(|error| Error::Usage { detail: format!("{}: {error}", model.display()) })?;
    let before = decode(bytes.clone())?;
    let mut after = decode(bytes.clone())?;
    pipeline::compile(&mut after, &Options::default(), &mut |_, _| {})?;
    let source = ModelSource::Bytes(&bytes);
    let (data, runtime) = (InputData::default(), RuntimeOptions::default());
    let oracle = Oracle::new(source, &before.graph, &data, 3, &runtime)?;
    let clean = verified(&oracle, &before, &after)?;
    let compiled = after.encode(&DataPlacement::Inline)?.model_to_bytes();
    let alone = Oracle::new(ModelSource::Bytes(&compiled), &after.graph, &data, 1, &runtime)?;
    let mut trials = Vec::new();
    for fault in Fault::ALL {
        for seed in 0..seeds {
            let Some(planted) = plant(&after, fault, seed) else { continue };
            let result = verified(&oracle, &before, &planted.model);
            let mut trial = trial(fault, planted.place, result)?;
            let is_silent = matches!(trial.finding, Finding::Undecided | Finding::Missed);
            if is_silent && parts::compare(&after, &planted.model, &alone)?.is_proof() {
                trial.finding = Finding::BelowRounding;
            }
            trials.push(trial);
        }
    }
    Ok(Outcome { clean, trials })
}

fn trial(
    fault: Fault,
    place: String,
    result: Result<Verification, VerifyError>,
) -> Result<Trial, Error> {
    let result = match result {
        Err(VerifyError::VerificationFailed { .. }) => Verification::default(),
        other => other?,
    };
    let is_in_outputs = result.outputs.iter().any(|output| output.failure.is_some());
    let finding = match () {
        () if result.outputs.is_empty() => Finding::InOutputs,
        () if result.is_chaotic() => Finding::Undecided,
        () if is_in_outputs => Finding::InOutputs,
        () if !result.is_passed() => Finding::InParts,
        () => Finding::Missed,
    };
    let part = result.local.as_ref().map_or(0.0, |parts| parts.worst);
    Ok(Trial { fault, place, finding, differences: (result.worst(), part) })
}

fn verified(
    oracle: &Oracle<'_>,
    before: &Model,
    after: &Model,
) -> Result<Verification, VerifyError> {
    let bytes = after.encode(&DataPlacement::Inline)?.model_to_bytes();
    let mut result = oracle.compare(ModelSource::Bytes(&bytes))?;
    result.local = parts::compare(before, &decode(bytes.clone())?, oracle).ok();
    Ok(result)
}

/// A column for each kind: errors found in the outputs, found at all, below rounding, planted.
fn line(outcome: &Outcome) -> String {
    let counts = Fault::ALL.map(|fault| {
        let all = || outcome.trials.iter().filter(|trial| trial.fault == fault);
        let count = |finding| all().filter(|trial| trial.finding == finding).count();
        let outputs = count(Finding::InOutputs);
        let found = outputs + count(Finding::InParts);
        let below = count(Finding::BelowRounding);
        format!("{outputs} {found} {below} {}", all().count())
    });
    counts.join(" | ")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seeds = arguments.first().and_then(|seeds| seeds.parse().ok());
    let (Some(seeds), [_, models @ ..]) = (seeds, &arguments[..]) else {
        eprintln!("usage: planted_errors SEEDS MODEL...");
        std::process::exit(2);
    };
    println!(
        "model | weight | tap | channels | bias (each: in the outputs, found, below rounding, planted)"
    );
    for model in models {
        let path = Path::new(model);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match run(path, seeds) {
            Ok(outcome) => {
                let alarm = outcome
                    .clean
                    .failure()
                    .map_or(String::new(), |it| format!(" FALSE ALARM: {it}"));
                println!("{name} | {}{alarm}", line(&outcome));
                for trial in outcome.trials.iter().filter(|trial| !trial.is_found()) {
                    let (output, part) = trial.differences;
                    println!(
                        "    {:?}: {:?} {}: output {output:.1e}, part {part:.1e}",
                        trial.finding, trial.fault, trial.place
                    );
                }
            }
            Err(error) => println!("{name} | {error}"),
        }
    }
}
