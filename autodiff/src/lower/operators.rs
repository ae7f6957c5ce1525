//! Replaces runs of standard operators with one operator of the domain [`OPERATORS`], where a rule has recorded a fused
//! alternative.

use updp_ir::{Model, NewResult, NodeId, ValueId, order};

use crate::alternative::{Alternative, OPERATORS};
use crate::error::Result;

/// Matrix products. The fused operators are faster than ONNX Runtime's with AVX2, but not with AVX-512F.
const PRODUCTS: [&str; 2] = ["Product", "ProductBias"];

/// Inserts the fused operators for a CPU with this block, and removes nodes that nothing reads any more. Returns the
/// number of fused operators.
pub(super) fn place(
    model: &mut Model,
    alternatives: &[Alternative],
    block: usize,
) -> Result<usize> {
    let mut placed = 0;
    for alternative in alternatives {
        if block == 16 && PRODUCTS.contains(&alternative.node.op_type()) {
            continue;
        }
        placed += usize::from(place_one(model, alternative)?);
    }
    if placed > 0 {
        model.import_opset(OPERATORS, 1);
        sweep(model)?;
    }
    Ok(placed)
}

/// Inserts one operator. Returns `false` if a value is gone, or if nothing reads a result.
fn place_one(model: &mut Model, alternative: &Alternative) -> Result<bool> {
    let graph = &mut model.graph;
    let find = |names: &[String]| -> Option<Vec<ValueId>> {
        names.iter().map(|name| graph.find(name)).collect()
    };
    let (Some(operands), Some(results)) = (find(&alternative.operands), find(&alternative.results))
    else {
        return Ok(false);
    };
    let producers: Option<Vec<NodeId>> =
        results.iter().map(|value| Some(graph.producer(*value)?.0)).collect();
    let is_read = results.iter().any(|v| graph.is_read(*v) || graph.value(*v).is_output());
    let producers = producers.filter(|_| is_read).unwrap_or_default();
    let Some(anchor) = producers.last().copied() else {
        return Ok(false);
    };
    for producer in &producers {
        graph.release_name(*producer)?;
    }
    debug_assert!(operands.iter().all(|operand| !results.contains(operand)));
    for value in &results {
        graph.detach(*value)?;
    }
    let operands: Vec<Option<ValueId>> = operands.into_iter().map(Some).collect();
    let made: Vec<NewResult> = results.iter().map(|value| NewResult::Existing(*value)).collect();
    let name = alternative.results.first().map_or("", String::as_str);
    graph.add_node(alternative.node.bare_copy().named(name), anchor, &operands, &made)?;
    Ok(true)
}

/// Removes every node that nothing reads.
fn sweep(model: &mut Model) -> Result<()> {
    let graph = &mut model.graph;
    for node in order::topological(graph)?.into_iter().rev() {
        let is_needed = graph
            .results(node)
            .into_iter()
            .flatten()
            .any(|value| graph.is_read(value) || graph.value(value).is_output());
        if !is_needed {
            graph.remove_node(node)?;
        }
    }
    Ok(())
}
