//! Writes the dims that a Reshape keeps as 0, in place of the arithmetic that computes them.
//!
//! Before: `y = Reshape(x, Concat(Slice(Shape(x)), c))` and the like
//! After:  `y = Reshape(x, [0, …, c])`
//!
//! Entry i of the shape is a number, or the open dim i of x by its name, at least one of these. x has any dtype.
//!
//! 1. `allow-zero`: the Reshape takes 0 as "as it is".
//!
//! Source: ours. Measure: Reshapes whose shape is computed.

use updp_ir::infer::Entry;
use updp_ir::{NodeId, Tensor};

use crate::error::{Declined, Stop};
use crate::patch::Patch;
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct CopyReshapeDims;

/// A Reshape and the shape that says the same.
#[derive(Debug)]
pub struct Match {
    node: NodeId,
    shape: Vec<i64>,
}

impl Rule for CopyReshapeDims {
    type Match = Match;
    const NAME: &'static str = "copy-reshape-dims";
    const SUMMARY: &'static str =
        "writes dims that a Reshape keeps as 0, in place of Shape arithmetic";
    const ROOTS: &'static [&'static str] = &["Reshape"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let node = cx.graph.node(root);
        if !node.domain().is_empty() || node.has_reference_attribute() || cx.opset < 5 {
            return None;
        }
        let (x, shape) = (cx.graph.operand(root, 0)?, cx.graph.operand(root, 1)?);
        let dims = cx.shapes.dims(x)?;
        let mut has_open = false;
        let mut numbers = Vec::new();
        for (at, entry) in cx.shapes.value(shape)?.iter().enumerate() {
            numbers.push(match entry {
                Entry::Known(number) => *number,
                Entry::Symbol(_) if dims.get(at) == Some(&entry.to_dim()) => {
                    has_open = true;
                    0
                }
                _ => return None,
            });
        }
        has_open.then_some(Match { node: root, shape: numbers })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { node, shape } = matched;
        if cx.graph.node(node).int("allowzero").unwrap_or(0) != 0 {
            let detail = format!("{:?} takes 0 as no elements", cx.describe(node));
            return Err(Declined::new("allow-zero", detail).into());
        }
        let mut patch = Patch::new();
        let tensor = Tensor::from_i64(vec![shape.len()], &shape)?;
        let hint = format!("{}.shape", cx.describe(node));
        let constant = patch.constant(hint, tensor, None);
        patch.set_operand(node, 1, constant);
        Ok(patch)
    }
}
