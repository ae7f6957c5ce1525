//! Plants errors in compiled models and counts those that verification finds:
//! `cargo run --example planted_errors SEEDS MODEL...`.

use std::path::Path;

use updp_compile::Error;
use updp_exec::{InputData, ModelSource, RuntimeOptions};
use updp_ir::{DataPlacement, Model};
use updp_passes::{Options, pipeline};
use updp_testkit::{Bytes, Fault, decode, plant};
use updp_verify::{Oracle, Verification, VerifyError, parts};

/// What became of one planted error.
#[derive(Debug)]
pub struct Trial {
    /// The kind of error.
    pub fault: Fault,
    /// The layer, and what was changed.
    pub place: String,
    /// Whether the outputs of the whole network show it.
    pub is_in_outputs: bool,
    /// Whether verification finds it: in the outputs or in a part.
    pub is_found: bool,
    /// Whether verification gives up on the model instead of calling it equal.
    pub is_undecided: bool,
    /// Whether the error changes the result of its own layer by no more than rounding does, so that no run shows it: the
    /// weight is next to nothing, or its channel is zero on all inputs.
    pub is_below_rounding: bool,
    /// Largest relative difference of an output, and of a channel of a part.
    pub differences: (f64, f64),
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
            if !trial.is_found {
                let parts = parts::compare(&after, &planted.model, &alone)?;
                trial.is_below_rounding = parts.is_proof();
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
    let part = result.local.as_ref().map_or(0.0, |parts| parts.worst);
    Ok(Trial {
        fault,
        place,
        is_in_outputs,
        is_found: result.outputs.is_empty() || (!result.is_passed() && !result.is_chaotic()),
        is_undecided: result.is_chaotic(),
        is_below_rounding: false,
        differences: (result.worst(), part),
    })
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
        let outputs = all().filter(|trial| trial.is_in_outputs).count();
        let found = all().filter(|trial| trial.is_found).count();
        let below = all().filter(|trial| trial.is_below_rounding).count();
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
                for trial in outcome.trials.iter().filter(|trial| !trial.is_found) {
                    let (output, part) = trial.differences;
                    let verdict = if trial.is_undecided {
                        "undecided"
                    } else if trial.is_below_rounding {
                        "below rounding"
                    } else {
                        "NOT FOUND"
                    };
                    println!(
                        "    {verdict}: {:?} {}: output {output:.1e}, part {part:.1e}",
                        trial.fault, trial.place
                    );
                }
            }
            Err(error) => println!("{name} | {error}"),
        }
    }
}
