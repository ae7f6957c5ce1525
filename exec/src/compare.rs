//! Compares the outputs of two runs, element by element.

use std::fmt;

use indexmap::IndexMap;
use updp_ir::{DataType, Tensor};

/// Limit of [`Difference::relative`] for one rewrite or one block (f32, f64).
pub const ONE_REWRITE_LIMIT: f64 = 1e-5;

/// Limit of [`Difference::relative`] for a whole network (f32, f64).
pub const WHOLE_NETWORK_LIMIT: f64 = 1e-4;

/// Limit of [`Difference::relative`] where the output is f16 or bf16.
pub const HALF_LIMIT: f64 = 2e-2;

/// The limit of a whole network for an output of `dtype`; 0 for every dtype that is not a float.
#[must_use]
pub fn whole_network_limit(dtype: DataType) -> f64 {
    match dtype {
        DataType::Float | DataType::Double => WHOLE_NETWORK_LIMIT,
        DataType::Float16 | DataType::Bfloat16 => HALF_LIMIT,
        _ => 0.0,
    }
}

/// The distance between two float tensors of the same shape, computed in f64.
///
/// Two NaNs count as equal, and so do two infinities of the same sign. Any other pair that contains
/// a NaN or an infinity has an infinite distance. `max_ref`, `rms` and `cosine` leave out elements
/// that are not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Largest |Δ|.
    pub max_abs: f64,
    /// Largest |ref| among the finite elements.
    pub max_ref: f64,
    /// max|Δ| / max|ref|. When every reference element is 0 there is no scale, so this is max|Δ| / 1.
    pub relative: f64,
    /// √(Σ Δ² / n) over the finite pairs.
    pub rms: f64,
    /// Cosine of the two tensors as vectors; 1 when both are 0, 0 when only one is.
    pub cosine: f64,
    /// Share of rows with the same largest element (the first one on a tie); `None` unless the tensor
    /// is `[N, C]` with `C` > 1 and `N` > 0.
    pub top1_agreement: Option<f64>,
    /// Index (C order) of the first unequal pair in which an element is not finite.
    pub first_nonfinite_mismatch: Option<usize>,
    /// Number of elements.
    pub elements: usize,
}

/// Outcome of comparing one output.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    /// Floats, with their difference.
    Float(Difference),
    /// Integers, bools, strings and everything else, with the number of elements that differ.
    Exact {
        /// Number of elements that differ.
        different: usize,
        /// Index (C order) of the first element that differs.
        first: Option<usize>,
        /// Number of elements.
        elements: usize,
    },
    /// The dtypes differ.
    Dtype {
        /// Value of the reference.
        expected: DataType,
        /// Value of the result.
        found: DataType,
    },
    /// The dims differ.
    Dims {
        /// Value of the reference.
        expected: Vec<usize>,
        /// Value of the result.
        found: Vec<usize>,
    },
    /// Only the reference run has this output.
    Missing,
    /// Only the other run has this output.
    Unexpected,
}

impl Comparison {
    /// max|Δ| / max|ref| for floats, 0 for exact equality, infinite for anything else.
    #[must_use]
    pub fn relative(&self) -> f64 {
        match self {
            Self::Float(difference) => difference.relative,
            Self::Exact { different: 0, .. } => 0.0,
            _ => f64::INFINITY,
        }
    }

    /// Whether the outputs differ by at most `limit`.
    #[must_use]
    pub fn is_within(&self, limit: f64) -> bool {
        self.relative() <= limit
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(difference) => {
                write!(f, "max|Δ|/max|ref| = {:.2e}", difference.relative)?;
                match difference.first_nonfinite_mismatch {
                    Some(index) => write!(f, ", element {index} is not finite on one side only"),
                    None => Ok(()),
                }
            }
            Self::Exact { different, elements, first: Some(first) } => {
                write!(f, "{different} of {elements} elements differ, first {first}")
            }
            Self::Exact { elements, .. } => write!(f, "{elements} elements equal"),
            Self::Dtype { expected, found } => write!(f, "dtype {found} instead of {expected}"),
            Self::Dims { expected, found } => write!(f, "dims {found:?} instead of {expected:?}"),
            Self::Missing => f.write_str("missing"),
            Self::Unexpected => f.write_str("not an output of the reference"),
        }
    }
}

/// Compares every output of a run with the reference run, in the order of the reference.
#[must_use]
pub fn compare(
    reference: &IndexMap<String, Tensor>,
    result: &IndexMap<String, Tensor>,
) -> IndexMap<String, Comparison> {
    let mut compared: IndexMap<String, Comparison> = reference
        .iter()
        .map(|(name, expected)| {
            let found = result.get(name);
            let comparison = found.map_or(Comparison::Missing, |t| compare_tensors(expected, t));
            (name.clone(), comparison)
        })
        .collect();
    for name in result.keys() {
        compared.entry(name.clone()).or_insert(Comparison::Unexpected);
    }
    compared
}

/// Compares one tensor with its reference.
#[must_use]
pub fn compare_tensors(reference: &Tensor, result: &Tensor) -> Comparison {
    if reference.dtype() != result.dtype() {
        return Comparison::Dtype { expected: reference.dtype(), found: result.dtype() };
    }
    if reference.dims() != result.dims() {
        let (expected, found) = (reference.dims().to_vec(), result.dims().to_vec());
        return Comparison::Dims { expected, found };
    }
    if reference.dtype().is_foldable_float()
        && let (Some(expected), Some(found)) = (reference.to_f64(), result.to_f64())
    {
        return Comparison::Float(difference(&expected, &found, reference.dims()));
    }
    exact(reference, result)
}

fn exact(reference: &Tensor, result: &Tensor) -> Comparison {
    let elements = reference.len();
    let differing: Vec<usize> = if reference.dtype() == DataType::String {
        let pairs = reference.strings().iter().zip(result.strings());
        pairs.enumerate().filter(|(_, (a, b))| a != b).map(|(index, _)| index).collect()
    } else {
        // Types smaller than a byte are packed; their index counts bytes.
        let width = (reference.bytes().len() / elements.max(1)).max(1);
        let pairs = reference.bytes().chunks(width).zip(result.bytes().chunks(width));
        pairs.enumerate().filter(|(_, (a, b))| a != b).map(|(index, _)| index).collect()
    };
    Comparison::Exact { different: differing.len(), first: differing.first().copied(), elements }
}

fn difference(expected: &[f64], found: &[f64], dims: &[usize]) -> Difference {
    let (mut max_abs, mut max_ref) = (0.0_f64, 0.0_f64);
    let (mut squares, mut dot, mut norm_expected, mut norm_found) = (0.0, 0.0, 0.0, 0.0);
    let mut finite = 0_usize;
    let mut first_nonfinite_mismatch = None;
    for (index, (a, b)) in expected.iter().zip(found).enumerate() {
        if a.is_finite() {
            max_ref = max_ref.max(a.abs());
        }
        if a.is_finite() && b.is_finite() {
            let delta = b - a;
            max_abs = max_abs.max(delta.abs());
            squares += delta * delta;
            dot += a * b;
            norm_expected += a * a;
            norm_found += b * b;
            finite += 1;
        } else if !(a.is_nan() && b.is_nan()) && a.to_bits() != b.to_bits() {
            max_abs = f64::INFINITY;
            first_nonfinite_mismatch.get_or_insert(index);
        }
    }
    // Without a scale, the absolute difference is compared with 1.
    let scale = if max_ref > 0.0 { max_ref } else { 1.0 };
    let cosine = match (norm_expected > 0.0, norm_found > 0.0) {
        (true, true) => dot / (norm_expected.sqrt() * norm_found.sqrt()),
        (false, false) => 1.0,
        _ => 0.0,
    };
    Difference {
        max_abs,
        max_ref,
        relative: max_abs / scale,
        rms: if finite == 0 { 0.0 } else { (squares / finite as f64).sqrt() },
        cosine,
        top1_agreement: top1_agreement(expected, found, dims),
        first_nonfinite_mismatch,
        elements: expected.len(),
    }
}

fn top1_agreement(expected: &[f64], found: &[f64], dims: &[usize]) -> Option<f64> {
    let [rows, classes] = *dims else { return None };
    if rows == 0 || classes < 2 {
        return None;
    }
    let pairs = expected.chunks_exact(classes).zip(found.chunks_exact(classes));
    let agreeing = pairs.filter(|(a, b)| largest(a) == largest(b)).count();
    Some(agreeing as f64 / rows as f64)
}

/// Index of the largest element, the first one on a tie; NaN is never the largest.
fn largest(row: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] || row[best].is_nan() {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_f32(vec![1, values.len()], values).expect("well formed")
    }

    fn float(reference: &[f32], result: &[f32]) -> Difference {
        match compare_tensors(&tensor(reference), &tensor(result)) {
            Comparison::Float(difference) => difference,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn measures_floats_against_the_largest_reference() {
        let difference = float(&[1.0, -4.0], &[1.5, -4.0]);
        assert_eq!((difference.max_abs, difference.max_ref), (0.5, 4.0));
        assert!((difference.relative - 0.125).abs() < 1e-15);
        assert!((difference.rms - (0.25_f64 / 2.0).sqrt()).abs() < 1e-15);
        assert_eq!(difference.top1_agreement, Some(1.0));
        assert_eq!(difference.elements, 2);
    }

    #[test]
    fn equal_zeros_differ_by_nothing_and_others_by_their_size() {
        assert!(float(&[0.0, 0.0], &[0.0, -0.0]).relative.abs() < f64::MIN_POSITIVE);
        let difference = float(&[0.0, 0.0], &[0.0, 0.25]);
        assert!((difference.relative - 0.25).abs() < 1e-15);
        assert!(difference.cosine.abs() < f64::MIN_POSITIVE);
    }

    #[test]
    fn nan_equals_nan_and_nothing_else() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let same = float(&[nan, inf, -inf, 1.0], &[nan, inf, -inf, 1.0]);
        assert!(same.relative.abs() < f64::MIN_POSITIVE && same.first_nonfinite_mismatch.is_none());
        for (a, b) in [(nan, 1.0), (1.0, nan), (inf, -inf), (inf, 1.0), (1.0, inf), (nan, inf)] {
            let difference = float(&[2.0, a], &[2.0, b]);
            assert!(difference.relative.is_infinite(), "{a} {b}");
            assert_eq!(difference.first_nonfinite_mismatch, Some(1));
        }
    }

    #[test]
    fn sees_swapped_classes() {
        let difference = float(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]);
        assert_eq!(difference.top1_agreement, Some(0.0));
    }

    #[test]
    fn other_dtypes_must_be_equal() {
        let ints = |values: &[i64]| Tensor::from_i64(vec![values.len()], values).expect("ok");
        let comparison = compare_tensors(&ints(&[1, 2, 3]), &ints(&[1, 5, 4]));
        assert_eq!(comparison, Comparison::Exact { different: 2, first: Some(1), elements: 3 });
        assert!(!comparison.is_within(1.0));
        assert!(compare_tensors(&ints(&[7]), &ints(&[7])).is_within(0.0));
    }

    #[test]
    fn shape_dtype_and_missing_outputs_are_no_numbers() {
        let one = tensor(&[1.0]);
        let flat = one.with_dims(vec![1]).expect("one element");
        assert!(matches!(compare_tensors(&one, &flat), Comparison::Dims { .. }));
        let double = Tensor::from_f64(DataType::Double, vec![1, 1], &[1.0]).expect("ok");
        assert!(matches!(compare_tensors(&one, &double), Comparison::Dtype { .. }));
        let left = IndexMap::from([("a".to_owned(), one.clone())]);
        let right = IndexMap::from([("b".to_owned(), one)]);
        let compared = compare(&left, &right);
        assert_eq!(compared["a"], Comparison::Missing);
        assert_eq!(compared["b"], Comparison::Unexpected);
        assert!(compared.values().all(|comparison| !comparison.is_within(1e9)));
    }

    #[test]
    fn halves_have_their_own_limit() {
        assert!(whole_network_limit(DataType::Bfloat16) > whole_network_limit(DataType::Float));
        assert!(whole_network_limit(DataType::Int64) <= 0.0);
    }
}
