//! The rules, one operator a file, and the operators that have none.

mod abs;
mod add;
mod attention;
mod average_pool;
mod batch_normalization;
mod cast;
mod cast_like;
mod clip;
mod concat;
mod conv;
mod conv_transpose;
mod depth_to_space;
mod div;
mod dropout;
mod elu;
mod erf;
mod exp;
mod expand;
mod flatten;
mod gather;
pub(crate) mod gelu;
mod gemm;
mod global_average_pool;
mod global_max_pool;
mod group_normalization;
mod hard_sigmoid;
mod hard_swish;
mod identity;
mod instance_normalization;
mod layer_normalization;
mod leaky_relu;
mod log;
mod log_softmax;
mod lp_normalization;
mod matmul;
mod max;
mod max_pool;
mod mean;
mod min;
mod mish;
mod mul;
mod neg;
mod pad;
mod pow;
mod prelu;
mod reciprocal;
mod reduce_l1;
mod reduce_l2;
mod reduce_log_sum_exp;
mod reduce_max;
mod reduce_mean;
mod reduce_min;
mod reduce_sum;
mod reduce_sum_square;
mod relu;
mod reshape;
mod resize;
mod selu;
mod sigmoid;
mod slice;
mod softmax;
mod softplus;
mod softsign;
mod space_to_depth;
mod split;
mod sqrt;
mod squeeze;
mod sub;
mod sum;
mod swish;
mod tanh;
mod tile;
mod transpose;
mod unsqueeze;
mod where_;

use updp_ir::{Node, NodeId, ValueId};

use crate::driver::describe;
use crate::emit::Emit;
use crate::error::{AutodiffError, Result};

/// What a rule gives for one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cotangent {
    /// The operand is no quantity one can differentiate by (axes, a shape, a condition), or is not wanted.
    NotDifferentiable,
    /// The cotangent, of the operand's type; it may still have the dims that broadcasting gave, or those before.
    Value(ValueId),
}

/// One node with the cotangents of its results.
#[derive(Debug)]
pub(crate) struct Site {
    /// The node.
    pub node: NodeId,
    /// Its operands by slot.
    pub operands: Vec<Option<ValueId>>,
    /// Its results by slot.
    pub results: Vec<Option<ValueId>>,
    /// Cotangents of the results; `None` where the seeds do not depend on one.
    pub cotangents: Vec<Option<ValueId>>,
    /// Which operands lie on a path from a wanted value.
    pub wants: Vec<bool>,
}

impl Site {
    /// Whether the cotangent of this operand is of use.
    pub fn wants(&self, slot: usize) -> bool {
        self.wants.get(slot).copied().unwrap_or(false)
    }

    /// An operand that the operator demands.
    pub fn operand(&self, emit: &Emit<'_>, slot: usize) -> Result<ValueId> {
        let missing = || self.refuse(emit, &format!("operand {slot} is missing"));
        self.operands.get(slot).copied().flatten().ok_or_else(missing)
    }

    /// An operand that may be left out.
    pub fn optional(&self, slot: usize) -> Option<ValueId> {
        self.operands.get(slot).copied().flatten()
    }

    /// The first result.
    pub fn y(&self, emit: &Emit<'_>) -> Result<ValueId> {
        let missing = || self.refuse(emit, "its first result is missing");
        self.results.first().copied().flatten().ok_or_else(missing)
    }

    /// The cotangent of the first result; zeros where only another one has a cotangent.
    pub fn dy(&self, emit: &mut Emit<'_>) -> Result<ValueId> {
        self.cotangent(emit, 0)
    }

    /// The cotangent of a result; zeros where the seeds do not depend on it.
    pub fn cotangent(&self, emit: &mut Emit<'_>, slot: usize) -> Result<ValueId> {
        if let Some(cotangent) = self.cotangents.get(slot).copied().flatten() {
            return Ok(cotangent);
        }
        let missing = || self.refuse(emit, &format!("result {slot} is missing"));
        let result = self.results.get(slot).copied().flatten().ok_or_else(missing)?;
        emit.zeros(result)
    }

    /// The node itself.
    pub fn read<'a>(&self, emit: &'a Emit<'_>) -> &'a Node {
        emit.graph().node(self.node)
    }

    /// The integers of an operand that must be constant.
    pub fn integers(&self, emit: &Emit<'_>, slot: usize) -> Result<Option<Vec<i64>>> {
        let Some(value) = self.optional(slot) else { return Ok(None) };
        let constant = emit.constant_of(value).and_then(|tensor| tensor.to_i64());
        let refuse = || self.refuse(emit, &format!("operand {slot} is not constant"));
        constant.map(Some).ok_or_else(refuse)
    }

    /// T0302 for this node.
    pub fn refuse(&self, emit: &Emit<'_>, detail: &str) -> AutodiffError {
        AutodiffError::Form {
            node: describe(emit, self.node),
            op: self.read(emit).op_type().to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// `axis` counted from the front.
pub(crate) fn axis_of(axis: i64, rank: usize) -> usize {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).unwrap_or(0).min(rank.saturating_sub(1))
}

/// The cotangent of the first operand alone.
fn first(value: ValueId) -> Vec<Cotangent> {
    vec![Cotangent::Value(value)]
}

type Rule = fn(&mut Emit<'_>, &Site) -> Result<Vec<Cotangent>>;

macro_rules! rules {
    ($($op:literal => $rule:path,)*) => {
        const RULES: &[(&str, Rule)] = &[$(($op, $rule),)*];
        /// Operators of the default domain with a gradient, by name.
        pub const GRADIENT_OPERATORS: &[&str] = &[$($op,)*];
    };
}

rules! {
    "Abs" => abs::vjp,
    "Add" => add::vjp,
    "Attention" => attention::vjp,
    "AveragePool" => average_pool::vjp,
    "BatchNormalization" => batch_normalization::vjp,
    "Cast" => cast::vjp,
    "CastLike" => cast_like::vjp,
    "Clip" => clip::vjp,
    "Concat" => concat::vjp,
    "Conv" => conv::vjp,
    "ConvTranspose" => conv_transpose::vjp,
    "DepthToSpace" => depth_to_space::vjp,
    "Div" => div::vjp,
    "Dropout" => dropout::vjp,
    "Elu" => elu::vjp,
    "Erf" => erf::vjp,
    "Exp" => exp::vjp,
    "Expand" => expand::vjp,
    "Flatten" => flatten::vjp,
    "Gather" => gather::vjp,
    "Gelu" => gelu::vjp,
    "Gemm" => gemm::vjp,
    "GlobalAveragePool" => global_average_pool::vjp,
    "GlobalMaxPool" => global_max_pool::vjp,
    "GroupNormalization" => group_normalization::vjp,
    "HardSigmoid" => hard_sigmoid::vjp,
    "HardSwish" => hard_swish::vjp,
    "Identity" => identity::vjp,
    "InstanceNormalization" => instance_normalization::vjp,
    "LayerNormalization" => layer_normalization::vjp,
    "LeakyRelu" => leaky_relu::vjp,
    "Log" => log::vjp,
    "LogSoftmax" => log_softmax::vjp,
    "LpNormalization" => lp_normalization::vjp,
    "MatMul" => matmul::vjp,
    "Max" => max::vjp,
    "MaxPool" => max_pool::vjp,
    "Mean" => mean::vjp,
    "Min" => min::vjp,
    "Mish" => mish::vjp,
    "Mul" => mul::vjp,
    "Neg" => neg::vjp,
    "PRelu" => prelu::vjp,
    "Pad" => pad::vjp,
    "Pow" => pow::vjp,
    "Reciprocal" => reciprocal::vjp,
    "ReduceL1" => reduce_l1::vjp,
    "ReduceL2" => reduce_l2::vjp,
    "ReduceLogSumExp" => reduce_log_sum_exp::vjp,
    "ReduceMax" => reduce_max::vjp,
    "ReduceMean" => reduce_mean::vjp,
    "ReduceMin" => reduce_min::vjp,
    "ReduceSum" => reduce_sum::vjp,
    "ReduceSumSquare" => reduce_sum_square::vjp,
    "Relu" => relu::vjp,
    "Reshape" => reshape::vjp,
    "Resize" => resize::vjp,
    "Selu" => selu::vjp,
    "Sigmoid" => sigmoid::vjp,
    "Slice" => slice::vjp,
    "Softmax" => softmax::vjp,
    "Softplus" => softplus::vjp,
    "Softsign" => softsign::vjp,
    "SpaceToDepth" => space_to_depth::vjp,
    "Split" => split::vjp,
    "Sqrt" => sqrt::vjp,
    "Squeeze" => squeeze::vjp,
    "Sub" => sub::vjp,
    "Sum" => sum::vjp,
    "Swish" => swish::vjp,
    "Tanh" => tanh::vjp,
    "Tile" => tile::vjp,
    "Transpose" => transpose::vjp,
    "Unsqueeze" => unsqueeze::vjp,
    "Where" => where_::vjp,
}

/// Operators whose results are piecewise constant or no floats: gradients end there.
pub const NO_GRADIENT_OPERATORS: &[&str] = &[
    "And",
    "ArgMax",
    "ArgMin",
    "BitShift",
    "Ceil",
    "Constant",
    "ConstantOfShape",
    "Equal",
    "EyeLike",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Hardmax",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Range",
    "Round",
    "Shape",
    "Sign",
    "Size",
    "Xor",
];

/// Whether a node of the default domain with this operator can be differentiated.
#[must_use]
pub fn has_gradient(op: &str) -> bool {
    RULES.binary_search_by(|(name, _)| (*name).cmp(op)).is_ok()
}

/// Whether gradients end at this operator.
pub(crate) fn is_without_gradient(op: &str) -> bool {
    NO_GRADIENT_OPERATORS.contains(&op)
}

/// The cotangents of the operands of a node that [`has_gradient`].
pub(crate) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let op = site.read(emit).op_type();
    let Ok(at) = RULES.binary_search_by(|(name, _)| (*name).cmp(op)) else {
        let op = op.to_owned();
        return Err(AutodiffError::Operator { node: describe(emit, site.node), op });
    };
    RULES[at].1(emit, site)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_disjoint() {
        assert!(GRADIENT_OPERATORS.is_sorted());
        assert!(NO_GRADIENT_OPERATORS.is_sorted());
        assert!(NO_GRADIENT_OPERATORS.iter().all(|op| !has_gradient(op)));
    }
}
