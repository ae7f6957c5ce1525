//! Restricts a step to operators that MIGraphX documents: of opset 19 or older, with shapes, axes and bounds known
//! before it runs.
//!
//! Operators that MIGraphX has in another form are rewritten (`forms.rs`). Operands that must be constant and are
//! computed from constants alone become initializers. A newer opset is lowered if every operator means the same in
//! [`table::NEWEST`]. Then every node is checked against the table (`table.rs`), so nothing passes that is not in the
//! table.

mod forms;
mod table;

use updp_ir::{Model, view};

use crate::emit::Emit;
use crate::error::{AutodiffError, Result};
use table::{NAME, NEWEST};

/// Rewrites the model, lowers the opset and checks the result. Returns the number of replaced nodes; the opset counts
/// as one.
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

/// Checks every node against the documentation.
///
/// # Errors
/// T0311 with the first node that is not documented.
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

/// Turns operands that must be constants and follow from constants into initializers. Returns the number of changed
/// nodes.
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
