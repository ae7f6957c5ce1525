//! ONNX Runtime.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use bytes::Bytes;
use indexmap::IndexMap;
use prost::Message;
use updp_ir::proto::{ModelProto, TypeProto, type_proto};
use updp_ir::{DataType, Tensor};

use super::models::{
    D, IMAGE_RESULT, bytes, conv_bn_relu, external_gemm, gemm, identity, image, model, node,
    unknown_operator, value, value_of, weight, with_int,
};
use super::{assert_close, code, one_input, ort_options, values};
use crate::compare::{ONE_REWRITE_LIMIT, compare};
use crate::{
    Budget, Device, Executor, ModelSource, Optimizer, Options, OrtExecutor, Runtime, TractExecutor,
    measure, open,
};

fn opened(model: &Bytes, options: &Options) -> OrtExecutor {
    OrtExecutor::open(ModelSource::Bytes(model), options).expect("opens")
}

#[test]
fn runs_at_every_batch_size_it_is_given() {
    let Some(options) = ort_options("runs_at_every_batch_size_it_is_given") else { return };
    let options = Options { threads: NonZeroUsize::new(1), ..options };
    let model = bytes(&conv_bn_relu(&[1.0, 0.0, 0.0, 1.0]));
    let mut executor = opened(&model, &options);
    assert!(executor.name().starts_with("ONNX Runtime 1."), "{}", executor.name());
    assert!(executor.name().ends_with(" (cpu)"), "{}", executor.name());
    assert_eq!(executor.input_names(), ["x"]);
    assert_eq!(executor.output_names(), ["y"]);
    for batch in [1, 3] {
        let outputs = executor.run(&one_input("x", image(batch))).expect("runs");
        assert_eq!(outputs["y"].dims(), [batch, 1, 2, 2]);
        assert_close(&values(&outputs, "y"), &IMAGE_RESULT.repeat(batch));
    }
}

#[test]
fn agrees_with_tract() {
    let Some(options) = ort_options("agrees_with_tract") else { return };
    let model = bytes(&conv_bn_relu(&[0.3, -0.7, 1.1, 0.9]));
    let inputs = one_input("x", image(2));
    let mut tract = TractExecutor::open(ModelSource::Bytes(&model), &options).expect("opens");
    let ort = opened(&model, &options).run(&inputs).expect("runs");
    let compared = compare(&ort, &tract.run(&inputs).expect("runs"));
    assert!(compared["y"].is_within(ONE_REWRITE_LIMIT), "{}", compared["y"]);
}

#[test]
fn its_optimizer_is_off_for_verification_and_on_for_latency() {
    let test = "its_optimizer_is_off_for_verification_and_on_for_latency";
    let Some(options) = ort_options(test) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let model = bytes(&conv_bn_relu(&[1.0, 0.0, 0.0, 1.0]));
    let operators = |optimizer| {
        let options = Options { optimizer, ..options.clone() };
        let saved = folder.path().join(format!("{optimizer:?}.onnx"));
        OrtExecutor::open_saving(ModelSource::Bytes(&model), &options, Some(&saved)).expect("ok");
        let saved =
            ModelProto::decode(fs::read(saved).expect("saved").as_slice()).expect("a model");
        let nodes = saved.graph.unwrap_or_default().node;
        nodes.iter().map(|node| node.op_type().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(operators(Optimizer::Off), ["Conv", "BatchNormalization", "Relu"]);
    let all = operators(Optimizer::All);
    assert!(!all.iter().any(|op| op == "BatchNormalization" || op == "Relu"), "{all:?}");
}

#[test]
fn every_dtype_it_has_passes() {
    let Some(options) = ort_options("every_dtype_it_has_passes") else { return };
    for dtype in [
        DataType::Float,
        DataType::Double,
        DataType::Float16,
        DataType::Bfloat16,
        DataType::Uint8,
        DataType::Int8,
        DataType::Uint16,
        DataType::Int16,
        DataType::Uint32,
        DataType::Int32,
        DataType::Uint64,
        DataType::Int64,
        DataType::Bool,
        DataType::String,
    ] {
        for rows in [2, 0] {
            let specs = [crate::InputSpec {
                name: "x".to_owned(),
                dtype,
                dims: vec![updp_ir::Dim::Known(rows), updp_ir::Dim::Known(3)],
            }];
            let inputs =
                crate::sample_inputs(&specs, 1, &crate::SymbolSizes::default()).expect("drawn");
            let mut executor = opened(&bytes(&identity(dtype, &[D::S("n"), D::N(3)])), &options);
            let outputs = executor.run(&inputs).expect("runs");
            assert_eq!(outputs["y"], inputs["x"], "{dtype}");
        }
    }
    let complex = bytes(&identity(DataType::Complex64, &[D::N(1)]));
    let inputs = one_input(
        "x",
        Tensor::new(DataType::Complex64, vec![1], Bytes::from_static(&[0; 8])).expect("ok"),
    );
    let refused = OrtExecutor::open(ModelSource::Bytes(&complex), &options)
        .and_then(|mut executor| executor.run(&inputs));
    assert!(matches!(code(refused), "X0101" | "X0102" | "X0304"));
}

#[test]
fn unaligned_bytes_are_copied() {
    let Some(options) = ort_options("unaligned_bytes_are_copied") else { return };
    let padded: Vec<u8> =
        [0_u8].into_iter().chain([1.0_f32, 2.0].iter().flat_map(|v| v.to_le_bytes())).collect();
    let tensor = Tensor::new(DataType::Float, vec![1, 2], Bytes::from(padded).slice(1..));
    let outputs =
        opened(&bytes(&gemm()), &options).run(&one_input("x", tensor.expect("ok"))).expect("runs");
    assert_close(&values(&outputs, "y"), &[9.0, 12.0, 16.0]);
}

#[test]
fn reads_weights_from_the_file_beside_the_model() {
    let Some(options) = ort_options("reads_weights_from_the_file_beside_the_model") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (model, data) = external_gemm();
    let path = folder.path().join("model.onnx");
    fs::write(&path, bytes(&model)).expect("written");
    assert_eq!(code(OrtExecutor::open(ModelSource::Path(&path), &options)), "X0101");
    fs::write(folder.path().join("w.bin"), data).expect("written");
    let mut executor = OrtExecutor::open(ModelSource::Path(&path), &options).expect("opens");
    let input = one_input("x", Tensor::from_f32(vec![1, 2], &[1.0, 2.0]).expect("ok"));
    assert_close(&values(&executor.run(&input).expect("runs"), "y"), &[9.0, 12.0, 16.0]);
    let nothing = Path::new("/nowhere/model.onnx");
    assert_eq!(code(OrtExecutor::open(ModelSource::Path(nothing), &options)), "X0103");
}

#[test]
fn names_the_operator_it_does_not_know() {
    let Some(options) = ort_options("names_the_operator_it_does_not_know") else { return };
    for (domain, op, shown) in
        [("", "Frobnicate", "Frobnicate"), ("com.example", "Frob", "com.example:Frob")]
    {
        let model = bytes(&unknown_operator(domain, op));
        let error = OrtExecutor::open(ModelSource::Bytes(&model), &options).expect_err("unknown");
        assert_eq!(error.code(), "X0102", "{error}");
        assert!(error.to_string().contains(&format!("has no operator {shown}: ")), "{error}");
    }
    // In no schema.
    let cubes = |name| value(name, DataType::Int8, &[D::N(1), D::N(1), D::N(2), D::N(2)]);
    let made = model(
        vec![node("GlobalMaxPool", &["x"], &["y"])],
        vec![cubes("x")],
        vec![cubes("y")],
        vec![],
    );
    let made = bytes(&made);
    let error = OrtExecutor::open(ModelSource::Bytes(&made), &options).expect_err("no such type");
    assert!(error.code().starts_with("X01"), "{error}");
}

#[test]
fn auto_tries_tract_and_tells_both_reasons() {
    let Some(options) = ort_options("auto_tries_tract_and_tells_both_reasons") else { return };
    let fine = bytes(&gemm());
    let executor = open(ModelSource::Bytes(&fine), Runtime::Auto, &options).expect("opens");
    assert!(executor.name().starts_with("ONNX Runtime") && executor.fallback_reason().is_none());
    let unknown = bytes(&unknown_operator("", "Frobnicate"));
    let error = open(ModelSource::Bytes(&unknown), Runtime::Auto, &options).err();
    let error = error.expect("nobody knows it");
    assert_eq!(error.code(), "X0104");
    let text = error.to_string();
    assert!(text.contains("ONNX Runtime: ") && text.contains("tract: tract 0.23.9"), "{text}");
    // ONNX Runtime has no kernel of this one for i16; tract has.
    let made = model(
        vec![node("ArgMax", &["x"], &["y"])],
        vec![value("x", DataType::Int16, &[D::N(3)])],
        vec![value("y", DataType::Int64, &[D::N(1)])],
        vec![],
    );
    let made = bytes(&made);
    let mut executor = open(ModelSource::Bytes(&made), Runtime::Auto, &options).expect("opens");
    let bytes = Bytes::from_static(&[1, 0, 9, 0, 4, 0]);
    let x = Tensor::new(DataType::Int16, vec![3], bytes).expect("well formed");
    assert_eq!(values(&executor.run(&one_input("x", x)).expect("runs"), "y"), [1.0]);
    assert_eq!(executor.name(), "tract 0.23.9 (cpu)");
    assert_eq!(executor.fallback_reason().map(crate::ExecError::code), Some("X0102"));
}

#[test]
fn refuses_what_is_not_a_model() {
    let Some(options) = ort_options("refuses_what_is_not_a_model") else { return };
    let noise = Bytes::from_static(b"this is no model at all");
    let error = OrtExecutor::open(ModelSource::Bytes(&noise), &options).expect_err("no model");
    assert_eq!(error.code(), "X0101");
    assert!(error.to_string().contains("does not load the model: "), "{error}");
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let Some(options) = ort_options("a_device_that_is_not_there_is_an_error") else { return };
    let model = bytes(&gemm());
    for device in [Device::Cuda, Device::TensorRt, Device::MiGraphX] {
        let options = Options { device, ..options.clone() };
        match open(ModelSource::Bytes(&model), Runtime::Auto, &options) {
            // A machine with the device and its library.
            Ok(executor) => assert!(executor.name().ends_with(&format!("({device})"))),
            Err(error) => {
                assert_eq!(error.code(), "X0201", "{error}");
                assert!(error.help().is_some_and(|help| help.contains("pip install")));
            }
        }
    }
}

#[test]
fn inputs_must_be_those_of_the_model() {
    let Some(options) = ort_options("inputs_must_be_those_of_the_model") else { return };
    let mut executor = opened(&bytes(&gemm()), &options);
    let row = |width: usize| Tensor::from_f32(vec![1, width], &vec![0.0; width]).expect("ok");
    assert_eq!(code(executor.run(&IndexMap::new())), "X0301");
    assert_eq!(code(executor.run(&one_input("z", row(2)))), "X0301");
    let mut two = one_input("x", row(2));
    two.insert("z".to_owned(), row(2));
    assert_eq!(code(executor.run(&two)), "X0302");
    let error = executor.run(&one_input("x", row(3))).expect_err("too wide");
    assert_eq!(error.to_string(), "input \"x\" is declared f32 [?, 2], given f32 [1, 3]");
}

#[test]
fn an_overridable_initializer_may_be_given() {
    let Some(options) = ort_options("an_overridable_initializer_may_be_given") else { return };
    let mut made = gemm();
    if let Some(graph) = &mut made.graph {
        graph.input.push(value("b", DataType::Float, &[D::N(3)]));
    }
    let mut executor = opened(&bytes(&made), &options);
    assert_eq!(executor.input_names(), ["x"]);
    let mut inputs = one_input("x", Tensor::from_f32(vec![1, 2], &[1.0, 2.0]).expect("ok"));
    inputs.insert("b".to_owned(), Tensor::from_f32(vec![3], &[1.0, 1.0, 1.0]).expect("ok"));
    assert_close(&values(&executor.run(&inputs).expect("runs"), "y"), &[10.0, 13.0, 16.0]);
}

#[test]
fn the_elements_of_a_sequence_are_results_and_a_sequence_as_input_is_refused() {
    let Some(options) = ort_options("the_elements_of_a_sequence_are_results") else { return };
    let sequence = || {
        let element = TypeProto {
            value: value("", DataType::Float, &[D::N(2)]).r#type.and_then(|t| t.value),
            ..TypeProto::default()
        };
        let of = type_proto::Sequence { elem_type: Some(Box::new(element)) };
        type_proto::Value::SequenceType(Box::new(of))
    };
    let made = model(
        vec![node("SequenceConstruct", &["x", "x"], &["s"])],
        vec![value("x", DataType::Float, &[D::N(2)])],
        vec![value_of("s", sequence())],
        vec![],
    );
    let mut executor = opened(&bytes(&made), &options);
    let x = Tensor::from_f32(vec![2], &[1.0, -2.0]).expect("fits");
    let results = executor.run(&one_input("x", x)).expect("it runs");
    let names: Vec<&String> = results.keys().collect();
    assert_eq!(names, ["s.length", "s[0]", "s[1]"]);
    assert_eq!(results["s.length"].to_i64(), Some(vec![2]));
    assert_eq!(results["s[1]"].to_f64(), Some(vec![1.0, -2.0]));
    let made = model(
        vec![node("SequenceLength", &["s"], &["y"])],
        vec![value_of("s", sequence())],
        vec![value("y", DataType::Int64, &[])],
        vec![],
    );
    let error = OrtExecutor::open(ModelSource::Bytes(&bytes(&made)), &options).expect_err("none");
    assert_eq!(error.code(), "X0305");
    assert!(error.to_string().starts_with("value \"s\" is of type Sequence<"), "{error}");
}

#[test]
fn strings_with_nul_and_failing_runs_are_errors() {
    let Some(options) = ort_options("strings_with_nul_and_failing_runs_are_errors") else { return };
    let text = crate::ort_value::string_tensor(&[1], vec!["a\0b".to_owned()]).expect("ok");
    let mut executor = opened(&bytes(&identity(DataType::String, &[D::N(1)])), &options);
    assert_eq!(code(executor.run(&one_input("x", text))), "X0306");
    // An index outside of the data.
    let indices = value("x", DataType::Int64, &[D::N(1)]);
    let made = model(
        vec![with_int(node("Gather", &["w", "x"], &["y"]), "axis", 0)],
        vec![indices],
        vec![value("y", DataType::Float, &[D::N(1)])],
        vec![weight("w", &[2], &[1.0, 2.0])],
    );
    let mut executor = opened(&bytes(&made), &options);
    let far = one_input("x", Tensor::from_i64(vec![1], &[7]).expect("ok"));
    assert_eq!(code(executor.run(&far)), "X0401");
}

#[test]
fn latency_is_measured_in_turns() {
    let Some(options) = ort_options("latency_is_measured_in_turns") else { return };
    let options = Options { optimizer: Optimizer::All, ..options };
    let model = bytes(&conv_bn_relu(&[1.0, 0.0, 0.0, 1.0]));
    let mut ort = opened(&model, &options);
    let mut tract = TractExecutor::open(ModelSource::Bytes(&model), &options).expect("opens");
    let inputs = one_input("x", image(1));
    let measured = measure(&mut [&mut ort, &mut tract], &inputs, 1, Budget::Runs(5)).expect("ok");
    assert!(measured.latencies.iter().all(|latency| latency.runs == 5 && latency.min_ms > 0.0));
}
