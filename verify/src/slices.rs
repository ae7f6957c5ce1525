//! Differences of float tensors, slice by slice.
//!
//! One wrong weight of a layer changes one channel of its result. Against the largest element of the whole tensor that
//! change may look like rounding; against the largest element of its own channel it does not. A channel lies on axis 1
//! or on the last axis, so both are looked at.

use updp_ir::Tensor;

/// Largest |value| in every slice along one axis.
type Maxima = Vec<f64>;

/// Two float tensors of the same dims.
pub(crate) struct Pair {
    expected: Vec<f64>,
    found: Vec<f64>,
    dims: Vec<usize>,
}

impl Pair {
    /// The pair; `None` unless both are floats of the same dims.
    pub(crate) fn of(expected: &Tensor, found: &Tensor) -> Option<Self> {
        let is_float = expected.dtype().is_foldable_float() && expected.dtype() == found.dtype();
        if !is_float || expected.dims() != found.dims() {
            return None;
        }
        let dims = expected.dims().to_vec();
        Some(Self { expected: expected.to_f64()?, found: found.to_f64()?, dims })
    }

    /// The axes along which slices are taken; `None` stands for the whole tensor.
    fn axes(&self) -> Vec<Option<usize>> {
        match self.dims.len() {
            0 | 1 => vec![None],
            2 => vec![Some(1)],
            rank => vec![Some(1), Some(rank - 1)],
        }
    }

    /// Size of the axis, and number of elements that follow each other in one slice.
    fn steps(&self, axis: Option<usize>) -> (usize, usize) {
        axis.map_or((1, self.expected.len().max(1)), |axis| {
            (self.dims[axis].max(1), self.dims[axis + 1..].iter().product::<usize>().max(1))
        })
    }

    fn maxima(&self, axis: Option<usize>, value: impl Fn(usize) -> f64) -> Maxima {
        let (size, inner) = self.steps(axis);
        let mut maxima = vec![0.0_f64; size];
        let mut at = 0;
        let count = self.expected.len();
        while at < count {
            for most in &mut maxima {
                for _ in 0..inner {
                    let value = value(at).abs();
                    // A NaN stays visible.
                    *most = if value.is_nan() { f64::INFINITY } else { most.max(value) };
                    at += 1;
                }
            }
        }
        maxima
    }

    /// |Δ| of one element. Equal infinities and two NaNs are equal; other pairs that are not finite differ infinitely.
    fn delta(&self, at: usize) -> f64 {
        let (a, b) = (self.expected[at], self.found[at]);
        if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) {
            return 0.0;
        }
        let delta = (a - b).abs();
        if delta.is_nan() { f64::INFINITY } else { delta }
    }

    fn size(&self, at: usize) -> f64 {
        let value = self.expected[at];
        if value.is_finite() { value.abs() } else { 0.0 }
    }

    /// The differences of all slices.
    pub(crate) fn measured(&self) -> Measured {
        if self.expected.is_empty() {
            return Measured::default();
        }
        Measured { deltas: self.deltas(), scales: self.scales() }
    }

    /// Largest |Δ| of every slice, for each axis.
    pub(crate) fn deltas(&self) -> Vec<Maxima> {
        self.axes().iter().map(|axis| self.maxima(*axis, |at| self.delta(at))).collect()
    }

    /// Largest |reference| of every slice, for each axis. A slice of zeros gets the largest element of the tensor, and 1
    /// where that is 0 too.
    fn scales(&self) -> Vec<Maxima> {
        let scales = |axis: &Option<usize>| {
            let mut scales = self.maxima(*axis, |at| self.size(at));
            let most = scales.iter().copied().fold(0.0, f64::max);
            let most = if most > 0.0 { most } else { 1.0 };
            scales.iter_mut().filter(|scale| **scale <= 0.0).for_each(|scale| *scale = most);
            scales
        };
        self.axes().iter().map(scales).collect()
    }

    /// Whether the found tensor is the expected one with a factor and a summand for each slice of one axis, up to
    /// `limit`. Rewrites that carry a scale from one layer into the next change the value between them in this way.
    pub(crate) fn is_affine(&self, limit: f64) -> bool {
        self.axes().into_iter().any(|axis| self.is_affine_along(axis, limit))
    }

    fn is_affine_along(&self, axis: Option<usize>, limit: f64) -> bool {
        let (size, inner) = self.steps(axis);
        let slice_of = |at: usize| at / inner % size;
        let mut sums = vec![[0.0_f64; 5]; size];
        for at in 0..self.expected.len() {
            let (x, y) = (self.expected[at], self.found[at]);
            let sum = &mut sums[slice_of(at)];
            for (sum, term) in sum.iter_mut().zip([1.0, x, y, x * x, x * y]) {
                *sum += term;
            }
        }
        let lines: Vec<(f64, f64)> = sums
            .iter()
            .map(|[n, x, y, xx, xy]| {
                let spread = xx - x * x / n;
                let slope = if spread > 1e-12 * xx { (xy - x * y / n) / spread } else { 0.0 };
                (slope, (y - slope * x) / n)
            })
            .collect();
        let scales = self.maxima(axis, |at| self.found[at]);
        (0..self.expected.len()).all(|at| {
            let slice = slice_of(at);
            let (slope, offset) = lines[slice];
            (self.found[at] - slope * self.expected[at] - offset).abs() <= limit * scales[slice]
        })
    }
}

/// Largest |Δ| and largest |reference| of every slice, for each axis.
#[derive(Default)]
pub(crate) struct Measured {
    deltas: Vec<Maxima>,
    scales: Vec<Maxima>,
}

impl Measured {
    /// Slices with their differences and scales.
    pub(crate) fn slices(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.deltas.iter().flatten().copied().zip(self.scales.iter().flatten().copied())
    }

    /// Largest quotient of the two.
    pub(crate) fn ratio(&self) -> f64 {
        self.slices().map(|(delta, scale)| delta / scale).fold(0.0, f64::max)
    }
}

/// Raises the first list to the second where that is larger.
pub(crate) fn raise(most: &mut Vec<Maxima>, other: Vec<Maxima>) {
    if most.is_empty() {
        *most = other;
        return;
    }
    for (most, other) in most.iter_mut().flatten().zip(other.into_iter().flatten()) {
        *most = most.max(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(dims: &[usize], expected: &[f32], found: &[f32]) -> Pair {
        let tensor = |values| Tensor::from_f32(dims.to_vec(), values).expect("well formed");
        Pair::of(&tensor(expected), &tensor(found)).expect("floats")
    }

    #[test]
    fn a_small_channel_has_its_own_scale() {
        let pair = pair(&[1, 2, 2], &[1000.0, 900.0, 1.0, 0.5], &[1000.0, 900.0, 1.0, 0.51]);
        let ratio = pair.measured().ratio();
        assert!((ratio - 0.01).abs() < 1e-6, "{ratio}");
    }

    #[test]
    fn a_scale_per_channel_is_affine_and_one_wrong_element_is_not() {
        let expected = [1.0, 2.0, 4.0, 1.0, 3.0, 9.0];
        let scaled = [3.0, 5.0, 9.0, -1.0, -3.0, -9.0];
        assert!(pair(&[1, 2, 3], &expected, &scaled).is_affine(1e-6));
        let wrong = [3.0, 5.0, 9.0, -1.0, -3.1, -9.0];
        assert!(!pair(&[1, 2, 3], &expected, &wrong).is_affine(1e-3));
    }

    #[test]
    fn equal_infinities_are_equal_and_a_nan_on_one_side_is_not() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let same = pair(&[3], &[nan, inf, 1.0], &[nan, inf, 1.0]);
        assert!(same.measured().ratio() <= 0.0);
        let other = pair(&[3], &[2.0, inf, 1.0], &[nan, inf, 1.0]);
        assert!(other.measured().ratio().is_infinite());
    }
}
