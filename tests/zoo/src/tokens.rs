//! Layers that work on the last axis: `LayerNormalization`, Linear and GELU over tokens.

use updp_ir::{Dim, Node};

use crate::net::{Net, Val, at};
use crate::weights::{Draw, transpose};

/// Epsilon of every LayerNorm here.
const EPSILON: f32 = 1e-6;

impl Net {
    /// LayerNorm over the last axis.
    pub(crate) fn layer_norm(&mut self, x: &Val, path: &str) -> Val {
        let size = x.size(x.dims.len() - 1);
        let weight = self.drawn(&format!("{path}.weight"), &[size], Draw::Uniform(0.5, 1.5));
        let bias = self.drawn(&format!("{path}.bias"), &[size], Draw::Uniform(-0.3, 0.3));
        let node = Node::new("LayerNormalization");
        let node = if self.dialect.is_dynamo() {
            node.with("stash_type", 1_i64).with("epsilon", EPSILON).with("axis", -1_i64)
        } else {
            node.with("axis", -1_i64).with("epsilon", EPSILON)
        };
        let operands = [x.name.as_str(), &weight, &bias];
        self.op(at(path, "layer_norm"), node, &operands, x.dims.clone())
    }

    /// Transpose; `aten` is `permute` or `transpose`.
    pub(crate) fn permute(&mut self, x: &Val, path: &str, aten: &str, perm: &[usize]) -> Val {
        let dims = perm.iter().map(|axis| x.dims[*axis].clone()).collect();
        let node = Node::new("Transpose").with("perm", perm);
        self.op(at(path, aten), node, &[&x.name], dims)
    }

    /// Reshape to a target that is known or -1 in every dim.
    pub(crate) fn reshape(&mut self, x: &Val, path: &str, target: &[i64], dims: Vec<Dim>) -> Val {
        let shape = self.ints(path, target);
        let is_dynamo = i64::from(self.dialect.is_dynamo());
        let node = Node::new("Reshape").with("allowzero", is_dynamo);
        self.op(at(path, "view"), node, &[&x.name, &shape], dims)
    }

    /// `x · Wᵀ + b`, W `[out, in]`, as MatMul and Add.
    pub(crate) fn linear(&mut self, x: &Val, path: &str, features: usize, gain: f64) -> Val {
        let in_features = x.size(x.dims.len() - 1);
        let std = gain / (in_features as f64).sqrt();
        let name = format!("{path}.weight");
        let weight = self.draw(&name, features * in_features, Draw::Normal(std));
        let is_legacy = !self.dialect.is_dynamo();
        let weight = if is_legacy && self.dialect.keeps_batch_norm() {
            let weight = self.parameter(&name, &[features, in_features], weight);
            let node = Node::new("Transpose").with("perm", vec![1_i64, 0]);
            let dims = vec![Dim::from(in_features), Dim::from(features)];
            self.op(at(path, ""), node, &[&weight], dims).name
        } else {
            let transposed = transpose(&weight, features, in_features);
            self.derived("MatMul", &[in_features, features], transposed)
        };
        let bias = self.drawn(&format!("{path}.bias"), &[features], Draw::Uniform(-0.1, 0.1));
        let mut dims = x.dims.clone();
        dims.pop();
        dims.push(Dim::from(features));
        let operands = [x.name.as_str(), &weight];
        let product = self.op(at(path, ""), Node::new("MatMul"), &operands, dims.clone());
        let operands = if is_legacy { [&bias, &product.name] } else { [&product.name, &bias] };
        self.op(at(path, "linear"), Node::new("Add"), &operands.map(String::as_str), dims)
    }

    /// `x · ½ · (1 + erf(x / √2))` as opsets below 20 have it.
    pub(crate) fn gelu(&mut self, x: &Val, path: &str) -> Val {
        let dims = || x.dims.clone();
        let root = self.float_scalar(path, std::f32::consts::SQRT_2);
        let quotient = self.op(at(path, ""), Node::new("Div"), &[&x.name, &root], dims());
        let erf = self.op(at(path, ""), Node::new("Erf"), &[&quotient.name], dims());
        let one = self.float_scalar(path, 1.0);
        let sum = self.op(at(path, ""), Node::new("Add"), &[&erf.name, &one], dims());
        if self.dialect.is_dynamo() {
            let half = self.float_scalar(path, 0.5);
            let half = self.op(at(path, ""), Node::new("Mul"), &[&half, &sum.name], dims());
            return self.op(at(path, "gelu"), Node::new("Mul"), &[&x.name, &half.name], dims());
        }
        let product = self.op(at(path, ""), Node::new("Mul"), &[&x.name, &sum.name], dims());
        let half = self.float_scalar(path, 0.5);
        self.op(at(path, ""), Node::new("Mul"), &[&product.name, &half], dims())
    }
}
