//! The rules, one file per operator, and the operators that have no gradient.

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
pub(crate) mod site;
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

use crate::emit::Emit;
use crate::error::{AutodiffError, Result};
use site::{Cotangent, Site};

type Rule = fn(&mut Emit<'_>, &Site) -> Result<Vec<Cotangent>>;

macro_rules! rules {
    ($($op:literal => $rule:path,)*) => {
        const RULES: &[(&str, Rule)] = &[$(($op, $rule),)*];
        /// The operators of the default domain with a gradient, sorted by name.
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

/// Operators whose results are piecewise constant or not floats. Gradients end there.
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
        return Err(AutodiffError::Operator { node: emit.describe(site.node), op });
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
