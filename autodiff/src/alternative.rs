//! The record that one fused operator computes the same values as a run of standard operators.
//!
//! The rule that writes a gradient in standard operators knows the meaning of the nodes. In the finished graph, a
//! search would have to infer the meaning from five or ten nodes that the driver has shared and summed. So the rule
//! records the fused operator beside the nodes
//! ([`Emit::record_fused_alternative`](crate::emit::Emit::record_fused_alternative)). The record changes nothing in a
//! step that stays portable.

use updp_ir::Node;

/// The domain of operators that `updp-exec` computes on a processor.
pub const OPERATORS: &str = "updp";

/// One fused operator that can replace the nodes that compute some values.
#[derive(Debug)]
pub(crate) struct Alternative {
    /// The operator, from the domain [`OPERATORS`].
    pub node: Node,
    /// Names of its operands.
    pub operands: Vec<String>,
    /// Names of the values that it computes.
    pub results: Vec<String>,
}
