//! Node types of every network in every dialect against the table of real exports; parameters;
//! determinism.

use std::collections::BTreeMap;

use updp_ir::{DataPlacement, Model};
use updp_zoo::{Dialect, Network, Options};

/// Network, trainable parameters, and the node types
/// of legacy 17 eval, legacy 17 preserve and dynamo 18.
const TABLE: [(Network, usize, [&str; 3]); 12] = [
    (
        Network::ResNet18,
        11_689_512,
        [
            "Conv 20, Relu 17, Add 8, MaxPool 1, GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Conv 20, BatchNormalization 20, Relu 17, Add 8, MaxPool 1, GlobalAveragePool 1, \
             Flatten 1, Gemm 1",
            "Conv 20, Relu 17, Add 8, MaxPool 1, ReduceMean 1, Reshape 1, Gemm 1",
        ],
    ),
    (
        Network::ResNet34,
        21_797_672,
        [
            "Conv 36, Relu 33, Add 16, MaxPool 1, GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Conv 36, BatchNormalization 36, Relu 33, Add 16, MaxPool 1, GlobalAveragePool 1, \
             Flatten 1, Gemm 1",
            "Conv 36, Relu 33, Add 16, MaxPool 1, ReduceMean 1, Reshape 1, Gemm 1",
        ],
    ),
    (
        Network::MobileNetV2,
        3_504_872,
        [
            "Constant 70, Conv 52, Clip 35, Add 10, GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Constant 70, Conv 52, BatchNormalization 52, Clip 35, Add 10, GlobalAveragePool \
             1, Flatten 1, Gemm 1",
            "Conv 52, Clip 35, Add 10, ReduceMean 1, Reshape 1, Gemm 1",
        ],
    ),
    (
        Network::MobileNetV2Timm100,
        3_504_872,
        [
            "Constant 70, Conv 52, Clip 35, Add 10, GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Constant 70, Conv 52, BatchNormalization 52, Clip 35, Add 10, GlobalAveragePool \
             1, Flatten 1, Gemm 1",
            "Conv 52, Clip 35, Add 10, ReduceMean 1, Reshape 1, Gemm 1",
        ],
    ),
    (
        Network::MobileNetV2Timm140,
        6_108_776,
        [
            "Constant 70, Conv 52, Clip 35, Add 10, GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Constant 70, Conv 52, BatchNormalization 52, Clip 35, Add 10, GlobalAveragePool \
             1, Flatten 1, Gemm 1",
            "Conv 52, Clip 35, Add 10, ReduceMean 1, Reshape 1, Gemm 1",
        ],
    ),
    (
        Network::Vgg11Bn,
        132_868_840,
        [
            "Relu 10, Conv 8, MaxPool 5, Gemm 3, AveragePool 1, Flatten 1",
            "Relu 10, Conv 8, BatchNormalization 8, MaxPool 5, Gemm 3, AveragePool 1, Flatten \
             1",
            "Relu 10, Conv 8, MaxPool 5, Gemm 3, AveragePool 1, Reshape 1",
        ],
    ),
    (
        Network::ConvNextTiny,
        28_589_128,
        [
            "Add 72, Constant 54, Mul 54, Transpose 46, MatMul 36, LayerNormalization 23, \
             Conv 22, Div 18, Erf 18, GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Transpose 82, Add 72, Constant 54, Mul 54, MatMul 36, LayerNormalization 23, \
             Conv 22, Div 18, Erf 18, GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Add 72, Mul 54, Transpose 46, MatMul 36, LayerNormalization 23, Conv 22, Div 18, \
             Erf 18, Reshape 2, ReduceMean 1, Gather 1, Gemm 1",
        ],
    ),
    (
        Network::ConvNextTinyTimm,
        28_589_128,
        [
            "Add 72, Constant 54, Mul 54, Transpose 46, MatMul 36, LayerNormalization 23, \
             Conv 22, Div 18, Erf 18, GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Transpose 82, Add 72, Constant 72, Mul 54, MatMul 36, LayerNormalization 23, \
             Conv 22, Div 18, Erf 18, Reshape 18, GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Add 72, Mul 54, Transpose 46, MatMul 36, LayerNormalization 23, Conv 22, Div 18, \
             Erf 18, Reshape 2, ReduceMean 1, Gather 1, Gemm 1",
        ],
    ),
    (
        Network::DeitTiny,
        5_717_416,
        [
            "Constant 152, Add 85, MatMul 72, Mul 49, Transpose 37, Squeeze 36, Sqrt 36, \
             Reshape 25, LayerNormalization 25, Cast 24, Div 24, Shape 13, Slice 13, Split \
             12, Softmax 12, Erf 12, Concat 2, Conv 1, ConstantOfShape 1, Equal 1, Where 1, \
             Expand 1, Gather 1, Gemm 1",
            "Constant 255, Unsqueeze 99, Transpose 85, Add 85, MatMul 72, Mul 49, Squeeze 36, \
             Sqrt 36, Concat 27, Reshape 26, LayerNormalization 25, Cast 24, Div 24, Shape \
             14, Slice 13, Split 12, Softmax 12, Erf 12, Conv 1, ConstantOfShape 1, Equal 1, \
             Where 1, Expand 1, Gather 1, Gemm 1",
            "Add 85, MatMul 72, Reshape 49, Mul 48, Transpose 37, Slice 36, Squeeze 36, \
             LayerNormalization 25, Softmax 12, Div 12, Erf 12, Conv 1, Concat 1, Gather 1, \
             Gemm 1",
        ],
    ),
    (
        Network::DeitSmall,
        22_050_664,
        [
            "Constant 152, Add 85, MatMul 72, Mul 49, Transpose 37, Squeeze 36, Sqrt 36, \
             Reshape 25, LayerNormalization 25, Cast 24, Div 24, Shape 13, Slice 13, Split \
             12, Softmax 12, Erf 12, Concat 2, Conv 1, ConstantOfShape 1, Equal 1, Where 1, \
             Expand 1, Gather 1, Gemm 1",
            "Constant 256, Unsqueeze 99, Transpose 85, Add 85, MatMul 72, Mul 49, Squeeze 36, \
             Sqrt 36, Concat 27, Reshape 26, LayerNormalization 25, Cast 24, Div 24, Shape \
             14, Slice 13, Split 12, Softmax 12, Erf 12, Conv 1, ConstantOfShape 1, Equal 1, \
             Where 1, Expand 1, Gather 1, Gemm 1",
            "Add 85, MatMul 72, Reshape 49, Mul 48, Transpose 37, Slice 36, Squeeze 36, \
             LayerNormalization 25, Softmax 12, Div 12, Erf 12, Conv 1, Concat 1, Gather 1, \
             Gemm 1",
        ],
    ),
    (
        Network::RepVggA0,
        9_108_968,
        [
            "Conv 44, Add 39, Relu 22, BatchNormalization 17, GlobalAveragePool 1, Flatten 1, \
             Gemm 1",
            "BatchNormalization 61, Conv 44, Add 39, Relu 22, GlobalAveragePool 1, Flatten 1, \
             Gemm 1",
            "Conv 44, Add 39, Relu 22, BatchNormalization 17, ReduceMean 1, Reshape 1, Gemm 1",
        ],
    ),
    (
        Network::MobileOneS0,
        5_293_272,
        [
            "Add 212, Conv 191, Relu 43, BatchNormalization 35, Constant 29, \
             GlobalAveragePool 1, Flatten 1, Gemm 1",
            "BatchNormalization 226, Add 212, Conv 191, Relu 43, Constant 29, \
             GlobalAveragePool 1, Flatten 1, Gemm 1",
            "Conv 191, Add 183, Relu 43, BatchNormalization 35, ReduceMean 1, Reshape 1, Gemm \
             1",
        ],
    ),
];

/// Nodes of each dialect, which a slip in the table above would not equal.
const TOTALS: [(Network, [usize; 3]); 12] = [
    (Network::ResNet18, [49, 69, 49]),
    (Network::ResNet34, [89, 125, 89]),
    (Network::MobileNetV2, [170, 222, 100]),
    (Network::MobileNetV2Timm100, [170, 222, 100]),
    (Network::MobileNetV2Timm140, [170, 222, 100]),
    (Network::Vgg11Bn, [28, 36, 28]),
    (Network::ConvNextTiny, [346, 382, 294]),
    (Network::ConvNextTinyTimm, [346, 418, 294]),
    (Network::DeitTiny, [636, 913, 428]),
    (Network::DeitSmall, [636, 914, 428]),
    (Network::RepVggA0, [125, 169, 125]),
    (Network::MobileOneS0, [513, 704, 455]),
];

const TABLE_DIALECTS: [Dialect; 3] =
    [Dialect::LegacyEval, Dialect::LegacyPreserve, Dialect::Dynamo];

fn build(network: Network, options: &Options) -> Model {
    network.build(options).expect("the zoo writes valid models")
}

fn node_types(model: &Model) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for id in model.graph.nodes() {
        *counts.entry(model.graph.node(id).op_type().to_owned()).or_default() += 1;
    }
    counts
}

fn parse(row: &str) -> BTreeMap<String, usize> {
    row.split(", ")
        .map(|entry| {
            let (op, count) = entry.split_once(' ').expect("an operator and its count");
            (op.to_owned(), count.parse().expect("a count"))
        })
        .collect()
}

#[test]
fn node_types_equal_those_of_real_exports() {
    for ((network, _, rows), (same, totals)) in TABLE.into_iter().zip(TOTALS) {
        assert_eq!(network, same);
        for ((row, dialect), total) in rows.into_iter().zip(TABLE_DIALECTS).zip(totals) {
            let name = format!("{} {}", network.name(), dialect.name());
            let counts = node_types(&build(network, &Options::new(dialect)));
            assert_eq!(counts, parse(row), "{name}");
            assert_eq!(counts.values().sum::<usize>(), total, "{name}");
        }
    }
}

#[test]
fn parameters_are_those_of_the_real_networks() {
    for (network, expected, _) in TABLE {
        let model = build(network, &Options::new(Dialect::LegacyPreserve));
        let values = model.graph.initializers().map(|id| model.graph.value(id));
        let trainable = values.filter(|value| !value.name().contains(".running_"));
        let count: usize =
            trainable.filter_map(|value| value.tensor()).map(updp_ir::Tensor::len).sum();
        assert_eq!(count, expected, "{}", network.name());
    }
}

#[test]
fn keeps_batch_norm_where_the_dialect_says_so() {
    for network in Network::ALL.into_iter().filter(|network| network.has_batch_norm()) {
        let counts = |dialect| node_types(&build(network, &Options::new(dialect)));
        let (kept, folded) = (counts(Dialect::DynamoBn), counts(Dialect::Dynamo));
        let added = kept["BatchNormalization"] - folded.get("BatchNormalization").unwrap_or(&0);
        assert_eq!(added, kept["Conv"], "{}", network.name());
        let total = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>();
        assert_eq!(total(&kept), total(&folded) + added, "{}", network.name());
    }
}

fn bytes(network: Network, seed: u64) -> Vec<u8> {
    let options = Options { seed, ..Options::new(Dialect::LegacyEval) };
    let encoded = build(network, &options).encode(&DataPlacement::Inline);
    encoded.expect("an inline model below 2 GB").model_to_bytes().to_vec()
}

#[test]
fn same_seed_gives_same_bytes_and_another_seed_others() {
    for network in [Network::ResNet18, Network::DeitTiny, Network::MobileOneS0] {
        let first = bytes(network, 7);
        assert!(first == bytes(network, 7), "{}", network.name());
        assert!(first != bytes(network, 8), "{}", network.name());
    }
}

#[test]
fn a_dynamic_batch_adds_shape_arithmetic_to_transformers_only() {
    for network in Network::ALL {
        for dialect in network.dialects() {
            let options = Options::new(dialect);
            let fixed = node_types(&build(network, &options));
            let symbolic = node_types(&build(network, &Options { dynamic: true, ..options }));
            let is_deit = matches!(network, Network::DeitTiny | Network::DeitSmall);
            let has_table = fixed.contains_key("Gather") && !is_deit;
            assert_eq!(fixed != symbolic, is_deit || has_table, "{}", network.name());
        }
    }
}
