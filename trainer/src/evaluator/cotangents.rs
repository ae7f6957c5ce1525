//! Draws answers from the distribution that the original's outputs describe, and the gradients of their log-likelihood.

use indexmap::IndexMap;
use updp_ir::Tensor;

use super::Evaluator;
use crate::seed::Generator;
use crate::similarity::{distribution, is_distribution};

/// Smallest probability that a gradient divides by.
const LEAST: f64 = 1e-6;

impl Evaluator {
    /// For each compared output of a batch, `∂ ln q(y) / ∂ output` for an answer `y ~ q`, with the dims of the output. For
    /// class scores, `q` is their distribution of classes. Other outputs are the mean of a normal distribution with the
    /// variance of the original's output. The scale is that of [`Score::kl`](super::Score::kl).
    pub(crate) fn draw_cotangents(
        &self,
        batch: usize,
        random: &mut Generator,
    ) -> IndexMap<String, Tensor> {
        let Some(reference) = self.reference.get(batch) else { return IndexMap::new() };
        let each = self.shares().zip(reference).zip(&self.variance);
        each.filter_map(|(((name, share), answer), variance)| {
            // A change costs about half its square, so this weights the square.
            let share = share.sqrt();
            let mut values = Vec::with_capacity(answer.values.len());
            for row in answer.rows() {
                if answer.is_classes {
                    values.extend(of_classes(row, random).map(|value| share * value));
                } else {
                    let width: usize = answer.dims.iter().skip(1).product();
                    let scale = share / (variance * width.max(1) as f64).sqrt();
                    let scale = if scale.is_finite() { scale } else { 0.0 };
                    values.extend((0..width).map(|_| scale * normal(random)));
                }
            }
            Some((
                name.to_owned(),
                Tensor::from_f64(answer.dtype, answer.dims.clone(), &values).ok()?,
            ))
        })
        .collect()
    }
}

/// `∂ ln p_y / ∂ s` of the scores `s` for a class `y ~ p`: `e_y − p` for logits, `e_y / p_y` for probabilities.
fn of_classes<'a>(row: &'a [f32], random: &mut Generator) -> impl Iterator<Item = f64> + use<'a> {
    let shares = distribution(row);
    let is_probability = is_distribution(row);
    let mut left = uniform(random);
    let drawn = shares.iter().position(|share| {
        left -= share;
        left < 0.0
    });
    let drawn = drawn.unwrap_or(shares.len().saturating_sub(1));
    shares.into_iter().enumerate().map(move |(class, share)| {
        let own = if class == drawn { 1.0 } else { 0.0 };
        if is_probability { own / share.max(LEAST) } else { own - share }
    })
}

/// Uniform in `[0, 1)`.
fn uniform(random: &mut Generator) -> f64 {
    (random.bits() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Standard normal (Box and Muller).
fn normal(random: &mut Generator) -> f64 {
    let (radius, angle) = (1.0 - uniform(random), uniform(random));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
