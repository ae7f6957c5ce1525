//! tract.

use std::fs;

use bytes::Bytes;
use indexmap::IndexMap;
use updp_ir::{DataType, Tensor};

use super::models::{
    D, IMAGE_RESULT, bytes, conv_bn_relu, external_gemm, gemm, identity, image, unknown_operator,
    value,
};
use super::{assert_close, code, one_input, values};
use crate::compare::{ONE_REWRITE_LIMIT, compare};
use crate::{
    Device, ExecError, Executor, ModelSource, Optimizer, Options, Runtime, TractExecutor, open,
};

fn opened(model: &Bytes) -> TractExecutor {
    TractExecutor::open(ModelSource::Bytes(model), &Options::default()).expect("opens")
}

#[test]
fn runs_at_every_batch_size_it_is_given() {
    let mut executor = opened(&bytes(&conv_bn_relu(&[1.0, 0.0, 0.0, 1.0])));
    assert_eq!(executor.input_names(), ["x"]);
    assert_eq!(executor.output_names(), ["y"]);
    for batch in [1, 3, 1] {
        let outputs = executor.run(&one_input("x", image(batch))).expect("runs");
        assert_eq!(outputs["y"].dims(), [batch, 1, 2, 2]);
        assert_close(&values(&outputs, "y"), &IMAGE_RESULT.repeat(batch));
    }
    let outputs = opened(&bytes(&gemm()))
        .run(&one_input("x", Tensor::from_f32(vec![1, 2], &[1.0, 2.0]).expect("ok")))
        .expect("runs");
    assert_close(&values(&outputs, "y"), &[9.0, 12.0, 16.0]);
}

#[test]
fn its_optimizer_is_off_for_verification_and_on_for_latency() {
    let model = bytes(&conv_bn_relu(&[1.0, 0.0, 0.0, 1.0]));
    let operators = |optimizer| {
        let options = Options { optimizer, ..Options::default() };
        let mut executor = TractExecutor::open(ModelSource::Bytes(&model), &options).expect("ok");
        let outputs = executor.run(&one_input("x", image(1))).expect("runs");
        assert_close(&values(&outputs, "y"), &IMAGE_RESULT);
        executor.planned_operators()
    };
    let (off, all) = (operators(Optimizer::Off), operators(Optimizer::All));
    assert!(off.iter().any(|op| op == "Conv"), "{off:?}");
    assert!(off.iter().any(|op| op == "Mul") && off.iter().any(|op| op == "Add"), "{off:?}");
    assert!(!all.iter().any(|op| op == "Conv" || op == "Mul"), "{all:?}");
}

#[test]
fn a_change_of_one_percent_in_one_weight_is_seen() {
    let run = |filter| {
        let mut executor = opened(&bytes(&conv_bn_relu(filter)));
        executor.run(&one_input("x", image(1))).expect("runs")
    };
    let exact = run(&[1.0, 0.0, 0.0, 1.0]);
    assert!(compare(&exact, &exact)["y"].is_within(0.0));
    let changed = compare(&exact, &run(&[1.0, 0.0, 0.0, 1.01]));
    assert!(!changed["y"].is_within(ONE_REWRITE_LIMIT), "{}", changed["y"]);
}

#[test]
fn reads_weights_from_the_file_beside_the_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, data) = external_gemm();
    let path = folder.path().join("model.onnx");
    fs::write(&path, bytes(&model)).expect("written");
    let input = one_input("x", Tensor::from_f32(vec![1, 2], &[1.0, 2.0]).expect("ok"));
    let without = TractExecutor::open(ModelSource::Path(&path), &Options::default());
    assert_eq!(code(without), "X0101");
    fs::write(folder.path().join("w.bin"), data).expect("written");
    let mut executor =
        TractExecutor::open(ModelSource::Path(&path), &Options::default()).expect("opens");
    assert_close(&values(&executor.run(&input).expect("runs"), "y"), &[9.0, 12.0, 16.0]);
}

#[test]
fn names_the_operator_it_does_not_know() {
    // The second is a standard operator's name in another domain: tract would run the standard one.
    for (domain, op, shown) in [
        ("", "Frobnicate", "Frobnicate"),
        ("com.example", "Relu", "com.example:Relu"),
        ("com.microsoft", "Attention", "com.microsoft:Attention"),
    ] {
        let model = bytes(&unknown_operator(domain, op));
        let error = TractExecutor::open(ModelSource::Bytes(&model), &Options::default())
            .expect_err("unknown");
        assert_eq!(error.code(), "X0102");
        let text = format!("tract 0.23.9 has no operator {shown}: used by node \"y_node\"");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_panic_inside_is_an_error() {
    // The graph output is defined by nothing: tract indexes its table of names with it.
    let mut model = gemm();
    if let Some(graph) = &mut model.graph {
        graph.output = vec![value("nowhere", DataType::Float, &[D::N(1)])];
    }
    let model = bytes(&model);
    let error =
        TractExecutor::open(ModelSource::Bytes(&model), &Options::default()).expect_err("panics");
    assert_eq!(error.code(), "X0402");
    assert!(error.to_string().starts_with("tract 0.23.9 panicked: "), "{error}");
}

#[test]
fn refuses_what_is_not_a_model_or_not_there() {
    let noise = Bytes::from_static(b"this is no model at all");
    let options = Options::default();
    assert_eq!(code(TractExecutor::open(ModelSource::Bytes(&noise), &options)), "X0101");
    let nothing = std::path::Path::new("/nowhere/model.onnx");
    assert_eq!(code(TractExecutor::open(ModelSource::Path(nothing), &options)), "X0103");
    let model = bytes(&gemm());
    let options = Options { device: Device::Cuda, ..options };
    let error = TractExecutor::open(ModelSource::Bytes(&model), &options).expect_err("no GPU");
    assert_eq!(error.code(), "X0201");
    assert!(error.help().is_some_and(|help| help.contains("onnxruntime-gpu")));
}

#[test]
fn inputs_must_be_those_of_the_model() {
    let mut executor = opened(&bytes(&gemm()));
    let row = || Tensor::from_f32(vec![1, 2], &[1.0, 2.0]).expect("ok");
    assert_eq!(code(executor.run(&IndexMap::new())), "X0301");
    let mut two = one_input("x", row());
    two.insert("w".to_owned(), row());
    assert_eq!(code(executor.run(&two)), "X0302");
    let wide = one_input("x", Tensor::from_f32(vec![1, 3], &[0.0; 3]).expect("ok"));
    let error = executor.run(&wide).expect_err("too wide");
    assert_eq!(error.to_string(), "input \"x\" is declared f32 [?, 2], given f32 [1, 3]");
    assert_eq!(error.code(), "X0303");
    let ints = one_input("x", Tensor::from_i64(vec![1, 2], &[1, 2]).expect("ok"));
    assert_eq!(code(executor.run(&ints)), "X0303");
}

#[test]
fn every_dtype_it_has_passes() {
    for dtype in [
        DataType::Float,
        DataType::Double,
        DataType::Float16,
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
        let specs = [crate::InputSpec {
            name: "x".to_owned(),
            dtype,
            dims: vec![updp_ir::Dim::Known(2), updp_ir::Dim::Known(3)],
        }];
        let inputs =
            crate::sample_inputs(&specs, 1, &crate::SymbolSizes::default()).expect("drawn");
        let mut executor = opened(&bytes(&identity(dtype, &[D::S("n"), D::N(3)])));
        let outputs = executor.run(&inputs).expect("runs");
        assert_eq!(outputs["y"], inputs["x"], "{dtype}");
    }
}

#[test]
fn bf16_is_refused_not_guessed() {
    let model = bytes(&identity(DataType::Bfloat16, &[D::N(1)]));
    assert_eq!(code(TractExecutor::open(ModelSource::Bytes(&model), &Options::default())), "X0101");
}

#[test]
fn auto_tells_why_it_took_tract() {
    // Unless another test has loaded ONNX Runtime already, there is none at this place.
    let model = bytes(&gemm());
    let executor = open(ModelSource::Bytes(&model), Runtime::Auto, &Options::default());
    let executor = executor.expect("opens");
    let is_tract = executor.name().starts_with("tract");
    assert_eq!(is_tract, executor.fallback_reason().is_some());
}

#[test]
fn the_name_has_the_version_that_is_built_in() {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock = fs::read_to_string(lock).expect("the lock file");
    let version = lock
        .split("name = \"tract-onnx\"\nversion = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("tract-onnx is locked");
    let executor = opened(&bytes(&gemm()));
    assert_eq!(executor.name(), format!("tract {version} (cpu)"));
}

#[test]
fn both_reasons_are_told() {
    let reason = |runtime: &str| ExecError::ModelRejected {
        runtime: runtime.to_owned(),
        detail: "no".to_owned(),
    };
    let both = ExecError::NoRuntimeLoads {
        ort: Box::new(reason("ONNX Runtime 1")),
        tract: Box::new(reason("tract 1")),
    };
    let text = "no runtime loads the model; ONNX Runtime: ONNX Runtime 1 does not load the model: \
                no; tract: tract 1 does not load the model: no";
    assert_eq!((both.code(), both.to_string().as_str()), ("X0104", text));
}
