//! A step in operators that MIGraphX documents: of opset 19 or older, shapes, axes and bounds known before it runs.
//!
//! What it has in another form is rewritten (`forms.rs`), operands that it wants constant and that are computed from constants
//! alone become initializers, a newer opset is lowered where every operator means the same in [`table::NEWEST`]. What is left is held
//! against the table (`table.rs`), so nothing that the table does not have goes through.

mod forms;
mod table;

use updp_ir::{Model, view};

use crate::emit::Emit;
use crate::error::{AutodiffError, Result};
use table::{NAME, NEWEST};

/// Rewrites, lowers the opset and checks; gives how many nodes were replaced, the opset counting as one.
pub(super) fn lower(model: &mut Model) -> Result<usize> {
    let mut replaced = forms::rewrite(model)? + fold(model)?;
    let opset = model.opset("").unwrap_or(0);
    if opset > NEWEST {
        table::same_in_newest(model, opset)?;
        model.set_opset("", NEWEST);
        replaced += 1;
    }
    check(model)?;
    Ok(replaced)
}

/// Every node against what is documented.
///
/// # Errors
/// T0311 with the first that is not.
pub(super) fn check(model: &Model) -> Result<()> {
    let opset = model.opset("").unwrap_or(0);
    if opset > NEWEST {
        let node = model.graph.nodes().first().map(|node| model.graph.node(*node));
        let detail =
            format!("the model has opset {opset}, and opset {NEWEST} is the newest documented");
        return Err(AutodiffError::refused(NAME, node, detail));
    }
    table::check(model, opset)
}

/// Operands that have to be constants and follow from constants become initializers; gives at how many nodes.
fn fold(model: &mut Model) -> Result<usize> {
    let nodes = model.graph.nodes();
    let mut emit = Emit::new(model)?;
    let mut folded = 0;
    for node in nodes {
        let op = emit.graph().node(node).op_type().to_owned();
        let mut is_folded = false;
        for slot in table::constant_slots(&op) {
            let Some(value) = emit.graph().operand(node, *slot) else { continue };
            if view::constant(emit.graph(), value).is_some() {
                continue;
            }
            if let Some(tensor) = emit.constant_of(value) {
                let constant = emit.constant(tensor);
                emit.graph_mut().set_operand(node, *slot, Some(constant))?;
                is_folded = true;
            }
        }
        folded += usize::from(is_folded);
    }
    Ok(folded)
}
