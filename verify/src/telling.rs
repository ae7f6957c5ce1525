//! Whether the values of the reference can show a difference at all.
//!
//! Two models that both answer NaN, the same constant or nothing look equal whatever they compute.

use std::fmt;

use indexmap::{IndexMap, IndexSet};
use updp_ir::{Graph, Tensor, ValueId, order};

/// Why equal values of an output prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Silence {
    /// No value of the reference is finite.
    NotFinite,
    /// The reference gives one value everywhere, for every input.
    Constant,
    /// The output has no elements.
    Empty,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "the reference is not finite anywhere",
            Self::Constant => "the reference gives the same value everywhere",
            Self::Empty => "the reference gives no elements",
        })
    }
}

/// What was seen of the values of one output.
#[derive(Clone, Debug, Default)]
struct Seen {
    elements: usize,
    /// The first finite value, as bytes for what is no float.
    first: Option<Vec<u8>>,
    is_varied: bool,
}

impl Seen {
    fn add(&mut self, value: &[u8]) {
        self.elements += 1;
        match &self.first {
            None => self.first = Some(value.to_vec()),
            Some(first) => self.is_varied |= *first != value,
        }
    }

    fn add_tensor(&mut self, tensor: &Tensor) {
        if self.is_varied {
            return;
        }
        if !tensor.strings().is_empty() {
            tensor.strings().iter().for_each(|text| self.add(text));
        } else if let Some(values) =
            tensor.dtype().is_foldable_float().then(|| tensor.to_f64()).flatten()
        {
            let finite = values.iter().filter(|value| value.is_finite());
            // Both zeros are one value.
            finite.for_each(|value| self.add(&(value + 0.0).to_le_bytes()));
            self.elements = self.elements.max(usize::from(!values.is_empty()));
        } else {
            // Types smaller than a byte are packed; then bytes are compared.
            let width = (tensor.bytes().len() / tensor.len().max(1)).max(1);
            tensor.bytes().chunks(width).for_each(|value| self.add(value));
        }
    }

    fn silence(&self) -> Option<Silence> {
        match &self.first {
            _ if self.elements == 0 => Some(Silence::Empty),
            None => Some(Silence::NotFinite),
            // A single value other than zero tells as much as a number can.
            Some(first) if self.elements == 1 => {
                first.iter().all(|byte| *byte == 0).then_some(Silence::Constant)
            }
            Some(_) => (!self.is_varied).then_some(Silence::Constant),
        }
    }
}

/// The outputs of these runs whose values prove nothing. An output that depends on no input value is constant by its
/// nature, so equality proves what there is to prove.
pub(crate) fn silent_outputs<'a>(
    graph: &Graph,
    outputs: impl Iterator<Item = &'a IndexMap<String, Tensor>>,
) -> IndexMap<String, Silence> {
    let mut seen: IndexMap<&str, Seen> = IndexMap::new();
    for (name, tensor) in outputs.flatten() {
        seen.entry(name).or_default().add_tensor(tensor);
    }
    let dependent = dependent(graph);
    let depends = |name: &str| graph.find(name).is_none_or(|value| dependent.contains(&value));
    let silent = seen.into_iter().filter_map(|(name, seen)| Some((name, seen.silence()?)));
    let silent = silent.filter(|(name, why)| *why == Silence::NotFinite || depends(name));
    silent.map(|(name, why)| (name.to_owned(), why)).collect()
}

/// The values that change with the values of the inputs, not only with their shapes.
fn dependent(graph: &Graph) -> IndexSet<ValueId> {
    let mut found: IndexSet<ValueId> = graph.required_inputs().collect();
    for id in order::topological(graph).unwrap_or_else(|_| graph.nodes()) {
        let node = graph.node(id);
        if node.is("Shape") || node.is("Size") {
            continue;
        }
        let operands = graph.operands(id).into_iter().flatten().chain(graph.captures(id));
        let is_random = node.op_type().starts_with("Random");
        if is_random || operands.into_iter().any(|operand| found.contains(&operand)) {
            found.extend(graph.results(id).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(runs: &[&[f32]]) -> Option<Silence> {
        let mut seen = Seen::default();
        for values in runs {
            seen.add_tensor(&Tensor::from_f32(vec![values.len()], values).expect("well formed"));
        }
        seen.silence()
    }

    #[test]
    fn values_that_differ_tell_something() {
        assert_eq!(silence(&[&[1.0, 2.0]]), None);
        assert_eq!(silence(&[&[1.0], &[2.0]]), None);
        assert_eq!(silence(&[&[1.0, f32::NAN], &[0.5]]), None);
        assert_eq!(silence(&[&[0.5]]), None);
    }

    #[test]
    fn values_that_cannot_differ_tell_nothing() {
        assert_eq!(silence(&[&[f32::NAN, f32::INFINITY], &[f32::NAN]]), Some(Silence::NotFinite));
        assert_eq!(silence(&[&[3.0, 3.0], &[3.0]]), Some(Silence::Constant));
        assert_eq!(silence(&[&[0.0, -0.0]]), Some(Silence::Constant));
        assert_eq!(silence(&[&[0.0]]), Some(Silence::Constant));
        assert_eq!(silence(&[&[], &[]]), Some(Silence::Empty));
    }

    #[test]
    fn integers_and_texts_are_held_to_the_same() {
        let of = |values: &[i64]| {
            let mut seen = Seen::default();
            seen.add_tensor(&Tensor::from_i64(vec![values.len()], values).expect("well formed"));
            seen.silence()
        };
        assert_eq!((of(&[1, 2]), of(&[7, 7])), (None, Some(Silence::Constant)));
    }
}
