//! Cuts a part out of a model, as a model of its own.

use indexmap::IndexSet;

use super::Model;
use super::decode::no_external_data;
use crate::error::IrError;
use crate::id::ValueId;
use crate::infer::Shapes;
use crate::proto::{GraphProto, ModelProto, NodeProto};
use crate::value::Origin;

impl Model {
    /// The part of the main graph that makes `outputs` from `inputs`, as a model of its own. Other graph inputs
    /// that the part reads (for example for an exporter's shape arithmetic) stay inputs. Tensors are shared, not
    /// copied.
    ///
    /// A node may stand on both sides: one of its results is an input, and the part needs another one (Split). The
    /// part then holds the node, and its result that is an input gets another name, under which nothing reads it.
    ///
    /// `shapes` gives the types of the new inputs and outputs.
    ///
    /// # Errors
    /// I0303 for a stale handle, I0112 for a value without a known tensor type; the errors of reading the part.
    pub fn extract(
        &self,
        shapes: &Shapes,
        inputs: &[ValueId],
        outputs: &[ValueId],
    ) -> Result<Self, IrError> {
        let graph = &self.graph;
        let mut nodes = IndexSet::new();
        let mut initializers = IndexSet::new();
        let mut extra = IndexSet::new();
        let mut pending: Vec<ValueId> = outputs.to_vec();
        while let Some(value) = pending.pop() {
            if inputs.contains(&value) {
                continue;
            }
            let known = graph.get_value(value).ok_or(IrError::StaleId)?;
            match (known.origin(), graph.producer(value)) {
                (_, Some((node, _))) => {
                    if nodes.insert(node) {
                        pending.extend(graph.operands(node).into_iter().flatten());
                        pending.extend(graph.captures(node));
                    }
                }
                (Origin::Initializer { .. }, None) => {
                    initializers.insert(known.name().to_owned());
                }
                (_, None) => {
                    extra.insert(value);
                }
            }
        }
        let info = |value: ValueId| {
            let name = graph.get_value(value).ok_or(IrError::StaleId)?.name();
            let unknown = || IrError::UnknownType { value: name.to_owned() };
            Ok::<_, IrError>(shapes.of(value).ok_or_else(unknown)?.to_value_info(name))
        };
        let made: IndexSet<&str> = nodes
            .iter()
            .flat_map(|node| graph.results(*node))
            .flatten()
            .map(|value| graph.value(value).name())
            .collect();
        let mut proto = self.to_proto()?;
        let whole = proto.graph.take().unwrap_or_default();
        let given: IndexSet<&str> =
            inputs.iter().chain(&extra).map(|value| graph.value(*value).name()).collect();
        let names = graph.pool.detached();
        let mut kept: Vec<NodeProto> = whole
            .node
            .into_iter()
            .filter(|node| node.output.iter().any(|name| made.contains(name.as_str())))
            .collect();
        for name in kept.iter_mut().flat_map(|node| &mut node.output) {
            if given.contains(name.as_str()) {
                *name = names.fresh(&format!("{name}_again"));
            }
        }
        let part = GraphProto {
            name: whole.name.clone(),
            node: kept,
            sparse_initializer: whole
                .sparse_initializer
                .into_iter()
                .filter(|sparse| {
                    sparse.values.as_ref().is_some_and(|v| initializers.contains(v.name()))
                })
                .collect(),
            initializer: whole
                .initializer
                .into_iter()
                .filter(|tensor| initializers.contains(tensor.name()))
                .collect(),
            input: inputs.iter().chain(&extra).map(|v| info(*v)).collect::<Result<_, _>>()?,
            output: outputs.iter().map(|v| info(*v)).collect::<Result<_, _>>()?,
            ..GraphProto::default()
        };
        // Below IR 4, every initializer is also listed among the inputs.
        let mut part = part;
        if proto.ir_version() < 4 {
            for tensor in &part.initializer {
                let listed = whole.input.iter().find(|input| input.name() == tensor.name());
                part.input.extend(listed.cloned());
            }
        }
        Self::from_proto(ModelProto { graph: Some(part), ..proto }, &mut no_external_data)
    }
}

#[cfg(test)]
mod tests {
    use crate::infer::Shapes;
    use crate::{DataType, Dim, ModelBuilder, Node, Tensor};

    #[test]
    fn cuts_out_what_lies_between_two_values() {
        let mut builder = ModelBuilder::new(17);
        let dims = [Dim::from("batch"), Dim::from(4)];
        builder.input("x", DataType::Float, &dims).output("y", DataType::Float, Some(&dims));
        let weight = Tensor::from_f32(vec![4], &[1.0, 2.0, 3.0, 4.0]).expect("fits");
        builder.initializer("w", &weight).initializer("v", &weight);
        builder.node(Node::new("Mul"), &["x", "w"], &["a"]);
        builder.node(Node::new("Relu"), &["a"], &["b"]);
        builder.node(Node::new("Add"), &["b", "v"], &["y"]);
        let model = builder.build().expect("well formed");
        let shapes = Shapes::infer(&model.graph, 17);
        let find = |name| model.graph.find(name).expect("there");
        let part = model.extract(&shapes, &[find("a")], &[find("y")]).expect("cut");
        assert_eq!(part.graph.node_count(), 2);
        assert_eq!(part.graph.required_inputs().count(), 1);
        assert_eq!(part.graph.initializers().count(), 1);
        part.validate().expect("valid");
        let input = part.graph.required_inputs().next().expect("one");
        assert_eq!(
            part.graph.value(input).declared().map(ToString::to_string).as_deref(),
            Some("f32[batch,4]")
        );
    }
    /// `x → Relu → Split → (a, b, c)`, `y = Concat(a, Relu(b), c)`.
    fn split() -> crate::Model {
        let mut builder = ModelBuilder::new(17);
        let dims = [Dim::from("batch"), Dim::from(6)];
        builder.input("x", DataType::Float, &dims).output("y", DataType::Float, Some(&dims));
        builder.node(Node::new("Relu"), &["x"], &["r"]);
        builder.node(Node::new("Split").with("axis", 1_i64), &["r"], &["a", "b", "c"]);
        builder.node(Node::new("Relu"), &["b"], &["b_again"]);
        builder.node(Node::new("Concat").with("axis", 1_i64), &["a", "b_again", "c"], &["y"]);
        builder.build().expect("well formed")
    }

    #[test]
    fn a_node_with_results_on_both_sides_stands_in_the_part() {
        let model = split();
        let shapes = Shapes::infer(&model.graph, 17);
        let find = |name| model.graph.find(name).expect("there");
        for given in [&["a"][..], &["b"], &["c"], &["a", "c"], &["b", "c"]] {
            let inputs: Vec<_> = given.iter().map(|name| find(name)).collect();
            let part = model.extract(&shapes, &inputs, &[find("y")]).expect("cut");
            part.validate().expect("valid");
            assert_eq!(part.graph.node_count(), 4, "{given:?}");
            // The result that is given is made once more under a name that nothing reads.
            for name in given {
                let value = part.graph.find(name).expect("an input");
                assert!(part.graph.producer(value).is_none());
                assert!(part.graph.is_read(value));
            }
            let inputs = part.graph.required_inputs().count();
            assert_eq!(inputs, given.len() + 1, "{given:?}");
        }
        let all = ["a", "b", "c"].map(find);
        let part = model.extract(&shapes, &all, &[find("y")]).expect("cut");
        assert_eq!((part.graph.node_count(), part.graph.required_inputs().count()), (2, 3));
    }

    #[test]
    fn a_value_without_a_known_type_is_named() {
        let mut builder = ModelBuilder::new(17);
        let dims = [Dim::from("batch"), Dim::from(6)];
        builder.input("x", DataType::Float, &dims).output("y", DataType::Float, Some(&dims));
        builder.opset("com.example", 1);
        builder.node(Node::new("Odd").in_domain("com.example"), &["x"], &["a"]);
        builder.node(Node::new("Relu"), &["a"], &["y"]);
        let model = builder.build().expect("well formed");
        let shapes = Shapes::infer(&model.graph, 17);
        let find = |name| model.graph.find(name).expect("there");
        let error = model.extract(&shapes, &[find("a")], &[find("y")]).expect_err("unknown");
        assert_eq!(error.code(), "I0112");
        assert!(error.to_string().contains("\"a\""), "{error}");
    }
}
