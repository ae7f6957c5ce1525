//! Names of blocks for people: the module that a block comes from, as far as the file shows it.

use super::{Block, Element};
use crate::lift::Linear;
use crate::rule::{Context, describe};

/// The common path of the block's nodes if modules name them, otherwise of its parameters, otherwise the
/// name of its first weighted operator.
pub(super) fn of(cx: &Context<'_>, block: &Block) -> String {
    let graph = cx.graph;
    let mut parameters = Vec::new();
    let mut nodes = Vec::new();
    for node in &block.nodes {
        let known = graph.node(*node);
        let values = graph.operands(*node).into_iter().flatten();
        let own = values.filter(|value| graph.constant_initializer(*value).is_some());
        // Exporters name values that they computed themselves `onnx::Conv_180`, `val_12` or after a node.
        let is_path = |name: &&str| name.contains('.') && !name.contains(['/', ':']);
        parameters.extend(own.map(|v| graph.value(v).name()).filter(is_path));
        if matches!(known.op_type(), "Conv" | "MatMul" | "Gemm") {
            nodes.push(known.name());
        }
    }
    // A bias made by a fold has the name of a node; the weights keep their names.
    let weights: Vec<&str> =
        parameters.iter().copied().filter(|name| name.ends_with(".weight")).collect();
    let modules = common(&nodes, '/').map(|path| modules(&path));
    let paths = [modules, common(&weights, '.'), common(&parameters, '.')];
    let first = block.branch.iter().find_map(Element::linear).map(Linear::main);
    let fallback = || match first {
        Some(node) => describe(graph, node),
        None => graph.value(block.result).name().to_owned(),
    };
    paths.into_iter().flatten().next().unwrap_or_else(fallback)
}

/// The module path in a node name from torch's older exporter: `layer1/layer1.0` is `layer1.0`.
fn modules(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        let is_child = |last: &&str| part.strip_prefix(*last).is_some_and(|p| p.starts_with('.'));
        if parts.last().is_some_and(is_child) {
            parts.pop();
        }
        parts.push(part);
    }
    parts.join(".")
}

/// The common leading segments of all names, without a separator at the end.
fn common(names: &[&str], separator: char) -> Option<String> {
    let (first, rest) = names.split_first()?;
    let mut shared: Vec<&str> = first.split(separator).collect();
    shared.pop();
    for name in rest {
        let own = name.split(separator);
        let same = shared.iter().zip(own).take_while(|(a, b)| **a == *b).count();
        shared.truncate(same);
    }
    let path = shared.join(&separator.to_string());
    let path = path.trim_matches(separator);
    (!path.is_empty()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::common;

    #[test]
    fn a_common_path_ends_before_the_first_difference() {
        let names = ["layer1.0.conv1.weight", "layer1.0.conv2.bias"];
        assert_eq!(common(&names, '.').as_deref(), Some("layer1.0"));
        assert_eq!(
            common(&["/layer1/layer1.0/conv1/Conv"], '/').as_deref(),
            Some("layer1/layer1.0/conv1")
        );
        assert_eq!(common(&["conv1.weight", "conv2.weight"], '.'), None);
        assert_eq!(common(&[], '.'), None);
        assert_eq!(super::modules("stages/stages.0/blocks/blocks.1"), "stages.0.blocks.1");
    }
}
