//! Layers of convolutional networks, each in the form of the dialect.

use updp_ir::Node;

use crate::net::{At, Net, Val, at};
use crate::weights::{BATCH_NORM_EPSILON, BatchNorm, Draw, center};

/// Gain of a dense Conv + BatchNorm + `ReLU` after a `ReLU` that keeps the mean square of activations:
/// He's √2, less what the drawn γ / √σ² adds on average, more what filters of mean 0 take away.
pub(crate) const RELU_GAIN: f64 = 1.55;
/// The same where filters see activations of mean 0, and for depthwise filters.
pub(crate) const PLAIN_GAIN: f64 = 1.3;

/// A convolution.
#[derive(Clone, Copy)]
pub(crate) struct Conv {
    /// Output channels.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Stride of both axes.
    pub stride: usize,
    /// Padding of all four sides.
    pub pad: usize,
    /// Groups.
    pub groups: usize,
    /// Weights have standard deviation `gain / √fan_in`.
    pub gain: f64,
    /// Whether the module has a bias of its own.
    pub has_bias: bool,
}

impl Conv {
    /// A dense convolution of stride 1 that keeps height and width, without bias.
    pub(crate) fn new(out_channels: usize, kernel: usize) -> Self {
        let pad = kernel / 2;
        Self { out_channels, kernel, stride: 1, pad, groups: 1, gain: RELU_GAIN, has_bias: false }
    }

    /// A depthwise one.
    pub(crate) fn depthwise(channels: usize, kernel: usize) -> Self {
        Self { groups: channels, gain: PLAIN_GAIN, ..Self::new(channels, kernel) }
    }

    /// One whose kernel tiles its input, with a bias.
    pub(crate) fn patches(out_channels: usize, kernel: usize) -> Self {
        Self {
            stride: kernel,
            pad: 0,
            gain: 1.0,
            has_bias: true,
            ..Self::new(out_channels, kernel)
        }
    }

    /// The same with this stride.
    pub(crate) fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same with this gain.
    pub(crate) fn gain(self, gain: f64) -> Self {
        Self { gain, ..self }
    }

    /// The same with a bias.
    pub(crate) fn biased(self) -> Self {
        Self { has_bias: true, ..self }
    }

    fn node(&self, is_dynamo: bool) -> Node {
        let pair = |size: usize| vec![size as i64; 2];
        let (group, pads) = (self.groups as i64, vec![self.pad as i64; 4]);
        let node = Node::new("Conv");
        if is_dynamo {
            node.with("group", group)
                .with("pads", pads)
                .with("auto_pad", "NOTSET")
                .with("strides", pair(self.stride))
                .with("dilations", pair(1))
                .with("kernel_shape", pair(self.kernel))
        } else {
            node.with("dilations", pair(1))
                .with("group", group)
                .with("kernel_shape", pair(self.kernel))
                .with("pads", pads)
                .with("strides", pair(self.stride))
        }
    }
}

/// The window of a pooling node.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Height and width.
    pub kernel: usize,
    /// Stride of both axes.
    pub stride: usize,
    /// Padding of all four sides.
    pub pad: usize,
}

impl Net {
    fn kernel(&self, x: &Val, path: &str, conv: &Conv) -> ([usize; 4], Vec<u8>, Option<Vec<u8>>) {
        let in_channels = x.size(1) / conv.groups;
        let dims = [conv.out_channels, in_channels, conv.kernel, conv.kernel];
        let fan_in = (in_channels * conv.kernel * conv.kernel) as f64;
        let std = conv.gain / fan_in.sqrt();
        let mut weight =
            self.draw(&format!("{path}.weight"), dims.iter().product(), Draw::Normal(std));
        if conv.groups == 1 {
            center(&mut weight, in_channels * conv.kernel * conv.kernel);
        }
        let bias = conv.has_bias.then(|| {
            self.draw(&format!("{path}.bias"), conv.out_channels, Draw::Uniform(-0.1, 0.1))
        });
        (dims, weight, bias)
    }

    fn conv_dims(&self, x: &Val, conv: &Conv) -> Vec<updp_ir::Dim> {
        let size = |axis| (x.size(axis) + 2 * conv.pad - conv.kernel) / conv.stride + 1;
        self.dims(&[conv.out_channels, size(2), size(3)])
    }

    /// A convolution as it is.
    pub(crate) fn conv(&mut self, x: &Val, path: &str, conv: &Conv) -> Val {
        let (dims, weight, bias) = self.kernel(x, path, conv);
        let weight = self.parameter(&format!("{path}.weight"), &dims, weight);
        let mut operands = vec![x.name.clone(), weight];
        if let Some(bias) = bias {
            operands.push(self.parameter(&format!("{path}.bias"), &[conv.out_channels], bias));
        }
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        let result = self.conv_dims(x, conv);
        self.op(at(path, "conv2d"), conv.node(self.dialect.is_dynamo()), &operands, result)
    }

    /// A convolution and the BatchNorm after it: two nodes, or one with both folded.
    pub(crate) fn conv_bn(&mut self, x: &Val, path: &str, bn_path: &str, conv: &Conv) -> Val {
        if self.dialect.keeps_batch_norm() {
            let x = self.conv(x, path, conv);
            return self.batch_norm(&x, bn_path, 1.0);
        }
        let (dims, mut weight, bias) = self.kernel(x, path, conv);
        let bias = BatchNorm::draw(self.seed(), bn_path, conv.out_channels, 1.0)
            .fold(&mut weight, bias.as_deref());
        let result = self.conv_dims(x, conv);
        if self.dialect.is_dynamo() {
            let name = format!("{path}.weight");
            let weight = self.parameter(&name, &dims, weight);
            let bias = self.folded_bias(&name, bias);
            let id = 291 + 2 * self.count("node_Conv");
            let node = conv.node(true).named(&format!("node_Conv_{id}"));
            let result = Val { name: self.batch_norm_result(), dims: result };
            return self.named_op(node, &[&x.name, &weight, &bias], result);
        }
        let weight = self.derived("Conv", &dims, weight);
        let bias = self.derived("Conv", &[conv.out_channels], bias);
        self.skip_derived_ids(1);
        self.op(at(path, ""), conv.node(false), &[&x.name, &weight, &bias], result)
    }

    /// Dynamo takes the first of the three results of `_native_batch_norm_legit_no_training`.
    fn batch_norm_result(&mut self) -> String {
        let first = self.fresh("getitem");
        self.count("getitem");
        self.count("getitem");
        first
    }

    /// A BatchNorm as it is, its γ around `gain`.
    pub(crate) fn batch_norm(&mut self, x: &Val, path: &str, gain: f64) -> Val {
        let channels = x.size(1);
        let drawn = BatchNorm::draw(self.seed(), path, channels, gain);
        let parts = [
            ("weight", drawn.weight),
            ("bias", drawn.bias),
            ("running_mean", drawn.mean),
            ("running_var", drawn.variance),
        ];
        let names = parts
            .map(|(part, bytes)| self.parameter(&format!("{path}.{part}"), &[channels], bytes));
        let operands = [&x.name, &names[0], &names[1], &names[2], &names[3]].map(String::as_str);
        let node = Node::new("BatchNormalization")
            .with("epsilon", BATCH_NORM_EPSILON)
            .with("momentum", 0.9_f32)
            .with("training_mode", 0_i64);
        if !self.dialect.is_dynamo() {
            return self.op(at(path, ""), node, &operands, x.dims.clone());
        }
        let id = 2 + 15 * self.count("node_BatchNormalization");
        let node = node.named(&format!("node_BatchNormalization_{id}"));
        let result = Val { name: self.batch_norm_result(), dims: x.dims.clone() };
        self.named_op(node, &operands, result)
    }

    /// `ReLU`.
    pub(crate) fn relu(&mut self, x: &Val, path: &str) -> Val {
        self.op(at(path, "relu"), Node::new("Relu"), &[&x.name], x.dims.clone())
    }

    /// `ReLU6`: `Clip` with two scalars.
    pub(crate) fn relu6(&mut self, x: &Val, path: &str) -> Val {
        let low = self.named_scalar(path, "min_val_cast", 0.0);
        let high = self.named_scalar(path, "max_val_cast", 6.0);
        let operands = [x.name.as_str(), &low, &high];
        if !self.dialect.is_dynamo() {
            return self.op(at(path, ""), Node::new("Clip"), &operands, x.dims.clone());
        }
        let name = match self.count("n4") {
            0 => "n4".to_owned(),
            count => format!("n4_{}", count + 1),
        };
        let result = Val { name: self.fresh("hardtanh"), dims: x.dims.clone() };
        self.named_op(Node::new("Clip").named(&name), &operands, result)
    }

    /// Sum of two values of equal dims.
    pub(crate) fn add(&mut self, left: &Val, right: &Val, path: &str) -> Val {
        let operands = [left.name.as_str(), &right.name];
        self.op(at(path, "add"), Node::new("Add"), &operands, left.dims.clone())
    }

    /// Max pooling.
    pub(crate) fn max_pool(&mut self, x: &Val, path: &str, window: Window) -> Val {
        let pair = |size: usize| vec![size as i64; 2];
        let pads = vec![window.pad as i64; 4];
        let node = Node::new("MaxPool");
        let node = if self.dialect.is_dynamo() {
            node.with("storage_order", 0_i64)
                .with("dilations", pair(1))
                .with("ceil_mode", 0_i64)
                .with("pads", pads)
                .with("auto_pad", "NOTSET")
                .with("strides", pair(window.stride))
                .with("kernel_shape", pair(window.kernel))
        } else {
            node.with("ceil_mode", 0_i64)
                .with("dilations", pair(1))
                .with("kernel_shape", pair(window.kernel))
                .with("pads", pads)
                .with("strides", pair(window.stride))
        };
        let size = |axis| (x.size(axis) + 2 * window.pad - window.kernel) / window.stride + 1;
        let dims = self.dims(&[x.size(1), size(2), size(3)]);
        self.op(at(path, "max_pool2d"), node, &[&x.name], dims)
    }

    /// Mean over height and width, kept as dims of 1.
    pub(crate) fn global_pool(&mut self, x: &Val, path: &str) -> Val {
        let dims = self.dims(&[x.size(1), 1, 1]);
        if !self.dialect.is_dynamo() {
            return self.op(at(path, ""), Node::new("GlobalAveragePool"), &[&x.name], dims);
        }
        let axes = self.ints(path, &[-1, -2]);
        let node =
            Node::new("ReduceMean").with("noop_with_empty_axes", 0_i64).with("keepdims", 1_i64);
        self.op(at(path, "mean"), node, &[&x.name, &axes], dims)
    }

    /// Everything after the batch as one dim.
    pub(crate) fn flatten(&mut self, x: &Val, path: &str) -> Val {
        let features = x.size(1) * x.size(2) * x.size(3);
        let dims = self.dims(&[features]);
        if !self.dialect.is_dynamo() {
            let node = Node::new("Flatten").with("axis", 1_i64);
            return self.op(at(path, ""), node, &[&x.name], dims);
        }
        let target = self.ints(path, &[self.batch_in_shape(), features as i64]);
        let node = Node::new("Reshape").with("allowzero", 1_i64);
        self.op(at(path, "view"), node, &[&x.name, &target], dims)
    }

    fn gemm_node(&self) -> Node {
        let node = Node::new("Gemm");
        if self.dialect.is_dynamo() {
            node.with("beta", 1.0_f32)
                .with("transB", 1_i64)
                .with("alpha", 1.0_f32)
                .with("transA", 0_i64)
        } else {
            node.with("alpha", 1.0_f32).with("beta", 1.0_f32).with("transB", 1_i64)
        }
    }

    fn gemm_parameters(&mut self, x: &Val, path: &str, features: usize, gain: f64) -> [String; 2] {
        let std = gain / (x.size(1) as f64).sqrt();
        let name = format!("{path}.weight");
        let mut weight = self.draw(&name, features * x.size(1), Draw::Normal(std));
        center(&mut weight, x.size(1));
        let weight = self.parameter(&name, &[features, x.size(1)], weight);
        let bias = self.drawn(&format!("{path}.bias"), &[features], Draw::Uniform(-0.1, 0.1));
        [weight, bias]
    }

    /// A Linear over `[B, in]`.
    pub(crate) fn gemm(&mut self, x: &Val, path: &str, features: usize, gain: f64) -> Val {
        let [weight, bias] = self.gemm_parameters(x, path, features, gain);
        let (node, dims) = (self.gemm_node(), self.dims(&[features]));
        self.op(at(path, "linear"), node, &[&x.name, &weight, &bias], dims)
    }

    /// The last Linear, to 1000 classes.
    pub(crate) fn classifier(&mut self, x: &Val, path: &str, gain: f64) -> Val {
        let [weight, bias] = self.gemm_parameters(x, path, 1000, gain);
        let (node, dims) = (self.gemm_node(), self.dims(&[1000]));
        self.last_op(At { module: path, aten: "linear" }, node, &[&x.name, &weight, &bias], dims)
    }
}
