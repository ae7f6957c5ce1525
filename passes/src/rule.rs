//! The contract of a rewrite rule: find a pattern, then plan a patch.

use updp_ir::infer::Shapes;
use updp_ir::{Dim, Graph, NodeId, Tensor, ValueId, view};

use crate::error::{Declined, Stop};
use crate::options::Options;
use crate::patch::Patch;

/// The data that a rule may look at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The graph or body being rewritten.
    pub graph: &'a Graph,
    /// Inferred types of its values.
    pub shapes: &'a Shapes,
    /// Version of the default opset.
    pub opset: i64,
    /// The options of the user.
    pub options: &'a Options,
}

impl Context<'_> {
    /// The tensor of a constant value; cheap.
    #[must_use]
    pub fn constant(&self, value: ValueId) -> Option<Tensor> {
        view::constant(self.graph, value)
    }

    /// Number of dims of a value, if known.
    #[must_use]
    pub fn rank(&self, value: ValueId) -> Option<usize> {
        self.shapes.of(value)?.rank()
    }

    /// Spatial dims of an `[N, C, …]` value as numbers, if all are known.
    #[must_use]
    pub fn spatial(&self, value: ValueId) -> Option<Vec<usize>> {
        self.shapes.of(value)?.shape.as_ref()?.get(2..)?.iter().map(Dim::known).collect()
    }

    /// The node that makes `value`, if this value has exactly one reading and no other use.
    #[must_use]
    pub fn sole_use_producer(&self, value: ValueId) -> Option<NodeId> {
        self.graph.sole_use(value)?;
        self.graph.producer(value).map(|(node, _)| node)
    }

    /// The name of a node in messages: its own name, or its operator and first result.
    #[must_use]
    pub fn describe(&self, node: NodeId) -> String {
        describe(self.graph, node)
    }
}

/// The name of a node in messages: its own name, or its operator and first result.
#[must_use]
pub fn describe(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    if !node.name().is_empty() {
        return node.name().to_owned();
    }
    let result = graph.results(id).into_iter().flatten().next();
    let result = result.map_or("", |value| graph.value(value).name());
    format!("{} -> {result}", node.op_type())
}

/// A local rewrite that keeps the function of the graph.
pub trait Rule {
    /// The match that `find` hands to `plan`.
    type Match;
    /// Kebab-case name, verb first.
    const NAME: &'static str;
    /// One sentence for `--list-passes`.
    const SUMMARY: &'static str;
    /// Operator types that a match can be rooted at; empty = every node.
    const ROOTS: &'static [&'static str];

    /// Looks for the pattern at `root`. Checks structure only. `None` is not reported to the user.
    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Self::Match>;

    /// Checks the numbered preconditions in the rule's header in their order and plans the edit.
    ///
    /// # Errors
    /// [`Stop::Declined`] with the first condition that does not hold; [`Stop::Failed`] for a
    /// malformed model or a bug in the rule.
    fn plan(&self, cx: &Context<'_>, matched: Self::Match) -> Result<Patch, Stop>;
}

/// The result of trying a rule at a node.
#[derive(Debug)]
pub enum Outcome {
    /// The pattern does not match.
    NoMatch,
    /// The pattern matches, but a condition does not hold.
    Declined(Declined),
    /// The edit to make.
    Patch(Patch),
}

/// A rule with its match type hidden.
pub trait AnyRule: Sync {
    /// See [`Rule::NAME`].
    fn name(&self) -> &'static str;
    /// See [`Rule::SUMMARY`].
    fn summary(&self) -> &'static str;
    /// See [`Rule::ROOTS`].
    fn roots(&self) -> &'static [&'static str];
    /// Finds the pattern and plans the edit.
    ///
    /// # Errors
    /// A malformed model or our bug.
    fn attempt(&self, cx: &Context<'_>, root: NodeId) -> Result<Outcome, crate::PassError>;
}

impl<R: Rule + Sync> AnyRule for R {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn summary(&self) -> &'static str {
        R::SUMMARY
    }

    fn roots(&self) -> &'static [&'static str] {
        R::ROOTS
    }

    fn attempt(&self, cx: &Context<'_>, root: NodeId) -> Result<Outcome, crate::PassError> {
        let Some(matched) = self.find(cx, root) else { return Ok(Outcome::NoMatch) };
        match self.plan(cx, matched) {
            Ok(patch) => Ok(Outcome::Patch(patch)),
            Err(Stop::Declined(declined)) => Ok(Outcome::Declined(declined)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }
}
