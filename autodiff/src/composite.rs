//! Groups of nodes that form one function and are differentiated as one.
//!
//! Before opset 20, exporters write Gelu as y = ½·x·(1 + erf(x/√2)), with its factors in one of three orders.
//! Differentiated node by node, its gradient takes ten passes over x and keeps their operands. Differentiated as one
//! function, it takes fewer passes, and one operator of ours can compute it.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use updp_ir::{NodeId, ValueId};

use crate::emit::Emit;

/// The parts of a Gelu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gelu {
    /// x.
    pub x: ValueId,
    /// x/√2.
    pub inner: ValueId,
    /// 1 + erf(x/√2).
    pub sum: ValueId,
}

impl Gelu {
    /// The Gelu whose result this node computes.
    pub fn of(emit: &Emit<'_>, root: NodeId) -> Option<Self> {
        let [a, b] = product(emit, root)?;
        let found = [(a, b), (b, a)].into_iter().find_map(|(a, b)| Self::of_factors(emit, a, b))?;
        let result = emit.graph().sole_result(root)?;
        (emit.dims(result).ok()? == emit.dims(found.x).ok()?).then_some(found)
    }

    /// Matches the product a·b with (x·s)·½, (x·½)·s and (s·½)·x, where s = 1 + erf(x/√2).
    fn of_factors(emit: &Emit<'_>, a: ValueId, b: ValueId) -> Option<Self> {
        let [c, d] = product(emit, emit.graph().producer(a)?.0)?;
        [(c, d), (d, c)].into_iter().find_map(|(c, d)| {
            let parts = if is(emit, b, 0.5) {
                [(c, d), (c, d)]
            } else if is(emit, d, 0.5) {
                [(c, b), (b, c)]
            } else {
                return None;
            };
            parts.into_iter().find_map(|(x, sum)| Self::of_sum(emit, sum).filter(|own| own.x == x))
        })
    }

    /// Matches a value with s = 1 + erf(x/√2).
    fn of_sum(emit: &Emit<'_>, sum: ValueId) -> Option<Self> {
        let erf = beside(emit, sum, "Add", 1.0)?;
        let [inner] = operands(emit, emit.graph().producer(erf)?.0, "Erf")?;
        let x = beside(emit, inner, "Mul", FRAC_1_SQRT_2).or_else(|| {
            let [x, root] = operands(emit, emit.graph().producer(inner)?.0, "Div")?;
            is(emit, root, SQRT_2).then_some(x)
        })?;
        Some(Self { x, inner, sum })
    }
}

/// The operands of a node, if it has this operator and exactly `N` operands.
fn operands<const N: usize>(emit: &Emit<'_>, node: NodeId, op: &str) -> Option<[ValueId; N]> {
    let graph = emit.graph();
    let is_meant = graph.node(node).domain().is_empty() && graph.node(node).is(op);
    let operands: Option<Vec<ValueId>> = graph.operands(node).into_iter().collect();
    operands.filter(|_| is_meant)?.try_into().ok()
}

fn product(emit: &Emit<'_>, node: NodeId) -> Option<[ValueId; 2]> {
    operands(emit, node, "Mul")
}

/// The other operand, if the value is the result of this operator with this constant as one operand.
fn beside(emit: &Emit<'_>, value: ValueId, op: &str, number: f64) -> Option<ValueId> {
    let [a, b] = operands(emit, emit.graph().producer(value)?.0, op)?;
    if is(emit, b, number) { Some(a) } else { is(emit, a, number).then_some(b) }
}

/// Whether a value is this constant, within f32 precision.
fn is(emit: &Emit<'_>, value: ValueId, number: f64) -> bool {
    let found = emit.constant_of(value).and_then(|tensor| tensor.scalar_f64());
    found.is_some_and(|found| (found - number).abs() < 1e-6)
}
