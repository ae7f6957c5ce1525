//! The check against deployment targets, and the files for other runners.

use std::path::Path;
use std::process::{Command, Output};

use onnx_protobuf::TensorProto;
use protobuf::Message;
use updp_compile::cli::TargetChoice;
use updp_compile::deploy::{Severity, check};
use updp_ir::{DataType, Model, Node, Tensor};
use updp_testkit::{Micro, Val, conv, encode, find_ort, pool, read_model, skip};

use crate::fixtures::folder;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_updp-compile")).args(arguments).output().expect("it starts")
}

/// Rules found, with how bad they are.
fn found(model: &Model, target: TargetChoice) -> Vec<(Severity, String)> {
    check(model, target).into_iter().map(|f| (f.severity, f.rule)).collect()
}

fn micro(build: impl FnOnce(&mut Micro, &Val) -> Val) -> Model {
    let mut m = Micro::new(601).batch(2);
    let x = m.input("x", &[4, 8, 8]);
    let y = build(&mut m, &x);
    m.output(&y);
    m.build()
}

fn ints(m: &mut Micro, name: &str, values: &[i64]) -> String {
    m.constant(name, &Tensor::from_i64(vec![values.len()], values).expect("fits"))
}

#[test]
fn a_plain_network_passes_everywhere() {
    let model = micro(|m, x| {
        let y = m.conv(x, &conv(4).kernel(3).pad(1));
        let y = m.unary("Relu", &y);
        m.average_pool(&y, pool(2))
    });
    for target in [TargetChoice::Ort, TargetChoice::Tensorrt, TargetChoice::Migraphx] {
        assert_eq!(found(&model, target), [], "{target:?}");
    }
}

#[test]
fn operators_a_target_lacks_are_errors_there_only() {
    let model = micro(|m, x| m.unary("Mish", x));
    assert_eq!(found(&model, TargetChoice::Migraphx), [(Severity::Error, "operator".into())]);
    assert_eq!(found(&model, TargetChoice::Tensorrt), []);
    let model = micro(|m, x| m.apply(Node::new("Relu6").in_domain("com.example"), &[x]));
    assert_eq!(found(&model, TargetChoice::Tensorrt), [(Severity::Error, "domain".into())]);
    assert_eq!(found(&model, TargetChoice::Ort), []);
}

#[test]
fn opsets_out_of_range_are_named() {
    let of = |opset| {
        let mut m = Micro::new(602).opset(opset).batch(2);
        let x = m.input("x", &[4, 8, 8]);
        let y = m.unary("Relu", &x);
        m.output(&y);
        m.build()
    };
    let opset = |severity| vec![(severity, "opset".to_owned())];
    assert_eq!(found(&of(8), TargetChoice::Tensorrt), opset(Severity::Error));
    assert_eq!(found(&of(9), TargetChoice::Tensorrt), []);
    assert_eq!(found(&of(19), TargetChoice::Migraphx), []);
    assert_eq!(found(&of(20), TargetChoice::Migraphx), opset(Severity::Warning));
}

#[test]
fn attributes_ranks_and_second_results_are_checked() {
    let pooled = |dilation: i64| {
        micro(|m, x| {
            let node = Node::new("MaxPool")
                .with("kernel_shape", vec![2, 2])
                .with("dilations", vec![dilation, dilation]);
            m.apply(node, &[x])
        })
    };
    assert_eq!(found(&pooled(2), TargetChoice::Tensorrt), [(Severity::Error, "attribute".into())]);
    assert_eq!(found(&pooled(1), TargetChoice::Tensorrt), []);
    let padded = |mode: &str| micro(|m, x| m.pad(x, &[0, 0, 1, 1, 0, 0, 1, 1], mode, None));
    assert_eq!(
        found(&padded("edge"), TargetChoice::Migraphx),
        [(Severity::Error, "attribute".into())]
    );
    assert_eq!(found(&padded("reflect"), TargetChoice::Migraphx), []);
    let mut m = Micro::new(603).batch(2);
    let x = m.input("x", &[4, 8]);
    let y = m.apply(Node::new("MaxPool").with("kernel_shape", vec![2]), &[&x]);
    m.output(&y);
    assert_eq!(found(&m.build(), TargetChoice::Tensorrt), [(Severity::Error, "rank".into())]);
    let mut m = Micro::new(604).batch(2);
    let x = m.input("x", &[4, 8, 8]);
    let node = Node::new("MaxPool").with("kernel_shape", vec![2, 2]);
    m.raw().node(node, &[&x.name], &["pooled", "places"]);
    m.output(&Val { name: "pooled".into(), ..x.clone() });
    m.raw().output("places", DataType::Int64, None);
    let rules = found(&m.build(), TargetChoice::Migraphx);
    assert!(rules.contains(&(Severity::Error, "second-result".into())), "{rules:?}");
}

#[test]
fn operands_have_to_be_constant_where_a_target_says_so() {
    let reshaped = |is_constant: bool| {
        micro(|m, x| {
            let shape = if is_constant {
                ints(m, "shape", &[2, 4, 64])
            } else {
                // The first sizes of another input, which is fed at run time.
                let sizes = m.tokens("sizes", &[3]);
                let cast = Node::new("Cast").with("to", 7_i64);
                let sizes = m.node(cast, &[&sizes.name]);
                let flat = ints(m, "flat", &[-1]);
                let sizes = m.node(Node::new("Reshape"), &[&sizes, &flat]);
                let (start, end) = (ints(m, "start", &[0]), ints(m, "end", &[3]));
                m.node(Node::new("Slice"), &[&sizes, &start, &end])
            };
            Val { name: m.node(Node::new("Reshape"), &[&x.name, &shape]), ..x.clone() }
        })
    };
    let variable = (Severity::Warning, "variable-operand".to_owned());
    assert!(found(&reshaped(false), TargetChoice::Migraphx).contains(&variable));
    assert!(!found(&reshaped(true), TargetChoice::Migraphx).contains(&variable));
}

#[test]
fn open_dims_and_wide_types_are_pointed_out() {
    let mut m = Micro::new(605);
    let x = m.input("x", &[4, 8, 8]);
    let y = m.unary("Relu", &x);
    m.output(&y);
    let open = [(Severity::Warning, "dynamic-dim".to_owned())];
    assert_eq!(found(&m.build(), TargetChoice::Tensorrt), open);
    assert_eq!(found(&m.build(), TargetChoice::Ort), []);
    let mut m = Micro::new(606).batch(2).dtype(DataType::Double);
    let x = m.input("x", &[4, 8, 8]);
    let y = m.unary("Relu", &x);
    m.output(&y);
    assert_eq!(found(&m.build(), TargetChoice::Tensorrt), [(Severity::Warning, "dtype".into())]);
}

#[test]
fn zero_points_and_automatic_padding_are_checked() {
    let quantized = |zero: i8| {
        micro(|m, x| {
            let scale = m.weight("scale", &[], &[0.1]);
            let zero = Tensor::new(DataType::Int8, vec![], vec![zero as u8].into()).expect("fits");
            let zero = m.constant("zero", &zero);
            let q = m.node(Node::new("QuantizeLinear"), &[&x.name, &scale, &zero]);
            Val { name: m.node(Node::new("DequantizeLinear"), &[&q, &scale, &zero]), ..x.clone() }
        })
    };
    assert_eq!(
        found(&quantized(3), TargetChoice::Tensorrt),
        [(Severity::Error, "zero-point".into())]
    );
    assert_eq!(found(&quantized(0), TargetChoice::Tensorrt), []);
    let model = micro(|m, x| m.conv(x, &conv(4).kernel(3).auto_pad("SAME_UPPER")));
    assert_eq!(found(&model, TargetChoice::Tensorrt), [(Severity::Note, "auto-pad".into())]);
    let model = micro(|m, x| m.conv_transpose(x, &conv(4).kernel(3).auto_pad("SAME_UPPER")));
    assert!(found(&model, TargetChoice::Migraphx).contains(&(Severity::Error, "auto-pad".into())));
}

#[test]
fn a_refused_model_is_written_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.onnx"), folder.path().join("out.onnx"));
    let model = micro(|m, x| {
        let y = m.conv(x, &conv(4));
        let y = m.bn(&y);
        m.unary("Mish", &y)
    });
    std::fs::write(&input, encode(&model)).expect("written");
    let report = folder.path().join("r.json");
    let arguments = [
        input.to_str().expect("text"),
        "-o",
        output.to_str().expect("text"),
        "--no-verify",
        "--target",
        "migraphx",
        "--report",
        report.to_str().expect("text"),
    ];
    let ran = run(&arguments);
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(4), "{text}");
    assert!(text.contains("C0012"), "{text}");
    assert!(output.exists(), "it is written all the same");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&report).expect("written")).expect("JSON");
    assert_eq!(report["deploy"]["target"], "migraphx");
    assert_eq!(report["deploy"]["findings"][0]["rule"], "operator");
    let shown = run(&["inspect", input.to_str().expect("text"), "--target", "tensorrt"]);
    assert_eq!(shown.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("TensorRT"));
}

/// A `TensorProto` file as the second reader reads it: name, dims, f32 elements.
fn second_reading(path: &Path) -> (String, Vec<i64>, Vec<f32>) {
    let bytes = std::fs::read(path).expect("written");
    let tensor = TensorProto::parse_from_bytes(&bytes).expect("a TensorProto");
    let raw = &tensor.raw_data;
    let values = raw.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    (tensor.name.clone(), tensor.dims.clone(), values)
}

#[test]
fn test_vectors_are_what_the_written_model_gives() {
    if find_ort().is_none() {
        return skip("test_vectors_are_what_the_written_model_gives", "no ONNX Runtime library");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (output, vectors) = (folder.path().join("out.onnx"), folder.path().join("vectors"));
    let input = self::folder().join("exported/tv_resnet18_mini.legacy17-preserve.onnx");
    let arguments = [
        input.to_str().expect("text"),
        "-o",
        output.to_str().expect("text"),
        "--test-vectors",
        vectors.to_str().expect("text"),
        "-q",
    ];
    let ran = run(&arguments);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(
        std::fs::read(vectors.join("model.onnx")).expect("written"),
        std::fs::read(&output).expect("written")
    );
    let model = read_model(&output);
    for set in 0..3 {
        let set = vectors.join(format!("test_data_set_{set}"));
        let (name, dims, values) = second_reading(&set.join("input_0.pb"));
        let dims: Vec<usize> = dims.iter().map(|dim| *dim as usize).collect();
        let tensor = Tensor::from_f32(dims, &values).expect("as many as its dims");
        let inputs = updp_testkit::Inputs::from_iter([(name, tensor)]);
        let (name, _, expected) = second_reading(&set.join("output_0.pb"));
        let outputs = updp_testkit::run(&model, &inputs);
        let found = outputs[&name].to_f64().expect("floats");
        let largest = expected.iter().fold(0.0_f64, |m, v| m.max(f64::from(v.abs())));
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - f64::from(*b)).abs() <= 1e-4 * largest, "{a} and {b}");
        }
    }
    // Written again over its own, but never over something else.
    assert_eq!(run(&arguments).status.code(), Some(0));
    std::fs::write(vectors.join("notes.txt"), "mine").expect("written");
    let ran = run(&arguments);
    assert_eq!(ran.status.code(), Some(2), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("C0003"));
    assert!(vectors.join("notes.txt").exists());
}
