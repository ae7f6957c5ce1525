//! The latency model: what each form of each block saves inside the network.
//!
//! Blocks are measured alone, outside the network. There they take longer: their inputs come from outside, and nothing
//! around them is fused with them. So the times alone only say how the forms compare. The model is
//!
//! `T(S) = T₀ − Σ_{(b,f) ∈ S} c_bf · (t_b − t_bf)`
//!
//! T₀ is the measured latency of the original, `t_b` and `t_bf` are the times of the block and of its form alone, and S is
//! the set of pruned blocks with their forms. The factors are drawn around one scale κ that makes the sum of the blocks
//! fit into the network: `c_bf = κ·(1 + e + e_b + e_bf)`. The errors e (all blocks), `e_b` (a block) and `e_bf` (a form)
//! are independent and normal. Every measured network is an observation of `Σ c_bf·(t_b − t_bf)`. The factors are their
//! means given the observations (ridge regression towards κ, or a Kalman filter: the numbers are the same).

use crate::search::{BlockCost, Cost, Genome};

/// Standard deviation of the error that all blocks share.
const SHARED: f64 = 0.4;
/// Standard deviation of the error of a block.
const OF_BLOCK: f64 = 0.25;
/// Standard deviation of the error of a form.
const OF_FORM: f64 = 0.15;
/// Standard deviation of an observation beyond its own interval, as a share of the original's latency: neighbouring
/// pruned blocks merge, which no sum shows.
const MISFIT: f64 = 0.003;

/// A network that was measured.
#[derive(Clone, Debug)]
struct Observation {
    genome: Genome,
    /// Saved time as a share of the original's latency.
    saved: f64,
    /// Standard deviation of `saved`.
    deviation: f64,
}

/// Predicts latencies of pruned networks. All times are in milliseconds.
#[derive(Clone, Debug)]
pub struct LatencyModel {
    original_ms: f64,
    /// Times alone: the block and its forms.
    alone: Vec<BlockCost>,
    scale: f64,
    observations: Vec<Observation>,
    /// `c_bf` of each block and form.
    factors: Vec<Vec<f64>>,
}

impl LatencyModel {
    /// A model before any network was measured. `original_ms` is the latency of the original, `alone` holds the times
    /// of blocks and forms alone, and `share` (0 to 1) is the estimated share of the blocks in the original's latency.
    #[must_use]
    pub fn new(original_ms: f64, alone: &[BlockCost], share: f64) -> Self {
        let valid = |ms: f64| if ms.is_finite() { ms.max(0.0) } else { 0.0 };
        let sum: f64 = alone.iter().map(|block| valid(block.baseline_ms)).sum();
        let scale = if sum > 0.0 { original_ms * share.clamp(0.05, 1.0) / sum } else { 1.0 };
        let factors = alone.iter().map(|block| vec![scale; block.candidates.len()]).collect();
        Self { original_ms, alone: alone.to_vec(), scale, observations: Vec::new(), factors }
    }

    /// Latency of the original.
    #[must_use]
    pub fn original_ms(&self) -> f64 {
        self.original_ms
    }

    /// Number of measured networks.
    #[must_use]
    pub fn observations(&self) -> usize {
        self.observations.len()
    }

    /// Predicted latency of the network with these blocks pruned.
    #[must_use]
    pub fn predict(&self, genome: &Genome) -> f64 {
        let saved: f64 = self.terms(genome).iter().map(|&(b, f, d)| d * self.factors[b][f]).sum();
        self.original_ms - saved
    }

    /// Predicted speed-up of the network with these blocks pruned.
    #[must_use]
    pub fn speedup(&self, genome: &Genome) -> f64 {
        self.original_ms / self.predict(genome).max(1e-6 * self.original_ms)
    }

    /// Learns that the network of a genome is `speedup` times as fast as the original. `width` is the relative width of
    /// the 95 % interval of this number.
    pub fn observe(&mut self, genome: &Genome, speedup: f64, width: f64) {
        if !(speedup.is_finite() && speedup > 0.0) || self.terms(genome).is_empty() {
            return;
        }
        // A 95 % interval is 3.92 standard deviations wide.
        let noise = if width.is_finite() { width / (3.92 * speedup) } else { 0.02 };
        let deviation = noise.hypot(MISFIT);
        let saved = 1.0 - 1.0 / speedup;
        self.observations.push(Observation { genome: genome.clone(), saved, deviation });
        self.solve();
    }

    /// The costs of blocks and forms inside the network: what a sum over blocks and the rest of the network needs. The
    /// degradations are those of `of`, which has the blocks and forms of this model.
    #[must_use]
    pub fn costs(&self, of: &[BlockCost]) -> Vec<BlockCost> {
        let block = |(at, known): (usize, &BlockCost)| {
            let alone = &self.alone[at];
            let savings: Vec<f64> = (0..alone.candidates.len())
                .map(|form| self.factors[at][form] * self.difference(at, form))
                .collect();
            // No form is left with a negative time.
            let most = savings.iter().copied().filter(|ms| ms.is_finite()).fold(0.0, f64::max);
            let baseline_ms = (self.scale * alone.baseline_ms).max(most);
            let pairs = known.candidates.iter().zip(savings);
            let candidates =
                pairs.map(|(cost, saving)| Cost { latency_ms: baseline_ms - saving, ..*cost });
            BlockCost { baseline_ms, candidates: candidates.collect() }
        };
        of.iter().enumerate().take(self.alone.len()).map(block).collect()
    }

    /// `t_b − t_bf` in milliseconds.
    fn difference(&self, block: usize, form: usize) -> f64 {
        let known = &self.alone[block];
        known.baseline_ms - known.candidates[form].latency_ms
    }

    /// The pruned blocks of a genome: block, form and `t_b − t_bf`. Unknown forms are left out.
    fn terms(&self, genome: &Genome) -> Vec<(usize, usize, f64)> {
        let chosen = genome.iter().enumerate().filter_map(|(block, form)| Some((block, (*form)?)));
        let known = chosen.filter(|&(block, form)| {
            self.alone.get(block).is_some_and(|it| form < it.candidates.len())
        });
        let terms = known.map(|(block, form)| (block, form, self.difference(block, form)));
        terms.filter(|(.., difference)| difference.is_finite()).collect()
    }

    /// Covariance of the saved shares of two sets of forms: `ΣΣ d·d'·κ²·(σ² + σ_b²·[b = b'] + σ_bf²·[b = b', f = f'])`.
    fn covariance(&self, own: &[(usize, usize, f64)], other: &[(usize, usize, f64)]) -> f64 {
        let share = self.scale / self.original_ms;
        let mut sum = 0.0;
        for (block, form, d) in own {
            for (other_block, other_form, other_d) in other {
                let mut shared = SHARED * SHARED;
                if block == other_block {
                    shared += OF_BLOCK * OF_BLOCK;
                    if form == other_form {
                        shared += OF_FORM * OF_FORM;
                    }
                }
                sum += d * other_d * shared;
            }
        }
        sum * share * share
    }

    /// The factors given all observations: `c = κ·1 + K(c, y)·(K(y, y) + Σ)⁻¹·(y − E y)`.
    fn solve(&mut self) {
        let terms: Vec<_> = self.observations.iter().map(|it| self.terms(&it.genome)).collect();
        let mut matrix: Vec<Vec<f64>> = terms
            .iter()
            .map(|own| terms.iter().map(|other| self.covariance(own, other)).collect())
            .collect();
        let share = self.scale / self.original_ms;
        let mut weights = Vec::new();
        for (at, it) in self.observations.iter().enumerate() {
            matrix[at][at] += it.deviation * it.deviation;
            let expected: f64 = terms[at].iter().map(|(.., d)| d * share).sum();
            weights.push(it.saved - expected);
        }
        solve_in_place(&mut matrix, &mut weights);
        for block in 0..self.alone.len() {
            for form in 0..self.alone[block].candidates.len() {
                // The covariance of c_bf itself: a difference of one millisecond, counted in milliseconds.
                let unit = [(block, form, self.original_ms)];
                let pairs = terms.iter().zip(&weights);
                let moved: f64 = pairs.map(|(own, w)| self.covariance(&unit, own) * w).sum();
                // A form that is faster alone is not slower in the network, and not many times as fast.
                self.factors[block][form] =
                    (self.scale + moved).clamp(0.1 * self.scale, 4.0 * self.scale);
            }
        }
    }
}

/// Solves `A·x = b` for a symmetric positive definite A `[n, n]`; b becomes x. Uses A's lower half as working memory.
fn solve_in_place(matrix: &mut [Vec<f64>], vector: &mut [f64]) {
    let size = vector.len();
    // A = L·Lᵀ.
    for row in 0..size {
        for column in 0..=row {
            let dot: f64 = (0..column).map(|k| matrix[row][k] * matrix[column][k]).sum();
            let left = matrix[row][column] - dot;
            matrix[row][column] = if row == column {
                left.max(f64::MIN_POSITIVE).sqrt()
            } else {
                left / matrix[column][column]
            };
        }
    }
    for row in 0..size {
        let dot: f64 = (0..row).map(|k| matrix[row][k] * vector[k]).sum();
        vector[row] = (vector[row] - dot) / matrix[row][row];
    }
    for row in (0..size).rev() {
        let dot: f64 = (row + 1..size).map(|k| matrix[k][row] * vector[k]).sum();
        vector[row] = (vector[row] - dot) / matrix[row][row];
    }
}

/// Time of a form with `macs` multiply-adds, read off between measured variants of the same block: pairs of multiply-adds
/// and milliseconds. Outside their range the line through the nearest two pairs goes on, but not below zero. `None` for
/// fewer than two pairs with different multiply-adds.
#[must_use]
pub fn interpolate(measured: &[(f64, f64)], macs: f64) -> Option<f64> {
    let mut points = measured.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.dedup_by(|b, a| a.0 == b.0);
    if points.len() < 2 {
        return None;
    }
    let above = points.iter().position(|(known, _)| *known >= macs);
    let above = above.unwrap_or(points.len() - 1).max(1);
    let ((x0, y0), (x1, y1)) = (points[above - 1], points[above]);
    Some((y0 + (y1 - y0) * (macs - x0) / (x1 - x0)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six blocks with two forms each; alone they take 12 ms, the network takes 8 ms.
    fn alone() -> Vec<BlockCost> {
        let block = |at: usize| {
            let baseline_ms = 1.5 + 0.2 * at as f64;
            let form = |share: f64| Cost { latency_ms: baseline_ms * share, degradation: 1.0 };
            BlockCost { baseline_ms, candidates: vec![form(0.2), form(0.55)] }
        };
        (0..6).map(block).collect()
    }

    /// The true latency: every block and form has a factor of its own.
    fn truth(alone: &[BlockCost], genome: &Genome) -> f64 {
        let saved = genome.iter().enumerate().filter_map(|(block, form)| {
            let form = (*form)?;
            let it = &alone[block];
            let factor = [0.35, 0.5, 0.42, 0.6, 0.45, 0.55][block] * [1.0, 0.95][form];
            Some(factor * (it.baseline_ms - it.candidates[form].latency_ms))
        });
        8.0 - saved.sum::<f64>()
    }

    #[test]
    fn before_any_measurement_the_blocks_fit_into_the_network() {
        let alone = alone();
        let sum: f64 = alone.iter().map(|it| it.baseline_ms).sum();
        let model = LatencyModel::new(8.0, &alone, 0.75);
        assert!((model.predict(&vec![None; 6]) - 8.0).abs() < 1e-12);
        let costs = model.costs(&alone);
        let total: f64 = costs.iter().map(|it| it.baseline_ms).sum();
        assert!(sum > 11.9 && (total - 6.0).abs() < 1e-9, "{total}");
        assert_eq!(costs[2].candidates[1].degradation.to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn after_a_few_networks_other_networks_are_predicted_within_three_per_cent() {
        let alone = alone();
        let mut model = LatencyModel::new(8.0, &alone, 0.75);
        let observed: [Genome; 4] = [
            vec![Some(0); 6],
            vec![Some(0), None, Some(0), None, Some(0), None],
            vec![Some(0), Some(0), Some(0), None, None, None],
            vec![None, Some(1), None, Some(1), Some(1), None],
        ];
        let others: [Genome; 3] = [
            vec![None, Some(0), None, Some(1), None, Some(0)],
            vec![Some(1), None, None, Some(0), None, None],
            vec![None, None, Some(1), Some(1), Some(0), None],
        ];
        let worst = |model: &LatencyModel, of: &[Genome]| {
            let error = |it: &Genome| (model.predict(it) / truth(&alone, it) - 1.0).abs();
            of.iter().map(error).fold(0.0, f64::max)
        };
        let before = worst(&model, &others);
        for genome in &observed {
            model.observe(genome, 8.0 / truth(&alone, genome), 0.01);
        }
        assert!(worst(&model, &observed) < 0.01, "{}", worst(&model, &observed));
        let after = worst(&model, &others);
        assert!(after < 0.03 && after < before, "{before} {after}");
    }

    #[test]
    fn the_costs_sum_up_to_the_prediction() {
        let alone = alone();
        let mut model = LatencyModel::new(8.0, &alone, 0.75);
        model.observe(&vec![Some(0), None, Some(1), None, None, None], 1.3, 0.02);
        let costs = model.costs(&alone);
        let sum = |genome: &Genome| crate::search::sum(&costs, genome).expect("valid").latency_ms;
        let rest = model.original_ms() - sum(&vec![None; 6]);
        for genome in [vec![Some(0); 6], vec![Some(1), None, Some(0), None, None, Some(1)]] {
            assert!((rest + sum(&genome) - model.predict(&genome)).abs() < 1e-6);
        }
    }

    #[test]
    fn an_uncertain_measurement_moves_the_model_less() {
        let genome: Genome = vec![Some(0); 6];
        let moved = |width: f64| {
            let mut model = LatencyModel::new(8.0, &alone(), 0.75);
            model.observe(&genome, 4.0, width);
            (model.speedup(&genome) - 4.0).abs()
        };
        assert!(moved(0.01) < 0.1, "{}", moved(0.01));
        assert!(moved(2.0) > 2.0 * moved(0.01));
        let mut model = LatencyModel::new(8.0, &alone(), 0.75);
        model.observe(&genome, f64::NAN, 0.01);
        model.observe(&vec![None; 6], 1.0, 0.01);
        assert_eq!(model.observations(), 0);
    }

    #[test]
    fn times_are_read_off_between_measured_variants() {
        let measured = [(8.0, 4.0), (4.0, 3.0), (1.0, 1.5)];
        assert_eq!(interpolate(&measured, 6.0), Some(3.5));
        assert_eq!(interpolate(&measured, 4.0), Some(3.0));
        assert_eq!(interpolate(&measured, 2.0), Some(2.0));
        assert_eq!(interpolate(&measured, 0.0), Some(1.0));
        assert_eq!(interpolate(&measured, 12.0), Some(5.0));
        assert_eq!(interpolate(&[(8.0, 4.0), (8.0, 5.0)], 4.0), None);
    }
}
