//! Gradients that `backward` writes against central finite differences of the model itself.

use updp_autodiff::{TrainForm, backward_through, train_form};
use updp_ir::{DataType, Model, ModelBuilder, Node, NodeId, Tensor, TensorType, ValueId};
use updp_testkit::{Inputs, Random, Session, find_ort, known, skip, tensor};

/// How far finite differences are trusted, relative to the largest gradient of the operand (at least 1).
const TOLERANCE: f64 = 1e-4;
/// So many elements of an operand are varied at most.
const MOST_ELEMENTS: usize = 40;

/// What the differences are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Linear in each operand by itself: differences of step 1 are exact.
    Multilinear,
    /// Smooth near the drawn point: Richardson's extrapolation of two steps.
    Smooth,
}

/// An input and the range it is drawn from.
#[derive(Clone, Debug)]
pub struct Drawn {
    name: &'static str,
    dims: Vec<usize>,
    range: (f64, f64),
}

type Body = Box<dyn Fn(&mut ModelBuilder, DataType)>;

/// A model over drawn inputs; its result is `y`.
pub struct Case {
    kind: Kind,
    opset: i64,
    inputs: Vec<Drawn>,
    body: Body,
    dtypes: &'static [DataType],
    takes_batch_statistics: bool,
    seed: u64,
}

impl Case {
    /// A case of opset 17; `body` adds the nodes for a float type.
    pub fn new(kind: Kind, body: impl Fn(&mut ModelBuilder, DataType) + 'static) -> Self {
        Self {
            kind,
            opset: 17,
            inputs: Vec::new(),
            body: Box::new(body),
            dtypes: &[DataType::Double, DataType::Float],
            takes_batch_statistics: false,
            seed: 7,
        }
    }

    /// A case of one node over all inputs.
    pub fn of_node(kind: Kind, node: impl Fn() -> Node + 'static, operands: &[&str]) -> Self {
        let operands: Vec<String> = operands.iter().map(ToString::to_string).collect();
        Self::new(kind, move |builder, _| {
            let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
            builder.node(node().named("the_node"), &operands, &["y"]);
        })
    }

    pub fn opset(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// An input of `[-1, 1)` that is differentiated by.
    pub fn input(self, name: &'static str, dims: &[usize]) -> Self {
        self.drawn(name, dims, (-1.0, 1.0))
    }

    /// An input of a range.
    pub fn drawn(mut self, name: &'static str, dims: &[usize], range: (f64, f64)) -> Self {
        self.inputs.push(Drawn { name, dims: dims.to_vec(), range });
        self
    }

    /// With the statistics of the batch in every `BatchNormalization`.
    pub fn batch_statistics(mut self) -> Self {
        self.takes_batch_statistics = true;
        self
    }

    /// In f32 alone: the operator computes in f32 whatever its operands are.
    pub fn in_f32(mut self) -> Self {
        self.dtypes = &[DataType::Float];
        self
    }

    fn builder(&self, dtype: DataType) -> ModelBuilder {
        let mut builder = ModelBuilder::new(self.opset);
        for input in &self.inputs {
            builder.input(input.name, dtype, &known(&input.dims));
        }
        (self.body)(&mut builder, dtype);
        builder.output("y", dtype, None);
        builder
    }

    /// The forward model.
    fn model(&self, dtype: DataType) -> (Model, TrainForm) {
        let mut model = self.builder(dtype).build().expect("the case is well formed");
        if !self.takes_batch_statistics {
            return (model, TrainForm::default());
        }
        let graph = &model.graph;
        let is_norm = |node: &NodeId| graph.node(*node).is("BatchNormalization");
        let norms: Vec<NodeId> = graph.nodes().into_iter().filter(is_norm).collect();
        let form = train_form(&mut model, &norms, 0.1).expect("norms in inference form");
        (model, form)
    }

    /// The model with the gradients of all inputs as outputs, for the cotangent input `dy`.
    fn gradient_model(&self, dtype: DataType, dims: &[usize]) -> Model {
        let (mut model, form) = self.model(dtype);
        let dy = model.graph.add_input("dy", &TensorType::fixed(dtype, dims));
        let y = model.graph.find("y").expect("the result");
        let wrt: Vec<ValueId> =
            self.inputs.iter().filter_map(|i| model.graph.find(i.name)).collect();
        let gradients = backward_through(&mut model, &form, &[(y, dy)], &wrt)
            .unwrap_or_else(|error| panic!("{}: {error}", error.code()));
        for (input, gradient) in self.inputs.iter().zip(gradients) {
            let gradient = gradient.unwrap_or_else(|| panic!("{} has no gradient", input.name));
            let ty = TensorType::fixed(dtype, &input.dims);
            model.graph.add_output(gradient, &ty).expect("a value of the graph");
        }
        model.validate().expect("the gradients keep the invariants");
        model
    }

    /// Compares every gradient.
    pub fn check(&self) {
        if find_ort().is_none() {
            skip("gradcheck", "ONNX Runtime is not found");
            return;
        }
        let mut refusals = Vec::new();
        for dtype in self.dtypes {
            match self.check_in(*dtype) {
                Ok(()) => return,
                Err(refusal) => refusals.push(refusal),
            }
        }
        panic!("no float type runs: {refusals:#?}");
    }

    /// Compares in one float type; the error is what the runtime refuses.
    fn check_in(&self, dtype: DataType) -> Result<(), String> {
        let text = |error: updp_testkit::ExecError| error.to_string();
        let mut forward = Session::ort(&self.model(dtype).0).map_err(text)?;
        let mut random = Random::new(self.seed);
        let mut values: Vec<Vec<f64>> = Vec::new();
        for input in &self.inputs {
            let count = input.dims.iter().product();
            let (low, high) = input.range;
            values.push(random.many(count, low, high));
        }
        let y = self.run(&mut forward, dtype, &values).map_err(text)?;
        let cotangent = random.many(y.len(), -1.0, 1.0);
        let model = self.gradient_model(dtype, y.dims());
        let mut backward = Session::ort(&model).map_err(text)?;
        let mut inputs = self.feed(dtype, &values);
        inputs.insert("dy".to_owned(), tensor(dtype, y.dims(), &cotangent));
        let outputs = backward.run(&inputs).map_err(text)?;
        let gradients = outputs.values().skip(1);
        for ((at, input), gradient) in self.inputs.iter().enumerate().zip(gradients) {
            assert_eq!(gradient.dims(), input.dims, "dims of the gradient of {}", input.name);
            let found = gradient.to_f64().expect("floats");
            let expected = self.differences(&mut forward, dtype, &values, at, &cotangent);
            let scale = expected.iter().fold(1.0_f64, |most, (_, v)| most.max(v.abs()));
            for (element, expected) in expected {
                let error = (found[element] - expected).abs() / scale;
                assert!(
                    error < TOLERANCE,
                    "{dtype} gradient of {}[{element}] is {}, differences give {expected}",
                    input.name,
                    found[element],
                );
            }
        }
        Ok(())
    }

    fn feed(&self, dtype: DataType, values: &[Vec<f64>]) -> Inputs {
        let pairs = self.inputs.iter().zip(values);
        pairs.map(|(i, v)| (i.name.to_owned(), tensor(dtype, &i.dims, v))).collect()
    }

    fn run(
        &self,
        session: &mut Session,
        dtype: DataType,
        values: &[Vec<f64>],
    ) -> Result<Tensor, updp_testkit::ExecError> {
        let outputs = session.run(&self.feed(dtype, values))?;
        Ok(outputs.into_values().next().expect("the model has one output"))
    }

    /// Derivatives of Σ y ⊙ cotangent by elements of one input, each with its element.
    fn differences(
        &self,
        session: &mut Session,
        dtype: DataType,
        values: &[Vec<f64>],
        at: usize,
        cotangent: &[f64],
    ) -> Vec<(usize, f64)> {
        let count = values[at].len();
        let stride = count.div_ceil(MOST_ELEMENTS);
        let mut moved = values.to_vec();
        let mut slope = |element: usize, step: f64| {
            let mut sides = [0.0; 2];
            for (side, sign) in sides.iter_mut().zip([1.0, -1.0]) {
                moved[at][element] = values[at][element] + sign * step;
                let y = self.run(session, dtype, &moved).expect("it ran before");
                let y = y.to_f64().expect("floats");
                *side = y.iter().zip(cotangent).map(|(y, c)| y * c).sum();
            }
            moved[at][element] = values[at][element];
            (sides[0] - sides[1]) / (2.0 * step)
        };
        let step = if dtype == DataType::Double { 1e-3 } else { 0.04 };
        let derivative = |element| match self.kind {
            Kind::Multilinear => slope(element, 1.0),
            Kind::Smooth => (4.0 * slope(element, step / 2.0) - slope(element, step)) / 3.0,
        };
        let elements: Vec<usize> = (0..count).step_by(stride.max(1)).collect();
        elements.iter().copied().zip(elements.iter().copied().map(derivative)).collect()
    }
}
