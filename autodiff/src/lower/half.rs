//! Computes convolutions and products in f16 or bf16, and everything else in f32.
//!
//! Before: `y = op(a, b, …)`, where op is one of Conv, ConvTranspose, Gemm, MatMul, all in f32. After: `y =
//! Cast(op(Cast a, Cast b, …))`. Weights stay f32 outside. Norms, softmax, sums over batches, loss and optimizer are
//! computed in f32. When one of these operators reads the result of another one, the value is not cast to f32 in
//! between. This also holds across operators that only move or cut off elements: the numbers are the same.

use std::collections::BTreeMap;

use updp_ir::{DataType, Model, NodeId, ValueId, order};

use crate::emit::Emit;
use crate::error::Result;

/// Operators that are computed in half precision. The first two have bf16 only from opset 22 on.
const PRODUCTS: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// Operators with one data operand whose result in half precision equals the rounded f32 result.
const MOVING: [&str; 8] =
    ["Flatten", "Identity", "Relu", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"];

/// Rewrites all products of f32. Returns their number.
pub(super) fn lower(model: &mut Model, dtype: DataType) -> Result<usize> {
    let order = order::topological(&model.graph)?;
    let is_late = dtype == DataType::Bfloat16 && model.opset("").unwrap_or(0) < 22;
    let wanted = if is_late { &PRODUCTS[2..] } else { &PRODUCTS[..] };
    let standard: Vec<NodeId> =
        order.into_iter().filter(|node| model.is_standard(model.graph.node(*node))).collect();
    let mut emit = Emit::new(model)?;
    emit.set_scope("half");
    let mut halves = Halves { dtype, rounded: BTreeMap::new(), equal: BTreeMap::new() };
    let mut products = 0;
    for node in standard {
        let Some(y) = emit.graph().sole_result(node) else { continue };
        if emit.dtype(y).ok() != Some(DataType::Float) {
            continue;
        }
        let op = emit.graph().node(node).op_type().to_owned();
        emit.set_anchor(node);
        if wanted.contains(&op.as_str()) {
            halves.product(&mut emit, node, y)?;
            products += 1;
        } else if MOVING.contains(&op.as_str()) {
            halves.moved(&mut emit, node, y)?;
        }
    }
    Ok(products)
}

/// The half-precision versions of f32 values.
struct Halves {
    dtype: DataType,
    /// f32 values that were rounded for a product.
    rounded: BTreeMap<ValueId, ValueId>,
    /// The half-precision values that f32 values were cast from.
    equal: BTreeMap<ValueId, ValueId>,
}

impl Halves {
    fn of(&mut self, emit: &mut Emit<'_>, value: ValueId) -> Result<ValueId> {
        if let Some(half) = self.equal.get(&value).or_else(|| self.rounded.get(&value)) {
            return Ok(*half);
        }
        let half = emit.cast(value, self.dtype)?;
        self.rounded.insert(value, half);
        Ok(half)
    }

    fn product(&mut self, emit: &mut Emit<'_>, node: NodeId, y: ValueId) -> Result<()> {
        let operands = emit.graph().operands(node);
        let operands: Vec<Option<ValueId>> = operands
            .into_iter()
            .map(|operand| operand.map(|value| self.of(emit, value)).transpose())
            .collect::<Result<_>>()?;
        let copy = emit.graph().node(node).bare_copy();
        let half = emit.node(copy, &operands)?;
        self.replace(emit, node, y, half)
    }

    /// Rewrites a moving operator if its data were cast from half precision.
    fn moved(&mut self, emit: &mut Emit<'_>, node: NodeId, y: ValueId) -> Result<()> {
        let mut operands = emit.graph().operands(node);
        let Some(x) = operands.first().copied().flatten() else { return Ok(()) };
        let Some(half) = self.equal.get(&x).copied() else { return Ok(()) };
        operands[0] = Some(half);
        let copy = emit.graph().node(node).bare_copy();
        let half = emit.node(copy, &operands)?;
        self.replace(emit, node, y, half)
    }

    /// Makes readers in f32 read a cast of `half`.
    fn replace(
        &mut self,
        emit: &mut Emit<'_>,
        node: NodeId,
        y: ValueId,
        half: ValueId,
    ) -> Result<()> {
        let wide = emit.cast(half, DataType::Float)?;
        self.equal.insert(wide, half);
        emit.replace(node, y, wide)
    }
}
