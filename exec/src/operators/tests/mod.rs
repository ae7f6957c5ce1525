//! Operators of ours against plain loops in f64, and what they refuse.

mod functions;
mod panics;
mod product;
mod weight_gradient;

use bytes::Bytes;
use updp_ir::proto::{NodeProto, OperatorSetIdProto};
use updp_ir::{DataType, Tensor};

use super::DOMAIN;
use crate::tests::models::{D, bytes, model, node, value};

/// Numbers of [-1, 1) that follow from a seed.
pub(super) struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One of `from..=to`.
    pub fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    pub fn many(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.below(2001) as f32 - 1000.0) / 1000.0).collect()
    }
}

/// Close to a sum of `count` products of numbers below 1.
pub(super) fn assert_sums(found: &[f32], expected: &[f64], count: usize, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let most = 1e-6 * (count as f64).max(4.0);
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*found) - expected).abs();
        assert!(apart <= most, "{what}: element {at} is {found} instead of {expected}");
    }
}

/// A model of one node of ours; operands `x0`, `x1`, … of these dims, results `y0`, `y1`, … of these ranks.
pub(super) fn model_of(node: NodeProto, operands: &[&[usize]], ranks: &[usize]) -> Bytes {
    let given = |(at, dims): (usize, &&[usize])| {
        let dims: Vec<D> = dims.iter().map(|dim| D::N(*dim as i64)).collect();
        value(&format!("x{at}"), DataType::Float, &dims)
    };
    let made = |(at, rank): (usize, &usize)| {
        value(&format!("y{at}"), DataType::Float, &vec![D::S("any"); *rank])
    };
    let inputs = operands.iter().enumerate().map(given).collect();
    let outputs = ranks.iter().enumerate().map(made).collect();
    let mut built = model(vec![node], inputs, outputs, Vec::new());
    let domain = OperatorSetIdProto { domain: Some(DOMAIN.to_owned()), version: Some(1) };
    built.opset_import.push(domain);
    bytes(&built)
}

/// A node of ours with so many operands and results.
pub(super) fn ours(op: &str, operands: usize, results: usize) -> NodeProto {
    let names = |letter: &str, count: usize| -> Vec<String> {
        (0..count).map(|at| format!("{letter}{at}")).collect()
    };
    let (operands, results) = (names("x", operands), names("y", results));
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let results: Vec<&str> = results.iter().map(String::as_str).collect();
    NodeProto { domain: Some(DOMAIN.to_owned()), ..node(op, &operands, &results) }
}

pub(super) fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(dims.to_vec(), values).expect("well formed")
}
