//! Small networks to differentiate and to train, and a loop that trains them.

use updp_autodiff::TrainingStep;
use updp_ir::{DataType, Node, Tensor};
use updp_testkit::{
    Broadcast, Inputs, Micro, Outputs, Random, Session, Val, conv, find_ort, gemm, pool, skip,
    tensor,
};

/// Images in a batch of every network here.
pub const BATCH: usize = 6;
/// Classes of every network here.
pub const CLASSES: usize = 3;

/// Conv, norm, activation, a residual block with a depthwise convolution, a strided one, pools and a head, over images
/// [2, 8, 8].
pub fn conv_net(activation: &str) -> Micro {
    let mut m = Micro::new(11).batch(BATCH);
    let x = m.input("images", &[2, 8, 8]);
    let x = m.conv(&x, &conv(4).kernel(3).pad(1).no_bias());
    let x = m.bn(&x);
    let x = m.unary(activation, &x);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1).groups(4).no_bias());
    let y = m.bn(&y);
    let y = m.unary(activation, &y);
    let y = m.conv(&y, &conv(4).kernel(1));
    let x = m.add(&x, &y);
    let x = m.average_pool(&x, pool(2).stride(2));
    let x = m.conv(&x, &conv(5).kernel(3).stride(2).pad(1).no_bias());
    let x = m.bn(&x);
    let x = m.unary(activation, &x);
    head(&mut m, &x);
    m
}

fn head(m: &mut Micro, x: &Val) {
    let x = m.unary("GlobalAveragePool", x);
    let x = m.apply(Node::new("Flatten"), &[&x]);
    let x = Val { rank: 2, ..x };
    let x = m.gemm(&x, &gemm(CLASSES));
    m.output(&x);
}

/// One pre-norm transformer block with class token and position embedding over images [2, 4, 4], as timm exports it.
pub fn transformer() -> Micro {
    let (width, tokens) = (8, 5);
    let mut m = Micro::new(13).batch(BATCH);
    let x = m.input("images", &[2, 4, 4]);
    let x = m.conv(&x, &conv(width).kernel(2).stride(2));
    let shape = |m: &mut Micro, name: &str, dims: &[i64]| {
        let tensor = Tensor::from_i64(vec![dims.len()], dims).expect("a list");
        m.constant(name, &tensor)
    };
    let flat = shape(&mut m, "flat", &[0, width as i64, -1]);
    let x = m.node(Node::new("Reshape"), &[&x.name, &flat]);
    let x = m.node(Node::new("Transpose").with("perm", vec![0_i64, 2, 1]), &[&x]);
    let values = m.numbers(width, -1.0, 1.0);
    let token = m.weight("token", &[1, 1, width], &values);
    let whole = shape(&mut m, "whole", &[BATCH as i64, 1, width as i64]);
    let token = m.node(Node::new("Expand"), &[&token, &whole]);
    let x = m.node(Node::new("Concat").with("axis", 1_i64), &[&token, &x]);
    let values = m.numbers(tokens * width, -0.5, 0.5);
    let position = m.weight("position", &[1, tokens, width], &values);
    let x = m.node(Node::new("Add"), &[&x, &position]);
    let x = Val { name: x, channels: width, rank: 3, axis: 2 };
    let normal = layer_norm(&mut m, &x, "norm1");
    let y = attention(&mut m, &normal, tokens);
    let x = m.add(&x, &y);
    let normal = layer_norm(&mut m, &x, "norm2");
    let y = m.matmul_add(&normal, 2 * width);
    let y = gelu(&mut m, &y);
    let y = m.matmul_add(&y, width);
    let y = m.with_constant("Mul", &y, Broadcast::Channel, false);
    let x = m.add(&x, &y);
    let zero = Tensor::from_i64(vec![], &[0]).expect("a number");
    let zero = m.constant("zero", &zero);
    let x = m.node(Node::new("Gather").with("axis", 1_i64), &[&x.name, &zero]);
    let x = Val { name: x, channels: width, rank: 2, axis: 1 };
    let x = m.gemm(&x, &gemm(CLASSES));
    m.output(&x);
    m
}

fn layer_norm(m: &mut Micro, x: &Val, name: &str) -> Val {
    let values = m.numbers(x.channels, 0.5, 1.5);
    let scale = m.weight(&format!("{name}.weight"), &[x.channels], &values);
    let values = m.numbers(x.channels, -0.5, 0.5);
    let bias = m.weight(&format!("{name}.bias"), &[x.channels], &values);
    let node = Node::new("LayerNormalization").with("epsilon", 1e-5_f32);
    Val { name: m.node(node, &[&x.name, &scale, &bias]), ..x.clone() }
}

fn gelu(m: &mut Micro, x: &Val) -> Val {
    let root = m.weight("gelu.root", &[], &[std::f64::consts::SQRT_2]);
    let one = m.weight("gelu.one", &[], &[1.0]);
    let half = m.weight("gelu.half", &[], &[0.5]);
    let inner = m.node(Node::new("Div"), &[&x.name, &root]);
    let erf = m.node(Node::new("Erf"), &[&inner]);
    let sum = m.node(Node::new("Add"), &[&erf, &one]);
    let product = m.node(Node::new("Mul"), &[&x.name, &sum]);
    Val { name: m.node(Node::new("Mul"), &[&product, &half]), ..x.clone() }
}

/// Two heads.
fn attention(m: &mut Micro, x: &Val, tokens: usize) -> Val {
    let (heads, width) = (2, x.channels);
    let all = m.matmul_add(x, 3 * width);
    let dims = [BATCH, tokens, 3, heads, width / heads].map(|dim| dim as i64);
    let shape = m.constant("qkv.shape", &Tensor::from_i64(vec![5], &dims).expect("dims"));
    let apart = m.node(Node::new("Reshape"), &[&all.name, &shape]);
    let perm = Node::new("Transpose").with("perm", vec![2_i64, 0, 3, 1, 4]);
    let apart = m.node(perm, &[&apart]);
    let mut parts = Vec::new();
    for at in 0..3 {
        let index = Tensor::from_i64(vec![], &[at]).expect("a number");
        let index = m.constant(&format!("part{at}"), &index);
        parts.push(m.node(Node::new("Gather").with("axis", 0_i64), &[&apart, &index]));
    }
    let swap = Node::new("Transpose").with("perm", vec![0_i64, 1, 3, 2]);
    let keys = m.node(swap, &[&parts[1]]);
    let scores = m.node(Node::new("MatMul"), &[&parts[0], &keys]);
    let scale = m.weight("scale", &[], &[0.5]);
    let scores = m.node(Node::new("Mul"), &[&scores, &scale]);
    let weights = m.node(Node::new("Softmax").with("axis", -1_i64), &[&scores]);
    let mixed = m.node(Node::new("MatMul"), &[&weights, &parts[2]]);
    let back = Node::new("Transpose").with("perm", vec![0_i64, 2, 1, 3]);
    let mixed = m.node(back, &[&mixed]);
    let joined = [BATCH, tokens, width].map(|dim| dim as i64);
    let shape = m.constant("join.shape", &Tensor::from_i64(vec![3], &joined).expect("dims"));
    let mixed = m.node(Node::new("Reshape"), &[&mixed, &shape]);
    m.matmul_add(&Val { name: mixed, ..x.clone() }, width)
}

/// Images and soft labels of as many classes as the networks have.
pub fn batch(dims: &[usize]) -> Inputs {
    let mut random = Random::new(5);
    let count = BATCH * dims.iter().product::<usize>();
    let mut all = vec![BATCH];
    all.extend(dims);
    let images = random.many(count, -1.0, 1.0);
    let mut targets = vec![0.0; BATCH * CLASSES];
    for (at, row) in targets.chunks_mut(CLASSES).enumerate() {
        row[at % CLASSES] = 1.0;
    }
    Inputs::from_iter([
        ("images".to_owned(), tensor(DataType::Float, &all, &images)),
        ("targets".to_owned(), tensor(DataType::Float, &[BATCH, CLASSES], &targets)),
    ])
}

/// Training in one session.
pub struct Training {
    /// The step.
    pub step: TrainingStep,
    session: Session,
    /// State by the step's inputs.
    pub states: Inputs,
    /// Updates so far.
    pub updates: u32,
}

impl Training {
    /// From the network's own tensors.
    pub fn new(step: TrainingStep) -> Self {
        let session = Session::ort(&step.model).unwrap_or_else(|error| panic!("{error}"));
        Self::in_session(step, session)
    }

    /// As [`Training::new`], with the runtime's optimizer on.
    pub fn optimized(step: TrainingStep) -> Self {
        let session = Session::ort_optimized(&step.model);
        Self::in_session(step, session.unwrap_or_else(|error| panic!("{error}")))
    }

    fn in_session(step: TrainingStep, session: Session) -> Self {
        let initial =
            |state: &updp_autodiff::step::State| (state.input.clone(), state.initial.clone());
        let states = step.states.iter().map(initial).collect();
        Self { step, session, states, updates: 0 }
    }

    /// One step; the next states replace the old.
    pub fn run(&mut self, batch: &Inputs, learning_rate: f64) -> Outputs {
        self.updates += 1;
        let mut inputs = self.states.clone();
        inputs.extend(batch.clone());
        let number = |value: f64| tensor(DataType::Float, &[], &[value]);
        inputs.insert(self.step.names.learning_rate.clone(), number(learning_rate));
        if let Some(step) = &self.step.names.step {
            inputs.insert(step.clone(), number(f64::from(self.updates)));
        }
        let outputs = self.session.run(&inputs).unwrap_or_else(|error| panic!("{error}"));
        for state in &self.step.states {
            self.states.insert(state.input.clone(), outputs[&state.output].clone());
        }
        outputs
    }

    /// The loss of an output.
    pub fn loss(&self, outputs: &Outputs) -> f64 {
        outputs[&self.step.names.loss].scalar_f64().expect("a number")
    }

    /// A state of an initializer by what it is called.
    pub fn state(&self, input: &str) -> Vec<f64> {
        self.states[input].to_f64().expect("floats")
    }
}

/// Whether ONNX Runtime is there; else the test is skipped by name.
pub fn has_runtime(test: &str) -> bool {
    if find_ort().is_none() {
        skip(test, "ONNX Runtime is not found");
    }
    find_ort().is_some()
}

/// Numbers equal to what f32 computes.
pub fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 2e-6, "{what}: {found} is not {expected}");
    }
}
