//! Whether the sign of a zero can be seen behind a value.

use updp_ir::ValueId;

use crate::rule::Context;

/// Operators for which −0 and +0 are the same, whatever the operand. Sums of products are among them: the
/// order of the sum decides the sign of a zero there, and runtimes differ in it.
const BLIND: &[&str] = &[
    "Abs",
    "ArgMax",
    "ArgMin",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Equal",
    "Exp",
    "Gemm",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "Less",
    "LessOrEqual",
    "LogSoftmax",
    "MatMul",
    "Shape",
    "Sigmoid",
    "Size",
    "Softmax",
    "Softplus",
];

/// Operators that make of −0 and +0 at most zeros of another sign, in all their results.
const PASSING: &[&str] = &[
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Dropout",
    "Elu",
    "Erf",
    "Flatten",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "MaxPool",
    "Mul",
    "Neg",
    "PRelu",
    "Pad",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// Number of values that are followed before the answer is no.
const MAX_VALUES: usize = 64;

/// Whether no graph output and no node of another kind sees the sign of a zero in `value`. A division by it, for
/// example, would see it: 1/−0 is −∞.
pub(super) fn is_unseen(cx: &Context<'_>, value: ValueId) -> bool {
    let mut seen = vec![value];
    let mut next = 0;
    while let Some(value) = seen.get(next).copied() {
        next += 1;
        let is_observed = cx.graph.value(value).is_output() || cx.graph.is_captured(value);
        if is_observed || seen.len() > MAX_VALUES {
            return false;
        }
        for user in cx.graph.users(value) {
            let node = cx.graph.node(user.node);
            let is_one_of = |known: &[&str]| known.iter().any(|op| node.is(op));
            let is_passing = is_one_of(PASSING) || node.is("Div") && user.slot == 0;
            if is_passing {
                let results = cx.graph.results(user.node).into_iter().flatten();
                seen.extend(results.filter(|result| !seen.contains(result)).collect::<Vec<_>>());
            } else if !is_one_of(BLIND) {
                return false;
            }
        }
    }
    true
}
