//! Gentler goals: what a user could ask for instead, with the degradation that it is predicted to cost.

use updp_passes::ModelSummary;

use super::Selection;
use crate::candidates::{CandidateSet, MACS_UNIT};
use crate::config::{BlockSelection, Goal};
use crate::latency_model::LatencyModel;
use crate::network_latency::NetworkLatency;
use crate::search::{BlockCost, Constraint, Genome, fastest, solve, sum};

/// The gain of a gentler goal, as a share of the gain of the goal.
const SHARES: [f64; 2] = [2.0 / 3.0, 1.0 / 3.0];

/// A gentler goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Gentler {
    /// The option of the command line, with its value.
    pub option: String,
    /// Predicted degradation in nats: the sum of its forms, corrected by how the sum of the selected set compares with
    /// its degradation as it was fitted.
    pub degradation: f64,
}

/// Goals with a smaller gain than the selected set, nearest first. None if the goal is a bound on the loss, or if nothing
/// gentler is predicted to lose less.
#[must_use]
pub fn gentler(
    goal: &Goal,
    candidates: &CandidateSet,
    selection: &Selection,
    latency: &NetworkLatency,
) -> Vec<Gentler> {
    let costs = &candidates.costs;
    let found: Vec<(String, f64)> = match goal {
        Goal::Speedup(_) | Goal::LatencyMs(_) => {
            selection.model.as_ref().map_or_else(Vec::new, |model| by_speed(goal, model, costs))
        }
        Goal::MacsShare(share) => {
            let whole = ModelSummary::of(latency.compiled(), 0).macs as f64 / MACS_UNIT;
            by_macs(*share, whole, &candidates.macs_costs())
        }
        Goal::Count(count) => by_count(*count, costs),
        Goal::Blocks(asked) => {
            let index = |at: usize| candidates.blocks[at].profile.block.index;
            by_block(asked, costs, &selection.genome, index)
        }
        Goal::MaxDrop(_) | Goal::Pick(_) => Vec::new(),
    };
    let Some(own) = sum(costs, &selection.genome).map(|it| it.degradation) else {
        return Vec::new();
    };
    let fitted = selection.fitted_degradation(&selection.genome);
    let correction = fitted.filter(|_| own > 0.0).map_or(1.0, |fitted| (fitted / own).min(10.0));
    let mut gentler: Vec<Gentler> = Vec::new();
    for (option, degradation) in found {
        let is_new = gentler.iter().all(|it| it.option != option);
        if is_new && degradation < own {
            gentler.push(Gentler { option, degradation: degradation * correction });
        }
    }
    gentler
}

fn by_speed(goal: &Goal, model: &LatencyModel, costs: &[BlockCost]) -> Vec<(String, f64)> {
    let original = model.original_ms();
    let wanted = original / goal.latency_ms(original);
    let costs = model.costs(costs);
    let all: f64 = costs.iter().map(|cost| cost.baseline_ms).sum();
    let of = |share: f64| {
        let speedup = (100.0 * (1.0 + (wanted - 1.0) * share)).round() / 100.0;
        if speedup <= 1.0 || speedup >= wanted {
            return None;
        }
        let option = match goal {
            Goal::LatencyMs(_) => format!("--latency-ms {:.3}", original / speedup),
            _ => format!("--speedup {speedup}"),
        };
        let bound = (all - (original - original / speedup)).max(fastest(&costs).latency_ms);
        let found = solve(&costs, Constraint::Latency(bound), 1).pop()?;
        Some((option, found.degradation))
    };
    SHARES.into_iter().filter_map(of).collect()
}

/// `whole` and the costs are multiply-adds.
fn by_macs(share: f64, whole: f64, costs: &[BlockCost]) -> Vec<(String, f64)> {
    let all: f64 = costs.iter().map(|cost| cost.baseline_ms).sum();
    let of = |part: f64| {
        let left = (100.0 * (1.0 - (1.0 - share) * part)).round() / 100.0;
        if left >= 1.0 || left <= share {
            return None;
        }
        let bound = (all - whole * (1.0 - left)).max(fastest(costs).latency_ms);
        let found = solve(costs, Constraint::Latency(bound), 1).pop()?;
        Some((format!("--macs {left}"), found.degradation))
    };
    SHARES.into_iter().filter_map(of).collect()
}

fn by_count(count: usize, costs: &[BlockCost]) -> Vec<(String, f64)> {
    let of = |share: f64| {
        let fewer = (count as f64 * share).round() as usize;
        if fewer == 0 || fewer >= count {
            return None;
        }
        let found = solve(costs, Constraint::Count(fewer), 1).pop()?;
        Some((format!("--prune {fewer}"), found.degradation))
    };
    SHARES.into_iter().filter_map(of).collect()
}

/// The blocks that were asked for without those that lose most.
fn by_block(
    asked: &BlockSelection,
    costs: &[BlockCost],
    genome: &Genome,
    index: impl Fn(usize) -> usize,
) -> Vec<(String, f64)> {
    let lost = |at: usize| Some(costs[at].candidates.get(genome[at]?)?.degradation.max(0.0));
    let mut pruned: Vec<(usize, f64)> =
        (0..genome.len()).filter_map(|at| Some((at, lost(at)?))).collect();
    pruned.sort_by(|a, b| a.1.total_cmp(&b.1));
    let is_asked = |at: usize| match asked {
        BlockSelection::All => true,
        BlockSelection::List(list) => list.contains(&index(at)),
    };
    pruned.retain(|(at, _)| is_asked(*at));
    let of = |share: f64| {
        let fewer = (pruned.len() as f64 * share).round() as usize;
        if fewer == 0 || fewer >= pruned.len() {
            return None;
        }
        let mut list: Vec<usize> = pruned[..fewer].iter().map(|(at, _)| index(*at)).collect();
        list.sort_unstable();
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        let sum = pruned[..fewer].iter().map(|(_, lost)| lost).sum();
        Some((format!("--blocks {}", list.join(",")), sum))
    };
    SHARES.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Cost;

    /// Four blocks of a millisecond each; each can save half of it.
    fn costs() -> Vec<BlockCost> {
        let block = |degradation: f64| BlockCost {
            baseline_ms: 1.0,
            candidates: vec![Cost { latency_ms: 0.5, degradation }],
        };
        vec![block(0.4), block(0.1), block(0.2), block(0.3)]
    }

    #[test]
    fn a_gentler_speed_has_two_thirds_and_one_third_of_the_gain() {
        let model = LatencyModel::new(4.0, &costs(), 1.0);
        // 1.6 times as fast needs three blocks, 1.4 and 1.2 times need three and two.
        let found = by_speed(&Goal::Speedup(1.6), &model, &costs());
        let options: Vec<&str> = found.iter().map(|(option, _)| option.as_str()).collect();
        assert_eq!(options, ["--speedup 1.4", "--speedup 1.2"]);
        assert!((found[0].1 - 0.6).abs() < 1e-6 && (found[1].1 - 0.3).abs() < 1e-6, "{found:?}");
        let found = by_speed(&Goal::LatencyMs(2.5), &model, &costs());
        assert_eq!(found[1].0, "--latency-ms 3.333");
        assert_eq!(by_speed(&Goal::Speedup(1.01), &model, &costs()), [], "nothing lies between");
    }

    #[test]
    fn fewer_blocks_and_more_multiply_adds_are_gentler() {
        let found = by_count(3, &costs());
        assert_eq!(found[0].0, "--prune 2");
        assert!((found[0].1 - 0.3).abs() < 1e-9, "{found:?}");
        assert_eq!(found[1].0, "--prune 1");
        assert_eq!(by_count(1, &costs()), []);
        let found = by_macs(0.55, 4.0, &costs());
        let options: Vec<&str> = found.iter().map(|(option, _)| option.as_str()).collect();
        assert_eq!(options, ["--macs 0.7", "--macs 0.85"]);
        assert!(found[0].1 > found[1].1, "{found:?}");
    }

    #[test]
    fn of_blocks_that_were_asked_for_those_that_lose_most_are_left_out() {
        let asked = BlockSelection::List(vec![10, 12, 13]);
        let genome = vec![Some(0), None, Some(0), Some(0)];
        let found = by_block(&asked, &costs(), &genome, |at| at + 10);
        assert_eq!(found[0].0, "--blocks 12,13");
        assert!((found[0].1 - 0.5).abs() < 1e-9, "{found:?}");
        assert_eq!(found[1].0, "--blocks 12");
    }
}
