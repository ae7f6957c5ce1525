//! What the difference of one part means: nothing, rounding, a value that may differ, or a fault.

use indexmap::{IndexMap, IndexSet};
use updp_ir::{DataType, Tensor};

use crate::slices::{Measured, Pair};

/// Above this difference the value between two parts means something else, or the end of the network shows the fault.
const GROSS: f64 = 1e-2;
/// A part whose own noise is above this share of a channel decides nothing.
const MOST_NOISE: f64 = 1e-2;
/// A difference of up to this multiple of the noise of a part counts as rounding.
const NOISE_FACTOR: f64 = 8.0;

/// Limit of one channel of one part: 32 units in the last place of f32, and as little for other types.
fn limit(dtype: DataType) -> f64 {
    match dtype {
        DataType::Double => 1e-13,
        DataType::Float16 => 1e-2,
        DataType::Bfloat16 => 8e-2,
        _ => 4e-6,
    }
}

/// The outcome of one part.
pub(crate) enum Verdict {
    Equal {
        worst: f64,
        is_noisy: bool,
    },
    /// The values of these names may differ without harm.
    Grow(Vec<String>),
    Fault(String),
    LeftOut,
}

/// How each output of a part compares.
pub(crate) fn outcomes(
    names: &IndexSet<String>,
    values: &IndexMap<String, Tensor>,
    found: &IndexMap<String, Tensor>,
) -> Vec<Outcome> {
    let outcome = |name: &String| {
        let expected = &values[name];
        let kind = match found.get(name) {
            None => Kind::Unknown,
            Some(result) if result == expected => Kind::Equal,
            Some(result) => match Pair::of(expected, result) {
                Some(pair) => Kind::Floats {
                    measured: pair.measured(),
                    tensors: [expected.clone(), result.clone()],
                    limit: limit(result.dtype()),
                },
                None if expected.dims() == result.dims() => Kind::Unknown,
                None => Kind::Reshaped,
            },
        };
        Outcome { name: name.clone(), kind }
    };
    names.iter().map(outcome).collect()
}

/// How one output of a part compares.
pub(crate) struct Outcome {
    name: String,
    kind: Kind,
}

enum Kind {
    /// The same bits.
    Equal,
    Floats {
        measured: Measured,
        tensors: [Tensor; 2],
        limit: f64,
    },
    /// Other dims or another dtype.
    Reshaped,
    /// Integers that differ, or nothing to compare.
    Unknown,
}

impl Outcome {
    pub(crate) fn is_doubtful(&self) -> bool {
        matches!(&self.kind, Kind::Floats { measured, limit, .. } if measured.ratio() > *limit)
    }
}

/// Whether rounding explains a difference.
enum Rounding {
    Within,
    /// The noise is so large that it would hide a fault.
    Undecided,
    Beyond,
}

fn rounding(measured: &Measured, noise: &[Vec<f64>], limit: f64) -> Rounding {
    let noise = noise.iter().flatten().copied().chain(std::iter::repeat(0.0));
    let mut rounding = Rounding::Within;
    for ((delta, scale), noise) in measured.slices().zip(noise) {
        if delta > limit * scale {
            if delta > NOISE_FACTOR * noise {
                return Rounding::Beyond;
            }
            if noise > MOST_NOISE * scale {
                rounding = Rounding::Undecided;
            }
        }
    }
    rounding
}

/// The outcome of a part; `is_output` tells whether a name is an output of the graph.
pub(crate) fn verdict(
    outcomes: &[Outcome],
    noise: &IndexMap<String, Vec<Vec<f64>>>,
    is_output: impl Fn(&str) -> bool,
) -> Verdict {
    let (mut worst, mut is_noisy) = (0.0_f64, false);
    let mut grow = Vec::new();
    for Outcome { name, kind } in outcomes {
        let is_last = is_output(name);
        let (measured, tensors, limit) = match kind {
            Kind::Equal => continue,
            Kind::Reshaped if !is_last => {
                grow.push(name.clone());
                continue;
            }
            // The outputs of the whole network decide integers.
            Kind::Unknown | Kind::Reshaped => return Verdict::LeftOut,
            Kind::Floats { measured, tensors, limit } => (measured, tensors, *limit),
        };
        let ratio = measured.ratio();
        let own = noise.get(name).map_or(&[][..], Vec::as_slice);
        match rounding(measured, own, limit) {
            Rounding::Within => {
                worst = worst.max(ratio);
                is_noisy |= ratio > limit;
            }
            Rounding::Undecided => return Verdict::LeftOut,
            Rounding::Beyond if !is_last && (ratio > GROSS || is_affine(tensors, limit)) => {
                grow.push(name.clone());
            }
            Rounding::Beyond => {
                return Verdict::Fault(format!(
                    "{name:?} differs: max|Δ|/max|ref| of a channel = {ratio:.2e} (limit {limit:e})"
                ));
            }
        }
    }
    if grow.is_empty() { Verdict::Equal { worst, is_noisy } } else { Verdict::Grow(grow) }
}

/// Whether one tensor is the other with a factor and a summand for each slice; made anew here, because the elements as
/// f64 would take four times the memory of the tensors.
fn is_affine([expected, found]: &[Tensor; 2], limit: f64) -> bool {
    Pair::of(expected, found).is_some_and(|pair| pair.is_affine(limit))
}
