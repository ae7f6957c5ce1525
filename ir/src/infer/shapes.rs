//! The side table of inferred types and small values of a graph.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::eval::evaluate;
use super::rules::{self, MAX_ENTRIES, MAX_RANK, Operand, Outcome, Site};
use crate::dtype::DataType;
use crate::graph::Graph;
use crate::id::{NodeId, ValueId};
use crate::order;
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};
use crate::value::{Origin, Value};

/// The operator whose results get their types from its bodies.
pub(super) const BRANCHING: &str = "If";

/// Largest result that inference evaluates and keeps.
const KEEP_BYTES: usize = 4096;
/// Largest total size of the operands that are read for it.
const READ_BYTES: usize = 1 << 16;

/// Types, small integer values and constants of one graph, kept beside the graph.
///
/// A type with the dtype `DataType::Other(0)` is a shape of unknown element type.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    types: BTreeMap<ValueId, TensorType>,
    entries: BTreeMap<ValueId, Vec<Entry>>,
    constants: BTreeMap<ValueId, Tensor>,
}

impl Shapes {
    /// Infers everything in the main graph; `opset` is the opset of `ai.onnx`.
    ///
    /// A cyclic graph gives only the types of its inputs and initializers.
    #[must_use]
    pub fn infer(graph: &Graph, opset: i64) -> Self {
        let mut shapes = Self::default();
        shapes.run(graph, opset);
        shapes
    }

    /// Infers a body of a node of `outer_graph`, which has the table `outer`. Captured values have
    /// the same types and values as outside.
    #[must_use]
    pub fn infer_body(graph: &Graph, opset: i64, outer: &Self, outer_graph: &Graph) -> Self {
        let mut shapes = Self::default();
        for id in graph.values() {
            let value = graph.value(id);
            if value.origin() != Origin::Captured {
                continue;
            }
            let Some(source) = outer_graph.find(value.name()) else { continue };
            if let Some(ty) = outer.types.get(&source) {
                shapes.types.insert(id, ty.clone());
            }
            if let Some(entries) = outer.entries.get(&source) {
                shapes.entries.insert(id, entries.clone());
            }
            if let Some(tensor) = outer.constants.get(&source) {
                shapes.constants.insert(id, tensor.clone());
            }
        }
        shapes.run(graph, opset);
        shapes
    }

    fn run(&mut self, graph: &Graph, opset: i64) {
        for id in graph.values() {
            self.seed(graph, id);
        }
        for node in order::topological(graph).unwrap_or_default() {
            self.node(graph, opset, node);
        }
    }

    /// Type of a value; `None` if neither inference nor the file tells it.
    #[must_use]
    pub fn of(&self, value: ValueId) -> Option<&TensorType> {
        self.types.get(&value)
    }

    /// Element type of a value.
    #[must_use]
    pub fn dtype(&self, value: ValueId) -> Option<DataType> {
        Some(self.of(value)?.dtype).filter(|dtype| *dtype != DataType::Other(0))
    }

    /// Dims of a value, outermost first.
    #[must_use]
    pub fn dims(&self, value: ValueId) -> Option<&[Dim]> {
        self.of(value)?.shape.as_deref()
    }

    /// Number of dims of a value.
    #[must_use]
    pub fn rank(&self, value: ValueId) -> Option<usize> {
        self.of(value)?.rank()
    }

    /// Dims of a value as numbers, if all are known.
    #[must_use]
    pub fn known_dims(&self, value: ValueId) -> Option<Vec<usize>> {
        self.of(value)?.known_dims()
    }

    /// Entries of a small int64, int32 or bool tensor of rank 0 (one entry) or 1, as far as they
    /// follow from shapes and constants; bools are 0 and 1.
    #[must_use]
    pub fn value(&self, value: ValueId) -> Option<&[Entry]> {
        self.entries.get(&value).map(Vec::as_slice)
    }

    /// The elements of a value that is the same on every run: a constant initializer, the result of
    /// a `Constant` node, an `Identity` of one of these, or a result of at most 4 KiB that follows from
    /// constants and shapes.
    #[must_use]
    pub fn constant(&self, graph: &Graph, value: ValueId) -> Option<Tensor> {
        let mut value = value;
        loop {
            graph.get_value(value)?;
            let known = self.constants.get(&value).or_else(|| graph.constant_initializer(value));
            if let Some(tensor) = known {
                return Some(tensor.clone());
            }
            let (id, _) = graph.producer(value)?;
            let node = graph.node(id);
            if node.is("Constant") {
                return evaluate(node, i64::MAX, &[], KEEP_BYTES)?.pop();
            }
            if !node.is("Identity") {
                return None;
            }
            value = graph.operand(id, 0)?;
        }
    }

    /// Infers the results of one node again, after an edit added or rewired it. Nodes that
    /// read the results are not visited.
    pub fn update(&mut self, graph: &Graph, opset: i64, node: NodeId) {
        if graph.get_node(node).is_none() {
            return;
        }
        for value in graph.operands(node).into_iter().flatten() {
            if !self.types.contains_key(&value) {
                self.seed(graph, value);
            }
        }
        for value in graph.results(node).into_iter().flatten() {
            self.entries.remove(&value);
            self.constants.remove(&value);
        }
        self.node(graph, opset, node);
    }

    /// The type that a value has by itself: an initializer from its tensor, an input from its declaration.
    fn seed(&mut self, graph: &Graph, id: ValueId) {
        let value = graph.value(id);
        if value.origin() == Origin::Result {
            return;
        }
        if let Some(tensor) = graph.constant_initializer(id) {
            self.types.insert(id, short(TensorType::fixed(tensor.dtype(), tensor.dims())));
            self.remember(id, tensor);
        } else if value.origin() == Origin::Captured && self.types.contains_key(&id) {
            // The outer graph tells it.
        } else if let Some(ty) = value.declared().cloned().or_else(|| default_type(value)) {
            self.types.insert(id, short(ty));
        }
    }

    fn node(&mut self, graph: &Graph, opset: i64, id: NodeId) {
        let node = graph.node(id);
        let operands = graph.operands(id);
        let results = graph.results(id);
        let evaluated = self.evaluated(graph, opset, id, &operands);
        if let Some(tensors) = &evaluated {
            for (value, tensor) in results.iter().zip(tensors) {
                let Some(value) = *value else { continue };
                self.types.insert(value, short(TensorType::fixed(tensor.dtype(), tensor.dims())));
                self.remember(value, tensor);
                if tensor.bytes().len() <= KEEP_BYTES {
                    self.constants.insert(value, tensor.clone());
                }
            }
            if tensors.len() >= results.len() {
                return;
            }
        }
        let (outcomes, entries) = {
            let site = Site {
                node,
                opset,
                operands: operands.iter().map(|slot| self.operand(graph, *slot)).collect(),
                results: results.len(),
            };
            let outcomes = if node.is(BRANCHING) {
                self.branches(graph, opset, id)
            } else {
                rules::infer(&site)
            };
            (outcomes, rules::value(&site))
        };
        let mut outcomes = outcomes.into_iter();
        for value in &results {
            let outcome = outcomes.next().unwrap_or_default();
            let Some(value) = *value else { continue };
            match merge(outcome, graph.value(value).declared()) {
                Some(ty) => self.types.insert(value, ty),
                None => self.types.remove(&value),
            };
        }
        if let (Some(entries), Some(Some(value))) = (entries, results.first()) {
            self.learn(*value, entries);
        }
    }

    fn operand<'a>(&'a self, graph: &'a Graph, value: Option<ValueId>) -> Operand<'a> {
        let Some(value) = value else { return Operand::default() };
        Operand {
            is_present: true,
            ty: self.types.get(&value),
            value: self.entries.get(&value).map(Vec::as_slice),
            tensor: self.constants.get(&value).or_else(|| graph.constant_initializer(value)),
        }
    }

    /// Small results of a node whose operands are all constants.
    fn evaluated(
        &self,
        graph: &Graph,
        opset: i64,
        id: NodeId,
        operands: &[Option<ValueId>],
    ) -> Option<Vec<Tensor>> {
        let node = graph.node(id);
        if node.has_bodies() {
            return None;
        }
        if node.is("Constant") {
            return evaluate(node, opset, &[], KEEP_BYTES);
        }
        let mut tensors = Vec::with_capacity(operands.len());
        let mut total = 0_usize;
        for slot in operands {
            let operand = self.operand(graph, *slot);
            if operand.is_present {
                let tensor = operand.tensor?;
                total = total.saturating_add(tensor.bytes().len());
                tensors.push(Some(tensor));
            } else {
                tensors.push(None);
            }
        }
        if total > READ_BYTES {
            return None;
        }
        evaluate(node, opset, &tensors, KEEP_BYTES)
    }

    /// Entries of a constant, if it is a small integer tensor.
    fn remember(&mut self, id: ValueId, tensor: &Tensor) {
        let is_small = tensor.dims().len() <= 1 && tensor.len() <= MAX_ENTRIES;
        let is_index = matches!(tensor.dtype(), DataType::Int64 | DataType::Int32 | DataType::Bool);
        if is_small
            && is_index
            && let Some(values) = tensor.to_i64()
        {
            let is_bool = tensor.dtype() == DataType::Bool;
            let entry = |v: i64| Entry::Known(if is_bool { i64::from(v != 0) } else { v });
            self.entries.insert(id, values.into_iter().map(entry).collect());
        }
    }

    /// Keeps entries that agree with the type of the value; if all of them are numbers, they make a constant.
    fn learn(&mut self, id: ValueId, entries: Vec<Entry>) {
        let Some(ty) = self.types.get_mut(&id) else { return };
        if !matches!(ty.dtype, DataType::Int64 | DataType::Int32 | DataType::Bool) {
            return;
        }
        match ty.shape.as_deref() {
            Some([]) if entries.len() == 1 => {}
            Some([Dim::Known(len)]) if *len == entries.len() => {}
            Some([Dim::Unknown | Dim::Symbol(_)]) => {
                ty.shape = Some(vec![Dim::Known(entries.len())]);
            }
            _ => return,
        }
        let numbers: Option<Vec<i64>> = entries.iter().map(Entry::known).collect();
        if ty.dtype == DataType::Int64
            && let (Some(numbers), Some(dims)) = (numbers, ty.known_dims())
            && let Ok(tensor) = Tensor::from_i64(dims, &numbers)
        {
            self.constants.insert(id, tensor);
        }
        self.entries.insert(id, entries);
    }

    /// Results of an `If`: the facts that both branches share.
    fn branches(&self, graph: &Graph, opset: i64, id: NodeId) -> Vec<Outcome> {
        let mut joined: Option<Vec<Outcome>> = None;
        for body in graph.node(id).bodies() {
            let shapes = Self::infer_body(body, opset, self, graph);
            let own: Vec<Outcome> = body.outputs().map(|value| shapes.outcome(value)).collect();
            joined = Some(match joined {
                None => own,
                Some(other) => other.into_iter().zip(own).map(|(a, b)| join(a, b)).collect(),
            });
        }
        joined.unwrap_or_default()
    }

    fn outcome(&self, value: ValueId) -> Outcome {
        Outcome { dtype: self.dtype(value), shape: self.dims(value).map(<[Dim]>::to_vec) }
    }
}

/// Type of an overridable or sparse initializer.
fn default_type(value: &Value) -> Option<TensorType> {
    if let Some(tensor) = value.tensor() {
        return Some(TensorType::fixed(tensor.dtype(), tensor.dims()));
    }
    let sparse = value.sparse.as_ref()?;
    let dims: Option<Vec<usize>> = sparse.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let dtype = DataType::from_code(sparse.values.as_ref()?.data_type());
    Some(TensorType::fixed(dtype, &dims?))
}

/// The facts that hold for both of two branches.
fn join(a: Outcome, b: Outcome) -> Outcome {
    let shape = match (a.shape, b.shape) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            let dim = |(a, b): (Dim, Dim)| if a == b { a } else { Dim::Unknown };
            Some(a.into_iter().zip(b).map(dim).collect())
        }
        _ => None,
    };
    Outcome { dtype: a.dtype.filter(|dtype| b.dtype == Some(*dtype)), shape }
}

/// The inferred type, with gaps filled from the declared type unless the two contradict each other.
fn merge(inferred: Outcome, declared: Option<&TensorType>) -> Option<TensorType> {
    let dtype = inferred.dtype.or(declared.map(|ty| ty.dtype)).unwrap_or(DataType::Other(0));
    let stated = declared.and_then(|ty| ty.shape.as_ref());
    let shape = match (inferred.shape, stated) {
        (None, stated) => stated.cloned(),
        (Some(dims), Some(stated)) if agree(&dims, stated) => {
            let fill = |(own, other): (Dim, &Dim)| match own {
                Dim::Unknown => other.clone(),
                own => own,
            };
            Some(dims.into_iter().zip(stated).map(fill).collect())
        }
        (Some(dims), _) => Some(dims),
    };
    Some(short(TensorType { dtype, shape })).filter(|ty| *ty != UNKNOWN)
}

const UNKNOWN: TensorType = TensorType { dtype: DataType::Other(0), shape: None };

/// The type without an absurdly long shape; a chain of nodes would multiply its length.
fn short(mut ty: TensorType) -> TensorType {
    ty.shape = ty.shape.filter(|dims| dims.len() <= MAX_RANK);
    ty
}

fn agree(dims: &[Dim], stated: &[Dim]) -> bool {
    dims.len() == stated.len()
        && dims.iter().zip(stated).all(|(own, other)| {
            matches!((own, other), (Dim::Unknown, _) | (_, Dim::Unknown | Dim::Symbol(_)))
                || own == other
        })
}
