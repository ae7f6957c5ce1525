//! Operators whose result has the shape of an operand, or of all operands after broadcasting.

use super::{Outcome, Site, broadcast, one};
use crate::dtype::DataType;
use crate::types::Dim;

/// Outcome of an elementwise operator; `None` for others.
pub(super) fn rule(site: &Site<'_>) -> Option<Vec<Outcome>> {
    match site.node.op_type() {
        "Relu"
        | "LeakyRelu"
        | "PRelu"
        | "Elu"
        | "Selu"
        | "Celu"
        | "ThresholdedRelu"
        | "Sigmoid"
        | "HardSigmoid"
        | "Tanh"
        | "HardSwish"
        | "Mish"
        | "Softplus"
        | "Softsign"
        | "Gelu"
        | "Swish"
        | "Erf"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Neg"
        | "Abs"
        | "Ceil"
        | "Floor"
        | "Round"
        | "Reciprocal"
        | "Sign"
        | "Sin"
        | "Cos"
        | "Tan"
        | "Asin"
        | "Acos"
        | "Atan"
        | "Sinh"
        | "Cosh"
        | "Asinh"
        | "Acosh"
        | "Atanh"
        | "Clip"
        | "Identity"
        | "Softmax"
        | "LogSoftmax"
        | "Hardmax"
        | "LRN"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "InstanceNormalization"
        // Written by CoreML converters of 2017; runtimes still know them.
        | "ImageScaler"
        | "Affine"
        | "ParametricSoftplus"
        | "ScaledTanh"
        | "GroupNormalization"
        | "RMSNormalization"
        | "Shrink"
        | "Not"
        | "BitwiseNot"
        | "CumSum"
        | "CumProd"
        | "Trilu"
        | "Scatter"
        | "ScatterElements"
        | "ScatterND"
        | "TensorScatter"
        | "ReverseSequence"
        | "RotaryEmbedding" => one(site.dtype(0), shape(site)),
        "IsNaN" | "IsInf" => one(Some(DataType::Bool), shape(site)),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "And" | "Or" | "Xor" | "BitShift"
        | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" => {
            let dtype = if site.node.is("Pow") { None } else { site.dtype(1) };
            one(site.dtype(0).or(dtype), binary(site))
        }
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" => {
            one(Some(DataType::Bool), binary(site))
        }
        "Sum" | "Min" | "Max" | "Mean" => one(site.dtype(0), all(site, 0)),
        "Where" => one(site.dtype(1).or_else(|| site.dtype(2)), all(site, 0)),
        _ => special(site),
    }
}

/// Operators with a dtype of their own or with more results.
fn special(site: &Site<'_>) -> Option<Vec<Outcome>> {
    match site.node.op_type() {
        "Cast" => one(site.dtype_attribute("to", None), shape(site)),
        "CastLike" => one(site.dtype(1), shape(site)),
        "QuantizeLinear" => {
            let default = if site.has(2) { site.dtype(2) } else { Some(DataType::Uint8) };
            one(site.dtype_attribute("output_dtype", default).or(default), shape(site))
        }
        "DequantizeLinear" => {
            let default = site.dtype(1).filter(|d| d.is_foldable_float());
            one(site.dtype_attribute("output_dtype", default).or(default), shape(site))
        }
        "DynamicQuantizeLinear" => Some(vec![
            Outcome::new(Some(DataType::Uint8), shape(site)),
            Outcome::new(site.dtype(0), Some(Vec::new())),
            Outcome::new(Some(DataType::Uint8), Some(Vec::new())),
        ]),
        "RandomUniformLike" | "RandomNormalLike" | "EyeLike" | "Bernoulli" => {
            one(site.dtype_attribute("dtype", site.dtype(0)), shape(site))
        }
        "Dropout" => {
            let mask = if site.opset >= 10 { Some(DataType::Bool) } else { site.dtype(0) };
            Some(vec![Outcome::new(site.dtype(0), shape(site)), Outcome::new(mask, shape(site))])
        }
        "BatchNormalization" => {
            let mut outcomes = vec![Outcome::new(site.dtype(0), shape(site))];
            for slot in 1..site.results {
                // Running mean and variance, then (below opset 14) the saved mean and variance.
                let statistic = if slot % 2 == 1 { 3 } else { 4 };
                let dims = site.shape(statistic).map(<[Dim]>::to_vec);
                outcomes.push(Outcome::new(site.dtype(statistic), dims));
            }
            Some(outcomes)
        }
        "LayerNormalization" => {
            let stash = site.dtype_attribute("stash_type", Some(DataType::Float));
            let statistics = Outcome::new(stash, statistics(site));
            Some(vec![Outcome::new(site.dtype(0), shape(site)), statistics.clone(), statistics])
        }
        _ => None,
    }
}

fn shape(site: &Site<'_>) -> Option<Vec<Dim>> {
    site.shape(0).map(<[Dim]>::to_vec)
}

/// Two operands after broadcasting; below opset 7 the shape of the first one always wins.
fn binary(site: &Site<'_>) -> Option<Vec<Dim>> {
    if site.opset < 7 {
        return shape(site);
    }
    Some(broadcast(site.shape(0)?, site.shape(1)?))
}

fn all(site: &Site<'_>, from: usize) -> Option<Vec<Dim>> {
    let mut dims: Vec<Dim> = site.shape(from)?.to_vec();
    for slot in from + 1..site.operands.len() {
        dims = broadcast(&dims, site.shape(slot)?);
    }
    Some(dims)
}

/// Mean and inverse deviation of `LayerNormalization`: normalized axes of size one.
fn statistics(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0)?;
    let axis = site.axis(-1, dims.len())?;
    let kept = dims[..axis].iter().cloned();
    Some(kept.chain(dims[axis..].iter().map(|_| Dim::Known(1))).collect())
}
