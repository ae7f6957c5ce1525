//! The greedy search. It starts from the unpruned network and always takes the change with the lowest cost for its
//! gain.
//! A change prunes one more block or makes a pruned block faster. If blocks are counted, the search takes the change
//! with the least degradation. Otherwise it takes the change with the least joint degradation for the time that it
//! saves. If the evaluations do not suffice for all changes, only those that the table ranks best are evaluated. If no
//! evaluation is left, the table alone decides.
//! where none is left, the table alone decides.

use super::super::{Choice, Constraint, Genome};
use super::Trial;
use super::space::Space;

/// Takes changes until the constraint is met. For a degradation bound, takes changes until no change stays within it.
pub(super) fn run<E>(trial: &mut Trial<'_, E>, space: &Space) -> Result<(), E> {
    let mut genome: Genome = vec![None; space.options.len()];
    let mut degradation = 0.0;
    let mut steps = steps(trial, space);
    loop {
        let is_degradation = matches!(space.constraint, Constraint::Degradation(_));
        if !is_degradation && space.admits(&genome) {
            trial.look(&genome)?;
            return Ok(());
        }
        let mut changes = changes(space, &genome);
        let by_table = |it: &Change| it.told / it.gain;
        changes.sort_by(|a, b| by_table(a).total_cmp(&by_table(b)));
        // One evaluation is kept for the final genome.
        let looked = trial.left.saturating_sub(1) / steps.max(2);
        steps = steps.saturating_sub(1);
        let mut best: Option<(f64, Genome, f64)> = None;
        for change in changes.iter().take(looked) {
            let Some(joint) = trial.look(&change.genome)? else { break };
            if matches!(space.constraint, Constraint::Degradation(bound) if joint > bound) {
                continue;
            }
            let worth = (joint - degradation) / change.gain;
            if best.as_ref().is_none_or(|(known, ..)| worth < *known) {
                best = Some((worth, change.genome.clone(), joint));
            }
        }
        match (best, changes.into_iter().next()) {
            (Some((_, next, joint)), _) => (genome, degradation) = (next, joint),
            // No evaluation is left. For a degradation bound, the search ends with the best genome so far.
            (None, Some(change)) if !is_degradation => genome = change.genome,
            _ => return Ok(()),
        }
    }
}

/// Number of steps to the constraint, according to the table.
fn steps<E>(trial: &Trial<'_, E>, space: &Space) -> usize {
    let told = super::super::solve(trial.blocks, space.constraint, 1);
    told.first().map_or(1, |solution| solution.genome.iter().flatten().count())
}

struct Change {
    genome: Genome,
    /// Cost according to the table, with a small lower bound.
    told: f64,
    /// Latency saved, in units, or 1 where blocks are counted.
    gain: f64,
}

fn changes(space: &Space, genome: &Genome) -> Vec<Change> {
    let is_count = matches!(space.constraint, Constraint::Count(_));
    let mut found = Vec::new();
    for (at, choices) in space.options.iter().enumerate() {
        let Some(own) = choices.iter().find(|it| it.candidate == genome[at]) else { continue };
        let is_open = |it: &&Choice| {
            it.candidate.is_some()
                && if is_count { own.candidate.is_none() } else { it.latency < own.latency }
        };
        for choice in choices.iter().filter(is_open) {
            let mut next = genome.clone();
            next[at] = choice.candidate;
            let gain = if is_count { 1.0 } else { (own.latency - choice.latency) as f64 };
            let told = (choice.degradation - own.degradation).max(1) as f64;
            found.push(Change { genome: next, told, gain });
        }
    }
    found
}
