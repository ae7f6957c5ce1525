//! Runs the parts on values in another order, which excites channels that the reference leaves at zero.

use indexmap::{IndexMap, IndexSet};
use updp_ir::TensorType;
use updp_ir::proto::GraphProto;

use super::{Check, Opened, Part, Values};
use crate::noise::shuffled_tensor;
use crate::regions::{reads, results};
use crate::verdict::Verdict;

impl Check<'_, '_> {
    /// The part that differs where its inputs are the reference's values in random order, in words. The range of the values
    /// stays: those behind a `ReLU` are positive. Where a part differs and one of its inputs is computed from another, it
    /// runs once more with inputs that belong together.
    pub(super) fn fault_on_shuffled(&self, parts: &[Part], opened: &mut Opened) -> Option<String> {
        let names = parts.iter().flat_map(|part| &part.inputs).collect::<IndexSet<_>>();
        let shuffled = names.iter().map(|name| (*name).clone());
        let values: Values =
            shuffled.map(|name| (name.clone(), shuffled_tensor(&self.values[&name]))).collect();
        let faults = self.faults_on(parts, values.clone(), opened)?;
        faults.into_iter().find_map(|(at, detail)| {
            let part = std::slice::from_ref(&parts[at]);
            let detail = match self.belonging(&parts[at], &values) {
                Some(values) => self.faults_on(part, values, &mut None)?.into_iter().next()?.1,
                None => detail,
            };
            let place = parts[at].region.name(&self.sides);
            Some(format!(
                "the part around {place:?}, run on values of the original in another order: {detail}"
            ))
        })
    }

    /// The parts that differ on these inputs, with what differs. `None` if the reference does not run on them.
    fn faults_on(
        &self,
        parts: &[Part],
        mut values: Values,
        opened: &mut Opened,
    ) -> Option<Vec<(usize, String)>> {
        for name in parts.iter().flat_map(|part| &part.outputs) {
            values.insert(name.clone(), self.values[name].clone());
        }
        let all: Vec<&Part> = parts.iter().collect();
        let (graph, inputs) = self.model(&all, 0, &values, &mut None);
        values.extend(self.execute(&self.sides[0], graph, &inputs).ok()?);
        let verdicts = self.judge(parts, &values, opened).ok()?;
        let fault = |(at, verdict): (usize, Verdict)| match verdict {
            Verdict::Fault(detail) => Some((at, detail)),
            Verdict::Grow(names) => Some((at, format!("{:?} differ", names.join(", ")))),
            Verdict::Equal { .. } | Verdict::LeftOut => None,
        };
        Some(verdicts.into_iter().enumerate().filter_map(fault).collect())
    }

    /// The values with the inputs of a part that are computed from its other inputs made anew by the reference. `None` if
    /// no input is computed from another one, or if the reference cannot be run so.
    fn belonging(&self, part: &Part, values: &Values) -> Option<Values> {
        let side = &self.sides[0];
        let mut ahead: IndexSet<usize> = IndexSet::new();
        let mut waiting: Vec<&str> = part.inputs.iter().map(String::as_str).collect();
        while let Some(name) = waiting.pop() {
            for at in side.readers.get(name).into_iter().flatten() {
                if ahead.insert(*at) {
                    waiting.extend(results(&side.graph.node[*at]));
                }
            }
        }
        let made = ahead.iter().flat_map(|at| results(&side.graph.node[*at]));
        let dependent: IndexSet<&String> = made.filter_map(|name| part.inputs.get(name)).collect();
        // The nodes between the inputs that are computed from nothing else and those that are.
        let mut between: IndexSet<usize> = IndexSet::new();
        let mut waiting: Vec<&str> = dependent.iter().map(|name| name.as_str()).collect();
        while let Some(name) = waiting.pop() {
            if let Some(at) = side.producers.get(name).filter(|at| ahead.contains(*at))
                && between.insert(*at)
            {
                waiting.extend(reads(&side.graph.node[*at]));
            }
        }
        if between.is_empty() {
            return None;
        }
        between.sort_unstable();
        let nodes = || between.iter().map(|at| &side.graph.node[*at]);
        let made: IndexSet<&str> = nodes().flat_map(results).collect();
        let read: IndexSet<&str> = nodes().flat_map(reads).collect();
        let given = read.iter().filter(|name| !made.contains(*name));
        let given: IndexSet<String> = given
            .filter(|name| side.constant(name).is_none() && side.model.graph.find(name).is_some())
            .map(|name| (*name).to_owned())
            .collect();
        let unknown = given
            .iter()
            .filter(|name| !values.contains_key(*name) && !self.values.contains_key(*name));
        let unknown: IndexSet<String> = unknown.cloned().collect();
        let fetched = match unknown.len() {
            0 => IndexMap::new(),
            _ => self.inner_values(&unknown).ok()?,
        };
        let mut graph = GraphProto { name: Some("inputs".to_owned()), ..GraphProto::default() };
        let mut inputs = IndexMap::new();
        for name in &given {
            let known = values.get(name).or_else(|| self.values.get(name));
            let tensor = known.or_else(|| fetched.get(name))?;
            let ty = TensorType::fixed(tensor.dtype(), tensor.dims());
            graph.input.push(ty.to_value_info(name));
            inputs.insert(name.clone(), tensor.clone());
        }
        graph.node = nodes().cloned().collect();
        graph.initializer = read.iter().filter_map(|name| side.constant(name).cloned()).collect();
        for name in &dependent {
            let ty = TensorType { dtype: values[*name].dtype(), shape: None };
            graph.output.push(ty.to_value_info(name));
        }
        let made = self.execute(side, graph, &inputs).ok()?;
        let mut values = values.clone();
        values.extend(made);
        Some(values)
    }
}
