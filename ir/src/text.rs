//! Readable forms of a model: text for snapshots and `inspect --text`, DOT, JSON.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::codec::Model;
use crate::dtype::DataType;
use crate::graph::Graph;
use crate::id::{NodeId, ValueId};
use crate::node::Node;
use crate::order;
use crate::proto::{AttributeProto, TensorProto, attribute_proto::AttributeType};
use crate::tensor::Tensor;
use crate::value::Origin;

/// Tensors with at most this many elements are written out.
const SHOWN_ELEMENTS: usize = 8;

/// The model as text: header, then the main graph.
#[must_use]
pub fn to_text(model: &Model) -> String {
    let mut out = String::new();
    let opsets: Vec<String> = model
        .opsets()
        .map(|(domain, version)| {
            let domain = if domain.is_empty() { "ai.onnx" } else { domain };
            format!("{domain} {version}")
        })
        .collect();
    let (producer, version) = model.producer();
    let _ = writeln!(out, "model ir {}, opset {}", model.ir_version(), opsets.join(", "));
    if !producer.is_empty() {
        let _ = writeln!(out, "producer {producer} {version}");
    }
    for (domain, name) in model.functions() {
        let _ = writeln!(out, "function {domain}::{name}");
    }
    out.push_str(&to_graph_text(&model.graph));
    out
}

/// A graph as text, with nodes in topological order (in file order if there is a cycle).
#[must_use]
pub fn to_graph_text(graph: &Graph) -> String {
    let mut out = String::new();
    write_graph(&mut out, graph, 0);
    out
}

fn write_graph(out: &mut String, graph: &Graph, depth: usize) {
    let pad = "  ".repeat(depth);
    let _ = writeln!(out, "{pad}graph {} {{", graph.name());
    for id in graph.inputs() {
        let note = match graph.value(id).origin() {
            Origin::Initializer { .. } => " (has a default)",
            _ => "",
        };
        let _ = writeln!(out, "{pad}  input {}{note}", typed(graph, id));
    }
    for id in graph.initializers() {
        let _ = writeln!(out, "{pad}  init {}", constant(graph, id));
    }
    for id in sorted_nodes(graph) {
        write_node(out, graph, id, depth + 1);
    }
    for id in graph.outputs() {
        let _ = writeln!(out, "{pad}  output {}", typed(graph, id));
    }
    let _ = writeln!(out, "{pad}}}");
}

fn sorted_nodes(graph: &Graph) -> Vec<NodeId> {
    order::topological(graph).unwrap_or_else(|_| graph.nodes())
}

fn write_node(out: &mut String, graph: &Graph, id: NodeId, depth: usize) {
    let pad = "  ".repeat(depth);
    let node = graph.node(id);
    let domain =
        if node.domain().is_empty() { String::new() } else { format!("{}::", node.domain()) };
    let _ = write!(
        out,
        "{pad}{} = {domain}{}({})",
        names(graph, graph.results(id)),
        node.op_type(),
        names(graph, graph.operands(id))
    );
    let attributes: Vec<String> = node
        .proto
        .attribute
        .iter()
        .map(|attribute| format!("{}={}", attribute.name(), attribute_text(attribute)))
        .collect();
    if !attributes.is_empty() {
        let _ = write!(out, " {{{}}}", attributes.join(", "));
    }
    if node.name().is_empty() {
        out.push('\n');
    } else {
        let _ = writeln!(out, "  # {}", node.name());
    }
    for body in node.bodies() {
        write_graph(out, body, depth + 1);
    }
}

fn names(graph: &Graph, slots: Vec<Option<ValueId>>) -> String {
    let names: Vec<&str> =
        slots.into_iter().map(|slot| slot.map_or("-", |v| graph.value(v).name())).collect();
    names.join(", ")
}

fn typed(graph: &Graph, id: ValueId) -> String {
    let value = graph.value(id);
    value.declared().map_or_else(|| value.name().to_owned(), |ty| format!("{}: {ty}", value.name()))
}

fn constant(graph: &Graph, id: ValueId) -> String {
    let value = graph.value(id);
    match value.tensor() {
        Some(tensor) => format!("{}: {}", value.name(), tensor_text(tensor)),
        None => format!("{}: sparse", value.name()),
    }
}

fn tensor_text(tensor: &Tensor) -> String {
    let dims: Vec<String> = tensor.dims().iter().map(ToString::to_string).collect();
    let mut text = format!("{}[{}]", tensor.dtype(), dims.join(","));
    if tensor.len() <= SHOWN_ELEMENTS {
        let elements = match tensor.to_i64() {
            Some(values) => Some(values.iter().map(ToString::to_string).collect::<Vec<_>>()),
            None => tensor.to_f64().map(|v| v.iter().map(ToString::to_string).collect()),
        };
        if let Some(elements) = elements {
            let _ = write!(text, " = {}", elements.join(" "));
        }
    }
    text
}

fn proto_text(proto: &TensorProto) -> String {
    Tensor::from_proto(proto.clone(), None).map_or_else(
        |_| format!("{}{:?}", DataType::from_code(proto.data_type()), proto.dims),
        |tensor| tensor_text(&tensor),
    )
}

fn attribute_text(attribute: &AttributeProto) -> String {
    if let Some(reference) = &attribute.ref_attr_name {
        return format!("@{reference}");
    }
    match attribute.r#type() {
        AttributeType::Float => attribute.f().to_string(),
        AttributeType::Int => attribute.i().to_string(),
        AttributeType::String => format!("{:?}", String::from_utf8_lossy(attribute.s())),
        AttributeType::Floats => format!("{:?}", attribute.floats),
        AttributeType::Ints => format!("{:?}", attribute.ints),
        AttributeType::Strings => {
            let strings: Vec<_> =
                attribute.strings.iter().map(|s| String::from_utf8_lossy(s)).collect();
            format!("{strings:?}")
        }
        AttributeType::Tensor => attribute.t.as_ref().map_or_else(String::new, proto_text),
        AttributeType::Graph | AttributeType::Graphs => "(below)".to_owned(),
        other => format!("<{}>", other.as_str_name().to_lowercase()),
    }
}

/// The graph in DOT, for Graphviz: one box per node, one edge per reading; constants are left out.
#[must_use]
pub fn to_dot(graph: &Graph) -> String {
    let mut out =
        String::from("digraph model {\n  rankdir=TB;\n  node [shape=box, fontsize=10];\n");
    let nodes = sorted_nodes(graph);
    let place = |id: NodeId| nodes.iter().position(|node| *node == id);
    let quote = |text: &str| format!("{text:?}");
    for id in graph.inputs().filter(|id| graph.value(*id).origin() == Origin::Input) {
        let name = graph.value(id).name();
        let _ = writeln!(out, "  {} [shape=ellipse];", quote(&format!("in:{name}")));
    }
    for (at, id) in nodes.iter().enumerate() {
        let node: &Node = graph.node(*id);
        let label = if node.name().is_empty() {
            node.op_type().to_owned()
        } else {
            format!("{}\n{}", node.op_type(), node.name())
        };
        let _ = writeln!(out, "  n{at} [label={}];", quote(&label));
        for operand in graph.operands(*id).into_iter().flatten() {
            let name = graph.value(operand).name();
            if let Some(from) = graph.producer(operand).and_then(|(node, _)| place(node)) {
                let _ = writeln!(out, "  n{from} -> n{at} [label={}, fontsize=8];", quote(name));
            } else if graph.value(operand).origin() == Origin::Input {
                let _ = writeln!(out, "  {} -> n{at};", quote(&format!("in:{name}")));
            }
        }
    }
    for id in graph.outputs() {
        let name = quote(&format!("out:{}", graph.value(id).name()));
        let _ = writeln!(out, "  {name} [shape=ellipse];");
        if let Some(from) = graph.producer(id).and_then(|(node, _)| place(node)) {
            let _ = writeln!(out, "  n{from} -> {name};");
        }
    }
    out.push_str("}\n");
    out
}

/// The model as JSON: header, inputs, outputs, initializers (dtype and dims) and nodes.
#[must_use]
pub fn to_json(model: &Model) -> Json {
    let (producer, version) = model.producer();
    json!({
        "ir_version": model.ir_version(),
        "opsets": model
            .opsets()
            .map(|(domain, version)| json!({ "domain": domain, "version": version }))
            .collect::<Vec<_>>(),
        "producer": { "name": producer, "version": version },
        "metadata": model
            .metadata()
            .map(|(key, value)| json!({ "key": key, "value": value }))
            .collect::<Vec<_>>(),
        "functions": model
            .functions()
            .map(|(domain, name)| json!({ "domain": domain, "name": name }))
            .collect::<Vec<_>>(),
        "graph": graph_json(&model.graph),
    })
}

fn graph_json(graph: &Graph) -> Json {
    let value = |id: ValueId| {
        let value = graph.value(id);
        json!({ "name": value.name(), "type": value.declared().map(ToString::to_string) })
    };
    let slots = |slots: Vec<Option<ValueId>>| -> Vec<Json> {
        slots.into_iter().map(|slot| json!(slot.map(|v| graph.value(v).name()))).collect()
    };
    let nodes: Vec<Json> = sorted_nodes(graph)
        .into_iter()
        .map(|id| {
            let node = graph.node(id);
            let attributes: serde_json::Map<String, Json> = node
                .proto
                .attribute
                .iter()
                .map(|a| (a.name().to_owned(), json!(attribute_text(a))))
                .collect();
            json!({
                "name": node.name(),
                "op_type": node.op_type(),
                "domain": node.domain(),
                "operands": slots(graph.operands(id)),
                "results": slots(graph.results(id)),
                "attributes": attributes,
                "bodies": node.bodies().map(graph_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    let initializers: Vec<Json> = graph
        .initializers()
        .map(|id| {
            let value = graph.value(id);
            let tensor = value.tensor();
            json!({
                "name": value.name(),
                "dtype": tensor.map(|t| t.dtype().to_string()),
                "dims": tensor.map(Tensor::dims),
            })
        })
        .collect();
    json!({
        "name": graph.name(),
        "inputs": graph.inputs().map(value).collect::<Vec<_>>(),
        "outputs": graph.outputs().map(value).collect::<Vec<_>>(),
        "initializers": initializers,
        "nodes": nodes,
    })
}
