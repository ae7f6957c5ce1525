//! The walk from the last operator of an attention branch back to the operators that make q, k and v.

use std::collections::{BTreeMap, BTreeSet};

use updp_ir::view::Slice;
use updp_ir::{NodeId, ValueId};

use super::{Edit, Place, from_front, integers, known_product, permutation};
use crate::error::Declined;
use crate::lift::{Form, Linear};
use crate::rule::Context;
use crate::surgery::thin::axis_of;

/// Most values between the last operator and those that make q, k and v.
const MAX_VALUES: usize = 128;

/// The walk against the direction of data flow.
pub(super) struct Walk<'a> {
    cx: &'a Context<'a>,
    /// Number of heads.
    count: usize,
    pub(super) pending: Vec<(ValueId, Place)>,
    pub(super) places: BTreeMap<ValueId, Place>,
    pub(super) edits: Vec<Edit>,
    pub(super) nodes: BTreeSet<NodeId>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(cx: &'a Context<'a>, count: usize) -> Self {
        let (pending, edits) = (Vec::new(), Vec::new());
        Self { cx, count, pending, places: BTreeMap::new(), edits, nodes: BTreeSet::new() }
    }

    pub(super) fn run(&mut self) -> Result<(), Declined> {
        while let Some((value, place)) = self.pending.pop() {
            if let Some(known) = self.places.get(&value) {
                if *known == place {
                    continue;
                }
                return Err(self.mixes(value));
            }
            let dim = self.cx.shapes.dims(value).and_then(|dims| dims.get(place.axis));
            let dim = dim.ok_or_else(|| self.mixes(value))?.known();
            if dim.is_some_and(|dim| dim % (self.count * place.after) != 0)
                || self.places.len() >= MAX_VALUES
            {
                return Err(self.mixes(value));
            }
            self.places.insert(value, place);
            self.visit(value, place).ok_or_else(|| self.mixes(value))?;
        }
        Ok(())
    }

    /// The refusal at the operator that makes a value.
    fn mixes(&self, value: ValueId) -> Declined {
        let by = self.cx.graph.producer(value).map(|(node, _)| self.cx.describe(node));
        let by = by.unwrap_or_else(|| self.cx.graph.value(value).name().to_owned());
        Declined::new("heads", format!("its attention heads are not followed behind {by}"))
    }

    /// Follows the operator that makes `value`; `None` if it cannot be followed.
    fn visit(&mut self, value: ValueId, place: Place) -> Option<()> {
        let cx = self.cx;
        let (id, _) = cx.graph.producer(value)?;
        if let Some(unit) = Linear::producing(cx, value) {
            let is_dense = unit.groups == 1 && axis_of(&unit) == place.axis;
            let is_plain = unit.form != Form::ConvTranspose;
            self.nodes.extend(unit.nodes.iter().copied());
            self.edits.push(Edit::Rows { unit: Box::new(unit), after: place.after });
            return (is_dense && is_plain).then_some(());
        }
        self.nodes.insert(id);
        let node = cx.graph.node(id);
        let x = cx.graph.operand(id, 0)?;
        let rank = cx.rank(value)?;
        match node.op_type() {
            "Identity" | "Cast" | "Dropout" | "Relu" | "Sigmoid" | "Tanh" | "Neg" | "Exp"
            | "Sqrt" | "Erf" | "Gelu" | "Abs" => self.go(x, place),
            "Transpose" => self.go(x, place.on(*permutation(cx, id)?.get(place.axis)?)),
            "Reshape" => self.reshape(id, x, value, place)?,
            "Squeeze" | "Unsqueeze" => {
                let axes =
                    integers(cx, id, 1).or_else(|| node.ints("axes").map(<[i64]>::to_vec))?;
                let is_longer = node.is("Unsqueeze");
                let full = if is_longer { rank } else { cx.rank(x)? };
                let axes = axes.iter().map(|axis| from_front(*axis, full));
                let axes: BTreeSet<usize> = axes.collect::<Option<_>>()?;
                let mut stay = (0..full).filter(|axis| !axes.contains(axis));
                let own = if is_longer {
                    stay.position(|axis| axis == place.axis)?
                } else {
                    stay.nth(place.axis)?
                };
                self.go(x, place.on(own));
            }
            "Gather" => {
                let axis = from_front(node.int("axis").unwrap_or(0), cx.rank(x)?)?;
                let index = cx.constant(cx.graph.operand(id, 1)?)?.dims().len();
                let own = match index {
                    0 => place.axis + usize::from(place.axis >= axis),
                    1 if place.axis != axis => place.axis,
                    _ => return None,
                };
                self.go(x, place.on(own));
            }
            "Split" => self.split(id, x, rank, place)?,
            "Slice" => self.slice(id, x, rank, place)?,
            "Softmax" | "LayerNormalization" | "RMSNormalization" => {
                // Before opset 13, a Softmax without an axis covers all dims but the first.
                let covers_all = node.is("Softmax") && cx.opset < 13;
                let axis = node.int("axis").unwrap_or(if covers_all { 1 } else { -1 });
                let axis = from_front(axis, rank)?;
                (place.axis < axis).then_some(())?;
                self.go(x, place);
            }
            "MatMul" => {
                let y = cx.graph.operand(id, 1)?;
                (place.axis + 2 < rank).then_some(())?;
                for operand in [x, y] {
                    let own = (place.axis + cx.rank(operand)?).checked_sub(rank)?;
                    self.go(operand, place.on(own));
                }
            }
            "Attention" | "MultiHeadAttention" => self.attention(id, place, rank)?,
            "Concat" => {
                let axis = from_front(node.int("axis")?, rank)?;
                (axis != place.axis).then_some(())?;
                for operand in cx.graph.operands(id) {
                    self.pending.push((operand?, place));
                }
            }
            "Mul" | "Add" | "Sub" | "Div" | "Pow" | "Min" | "Max" | "Where" | "Sum" => {
                self.by_element(id, value, rank, place)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn go(&mut self, value: ValueId, place: Place) {
        self.pending.push((value, place));
    }

    /// The heads of an operand lie at the same distance from the end in memory.
    fn reshape(&mut self, id: NodeId, x: ValueId, y: ValueId, place: Place) -> Option<()> {
        let (from, to) = (self.cx.shapes.dims(x)?, self.cx.shapes.dims(y)?);
        let stride = place.after * known_product(to.get(place.axis + 1..)?)?;
        let own = (0..from.len()).rev().find_map(|axis| {
            let behind = known_product(&from[axis + 1..])?;
            let whole = from[axis].known().map(|dim| dim * behind);
            let reaches = whole.is_none_or(|whole| whole > stride);
            (reaches && stride.is_multiple_of(behind))
                .then(|| Place { axis, after: stride / behind })
        })?;
        self.go(x, own);
        let constant = integers(self.cx, id, 1);
        if constant.is_none() {
            // Constants take the place of sizes that are computed, if at most one of them is open.
            let dims: Vec<i64> =
                to.iter().map(|dim| dim.known().map_or(-1, |dim| dim as i64)).collect();
            let open = dims.iter().filter(|dim| **dim < 0).count();
            if open <= 1 && dims[place.axis] > 0 && !dims.contains(&0) {
                self.edits.push(Edit::Dims { node: id, dims, entry: place.axis });
                return Some(());
            }
        }
        let sizes: Vec<Option<i64>> = match &constant {
            Some(sizes) => sizes.iter().map(|size| Some(*size)).collect(),
            None => self.parts(id, to.len())?,
        };
        let keeps_zeros = self.cx.graph.node(id).int("allowzero").unwrap_or(0) != 0;
        let is_copy = |at: usize| sizes.get(at) == Some(&Some(0)) && !keeps_zeros;
        // A copied size must be that of a dim with as many heads, and no other dim may copy one.
        let copies =
            (0..sizes.len()).all(|at| !is_copy(at) || (at == place.axis) == (at == own.axis));
        copies.then_some(())?;
        match (*sizes.get(place.axis)?)? {
            size if size > 0 => {
                let step = self.count * place.after;
                usize::try_from(size).ok().filter(|size| size.is_multiple_of(step))?;
                self.edits.push(match constant {
                    Some(_) => Edit::Sizes { node: id, slot: 1, entries: vec![place.axis] },
                    None => Edit::Part { node: id, slot: place.axis, size },
                });
            }
            0 if own.axis != place.axis || own.after != place.after => return None,
            _ => {}
        }
        Some(())
    }

    /// The sizes that a `Concat` puts together, one from each operand; `None` = computed.
    fn parts(&self, id: NodeId, rank: usize) -> Option<Vec<Option<i64>>> {
        let (concat, _) = self.cx.graph.producer(self.cx.graph.operand(id, 1)?)?;
        let operands = self.cx.graph.operands(concat);
        let is_single = |value: &Option<ValueId>| {
            let dims = value.and_then(|value| self.cx.shapes.known_dims(value));
            dims.as_deref() == Some(&[1])
        };
        let is_whole = self.cx.graph.node(concat).is("Concat") && operands.len() == rank;
        (is_whole && operands.iter().all(is_single)).then_some(())?;
        let size = |value: Option<ValueId>| self.cx.constant(value?)?.to_i64()?.first().copied();
        Some(operands.into_iter().map(size).collect())
    }

    fn split(&mut self, id: NodeId, x: ValueId, rank: usize, place: Place) -> Option<()> {
        let cx = self.cx;
        let axis = from_front(cx.graph.node(id).int("axis").unwrap_or(0), rank)?;
        let results: Vec<ValueId> = cx.graph.results(id).into_iter().flatten().collect();
        if axis == place.axis {
            let step = self.count * place.after;
            for result in &results {
                let dim = cx.shapes.dims(*result)?.get(axis)?.known()?;
                (dim % step == 0).then_some(())?;
            }
            if cx.graph.operand(id, 1).is_some() {
                let entries = (0..integers(cx, id, 1)?.len()).collect();
                self.edits.push(Edit::Sizes { node: id, slot: 1, entries });
            } else if cx.graph.node(id).has("split") {
                return None;
            }
        }
        for result in results {
            let known = *self.places.entry(result).or_insert(place);
            (known == place).then_some(())?;
        }
        self.go(x, place);
        Some(())
    }

    /// A slice of another axis, or of whole groups of heads.
    fn slice(&mut self, id: NodeId, x: ValueId, rank: usize, place: Place) -> Option<()> {
        let view = Slice::of(self.cx.graph, id, self.cx.opset, Some(rank))?;
        let axis = place.axis;
        let (start, end) = (view.start[axis], view.end[axis]);
        if (start, end, view.step[axis]) != (0, i64::MAX, 1) {
            let step = (self.count * place.after) as i64;
            let dim = self.cx.shapes.dims(x)?.get(axis)?.known()? as i64;
            let is_whole = view.step[axis] == 1 && start >= 0 && start % step == 0;
            (is_whole && end > 0 && (end % step == 0 || end >= dim)).then_some(())?;
            let axes = match self.cx.graph.operand(id, 3) {
                Some(_) => integers(self.cx, id, 3)?,
                None => (0..integers(self.cx, id, 1)?.len() as i64).collect(),
            };
            let at = axes.iter().position(|own| from_front(*own, rank) == Some(axis))?;
            self.edits.push(Edit::Sizes { node: id, slot: 1, entries: vec![at] });
            if end < dim {
                self.edits.push(Edit::Sizes { node: id, slot: 2, entries: vec![at] });
            }
        }
        self.go(x, place);
        Some(())
    }

    /// q, k and v of an `Attention` with as many heads each, `[B, H, N, d]` or `[B, N, H·d]`.
    fn attention(&mut self, id: NodeId, place: Place, rank: usize) -> Option<()> {
        const NAMES: &[&str] = &["q_num_heads", "kv_num_heads", "num_heads"];
        let (graph, count) = (self.cx.graph, self.count as i64);
        let node = graph.node(id);
        let counts = NAMES.iter().filter_map(|name| node.int(name));
        counts.into_iter().all(|own| own == count).then_some(())?;
        // A mask or a past may have heads too.
        let more = graph.operands(id).into_iter().skip(3).flatten().count();
        (graph.sole_result(id).is_some() && more == 0).then_some(())?;
        match rank {
            4 => (place.axis == 1).then_some(())?,
            3 => {
                (place.axis == 2 && NAMES.iter().any(|name| node.has(name))).then_some(())?;
                self.edits.push(Edit::Counts { node: id, names: NAMES });
            }
            _ => return None,
        }
        for slot in 0..3 {
            let operand = graph.operand(id, slot)?;
            let dims = self.cx.shapes.dims(operand)?;
            (dims.len() == rank).then_some(())?;
            // q and k may have other channels than v.
            let dim = dims[place.axis].known()?;
            let after = if rank == 4 { 1 } else { dim / self.count };
            self.go(operand, Place { after, ..place });
        }
        Some(())
    }

    /// An operator by element: its constants lose entries if they have heads.
    fn by_element(&mut self, id: NodeId, y: ValueId, rank: usize, place: Place) -> Option<()> {
        let cx = self.cx;
        let dim = cx.shapes.dims(y)?.get(place.axis)?.clone();
        for (slot, operand) in cx.graph.operands(id).into_iter().enumerate() {
            let Some(operand) = operand else { continue };
            let dims = cx.shapes.dims(operand)?;
            let Some(own) = (place.axis + dims.len()).checked_sub(rank) else { continue };
            if dims[own].known() == Some(1) {
                continue;
            }
            (dims[own] == dim).then_some(())?;
            let place = place.on(own);
            if cx.constant(operand).is_some() {
                self.edits.push(Edit::Constant { node: id, slot, place });
            } else {
                self.go(operand, place);
            }
        }
        Some(())
    }
}
