//! The size of a model.

use indexmap::IndexMap;
use updp_ir::infer::Shapes;
use updp_ir::{Graph, Model};

/// Size of a model: nodes, parameters and multiply-adds.
#[derive(Clone, Debug, Default)]
pub struct ModelSummary {
    /// Nodes of the main graph.
    pub nodes: usize,
    /// Number of nodes per operator type.
    pub ops: IndexMap<String, usize>,
    /// Elements of all float initializers.
    pub parameters: usize,
    /// Multiply-adds of Conv, Gemm and MatMul at batch 1; symbolic dims count as 1.
    pub macs: u64,
    /// Bytes of the model and its data files.
    pub bytes: u64,
}

impl ModelSummary {
    /// Counts the parts of a model with this size in bytes.
    #[must_use]
    pub fn of(model: &Model, bytes: u64) -> Self {
        let graph = &model.graph;
        let shapes = Shapes::infer(graph, model.opset("").unwrap_or(0));
        let mut summary = Self { nodes: graph.node_count(), bytes, ..Self::default() };
        for id in graph.nodes() {
            *summary.ops.entry(graph.node(id).op_type().to_owned()).or_default() += 1;
            summary.macs += macs(graph, &shapes, id).unwrap_or(0);
        }
        summary.ops.sort_keys();
        for id in graph.initializers() {
            if let Some(tensor) = graph.value(id).tensor()
                && tensor.dtype().is_foldable_float()
            {
                summary.parameters += tensor.len();
            }
        }
        summary
    }
}

/// Multiply-adds of one weighted node.
fn macs(graph: &Graph, shapes: &Shapes, id: updp_ir::NodeId) -> Option<u64> {
    let node = graph.node(id);
    // A symbolic dim counts as 1.
    let dims = |value: updp_ir::ValueId| -> Option<Vec<u64>> {
        let shape = shapes.of(value)?.shape.as_ref()?;
        Some(shape.iter().map(|dim| dim.known().unwrap_or(1) as u64).collect())
    };
    let size = |slot: usize| dims(graph.operand(id, slot)?);
    let positions: u64 = dims(graph.result(id, 0)?)?.iter().product();
    let inner: u64 = match node.op_type() {
        "Conv" => size(1)?.get(1..)?.iter().product(),
        "ConvTranspose" => {
            let weight = size(1)?;
            let input: u64 = size(0)?.iter().product();
            return Some(input * weight.get(1..)?.iter().product::<u64>());
        }
        "Gemm" => *size(0)?.get(usize::from(node.int("transA").unwrap_or(0) == 0))?,
        "MatMul" => *size(0)?.last()?,
        _ => return None,
    };
    Some(positions * inner)
}
