//! The network before and after: its blocks, its operators, the extent of the verification, and the declined merges.

use updp_passes::{Log, ModelSummary};
use updp_prune::outcome::{BlockOutcome, Outcome};

use super::{after_ms, number};
use crate::report::{changed_ops, grouped};
use updp_prune::words::counted;
use updp_verify::Verification;

/// How much of the network was compared: on whole inputs, or part by part.
pub(super) fn extent(verified: &Verification) -> String {
    match verified.parts {
        Some(parts) => format!("{}, each by itself", counted(parts, "part", "parts")),
        None => format!("{} each", counted(verified.runs, "input", "inputs")),
    }
}

/// The blocks side by side; the width of each is its share of the time.
pub(super) struct Lane {
    pub(super) label: &'static str,
    /// Share of the longer lane, in per cent.
    pub(super) width: f64,
    pub(super) blocks: Vec<Piece>,
}

/// One block in a lane.
pub(super) struct Piece {
    pub(super) index: usize,
    pub(super) is_pruned: bool,
    /// Share of its own lane, in per cent. The shares of a lane add up to 100.
    pub(super) part: f64,
    pub(super) tip: String,
}

/// The blocks before and after pruning; empty if their times do not add up to a finite sum above 0.
pub(super) fn lanes(outcome: &Outcome) -> Vec<Lane> {
    let before: f64 = outcome.blocks.iter().map(|block| block.baseline_ms).sum();
    let after: f64 = outcome.blocks.iter().map(after_ms).sum();
    let longest = before.max(after);
    if !(longest.is_finite() && longest > 0.0) {
        return Vec::new();
    }
    // A lane of no length has pieces of no width.
    let part = |ms: f64, all: f64| if all > 0.0 { 100.0 * ms.max(0.0) / all } else { 0.0 };
    let lane = |label, all: f64, piece: &dyn Fn(&BlockOutcome) -> Piece| Lane {
        label,
        width: 100.0 * all / longest,
        blocks: outcome.blocks.iter().map(piece).collect(),
    };
    vec![
        lane("Before", before, &|block| {
            Piece::new(block, None, block.baseline_ms, part(block.baseline_ms, before))
        }),
        lane("After", after, &|block| {
            let ms = after_ms(block);
            Piece::new(block, block.chosen.as_deref(), ms, part(ms, after))
        }),
    ]
}

impl Piece {
    /// A block in this form; `None` = unchanged.
    fn new(block: &BlockOutcome, form: Option<&str>, ms: f64, part: f64) -> Self {
        Self {
            index: block.index,
            is_pruned: form.is_some(),
            part,
            tip: format!("{} {}: {} ms", block.name, form.unwrap_or("as it is"), number(ms)),
        }
    }
}

/// Multiply-adds of a pruned block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMacs {
    /// Index as `inspect` prints it.
    pub index: usize,
    /// Name of the block.
    pub name: String,
    /// Multiply-adds before.
    pub before: u64,
    /// Multiply-adds in the form that it was pruned to.
    pub after: u64,
}

/// A count before and after.
pub(super) struct Count<'a> {
    pub(super) name: &'a str,
    pub(super) before: String,
    pub(super) after: String,
}

/// The counts of both models. Operator types appear only if their number changed.
pub(super) fn counts<'a>(before: &'a ModelSummary, after: &'a ModelSummary) -> Vec<Count<'a>> {
    let ops = changed_ops(before, after);
    let ops = ops.into_iter().map(|(name, was, is)| (name, was as u64, is as u64));
    [("Operators", before.nodes as u64, after.nodes as u64)]
        .into_iter()
        .chain(ops)
        .chain([
            ("Parameters", before.parameters as u64, after.parameters as u64),
            ("Multiply-adds", before.macs, after.macs),
            ("Bytes", before.bytes, after.bytes),
        ])
        .map(|(name, was, is)| Count { name, before: grouped(was), after: grouped(is) })
        .collect()
}

/// The declined merges, each with its reason.
pub(super) fn declined(log: &Log) -> Vec<String> {
    let line = |it: &updp_passes::Refusal| {
        let declined = &it.declined;
        format!("{} at {}: {} ({})", it.rule, it.node, declined.reason, declined.detail)
    };
    log.refusals.iter().map(line).collect()
}
