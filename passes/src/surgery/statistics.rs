//! Mean and variance for inserted BatchNorms, estimated by running the network.
//!
//! In the calibration network, every inserted BatchNorm normalizes by the statistics of its batch and
//! returns them as outputs. So one run settles all of them in the order of the data flow: each BatchNorm
//! sees the values that the pruned network before it makes.

use updp_ir::{DataType, Dim, Model, Node, NodeId, Tensor, TensorType, ValueId};

use super::expand::InsertedNorm;
use crate::error::{Declined, PassError};
use crate::lift::weights;
use crate::patch::{Operand, Out, Patch};

/// ε of inserted BatchNorms, as the operator rounds it.
const EPSILON: f64 = super::expand::EPSILON as f64;

/// Statistics of the input of one inserted BatchNorm, `[C]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Variance of each channel, not below zero.
    pub variance: Vec<f64>,
}

/// Rewrites an expanded network, with or without its baseline, so that each inserted BatchNorm uses the statistics of
/// its batch and returns them as two more outputs. Returns the names of these outputs, mean and variance, in the order
/// of `norms`.
///
/// # Errors
/// P0006 when a BatchNorm does not exist or its shape is not known.
pub fn calibration_model(
    model: &mut Model,
    norms: &[InsertedNorm],
) -> Result<Vec<(String, String)>, PassError> {
    let opset = model.opset("").unwrap_or(0);
    let mut outputs = Vec::new();
    for norm in norms {
        let missing = || PassError::NoSuchNorm { name: norm.result.clone() };
        let place = Place::of(model, norm).ok_or_else(missing)?;
        let shapes = updp_ir::infer::Shapes::infer(&model.graph, opset);
        let rank = shapes.of(place.x).and_then(TensorType::rank).ok_or_else(missing)?;
        let dtype = shapes.dtype(place.x).ok_or_else(missing)?;
        let mut emit = Emit { patch: Patch::new(), norm, place: &place, opset, rank, dtype };
        emit.network().map_err(|_| missing())?;
        emit.patch.apply(&mut model.graph).map_err(|source| PassError::Apply {
            rule: "calibration",
            node: norm.result.clone(),
            source,
        })?;
        let names = ["mean_of", "variance_of"].map(|part| format!("{}.{part}", norm.result));
        let ty = TensorType { dtype, shape: Some(vec![Dim::Known(norm.channels)]) };
        for name in &names {
            let value = model.graph.find(name).ok_or_else(missing)?;
            model.graph.add_output(value, &ty)?;
        }
        let [mean, variance] = names;
        outputs.push((mean, variance));
    }
    Ok(outputs)
}

/// The place of an inserted BatchNorm.
struct Place {
    x: ValueId,
    result: ValueId,
    nodes: Vec<NodeId>,
    constants: Vec<ValueId>,
}

impl Place {
    fn of(model: &Model, norm: &InsertedNorm) -> Option<Self> {
        let graph = &model.graph;
        let result = graph.find(&norm.result)?;
        let constants =
            norm.constants.iter().map(|name| graph.find(name)).collect::<Option<_>>()?;
        let (last, _) = graph.producer(result)?;
        if graph.node(last).is("BatchNormalization") {
            let x = graph.operand(last, 0)?;
            return Some(Self { x, result, nodes: vec![last], constants });
        }
        let (mul, _) = graph.producer(graph.operand(last, 0)?)?;
        graph.node(mul).is("Mul").then_some(())?;
        let x = graph.operand(mul, 0)?;
        Some(Self { x, result, nodes: vec![mul, last], constants })
    }
}

struct Emit<'a> {
    patch: Patch,
    norm: &'a InsertedNorm,
    place: &'a Place,
    opset: i64,
    rank: usize,
    dtype: DataType,
}

impl Emit<'_> {
    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.norm.result)
    }

    fn op(&mut self, op: &str, part: &str, operands: Vec<Operand>) -> Operand {
        let out = Out::Fresh(self.name(part));
        self.patch.node(Node::new(op), self.place.nodes[0], operands, out)
    }

    fn ints(&mut self, part: &str, values: &[i64]) -> Result<Operand, Declined> {
        let tensor = Tensor::from_i64(vec![values.len()], values);
        let tensor = tensor.map_err(|error| Declined::new("ir", error.to_string()))?;
        Ok(self.patch.constant(self.name(part), tensor, None))
    }

    /// The mean over every axis except the axis of the channels; reduced axes stay as dims of 1.
    fn mean(&mut self, part: &str, x: Operand) -> Result<Operand, Declined> {
        let axes: Vec<i64> =
            (0..self.rank).filter(|axis| *axis != self.norm.axis).map(|axis| axis as i64).collect();
        let node = Node::new("ReduceMean").with("keepdims", 1_i64);
        let out = Out::Fresh(self.name(part));
        let anchor = self.place.nodes[0];
        Ok(if self.opset >= 18 {
            let axes = self.ints(&format!("{part}_axes"), &axes)?;
            self.patch.node(node, anchor, vec![x, axes], out)
        } else {
            self.patch.node(node.with("axes", axes), anchor, vec![x], out)
        })
    }

    fn flat(&mut self, part: &str, x: Operand) -> Result<Operand, Declined> {
        let target = self.ints(&format!("{part}_shape"), &[self.norm.channels as i64])?;
        Ok(self.op("Reshape", part, vec![x, target]))
    }

    fn network(&mut self) -> Result<(), Declined> {
        let x = Operand::Value(self.place.x);
        let mean = self.mean("batch_mean", x)?;
        let centred = self.op("Sub", "centred", vec![x, mean]);
        let square = self.op("Mul", "square", vec![centred, centred]);
        let variance = self.mean("batch_variance", square)?;
        self.flat("mean_of", mean)?;
        self.flat("variance_of", variance)?;
        let result = Out::Value(self.place.result);
        let anchor = self.place.nodes[0];
        self.patch.remove_all(self.place.nodes.iter().copied());
        if !self.norm.replaces_norm {
            // It starts as the identity, for any statistics.
            self.patch.node(Node::new("Identity"), anchor, vec![x], result);
            return Ok(());
        }
        let epsilon = weights::stored(self.dtype, vec![1], &[EPSILON])?;
        let epsilon = self.patch.constant(self.name("epsilon"), epsilon, None);
        let shifted = self.op("Add", "shifted", vec![variance, epsilon]);
        let root = self.op("Sqrt", "root", vec![shifted]);
        let normed = self.op("Div", "normed", vec![centred, root]);
        // γ and β keep the values of the constants, which come from the replaced norm.
        let scale = self.broadcast("scale", 0)?;
        let shift = self.broadcast("shift", 1)?;
        let scaled = self.op("Mul", "rescaled", vec![normed, scale]);
        self.patch.node(Node::new("Add"), anchor, vec![scaled, shift], result);
        Ok(())
    }

    /// A constant `[C]` of the BatchNorm, reshaped to align with the axis of the channels.
    fn broadcast(&mut self, part: &str, at: usize) -> Result<Operand, Declined> {
        let mut dims = vec![1_i64; self.rank];
        dims[self.norm.axis] = self.norm.channels as i64;
        let target = self.ints(&format!("{part}_dims"), &dims)?;
        let value = Operand::Value(self.place.constants[at]);
        Ok(self.op("Reshape", part, vec![value, target]))
    }
}

/// Writes mean and variance into the inserted BatchNorms. γ and β are chosen so that a BatchNorm that replaces
/// no normalization stays the identity.
///
/// # Errors
/// P0006 when a BatchNorm does not exist, P0007 when the statistics do not fit its dtype.
pub fn set_statistics(
    model: &mut Model,
    norms: &[InsertedNorm],
    statistics: &[Statistics],
) -> Result<(), PassError> {
    for (norm, own) in norms.iter().zip(statistics) {
        let missing = || PassError::NoSuchNorm { name: norm.result.clone() };
        let place = Place::of(model, norm).ok_or_else(missing)?;
        let is_operator = place.nodes.len() == 1;
        let roots: Vec<f64> = own.variance.iter().map(|v| (v + EPSILON).sqrt()).collect();
        let read = |slot: usize| -> Option<Vec<f64>> {
            let value = model.graph.find(norm.constants.get(slot)?)?;
            model.graph.constant_initializer(value)?.to_f64()
        };
        let (scale, shift) = (read(0).ok_or_else(missing)?, read(1).ok_or_else(missing)?);
        let new: Vec<Vec<f64>> = match (is_operator, norm.replaces_norm) {
            (true, true) => vec![scale, shift, own.mean.clone(), own.variance.clone()],
            (true, false) => vec![roots, own.mean.clone(), own.mean.clone(), own.variance.clone()],
            (false, true) => {
                let factor: Vec<f64> = scale.iter().zip(&roots).map(|(g, r)| g / r).collect();
                let summand =
                    shift.iter().zip(&own.mean).zip(&factor).map(|((b, m), a)| b - m * a).collect();
                vec![factor, summand]
            }
            (false, false) => continue,
        };
        for (name, values) in norm.constants.iter().zip(new) {
            let old = model.graph.find(name).ok_or_else(missing)?;
            let dtype = model.graph.constant_initializer(old).ok_or_else(missing)?.dtype();
            let tensor =
                weights::stored(dtype, vec![values.len()], &values).map_err(|declined| {
                    PassError::Statistics { name: norm.result.clone(), detail: declined.detail }
                })?;
            let value = model.graph.add_initializer(name, tensor);
            model.graph.redirect_uses(old, value)?;
            model.graph.take_over_initializer(value, old)?;
        }
    }
    Ok(())
}
