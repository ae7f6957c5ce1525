//! Merges added branches that read the same value into one weighted operator.
//!
//! Before: `y = ±f₁(x) ± f₂(x) ± … ± r`, where each `fᵢ` is a run of affine operators or `x` itself
//! After:  `y = (±W₁ ± W₂ ± …)·x + (±b₁ ± b₂ ± …) ± r`
//!
//! W [O, I/g, k…]. Kernels are aligned at the tap that the paddings give; an identity is the tap `P`.
//! The sum may be a tree of Add, Sub and Sum in any shape; `r` is the part that does not come from `x`. A Mean of n
//! such summands is their sum divided by n.
//! Covers RepVGG, MobileOne, ACNet, DBB, RepMixer, and a convolution with its skip connection.
//!
//! 1. `read-twice`: nothing else reads a branch.
//! 2. the conditions L10, L11 of the algebra, by the names of `kernel::Obstacle`.
//! 3. `dtype`: all branches store their weights in one dtype.
//! 4. `slower`: the merged operator is not slower than the branches, and clearly faster if it multiplies more
//!    (cost model).
//! 5. `border-too-large`: a border map stays within the budget of the options.
//! 6. `overflow`: no weight leaves the range of its dtype.
//! 7. `mean-rest`: nothing but the merged branches goes into a Mean.
//! 8. `old-opset`: a Sum that keeps the rest of the summands broadcasts as needed (opset 8 on).
//!
//! What is left of a Sum with many summands stays one Sum, so the number of nodes never grows.
//!
//! Source: [RepVGG], [DBB] transforms I–VI, [ACNet]; papers.md L10–L14. Measure: one weighted or
//! adding operator fewer.

use updp_ir::view::{Binary, BinaryOp};
use updp_ir::{ConvAxis, Node, NodeId, ValueId};

use super::{budget, quantization};
use crate::cost::{MapShape, Work, elements, elementwise_ns};
use crate::error::{Declined, Stop};
use crate::kernel::{AffineMap, Obstacle};
use crate::lift::{Domain, Linear, Path, input_size};
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// Largest number of additions in one sum.
const MAX_ADDERS: usize = 32;

/// See the module documentation.
#[derive(Debug)]
pub struct MergeParallel;

/// A signed summand.
#[derive(Clone, Copy, Debug)]
struct Term {
    value: ValueId,
    is_negative: bool,
}

/// A sum and the groups of its summands that may become one operator.
#[derive(Debug)]
pub struct Match {
    result: ValueId,
    /// The nodes that add, in the direction of data flow.
    adders: Vec<NodeId>,
    terms: Vec<Term>,
    /// The factor of the sum: one divided by the number of operands if the root is a Mean.
    factor: f64,
    /// The groups, in order of preference.
    groups: Vec<Group>,
}

/// Summands that read one value.
#[derive(Clone, Debug)]
struct Group {
    /// Indices into the terms, each with its path from the common source.
    branches: Vec<(usize, Path)>,
    domain: Domain,
    channels: usize,
}

impl Rule for MergeParallel {
    type Match = Match;
    const NAME: &'static str = "merge-parallel";
    const SUMMARY: &'static str =
        "merges added branches on one input (RepVGG, MobileOne, ACNet, DBB, RepMixer, conv + skip)";
    const ROOTS: &'static [&'static str] = &["Add", "Sub", "Sum", "Mean"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let result = cx.graph.sole_result(root)?;
        if is_inner(cx, result) {
            return None;
        }
        let mut adders = Vec::new();
        let mut terms = Vec::new();
        let factor = mean_factor(cx, root);
        if factor.is_some() {
            collect(cx, root, false, &mut adders, &mut terms)?;
        } else {
            flatten(cx, root, false, &mut adders, &mut terms)?;
        }
        let factor = factor.unwrap_or(1.0);
        adders.reverse();
        let paths: Vec<Vec<Path>> =
            terms.iter().map(|term: &Term| Path::ending_in(cx, term.value)).collect();
        let groups = groups(&paths);
        (!groups.is_empty()).then_some(Match { result, adders, terms, factor, groups })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        // Every condition belongs to one group. The first group that meets all conditions is merged.
        let mut first_refusal = None;
        for group in &matched.groups {
            match matched.plan(cx, group) {
                Ok(patch) => return Ok(patch),
                Err(declined) => _ = first_refusal.get_or_insert(declined),
            }
        }
        Err(first_refusal.unwrap_or_else(|| Declined::new("no-branch", "nothing is added")).into())
    }
}

impl Group {
    fn units(&self) -> impl Iterator<Item = &Linear> {
        self.branches.iter().flat_map(|(_, path)| path.units())
    }

    fn source(&self) -> ValueId {
        self.branches[0].1.source
    }

    fn check(&self, cx: &Context<'_>) -> Result<(), Declined> {
        let mut dtypes = self.units().map(Linear::dtype);
        if let Some(first) = dtypes.next()
            && let Some(other) = dtypes.find(|dtype| *dtype != first)
        {
            return Err(Declined::new("dtype", format!("branches store {first} and {other}")));
        }
        let (before, after) = self.works(cx);
        if cx.options.merge_all || before.allows(&after) {
            return Ok(());
        }
        let detail = format!("{} branches {}", self.branches.len(), before.comparison(&after));
        Err(Declined::new("slower", detail))
    }

    fn merged(&self, cx: &Context<'_>, terms: &[Term]) -> Result<AffineMap, Declined> {
        let input = cx.spatial(self.source());
        let refuse = |obstacle: Obstacle| Declined::new(obstacle.reason(), obstacle.to_string());
        let mut sum: Option<AffineMap> = None;
        for (at, path) in &self.branches {
            let map = path
                .map(self.domain, self.channels, input.as_deref())
                .ok_or_else(|| Declined::new("channel-axis", "a constant lies on another axis"))?
                .map_err(refuse)?;
            let map = if terms[*at].is_negative { map.negated() } else { map };
            sum = Some(match sum {
                None => map,
                Some(sum) => sum.plus(&map, input.as_deref()).map_err(refuse)?,
            });
        }
        sum.ok_or_else(|| Declined::new("no-branch", "nothing is added"))
    }

    /// The work of the branches with their additions, and of the merged operator.
    fn works(&self, cx: &Context<'_>) -> (Work, Work) {
        let input = input_size(cx, self.source(), self.domain);
        let rank = if let Domain::Spatial(rank) = self.domain { rank } else { 0 };
        let mut before = Work::default();
        let mut merged: Option<MapShape> = None;
        for (_, path) in &self.branches {
            let own = path.work(self.domain, self.channels, input.as_deref());
            before.ns += own.ns;
            before.macs += own.macs;
            let Some(shape) = path.shape(self.domain, self.channels) else { continue };
            merged = Some(match merged {
                None => shape,
                Some(sum) => cover(&sum, &shape),
            });
        }
        let Some(merged) = merged else { return (Work::default(), Work::default()) };
        let output = match (&input, rank) {
            (Some(input), 1..) => Some(merged.output_size(input)),
            _ => input.clone(),
        };
        let added = elementwise_ns(elements(merged.out_channels, output.as_deref(), rank), 2);
        before.ns += added * (self.branches.len() - 1) as f64;
        (before, merged.work(input.as_deref()))
    }
}

impl Match {
    fn plan(&self, cx: &Context<'_>, group: &Group) -> Result<Patch, Declined> {
        group.check(cx)?;
        let map = group.merged(cx, &self.terms)?;
        let template = group
            .units()
            .max_by_key(|unit| unit.geometry.taps())
            .ok_or_else(|| Declined::new("no-weights", "no branch has weights"))?;
        budget::check(cx, &map, template.dtype().bits().unwrap_or(32) / 8)?;
        let is_merged = |at: usize| group.branches.iter().any(|(branch, _)| *branch == at);
        let rest: Vec<Term> =
            (0..self.terms.len()).filter(|at| !is_merged(*at)).map(|at| self.terms[at]).collect();
        self.check_sum(cx, &rest)?;
        if self.factor != 1.0 && !rest.is_empty() {
            return Err(Declined::new("mean-rest", "other values go into the mean too"));
        }
        let map = map
            .scale_rows(&vec![self.factor; map.out_channels()])
            .map_err(|obstacle| Declined::new(obstacle.reason(), obstacle.to_string()))?;
        let is_negative = self.is_subtracted(&rest);
        let map = if is_negative { map.negated() } else { map };
        let mut patch = Patch::new();
        quantization::compare(&mut patch, group.units(), &map);
        let out = if rest.is_empty() {
            Out::Value(self.result)
        } else {
            Out::Fresh(format!("{}_merged", cx.graph.value(self.result).name()))
        };
        let source = Operand::Value(group.source());
        let operand = template.emit_map(cx, &mut patch, source, &map, out)?;
        self.add_rest(cx, &mut patch, Merged { operand, is_negative }, &rest);
        patch.remove_all(self.adders.iter().copied());
        patch.remove_all(group.branches.iter().flat_map(|(_, path)| path.nodes()));
        Ok(patch)
    }

    /// Plans `merged ± rest…` with the result as its last value. It takes at most as many nodes as added before.
    fn add_rest(&self, cx: &Context<'_>, patch: &mut Patch, merged: Merged, rest: &[Term]) {
        if rest.len() <= self.adders.len() {
            self.add_one_by_one(cx, patch, merged.operand, rest);
        } else {
            self.add_at_once(cx, patch, merged, rest);
        }
    }

    /// A left-deep sum: one adder per summand.
    fn add_one_by_one(&self, cx: &Context<'_>, patch: &mut Patch, merged: Operand, rest: &[Term]) {
        let mut sum = merged;
        let anchors = &self.adders[self.adders.len().saturating_sub(rest.len())..];
        for (at, (term, anchor)) in rest.iter().zip(anchors).enumerate() {
            let op = if term.is_negative { "Sub" } else { "Add" };
            let node = adder(cx, *anchor, op);
            let out = self.out(cx, at + 1 == rest.len());
            sum = patch.node(node, *anchor, vec![sum, Operand::Value(term.value)], out);
        }
    }

    /// One Sum of what is added, and where several values are subtracted, one Sum of these.
    fn add_at_once(&self, cx: &Context<'_>, patch: &mut Patch, merged: Merged, rest: &[Term]) {
        let values = |is_negative: bool| {
            let terms = rest.iter().filter(move |term| term.is_negative == is_negative);
            terms.map(|term| Operand::Value(term.value))
        };
        let (mut added, mut subtracted) = (Vec::new(), Vec::new());
        if merged.is_negative { &mut subtracted } else { &mut added }.push(merged.operand);
        added.extend(values(false));
        subtracted.extend(values(true));
        let is_difference = !subtracted.is_empty();
        // The last adder makes the result, so it is the anchor of whatever is last.
        let last = self.adders[self.adders.len() - 1];
        let first = self.adders[0];
        let mut total = |operands: Vec<Operand>, is_last: bool| {
            if let [only] = operands[..] {
                return only;
            }
            let op = if operands.len() == 2 { "Add" } else { "Sum" };
            let anchor = if is_last { last } else { first };
            patch.node(adder(cx, anchor, op), anchor, operands, self.out(cx, is_last))
        };
        let added = total(added, !is_difference);
        if is_difference {
            let subtracted = total(subtracted, false);
            let node = adder(cx, last, "Sub");
            patch.node(node, last, vec![added, subtracted], self.out(cx, true));
        }
    }

    fn out(&self, cx: &Context<'_>, is_last: bool) -> Out {
        if is_last {
            return Out::Value(self.result);
        }
        Out::Fresh(format!("{}_partial", cx.graph.value(self.result).name()))
    }

    /// Whether the merged operator is subtracted, so that it joins the other values that are subtracted. That
    /// keeps `p − Sum(a, b, …)` at two nodes when a and b merge.
    fn is_subtracted(&self, rest: &[Term]) -> bool {
        let added = rest.iter().filter(|term| !term.is_negative).count();
        rest.len() > self.adders.len() && added == 1 && rest.len() - added > 1
    }

    /// Whether a Sum may take these values: below opset 8 it does not broadcast.
    fn check_sum(&self, cx: &Context<'_>, rest: &[Term]) -> Result<(), Declined> {
        let shape = |value: ValueId| cx.shapes.of(value).and_then(updp_ir::TensorType::known_dims);
        let whole = shape(self.result);
        let is_one_shape = || whole.is_some() && rest.iter().all(|term| shape(term.value) == whole);
        if rest.len() <= self.adders.len() || cx.opset >= 8 || is_one_shape() {
            return Ok(());
        }
        let detail = "the Sum that would stay does not broadcast below opset 8";
        Err(Declined::new("old-opset", detail))
    }
}

/// The result of the merged operator in a sum.
#[derive(Clone, Copy)]
struct Merged {
    operand: Operand,
    is_negative: bool,
}

/// A node of this operator in place of an adder.
fn adder(cx: &Context<'_>, old: NodeId, op: &str) -> Node {
    let old = cx.graph.node(old);
    if old.is(op) { old.bare_copy() } else { Node::new(op).named(old.name()).with_metadata_of(old) }
}

/// Sizes of the kernel that covers two parallel ones.
fn cover(a: &MapShape, b: &MapShape) -> MapShape {
    let groups = {
        let (mut x, mut y) = (a.groups, b.groups);
        while y != 0 {
            (x, y) = (y, x % y);
        }
        x
    };
    let padding = |m: &MapShape| m.geometry.axes().map(ConvAxis::padding).sum::<usize>();
    let mut sum = if padding(a) >= padding(b) { a } else { b }.clone();
    sum.groups = groups;
    sum.has_border = a.has_border || b.has_border;
    for (axis, (a, b)) in a.geometry.axes().zip(b.geometry.axes()).enumerate() {
        let widest = a.extent().max(b.extent());
        let step = if a.kernel == 1 {
            b.dilation
        } else if b.kernel == 1 || a.dilation == b.dilation {
            a.dilation
        } else {
            1
        };
        let padded = if a.padding() >= b.padding() { a } else { b };
        let geometry = &mut sum.geometry;
        geometry.dilation[axis] = step;
        geometry.kernel[axis] = widest / step + 1;
        (geometry.pad_begin[axis], geometry.pad_end[axis]) = (padded.begin, padded.end);
    }
    sum
}

/// Whether `value` only serves another sum, which is then the root of the match.
fn is_inner(cx: &Context<'_>, value: ValueId) -> bool {
    cx.graph.sole_use(value).is_some_and(|user| is_adder(cx, user.node))
}

/// Whether a node adds or subtracts values, none of them a constant.
fn is_adder(cx: &Context<'_>, node: NodeId) -> bool {
    let known = cx.graph.node(node);
    let is_sum = cx.opset >= 7 && (known.is("Add") || known.is("Sub") || known.is("Sum"));
    is_sum
        && cx
            .graph
            .operands(node)
            .iter()
            .all(|operand| operand.is_some_and(|value| cx.constant(value).is_none()))
}

/// One divided by the number of operands of a Mean of values, none of them a constant; `None` for other nodes.
fn mean_factor(cx: &Context<'_>, node: NodeId) -> Option<f64> {
    let operands = cx.graph.operands(node);
    let is_mean = cx.opset >= 8
        && cx.graph.node(node).is("Mean")
        && operands.iter().all(|own| own.is_some_and(|value| cx.constant(value).is_none()));
    is_mean.then(|| 1.0 / operands.len() as f64)
}

/// Collects the summands of the sum tree rooted at `node`.
fn flatten(
    cx: &Context<'_>,
    node: NodeId,
    is_negative: bool,
    adders: &mut Vec<NodeId>,
    terms: &mut Vec<Term>,
) -> Option<()> {
    if is_adder(cx, node) { collect(cx, node, is_negative, adders, terms) } else { None }
}

/// Collects the summands of one node.
fn collect(
    cx: &Context<'_>,
    node: NodeId,
    is_negative: bool,
    adders: &mut Vec<NodeId>,
    terms: &mut Vec<Term>,
) -> Option<()> {
    adders.push(node);
    let is_difference =
        Binary::of(cx.graph, node, cx.opset).is_some_and(|binary| binary.op == BinaryOp::Sub);
    for (slot, value) in cx.graph.operands(node).into_iter().flatten().enumerate() {
        let is_negative = is_negative ^ (is_difference && slot == 1);
        let inner = cx
            .sole_use_producer(value)
            .filter(|inner| adders.len() < MAX_ADDERS && is_adder(cx, *inner));
        match inner {
            // The bias of a MatMul is not counted as a sum here: its constant makes it no adder.
            Some(inner) => flatten(cx, inner, is_negative, adders, terms)?,
            None => terms.push(Term { value, is_negative }),
        }
    }
    Some(())
}

/// Groups of summands with a common source: for each source all summands that share it, then pairs of them.
fn groups(paths: &[Vec<Path>]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut seen: Vec<ValueId> = Vec::new();
    for candidate in paths.iter().flatten() {
        if seen.contains(&candidate.source) {
            continue;
        }
        seen.push(candidate.source);
        let branches: Vec<(usize, Path)> = paths
            .iter()
            .enumerate()
            .filter_map(|(at, own)| {
                own.iter().find(|p| p.source == candidate.source).map(|p| (at, p.clone()))
            })
            .collect();
        let mut sets = vec![branches.clone()];
        if branches.len() > 2 {
            for (at, first) in branches.iter().enumerate() {
                for second in &branches[at + 1..] {
                    sets.push(vec![first.clone(), second.clone()]);
                }
            }
        }
        groups.extend(sets.into_iter().filter_map(group));
    }
    groups
}

/// The group of these branches, unless none of them has weights or they do not fit each other.
fn group(branches: Vec<(usize, Path)>) -> Option<Group> {
    if branches.len() < 2 {
        return None;
    }
    let domain = branches.iter().find_map(|(_, path)| path.domain())?;
    let channels = branches.iter().find_map(|(_, path)| path.in_channels())?;
    let is_uniform = branches.iter().all(|(_, path)| {
        path.steps.is_empty()
            || path.domain().is_none_or(|own| own == domain)
                && path.in_channels().is_none_or(|own| own == channels)
    });
    is_uniform.then_some(Group { branches, domain, channels })
}
