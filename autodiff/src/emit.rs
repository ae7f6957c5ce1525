//! Writes nodes into a graph, tracks the shapes of their results, and removes the nodes again when a rule fails.

use std::collections::BTreeMap;

use updp_ir::infer::Shapes;
use updp_ir::{DataType, Graph, Model, NewResult, Node, NodeId, Tensor, TensorType, ValueId};

use crate::alternative::{Alternative, OPERATORS};
use crate::error::{AutodiffError, Result};

/// The oldest opset that has the operators that gradients use: `Pad` and `Slice` take operands from this opset on.
pub const OLDEST_OPSET: i64 = 11;

/// A writer of nodes in the default domain, with fixed shapes.
#[derive(Debug)]
pub(crate) struct Emit<'a> {
    graph: &'a mut Graph,
    opset: i64,
    shapes: Shapes,
    anchor: NodeId,
    /// The prefix of the names of new nodes and values.
    scope: String,
    numbered: usize,
    /// The name of the result of the next node.
    next_name: Option<String>,
    constants: BTreeMap<(i32, Vec<usize>, Vec<u8>), ValueId>,
    made_nodes: Vec<NodeId>,
    made_constants: Vec<ValueId>,
    alternatives: Vec<Alternative>,
}

impl<'a> Emit<'a> {
    /// Creates a writer that writes behind the last node of the model.
    ///
    /// # Errors
    /// T0304 below [`OLDEST_OPSET`], T0307 for a model without nodes.
    pub fn new(model: &'a mut Model) -> Result<Self> {
        let opset = model.opset("").unwrap_or(0);
        if opset < OLDEST_OPSET {
            return Err(AutodiffError::Opset { found: opset, needed: OLDEST_OPSET });
        }
        let shapes = Shapes::infer(&model.graph, opset);
        let anchor = *model.graph.nodes().last().ok_or(AutodiffError::NoParameter)?;
        Ok(Self {
            graph: &mut model.graph,
            opset,
            shapes,
            anchor,
            scope: "gradient".to_owned(),
            numbered: 0,
            next_name: None,
            constants: BTreeMap::new(),
            made_nodes: Vec::new(),
            made_constants: Vec::new(),
            alternatives: Vec::new(),
        })
    }

    /// The graph, read-only.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// The graph, for edits of its inputs and outputs. Use [`Emit::node`] to add nodes.
    pub fn graph_mut(&mut self) -> &mut Graph {
        self.graph
    }

    /// The inferred shapes of the values.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// The opset of the default domain.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Inserts the next nodes at the place of this node.
    pub fn set_anchor(&mut self, node: NodeId) {
        self.anchor = node;
    }

    /// Makes the names of the next nodes start with `part`.
    pub fn set_scope(&mut self, part: &str) {
        part.clone_into(&mut self.scope);
    }

    /// Sets the name of the result of the next node, as a graph output.
    pub fn name_next(&mut self, name: &str) {
        self.next_name = Some(name.to_owned());
    }

    /// The name of a value.
    pub fn name(&self, value: ValueId) -> String {
        self.graph.value(value).name().to_owned()
    }

    /// The name of a node in messages: its own name, or else the name of its first result.
    pub fn describe(&self, id: NodeId) -> String {
        let name = self.graph.node(id).name();
        if !name.is_empty() {
            return name.to_owned();
        }
        let result = self.graph.results(id).into_iter().flatten().next();
        result.map_or_else(String::new, |value| self.name(value))
    }

    /// The dims of a value.
    ///
    /// # Errors
    /// T0303 when one of the dims is not a number.
    pub fn dims(&self, value: ValueId) -> Result<Vec<usize>> {
        if let Some(dims) = self.shapes.known_dims(value) {
            return Ok(dims);
        }
        // The table lacks values that no node reads yet.
        let known = self.graph.value(value);
        let of_tensor = known.tensor().map(|tensor| tensor.dims().to_vec());
        let declared = || known.declared().and_then(TensorType::known_dims);
        of_tensor.or_else(declared).ok_or_else(|| AutodiffError::OpenShape {
            value: known.name().to_owned(),
            shape: self.shapes.of(value).map_or_else(|| "unknown".into(), ToString::to_string),
        })
    }

    /// The element type of a value.
    ///
    /// # Errors
    /// T0305 when the type is unknown.
    pub fn dtype(&self, value: ValueId) -> Result<DataType> {
        let known = self.graph.value(value);
        self.shapes
            .dtype(value)
            .or_else(|| known.tensor().map(Tensor::dtype))
            .or_else(|| known.declared().map(|ty| ty.dtype))
            .ok_or_else(|| AutodiffError::dtype(known.name(), "a tensor of known type", None))
    }

    /// The tensor of a value that is the same in every run.
    pub fn constant_of(&self, value: ValueId) -> Option<Tensor> {
        self.shapes.constant(self.graph, value)
    }

    /// Adds a node with one result.
    ///
    /// # Errors
    /// Errors of the graph, and T0303 when the shape of the result cannot be inferred.
    pub fn node(&mut self, node: Node, operands: &[Option<ValueId>]) -> Result<ValueId> {
        self.numbered += 1;
        let numbered =
            || format!("{}.{}_{}", self.scope, node.op_type().to_lowercase(), self.numbered);
        let name = self.next_name.take().unwrap_or_else(numbered);
        let result = [NewResult::Fresh(name.clone())];
        let (id, made) = self.graph.add_node(node.named(&name), self.anchor, operands, &result)?;
        self.made_nodes.push(id);
        self.shapes.update(self.graph, self.opset, id);
        let value = made.into_iter().flatten().next().ok_or(updp_ir::IrError::StaleId)?;
        self.dims(value)?;
        Ok(value)
    }

    /// Adds a node without attributes.
    pub fn call(&mut self, op: &str, operands: &[ValueId]) -> Result<ValueId> {
        let operands: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
        self.node(Node::new(op), &operands)
    }

    /// Adds a constant. Equal constants share one initializer.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let key = (tensor.dtype().code(), tensor.dims().to_vec(), tensor.bytes().to_vec());
        if let Some(value) = self.constants.get(&key) {
            return *value;
        }
        let value = self.graph.add_initializer("gradient.constant", tensor);
        self.made_constants.push(value);
        self.constants.insert(key, value);
        value
    }

    /// Adds a constant of float type `dtype`.
    pub fn floats(&mut self, dtype: DataType, dims: &[usize], values: &[f64]) -> Result<ValueId> {
        Ok(self.constant(Tensor::from_f64(dtype, dims.to_vec(), values)?))
    }

    /// Adds a constant list of integers.
    pub fn ints(&mut self, values: &[i64]) -> Result<ValueId> {
        Ok(self.constant(Tensor::from_i64(vec![values.len()], values)?))
    }

    /// Adds a number with the type of `like`.
    pub fn scalar(&mut self, like: ValueId, value: f64) -> Result<ValueId> {
        let dtype = self.dtype(like)?;
        self.floats(dtype, &[], &[value])
    }

    /// Adds zeros with the shape and type of `like`.
    pub fn zeros(&mut self, like: ValueId) -> Result<ValueId> {
        let zero = self.scalar(like, 0.0)?;
        let dims = self.dims(like)?;
        self.expand(zero, &dims)
    }

    /// Makes every reader of `old`, the only result of `node`, read `new`, and removes the node.
    pub fn replace(&mut self, node: NodeId, old: ValueId, new: ValueId) -> Result<()> {
        let graph = &mut *self.graph;
        if graph.outputs().any(|output| output == old) {
            // The graph output keeps its name.
            graph.detach(old)?;
            let kept = [NewResult::Existing(old)];
            graph.add_node(Node::new("Identity"), node, &[Some(new)], &kept)?;
        } else {
            graph.redirect_uses(old, new)?;
        }
        graph.remove_node(node)?;
        Ok(())
    }

    /// Records that `node` from [`OPERATORS`] computes `results` from `operands`. No operand may depend on a result.
    /// Records nothing when a value has a type other than f32.
    pub fn record_fused_alternative(
        &mut self,
        node: Node,
        operands: &[ValueId],
        results: &[ValueId],
    ) -> Result<()> {
        for value in operands.iter().chain(results) {
            if self.dtype(*value)? != DataType::Float {
                return Ok(());
            }
        }
        let names = |values: &[ValueId]| values.iter().map(|value| self.name(*value)).collect();
        let (operands, results) = (names(operands), names(results));
        self.alternatives.push(Alternative { node: node.in_domain(OPERATORS), operands, results });
        Ok(())
    }

    /// Makes the recorded alternatives that read the value named `old` read `new`, which has replaced it.
    pub fn rename_in_alternatives(&mut self, old: &str, new: ValueId) {
        let new = self.name(new);
        let operands = self.alternatives.iter_mut().flat_map(|own| &mut own.operands);
        operands.filter(|operand| *operand == old).for_each(|operand| operand.clone_from(&new));
    }

    /// Hands over the recorded alternatives.
    pub fn take_alternatives(&mut self) -> Vec<Alternative> {
        std::mem::take(&mut self.alternatives)
    }

    /// Removes every node written since [`Emit::new`].
    pub fn roll_back(&mut self) {
        for node in self.made_nodes.drain(..).rev() {
            // Readers of a result were added later, so they have already been removed.
            let removed = self.graph.remove_node(node);
            debug_assert!(removed.is_ok(), "{removed:?}");
        }
        for value in self.made_constants.drain(..) {
            let removed = self.graph.remove_initializer(value);
            debug_assert!(removed.is_ok(), "{removed:?}");
        }
    }
}
