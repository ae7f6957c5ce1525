//! `Conv` and `ConvTranspose`.

use super::{required, sizes, standard};
use crate::geometry::{AutoPad, ConvGeometry};
use crate::graph::Graph;
use crate::id::{NodeId, ValueId};

/// `Y = Conv(X, W, B?)`, W [O, I/g, k…], any number of spatial dims.
#[derive(Clone, Debug)]
pub struct Conv {
    /// The node.
    pub node: NodeId,
    /// Input [N, I, …].
    pub x: ValueId,
    /// Weight [O, I/g, k…].
    pub weight: ValueId,
    /// Bias `[O]`.
    pub bias: Option<ValueId>,
    /// Result [N, O, …].
    pub y: ValueId,
    /// Groups, at least 1.
    pub group: usize,
    /// One per spatial dim, at least 1.
    pub strides: Vec<usize>,
    /// One per spatial dim, at least 1.
    pub dilations: Vec<usize>,
    /// Zeros before each spatial dim; meaningful with [`AutoPad::NotSet`].
    pub pad_begin: Vec<usize>,
    /// Zeros after each spatial dim.
    pub pad_end: Vec<usize>,
    /// The source of the padding.
    pub auto_pad: AutoPad,
}

impl Conv {
    /// Reads a node. The weight's dims give the number of spatial dims, so the caller must know its rank as
    /// `weight_rank`.
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId, weight_rank: usize) -> Option<Self> {
        let node = standard(graph, id, "Conv")?;
        let spatial = weight_rank.checked_sub(2)?;
        let pads = sizes(node, "pads", spatial * 2, 0)?;
        let at_least_one = |list: Vec<usize>| list.iter().all(|v| *v > 0).then_some(list);
        Some(Self {
            node: id,
            x: required(graph, id, 0)?,
            weight: required(graph, id, 1)?,
            bias: graph.operand(id, 2),
            y: graph.sole_result(id)?,
            group: usize::try_from(node.int("group").unwrap_or(1)).ok().filter(|g| *g > 0)?,
            strides: at_least_one(sizes(node, "strides", spatial, 1)?)?,
            dilations: at_least_one(sizes(node, "dilations", spatial, 1)?)?,
            pad_begin: pads[..spatial].to_vec(),
            pad_end: pads[spatial..].to_vec(),
            auto_pad: AutoPad::of(node)?,
        })
    }

    /// The geometry with `auto_pad` resolved, for a weight of these spatial dims. `None` if it
    /// depends on a size that `input` (spatial dims of X) does not give.
    #[must_use]
    pub fn geometry(&self, kernel: &[usize], input: Option<&[usize]>) -> Option<ConvGeometry> {
        let (pad_begin, pad_end) = self.resolved_pads(kernel, input)?;
        Some(ConvGeometry {
            kernel: kernel.to_vec(),
            stride: self.strides.clone(),
            dilation: self.dilations.clone(),
            pad_begin,
            pad_end,
        })
    }

    /// Padding with `auto_pad` resolved: `(begin, end)`. `None` if it depends on a size that
    /// `input` (spatial dims of X) does not give, or if it is negative.
    #[must_use]
    pub fn resolved_pads(
        &self,
        kernel: &[usize],
        input: Option<&[usize]>,
    ) -> Option<(Vec<usize>, Vec<usize>)> {
        match self.auto_pad {
            AutoPad::NotSet => Some((self.pad_begin.clone(), self.pad_end.clone())),
            AutoPad::Valid => Some((vec![0; kernel.len()], vec![0; kernel.len()])),
            AutoPad::SameUpper | AutoPad::SameLower => {
                let mut begin = Vec::new();
                let mut end = Vec::new();
                for (axis, k) in kernel.iter().enumerate() {
                    let stride = self.strides[axis];
                    let reach = self.dilations[axis] * k.checked_sub(1)? + 1;
                    let total = if stride == 1 {
                        reach - 1
                    } else {
                        let size = *input?.get(axis)?;
                        let steps = size.div_ceil(stride).checked_sub(1)?;
                        // A stride above the reach can leave a rest that runtimes crop.
                        steps.checked_mul(stride)?.checked_add(reach)?.checked_sub(size)?
                    };
                    let small = total / 2;
                    let (b, e) = if self.auto_pad == AutoPad::SameUpper {
                        (small, total - small)
                    } else {
                        (total - small, small)
                    };
                    begin.push(b);
                    end.push(e);
                }
                Some((begin, end))
            }
        }
    }
}

/// `Y = ConvTranspose(X, W, B?)`, W [I, O/g, k…]. Only what folding a per-channel affine needs.
#[derive(Clone, Debug)]
pub struct ConvTranspose {
    /// The node.
    pub node: NodeId,
    /// Input [N, I, …].
    pub x: ValueId,
    /// Weight [I, O/g, k…].
    pub weight: ValueId,
    /// Bias `[O]`.
    pub bias: Option<ValueId>,
    /// Result [N, O, …].
    pub y: ValueId,
    /// Groups, at least 1.
    pub group: usize,
}

impl ConvTranspose {
    /// Reads a node.
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = standard(graph, id, "ConvTranspose")?;
        Some(Self {
            node: id,
            x: required(graph, id, 0)?,
            weight: required(graph, id, 1)?,
            bias: graph.operand(id, 2),
            y: graph.sole_result(id)?,
            group: usize::try_from(node.int("group").unwrap_or(1)).ok().filter(|g| *g > 0)?,
        })
    }
}
