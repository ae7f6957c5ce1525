//! Lowered models against the portable ones they were made from.

use std::collections::BTreeMap;

use updp_autodiff::step::Objective;
use updp_autodiff::{OPERATORS, StepSpec, Target, TrainingStep, lower};
use updp_ir::{DataType, Model, ModelBuilder, Node};
use updp_testkit::{
    ConvSpec, Inputs, Micro, Outputs, Random, Session, Val, conv, encode, gemm, known, ops, skip,
    tensor,
};

use crate::networks::{BATCH, CLASSES, Training, batch, conv_net, has_runtime, transformer};

/// A convolution x [2, `channels`, 9, 9] with weight and bias as inputs.
struct Layer {
    channels: usize,
    weight: [usize; 4],
    group: usize,
    strides: [i64; 2],
    dilations: [i64; 2],
    pads: [i64; 4],
    has_bias: bool,
}

const PLAIN: Layer = Layer {
    channels: 16,
    weight: [32, 16, 3, 3],
    group: 1,
    strides: [1, 1],
    dilations: [1, 1],
    pads: [1, 1, 1, 1],
    has_bias: true,
};

impl Layer {
    fn build(&self, is_constant: bool) -> Model {
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &known(&[2, self.channels, 9, 9]));
        let values = Random::new(4).many(self.weight.iter().product(), -1.0, 1.0);
        if is_constant {
            builder.initializer("w", &tensor(DataType::Float, &self.weight, &values));
        } else {
            builder.input("w", DataType::Float, &known(&self.weight));
        }
        builder.input("b", DataType::Float, &known(&[self.weight[0]]));
        let node = Node::new("Conv")
            .named("layer")
            .with("kernel_shape", &self.weight[2..])
            .with("group", self.group as i64)
            .with("strides", self.strides.to_vec())
            .with("dilations", self.dilations.to_vec())
            .with("pads", self.pads.to_vec());
        builder.node(node, &["x", "w", if self.has_bias { "b" } else { "" }], &["y"]);
        builder.output("y", DataType::Float, None);
        builder.build().expect("well formed")
    }

    fn inputs(&self) -> Inputs {
        let mut random = Random::new(9);
        let [x, w, b] = [vec![2, self.channels, 9, 9], self.weight.to_vec(), vec![self.weight[0]]];
        let all = [("x", x), ("w", w), ("b", b)].map(|(name, dims)| {
            let values = random.many(dims.iter().product(), -1.0, 1.0);
            (name.to_owned(), tensor(DataType::Float, &dims, &values))
        });
        Inputs::from_iter(all)
    }
}

/// The target of this machine; `None`, with the test named, where there is none.
fn this_cpu(test: &str) -> Option<Target> {
    let target = Target::this_cpu();
    if target == Target::Portable {
        skip(test, "ONNX Runtime has no blocked kernels for this processor");
    }
    (target != Target::Portable).then_some(target)
}

fn outputs(model: &Model, inputs: &Inputs) -> Outputs {
    let session = Session::ort(model);
    session.and_then(|mut session| session.run(inputs)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn blocked_convolutions_compute_what_plain_ones_do() {
    let test = "blocked_convolutions";
    let Some(target) = this_cpu(test).filter(|_| has_runtime(test)) else { return };
    let layers = [
        PLAIN,
        Layer { has_bias: false, strides: [2, 1], pads: [0, 2, 1, 0], ..PLAIN },
        Layer { dilations: [2, 3], pads: [2, 3, 2, 3], ..PLAIN },
        Layer { channels: 48, weight: [16, 48, 1, 1], pads: [0; 4], ..PLAIN },
        Layer { channels: 3, weight: [16, 3, 3, 3], strides: [2, 2], ..PLAIN },
        Layer { channels: 32, weight: [32, 1, 5, 5], group: 32, pads: [2; 4], ..PLAIN },
        Layer { channels: 32, weight: [32, 1, 3, 3], group: 32, dilations: [2, 2], ..PLAIN },
        // As the gradient of a depthwise weight.
        Layer { channels: 32, weight: [32, 1, 9, 9], group: 32, has_bias: false, ..PLAIN },
    ];
    compute_the_same(target, &layers);
}

/// Every layer is lowered, and computes what it did.
fn compute_the_same(target: Target, layers: &[Layer]) {
    for (at, layer) in layers.iter().enumerate() {
        let (plain, mut lowered) = (layer.build(false), layer.build(false));
        assert_eq!(lower(&mut lowered, target).expect("lowered"), 1, "layer {at}");
        lowered.validate().expect("valid");
        let inputs = layer.inputs();
        let (expected, found) = (outputs(&plain, &inputs), outputs(&lowered, &inputs));
        let (expected, found) = (&expected["y"], &found["y"]);
        assert_eq!(found.dims(), expected.dims(), "layer {at}");
        let pairs = found.to_f64().into_iter().flatten().zip(expected.to_f64().expect("floats"));
        for (found, expected) in pairs {
            assert!((found - expected).abs() < 1e-4, "layer {at}: {found} is not {expected}");
        }
    }
}

#[test]
fn convolutions_for_cuda_compute_what_plain_ones_do() {
    if !has_runtime("convolutions_for_cuda") {
        return;
    }
    let layers = [
        Layer { pads: [0, 2, 1, 0], strides: [2, 1], ..PLAIN },
        Layer { pads: [1, 1, 0, 0], dilations: [2, 1], has_bias: false, ..PLAIN },
        Layer { channels: 32, weight: [32, 1, 5, 5], group: 32, pads: [2, 2, 1, 1], ..PLAIN },
    ];
    compute_the_same(Target::Cuda, &layers);
    let mut even = PLAIN.build(false);
    assert_eq!(lower(&mut even, Target::Cuda).expect("lowered"), 0, "equal paddings stay");
}

/// The step of a network of these layers, each with a BatchNormalization and a smooth activation, on images of these dims.
fn step_of(seed: u64, image: &[usize], layers: &[ConvSpec]) -> TrainingStep {
    let mut m = Micro::new(seed).batch(BATCH);
    let x = m.input("images", image);
    let x = layers.iter().fold(x, |x, layer| {
        let x = m.conv(&x, layer);
        let x = m.bn(&x);
        m.unary("Tanh", &x)
    });
    let x = m.unary("GlobalAveragePool", &x);
    let x = m.apply(Node::new("Flatten"), &[&x]);
    let x = m.gemm(&Val { rank: 2, ..x }, &gemm(CLASSES));
    m.output(&x);
    let spec = StepSpec::new(Objective::Labels { smoothing: 0.1 });
    TrainingStep::build(m.build(), &spec).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn steps_for_cuda_train_as_portable_ones_and_leave_nothing_to_the_processor() {
    if !has_runtime("steps_for_cuda") {
        return;
    }
    // Strides whose last row no window reaches, a depthwise layer, uneven paddings.
    let step = || {
        let layers: [ConvSpec; 4] = [
            conv(6).kernel(3).stride(2).pad(1).no_bias(),
            conv(6).kernel(3).pad(1).groups(6),
            conv(8).kernel(2).pads(&[1, 0, 0, 1]),
            conv(4).kernel(3).stride(3),
        ];
        step_of(22, &[2, 10, 8], &layers)
    };
    let mut lowered = step();
    assert!(lower(&mut lowered.model, Target::Cuda).expect("lowered") >= 6);
    lowered.model.validate().expect("valid");
    for node in lowered.model.graph.nodes() {
        let node = lowered.model.graph.node(node);
        if node.is("Conv") || node.is("ConvTranspose") {
            let pads = node.ints("pads").unwrap_or_default();
            let (begin, end) = pads.split_at(pads.len() / 2);
            assert_eq!(begin, end, "{}", node.name());
            assert!(node.int("group").unwrap_or(1) <= 6, "{} unrolls by groups", node.name());
        }
    }
    train_alike(step(), lowered, &[2, 10, 8]);
}

#[test]
fn other_convolutions_stay() {
    let target = Target::Cpu { block: 16 };
    let stays = |layer: &Layer, is_constant: bool| {
        let mut model = layer.build(is_constant);
        let before = encode(&model);
        lower(&mut model, target).expect("lowered") == 0 && encode(&model) == before
    };
    assert!(stays(&PLAIN, true), "the runtime blocks constant weights itself");
    assert!(stays(&Layer { weight: [20, 16, 3, 3], ..PLAIN }, false), "20 fill no blocks");
    assert!(stays(&Layer { channels: 24, weight: [32, 24, 3, 3], ..PLAIN }, false));
    assert!(stays(&Layer { channels: 32, group: 2, ..PLAIN }, false), "two groups");
    assert!(stays(&Layer { weight: [32, 1, 3, 3], group: 16, ..PLAIN }, false), "two a channel");
    let mut model = PLAIN.build(false);
    assert_eq!(lower(&mut model, Target::Portable).expect("lowered"), 0);
}

#[test]
fn lowering_again_changes_nothing() {
    let mut model = PLAIN.build(false);
    lower(&mut model, Target::Cpu { block: 16 }).expect("lowered");
    let names = ["Reshape", "Transpose", "Reshape", "ReorderInput", "Conv", "ReorderOutput"];
    assert_eq!(ops(&model.graph), names);
    assert_eq!(model.opset("com.microsoft.nchwc"), Some(1));
    let once = encode(&model);
    assert_eq!(lower(&mut model, Target::Cpu { block: 16 }).expect("lowered"), 0);
    assert_eq!(encode(&model), once);
}

#[test]
fn lowered_steps_train_as_portable_ones() {
    let test = "lowered_steps";
    let Some(target) = this_cpu(test).filter(|_| has_runtime(test)) else { return };
    let step = || {
        let layers: [ConvSpec; 4] = [
            conv(16).kernel(3).pad(1).no_bias(),
            conv(32).kernel(1),
            conv(32).kernel(3).pad(1).groups(32),
            conv(16).kernel(3).stride(2).pad(1),
        ];
        step_of(21, &[2, 8, 8], &layers)
    };
    let mut lowered = step();
    // Every convolution forward; the depthwise one also to its input and its weight.
    assert!(lower(&mut lowered.model, target).expect("lowered") >= 6);
    train_alike(step(), lowered, &[2, 8, 8]);
}

/// Nodes of the domain of our own operators, by name.
fn own_operators(model: &Model) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for node in model.graph.nodes() {
        let node = model.graph.node(node);
        if node.domain() == OPERATORS {
            *found.entry(node.op_type().to_owned()).or_default() += 1;
        }
    }
    found
}

/// A step with the operators of ours in it, and which they are.
fn with_operators(
    mut step: TrainingStep,
    target: Target,
) -> (TrainingStep, BTreeMap<String, usize>) {
    let (model, replaced) = step.lowered(target).unwrap_or_else(|error| panic!("{error}"));
    let found = own_operators(&model);
    assert!(replaced >= found.values().sum(), "{replaced}: {found:?}");
    assert!(own_operators(&step.model).is_empty(), "the step itself stays portable");
    step.model = model;
    (step, found)
}

#[test]
fn steps_with_our_operators_train_as_portable_ones() {
    let test = "steps_with_our_operators";
    let Some(target) = this_cpu(test).filter(|_| has_runtime(test)) else { return };
    let sgd = StepSpec::new(Objective::Labels { smoothing: 0.1 });
    let nets = [
        (
            conv_net("Relu"),
            [2, 8, 8],
            vec!["BatchNormGradient", "ConvWeightGradient", "ReluGradient"],
        ),
        (conv_net("HardSwish"), [2, 8, 8], vec!["BatchStatistics", "ConvWeightGradient"]),
        (
            transformer(),
            [2, 4, 4],
            vec![
                "ConvWeightGradient",
                "Gelu",
                "GeluGradient",
                "LayerNormGradient",
                "SoftmaxGradient",
            ],
        ),
    ];
    for (net, image, expected) in nets {
        let step = || TrainingStep::build(net.build(), &sgd).expect("a step");
        let (lowered, found) = with_operators(step(), target);
        for name in expected {
            assert!(found.contains_key(name), "{name} is not among {found:?}");
        }
        // With blocks of 16 the runtime's own products stay.
        let has_products = target == Target::Cpu { block: 8 };
        assert_eq!(found.contains_key("Product"), has_products, "{found:?}");
        let is_transformer = image == [2, 4, 4];
        assert_eq!(found.contains_key("ProductBias"), has_products && is_transformer, "{found:?}");
        let nodes = step().model.graph.node_count();
        assert!(lowered.model.graph.node_count() < nodes, "what nothing reads is gone");
        train_alike(step(), lowered, &image);
    }
}

#[test]
fn every_form_of_gelu_is_one_function() {
    let test = "every_form_of_gelu";
    let Some(target) = this_cpu(test).filter(|_| has_runtime(test)) else { return };
    let spec = StepSpec::new(Objective::Labels { smoothing: 0.0 });
    for form in 0..4 {
        let step = || {
            let mut m = Micro::new(3).batch(BATCH);
            let x = m.input("images", &[2, 4, 4]);
            let x = m.conv(&x, &conv(4).kernel(3).pad(1));
            let name = gelu(&mut m, &x.name, form);
            let x = m.unary("GlobalAveragePool", &Val { name, ..x });
            let x = m.apply(Node::new("Flatten"), &[&x]);
            let x = m.gemm(&Val { rank: 2, ..x }, &gemm(CLASSES));
            m.output(&x);
            TrainingStep::build(m.build(), &spec).unwrap_or_else(|error| panic!("{error}"))
        };
        let (lowered, found) = with_operators(step(), target);
        assert_eq!(found.get("Gelu"), Some(&1), "form {form}");
        assert!(!ops(&lowered.model.graph).contains(&"Erf"), "form {form}");
        train_alike(step(), lowered, &[2, 4, 4]);
    }
}

/// ½·x·(1 + erf(x/√2)) with its factors in one of four orders.
fn gelu(m: &mut Micro, x: &str, form: usize) -> String {
    let mut number = |name: &str, value: f64| m.weight(name, &[], &[value]);
    let (root, inverse) = (number("root", 2.0_f64.sqrt()), number("inverse", 0.5_f64.sqrt()));
    let (one, half) = (number("one", 1.0), number("half", 0.5));
    let mut call = |op: &str, operands: &[&str]| m.node(Node::new(op), operands);
    let inner = if form == 0 { call("Div", &[x, &root]) } else { call("Mul", &[&inverse, x]) };
    let erf = call("Erf", &[&inner]);
    let sum = if form == 1 { call("Add", &[&one, &erf]) } else { call("Add", &[&erf, &one]) };
    match form {
        0 => {
            let product = call("Mul", &[x, &sum]);
            call("Mul", &[&product, &half])
        }
        1 => {
            let product = call("Mul", &[&half, x]);
            call("Mul", &[&product, &sum])
        }
        2 => {
            let product = call("Mul", &[&sum, &half]);
            call("Mul", &[x, &product])
        }
        _ => {
            let product = call("Mul", &[&sum, x]);
            call("Mul", &[&half, &product])
        }
    }
}

/// Five steps of both have the same losses and end with the same states.
fn train_alike(plain: TrainingStep, lowered: TrainingStep, image: &[usize]) {
    let mut runs = [Training::new(plain), Training::new(lowered)];
    let data = batch(image);
    for _ in 0..5 {
        let losses = runs.each_mut().map(|training| {
            let outputs = training.run(&data, 0.05);
            training.loss(&outputs)
        });
        assert!((losses[0] - losses[1]).abs() < 1e-5, "{losses:?}");
    }
    let [plain, lowered] = runs;
    for (name, tensor) in &plain.states {
        let pairs = tensor.to_f64().into_iter().flatten().zip(lowered.state(name));
        for (expected, found) in pairs {
            assert!((expected - found).abs() < 1e-4, "{name}: {found} is not {expected}");
        }
    }
}
