//! Compares two models part by part, for models that no runtime here can run as a whole.
//!
//! Nodes that are the same in both models (message, constants) compute the same from the same operands.
//! The other nodes form regions: changed nodes of both sides that share values. Each region becomes two
//! small models whose inputs and outputs are the boundary of the region; they are run like whole models.
//! A region may get inputs that the whole model never gives it, so a difference can be a false alarm. An
//! equality cannot be one, up to rounding and the drawn inputs.

use indexmap::{IndexMap, IndexSet};
use updp_exec::{InputData, ModelSource, RuntimeOptions};
use updp_ir::infer::Shapes;
use updp_ir::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use updp_ir::{DataPlacement, Model, no_external_data};

use crate::error::VerifyError;
use crate::oracle::{Oracle, Verification};

/// IR versions that every supported runtime reads.
pub(crate) const IR_VERSIONS: std::ops::RangeInclusive<i64> = 4..=10;

/// Compares `after` with `before` region by region.
///
/// # Errors
/// C0009 when a region cannot be extracted or run, C0008 when one differs.
pub fn compare(
    before: &Model,
    after: &Model,
    count: usize,
    options: &RuntimeOptions,
) -> Result<Verification, VerifyError> {
    let sides = [Side::of(before)?, Side::of(after)?];
    if sides[0].defaults() != sides[1].defaults() {
        return Err(unverifiable("the default of an input differs".into()));
    }
    let mut whole = Verification { parts: Some(0), ..Verification::default() };
    for region in regions(&sides, &IndexSet::new()) {
        let Some([first, second]) = region.models(&sides)? else { continue };
        let model = Model::decode(first.clone(), &mut no_external_data)?;
        let (source, data) = (ModelSource::Bytes(&first), InputData::default());
        let oracle = Oracle::new(source, &model.graph, &data, count, options)
            .map_err(|error| region.fail(&sides, &error.to_string()))?;
        let part = oracle.compare(ModelSource::Bytes(&second))?;
        if let Some(failure) = part.failure() {
            let place = region.name(&sides);
            let detail = format!("in the part around {place:?}, run by itself, {failure}");
            return Err(VerifyError::VerificationFailed { detail });
        }
        whole.runtime = part.runtime;
        whole.runs += part.runs;
        whole.parts = whole.parts.map(|parts| parts + 1);
        whole.outputs.extend(part.outputs);
    }
    Ok(whole)
}

fn unverifiable(detail: String) -> VerifyError {
    VerifyError::Unverifiable { detail }
}

/// One of the two models, indexed by name.
pub(crate) struct Side<'a> {
    pub(crate) model: &'a Model,
    pub(crate) shapes: Shapes,
    pub(crate) header: ModelProto,
    pub(crate) graph: GraphProto,
    /// Node that produces each value.
    pub(crate) producers: IndexMap<String, usize>,
    /// Nodes that read each value.
    pub(crate) readers: IndexMap<String, Vec<usize>>,
    /// Initializer of each name that cannot be overridden.
    constants: IndexMap<String, usize>,
}

impl<'a> Side<'a> {
    pub(crate) fn of(model: &'a Model) -> Result<Self, VerifyError> {
        let mut header = model.to_proto()?;
        let graph = header.graph.take().unwrap_or_default();
        if !graph.sparse_initializer.is_empty() {
            return Err(unverifiable(
                "parts of a model with sparse initializers are not cut".into(),
            ));
        }
        let is_overridable =
            |name: &str| header.ir_version() >= 4 && graph.input.iter().any(|i| i.name() == name);
        let constants = graph
            .initializer
            .iter()
            .enumerate()
            .filter(|(_, tensor)| !is_overridable(tensor.name()))
            .map(|(at, tensor)| (tensor.name().to_owned(), at))
            .collect();
        let mut producers = IndexMap::new();
        let mut readers: IndexMap<String, Vec<usize>> = IndexMap::new();
        for (at, node) in graph.node.iter().enumerate() {
            producers.extend(results(node).map(|name| (name.to_owned(), at)));
            for name in reads(node) {
                readers.entry(name.to_owned()).or_default().push(at);
            }
        }
        let shapes = Shapes::infer(&model.graph, model.opset("").unwrap_or(0));
        Ok(Self { model, shapes, header, graph, producers, readers, constants })
    }

    /// Whether a value is a graph output, or a node outside `inside` reads it.
    pub(crate) fn is_read_outside(&self, name: &str, inside: &IndexSet<usize>) -> bool {
        self.graph.output.iter().any(|output| output.name() == name)
            || self.readers.get(name).is_some_and(|all| all.iter().any(|at| !inside.contains(at)))
    }

    /// Initializers that a caller may override.
    pub(crate) fn defaults(&self) -> Vec<&TensorProto> {
        let is_default = |tensor: &&TensorProto| !self.constants.contains_key(tensor.name());
        self.graph.initializer.iter().filter(is_default).collect()
    }

    pub(crate) fn constant(&self, name: &str) -> Option<&TensorProto> {
        self.constants.get(name).map(|at| &self.graph.initializer[*at])
    }

    /// Whether this model contains exactly the `node` of `other`, with the same constants.
    fn has_same(&self, node: &NodeProto, other: &Self) -> bool {
        let own = results(node).next().and_then(|name| self.producers.get(name));
        own.is_some_and(|at| self.graph.node[*at] == *node)
            && reads(node).iter().all(|name| self.constant(name) == other.constant(name))
    }
}

pub(crate) fn results(node: &NodeProto) -> impl Iterator<Item = &str> {
    node.output.iter().map(String::as_str).filter(|name| !name.is_empty())
}

/// Names that a node reads, including reads inside its bodies (names produced in a body do no harm here).
pub(crate) fn reads(node: &NodeProto) -> IndexSet<&str> {
    fn collect<'a>(node: &'a NodeProto, names: &mut IndexSet<&'a str>) {
        names.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
        for body in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
            names.extend(body.output.iter().map(updp_ir::proto::ValueInfoProto::name));
            body.node.iter().for_each(|inner| collect(inner, names));
        }
    }
    let mut names = IndexSet::new();
    collect(node, &mut names);
    names
}

/// Changed nodes that belong together, by side.
#[derive(Debug, Default)]
pub(crate) struct Region {
    pub(crate) nodes: [Vec<usize>; 2],
}

/// Groups the changed nodes of both sides. A node that makes one of the `absorbed` values counts as changed.
pub(crate) fn regions(sides: &[Side<'_>; 2], absorbed: &IndexSet<String>) -> Vec<Region> {
    // Members are numbered consecutively: side 0, then side 1.
    let mut members: IndexMap<(usize, usize), usize> = IndexMap::new();
    for (side, other) in [(0, 1), (1, 0)] {
        for (at, node) in sides[side].graph.node.iter().enumerate() {
            let is_absorbed = results(node).any(|name| absorbed.contains(name));
            if is_absorbed || !sides[other].has_same(node, &sides[side]) {
                let number = members.len();
                members.insert((side, at), number);
            }
        }
    }
    let mut groups = Groups((0..members.len()).collect());
    let member = |side: usize, name: &str| {
        sides[side].producers.get(name).and_then(|at| members.get(&(side, *at))).copied()
    };
    for ((side, at), number) in &members {
        let node = &sides[*side].graph.node[*at];
        for name in reads(node) {
            if let Some(maker) = member(*side, name) {
                groups.join(*number, maker);
            }
        }
        for twin in results(node).filter_map(|name| member(1 - side, name)) {
            groups.join(*number, twin);
        }
    }
    let mut found: IndexMap<usize, Region> = IndexMap::new();
    for ((side, at), number) in &members {
        found.entry(groups.root(*number)).or_default().nodes[*side].push(*at);
    }
    found.into_values().collect()
}

/// Disjoint sets: the parent of each member.
struct Groups(Vec<usize>);

impl Groups {
    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

impl Region {
    /// Name of the node that messages mention.
    pub(crate) fn name(&self, sides: &[Side<'_>; 2]) -> String {
        let side = usize::from(self.nodes[0].is_empty());
        let node = self.nodes[side].last().map(|at| &sides[side].graph.node[*at]);
        node.map_or_else(String::new, |node| {
            let result = results(node).next().unwrap_or_default();
            if node.name().is_empty() { result } else { node.name() }.to_owned()
        })
    }

    fn fail(&self, sides: &[Side<'_>; 2], detail: &str) -> VerifyError {
        unverifiable(format!("the part around {:?}: {detail}", self.name(sides)))
    }

    /// Names that the region produces on one side.
    pub(crate) fn made<'s>(&self, sides: &'s [Side<'_>; 2], side: usize) -> IndexSet<&'s str> {
        self.nodes[side].iter().flat_map(|at| results(&sides[side].graph.node[*at])).collect()
    }

    /// The region of both sides as models with the same inputs and outputs; `None` when the region is
    /// dead because nothing outside reads it.
    fn models(&self, sides: &[Side<'_>; 2]) -> Result<Option<[bytes::Bytes; 2]>, VerifyError> {
        let made = [self.made(sides, 0), self.made(sides, 1)];
        let mut inputs: IndexSet<&str> = IndexSet::new();
        for side in 0..2 {
            for at in &self.nodes[side] {
                let outer = reads(&sides[side].graph.node[*at]).into_iter().filter(|name| {
                    let is_known = sides[side].model.graph.find(name).is_some();
                    is_known && !made[side].contains(name) && sides[side].constant(name).is_none()
                });
                inputs.extend(outer);
            }
        }
        let inside: IndexSet<usize> = self.nodes[1].iter().copied().collect();
        let is_output = |name: &&str| sides[1].is_read_outside(name, &inside);
        let outputs: IndexSet<&str> = made[0].union(&made[1]).copied().filter(is_output).collect();
        if outputs.is_empty() {
            return Ok(None);
        }
        let model = |side: usize| self.model(sides, side, &inputs, &outputs, &made[side]);
        Ok(Some([model(0)?, model(1)?]))
    }

    fn model(
        &self,
        sides: &[Side<'_>; 2],
        side: usize,
        inputs: &IndexSet<&str>,
        outputs: &IndexSet<&str>,
        made: &IndexSet<&str>,
    ) -> Result<bytes::Bytes, VerifyError> {
        let own = &sides[side];
        let mut graph = GraphProto { name: Some("part".to_owned()), ..GraphProto::default() };
        graph.node = self.nodes[side].iter().map(|at| own.graph.node[*at].clone()).collect();
        for name in inputs {
            let declared = sides.iter().find_map(|side| {
                side.shapes.of(side.model.graph.find(name)?).filter(|ty| ty.shape.is_some())
            });
            let declared = declared
                .ok_or_else(|| self.fail(sides, &format!("the shape of {name:?} is not known")))?;
            graph.input.push(declared.to_value_info(name));
        }
        let mut constants: IndexSet<&str> = graph.node.iter().flat_map(reads).collect();
        for name in outputs {
            if !made.contains(name) && own.constant(name).is_none() {
                return Err(self.fail(sides, &format!("only one side makes {name:?}")));
            }
            let other =
                sides.iter().find_map(|side| side.shapes.of(side.model.graph.find(name)?));
            let declared =
                other.ok_or_else(|| self.fail(sides, &format!("the dtype of {name:?} is open")))?;
            let mut open = declared.clone();
            open.shape = None;
            graph.output.push(open.to_value_info(name));
            constants.insert(name);
        }
        let tensors: Vec<TensorProto> =
            constants.iter().filter_map(|name| own.constant(name)).cloned().collect();
        graph.initializer = tensors;
        let version = own.header.ir_version().clamp(*IR_VERSIONS.start(), *IR_VERSIONS.end());
        let header = ModelProto {
            ir_version: Some(version),
            graph: Some(graph),
            training_info: Vec::new(),
            ..own.header.clone()
        };
        let model = Model::from_proto(header, &mut no_external_data)?;
        Ok(model.encode(&DataPlacement::Inline)?.model_to_bytes())
    }
}
