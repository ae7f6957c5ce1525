//! A planned edit: a rule describes it and the driver applies it.

use updp_ir::{Graph, IrError, NewResult, Node, NodeId, Origin, Tensor, ValueId};

/// An operand of a planned node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A value of the graph.
    Value(ValueId),
    /// A new constant of this patch.
    Constant(usize),
    /// The result of an earlier planned node of this patch.
    Planned(usize),
    /// An omitted optional operand.
    Absent,
}

impl From<ValueId> for Operand {
    fn from(value: ValueId) -> Self {
        Self::Value(value)
    }
}

impl From<Option<ValueId>> for Operand {
    fn from(value: Option<ValueId>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }
}

/// Where the result of a planned node goes.
#[derive(Clone, Debug)]
pub enum Out {
    /// Takes over this value from its producer, which the patch removes. The name and the readers stay.
    Value(ValueId),
    /// A new value; the name is made from this hint.
    Fresh(String),
}

#[derive(Debug)]
struct PlannedConstant {
    hint: String,
    tensor: Tensor,
    replaces: Option<ValueId>,
}

#[derive(Debug)]
struct PlannedNode {
    node: Node,
    anchor: NodeId,
    operands: Vec<Operand>,
    out: Out,
}

/// A planned edit. Nothing changes before the driver applies it.
#[derive(Debug, Default)]
pub struct Patch {
    constants: Vec<PlannedConstant>,
    nodes: Vec<PlannedNode>,
    operand_changes: Vec<(NodeId, usize, Operand)>,
    redirects: Vec<(ValueId, Operand)>,
    removed: Vec<NodeId>,
    inlined: Vec<(NodeId, usize)>,
    dead: Vec<ValueId>,
    warnings: Vec<String>,
}

/// The nodes that an applied patch touched.
#[derive(Debug, Default)]
pub struct Applied {
    /// Nodes that the patch made, in order.
    pub made: Vec<NodeId>,
    /// Nodes around the edit that may match now.
    pub neighbours: Vec<NodeId>,
}

impl Patch {
    /// An empty plan.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a new constant. If nothing reads `replaces` after the edit, the constant takes its name and
    /// place. A folded weight thus keeps the name of its original weight.
    pub fn constant(
        &mut self,
        hint: impl Into<String>,
        tensor: Tensor,
        replaces: Option<ValueId>,
    ) -> Operand {
        self.constants.push(PlannedConstant { hint: hint.into(), tensor, replaces });
        Operand::Constant(self.constants.len() - 1)
    }

    /// Plans a node with one result, at the place of `anchor`.
    pub fn node(
        &mut self,
        node: Node,
        anchor: NodeId,
        operands: Vec<Operand>,
        out: Out,
    ) -> Operand {
        self.nodes.push(PlannedNode { node, anchor, operands, out });
        Operand::Planned(self.nodes.len() - 1)
    }

    /// Plans that `node` reads `operand` in `slot`.
    pub fn set_operand(&mut self, node: NodeId, slot: usize, operand: impl Into<Operand>) {
        self.operand_changes.push((node, slot, operand.into()));
    }

    /// Plans that every reader of `from` reads `to`; `from` must not be captured and must not be a graph
    /// output.
    pub fn redirect(&mut self, from: ValueId, to: impl Into<Operand>) {
        self.redirects.push((from, to.into()));
    }

    /// Plans the removal of a node; the order does not matter. Constants that only this node read are removed with it.
    pub fn remove(&mut self, node: NodeId) {
        self.removed.push(node);
    }

    /// Plans the removal of nodes.
    pub fn remove_all(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.removed.extend(nodes);
    }

    /// Plans that the nodes of body number `body` of `node` stand in place of the node (see
    /// [`Graph::can_inline_body`]).
    pub fn inline_body(&mut self, node: NodeId, body: usize) {
        self.inlined.push((node, body));
    }

    /// Plans the removal of an initializer that nothing reads.
    pub fn remove_initializer(&mut self, value: ValueId) {
        self.dead.push(value);
    }

    /// Adds a note for the user about this edit.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Adds `key = value` to the metadata of every planned node.
    pub(crate) fn add_provenance(&mut self, key: &str, value: &str) {
        for planned in &mut self.nodes {
            let node = std::mem::replace(&mut planned.node, Node::new(""));
            planned.node = node.with_provenance(key, value);
        }
    }

    /// Applies the edit.
    ///
    /// # Errors
    /// An error of the graph primitives: a bug of the rule.
    pub(crate) fn apply(self, graph: &mut Graph) -> Result<Applied, IrError> {
        let mut applied = Applied::default();
        let mut loose: Vec<ValueId> = self.dead;
        for (node, body) in self.inlined {
            loose.extend(graph.operands(node).into_iter().flatten().chain(graph.captures(node)));
            applied.made.extend(graph.inline_body(node, body)?);
        }
        for node in &self.removed {
            loose.extend(graph.operands(*node).into_iter().flatten());
        }
        for planned in &self.nodes {
            if let Out::Value(value) = planned.out {
                graph.detach(value)?;
            }
        }
        for node in &self.removed {
            graph.release_name(*node)?;
        }
        let mut constants = Vec::with_capacity(self.constants.len());
        let mut replacements = Vec::new();
        for planned in self.constants {
            let value = graph.add_initializer(&planned.hint, planned.tensor);
            replacements.extend(planned.replaces.map(|old| (value, old)));
            constants.push(value);
        }
        let mut results: Vec<ValueId> = Vec::with_capacity(self.nodes.len());
        let resolve = |operand: Operand, results: &[ValueId]| match operand {
            Operand::Value(value) => Some(value),
            Operand::Constant(index) => constants.get(index).copied(),
            Operand::Planned(index) => results.get(index).copied(),
            Operand::Absent => None,
        };
        for planned in self.nodes {
            let operands: Vec<Option<ValueId>> =
                planned.operands.iter().map(|operand| resolve(*operand, &results)).collect();
            let out = match planned.out {
                Out::Value(value) => NewResult::Existing(value),
                Out::Fresh(hint) => NewResult::Fresh(hint),
            };
            let (node, made) = graph.add_node(planned.node, planned.anchor, &operands, &[out])?;
            results.push(made.into_iter().flatten().next().ok_or(IrError::StaleId)?);
            applied.made.push(node);
        }
        for (node, slot, operand) in self.operand_changes {
            loose.extend(graph.operand(node, slot));
            graph.set_operand(node, slot, resolve(operand, &results))?;
            applied.neighbours.push(node);
        }
        for (from, to) in self.redirects {
            let to = resolve(to, &results).ok_or(IrError::StaleId)?;
            graph.redirect_uses(from, to)?;
            applied.neighbours.extend(graph.users(to).into_iter().take(16).map(|user| user.node));
        }
        remove_nodes(graph, self.removed)?;
        for (new, old) in replacements {
            if graph.get_value(old).is_some_and(|value| value.origin() == CONSTANT)
                && !graph.is_read(old)
            {
                graph.take_over_initializer(new, old)?;
            }
        }
        remove_loose(graph, &loose, &mut applied.neighbours)?;
        around(graph, &mut applied);
        Ok(applied)
    }
}

const CONSTANT: Origin = Origin::Initializer { overridable: false };

/// Removes nodes, in any order of their reads.
fn remove_nodes(graph: &mut Graph, mut nodes: Vec<NodeId>) -> Result<(), IrError> {
    while !nodes.is_empty() {
        let before = nodes.len();
        let mut refusal = None;
        nodes.retain(|node| match graph.remove_node(*node) {
            Ok(()) => false,
            Err(error) => {
                refusal = Some(error);
                true
            }
        });
        if nodes.len() == before {
            return Err(refusal.unwrap_or(IrError::StaleId));
        }
    }
    Ok(())
}

/// Removes everything that is no longer read: initializers, and nodes that only served removed nodes.
fn remove_loose(
    graph: &mut Graph,
    values: &[ValueId],
    neighbours: &mut Vec<NodeId>,
) -> Result<(), IrError> {
    let mut pending: Vec<ValueId> = values.to_vec();
    while let Some(value) = pending.pop() {
        let Some(known) = graph.get_value(value) else { continue };
        if graph.is_read(value) {
            if let Some((producer, _)) = graph.producer(value) {
                neighbours.push(producer);
            }
            neighbours.extend(graph.users(value).into_iter().take(16).map(|user| user.node));
            continue;
        }
        if known.origin() == CONSTANT {
            graph.remove_initializer(value)?;
        } else if let Some((producer, _)) = graph.producer(value) {
            let is_dead = graph.results(producer).into_iter().flatten().all(|r| !graph.is_read(r));
            if is_dead && is_free_of_effects(graph, producer) {
                let operands = graph.operands(producer);
                graph.remove_node(producer)?;
                pending.extend(operands.into_iter().flatten());
            }
        }
    }
    Ok(())
}

/// Whether a node may be removed once nothing reads its results. Nodes with bodies and nodes of other
/// domains stay: they may do more than their results show.
pub(crate) fn is_free_of_effects(graph: &Graph, node: NodeId) -> bool {
    let node = graph.node(node);
    node.domain().is_empty() && !node.has_bodies()
}

/// Collects the nodes next to the new ones.
fn around(graph: &Graph, applied: &mut Applied) {
    for node in applied.made.clone() {
        for value in graph.operands(node).into_iter().flatten() {
            if let Some((producer, _)) = graph.producer(value) {
                applied.neighbours.push(producer);
            }
        }
        for value in graph.results(node).into_iter().flatten() {
            applied.neighbours.extend(graph.users(value).into_iter().map(|user| user.node));
        }
    }
    applied.neighbours.retain(|node| graph.get_node(*node).is_some());
    applied.neighbours.sort_unstable();
    applied.neighbours.dedup();
}
