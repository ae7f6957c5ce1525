//! The sandwich rule: it selects the subnets of a supernet that make up one update.

use super::draw::Draw;

/// Subnets per update.
pub const SUBNETS: u64 = 4;

/// Separates these draws from the other draws of a seed.
const STREAM: u64 = 0x7375_626e_6574_7321;

/// λ of the subnet that run `run` of update `step` trains, one entry per block, 0 or 1. The runs are: nothing pruned,
/// two drawn subnets, everything pruned (`[UPDP]` sec. 3).
///
/// A drawn subnet has 1 to `blocks − 1` pruned blocks. Each number is equally likely, and so is each set of that size.
/// If every block were drawn independently, nearly all subnets would prune half of the blocks. With a single block both
/// subnets are equally likely. The result depends only on the arguments, so a resumed training sees the same subnets.
#[must_use]
pub fn sandwich(seed: u64, step: u64, run: u64, blocks: usize) -> Vec<f32> {
    if run == 0 {
        return vec![0.0; blocks];
    }
    if run + 1 >= SUBNETS {
        return vec![1.0; blocks];
    }
    let mut draw = Draw::of(seed ^ STREAM, step, run);
    let count = match blocks {
        0 => 0,
        1 => draw.below(2) as usize,
        more => 1 + draw.below(more as u64 - 1) as usize,
    };
    let mut order: Vec<usize> = (0..blocks).collect();
    draw.shuffle(&mut order);
    let mut lambda = vec![0.0; blocks];
    for block in &order[..count] {
        lambda[*block] = 1.0;
    }
    lambda
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones(lambda: &[f32]) -> usize {
        assert!(lambda.iter().all(|entry| [0.0, 1.0].contains(entry)), "{lambda:?}");
        lambda.iter().filter(|entry| **entry == 1.0).count()
    }

    #[test]
    fn an_update_has_the_baseline_two_drawn_subnets_and_the_pruned_network() {
        for step in 0..200 {
            let subnets: Vec<Vec<f32>> =
                (0..SUBNETS).map(|run| sandwich(3, step, run, 9)).collect();
            assert_eq!(subnets[0], [0.0; 9]);
            assert_eq!(subnets[3], [1.0; 9]);
            for drawn in &subnets[1..3] {
                assert!((1..9).contains(&ones(drawn)), "{drawn:?}");
            }
        }
    }

    #[test]
    fn drawn_subnets_depend_on_seed_step_and_run_only() {
        let all: Vec<Vec<f32>> = [(0, 0, 1), (0, 0, 2), (0, 1, 1), (1, 0, 1), (1, 1, 2)]
            .map(|(seed, step, run)| sandwich(seed, step, run, 40))
            .to_vec();
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != one), "{at}");
        }
        assert_eq!(all[2], sandwich(0, 1, 1, 40));
    }

    #[test]
    fn every_number_of_pruned_blocks_and_every_block_is_as_likely() {
        let (blocks, updates) = (6, 3000);
        let (mut counts, mut of_block) = (vec![0; blocks + 1], vec![0; blocks]);
        for step in 0..updates {
            for run in [1, 2] {
                let drawn = sandwich(7, step, run, blocks);
                counts[ones(&drawn)] += 1;
                for (block, entry) in drawn.iter().enumerate() {
                    of_block[block] += usize::from(*entry == 1.0);
                }
            }
        }
        assert_eq!((counts[0], counts[blocks]), (0, 0));
        // There are 6000 draws, a fifth for each: the standard deviation is 31. Half of them for each block: it is 39.
        assert!(
            counts[1..blocks].iter().all(|count: &i32| (count - 1200).abs() < 150),
            "{counts:?}"
        );
        assert!(of_block.iter().all(|count| count.abs_diff(3000) < 190), "{of_block:?}");
    }

    #[test]
    fn a_single_block_is_drawn_both_ways_and_no_block_is_no_error() {
        let drawn: Vec<usize> = (0..50).map(|step| ones(&sandwich(0, step, 1, 1))).collect();
        assert!(drawn.contains(&0) && drawn.contains(&1), "{drawn:?}");
        assert!((0..SUBNETS).all(|run| sandwich(0, 0, run, 0).is_empty()));
    }
}
