//! The cost model behind the cost guard: a merge must not make the model slower.
//!
//! An operator costs one kernel launch plus the larger of its arithmetic time and its memory time.
//! A decision depends only on ratios between the constants. `scripts/cost_model.py` compares the decisions
//! with ONNX Runtime's clock; docs/experiments/cost-model.md reports how often they were right.

use updp_ir::ConvGeometry;

use crate::kernel::AffineMap;
use crate::lift::{Domain, Linear, input_size};
use crate::rule::Context;

/// Time of one operator call without its work, in nanoseconds.
const LAUNCH_NS: f64 = 2_000.0;
/// Multiply-adds per nanosecond of a dense convolution or matrix product with enough channels.
const DENSE_MACS_PER_NS: f64 = 180.0;
/// Multiply-adds per nanosecond of a depthwise convolution.
const DEPTHWISE_MACS_PER_NS: f64 = 40.0;
/// Number of input channels per group from which a convolution runs at the dense rate.
const FULL_RATE_CHANNELS: f64 = 16.0;
/// Bytes per nanosecond between the cores and the caches that hold one feature map.
const BYTES_PER_NS: f64 = 40.0;
/// Bytes of an f32 element; other dtypes scale both sides of a comparison alike.
const ELEMENT_BYTES: f64 = 4.0;
/// Assumed edge length of a feature map with a symbolic spatial size.
const NOMINAL_EDGE: usize = 28;
/// Assumed number of rows (tokens) of a fully connected operator with an unknown input.
const NOMINAL_ROWS: f64 = 196.0;

/// Largest share of the old time that a merged operator with more multiplications may take. Where the model sees
/// a smaller gain, the clock often sees none (GhostNet: a depthwise Conv and the 1×1 Conv after it).
const MARGIN: f64 = 0.8;

/// The work of some operators.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Estimated time in nanoseconds.
    pub ns: f64,
    /// Multiply-adds; a mean over a window counts as a depthwise convolution.
    pub macs: f64,
}

impl Work {
    /// Whether `merged` may replace these operators: it is not slower, and clearly faster if it multiplies more.
    #[must_use]
    pub fn allows(&self, merged: &Self) -> bool {
        // Sums of the same numbers in another order differ in the last bits.
        let multiplies_more = merged.macs > self.macs * (1.0 + 1e-9);
        merged.ns <= if multiplies_more { self.ns * MARGIN } else { self.ns }
    }

    /// Why [`Self::allows`] says no, as the end of a sentence.
    #[must_use]
    pub fn comparison(&self, merged: &Self) -> String {
        let (before, after) = (self.ns / 1e3, merged.ns / 1e3);
        let mut text = format!("take {before:.1} µs, merged they would take {after:.1} µs");
        if merged.ns <= self.ns {
            let times = merged.macs / self.macs.max(1.0);
            text.push_str(&format!(" with {times:.1} times as many multiplications"));
        }
        text + " (cost model)"
    }
}

/// The sizes of an affine map without its weights. The cost of an operator depends on these sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Input channels.
    pub in_channels: usize,
    /// Result channels.
    pub out_channels: usize,
    /// Groups.
    pub groups: usize,
    /// Kernel, strides, dilations and paddings; empty for a fully connected map.
    pub geometry: ConvGeometry,
    /// Whether a border map is added to the result.
    pub has_border: bool,
}

impl MapShape {
    /// The sizes of a map.
    #[must_use]
    pub fn of(map: &AffineMap) -> Self {
        Self {
            in_channels: map.in_channels(),
            out_channels: map.out_channels(),
            groups: map.groups,
            geometry: map.geometry(),
            has_border: map.border.is_some(),
        }
    }

    /// The sizes of a weighted operator.
    #[must_use]
    pub fn of_unit(unit: &Linear) -> Self {
        Self {
            in_channels: unit.in_channels,
            out_channels: unit.out_channels,
            groups: unit.groups,
            geometry: unit.geometry.clone(),
            has_border: false,
        }
    }

    /// Sizes of the map that applies `self`, then `next`, if such a map exists (L1, L15).
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        let mut geometry = ConvGeometry::pointwise(self.geometry.rank());
        for (axis, (first, second)) in self.geometry.axes().zip(next.geometry.axes()).enumerate() {
            let outer = first.stride * second.dilation;
            let step = gcd(
                if first.kernel > 1 { first.dilation } else { 0 },
                if second.kernel > 1 { outer } else { 0 },
            )
            .max(1);
            let extent = first.extent() + first.stride * second.extent();
            geometry.kernel[axis] = extent / step + 1;
            geometry.stride[axis] = first.stride * second.stride;
            geometry.dilation[axis] = step;
            geometry.pad_begin[axis] = first.begin + first.stride * second.begin;
            geometry.pad_end[axis] = first.end + first.stride * second.end;
        }
        Self {
            in_channels: self.in_channels,
            out_channels: next.out_channels,
            groups: gcd(self.groups, next.groups),
            geometry,
            has_border: self.has_border || next.has_border,
        }
    }

    /// Multiply-adds for one result position.
    #[must_use]
    pub fn macs_per_output(&self) -> f64 {
        let taps = self.geometry.taps();
        (self.out_channels * (self.in_channels / self.groups) * taps) as f64
    }

    /// Estimated time in nanoseconds on an input of these spatial dims (`None` = symbolic) or rows.
    #[must_use]
    pub fn cost_ns(&self, input: Option<&[usize]>) -> f64 {
        let nominal = vec![NOMINAL_EDGE; self.geometry.rank()];
        let input = input.unwrap_or(&nominal);
        let output = self.output_size(input);
        let (positions_in, positions_out) = if self.geometry.rank() == 0 {
            let rows = input.first().map_or(NOMINAL_ROWS, |rows| *rows as f64);
            (rows, rows)
        } else {
            (product(input), product(&output))
        };
        let per_group = (self.in_channels / self.groups) as f64;
        let rate = if self.groups > 1 && per_group <= 1.0 {
            DEPTHWISE_MACS_PER_NS
        } else {
            DENSE_MACS_PER_NS * (per_group / FULL_RATE_CHANNELS).min(1.0)
        };
        let weights = self.macs_per_output();
        let macs = weights * positions_out;
        let result = self.out_channels as f64 * positions_out;
        let traffic = self.in_channels as f64 * positions_in + result + weights;
        let own = LAUNCH_NS + (macs / rate).max(traffic * ELEMENT_BYTES / BYTES_PER_NS);
        if self.has_border { own + elementwise_ns(result, 2) } else { own }
    }

    /// The work on such an input.
    #[must_use]
    pub fn work(&self, input: Option<&[usize]>) -> Work {
        let nominal = vec![NOMINAL_EDGE; self.geometry.rank()];
        let size = input.unwrap_or(&nominal);
        let positions = if self.geometry.rank() == 0 {
            size.first().map_or(NOMINAL_ROWS, |rows| *rows as f64)
        } else {
            product(&self.output_size(size))
        };
        Work { ns: self.cost_ns(input), macs: self.macs_per_output() * positions }
    }

    /// Spatial dims of the result.
    #[must_use]
    pub fn output_size(&self, input: &[usize]) -> Vec<usize> {
        let axes = self.geometry.axes().enumerate();
        axes.map(|(at, axis)| {
            let padded = input.get(at).copied().unwrap_or(NOMINAL_EDGE) + axis.padding();
            padded.saturating_sub(axis.extent() + 1) / axis.stride + 1
        })
        .collect()
    }
}

/// Estimated time of an elementwise operator over `elements` results from `operands` operands.
#[must_use]
pub fn elementwise_ns(elements: f64, operands: usize) -> f64 {
    LAUNCH_NS + elements * (operands as f64 + 1.0) * ELEMENT_BYTES / BYTES_PER_NS
}

/// Number of elements in `channels` maps of these spatial dims (`None` = symbolic).
#[must_use]
pub fn elements(channels: usize, spatial: Option<&[usize]>, spatial_rank: usize) -> f64 {
    let positions = match spatial {
        Some(sizes) => product(sizes),
        None if spatial_rank == 0 => NOMINAL_ROWS,
        None => (NOMINAL_EDGE as f64).powi(spatial_rank as i32),
    };
    channels as f64 * positions
}

/// Estimated time of a whole graph in nanoseconds. Weighted operators count by their sizes; all other
/// operators count by the elements that they make.
#[must_use]
pub fn graph_ns(cx: &Context<'_>) -> f64 {
    let graph = cx.graph;
    let mut total = 0.0;
    for node in graph.nodes() {
        let known = graph.node(node);
        if known.is("Constant") || known.is("Identity") || known.is("Reshape") {
            continue;
        }
        if let Some(unit) = Linear::at(cx, node) {
            let domain = if unit.is_conv() {
                Domain::Spatial(unit.geometry.rank())
            } else {
                Domain::Connected(unit.channel_axis)
            };
            let input = input_size(cx, unit.x, domain);
            total += MapShape::of_unit(&unit).cost_ns(input.as_deref());
            continue;
        }
        let size = graph.result(node, 0).and_then(|value| cx.shapes.of(value)?.shape.clone());
        let made: f64 = size.iter().flatten().map(|dim| dim.known().unwrap_or(1) as f64).product();
        total += elementwise_ns(made, graph.operands(node).len().min(2));
    }
    total
}

fn product(sizes: &[usize]) -> f64 {
    sizes.iter().map(|s| *s as f64).product()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(i: usize, o: usize, k: usize, groups: usize) -> MapShape {
        MapShape {
            in_channels: i,
            out_channels: o,
            groups,
            geometry: ConvGeometry {
                pad_begin: vec![(k - 1) / 2; 2],
                pad_end: vec![k / 2; 2],
                ..ConvGeometry::dense(vec![k; 2])
            },
            has_border: false,
        }
    }

    #[test]
    fn refuses_the_typical_bad_merges_and_grants_the_good_ones() {
        let size = Some(&[28, 28][..]);
        let cost = |maps: &[MapShape]| maps.iter().map(|m| m.cost_ns(size)).sum::<f64>();
        let (dw7, pw) = (conv(96, 96, 7, 96), conv(96, 96, 1, 1));
        assert!(dw7.then(&pw).cost_ns(size) > cost(&[dw7, pw]), "dw7 then 1x1 becomes dense 7x7");
        let k3 = conv(64, 64, 3, 1);
        assert!(k3.then(&k3).cost_ns(size) > cost(&[k3.clone(), k3]), "3x3 then 3x3 becomes 5x5");
        let (down, up) = (conv(256, 16, 1, 1), conv(16, 256, 1, 1));
        assert!(down.then(&up).cost_ns(size) > cost(&[down, up]), "low-rank pair");
        let (expand, dw3, project) =
            (conv(64, 384, 1, 1), conv(384, 384, 3, 384), conv(384, 64, 1, 1));
        let whole = expand.then(&dw3).then(&project);
        assert_eq!(whole.macs_per_output(), 64.0 * 64.0 * 9.0);
        assert!(whole.cost_ns(size) < cost(&[expand, dw3, project]), "inverted residual");
        let (one, three) = (conv(64, 64, 1, 1), conv(64, 64, 3, 1));
        assert!(one.then(&three).cost_ns(size) < cost(&[one, three]), "1x1 then 3x3");
    }
}
