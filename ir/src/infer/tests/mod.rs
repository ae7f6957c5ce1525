//! Tests of evaluation and inference.

mod evaluation;
mod evaluation_math;
mod fixtures;
mod inference;
mod robustness;

use crate::dtype::DataType;
use crate::node::Node;
use crate::tensor::Tensor;

pub(super) const LIMIT: usize = 1 << 20;

pub(super) fn i64s(dims: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_i64(dims.to_vec(), values).expect("as many values as dims say")
}

pub(super) fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(dims.to_vec(), values).expect("as many values as dims say")
}

pub(super) fn bools(dims: &[usize], values: &[u8]) -> Tensor {
    Tensor::new(DataType::Bool, dims.to_vec(), values.to_vec().into()).expect("one byte each")
}

/// The first result at `opset`.
pub(super) fn run(node: &Node, opset: i64, operands: &[&Tensor]) -> Option<Tensor> {
    let operands: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
    super::evaluate(node, opset, &operands, LIMIT)?.into_iter().next()
}
