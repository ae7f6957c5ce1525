//! The growing file: names, parameters and nodes in the manner of one exporter.

use std::collections::BTreeMap;

use updp_ir::{DataType, Dim, IrError, Model, ModelBuilder, Node, Tensor};

use crate::dialect::{Dialect, Options};
use crate::weights::{self, Draw};

/// A value on the way through the network.
#[derive(Clone, Debug)]
pub(crate) struct Val {
    /// Name in the file.
    pub name: String,
    /// Dims, batch first unless said otherwise.
    pub dims: Vec<Dim>,
}

impl Val {
    /// The size of a dim that is no batch.
    pub(crate) fn size(&self, axis: usize) -> usize {
        self.dims[axis].known().unwrap_or_default()
    }
}

/// Where a node comes from: module path (names the legacy node) and aten name (names the dynamo
/// value; empty for a value the exporter made up, `val_12`).
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    /// Module path, such as `layer1.0.conv1`; empty for the model's own forward.
    pub module: &'a str,
    /// aten name, such as `relu`.
    pub aten: &'a str,
}

/// Shorthand for [`At`].
pub(crate) fn at<'a>(module: &'a str, aten: &'a str) -> At<'a> {
    At { module, aten }
}

/// A model being written.
pub(crate) struct Net {
    builder: ModelBuilder,
    /// Dialect of the file.
    pub dialect: Dialect,
    /// The batch dim: 1 or `batch`.
    pub batch: Dim,
    seed: u64,
    counters: BTreeMap<String, usize>,
    parameters: Vec<(usize, String, Tensor)>,
    module_order: Vec<(String, usize)>,
    next_order: usize,
    derived: Vec<(String, Tensor)>,
    folded_biases: Vec<(String, Tensor)>,
    shared: Vec<(String, Tensor)>,
    infos: Vec<(Val, DataType)>,
    next_derived: usize,
}

/// A tensor over bytes that fit by construction.
fn tensor(dtype: DataType, dims: &[usize], bytes: Vec<u8>) -> Tensor {
    Tensor::new(dtype, dims.to_vec(), bytes.into()).expect("as many bytes as the dims ask for")
}

/// `[0]`-style int64 tensor: 1-D, or a scalar.
fn int_tensor(values: &[i64], is_scalar: bool) -> Tensor {
    let dims: &[usize] = if is_scalar { &[] } else { &[values.len()] };
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(DataType::Int64, dims, bytes)
}

/// The scope of a module path in a legacy node name: every module that was called, a child of a
/// `Sequential` under its full name (`/layer1/layer1.0/conv1`), a `ModuleList` left out.
fn scope(module: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in module.split('.').filter(|part| !part.is_empty()) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            let container = parts.last().cloned().unwrap_or_default();
            if container == "conv_kxk" {
                parts.pop();
            }
            parts.push(format!("{container}.{part}"));
        } else {
            parts.push(part.to_owned());
        }
    }
    parts.iter().fold(String::new(), |scope, part| scope + "/" + part)
}

impl Net {
    /// An empty model with its 224x224 RGB input.
    pub(crate) fn new(options: &Options) -> Self {
        let dialect = options.dialect;
        let version = if dialect.is_dynamo() { "2.15.0+cpu" } else { "2.15.0" };
        let mut builder = ModelBuilder::new(dialect.opset());
        builder.ir_version(dialect.ir_version()).producer("pytorch", version);
        builder.graph_name("main_graph");
        let batch = if options.dynamic { Dim::from("batch") } else { Dim::from(1) };
        let net = Self {
            builder,
            dialect,
            batch,
            seed: options.seed,
            counters: BTreeMap::new(),
            parameters: Vec::new(),
            module_order: Vec::new(),
            next_order: 0,
            derived: Vec::new(),
            folded_biases: Vec::new(),
            shared: Vec::new(),
            infos: Vec::new(),
            next_derived: 193,
        };
        let mut net = net;
        let input = net.input();
        net.builder.input(&input.name, DataType::Float, &input.dims);
        net
    }

    /// The graph input.
    pub(crate) fn input(&self) -> Val {
        let name = if self.dialect.is_dynamo() { "x" } else { "input" };
        Val { name: name.to_owned(), dims: self.dims(&[3, 224, 224]) }
    }

    /// The batch followed by known sizes.
    pub(crate) fn dims(&self, rest: &[usize]) -> Vec<Dim> {
        std::iter::once(self.batch.clone())
            .chain(rest.iter().map(|size| Dim::from(*size)))
            .collect()
    }

    /// Whether the batch is a symbol.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.batch.known().is_none()
    }

    /// The batch in the target of a Reshape: 1, or -1 for "whatever there is".
    pub(crate) fn batch_in_shape(&self) -> i64 {
        if self.is_dynamic() { -1 } else { 1 }
    }

    /// Makes the parameters below these paths appear in this order, whatever order they are used in.
    pub(crate) fn declare(&mut self, module: &str, children: &[&str]) {
        self.module_order.clear();
        for child in children {
            self.module_order.push((format!("{module}{child}"), self.next_order));
            self.next_order += 1;
        }
    }

    /// The elements of a parameter.
    pub(crate) fn draw(&self, name: &str, count: usize, draw: Draw) -> Vec<u8> {
        weights::draw(self.seed, name, count, draw)
    }

    /// The seed of the weights.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Writes an f32 parameter under its own name.
    pub(crate) fn parameter(&mut self, name: &str, dims: &[usize], bytes: Vec<u8>) -> String {
        let declared = self.module_order.iter().find(|(prefix, _)| {
            name.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let order = declared.map_or(self.next_order, |(_, order)| *order);
        self.next_order += usize::from(declared.is_none());
        self.parameters.push((order, name.to_owned(), tensor(DataType::Float, dims, bytes)));
        name.to_owned()
    }

    /// Draws a parameter and writes it under its own name.
    pub(crate) fn drawn(&mut self, name: &str, dims: &[usize], draw: Draw) -> String {
        let bytes = self.draw(name, dims.iter().product(), draw);
        self.parameter(name, dims, bytes)
    }

    /// Writes a tensor the exporter computed: `onnx::Conv_180` for operator `op`, or `val_12`.
    pub(crate) fn derived(&mut self, op: &str, dims: &[usize], bytes: Vec<u8>) -> String {
        let name = if self.dialect.is_dynamo() {
            self.fresh_val()
        } else {
            self.next_derived += 1;
            format!("onnx::{op}_{}", self.next_derived - 1)
        };
        self.derived_as(&name, dims, bytes)
    }

    /// Writes a tensor the exporter computed under this name.
    pub(crate) fn derived_as(&mut self, name: &str, dims: &[usize], bytes: Vec<u8>) -> String {
        self.derived.push((name.to_owned(), tensor(DataType::Float, dims, bytes)));
        name.to_owned()
    }

    /// Passes over ids that the legacy exporter spent on values it folded away.
    pub(crate) fn skip_derived_ids(&mut self, count: usize) {
        self.next_derived += count;
    }

    /// Writes the bias that dynamo folds out of a BatchNorm: `<weight>_bias`, after all others.
    pub(crate) fn folded_bias(&mut self, weight: &str, bytes: Vec<u8>) -> String {
        let name = format!("{weight}_bias");
        let value = tensor(DataType::Float, &[bytes.len() / 4], bytes);
        self.folded_biases.push((name.clone(), value));
        name
    }

    /// An int64 vector: a `Constant` node of `module`, or dynamo's shared initializer.
    pub(crate) fn ints(&mut self, module: &str, values: &[i64]) -> String {
        self.constant(module, int_tensor(values, false))
    }

    /// An int64 scalar, as [`Net::ints`].
    pub(crate) fn int_scalar(&mut self, module: &str, value: i64) -> String {
        self.constant(module, int_tensor(&[value], true))
    }

    /// An f32 scalar, as [`Net::ints`].
    pub(crate) fn float_scalar(&mut self, module: &str, value: f32) -> String {
        self.constant(module, tensor(DataType::Float, &[], value.to_le_bytes().to_vec()))
    }

    /// An f32 vector of one element, as [`Net::ints`].
    pub(crate) fn float_vector(&mut self, module: &str, value: f32) -> String {
        self.constant(module, tensor(DataType::Float, &[1], value.to_le_bytes().to_vec()))
    }

    /// An int64 tensor of any shape, as [`Net::ints`].
    pub(crate) fn int_table(&mut self, module: &str, dims: &[usize], values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(module, tensor(DataType::Int64, dims, bytes))
    }

    /// An f32 scalar that dynamo shares under this name.
    pub(crate) fn named_scalar(&mut self, module: &str, name: &str, value: f32) -> String {
        if !self.dialect.is_dynamo() {
            return self.float_scalar(module, value);
        }
        if self.shared.iter().all(|(known, _)| known != name) {
            let scalar = tensor(DataType::Float, &[], value.to_le_bytes().to_vec());
            self.shared.push((name.to_owned(), scalar));
        }
        name.to_owned()
    }

    fn constant(&mut self, module: &str, value: Tensor) -> String {
        if self.dialect.is_dynamo() {
            if let Some((name, _)) = self.shared.iter().find(|(_, known)| *known == value) {
                return name.clone();
            }
            let name = self.fresh_val();
            self.shared.push((name.clone(), value));
            return name;
        }
        let name = self.legacy_name(module, "Constant");
        let result = format!("{name}_output_0");
        self.builder.node(Node::new("Constant").named(&name).with("value", value), &[], &[&result]);
        result
    }

    /// A legacy `Constant [0]` with the names the exporter gives to the axes of an `Unsqueeze`.
    pub(crate) fn unsqueeze_axis(&mut self) -> String {
        let id = self.count("Constant") + 130;
        let result = format!("onnx::Unsqueeze_{}", id - 26);
        let node = Node::new("Constant").named(&format!("Constant_{id}"));
        self.builder.node(node.with("value", int_tensor(&[0], false)), &[], &[&result]);
        result
    }

    /// How often this was asked for `name` before.
    pub(crate) fn count(&mut self, name: &str) -> usize {
        let counter = self.counters.entry(name.to_owned()).or_default();
        *counter += 1;
        *counter - 1
    }

    /// `name`, `name_1`, `name_2` …
    pub(crate) fn fresh(&mut self, name: &str) -> String {
        match self.count(name) {
            0 => name.to_owned(),
            count => format!("{name}_{count}"),
        }
    }

    fn fresh_val(&mut self) -> String {
        format!("val_{}", self.count("val"))
    }

    fn legacy_name(&mut self, module: &str, op: &str) -> String {
        self.fresh(&format!("{}/{op}", scope(module)))
    }

    /// Adds a node with one f32 result of `dims`.
    pub(crate) fn op(&mut self, at: At<'_>, node: Node, operands: &[&str], dims: Vec<Dim>) -> Val {
        self.op_of(DataType::Float, at, node, operands, dims)
    }

    /// Adds a node with one int64 result of `dims`.
    pub(crate) fn int_op(
        &mut self,
        at: At<'_>,
        node: Node,
        operands: &[&str],
        dims: Vec<Dim>,
    ) -> Val {
        self.op_of(DataType::Int64, at, node, operands, dims)
    }

    fn op_of(
        &mut self,
        dtype: DataType,
        at: At<'_>,
        node: Node,
        operands: &[&str],
        dims: Vec<Dim>,
    ) -> Val {
        let op = node.op_type().to_owned();
        let (node_name, result) = if !self.dialect.is_dynamo() {
            let name = self.legacy_name(at.module, &op);
            let result = format!("{name}_output_0");
            (name, result)
        } else if at.aten.is_empty() {
            let result = self.fresh_val();
            let id = self.counters["val"] - 1;
            (format!("node_{op}_{id}"), result)
        } else {
            let result = self.fresh(at.aten);
            (format!("node_{result}"), result)
        };
        self.named_op_of(dtype, node.named(&node_name), operands, Val { name: result, dims })
    }

    /// Adds a node that has its name already, with one f32 result.
    pub(crate) fn named_op(&mut self, node: Node, operands: &[&str], result: Val) -> Val {
        self.named_op_of(DataType::Float, node, operands, result)
    }

    fn named_op_of(&mut self, dtype: DataType, node: Node, operands: &[&str], result: Val) -> Val {
        self.builder.node(node, operands, &[&result.name]);
        self.infos.push((result.clone(), dtype));
        result
    }

    /// Adds the last node of the network; legacy calls its result `output`.
    pub(crate) fn last_op(
        &mut self,
        at: At<'_>,
        node: Node,
        operands: &[&str],
        dims: Vec<Dim>,
    ) -> Val {
        if self.dialect.is_dynamo() {
            return self.op(at, node, operands, dims);
        }
        let name = self.legacy_name(at.module, node.op_type());
        self.named_op(node.named(&name), operands, Val { name: "output".to_owned(), dims })
    }

    /// Adds a legacy node with several f32 results of the same dims.
    pub(crate) fn legacy_split(
        &mut self,
        module: &str,
        node: Node,
        operands: &[&str],
        dims: &[Dim],
        count: usize,
    ) -> Vec<Val> {
        let name = self.legacy_name(module, node.op_type());
        let results: Vec<Val> = (0..count)
            .map(|slot| Val { name: format!("{name}_output_{slot}"), dims: dims.to_vec() })
            .collect();
        let names: Vec<&str> = results.iter().map(|result| result.name.as_str()).collect();
        self.builder.node(node.named(&name), operands, &names);
        results
    }

    /// The finished model with `output` as its graph output.
    pub(crate) fn finish(mut self, output: &Val) -> Result<Model, IrError> {
        self.builder.output(&output.name, DataType::Float, Some(&output.dims));
        self.parameters.sort_by_key(|(order, ..)| *order);
        let parameters = self.parameters.into_iter().map(|(_, name, value)| (name, value));
        let initializers =
            parameters.chain(self.derived).chain(self.shared).chain(self.folded_biases);
        for (name, value) in initializers {
            self.builder.initializer(&name, &value);
            if self.dialect.is_dynamo() {
                let dims: Vec<Dim> = value.dims().iter().map(|size| Dim::from(*size)).collect();
                self.builder.value_info(&name, value.dtype(), &dims);
            }
        }
        if self.dialect.is_dynamo() {
            for (value, dtype) in self.infos.iter().filter(|(value, _)| value.name != output.name) {
                self.builder.value_info(&value.name, *dtype, &value.dims);
            }
        }
        self.builder.build()
    }
}
