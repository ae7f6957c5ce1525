//! What came of a compilation or a pruning, in one line.

use std::fmt::Write;
use std::path::Path;

use updp_prune::Pruned;
use updp_prune::outcome::Outcome;
use updp_prune::words::counted;

use crate::api::{CompileReport, VerificationStatus};
use crate::model_file::is_pipe;
use crate::paint::Tone;
use crate::report;

/// The verdict on a result that missed nothing.
#[must_use]
pub fn of(target: &Path, report: &CompileReport, pruned: Option<&Pruned>) -> (Tone, String) {
    let fitted = pruned.and_then(|pruned| pruned.outcome.as_ref());
    let is_usable = pruned.is_none() || fitted.is_some();
    let told = fitted.map(|fitted| &fitted.explanation[..]).unwrap_or_default();
    let warnings = report::warnings(&report.log).len()
        + usize::from(report.overridable_weights > 0)
        + told.iter().filter(|it| it.starts_with("WARNING")).count();
    let is_unproved = report.status == VerificationStatus::Skipped && !report.is_unchanged;
    let name = if is_pipe(target) { String::new() } else { format!(" {}", target.display()) };
    let mut text = format!("wrote{name}: ");
    match (is_usable, fitted) {
        (false, _) => text.push_str("pruned without recovery, not usable"),
        (true, Some(fitted)) => text.push_str(&gain(fitted)),
        (true, None) => text.push_str(&size(report)),
    }
    text.push_str(match report.status {
        VerificationStatus::Passed => ", verified",
        VerificationStatus::Local => ", verified part by part",
        VerificationStatus::Skipped if is_unproved => ", not verified",
        VerificationStatus::Unchanged | VerificationStatus::Skipped => "",
    });
    if warnings > 0 {
        let _ = write!(text, ", {}", counted(warnings, "warning", "warnings"));
    }
    let tone = if warnings > 0 || is_unproved || !is_usable { Tone::Warning } else { Tone::Good };
    (tone, text)
}

/// What pruning gained and what it cost.
fn gain(fitted: &Outcome) -> String {
    let chosen = fitted.blocks.iter().filter(|block| block.chosen.is_some()).count();
    let mut text = format!("{} pruned", counted(chosen, "block", "blocks"));
    if let Some(speed) = &fitted.speed {
        let _ = write!(text, ", {:.2} times as fast", speed.speedup);
    }
    let (before, after) = (&fitted.before, &fitted.after);
    let _ = match (before.accuracy, after.accuracy, after.agreement) {
        (Some(was), Some(is), _) => {
            write!(text, ", accuracy {:.2} % -> {:.2} %", 100.0 * was, 100.0 * is)
        }
        (_, _, Some(share)) => write!(text, ", agreement {:.2} %", 100.0 * share),
        _ => write!(text, ", cosine {:.4}", after.overlap),
    };
    text
}

/// How the number of operators changed.
fn size(report: &CompileReport) -> String {
    let (before, after) = (report.before.nodes, report.after.nodes);
    if report.is_unchanged {
        return "nothing to merge".to_owned();
    }
    format!("{before} -> {}", counted(after, "operator", "operators"))
}
