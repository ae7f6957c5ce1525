//! Compares every changed part of two models on the values that the reference has there.
//!
//! A fault in one weight is small in the output of a deep network, and a network may amplify rounding until it looks like
//! a fault. Neither holds inside one part: the reference gives its inner values, each changed part of the result runs by
//! itself on them, and its results are held against those of the reference, channel by channel. Nodes and constants that
//! are the same on both sides need no comparison.
//!
//! A rewrite may change a value between two parts without harm: the scale of a normalization moves through a `ReLU` into
//! the next layer. Such a part grows by the nodes that read the value, until nothing differs. Outputs of the graph never
//! differ without harm.

mod shuffled;

use indexmap::{IndexMap, IndexSet};
use rand_pcg::Pcg64Mcg;
use updp_exec::{Executor, ModelSource, open};
use updp_ir::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use updp_ir::{DataPlacement, DataType, Dim, Model, Tensor, TensorType, no_external_data};

use crate::error::VerifyError;
use crate::noise::{SEEDS, jittered, jittered_constant};
use crate::oracle::Oracle;
use crate::regions::{IR_VERSIONS, Region, Side, reads, regions, results};
use crate::slices::{Pair, raise};
use crate::verdict::{Outcome, Verdict, outcomes, verdict};

/// Most times that parts grow.
const MOST_ROUNDS: usize = 16;
/// Most bytes of inner values that are kept; parts beyond are not compared.
const MOST_BYTES: usize = 2 << 30;
/// Operators that give other values in each run.
const RANDOM: [&str; 7] = [
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// What comparing the parts of two models has shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// Number of parts that were compared and agree.
    pub equal: usize,
    /// Number of parts that could not be compared: random, without floats, too large, or of unknown type.
    pub left_out: usize,
    /// Largest |Δ| / largest |reference| of a channel, over all parts.
    pub worst: f64,
    /// Number of parts whose difference exceeds the limit of their dtype, and not their noise.
    pub noisy: usize,
    /// The part that differs, in words.
    pub fault: Option<String>,
}

impl Parts {
    /// Whether every changed part was compared and agrees.
    #[must_use]
    pub fn is_proof(&self) -> bool {
        self.fault.is_none() && self.left_out == 0
    }
}

/// Compares the changed parts of `after` with those of `before`, which is the reference of the oracle, on its first input.
///
/// # Errors
/// C0009 when the values inside the reference cannot be had.
pub fn compare(before: &Model, after: &Model, oracle: &Oracle<'_>) -> Result<Parts, VerifyError> {
    let sides = [Side::of(before)?, Side::of(after)?];
    if sides[0].defaults() != sides[1].defaults() {
        return Err(unverifiable("the default of an input differs"));
    }
    let mut check = Check { sides, oracle, values: IndexMap::new(), absorbed: IndexSet::new() };
    let (inputs, _) = oracle.runs().first().ok_or_else(|| unverifiable("there is no input"))?;
    check.values.clone_from(inputs);
    check.run()
}

fn unverifiable(detail: &str) -> VerifyError {
    VerifyError::Unverifiable { detail: detail.to_owned() }
}

type Values = IndexMap<String, Tensor>;

/// The parts of the result as one model, once it is opened.
type Opened = Option<Box<dyn Executor>>;

struct Check<'a, 'o> {
    sides: [Side<'a>; 2],
    oracle: &'a Oracle<'o>,
    /// Values of the reference, by name.
    values: Values,
    /// Results of unchanged nodes that became members of parts.
    absorbed: IndexSet<String>,
}

/// A part with the names at its boundary.
struct Part {
    region: Region,
    inputs: IndexSet<String>,
    outputs: IndexSet<String>,
}

impl Check<'_, '_> {
    fn run(&mut self) -> Result<Parts, VerifyError> {
        let mut found = Parts::default();
        for round in 0..=MOST_ROUNDS {
            let (parts, left_out) = self.parts()?;
            found = Parts { left_out, ..Parts::default() };
            let mut opened = None;
            let verdicts = self.judge(&parts, &self.values, &mut opened)?;
            let mut grown = IndexSet::new();
            for (part, verdict) in parts.iter().zip(verdicts) {
                match verdict {
                    Verdict::Equal { worst, is_noisy } => {
                        found.equal += 1;
                        found.worst = found.worst.max(worst);
                        found.noisy += usize::from(is_noisy);
                    }
                    Verdict::LeftOut => found.left_out += 1,
                    Verdict::Fault(detail) => {
                        let place = part.region.name(&self.sides);
                        found.fault.get_or_insert(format!(
                            "the part around {place:?}, run on the values that the original has there: {detail}"
                        ));
                    }
                    Verdict::Grow(names) => grown.extend(names),
                }
            }
            if grown.is_empty() {
                // A part that cannot be cut out may hand other values to the part that differs.
                if left_out > 0 && found.fault.take().is_some() {
                    found.left_out += 1;
                }
                if found.fault.is_none() && left_out == 0 {
                    found.fault = self.fault_on_shuffled(&parts, &mut opened);
                }
                return Ok(found);
            }
            // A part behind one that grows gets the wrong values, so its fault means nothing yet.
            found.fault = None;
            if round == MOST_ROUNDS || !self.absorb(&grown) {
                found.left_out += 1;
                return Ok(found);
            }
        }
        Ok(found)
    }

    /// Makes the readers of these values members of the parts; whether there was a new one.
    fn absorb(&mut self, names: &IndexSet<String>) -> bool {
        let before = self.absorbed.len();
        for side in &self.sides {
            for name in names {
                for at in side.readers.get(name).into_iter().flatten() {
                    let results = results(&side.graph.node[*at]);
                    self.absorbed.extend(results.map(str::to_owned));
                }
            }
        }
        self.absorbed.len() > before
    }

    /// The parts that can be compared, and the number of the others.
    fn parts(&mut self) -> Result<(Vec<Part>, usize), VerifyError> {
        let mut left_out = 0;
        let mut parts = Vec::new();
        let mut bytes = 0_usize;
        for region in regions(&self.sides, &self.absorbed) {
            let Some(part) = self.part(region) else {
                left_out += 1;
                continue;
            };
            let names = part.inputs.iter().chain(&part.outputs);
            bytes += names.map(|name| self.bytes_of(name)).sum::<usize>();
            if part.outputs.is_empty() {
                continue;
            }
            if bytes > MOST_BYTES {
                left_out += 1;
            } else {
                parts.push(part);
            }
        }
        let wanted: IndexSet<String> = parts
            .iter()
            .flat_map(|part| part.inputs.iter().chain(&part.outputs))
            .filter(|name| !self.values.contains_key(*name))
            .cloned()
            .collect();
        if !wanted.is_empty() {
            let mut values = self.inner_values(&wanted);
            if values.is_err() {
                // A value of unknown type may be no tensor.
                let typed = wanted.iter().filter(|name| self.declared(name).is_some());
                values = self.inner_values(&typed.cloned().collect());
            }
            self.values.extend(values?);
        }
        let count = parts.len();
        parts.retain(|part| {
            part.inputs.iter().chain(&part.outputs).all(|name| self.values.contains_key(name))
        });
        left_out += count - parts.len();
        Ok((parts, left_out))
    }

    /// The boundary of a region; `None` when it cannot be cut out.
    fn part(&self, region: Region) -> Option<Part> {
        let made = [region.made(&self.sides, 0), region.made(&self.sides, 1)];
        let mut inputs = IndexSet::new();
        for (side, own) in self.sides.iter().enumerate() {
            for at in &region.nodes[side] {
                let node = &own.graph.node[*at];
                if is_random(node) {
                    return None;
                }
                for name in reads(node) {
                    let is_known = own.model.graph.find(name).is_some();
                    if is_known && !made[side].contains(name) && own.constant(name).is_none() {
                        inputs.insert(name.to_owned());
                    }
                }
            }
        }
        let inside: IndexSet<usize> = region.nodes[1].iter().copied().collect();
        let all = made[0].union(&made[1]).copied();
        let read = all.filter(|name| self.sides[1].is_read_outside(name, &inside));
        let outputs: IndexSet<String> = read.map(str::to_owned).collect();
        let is_cut = outputs.iter().all(|name| made.iter().all(|made| made.contains(&**name)));
        is_cut.then_some(Part { region, inputs, outputs })
    }

    /// Type of a value of the reference; `None` if its dtype is not known.
    fn declared(&self, name: &str) -> Option<&TensorType> {
        let side = &self.sides[0];
        let known = side.shapes.of(side.model.graph.find(name)?);
        known.filter(|ty| ty.dtype == DataType::String || ty.dtype.bits().is_some())
    }

    /// Size of a value, as far as it is known; open dims count as in the first input.
    fn bytes_of(&self, name: &str) -> usize {
        let Some(ty) = self.declared(name) else { return 0 };
        let size = |dim: &Dim| dim.known().unwrap_or(16);
        let elements: usize = ty.shape.iter().flatten().map(size).fold(1, usize::saturating_mul);
        ty.dtype.byte_len(elements).unwrap_or(elements)
    }

    /// Runs the reference with more outputs.
    fn inner_values(&self, wanted: &IndexSet<String>) -> Result<Values, VerifyError> {
        let side = &self.sides[0];
        let mut graph = side.graph.clone();
        let listed: IndexSet<String> = graph.output.iter().map(|o| o.name().to_owned()).collect();
        for name in wanted.iter().filter(|name| !listed.contains(*name)) {
            graph.output.push(match self.declared(name) {
                Some(ty) => TensorType { dtype: ty.dtype, shape: None }.to_value_info(name),
                // ONNX Runtime needs no type.
                None => ValueInfoProto { name: Some(name.clone()), ..ValueInfoProto::default() },
            });
        }
        let (inputs, _) = &self.oracle.runs()[0];
        let mut values = self.execute(side, graph, inputs)?;
        values.retain(|name, _| wanted.contains(name));
        Ok(values)
    }

    fn execute(
        &self,
        side: &Side<'_>,
        graph: GraphProto,
        inputs: &Values,
    ) -> Result<Values, VerifyError> {
        Ok(self.open(side, graph)?.run(inputs)?)
    }

    fn open(&self, side: &Side<'_>, graph: GraphProto) -> Result<Box<dyn Executor>, VerifyError> {
        let version = side.header.ir_version().clamp(*IR_VERSIONS.start(), *IR_VERSIONS.end());
        let header = ModelProto {
            ir_version: Some(version),
            graph: Some(graph),
            training_info: Vec::new(),
            ..side.header.clone()
        };
        let model = Model::from_proto(header, &mut no_external_data)?;
        let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
        drop(model);
        let (runtime, options) = self.oracle.runtime();
        Ok(open(ModelSource::Bytes(&bytes), runtime, &options)?)
    }

    /// The parts of one side as one model; they share no values but inputs.
    fn model(
        &self,
        parts: &[&Part],
        side: usize,
        values: &Values,
        random: &mut Option<Pcg64Mcg>,
    ) -> (GraphProto, IndexMap<String, Tensor>) {
        let own = &self.sides[side];
        let mut graph = GraphProto { name: Some("parts".to_owned()), ..GraphProto::default() };
        let mut inputs = IndexMap::new();
        let nodes: IndexSet<usize> =
            parts.iter().flat_map(|part| part.region.nodes[side].iter().copied()).collect();
        graph.node = nodes.iter().map(|at| own.graph.node[*at].clone()).collect();
        let read: IndexSet<&str> =
            nodes.iter().flat_map(|at| reads(&own.graph.node[*at])).collect();
        for name in parts.iter().flat_map(|part| &part.inputs).collect::<IndexSet<_>>() {
            let tensor = &values[name];
            let ty = TensorType::fixed(tensor.dtype(), tensor.dims());
            graph.input.push(ty.to_value_info(name));
            inputs.insert(name.clone(), jittered(tensor, random));
        }
        for name in parts.iter().flat_map(|part| &part.outputs) {
            let ty = TensorType { dtype: values[name].dtype(), shape: None };
            graph.output.push(ty.to_value_info(name));
        }
        let constants = read.iter().filter_map(|name| own.constant(name));
        graph.initializer = constants.map(|proto| jittered_constant(proto, random)).collect();
        (graph, inputs)
    }

    /// Runs the parts of the result on values of the reference. They are opened if they are not yet.
    fn judge(
        &self,
        parts: &[Part],
        values: &Values,
        opened: &mut Opened,
    ) -> Result<Vec<Verdict>, VerifyError> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<&Part> = parts.iter().collect();
        let (graph, inputs) = self.model(&all, 1, values, &mut None);
        let executor = match opened {
            Some(executor) => executor,
            None => opened.insert(self.open(&self.sides[1], graph)?),
        };
        let found = executor.run(&inputs)?;
        let is_output = |name: &str| self.sides[0].graph.output.iter().any(|it| it.name() == name);
        let outcomes: Vec<Vec<Outcome>> =
            parts.iter().map(|part| outcomes(&part.outputs, values, &found)).collect();
        let doubtful: Vec<&Part> = parts
            .iter()
            .zip(&outcomes)
            .filter(|(_, all)| all.iter().any(Outcome::is_doubtful))
            .map(|(part, _)| part)
            .collect();
        let noise =
            if doubtful.is_empty() { IndexMap::new() } else { self.noise(&doubtful, values)? };
        Ok(outcomes.iter().map(|all| verdict(all, &noise, is_output)).collect())
    }

    /// Largest change of every channel when inputs and weights change in their last bits.
    fn noise(
        &self,
        parts: &[&Part],
        values: &Values,
    ) -> Result<IndexMap<String, Vec<Vec<f64>>>, VerifyError> {
        let mut noise: IndexMap<String, Vec<Vec<f64>>> = IndexMap::new();
        for seed in 0..SEEDS {
            let mut random = Some(Pcg64Mcg::new(u128::from(seed) << 64 | 0x5851_f42d));
            let (graph, inputs) = self.model(parts, 0, values, &mut random);
            for (name, found) in self.execute(&self.sides[0], graph, &inputs)? {
                if let Some(pair) = Pair::of(&values[&name], &found) {
                    raise(noise.entry(name).or_default(), pair.deltas());
                }
            }
        }
        Ok(noise)
    }
}

/// Whether a node, or one in its bodies, gives other values in each run.
fn is_random(node: &NodeProto) -> bool {
    let is_off = node.op_type() == "Dropout" && node.input.len() < 3;
    (RANDOM.contains(&node.op_type()) && !is_off)
        || node
            .attribute
            .iter()
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
            .any(|body| body.node.iter().any(is_random))
}
