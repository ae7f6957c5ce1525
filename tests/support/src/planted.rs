//! Faults that a wrong rewrite could make, planted in a model to see whether verification finds them.

use updp_ir::proto::{GraphProto, NodeProto};
use updp_ir::{Model, Tensor, no_external_data};

use crate::numbers::Random;

/// Relative error of [`Fault::Weight`].
pub const WEIGHT_ERROR: f64 = 1e-3;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One weight is off by [`WEIGHT_ERROR`].
    Weight,
    /// One corner tap of a kernel is missing; at a border it reads another pixel than the tap beside it.
    Tap,
    /// Two channels of a layer are swapped.
    Channels,
    /// The bias of a layer is missing.
    Bias,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Weight, Self::Tap, Self::Channels, Self::Bias];
}

/// A model with a fault.
#[derive(Debug)]
pub struct Planted {
    /// The model.
    pub model: Model,
    /// The layer and what was changed.
    pub place: String,
}

/// Plants a fault in one layer, drawn by `seed`; `None` when no layer has what the fault needs.
///
/// # Panics
/// When the model cannot be written and read again.
#[must_use]
pub fn plant(model: &Model, fault: Fault, seed: u64) -> Option<Planted> {
    let mut proto = model.to_proto().expect("the model is well formed");
    let graph = proto.graph.as_mut()?;
    let layers: Vec<NodeProto> =
        graph.node.iter().filter(|node| suits(graph, node, fault)).cloned().collect();
    let mut random = Random::new(seed);
    let node = layers.get(below(&mut random, layers.len()))?;
    let slot = if fault == Fault::Bias { 2 } else { weight_slot(graph, node)? };
    let name = node.input[slot].clone();
    let tensor = constant(graph, &name)?;
    let mut values = tensor.to_f64()?;
    let what = damage(&mut values, tensor.dims(), node, fault, &mut random)?;
    let changed = Tensor::from_f64(tensor.dtype(), tensor.dims().to_vec(), &values).ok()?;
    let mut changed = changed.proto().clone();
    changed.name = Some(name);
    let at = graph.initializer.iter().position(|it| it.name == changed.name)?;
    graph.initializer[at] = changed;
    let label = if node.name().is_empty() { &node.output[0] } else { node.name() };
    let place = format!("{} {label}: {what}", node.op_type());
    let model = Model::from_proto(proto, &mut no_external_data).expect("as well formed as before");
    Some(Planted { model, place })
}

fn constant(graph: &GraphProto, name: &str) -> Option<Tensor> {
    let proto = graph.initializer.iter().find(|it| it.name() == name)?;
    Tensor::from_proto(proto.clone(), None).ok().filter(|it| it.dtype().is_foldable_float())
}

fn is_layer(node: &NodeProto) -> bool {
    matches!(node.op_type(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "FusedConv")
}

fn weight_slot(graph: &GraphProto, node: &NodeProto) -> Option<usize> {
    (0..2).find(|slot| node.input.get(*slot).is_some_and(|name| constant(graph, name).is_some()))
}

fn suits(graph: &GraphProto, node: &NodeProto, fault: Fault) -> bool {
    if !is_layer(node) {
        return false;
    }
    let weight = weight_slot(graph, node).and_then(|slot| constant(graph, &node.input[slot]));
    let Some(weight) = weight.filter(|it| it.dims().len() >= 2) else { return false };
    match fault {
        Fault::Weight => true,
        Fault::Tap => weight.dims().len() == 4 && weight.dims()[2] > 1 && weight.dims()[3] > 1,
        Fault::Channels => weight.dims()[channel_axis(weight.dims(), node)] > 1,
        Fault::Bias => node.input.get(2).is_some_and(|name| {
            let bias = constant(graph, name).and_then(|bias| bias.to_f64());
            bias.is_some_and(|values| values.iter().any(|value| *value != 0.0))
        }),
    }
}

/// Axis of a weight along which the channels lie that the layer makes.
fn channel_axis(dims: &[usize], node: &NodeProto) -> usize {
    let is_transposed = node.attribute.iter().any(|it| it.name() == "transB" && it.i() == 1);
    match node.op_type() {
        "Conv" | "FusedConv" => 0,
        "Gemm" if is_transposed => 0,
        "ConvTranspose" => 1,
        _ => dims.len() - 1,
    }
}

/// Changes the values; says what it did.
fn damage(
    values: &mut [f64],
    dims: &[usize],
    node: &NodeProto,
    fault: Fault,
    random: &mut Random,
) -> Option<String> {
    match fault {
        Fault::Weight => {
            let live: Vec<usize> = (0..values.len()).filter(|at| values[*at] != 0.0).collect();
            let at = *live.get(below(random, live.len()))?;
            let rms = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
            let share = values[at].abs() / rms;
            values[at] *= 1.0 + WEIGHT_ERROR;
            Some(format!("weight {at}, {share:.2} of the typical one"))
        }
        Fault::Tap => {
            let size = dims[2] * dims[3];
            let kernel = below(random, values.len() / size);
            let corners = [0, dims[3] - 1, size - dims[3], size - 1];
            let at = kernel * size + corners[below(random, 4)];
            values[at] = if values[at] == 0.0 { 0.1 } else { 0.0 };
            Some(format!("tap {at}"))
        }
        Fault::Channels => {
            let axis = channel_axis(dims, node);
            let inner: usize = dims[axis + 1..].iter().product();
            let first = below(random, dims[axis] - 1);
            for at in 0..values.len() {
                if at / inner % dims[axis] == first {
                    values.swap(at, at + inner);
                }
            }
            Some(format!("channels {first} and {}", first + 1))
        }
        Fault::Bias => {
            values.fill(0.0);
            Some("bias".to_owned())
        }
    }
}

fn below(random: &mut Random, limit: usize) -> usize {
    (random.bits() % limit.max(1) as u64) as usize
}
