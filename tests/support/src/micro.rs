//! Micro-models with seeded weights, built in a few lines.

use updp_ir::{DataType, Dim, Model, ModelBuilder, Node, Tensor};

use crate::numbers::{Random, symbol, tensor};
use crate::spec::{Broadcast, ConvSpec, GemmSpec, PoolSpec};

/// A value of a micro-model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Val {
    /// Its name.
    pub name: String,
    /// Its channels (features, for tokens).
    pub channels: usize,
    /// Number of dims.
    pub rank: usize,
    /// Axis of the channels.
    pub axis: usize,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightForm {
    /// As initializers.
    #[default]
    Initializer,
    /// As results of `Constant` nodes.
    ConstantNode,
    /// As initializers read through an `Identity`.
    Aliased,
    /// As initializers that are also graph inputs: overridable from IR 4 on, constants below.
    Listed,
}

/// Builds a micro-model. Nodes are named `<op>_<n>`, their results `<op>_<n>_out`, weights
/// `<node>.weight` and so on; the batch is the symbol `N`.
#[derive(Clone, Debug)]
pub struct Micro {
    builder: ModelBuilder,
    random: Random,
    dtype: DataType,
    batch: Dim,
    form: WeightForm,
    nodes: usize,
}

impl Micro {
    /// An empty f32 model with opset 17, whose weights come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            builder: ModelBuilder::new(17),
            random: Random::new(seed),
            dtype: DataType::Float,
            batch: symbol("N"),
            form: WeightForm::Initializer,
            nodes: 0,
        }
    }

    /// Sets another opset, with the IR version of its time; call this first.
    #[must_use]
    pub fn opset(mut self, opset: i64) -> Self {
        self.builder = ModelBuilder::new(opset);
        self
    }

    /// Sets another dtype for weights, inputs and outputs.
    #[must_use]
    pub fn dtype(mut self, dtype: DataType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Sets a fixed batch.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = Dim::Known(batch);
        self
    }

    /// Sets how weights are stored from here on.
    #[must_use]
    pub fn weights(mut self, form: WeightForm) -> Self {
        self.form = form;
        self
    }

    /// IR 3 with opset 8: every initializer is listed among the inputs.
    #[must_use]
    pub fn ir3(self) -> Self {
        let mut this = self.opset(8).weights(WeightForm::Listed);
        this.builder.ir_version(3);
        this
    }

    /// Changes how weights are stored from here on.
    pub fn set_weights(&mut self, form: WeightForm) {
        self.form = form;
    }

    /// The underlying builder, for features that this one lacks.
    pub fn raw(&mut self) -> &mut ModelBuilder {
        &mut self.builder
    }

    /// A copy of the builder, for [`crate::prove_rewrite`].
    #[must_use]
    pub fn builder(&self) -> ModelBuilder {
        self.builder.clone()
    }

    /// The model.
    ///
    /// # Panics
    /// When it is malformed, which is a bug in the test.
    #[must_use]
    pub fn build(&self) -> Model {
        self.builder.build().unwrap_or_else(|error| panic!("the micro-model: {error}"))
    }

    /// An input `[N, C, …]`; `dims` are the dims after the batch.
    pub fn input(&mut self, name: &str, dims: &[usize]) -> Val {
        self.declare_input(name, dims);
        Val { name: name.to_owned(), channels: dims[0], rank: dims.len() + 1, axis: 1 }
    }

    /// An input `[N, …, D]` with features last; `dims` are the dims after the batch.
    pub fn tokens(&mut self, name: &str, dims: &[usize]) -> Val {
        self.declare_input(name, dims);
        let channels = dims[dims.len() - 1];
        Val { name: name.to_owned(), channels, rank: dims.len() + 1, axis: dims.len() }
    }

    fn declare_input(&mut self, name: &str, dims: &[usize]) {
        let mut all = vec![self.batch.clone()];
        all.extend(dims.iter().map(|dim| Dim::Known(*dim)));
        self.builder.input(name, self.dtype, &all);
    }

    /// Marks a value as a graph output.
    pub fn output(&mut self, value: &Val) -> &mut Self {
        self.builder.output(&value.name, self.dtype, None);
        self
    }

    /// A weight with the model's dtype; returns the name under which a node reads it.
    pub fn weight(&mut self, name: &str, dims: &[usize], values: &[f64]) -> String {
        let tensor = tensor(self.dtype, dims, values);
        self.constant(name, &tensor)
    }

    /// A constant of any dtype, stored in the current form of weights.
    pub fn constant(&mut self, name: &str, tensor: &Tensor) -> String {
        match self.form {
            WeightForm::Initializer => {
                self.builder.initializer(name, tensor);
            }
            WeightForm::ConstantNode => {
                self.builder.constant(name, tensor.clone());
            }
            WeightForm::Aliased => {
                let original = format!("{name}.original");
                self.builder.initializer(&original, tensor);
                self.builder.node(Node::new("Identity"), &[&original], &[name]);
            }
            WeightForm::Listed => {
                self.builder.initializer(name, tensor);
                let dims: Vec<Dim> = tensor.dims().iter().map(|dim| Dim::Known(*dim)).collect();
                self.builder.input(name, tensor.dtype(), &dims);
            }
        }
        name.to_owned()
    }

    /// The next numbers in `[low, high)` from this model's generator.
    pub fn numbers(&mut self, count: usize, low: f64, high: f64) -> Vec<f64> {
        self.random.many(count, low, high)
    }

    fn fresh(&mut self, op: &str) -> String {
        self.nodes += 1;
        format!("{}_{}", op.to_lowercase(), self.nodes)
    }

    /// Any node with one result; the operands are given by name.
    pub fn node(&mut self, node: Node, operands: &[&str]) -> String {
        let name = self.fresh(node.op_type());
        let result = format!("{name}_out");
        self.builder.node(node.named(&name), operands, &[&result]);
        result
    }

    /// Any node whose result has the shape of its first operand.
    pub fn apply(&mut self, node: Node, operands: &[&Val]) -> Val {
        let names: Vec<&str> = operands.iter().map(|value| value.name.as_str()).collect();
        Val { name: self.node(node, &names), ..operands[0].clone() }
    }

    /// An operator without parameters, such as `Relu` or `Identity`.
    pub fn unary(&mut self, op: &str, x: &Val) -> Val {
        self.apply(Node::new(op), &[x])
    }

    /// `a + b`.
    pub fn add(&mut self, a: &Val, b: &Val) -> Val {
        self.apply(Node::new("Add"), &[a, b])
    }

    /// `a - b`.
    pub fn sub(&mut self, a: &Val, b: &Val) -> Val {
        self.apply(Node::new("Sub"), &[a, b])
    }

    /// The sum of all terms.
    pub fn sum(&mut self, terms: &[&Val]) -> Val {
        self.apply(Node::new("Sum"), terms)
    }

    /// `x ∘ c` with a constant in `[0.5, 1.5)`, or `c ∘ x` when `is_first`.
    pub fn with_constant(&mut self, op: &str, x: &Val, shape: Broadcast, is_first: bool) -> Val {
        let dims = shape.dims(x.channels, x.rank, x.axis);
        let values = self.numbers(dims.iter().product(), 0.5, 1.5);
        let constant = self.next_weight(op, "constant", &dims, &values);
        let operands = if is_first { [&constant, &x.name] } else { [&x.name, &constant] };
        let name = self.node(Node::new(op), &[operands[0], operands[1]]);
        Val { name, ..x.clone() }
    }

    /// A weight that is named after the next node.
    fn next_weight(&mut self, op: &str, part: &str, dims: &[usize], values: &[f64]) -> String {
        let name = format!("{}_{}.{part}", op.to_lowercase(), self.nodes + 1);
        self.weight(&name, dims, values)
    }

    /// A Conv with random weights.
    pub fn conv(&mut self, x: &Val, spec: &ConvSpec) -> Val {
        let spec = spec.of_rank(x.rank - 2);
        let mut dims = vec![spec.out_channels, x.channels / spec.groups];
        dims.extend(&spec.kernel);
        self.convolve("Conv", x, &spec, &dims)
    }

    /// A `ConvTranspose` with random weights.
    pub fn conv_transpose(&mut self, x: &Val, spec: &ConvSpec) -> Val {
        let spec = spec.of_rank(x.rank - 2);
        let mut dims = vec![x.channels, spec.out_channels / spec.groups];
        dims.extend(&spec.kernel);
        self.convolve("ConvTranspose", x, &spec, &dims)
    }

    fn convolve(&mut self, op: &str, x: &Val, spec: &ConvSpec, dims: &[usize]) -> Val {
        let count: usize = dims.iter().product();
        let fan_in = (count / dims[0]).max(1) as f64;
        let values = self.numbers(count, -1.0, 1.0);
        let values: Vec<f64> = values.iter().map(|v| v * (3.0 / fan_in).sqrt()).collect();
        let weight = self.next_weight(op, "weight", dims, &values);
        let bias = spec.bias.then(|| {
            let values = self.numbers(spec.out_channels, -1.0, 1.0);
            self.next_weight(op, "bias", &[spec.out_channels], &values)
        });
        self.convolve_with(op, x, spec, &weight, bias.as_deref())
    }

    /// A Conv with existing weights; `spec` gives the rest.
    pub fn conv_with(&mut self, x: &Val, spec: &ConvSpec, weight: &str, bias: Option<&str>) -> Val {
        self.convolve_with("Conv", x, &spec.of_rank(x.rank - 2), weight, bias)
    }

    fn convolve_with(
        &mut self,
        op: &str,
        x: &Val,
        spec: &ConvSpec,
        weight: &str,
        bias: Option<&str>,
    ) -> Val {
        let mut node = Node::new(op)
            .with("kernel_shape", spec.kernel.as_slice())
            .with("strides", spec.stride.as_slice())
            .with("dilations", spec.dilation.as_slice())
            .with("group", spec.groups as i64);
        node = match spec.auto_pad {
            Some(mode) => node.with("auto_pad", mode),
            None => node.with("pads", spec.pads.clone()),
        };
        let mut operands = vec![x.name.as_str(), weight];
        operands.extend(bias);
        let name = self.node(node, &operands);
        Val { name, channels: spec.out_channels, ..x.clone() }
    }

    /// A `BatchNormalization` in inference form.
    pub fn bn(&mut self, x: &Val) -> Val {
        self.batch_norm(x, Node::new("BatchNormalization").with("epsilon", 1e-5_f32))
    }

    /// A `BatchNormalization` with other attributes.
    ///
    /// # Panics
    /// When the channels of `x` are not on axis 1.
    pub fn batch_norm(&mut self, x: &Val, node: Node) -> Val {
        let count = if x.axis == 1 { x.channels } else { panic!("channels are not on axis 1") };
        let mut operands = vec![x.name.clone()];
        let parts =
            [("weight", 0.5, 1.5), ("bias", -1.0, 1.0), ("mean", -0.5, 0.5), ("var", 0.5, 1.5)];
        for (part, low, high) in parts {
            let values = self.numbers(count, low, high);
            operands.push(self.next_weight("BatchNormalization", part, &[count], &values));
        }
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        Val { name: self.node(node, &operands), ..x.clone() }
    }

    /// A Gemm with random weights.
    pub fn gemm(&mut self, x: &Val, spec: &GemmSpec) -> Val {
        let (i, o) = (x.channels, spec.out_features);
        let dims = if spec.trans_b { [o, i] } else { [i, o] };
        let scale = (3.0 / i as f64).sqrt();
        let values = self.numbers(i * o, -scale, scale);
        let weight = self.next_weight("Gemm", "weight", &dims, &values);
        let bias = spec.bias.then(|| {
            let values = self.numbers(o, -1.0, 1.0);
            self.next_weight("Gemm", "bias", &[o], &values)
        });
        let node = Node::new("Gemm")
            .with("alpha", spec.alpha)
            .with("beta", spec.beta)
            .with("transB", i64::from(spec.trans_b));
        let mut operands = vec![x.name.as_str(), &weight];
        operands.extend(bias.as_deref());
        let name = self.node(node, &operands);
        Val { name, channels: o, ..x.clone() }
    }

    /// A `MatMul` with a random weight over the last axis.
    pub fn matmul(&mut self, x: &Val, out_features: usize) -> Val {
        let (i, o) = (x.channels, out_features);
        let scale = (3.0 / i as f64).sqrt();
        let values = self.numbers(i * o, -scale, scale);
        let weight = self.next_weight("MatMul", "weight", &[i, o], &values);
        let name = self.node(Node::new("MatMul"), &[&x.name, &weight]);
        Val { name, channels: o, ..x.clone() }
    }

    /// A `MatMul` with a random weight, then an Add of a random bias; torch puts the bias first.
    pub fn matmul_add(&mut self, x: &Val, out_features: usize) -> Val {
        let product = self.matmul(x, out_features);
        let values = self.numbers(out_features, -1.0, 1.0);
        let bias = self.next_weight("Add", "bias", &[out_features], &values);
        let name = self.node(Node::new("Add"), &[&bias, &product.name]);
        Val { name, ..product }
    }

    /// A Transpose.
    pub fn transpose(&mut self, x: &Val, perm: &[usize]) -> Val {
        let axis = perm.iter().position(|from| *from == x.axis).unwrap_or(x.axis);
        let name = self.node(Node::new("Transpose").with("perm", perm), &[&x.name]);
        Val { name, axis, ..x.clone() }
    }

    /// A Pad with constant pads; `pads` covers all axes in the order of ONNX.
    ///
    /// # Panics
    /// Never: the tensor of pads has the number of values that its dims require.
    pub fn pad(&mut self, x: &Val, pads: &[i64], mode: &str, value: Option<f64>) -> Val {
        let name = format!("pad_{}.pads", self.nodes + 1);
        let count = pads.len();
        let tensor = Tensor::from_i64(vec![count], pads).expect("one value a pad");
        let pads = self.constant(&name, &tensor);
        let value = value.map(|value| self.next_weight("Pad", "value", &[], &[value]));
        let mut operands = vec![x.name.as_str(), &pads];
        operands.extend(value.as_deref());
        let name = self.node(Node::new("Pad").with("mode", mode), &operands);
        Val { name, ..x.clone() }
    }

    /// An `AveragePool`.
    pub fn average_pool(&mut self, x: &Val, spec: PoolSpec) -> Val {
        let spatial = x.rank - 2;
        let node = Node::new("AveragePool")
            .with("kernel_shape", &vec![spec.kernel; spatial][..])
            .with("strides", &vec![spec.stride; spatial][..])
            .with("pads", &vec![spec.pad; 2 * spatial][..])
            .with("count_include_pad", i64::from(spec.count_include_pad));
        self.apply(node, &[x])
    }
}
