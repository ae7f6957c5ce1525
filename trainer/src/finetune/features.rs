//! Finds the value that a network and its teacher are matched at besides their scores \[PRACTISE\].

use updp_ir::infer::Shapes;
use updp_ir::{Graph, Model, NodeId, ValueId, view};

/// Operators between the head and the scores.
const AFTER: [&str; 8] =
    ["Softmax", "LogSoftmax", "Identity", "Reshape", "Flatten", "Squeeze", "Cast", "Add"];

/// Operators between the last map of features and the head.
const BEFORE: [&str; 8] = [
    "GlobalAveragePool",
    "ReduceMean",
    "AveragePool",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Identity",
    "Dropout",
];

/// The matched value of both networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// Its name in the trained network.
    pub network: String,
    /// Its name in the teacher.
    pub teacher: String,
}

/// What the last linear operator of both networks reads, before it is pooled. `None` if a network ends in another way
/// or the shapes of the two values are not the same.
pub(super) fn pair(network: &Model, teacher: &Model, output: &str) -> Option<Pair> {
    let (own, own_dims) = before_head(network, output)?;
    let (wanted, wanted_dims) = before_head(teacher, output)?;
    let is_same = own_dims.len() > 1 && own_dims.get(1..) == wanted_dims.get(1..);
    is_same.then_some(Pair { network: own, teacher: wanted })
}

/// The values of these names that both networks have with the same shape.
pub(super) fn of_names(network: &Model, teacher: &Model, names: &[String]) -> Vec<Pair> {
    if names.is_empty() {
        return Vec::new();
    }
    let shapes = |model: &Model| Shapes::infer(&model.graph, model.opset("").unwrap_or(0));
    let (own, wanted) = (shapes(network), shapes(teacher));
    let dims = |model: &Model, shapes: &Shapes, name: &str| -> Option<Vec<Option<usize>>> {
        let value = model.graph.find(name)?;
        let is_inner =
            model.graph.producer(value).is_some() && !model.graph.value(value).is_output();
        let shape = shapes.of(value)?.shape.as_ref().filter(|_| is_inner)?;
        Some(shape.iter().skip(1).map(updp_ir::Dim::known).collect())
    };
    let is_same = |name: &&String| {
        let own = dims(network, &own, name);
        own.is_some_and(|own| !own.is_empty() && Some(own) == dims(teacher, &wanted, name))
    };
    let pair = |name: &String| Pair { network: name.clone(), teacher: name.clone() };
    names.iter().filter(is_same).map(pair).collect()
}

/// Name and dims of the value. An open dimension, such as the batch, has no number.
fn before_head(model: &Model, output: &str) -> Option<(String, Vec<Option<usize>>)> {
    let graph = &model.graph;
    let mut value = graph.find(output)?;
    let (head, weight_slot) = loop {
        let node = graph.producer(value)?.0;
        if let Some(slot) = weight_slot(graph, node) {
            break (node, slot);
        }
        value = behind(graph, node, &AFTER)?;
    };
    value = *graph.operands(head).get(1 - weight_slot)?.as_ref()?;
    while let Some((node, _)) = graph.producer(value)
        && let Some(before) = behind(graph, node, &BEFORE)
    {
        value = before;
    }
    let known = graph.value(value);
    // An input of the network is the same in both; an output is matched already.
    if graph.producer(value).is_none() || known.is_output() {
        return None;
    }
    let shapes = Shapes::infer(graph, model.opset("").unwrap_or(0));
    let dims = shapes.of(value)?.shape.as_ref()?.iter().map(updp_ir::Dim::known).collect();
    Some((known.name().to_owned(), dims))
}

/// The slot of the constant weight if the node is a linear operator.
fn weight_slot(graph: &Graph, node: NodeId) -> Option<usize> {
    if !["Gemm", "MatMul", "Conv"].contains(&graph.node(node).op_type()) {
        return None;
    }
    let operands = graph.operands(node);
    let is_weight = |slot: &usize| {
        operands.get(*slot).copied().flatten().is_some_and(|v| view::constant(graph, v).is_some())
    };
    [1, 0].into_iter().find(is_weight)
}

/// The operand that the node passes on, if its operator is listed and it has one such operand.
fn behind(graph: &Graph, node: NodeId, listed: &[&str]) -> Option<ValueId> {
    if !listed.contains(&graph.node(node).op_type()) {
        return None;
    }
    let operands = graph.operands(node).into_iter().flatten();
    let mut computed = operands.filter(|value| view::constant(graph, *value).is_none());
    let first = computed.next()?;
    // Sizes of a Reshape may be computed; the data come first. A sum of two computed values is a shortcut.
    let is_sum = graph.node(node).is("Add") && computed.next().is_some();
    (!is_sum).then_some(first)
}

#[cfg(test)]
mod tests {
    use updp_ir::{DataType, ModelBuilder, Node};
    use updp_testkit::{known, tensor};

    use super::*;

    /// A convolution `maps`, pooled, flattened and read by a head with a bias of its own.
    fn network(maps: &str, channels: usize, head: &str) -> Model {
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &known(&[2, 1, 4, 4]));
        let filters = tensor(DataType::Float, &[channels, 1, 1, 1], &vec![1.0; channels]);
        builder.initializer("filters", &filters);
        builder.node(Node::new("Conv"), &["x", "filters"], &["conv"]);
        builder.node(Node::new("Relu"), &["conv"], &[maps]);
        builder.node(Node::new("GlobalAveragePool"), &[maps], &["pooled"]);
        builder.node(Node::new("Flatten"), &["pooled"], &["flat"]);
        let weight = tensor(DataType::Float, &[channels, 3], &vec![0.5; 3 * channels]);
        builder.initializer("weight", &weight);
        builder.initializer("bias", &tensor(DataType::Float, &[3], &[0.0; 3]));
        builder.node(Node::new(head), &["flat", "weight"], &["product"]);
        builder.node(Node::new("Add"), &["bias", "product"], &["sum"]);
        builder.node(Node::new("Softmax").with("axis", 1_i64), &["sum"], &["y"]);
        builder.output("y", DataType::Float, Some(&known(&[2, 3])));
        builder.build().unwrap()
    }

    #[test]
    fn the_map_before_the_pooling_is_matched_under_the_name_it_has_in_each_network() {
        let (own, teacher) = (network("pruned", 2, "MatMul"), network("maps", 2, "Gemm"));
        let expected = Pair { network: "pruned".to_owned(), teacher: "maps".to_owned() };
        assert_eq!(pair(&own, &teacher, "y"), Some(expected));
    }

    #[test]
    fn values_of_another_shape_and_networks_that_end_otherwise_are_not_matched() {
        let own = network("maps", 2, "MatMul");
        assert_eq!(pair(&own, &network("maps", 3, "MatMul"), "y"), None);
        assert_eq!(pair(&own, &own, "no output"), None);
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &known(&[2, 3]));
        builder.node(Node::new("Relu"), &["x"], &["y"]);
        builder.output("y", DataType::Float, Some(&known(&[2, 3])));
        assert_eq!(pair(&builder.build().unwrap(), &own, "y"), None);
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &known(&[2, 3]));
        builder.initializer("weight", &tensor(DataType::Float, &[3, 3], &[0.5; 9]));
        builder.node(Node::new("MatMul"), &["x", "weight"], &["y"]);
        builder.output("y", DataType::Float, Some(&known(&[2, 3])));
        let linear = builder.build().unwrap();
        // The head reads the images.
        assert_eq!(pair(&linear, &linear, "y"), None);
    }
}
