//! The check against deployment targets.

mod vectors;

use std::process::{Command, Output};

use onnx_protobuf::{FunctionProto, ModelProto, NodeProto};
use protobuf::Message;
use updp_compile::deploy::{DeployTarget, Severity, check};
use updp_ir::{AttributeValue, DataType, Dim, Model, ModelBuilder, Node, Tensor};
use updp_testkit::{Micro, Val, conv, encode, find_ort, pool, read_model, seeded, skip};

use crate::fixtures::folder;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_updp-compile")).args(arguments).output().expect("it starts")
}

/// Rules found, with how bad they are.
fn found(model: &Model, target: DeployTarget) -> Vec<(Severity, String)> {
    check(model, false, target).into_iter().map(|f| (f.severity, f.rule)).collect()
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
    for target in [DeployTarget::Ort, DeployTarget::Tensorrt, DeployTarget::Migraphx] {
        assert_eq!(found(&model, target), [], "{target:?}");
    }
}

#[test]
fn operators_a_target_lacks_are_errors_there_only() {
    let model = micro(|m, x| m.unary("Mish", x));
    assert_eq!(found(&model, DeployTarget::Migraphx), [(Severity::Error, "operator".into())]);
    assert_eq!(found(&model, DeployTarget::Tensorrt), []);
    let model = micro(|m, x| m.apply(Node::new("Relu6").in_domain("com.example"), &[x]));
    assert_eq!(found(&model, DeployTarget::Tensorrt), [(Severity::Error, "domain".into())]);
    assert_eq!(found(&model, DeployTarget::Ort), [(Severity::Warning, "domain".into())]);
    // A few operators of ONNX Runtime's own domain are in the table of MIGraphX.
    let contrib = |op: &str| micro(|m, x| m.apply(Node::new(op).in_domain("com.microsoft"), &[x]));
    assert_eq!(found(&contrib("FastGelu"), DeployTarget::Migraphx), []);
    assert_eq!(
        found(&contrib("FusedConv"), DeployTarget::Migraphx),
        [(Severity::Error, "domain".into())]
    );
    assert_eq!(found(&contrib("FusedConv"), DeployTarget::Ort), []);
}

#[test]
fn operators_a_table_does_not_have_are_pointed_out() {
    let model = micro(|m, x| m.unary("Swish", x));
    let unlisted = [(Severity::Warning, "unlisted-operator".to_owned())];
    assert_eq!(found(&model, DeployTarget::Migraphx), unlisted);
    assert_eq!(found(&model, DeployTarget::Tensorrt), unlisted);
    assert_eq!(found(&model, DeployTarget::Ort), []);
    let sampled = micro(|m, x| {
        let grid = m.weight("grid", &[2, 8, 8, 2], &seeded(7, 256));
        Val { name: m.node(Node::new("GridSample"), &[&x.name, &grid]), ..x.clone() }
    });
    let unfinished = [(Severity::Warning, "unfinished-operator".to_owned())];
    assert_eq!(found(&sampled, DeployTarget::Migraphx), unfinished);
    assert_eq!(found(&sampled, DeployTarget::Tensorrt), []);
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
    assert_eq!(found(&of(8), DeployTarget::Tensorrt), opset(Severity::Error));
    assert_eq!(found(&of(9), DeployTarget::Tensorrt), []);
    assert_eq!(found(&of(19), DeployTarget::Migraphx), []);
    assert_eq!(found(&of(20), DeployTarget::Migraphx), opset(Severity::Warning));
    assert_eq!(found(&of(6), DeployTarget::Ort), opset(Severity::Error));
    assert_eq!(found(&of(21), DeployTarget::Ort), []);
    assert_eq!(found(&of(22), DeployTarget::Ort), opset(Severity::Note));
}

#[test]
fn ir_versions_out_of_range_are_named() {
    let of = |version| {
        let mut m = Micro::new(607).batch(2);
        let x = m.input("x", &[4, 8, 8]);
        let y = m.unary("Relu", &x);
        m.output(&y);
        m.raw().ir_version(version);
        m.build()
    };
    assert_eq!(found(&of(10), DeployTarget::Ort), []);
    assert_eq!(found(&of(11), DeployTarget::Ort), [(Severity::Note, "ir-version".into())]);
    // Neither documents one.
    assert_eq!(found(&of(11), DeployTarget::Tensorrt), []);
    assert_eq!(found(&of(11), DeployTarget::Migraphx), []);
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
    assert_eq!(found(&pooled(2), DeployTarget::Tensorrt), [(Severity::Error, "attribute".into())]);
    assert_eq!(found(&pooled(1), DeployTarget::Tensorrt), []);
    let padded = |mode: &str| micro(|m, x| m.pad(x, &[0, 0, 1, 1, 0, 0, 1, 1], mode, None));
    assert_eq!(
        found(&padded("edge"), DeployTarget::Migraphx),
        [(Severity::Error, "attribute".into())]
    );
    assert_eq!(found(&padded("reflect"), DeployTarget::Migraphx), []);
    let mut m = Micro::new(603).batch(2);
    let x = m.input("x", &[4, 8]);
    let y = m.apply(Node::new("MaxPool").with("kernel_shape", vec![2]), &[&x]);
    m.output(&y);
    assert_eq!(found(&m.build(), DeployTarget::Tensorrt), [(Severity::Error, "rank".into())]);
    let mut m = Micro::new(604).batch(2);
    let x = m.input("x", &[4, 8, 8]);
    let node = Node::new("MaxPool").with("kernel_shape", vec![2, 2]);
    m.raw().node(node, &[&x.name], &["pooled", "places"]);
    m.output(&Val { name: "pooled".into(), ..x.clone() });
    m.raw().output("places", DataType::Int64, None);
    let rules = found(&m.build(), DeployTarget::Migraphx);
    assert!(rules.contains(&(Severity::Error, "second-result".into())), "{rules:?}");
}

/// Operator, attribute, a value that is refused, one that is taken, how bad, for whom.
type AttributeRow =
    (&'static str, &'static str, AttributeValue, AttributeValue, Severity, DeployTarget);

#[test]
fn each_attribute_restriction_fires_on_its_value_only() {
    use DeployTarget::{Migraphx, Tensorrt};
    use Severity::{Error, Warning};
    let text = AttributeValue::from;
    let number = |value: i64| AttributeValue::from(value);
    let list = |value: i64| AttributeValue::from(vec![value, value]);
    let frame = "coordinate_transformation_mode";
    let rows: Vec<AttributeRow> = vec![
        ("MaxPool", "dilations", list(2), list(1), Error, Tensorrt),
        ("AveragePool", "dilations", list(2), list(1), Error, Tensorrt),
        ("LpPool", "dilations", list(2), list(1), Error, Tensorrt),
        ("Resize", "mode", text("cubic"), text("linear"), Error, Tensorrt),
        ("Resize", frame, text("tf_crop_and_resize"), text("half_pixel"), Error, Tensorrt),
        ("Resize", "antialias", number(1), number(0), Error, Tensorrt),
        ("ScatterND", "reduction", text("add"), text("none"), Error, Tensorrt),
        ("TopK", "sorted", number(0), number(1), Error, Tensorrt),
        ("Reshape", "allowzero", number(1), number(0), Warning, Migraphx),
        ("Pad", "mode", text("wrap"), text("reflect"), Error, Migraphx),
        ("Resize", "mode", text("cubic"), text("nearest"), Error, Migraphx),
        ("Resize", frame, text("half_pixel_symmetric"), text("asymmetric"), Error, Migraphx),
        ("Resize", "antialias", number(1), number(0), Error, Migraphx),
        ("Resize", "exclude_outside", number(1), number(0), Error, Migraphx),
        ("ConvTranspose", "output_padding", list(1), list(0), Warning, Migraphx),
        ("MaxPool", "dilations", list(2), list(1), Warning, Migraphx),
        ("MaxPool", "storage_order", number(1), number(0), Error, Migraphx),
        ("LayerNormalization", "stash_type", number(10), number(1), Warning, Migraphx),
        ("GroupNormalization", "stash_type", number(10), number(1), Warning, Migraphx),
        ("QuantizeLinear", "block_size", number(16), number(0), Error, Migraphx),
    ];
    for (op, attribute, refused, taken, severity, target) in rows {
        let of = |value: AttributeValue| {
            micro(|m, x| m.apply(Node::new(op).with(attribute, value), &[x]))
        };
        let wanted = (severity, "attribute".to_owned());
        assert_eq!(found(&of(refused), target), [wanted], "{op} {attribute} for {target:?}");
        assert_eq!(found(&of(taken), target), [], "{op} {attribute} for {target:?}");
    }
}

#[test]
fn ranks_and_second_results_of_tensorrt_are_checked() {
    let of_rank = |op: &str, dims: &[usize]| {
        let mut m = Micro::new(615).batch(2);
        let x = m.input("x", dims);
        let y = m.node(Node::new(op), &[&x.name, &x.name, &x.name]);
        m.raw().output(&y, DataType::Float, None);
        found(&m.build(), DeployTarget::Tensorrt)
    };
    let rank = [(Severity::Error, "rank".to_owned())];
    assert_eq!(of_rank("GridSample", &[4, 8, 8, 8]), rank);
    assert_eq!(of_rank("GridSample", &[4, 8, 8]), []);
    assert_eq!(of_rank("Attention", &[4, 8]), rank);
    assert_eq!(of_rank("Attention", &[4, 8, 8]), []);
    let normalized = |is_read: bool| {
        micro(|m, x| {
            let scale = m.weight("scale", &[8], &seeded(3, 8));
            let results: &[&str] = if is_read { &["y", "mean"] } else { &["y"] };
            m.raw().node(Node::new("LayerNormalization"), &[&x.name, &scale], results);
            if is_read {
                m.raw().output("mean", DataType::Float, None);
            }
            Val { name: "y".into(), ..x.clone() }
        })
    };
    let second = [(Severity::Error, "second-result".to_owned())];
    assert_eq!(found(&normalized(true), DeployTarget::Tensorrt), second);
    assert_eq!(found(&normalized(false), DeployTarget::Tensorrt), []);
}

#[test]
fn each_constant_operand_is_asked_for() {
    use DeployTarget::{Migraphx, Tensorrt};
    for (op, slot, severity, target) in [
        ("ReduceMean", 1, Severity::Error, Tensorrt),
        ("Unsqueeze", 1, Severity::Error, Tensorrt),
        ("Expand", 1, Severity::Warning, Migraphx),
        ("Slice", 2, Severity::Warning, Migraphx),
        ("ConstantOfShape", 0, Severity::Warning, Migraphx),
    ] {
        let of = |is_constant: bool| {
            micro(|m, x| {
                let fixed = ints(m, "fixed", &[1]);
                // It depends on the values of the input, so that no shape arithmetic knows it.
                let fed = m.node(Node::new("ArgMax").with("keepdims", 0_i64), &[&x.name]);
                let mut operands = vec![x.name.as_str(), &fixed, &fixed];
                operands.truncate(slot + 1);
                operands[slot] = if is_constant { &fixed } else { &fed };
                Val { name: m.node(Node::new(op), &operands), ..x.clone() }
            })
        };
        let wanted = (severity, "variable-operand".to_owned());
        assert!(found(&of(false), target).contains(&wanted), "{op} for {target:?}");
        assert!(!found(&of(true), target).contains(&wanted), "{op} for {target:?}");
    }
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
    assert!(found(&reshaped(false), DeployTarget::Migraphx).contains(&variable));
    assert!(!found(&reshaped(true), DeployTarget::Migraphx).contains(&variable));
}

#[test]
fn open_dims_and_wide_types_are_pointed_out() {
    let mut m = Micro::new(605);
    let x = m.input("x", &[4, 8, 8]);
    let y = m.unary("Relu", &x);
    m.output(&y);
    let batch = [(Severity::Note, "open-batch".to_owned())];
    for target in [DeployTarget::Tensorrt, DeployTarget::Migraphx] {
        assert_eq!(found(&m.build(), target), batch);
    }
    assert_eq!(found(&m.build(), DeployTarget::Ort), []);
    let mut m = Micro::new(608).batch(2);
    let x = m.input("x", &[4, 8, 8]);
    let height = Dim::Symbol("height".into());
    m.raw().input("image", DataType::Float, &[Dim::Known(2), height]);
    let y = m.unary("Relu", &x);
    m.output(&y);
    let z = m.node(Node::new("Relu"), &["image"]);
    m.raw().output(&z, DataType::Float, None);
    for target in [DeployTarget::Tensorrt, DeployTarget::Migraphx] {
        assert_eq!(found(&m.build(), target), [(Severity::Warning, "dynamic-dim".into())]);
    }
    let mut m = Micro::new(606).batch(2).dtype(DataType::Double);
    let x = m.input("x", &[4, 8, 8]);
    let y = m.unary("Relu", &x);
    m.output(&y);
    let dtype = |severity| [(severity, "dtype".to_owned())];
    assert_eq!(found(&m.build(), DeployTarget::Tensorrt), dtype(Severity::Warning));
    assert_eq!(found(&m.build(), DeployTarget::Migraphx), []);
    assert_eq!(found(&m.build(), DeployTarget::Ort), [], "Relu has a kernel for f64");
    let mut m = Micro::new(609).batch(2);
    let x = m.input("x", &[4, 8, 8]);
    let cast = |to: DataType| Node::new("Cast").with("to", i64::from(to.code()));
    let y = m.node(cast(DataType::Uint16), &[&x.name]);
    let y = m.node(cast(DataType::Bfloat16), &[&y]);
    let y = Val { name: m.node(cast(DataType::Float), &[&y]), ..x.clone() };
    m.output(&y);
    let model = m.build();
    let places = |target| {
        let findings = check(&model, false, target);
        findings.into_iter().map(|f| (f.severity, f.rule, f.count)).collect::<Vec<_>>()
    };
    // u16 is in one list, bf16 in the other.
    assert_eq!(places(DeployTarget::Tensorrt), [(Severity::Error, "dtype".into(), 1)]);
    assert_eq!(places(DeployTarget::Migraphx), [(Severity::Warning, "dtype".into(), 1)]);
}

/// What the findings say of these models is what ONNX Runtime does with them.
#[test]
fn dtypes_without_a_kernel_are_those_onnx_runtime_refuses() {
    let convolved = |dtype| {
        let mut m = Micro::new(610).batch(2).dtype(dtype);
        let x = m.input("x", &[4, 8, 8]);
        let y = m.conv(&x, &conv(4));
        m.output(&y);
        m.build()
    };
    let double = convolved(DataType::Double);
    assert_eq!(found(&double, DeployTarget::Ort), [(Severity::Warning, "dtype".into())]);
    let float = convolved(DataType::Float);
    assert_eq!(found(&float, DeployTarget::Ort), []);
    let Some(library) = find_ort() else {
        return skip("dtypes_without_a_kernel_are_those_onnx_runtime_refuses", "no ONNX Runtime");
    };
    let options = updp_exec::Options { library: Some(library), ..updp_exec::Options::default() };
    let opens = |model: &Model| {
        let bytes = encode(model);
        let source = updp_exec::ModelSource::Bytes(&bytes);
        updp_exec::open(source, updp_exec::Runtime::Ort, &options).is_ok()
    };
    assert!(!opens(&double));
    assert!(opens(&float));
}

/// `If` with `node` in both branches.
fn branching(node: &Node) -> Model {
    let mut m = Micro::new(611).batch(2);
    let x = m.input("x", &[4, 8, 8]);
    let truth = Tensor::new(DataType::Bool, vec![], vec![1].into()).expect("fits");
    let truth = m.constant("truth", &truth);
    let branch = |result: &str| {
        let mut body = ModelBuilder::new(17);
        body.node(node.bare_copy(), &["x"], &[result]);
        body.output(result, DataType::Float, None);
        body
    };
    let bodies = vec![("then_branch", branch("then")), ("else_branch", branch("else"))];
    m.raw().node_with_bodies(Node::new("If"), bodies, &[&truth], &["y"]);
    m.output(&Val { name: "y".into(), ..x });
    m.build()
}

#[test]
fn bodies_are_looked_into() {
    let model = branching(&Node::new("Mish"));
    let findings = check(&model, false, DeployTarget::Migraphx);
    let operator = findings.iter().find(|f| f.rule == "operator").expect("it is in both branches");
    assert_eq!((operator.severity, operator.count), (Severity::Error, 2));
    let control = [(Severity::Note, "control-flow".to_owned())];
    let model = branching(&Node::new("Relu"));
    assert_eq!(found(&model, DeployTarget::Tensorrt), control);
    assert_eq!(found(&model, DeployTarget::Migraphx), []);
    let padded = branching(
        &Node::new("MaxPool").with("kernel_shape", vec![2, 2]).with("dilations", vec![2, 2]),
    );
    let rules = found(&padded, DeployTarget::Tensorrt);
    assert!(rules.contains(&(Severity::Error, "attribute".into())), "{rules:?}");
}

#[test]
fn loops_are_pointed_out() {
    let mut m = Micro::new(612).batch(2);
    let x = m.input("x", &[4, 8, 8]);
    let count = m.constant("count", &Tensor::from_i64(vec![], &[2]).expect("fits"));
    let truth = Tensor::new(DataType::Bool, vec![], vec![1].into()).expect("fits");
    let truth = m.constant("truth", &truth);
    let mut body = ModelBuilder::new(17);
    body.input("at", DataType::Int64, &[]).input("go", DataType::Bool, &[]);
    body.input("carried", DataType::Float, &[2, 4, 8, 8].map(Dim::Known));
    body.node(Node::new("Identity"), &["go"], &["go_on"]);
    body.node(Node::new("Relu"), &["carried"], &["next"]);
    body.output("go_on", DataType::Bool, Some(&[]));
    body.output("next", DataType::Float, Some(&[2, 4, 8, 8].map(Dim::Known)));
    let operands = [count.as_str(), &truth, &x.name];
    m.raw().node_with_bodies(Node::new("Loop"), vec![("body", body)], &operands, &["y"]);
    m.output(&Val { name: "y".into(), ..x });
    let model = m.build();
    for target in [DeployTarget::Tensorrt, DeployTarget::Migraphx] {
        let rules = found(&model, target);
        assert!(rules.contains(&(Severity::Warning, "control-flow".into())), "{rules:?}");
    }
    assert_eq!(found(&model, DeployTarget::Ort), []);
}

/// A call of the local function `com.example.Block`, which is made of one node.
fn with_function(op_type: &str) -> Model {
    let model = micro(|m, x| {
        m.raw().opset("com.example", 1);
        m.apply(Node::new("Block").in_domain("com.example"), &[x])
    });
    let mut proto = ModelProto::parse_from_bytes(&encode(&model)).expect("a model");
    let mut function = FunctionProto { name: "Block".into(), ..FunctionProto::default() };
    function.domain = "com.example".into();
    function.input.push("a".into());
    function.output.push("b".into());
    function.opset_import.extend(proto.opset_import.iter().take(1).cloned());
    let mut node = NodeProto { op_type: op_type.into(), ..NodeProto::default() };
    node.input.push("a".into());
    node.output.push("b".into());
    function.node.push(node);
    proto.functions.push(function);
    updp_testkit::decode(proto.write_to_bytes().expect("encodes")).expect("still a model")
}

#[test]
fn local_functions_are_no_foreign_operators_and_are_looked_into() {
    let plain = with_function("Relu");
    assert_eq!(found(&plain, DeployTarget::Ort), []);
    assert_eq!(found(&plain, DeployTarget::Migraphx), []);
    assert_eq!(found(&plain, DeployTarget::Tensorrt), [(Severity::Note, "function".into())]);
    let unknown = with_function("Unique");
    let findings = check(&unknown, false, DeployTarget::Tensorrt);
    assert_eq!(findings[0].rule, "operator");
    assert_eq!(findings[0].places, ["function Block"]);
}

#[test]
fn data_files_are_pointed_out() {
    let model = micro(|m, x| m.unary("Relu", x));
    let rules: Vec<String> =
        check(&model, true, DeployTarget::Tensorrt).into_iter().map(|f| f.rule).collect();
    assert_eq!(rules, ["external-data"]);
    assert_eq!(found(&model, DeployTarget::Tensorrt), []);
}

#[test]
fn fixtures_pass_for_every_target() {
    for name in [
        "exported/tv_resnet18_mini.legacy17-eval.onnx",
        "exported/timm_repvgg_mini.legacy17-preserve.onnx",
        "trained/fmnist_mobilenetv2.bn.onnx",
        "trained/fmnist_convnext.bn.onnx",
        "trained/fmnist_deit.bn.onnx",
    ] {
        let model = read_model(&folder().join(name));
        for target in [DeployTarget::Ort, DeployTarget::Tensorrt, DeployTarget::Migraphx] {
            let findings = check(&model, false, target);
            let errors: Vec<_> =
                findings.iter().filter(|f| f.severity == Severity::Error).collect();
            assert!(errors.is_empty(), "{name} for {target:?}: {errors:?}");
        }
    }
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
        found(&quantized(3), DeployTarget::Tensorrt),
        [(Severity::Error, "zero-point".into()), (Severity::Note, "quantization".into())]
    );
    let noted = [(Severity::Note, "quantization".to_owned())];
    assert_eq!(found(&quantized(0), DeployTarget::Tensorrt), noted);
    let model = micro(|m, x| m.conv(x, &conv(4).kernel(3).auto_pad("SAME_UPPER")));
    assert_eq!(found(&model, DeployTarget::Tensorrt), [(Severity::Note, "auto-pad".into())]);
    assert_eq!(found(&model, DeployTarget::Migraphx), [(Severity::Note, "auto-pad".into())]);
    let model = micro(|m, x| m.conv(x, &conv(4).kernel(3).pad(1)));
    assert_eq!(found(&model, DeployTarget::Tensorrt), []);
    let model = micro(|m, x| m.conv_transpose(x, &conv(4).kernel(3).auto_pad("SAME_UPPER")));
    assert!(found(&model, DeployTarget::Migraphx).contains(&(Severity::Error, "auto-pad".into())));
}
