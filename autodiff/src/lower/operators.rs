//! Runs of standard operators → one operator of the domain [`OPERATORS`], where a rule has noted that it computes the same.
//!
//! The rule that writes a gradient in standard operators knows what it means; found again in the finished graph, the same would have to be
//! guessed from five or ten nodes that the driver has shared and summed. So the rule notes it beside what it writes
//! ([`Emit::or_by`]), and the note changes nothing in a step that stays portable.

use updp_ir::{DataType, Model, NewResult, Node, NodeId, ValueId, order};

use crate::emit::Emit;
use crate::error::Result;

/// The domain of operators that `updp-exec` computes on a processor.
pub const OPERATORS: &str = "updp";

/// One operator in place of what makes some values.
#[derive(Debug)]
pub(crate) struct Alternative {
    node: Node,
    /// Names of its operands.
    operands: Vec<String>,
    /// Names of the values it makes.
    results: Vec<String>,
}

impl Emit<'_> {
    /// Notes that `node` of [`OPERATORS`] makes `results` from `operands`, none of which depends on a result. Of other types than
    /// f32 there is nothing to note.
    pub fn or_by(&mut self, node: Node, operands: &[ValueId], results: &[ValueId]) -> Result<()> {
        for value in operands.iter().chain(results) {
            if self.dtype(*value)? != DataType::Float {
                return Ok(());
            }
        }
        let names = |values: &[ValueId]| values.iter().map(|value| self.name(*value)).collect();
        let (operands, results) = (names(operands), names(results));
        self.note(Alternative { node: node.in_domain(OPERATORS), operands, results });
        Ok(())
    }

    /// Lets what was noted of a value of this name read the value that has taken its place.
    pub fn renamed(&mut self, old: &str, new: ValueId) {
        let new = self.name(new);
        let noted = self.alternatives_mut().iter_mut().flat_map(|own| &mut own.operands);
        noted.filter(|operand| *operand == old).for_each(|operand| operand.clone_from(&new));
    }
}

/// Matrix products. Ours are faster than those of ONNX Runtime with AVX2; with AVX-512F its own are as fast as any.
const PRODUCTS: [&str; 2] = ["Product", "ProductBias"];

/// Puts the operators in place, for a processor with this block, and drops what nothing reads any more; gives how many.
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

/// `false` where a value is not there any more, or nothing reads any result.
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
    let Some(anchor) = producers.filter(|_| is_read).and_then(|all| all.last().copied()) else {
        return Ok(false);
    };
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
