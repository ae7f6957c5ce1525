//! Limits the time for large networks. Their forms are compared with fewer rows, and layers far behind a pruned block
//! stay unchanged.

use updp_ir::Model;
use updp_passes::ModelSummary;
use updp_passes::surgery::{Layer, Site};
use updp_trainer::activation_cache::ActivationCache;
use updp_trainer::block_evaluator::BatchShare;
use updp_trainer::evaluator::Evaluator;
use updp_trainer::fit::FitSettings;
use updp_trainer::run::CachedBatches;

use crate::block_profile::BlockProfile;
use crate::checkpoint::Scored;
use crate::error::Result;
use crate::fitter::Fitter;
use crate::part::Part;

/// A pass over the held-out images with more multiply-adds than this takes seconds.
const COSTLY_MACS: u64 = 100_000_000_000;

/// Multiply-adds for solving the kept layers of one set of blocks again, about a minute on two cores.
const ADJUST_MACS: u64 = 3_000_000_000_000;

/// Multiply-adds for scoring the forms of all blocks, about half a minute on two cores.
const SCORING_MACS: u64 = 2_500_000_000_000;

/// Number of forms that are scored, as an estimate: this many for each block, and each runs half of the network.
const FORMS: u64 = 6;

/// A form is scored with at least this many images, if there are so many.
const LEAST_IMAGES: usize = 64;

/// A comparison of forms needs fewer rows and sweeps than the final fit.
const COMPARING_ROWS_PER_UNKNOWN: usize = 15;
const COMPARING_SWEEPS: usize = 1;

/// If the prepared images take more bytes than this, the rest of them is kept in a file.
pub(crate) const MOST_IMAGE_BYTES: usize = 512 << 20;

/// If they take more than this, they are read and decoded again each time they are needed.
pub(crate) const MOST_STORED_BYTES: usize = 16 << 30;

/// The calibration images that score a form or a set of blocks, of a network with this many blocks.
pub(crate) fn scoring_share(
    original: &Model,
    calibration: &Evaluator,
    blocks: usize,
    folds: usize,
) -> BatchShare {
    let macs = ModelSummary::of(original, 0).macs.max(1);
    let runs = (FORMS * blocks.max(1) as u64).div_ceil(2);
    let images = ((SCORING_MACS / (macs * runs)) as usize).max(LEAST_IMAGES);
    let step = (calibration.images() as f64 / images as f64).round() as usize;
    let rounds = calibration.batches().div_ceil(folds);
    BatchShare { round: folds, step: step.clamp(1, rounds.max(1)) }
}

/// Every other batch of the images and fewer rows, for comparing the forms of a large network. `None` for other
/// networks, which compare forms with all the data that they are fitted to.
///
/// # Errors
/// Errors of reading the images.
pub(crate) fn comparing(fitter: &Fitter<'_>) -> Result<Option<(Evaluator, FitSettings)>> {
    if !is_costly(fitter) {
        return Ok(None);
    }
    let half = CachedBatches::within(fitter.calibration.source(), 2, MOST_IMAGE_BYTES)?;
    let settings = FitSettings {
        rows_per_unknown: COMPARING_ROWS_PER_UNKNOWN,
        sweeps: COMPARING_SWEEPS,
        ..fitter.settings.clone()
    };
    let again = |half| fitter.evaluator.again(fitter.runner, fitter.original, half);
    let half = half.map(again).transpose()?;
    Ok(half.map(|half| (half, settings)))
}

/// The fitter that compares forms.
pub(crate) fn with<'a>(
    fitter: Fitter<'a>,
    comparing: Option<&'a (Evaluator, FitSettings)>,
) -> Fitter<'a> {
    match comparing {
        Some((half, settings)) => {
            Fitter { calibration: half, images: half.source(), settings, ..fitter }
        }
        None => fitter,
    }
}

/// The fitted and scored forms of one block. For a large network, dominated forms are left out.
///
/// # Errors
/// Errors of fitting and running.
pub(crate) fn alone(
    fitter: &Fitter<'_>,
    cache: &mut ActivationCache,
    profile: &BlockProfile,
    sites: &[Site],
) -> Result<Vec<Scored>> {
    let latencies: Vec<f64> = sites.iter().map(|site| profile.time_ms(site.form)).collect();
    Ok(fitter.alone(cache, sites, is_costly(fitter).then_some(&latencies[..]))?)
}

/// Whether scoring every form of every block takes minutes.
pub(crate) fn is_costly(fitter: &Fitter<'_>) -> bool {
    held_out_macs(fitter) > COSTLY_MACS
}

fn held_out_macs(fitter: &Fitter<'_>) -> u64 {
    ModelSummary::of(fitter.original, 0).macs.saturating_mul(fitter.evaluator.images() as u64)
}

/// Removes the layers from kept blocks for which there is no time. Layers closest behind a pruned block are solved
/// first. `macs` holds the multiply-adds of each part for one image. Returns the number of blocks that stay unchanged.
pub(crate) fn leave(parts: &mut [Part], macs: &[u64], fitter: &Fitter<'_>) -> usize {
    let images = fitter.calibration.images() as u64;
    let score = held_out_macs(fitter) / 2;
    let cost = |layers: &[Layer], macs: u64| -> u64 {
        let solving = |layer: &Layer| {
            let site = &layer.site;
            fitter.settings.solving_macs(site.in_channels * site.window.taps())
        };
        // Both networks run through the block once to continue and once for each layer.
        let runs = 2 * (1 + layers.len() as u64) * images * macs;
        runs + layers.iter().map(|layer| solving(layer) + score).sum::<u64>()
    };
    let costs: Vec<Option<u64>> = parts
        .iter()
        .zip(macs)
        .map(|(part, macs)| match part {
            Part::Pruned(_) => None,
            Part::Kept(layers) => Some(cost(layers, *macs)),
        })
        .collect();
    let beyond = too_far(&costs, ADJUST_MACS);
    for at in &beyond {
        parts[*at] = Part::Kept(Vec::new());
    }
    beyond.len()
}

/// Kept parts beyond the budget; `None` stands for a pruned part. Parts before the first pruned part cost nothing.
fn too_far(costs: &[Option<u64>], budget: u64) -> Vec<usize> {
    let mut behind: Option<usize> = None;
    let mut kept: Vec<(usize, usize, u64)> = Vec::new();
    for (at, cost) in costs.iter().enumerate() {
        match (cost, behind) {
            (None, _) => behind = Some(at),
            (Some(cost), Some(pruned)) => kept.push((at - pruned, at, *cost)),
            (Some(_), None) => {}
        }
    }
    kept.sort_unstable();
    let mut left = budget;
    let mut beyond = Vec::new();
    for (_, at, cost) in kept {
        match left.checked_sub(cost) {
            Some(rest) => left = rest,
            None => beyond.push(at),
        }
    }
    beyond
}

#[cfg(test)]
mod tests {
    use super::too_far;

    #[test]
    fn the_budget_goes_to_what_is_nearest_behind_a_pruned_block() {
        let costs = [Some(1), None, Some(1), Some(1), None, Some(1), Some(1), Some(1)];
        assert!(too_far(&costs, 100).is_empty());
        assert_eq!(too_far(&costs, 3), [6, 7]);
        assert_eq!(too_far(&costs, 0), [2, 5, 3, 6, 7]);
    }

    #[test]
    fn what_is_too_expensive_does_not_keep_cheaper_ones_behind_it_out() {
        assert_eq!(too_far(&[None, Some(9), Some(2), Some(2)], 5), [1]);
        assert!(too_far(&[Some(9), Some(9)], 0).is_empty());
    }
}
