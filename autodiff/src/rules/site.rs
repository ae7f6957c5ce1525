//! The input of a rule from the driver, and the result of a rule.

use updp_ir::{Node, NodeId, ValueId};

use crate::emit::Emit;
use crate::error::{AutodiffError, Result};

/// The result of a rule for one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cotangent {
    /// The operand is not differentiable (axes, a shape, a condition), or its cotangent is not wanted.
    NotDifferentiable,
    /// The cotangent, with the operand's type. It has the dims before or after broadcasting.
    Value(ValueId),
}

/// One node with the cotangents of its results.
#[derive(Debug)]
pub(crate) struct Site {
    /// The node.
    pub node: NodeId,
    /// Its operands by slot.
    pub operands: Vec<Option<ValueId>>,
    /// Its results by slot.
    pub results: Vec<Option<ValueId>>,
    /// Cotangents of the results. `None` when the seeds do not depend on a result.
    pub cotangents: Vec<Option<ValueId>>,
    /// Which operands lie on a path from a wanted value.
    pub wants: Vec<bool>,
}

impl Site {
    /// Whether the driver uses the cotangent of this operand.
    pub fn wants(&self, slot: usize) -> bool {
        self.wants.get(slot).copied().unwrap_or(false)
    }

    /// An operand that the operator requires.
    pub fn operand(&self, emit: &Emit<'_>, slot: usize) -> Result<ValueId> {
        let missing = || self.refuse(emit, &format!("operand {slot} is missing"));
        self.operands.get(slot).copied().flatten().ok_or_else(missing)
    }

    /// An operand that is optional.
    pub fn optional(&self, slot: usize) -> Option<ValueId> {
        self.operands.get(slot).copied().flatten()
    }

    /// The first result.
    pub fn y(&self, emit: &Emit<'_>) -> Result<ValueId> {
        let missing = || self.refuse(emit, "its first result is missing");
        self.results.first().copied().flatten().ok_or_else(missing)
    }

    /// The cotangent of the first result, or zeros if only another result has one.
    pub fn dy(&self, emit: &mut Emit<'_>) -> Result<ValueId> {
        self.cotangent(emit, 0)
    }

    /// The cotangent of a result, or zeros if the seeds do not depend on it.
    pub fn cotangent(&self, emit: &mut Emit<'_>, slot: usize) -> Result<ValueId> {
        if let Some(cotangent) = self.cotangents.get(slot).copied().flatten() {
            return Ok(cotangent);
        }
        let missing = || self.refuse(emit, &format!("result {slot} is missing"));
        let result = self.results.get(slot).copied().flatten().ok_or_else(missing)?;
        emit.zeros(result)
    }

    /// The node itself.
    pub fn read<'a>(&self, emit: &'a Emit<'_>) -> &'a Node {
        emit.graph().node(self.node)
    }

    /// The integers of an operand that must be constant.
    pub fn integers(&self, emit: &Emit<'_>, slot: usize) -> Result<Option<Vec<i64>>> {
        let Some(value) = self.optional(slot) else { return Ok(None) };
        let constant = emit.constant_of(value).and_then(|tensor| tensor.to_i64());
        let refuse = || self.refuse(emit, &format!("operand {slot} is not constant"));
        constant.map(Some).ok_or_else(refuse)
    }

    /// T0302 for this node.
    pub fn refuse(&self, emit: &Emit<'_>, detail: &str) -> AutodiffError {
        AutodiffError::Form {
            node: emit.describe(self.node),
            op: self.read(emit).op_type().to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// `axis` counted from the front.
pub(crate) fn axis_of(axis: i64, rank: usize) -> usize {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).unwrap_or(0).min(rank.saturating_sub(1))
}

/// The cotangent of the first operand alone.
pub(super) fn first(value: ValueId) -> Vec<Cotangent> {
    vec![Cotangent::Value(value)]
}
