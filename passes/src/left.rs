//! Reasons for what no rule even matched: every BatchNormalization that is left, every affine beside a weighted
//! operator, and every two weighted operators in a row.
//!
//! A rule declines only what it matches, and a match needs constant weights and fitting neighbours. Without this
//! file `--why-not` would say nothing about a BatchNormalization whose scale is made at run time.

use std::collections::BTreeSet;

use updp_ir::infer::Shapes;
use updp_ir::view::BatchNorm;
use updp_ir::{Model, NodeId, Origin, ValueId};

use crate::driver::{Log, Refusal};
use crate::error::Declined;
use crate::lift::{ChannelAffine, Linear};
use crate::options::Options;
use crate::rule::Context;

/// Operators that have weights.
const WEIGHTED: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];
/// The rule in whose name an affine is left.
const AFFINE_RULE: &str = "fold-channel-affine";
/// The rule in whose name two weighted operators in a row are left.
const CHAIN_RULE: &str = "merge-chain";

/// Adds a refusal for each node of the main graph that is left without one.
pub(crate) fn explain(model: &Model, options: &Options, log: &mut Log) {
    let Some(opset) = model.opset("").filter(|_| !log.is_cut_short) else { return };
    let graph = &model.graph;
    let shapes = Shapes::infer(graph, opset);
    let cx = Context { graph, shapes: &shapes, opset, options };
    let explained: BTreeSet<String> = log.refusals.iter().map(|r| r.node.clone()).collect();
    for node in graph.nodes() {
        let name = cx.describe(node);
        if explained.contains(&name) || !graph.node(node).domain().is_empty() {
            continue;
        }
        let site = Site { cx: &cx, node };
        let found = site.affine().map(|declined| (AFFINE_RULE, declined));
        let found = found.or_else(|| site.pair().map(|declined| (CHAIN_RULE, declined)));
        if let Some((rule, declined)) = found
            && options.is_enabled(rule)
        {
            log.refusals.push(Refusal { rule, node: name, declined });
        }
    }
}

struct Site<'a, 'b> {
    cx: &'a Context<'b>,
    node: NodeId,
}

impl Site<'_, '_> {
    fn op(&self) -> &str {
        self.cx.graph.node(self.node).op_type()
    }

    /// Why a BatchNormalization, or an affine beside a weighted operator, is left.
    fn affine(&self) -> Option<Declined> {
        let graph = self.cx.graph;
        if self.op() == "BatchNormalization" {
            if BatchNorm::of(graph, self.node, self.cx.opset).is_none() {
                let detail = "it is no BatchNormalization in inference form";
                return Some(Declined::new("training-form", detail));
            }
            let parameters = graph.operands(self.node).into_iter().skip(1).flatten();
            if let Some(made) = parameters.filter_map(|value| self.not_constant(value)).next() {
                return Some(Declined::new("not-constant", made));
            }
            return Some(self.neighbours());
        }
        if !matches!(self.op(), "Add" | "Sub" | "Mul" | "Div" | "Neg" | "Sum" | "Mean") {
            return None;
        }
        if let Some(affine) = ChannelAffine::at(self.cx, self.node) {
            let is_bias = Linear::producing(self.cx, affine.y)
                .is_some_and(|unit| unit.nodes.contains(&self.node));
            let has_neighbour = !is_bias && self.is_beside_weights(affine.x, affine.y);
            return has_neighbour.then(|| self.neighbours());
        }
        let constants = graph.operands(self.node).into_iter().flatten();
        let (constants, data): (Vec<ValueId>, Vec<ValueId>) =
            constants.partition(|value| self.cx.constant(*value).is_some());
        let (&[constant], &[x]) = (constants.as_slice(), data.as_slice()) else { return None };
        let y = graph.sole_result(self.node)?;
        let tensor = self.cx.constant(constant)?;
        if !tensor.dtype().is_foldable_float() || !self.is_beside_weights(x, y) {
            return None;
        }
        let (name, dims) = (graph.value(constant).name(), tensor.dims());
        let detail = format!(
            "the constant {name:?} {dims:?} is not one number for each channel, or the operator is no affine"
        );
        Some(Declined::new("constant-form", detail))
    }

    /// Why a weighted operator does not merge with the one that makes its data.
    fn pair(&self) -> Option<Declined> {
        if !WEIGHTED.contains(&self.op()) {
            return None;
        }
        let graph = self.cx.graph;
        let x = graph.operand(self.node, 0)?;
        let (above, _) = graph.producer(x)?;
        if !WEIGHTED.contains(&graph.node(above).op_type()) {
            return None;
        }
        for node in [above, self.node] {
            let weights = graph.operands(node).into_iter().skip(1).flatten();
            if let Some(made) = weights.filter_map(|value| self.not_constant(value)).next() {
                return Some(Declined::new("not-constant", made));
            }
        }
        let name = self.cx.describe(above);
        let detail =
            format!("{:?} and {name:?} do not make one operator", self.cx.describe(self.node));
        Some(Declined::new("pair-form", detail))
    }

    fn is_weighted(&self, node: NodeId) -> bool {
        let node = self.cx.graph.node(node);
        node.domain().is_empty() && WEIGHTED.contains(&node.op_type())
    }

    fn is_beside_weights(&self, x: ValueId, y: ValueId) -> bool {
        let above = self.cx.graph.producer(x);
        above.is_some_and(|(node, _)| self.is_weighted(node))
            || self.cx.graph.users(y).iter().any(|user| self.is_weighted(user.node))
    }

    /// What stands before and behind the node.
    fn neighbours(&self) -> Declined {
        let graph = self.cx.graph;
        let x = graph
            .operands(self.node)
            .into_iter()
            .flatten()
            .find(|value| self.cx.constant(*value).is_none());
        let above = x.and_then(|x| graph.producer(x)).map(|(node, _)| node);
        let weights = |node: NodeId| {
            let operands = graph.operands(node).into_iter().skip(1).flatten();
            operands.filter_map(|value| self.not_constant(value)).next()
        };
        if let Some(made) = above.filter(|node| self.is_weighted(*node)).and_then(weights) {
            return Declined::new("not-constant", made);
        }
        let before = match (above, x) {
            (Some(node), _) => {
                format!("{:?} ({})", self.cx.describe(node), graph.node(node).op_type())
            }
            (None, Some(x)) => format!("the input {:?}", graph.value(x).name()),
            (None, None) => "nothing".to_owned(),
        };
        let results = graph.results(self.node).into_iter().flatten();
        let mut readers: Vec<&str> = results
            .flat_map(|value| graph.users(value))
            .map(|user| graph.node(user.node).op_type())
            .collect();
        readers.sort_unstable();
        readers.dedup();
        let behind = if readers.is_empty() { "nothing".to_owned() } else { readers.join(", ") };
        let detail = format!(
            "before it stands {before}, behind it {behind}: no weighted operator that could take it up"
        );
        Declined::new("no-neighbour", detail)
    }

    /// How a value comes about that is not constant; `None` for a constant.
    fn not_constant(&self, value: ValueId) -> Option<String> {
        let graph = self.cx.graph;
        if self.cx.constant(value).is_some() {
            return None;
        }
        let known = graph.value(value);
        let name = known.name();
        Some(match (graph.producer(value), known.origin()) {
            (Some((node, _)), _) => {
                format!("{} makes {name:?} when the model runs", graph.node(node).op_type())
            }
            (None, Origin::Initializer { .. }) => {
                format!("{name:?} is a graph input too, so a caller may give other numbers")
            }
            _ => format!("{name:?} is an input of the graph"),
        })
    }
}
