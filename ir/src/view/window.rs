//! `AveragePool`, `Pad` and `Slice`.

use super::{constant, required, sizes, standard};
use crate::geometry::ConvGeometry;
use crate::graph::Graph;
use crate::id::{NodeId, ValueId};

/// `AveragePool` with explicit padding.
#[derive(Clone, Debug)]
pub struct AveragePool {
    /// The node.
    pub node: NodeId,
    /// Input [N, C, …].
    pub x: ValueId,
    /// Result [N, C, …].
    pub y: ValueId,
    /// The window; its dilations are 1.
    pub geometry: ConvGeometry,
    /// Whether padded positions count in the mean.
    pub count_include_pad: bool,
    /// Whether the output size is rounded up.
    pub ceil_mode: bool,
}

impl AveragePool {
    /// Reads a node; `None` with `auto_pad` other than `NOTSET`/`VALID` or with dilations.
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = standard(graph, id, "AveragePool")?;
        let kernel: Vec<usize> = node
            .ints("kernel_shape")?
            .iter()
            .map(|k| usize::try_from(*k).ok().filter(|k| *k > 0))
            .collect::<Option<_>>()?;
        let spatial = kernel.len();
        if !matches!(node.string("auto_pad"), None | Some("NOTSET" | "VALID" | ""))
            || sizes(node, "dilations", spatial, 1)?.iter().any(|d| *d != 1)
        {
            return None;
        }
        let pads = match node.string("auto_pad") {
            Some("VALID") => vec![0; spatial * 2],
            _ => sizes(node, "pads", spatial * 2, 0)?,
        };
        Some(Self {
            node: id,
            x: required(graph, id, 0)?,
            y: graph.sole_result(id)?,
            geometry: ConvGeometry {
                stride: sizes(node, "strides", spatial, 1)?,
                dilation: vec![1; spatial],
                pad_begin: pads[..spatial].to_vec(),
                pad_end: pads[spatial..].to_vec(),
                kernel,
            },
            count_include_pad: node.int("count_include_pad").unwrap_or(0) != 0,
            ceil_mode: node.int("ceil_mode").unwrap_or(0) != 0,
        })
    }
}

/// `Pad` in constant mode with constant pads, one pair per axis of the input.
#[derive(Clone, Debug)]
pub struct Pad {
    /// The node.
    pub node: NodeId,
    /// Input.
    pub x: ValueId,
    /// Result.
    pub y: ValueId,
    /// Padding before each axis; negative = crop.
    pub begin: Vec<i64>,
    /// Padding after each axis; negative = crop.
    pub end: Vec<i64>,
    /// The value that fills the padding.
    pub value: f64,
}

impl Pad {
    /// Reads a node; `rank` is the rank of X, needed if `axes` names only some axes.
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId, opset: i64, rank: Option<usize>) -> Option<Self> {
        let node = standard(graph, id, "Pad")?;
        if !matches!(node.string("mode"), None | Some("constant")) {
            return None;
        }
        let pads: Vec<i64> = if opset < 11 {
            node.ints("pads").or_else(|| node.ints("paddings"))?.to_vec()
        } else {
            constant(graph, required(graph, id, 1)?)?.to_i64()?
        };
        let value = if opset < 11 {
            f64::from(node.float("value").unwrap_or(0.0))
        } else {
            match graph.operand(id, 2) {
                None => 0.0,
                Some(value) => constant(graph, value)?.scalar_f64()?,
            }
        };
        let (begin, end) = match graph.operand(id, 3) {
            None => {
                let half = pads.len() / 2;
                (pads[..half].to_vec(), pads[half..].to_vec())
            }
            Some(axes) => spread(&pads, &constant(graph, axes)?.to_i64()?, rank?)?,
        };
        if begin.len() != end.len() || rank.is_some_and(|rank| rank != begin.len()) {
            return None;
        }
        Some(Self {
            node: id,
            x: required(graph, id, 0)?,
            y: graph.sole_result(id)?,
            begin,
            end,
            value,
        })
    }
}

/// Pads of the named axes, laid out over all `rank` axes.
fn spread(pads: &[i64], axes: &[i64], rank: usize) -> Option<(Vec<i64>, Vec<i64>)> {
    if pads.len() != axes.len() * 2 {
        return None;
    }
    let mut begin = vec![0; rank];
    let mut end = vec![0; rank];
    for (i, axis) in axes.iter().enumerate() {
        let axis = if *axis < 0 { *axis + rank as i64 } else { *axis };
        let axis = usize::try_from(axis).ok().filter(|axis| *axis < rank)?;
        begin[axis] = pads[i];
        end[axis] = pads[axes.len() + i];
    }
    Some((begin, end))
}

/// `Slice` with constant bounds: along each axis, every `step`-th element from `start` on.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The node.
    pub node: NodeId,
    /// Input.
    pub x: ValueId,
    /// Result.
    pub y: ValueId,
    /// First index, one per axis of the input; negative counts from the end.
    pub start: Vec<i64>,
    /// Index to stop before, as ONNX clamps it; negative counts from the end.
    pub end: Vec<i64>,
    /// Step, one per axis; 1 if the axis is not sliced.
    pub step: Vec<i64>,
}

impl Slice {
    /// Reads a node; `rank` is the rank of X.
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId, opset: i64, rank: Option<usize>) -> Option<Self> {
        let node = standard(graph, id, "Slice")?;
        let rank = rank?;
        let list = |slot: usize| constant(graph, graph.operand(id, slot)?)?.to_i64();
        let (starts, ends, axes, steps) = if opset < 10 {
            let axes = node.ints("axes").map(<[i64]>::to_vec);
            (node.ints("starts")?.to_vec(), node.ints("ends")?.to_vec(), axes, None)
        } else {
            let optional = |slot: usize| match graph.operand(id, slot) {
                None => Some(None),
                Some(_) => list(slot).map(Some),
            };
            (list(1)?, list(2)?, optional(3)?, optional(4)?)
        };
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return None;
        }
        let (mut start, mut end, mut step) = (vec![0; rank], vec![i64::MAX; rank], vec![1; rank]);
        for (at, axis) in axes.iter().enumerate() {
            let axis = if *axis < 0 { *axis + rank as i64 } else { *axis };
            let axis = usize::try_from(axis).ok().filter(|axis| *axis < rank)?;
            (start[axis], end[axis], step[axis]) = (starts[at], ends[at], steps[at]);
        }
        let (x, y) = (required(graph, id, 0)?, graph.sole_result(id)?);
        Some(Self { node: id, x, y, start, end, step })
    }
}
