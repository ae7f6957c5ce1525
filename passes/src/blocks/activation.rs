//! Activations: whole (`Relu`, `Gelu`) and spelled out (`Div, Erf, Add, Mul, Mul`).
//!
//! A spelled-out activation is a group of elementwise operators with scalar constants between one value
//! and one result. The group is evaluated to find its function, so no list of spellings is needed.

use std::collections::BTreeMap;

use updp_ir::view::Binary;
use updp_ir::{NodeId, ValueId, view};

use super::flow::Flow;
use crate::rule::Context;

/// Largest number of nodes in one spelled-out activation.
const MAX_NODES: usize = 12;
/// The points at which a spelled-out activation is evaluated.
const POINTS: [f64; 9] = [-5.0, -3.0, -1.5, -0.5, 0.0, 0.5, 1.5, 3.0, 7.0];
/// Largest distance to a known activation: the tanh form of GELU differs by 5e-4.
const TOLERANCE: f64 = 2e-3;

/// The name of the function, for people; every activation is treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationKind {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x·Φ(x)`, by erf or tanh.
    Gelu,
    /// `x·min(max(x + 3, 0), 6)/6`.
    HardSwish,
    /// `x·σ(x)`.
    Silu,
    /// `x·σ(1.702·x)`.
    QuickGelu,
    /// Another elementwise function.
    Other,
}

impl ActivationKind {
    /// The common name of the function.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "ReLU",
            Self::Relu6 => "ReLU6",
            Self::Gelu => "GELU",
            Self::HardSwish => "HardSwish",
            Self::Silu => "SiLU",
            Self::QuickGelu => "QuickGELU",
            Self::Other => "activation",
        }
    }
}

/// An elementwise nonlinear function of one value.
#[derive(Clone, Debug)]
pub struct Activation {
    /// Which function.
    pub kind: ActivationKind,
    /// The factor of the function: a GELU whose half went into the next weights is twice a GELU.
    pub gain: f64,
    /// Operand.
    pub x: ValueId,
    /// Result.
    pub y: ValueId,
    /// Its nodes in topological order.
    pub nodes: Vec<NodeId>,
}

impl Activation {
    /// The activation whose result is `value`.
    #[must_use]
    pub fn ending_in(cx: &Context<'_>, flow: &Flow, value: ValueId) -> Option<Self> {
        let mut frontier = vec![value];
        let mut nodes: Vec<NodeId> = Vec::new();
        while nodes.len() < MAX_NODES {
            // Start from the last of them in topological order; it may depend on the earlier ones.
            let (at, node) = frontier
                .iter()
                .enumerate()
                .filter_map(|(at, v)| Some((at, cx.graph.producer(*v)?.0)))
                .max_by_key(|(_, node)| flow.place(*node))?;
            if !is_elementwise(cx, flow, node) {
                return None;
            }
            frontier.remove(at);
            nodes.push(node);
            for operand in flow.data_operands(cx, node) {
                if !frontier.contains(&operand) {
                    frontier.push(operand);
                }
            }
            if let [x] = frontier[..]
                && let Some(found) = Self::of_nodes(cx, &nodes, x, value)
            {
                return Some(found);
            }
        }
        None
    }

    /// The activation made of `nodes`, last first, unless they are affine, unknown, or read from outside.
    fn of_nodes(cx: &Context<'_>, nodes: &[NodeId], x: ValueId, y: ValueId) -> Option<Self> {
        let nodes: Vec<NodeId> = nodes.iter().rev().copied().collect();
        let made = nodes.iter().filter_map(|node| cx.graph.sole_result(*node));
        let inner = made.filter(|value| *value != y).collect::<Vec<_>>();
        if !inner
            .iter()
            .all(|value| super::flow::is_read_only_by(cx, *value, |node| nodes.contains(&node)))
        {
            return None;
        }
        let values: Option<Vec<f64>> =
            POINTS.iter().map(|point| evaluate(cx, &nodes, x, y, *point)).collect();
        let (kind, gain) = values.as_deref().map_or((ActivationKind::Other, 1.0), recognize);
        let is_known = kind != ActivationKind::Other;
        // A group of unknown meaning may hold an affine part that has to stay.
        let is_single = nodes.len() == 1 && is_nonlinear(cx.graph.node(nodes[0]).op_type());
        (is_known || is_single).then_some(Self { kind, gain, x, y, nodes })
    }
}

/// Whether an operator is an activation function by itself.
pub(crate) fn is_nonlinear(op_type: &str) -> bool {
    matches!(
        op_type,
        "Relu"
            | "Clip"
            | "LeakyRelu"
            | "PRelu"
            | "Elu"
            | "Selu"
            | "Celu"
            | "Gelu"
            | "Mish"
            | "HardSwish"
            | "HardSigmoid"
            | "Sigmoid"
            | "Tanh"
            | "Softplus"
            | "Softsign"
            | "ThresholdedRelu"
            | "Swish"
    )
}

/// Whether a node computes each element from one element of its data operands and from scalars.
fn is_elementwise(cx: &Context<'_>, flow: &Flow, node: NodeId) -> bool {
    let known = cx.graph.node(node);
    if !known.domain().is_empty() || known.has_reference_attribute() {
        return false;
    }
    if known.is("PRelu") {
        return cx.graph.operand(node, 1).is_some_and(|slope| cx.constant(slope).is_some());
    }
    let is_listed = is_nonlinear(known.op_type())
        || matches!(
            known.op_type(),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Erf" | "Min" | "Max" | "Neg" | "Abs" | "Exp"
        );
    is_listed
        && cx.graph.operands(node).into_iter().flatten().all(|operand| {
            flow.is_data(operand) || cx.constant(operand).is_some_and(|t| t.len() == 1)
        })
}

/// The value of the group at one point; `None` if an operator is not known here.
fn evaluate(cx: &Context<'_>, nodes: &[NodeId], x: ValueId, y: ValueId, point: f64) -> Option<f64> {
    let mut values: BTreeMap<ValueId, f64> = BTreeMap::from([(x, point)]);
    for node in nodes {
        let read = |slot: usize| -> Option<f64> {
            let operand = cx.graph.operand(*node, slot)?;
            match values.get(&operand) {
                Some(value) => Some(*value),
                None => cx.constant(operand)?.scalar_f64(),
            }
        };
        let result = cx.graph.sole_result(*node)?;
        let value = apply(cx, *node, &read)?;
        values.insert(result, value);
    }
    values.get(&y).copied()
}

fn apply(cx: &Context<'_>, node: NodeId, read: &dyn Fn(usize) -> Option<f64>) -> Option<f64> {
    let known = cx.graph.node(node);
    let float = |name: &str, default: f64| known.float(name).map_or(default, f64::from);
    let a = read(0)?;
    Some(match known.op_type() {
        "Add" | "Sub" | "Mul" | "Div" => {
            let b = read(1)?;
            match Binary::of(cx.graph, node, cx.opset)?.op {
                view::BinaryOp::Add => a + b,
                view::BinaryOp::Sub => a - b,
                view::BinaryOp::Mul => a * b,
                view::BinaryOp::Div => a / b,
            }
        }
        "Pow" => a.powf(read(1)?),
        "Min" => a.min(read(1)?),
        "Max" => a.max(read(1)?),
        "Neg" => -a,
        "Abs" => a.abs(),
        "Exp" => a.exp(),
        "Erf" => erf(a),
        "Tanh" => a.tanh(),
        "Sigmoid" => sigmoid(a),
        "Relu" => a.max(0.0),
        "HardSigmoid" => (float("alpha", 0.2) * a + float("beta", 0.5)).clamp(0.0, 1.0),
        "HardSwish" => a * ((a + 3.0) / 6.0).clamp(0.0, 1.0),
        "Gelu" => a * 0.5 * (1.0 + erf(a / std::f64::consts::SQRT_2)),
        "Clip" => {
            let bound = |slot: usize, name: &str, default: f64| {
                if cx.opset >= 11 {
                    cx.graph.operand(node, slot).map_or(Some(default), |_| read(slot))
                } else {
                    Some(float(name, default))
                }
            };
            a.max(bound(1, "min", f64::MIN)?).min(bound(2, "max", f64::MAX)?)
        }
        _ => return None,
    })
}

/// The known function with these values at the points, and its factor.
fn recognize(values: &[f64]) -> (ActivationKind, f64) {
    type Known = (ActivationKind, fn(f64) -> f64);
    let known: [Known; 6] = [
        (ActivationKind::Relu, |x| x.max(0.0)),
        (ActivationKind::Relu6, |x| x.clamp(0.0, 6.0)),
        (ActivationKind::Gelu, |x| x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2))),
        (ActivationKind::HardSwish, |x| x * ((x + 3.0) / 6.0).clamp(0.0, 1.0)),
        (ActivationKind::Silu, |x| x * sigmoid(x)),
        (ActivationKind::QuickGelu, |x| x * sigmoid(1.702 * x)),
    ];
    let last = POINTS.len() - 1;
    for (kind, f) in known {
        let gain = values[last] / f(POINTS[last]);
        let is_same =
            |(x, value): (&f64, &f64)| (gain * f(*x) - value).abs() <= TOLERANCE * gain.abs();
        if gain.is_finite() && gain != 0.0 && POINTS.iter().zip(values).all(is_same) {
            // A factor that is 1 up to the rounding of its constants counts as no factor.
            return (kind, if (gain - 1.0).abs() < 1e-3 { 1.0 } else { gain });
        }
    }
    (ActivationKind::Other, 1.0)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// erf by its Taylor series near 0 and its continued limit outside; 1e-10 is accurate enough here.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    // erf(x) = 2/√π · exp(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (1·3·…·(2n+1))
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_meets_tabled_values() {
        for (x, y) in
            [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)]
        {
            assert!((erf(x) - y).abs() < 1e-9, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + y).abs() < 1e-9);
        }
    }
}
