//! Applies rules to a fixpoint, body by body, and keeps a log of the run.
//!
//! A phase runs its rules from a worklist. The worklist holds every node once in topological order, then
//! every node that an edit touched. Phases repeat until a whole round changes nothing. Every rule lowers a
//! measure (see its header), so the run ends; a generous limit turns a bug into an error instead of a hang.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use updp_ir::infer::Shapes;
use updp_ir::{Graph, Model, NodeId, order, validate};

use crate::error::{Declined, PassError};
use crate::options::Options;
use crate::rule::{AnyRule, Context, Outcome, describe};

/// Metadata key under which a new node lists the rules that made it (IR 10 and above).
pub const PROVENANCE_KEY: &str = "updp.rules";

/// A named group of rules that runs to its own fixpoint.
pub struct Phase {
    /// Name for `--dump-after` and `--time-passes`.
    pub name: &'static str,
    /// Rules in order of preference at one node.
    pub rules: Vec<Box<dyn AnyRule>>,
}

/// One applied rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The rule.
    pub rule: &'static str,
    /// The root node of the match, as messages name it.
    pub node: String,
}

/// One refusal that still stood at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: &'static str,
    /// The root node of the match.
    pub node: String,
    /// The reason.
    pub declined: Declined,
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Rewrites in order.
    pub rewrites: Vec<Rewrite>,
    /// Refusals of the final graph, in its order.
    pub refusals: Vec<Refusal>,
    /// Weights that a rewrite made harder to quantize, one sentence each.
    pub warnings: Vec<String>,
    /// Time in each phase, over all rounds.
    pub phase_times: IndexMap<&'static str, Duration>,
    /// Whether `max_rewrites` ended the run.
    pub is_cut_short: bool,
}

/// Called after each phase of the main graph that changed something.
pub type Observer<'a> = dyn FnMut(&'static str, &Graph) + 'a;

/// Runs `phases` over the model and its bodies until nothing changes.
///
/// # Errors
/// A malformed model, or a rule that breaks the graph (our bug).
pub fn run(
    model: &mut Model,
    phases: &[Phase],
    options: &Options,
    observer: &mut Observer<'_>,
) -> Result<Log, PassError> {
    let mut log = Log::default();
    let Some(opset) = model.opset("") else { return Ok(log) };
    let shadows = model.functions().any(|(domain, _)| domain.is_empty() || domain == "ai.onnx");
    if model.graph.outputs().next().is_none() {
        // A graph without outputs has no observable result, so there is nothing to keep or to gain.
        return Ok(log);
    }
    if shadows {
        // A function of the default domain may redefine an operator the rules think they know.
        return Ok(log);
    }
    let limit = 1000 + 20 * total_nodes(&model.graph);
    let mut driver = Driver { phases, options, opset, log: &mut log, limit, observer };
    loop {
        // A rewrite renews the shapes of the values it makes, but not of everything behind them. A fresh
        // inference may know more and so allow more rewrites. Without it, a second compilation would
        // change the result of the first.
        let made = driver.log.rewrites.len();
        driver.log.refusals.clear();
        let shapes = Shapes::infer(&model.graph, opset);
        driver.graph(&mut model.graph, shapes, 0)?;
        if driver.log.rewrites.len() == made || driver.is_over() {
            break;
        }
    }
    model.validate()?;
    Ok(log)
}

fn total_nodes(graph: &Graph) -> usize {
    graph
        .nodes()
        .into_iter()
        .map(|node| 1 + graph.node(node).bodies().map(total_nodes).sum::<usize>())
        .sum()
}

struct Driver<'a, 'b> {
    phases: &'a [Phase],
    options: &'a Options,
    opset: i64,
    log: &'a mut Log,
    limit: usize,
    observer: &'a mut Observer<'b>,
}

impl Driver<'_, '_> {
    fn graph(
        &mut self,
        graph: &mut Graph,
        mut shapes: Shapes,
        depth: usize,
    ) -> Result<(), PassError> {
        self.bodies(graph, &shapes, depth)?;
        let mut refusals = BTreeMap::new();
        let mut order = order::topological(graph)?;
        loop {
            let mut changed = false;
            refusals.clear();
            for phase in self.phases {
                let start = Instant::now();
                let phase_changed = self.phase(graph, &mut shapes, phase, &order, &mut refusals)?;
                if phase_changed {
                    order = order::topological(graph)?;
                }
                *self.log.phase_times.entry(phase.name).or_default() += start.elapsed();
                if phase_changed && depth == 0 {
                    (self.observer)(phase.name, graph);
                }
                changed |= phase_changed;
                if self.is_over() {
                    break;
                }
            }
            if !changed || self.is_over() {
                break;
            }
        }
        self.log.refusals.extend(refusals.into_values());
        Ok(())
    }

    /// Runs the phases inside the bodies of every node; the values they capture are a barrier.
    fn bodies(
        &mut self,
        graph: &mut Graph,
        shapes: &Shapes,
        depth: usize,
    ) -> Result<(), PassError> {
        for node in graph.nodes() {
            if !graph.node(node).has_bodies() {
                continue;
            }
            let mut inner: Vec<Shapes> = graph
                .node(node)
                .bodies()
                .map(|body| Shapes::infer_body(body, self.opset, shapes, graph))
                .collect();
            inner.reverse();
            graph.edit_bodies(node, |body| {
                let shapes = inner.pop().unwrap_or_else(|| Shapes::infer(body, self.opset));
                self.graph(body, shapes, depth + 1)
            })?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.log.is_cut_short
    }

    fn phase(
        &mut self,
        graph: &mut Graph,
        shapes: &mut Shapes,
        phase: &Phase,
        order: &[NodeId],
        refusals: &mut BTreeMap<(usize, NodeId, &'static str), Refusal>,
    ) -> Result<bool, PassError> {
        let rules: Vec<&dyn AnyRule> = phase
            .rules
            .iter()
            .map(AsRef::as_ref)
            .filter(|rule| self.options.is_enabled(rule.name()))
            .collect();
        if rules.is_empty() {
            return Ok(false);
        }
        let mut by_root: BTreeMap<&str, Vec<&dyn AnyRule>> = BTreeMap::new();
        let mut queue = Queue::new(order);
        for rule in &rules {
            for root in rule.roots() {
                by_root.entry(root).or_default().push(*rule);
            }
        }
        let any: Vec<&dyn AnyRule> =
            rules.iter().copied().filter(|rule| rule.roots().is_empty()).collect();
        let mut changed = false;
        while let Some((at, node)) = queue.pop() {
            let Some(known) = graph.get_node(node) else { continue };
            if !known.domain().is_empty() {
                continue;
            }
            let rooted = by_root.get(known.op_type()).map_or(&[][..], Vec::as_slice);
            for rule in rooted.iter().chain(&any) {
                let cx = Context { graph, shapes, opset: self.opset, options: self.options };
                let patch = match rule.attempt(&cx, node)? {
                    Outcome::NoMatch => {
                        refusals.remove(&(at, node, rule.name()));
                        continue;
                    }
                    Outcome::Declined(declined) => {
                        let refusal =
                            Refusal { rule: rule.name(), node: describe(graph, node), declined };
                        refusals.insert((at, node, rule.name()), refusal);
                        continue;
                    }
                    Outcome::Patch(patch) => patch,
                };
                refusals.remove(&(at, node, rule.name()));
                if !self.count(rule.name(), describe(graph, node))? {
                    return Ok(changed);
                }
                let touched = self.apply(graph, shapes, *rule, node, patch)?;
                changed = true;
                for next in touched {
                    queue.push(next, at);
                }
                if graph.get_node(node).is_some() {
                    queue.push(node, at);
                }
                break;
            }
        }
        refusals.retain(|(_, node, _), _| graph.get_node(*node).is_some());
        Ok(changed)
    }

    /// Records one rewrite; returns false when the run must stop before it.
    fn count(&mut self, rule: &'static str, node: String) -> Result<bool, PassError> {
        let made = self.log.rewrites.len();
        if self.options.max_rewrites.is_some_and(|max| made >= max) {
            self.log.is_cut_short = true;
            return Ok(false);
        }
        if made >= self.limit {
            let last = self.log.rewrites.iter().rev().take(6);
            let last = last.map(|r| format!("{} at {}", r.rule, r.node)).collect();
            return Err(PassError::Endless { rewrites: made, last });
        }
        self.log.rewrites.push(Rewrite { rule, node });
        Ok(true)
    }

    fn apply(
        &mut self,
        graph: &mut Graph,
        shapes: &mut Shapes,
        rule: &dyn AnyRule,
        root: NodeId,
        mut patch: crate::patch::Patch,
    ) -> Result<Vec<NodeId>, PassError> {
        let node = describe(graph, root);
        let fail = |source| PassError::Apply { rule: rule.name(), node: node.clone(), source };
        if graph.ir_version() >= 10 {
            patch.add_provenance(PROVENANCE_KEY, rule.name());
        }
        let warnings = patch.take_warnings();
        let applied = patch.apply(graph).map_err(fail)?;
        let place = |warning: String| format!("{node:?} ({}): {warning}", rule.name());
        self.log.warnings.extend(warnings.into_iter().map(place));
        for made in &applied.made {
            shapes.update(graph, self.opset, *made);
        }
        if self.options.validate_each {
            validate::graph(graph, true).map_err(fail)?;
        }
        Ok(applied.made.into_iter().chain(applied.neighbours).collect())
    }
}

/// The nodes to look at, by their place in the order: first every node once, then the nodes that edits touched.
struct Queue<'a> {
    order: &'a [NodeId],
    /// Next node of `order`.
    next: usize,
    again: BTreeSet<(usize, NodeId)>,
    /// Places of the nodes, computed when the first edit needs them.
    places: Option<BTreeMap<NodeId, usize>>,
}

impl<'a> Queue<'a> {
    fn new(order: &'a [NodeId]) -> Self {
        Self { order, next: 0, again: BTreeSet::new(), places: None }
    }

    /// Returns the first node in the order; a node appears once, even if it was pushed more than once.
    fn pop(&mut self) -> Option<(usize, NodeId)> {
        let fresh = self.order.get(self.next).map(|node| (self.next, *node));
        let again = self.again.first().copied();
        let first = [fresh, again].into_iter().flatten().min()?;
        if fresh == Some(first) {
            self.next += 1;
        }
        self.again.remove(&first);
        Some(first)
    }

    /// Queues `node` again; a new node takes the place `at` of the node that it was made for.
    fn push(&mut self, node: NodeId, at: usize) {
        let order = self.order;
        let places = self.places.get_or_insert_with(|| {
            order.iter().enumerate().map(|(place, node)| (*node, place)).collect()
        });
        let place = *places.entry(node).or_insert(at);
        self.again.insert((place, node));
    }
}
