//! Attributes and results that runtimes do not check, with values on which they crash or hang.
//!
//! Only what every version of the specification forbids is refused, and only for standard operators.

use indexmap::IndexSet;

use crate::codec::Model;
use crate::error::IrError;
use crate::graph::Graph;
use crate::id::NodeId;
use crate::view;

/// Attributes whose number, or each of whose numbers, is at least 1.
const AT_LEAST_ONE: &[(&str, &[&str])] = &[
    ("AveragePool", &["kernel_shape", "strides", "dilations"]),
    ("Conv", &["group", "kernel_shape", "strides", "dilations"]),
    ("ConvInteger", &["group", "kernel_shape", "strides", "dilations"]),
    ("ConvTranspose", &["group", "kernel_shape", "strides", "dilations"]),
    ("DeformConv", &["group", "offset_group", "kernel_shape", "strides", "dilations"]),
    ("DepthToSpace", &["blocksize"]),
    ("GroupNormalization", &["num_groups"]),
    ("LRN", &["size"]),
    ("LpPool", &["kernel_shape", "strides", "dilations"]),
    ("MaxPool", &["kernel_shape", "strides", "dilations"]),
    ("MaxUnpool", &["kernel_shape", "strides"]),
    ("QLinearConv", &["group", "kernel_shape", "strides", "dilations"]),
    ("SpaceToDepth", &["blocksize"]),
    ("Split", &["num_outputs"]),
];

/// Checks the nodes of a graph and of its bodies.
///
/// # Errors
/// I0110 for an attribute, I0111 for a result.
pub(crate) fn check(model: &Model, graph: &Graph) -> Result<(), IrError> {
    let opset = model.opset("").unwrap_or(0);
    for id in graph.nodes() {
        let node = graph.node(id);
        if model.is_standard(node) && !node.has_reference_attribute() {
            numbers(graph, id)?;
            axes(graph, id)?;
            split_sizes(graph, id)?;
            results(graph, id, opset)?;
        }
        for body in node.bodies() {
            check(model, body)?;
        }
    }
    Ok(())
}

fn bad(graph: &Graph, id: NodeId, attribute: &str, detail: String) -> IrError {
    let node = graph.node(id);
    IrError::BadAttribute {
        node: node.name().to_owned(),
        op: node.op_type().to_owned(),
        attribute: attribute.to_owned(),
        detail,
    }
}

fn numbers(graph: &Graph, id: NodeId) -> Result<(), IrError> {
    let node = graph.node(id);
    let own = AT_LEAST_ONE.iter().find(|(op, _)| *op == node.op_type());
    for name in own.into_iter().flat_map(|(_, names)| *names) {
        let list = node.ints(name).unwrap_or_default();
        if let Some(small) = list.iter().chain(&node.int(name)).find(|number| **number < 1) {
            return Err(bad(graph, id, name, format!("{small} is below 1")));
        }
    }
    Ok(())
}

/// `perm` is a permutation; `axes` of an Unsqueeze differ.
fn axes(graph: &Graph, id: NodeId) -> Result<(), IrError> {
    let node = graph.node(id);
    let mut seen = IndexSet::new();
    if node.is("Transpose") {
        let perm = node.ints("perm").unwrap_or_default();
        if let Some(twice) = perm.iter().find(|axis| !seen.insert(**axis)) {
            return Err(bad(graph, id, "perm", format!("axis {twice} appears twice")));
        }
        let rank = perm.len();
        let is_axis = |axis: &i64| usize::try_from(*axis).is_ok_and(|axis| axis < rank);
        if let Some(beyond) = perm.iter().find(|axis| !is_axis(axis)) {
            let detail = format!("it moves {rank} axes, and {beyond} is none of them");
            return Err(bad(graph, id, "perm", detail));
        }
    }
    if node.is("Unsqueeze") {
        let given = graph.operand(id, 1).and_then(|axes| view::constant(graph, axes)?.to_i64());
        let axes = given.or_else(|| node.ints("axes").map(<[i64]>::to_vec)).unwrap_or_default();
        if let Some(twice) = axes.iter().find(|axis| !seen.insert(**axis)) {
            return Err(bad(graph, id, "axes", format!("axis {twice} appears twice")));
        }
    }
    Ok(())
}

/// A `SplitToSequence` into pieces of size 0 would never end.
fn split_sizes(graph: &Graph, id: NodeId) -> Result<(), IrError> {
    if !graph.node(id).is("SplitToSequence") {
        return Ok(());
    }
    let Some(split) = graph.operand(id, 1).and_then(|split| view::constant(graph, split)) else {
        return Ok(());
    };
    let least = i64::from(split.dims().is_empty());
    let sizes = split.to_i64().unwrap_or_default();
    match sizes.iter().find(|size| **size < least) {
        None => Ok(()),
        Some(size) => Err(bad(graph, id, "split", format!("{size} is no size of a piece"))),
    }
}

/// Every result of a Split, and the statistics of a BatchNormalization in training form, have names.
fn results(graph: &Graph, id: NodeId, opset: i64) -> Result<(), IrError> {
    let node = graph.node(id);
    let results = graph.results(id);
    let detail = if node.is("Split") {
        "a Split has no optional results; give it a name, also if nothing reads it"
    } else if node.is("BatchNormalization") && (opset < 14 || node.int("training_mode") == Some(1))
    {
        "more than one result makes it a training form, which needs all of them; in a trained network, leave them out"
    } else {
        return Ok(());
    };
    match results.iter().position(Option::is_none).filter(|_| results.len() > 1) {
        None => Ok(()),
        Some(slot) => Err(IrError::UnnamedResult {
            node: node.name().to_owned(),
            op: node.op_type().to_owned(),
            slot,
            detail: detail.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use crate::{DataType, Dim, ModelBuilder, Node, Tensor};

    /// The code of reading a model of one node with results `y` and more.
    fn code(opset: i64, node: Node, operands: &[&str], results: &[&str]) -> Option<&'static str> {
        let mut builder = ModelBuilder::new(opset);
        let dims = [1, 4, 9, 9].map(Dim::from);
        builder.input("x", DataType::Float, &dims);
        for (name, value) in [("zero", 0), ("one", 1), ("minus", -1)] {
            builder.initializer(name, &Tensor::from_i64(vec![], &[value]).expect("fits"));
            let list = Tensor::from_i64(vec![2], &[value, 1]).expect("fits");
            builder.initializer(&format!("{name}s"), &list);
        }
        let vector = Tensor::from_f32(vec![4], &[1.0; 4]).expect("fits");
        builder.initializer("v", &vector);
        builder.node(node.named("the node"), operands, results);
        let result = results.iter().find(|name| !name.is_empty()).expect("a result");
        builder.output(result, DataType::Float, None);
        builder.build().err().map(|error| {
            assert!(error.to_string().contains("the node"), "{error}");
            error.code()
        })
    }

    #[test]
    fn perm_is_a_permutation() {
        let transpose = |perm: &[i64]| {
            code(17, Node::new("Transpose").with("perm", perm.to_vec()), &["x"], &["y"])
        };
        for bad in [&[0, 0, 1, 2][..], &[3, 3, 3, 3], &[0, 1, 2, 4], &[0, 1, 2, -1], &[1, 1], &[1]]
        {
            assert_eq!(transpose(bad), Some("I0110"), "{bad:?}");
        }
        for good in [&[0, 1, 2, 3][..], &[3, 2, 1, 0], &[1, 0], &[]] {
            assert_eq!(transpose(good), None, "{good:?}");
        }
    }

    #[test]
    fn numbers_that_divide_are_positive() {
        for (op, attribute) in [
            ("Conv", "strides"),
            ("Conv", "dilations"),
            ("ConvTranspose", "kernel_shape"),
            ("MaxPool", "strides"),
            ("AveragePool", "kernel_shape"),
            ("LpPool", "strides"),
            ("QLinearConv", "dilations"),
        ] {
            for (list, expected) in
                [([2, 0], Some("I0110")), ([-1, 1], Some("I0110")), ([1, 2], None)]
            {
                let node = Node::new(op).with(attribute, list.to_vec());
                assert_eq!(code(17, node, &["x"], &["y"]), expected, "{op} {attribute} {list:?}");
            }
        }
        for (op, attribute) in [
            ("Conv", "group"),
            ("ConvTranspose", "group"),
            ("ConvInteger", "group"),
            ("DepthToSpace", "blocksize"),
            ("SpaceToDepth", "blocksize"),
            ("LRN", "size"),
            ("GroupNormalization", "num_groups"),
            ("Split", "num_outputs"),
        ] {
            for (number, expected) in [(0_i64, Some("I0110")), (-3, Some("I0110")), (2, None)] {
                let node = Node::new(op).with(attribute, number);
                assert_eq!(code(21, node, &["x"], &["y"]), expected, "{op} {attribute} {number}");
            }
        }
        // Nothing is known about an operator of another domain.
        let node = Node::new("Conv").in_domain("com.example").with("group", 0_i64);
        assert_eq!(code(17, node, &["x"], &["y"]), None);
    }

    #[test]
    fn axes_of_an_unsqueeze_differ() {
        for (list, expected) in [([0, 0], Some("I0110")), ([-1, -1], Some("I0110")), ([0, 1], None)]
        {
            let node = Node::new("Unsqueeze").with("axes", list.to_vec());
            assert_eq!(code(11, node, &["x"], &["y"]), expected);
        }
        let axes = |name| code(17, Node::new("Unsqueeze"), &["x", name], &["y"]);
        assert_eq!((axes("ones"), axes("zeros")), (Some("I0110"), None));
        // A reduction may name an axis twice.
        let node = Node::new("ReduceMean").with("axes", vec![1, 1]);
        assert_eq!(code(11, node, &["x"], &["y"]), None);
    }

    #[test]
    fn a_sequence_is_split_into_pieces_that_are_not_empty() {
        let split = |name| code(17, Node::new("SplitToSequence"), &["x", name], &["y"]);
        for (name, expected) in [("zero", Some("I0110")), ("minus", Some("I0110")), ("one", None)] {
            assert_eq!(split(name), expected, "{name}");
        }
        // A list of sizes may hold a zero.
        assert_eq!((split("zeros"), split("minuss")), (None, Some("I0110")));
    }

    #[test]
    fn results_that_runtimes_need_have_names() {
        let split = |results: &[&str]| code(13, Node::new("Split"), &["x"], results);
        assert_eq!(split(&["y", ""]), Some("I0111"));
        assert_eq!(split(&["", "y"]), Some("I0111"));
        assert_eq!(split(&["y", "z"]), None);
        let operands = ["x", "v", "v", "v", "v"];
        let norm = |opset, training, results: &[&str]| {
            let node = Node::new("BatchNormalization");
            let node = if training { node.with("training_mode", 1_i64) } else { node };
            code(opset, node, &operands, results)
        };
        assert_eq!(norm(9, false, &["y", "", "", "", ""]), Some("I0111"));
        assert_eq!(norm(9, false, &["y", "a", "b", "c", ""]), Some("I0111"));
        assert_eq!(norm(9, false, &["y"]), None);
        assert_eq!(norm(9, false, &["y", "a", "b", "c", "d"]), None);
        assert_eq!(norm(15, true, &["y", "", ""]), Some("I0111"));
        assert_eq!(norm(15, true, &["y", "a", "b"]), None);
        // Optional results stay optional.
        assert_eq!(code(17, Node::new("MaxPool"), &["x"], &["y", ""]), None);
        assert_eq!(code(17, Node::new("Dropout"), &["x"], &["y", ""]), None);
    }
}
