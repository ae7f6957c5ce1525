//! Writes a MatMul on a matrix and the Add of its bias as one Gemm.
//!
//! Before: `y = x·W + b`, x [M, I], W [I, O], b one number, [O] or [1, O]
//! After:  `y = Gemm(x, W, b)`
//!
//! No weight changes its value, and every product is summed in the same order.
//!
//! 1. x has rank 2, and its dtype is f32 or f64 (no match otherwise).
//! 2. `read-twice`: nothing else reads the product.
//!
//! Measure: one node fewer.

use updp_ir::{DataType, Node, NodeId, ValueId};

use crate::error::{Declined, Stop};
use crate::lift::{Form, Linear, weights};
use crate::patch::{Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct WriteMatMulAsGemm;

/// The MatMul with its Add.
#[derive(Debug)]
pub struct Match {
    unit: Linear,
    bias: ValueId,
    product: ValueId,
}

impl Rule for WriteMatMulAsGemm {
    type Match = Match;
    const NAME: &'static str = "write-matmul-as-gemm";
    const SUMMARY: &'static str = "writes MatMul and Add on a matrix as Gemm";
    const ROOTS: &'static [&'static str] = &["MatMul"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let unit = Linear::at(cx, root)?;
        let is_matrix = cx.rank(unit.x) == Some(2) && unit.weight.dims().len() == 2;
        if cx.opset < 7 || !is_matrix || !matches!(unit.form, Form::MatMul { bias_add: Some(_) }) {
            return None;
        }
        if !matches!(unit.dtype(), DataType::Float | DataType::Double) {
            return None;
        }
        let bias = unit.bias_value?;
        let product = cx.graph.sole_result(root)?;
        Some(Match { unit, bias, product })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { unit, bias, product } = matched;
        if cx.graph.sole_use(product).is_none() {
            let name = cx.graph.value(product).name();
            let detail = format!("{name:?} is read elsewhere too");
            return Err(Declined::new("read-twice", detail).into());
        }
        let mut patch = Patch::new();
        let old = cx.graph.node(unit.main());
        let stored = cx.constant(bias);
        // Before opset 11 a Gemm spreads its bias over the rows, too.
        let operand = match stored {
            Some(tensor) if tensor.dims() == [unit.out_channels] => bias.into(),
            _ => {
                let values = unit.bias.as_deref().unwrap_or_default();
                let tensor = weights::stored(unit.dtype(), vec![values.len()], values)?;
                patch.constant(format!("{}.bias", old.name()), tensor, Some(bias))
            }
        };
        let gemm = Node::new("Gemm").named(old.name()).with_metadata_of(old);
        let operands = vec![unit.x.into(), unit.weight_value.into(), operand];
        patch.node(gemm, unit.main(), operands, Out::Value(unit.y));
        patch.remove_all(unit.nodes);
        Ok(patch)
    }
}
