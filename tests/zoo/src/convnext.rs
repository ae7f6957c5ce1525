//! ConvNeXt-T of torchvision and of timm: one architecture; names and layer scale differ.

use updp_ir::{Dim, Node};

use crate::dialect::Dialect;
use crate::layers::Conv;
use crate::net::{Net, Val, at};
use crate::weights::Draw;

/// Depth and channels of each stage.
const STAGES: [(usize, usize); 4] = [(3, 96), (3, 192), (9, 384), (3, 768)];

const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];
const CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];

/// Whose implementation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// torchvision: everything under `features`, layer scale `[C, 1, 1]`.
    Torchvision,
    /// timm: `stem`, `stages`, `head`, layer scale `gamma [C]`.
    Timm,
}

/// Module paths of a block.
struct Names {
    block: String,
    conv: String,
    /// The two transposes.
    permutes: [String; 2],
    norm: String,
    first: String,
    activation: String,
    second: String,
    scale: String,
}

impl Names {
    fn new(origin: Origin, stage: usize, index: usize) -> Self {
        if origin == Origin::Timm {
            let block = format!("stages.{stage}.blocks.{index}");
            let part = |name: &str| format!("{block}.{name}");
            return Self {
                conv: part("conv_dw"),
                permutes: [block.clone(), block.clone()],
                norm: part("norm"),
                first: part("mlp.fc1"),
                activation: part("mlp.act"),
                second: part("mlp.fc2"),
                scale: part("gamma"),
                block,
            };
        }
        let block = format!("features.{}.{index}", 2 * stage + 1);
        let part = |layer: usize| format!("{block}.block.{layer}");
        Self {
            conv: part(0),
            permutes: [part(1), part(6)],
            norm: part(2),
            first: part(3),
            activation: part(4),
            second: part(5),
            scale: format!("{block}.layer_scale"),
            block,
        }
    }
}

/// The network.
pub(crate) fn forward(net: &mut Net, origin: Origin) -> Val {
    let is_timm = origin == Origin::Timm;
    let pair = |prefix: String| [format!("{prefix}.0"), format!("{prefix}.1")];
    let mut x = net.input();
    let [conv, norm] = pair(if is_timm { "stem" } else { "features.0" }.to_owned());
    x = net.conv(&x, &conv, &Conv::patches(STAGES[0].1, 4));
    x = norm_2d(net, &x, &norm);
    for (stage, (depth, channels)) in STAGES.into_iter().enumerate() {
        if stage > 0 {
            let [norm, conv] = pair(if is_timm {
                format!("stages.{stage}.downsample")
            } else {
                format!("features.{}", 2 * stage)
            });
            x = norm_2d(net, &x, &norm);
            x = net.conv(&x, &conv, &Conv::patches(channels, 2));
        }
        for index in 0..depth {
            x = block(net, &x, &Names::new(origin, stage, index), origin);
        }
    }
    let [pool, norm, flatten, linear] = if is_timm {
        ["head.global_pool.pool", "head.norm", "head.flatten", "head.fc"]
    } else {
        ["avgpool", "classifier.0", "classifier.1", "classifier.2"]
    };
    x = net.global_pool(&x, pool);
    if net.dialect.is_dynamo() && !net.is_dynamic() {
        x = as_strided(net, &x);
    }
    x = norm_2d(net, &x, norm);
    x = net.flatten(&x, flatten);
    net.classifier(&x, linear, 2.0)
}

/// LayerNorm over the channels of `[B, C, H, W]`.
fn norm_2d(net: &mut Net, x: &Val, path: &str) -> Val {
    let x = net.permute(x, path, "permute", &CHANNELS_LAST);
    let x = net.layer_norm(&x, path);
    net.permute(&x, path, "permute", &CHANNELS_FIRST)
}

fn block(net: &mut Net, x: &Val, names: &Names, origin: Origin) -> Val {
    let channels = x.size(1);
    net.declare("", &[&names.scale]);
    let mut branch = net.conv(x, &names.conv, &Conv::depthwise(channels, 7).biased().gain(1.0));
    branch = net.permute(&branch, &names.permutes[0], "permute", &CHANNELS_LAST);
    branch = net.layer_norm(&branch, &names.norm);
    branch = net.linear(&branch, &names.first, 4 * channels, 1.0);
    branch = net.gelu(&branch, &names.activation);
    branch = net.linear(&branch, &names.second, channels, 1.0);
    branch = net.permute(&branch, &names.permutes[1], "permute", &CHANNELS_FIRST);
    branch = layer_scale(net, &branch, names, origin);
    net.add(&branch, x, &names.block)
}

/// `γ · x` per channel.
fn layer_scale(net: &mut Net, x: &Val, names: &Names, origin: Origin) -> Val {
    let channels = x.size(1);
    let bytes = net.draw(&names.scale, channels, Draw::Uniform(0.2, 0.8));
    let path = names.block.as_str();
    let scale = if origin == Origin::Torchvision {
        net.parameter(&names.scale, &[channels, 1, 1], bytes)
    } else if net.dialect == Dialect::LegacyPreserve {
        let gamma = net.parameter(&names.scale, &[channels], bytes);
        let dims = [1, channels, 1, 1].map(Dim::from).to_vec();
        let gamma = Val { name: gamma, dims: Vec::new() };
        net.reshape(&gamma, path, &[1, -1, 1, 1], dims).name
    } else if net.dialect.is_dynamo() {
        let name = net.fresh("view");
        net.derived_as(&name, &[1, channels, 1, 1], bytes)
    } else {
        net.derived("Mul", &[1, channels, 1, 1], bytes)
    };
    let is_scale_first = origin == Origin::Torchvision && !net.dialect.is_dynamo();
    let operands = if is_scale_first { [&scale, &x.name] } else { [&x.name, &scale] };
    net.op(at(path, "mul"), Node::new("Mul"), &operands.map(String::as_str), x.dims.clone())
}

/// Dynamo's way to say that the strides of a pooled `[B, C, 1, 1]` are free: flattened, and looked
/// up by an index table of the same shape.
fn as_strided(net: &mut Net, x: &Val) -> Val {
    let channels = x.size(1);
    let flat = net.ints("", &[-1]);
    let node = Node::new("Reshape").with("allowzero", 0_i64);
    let flat = net.op(at("", ""), node, &[&x.name, &flat], vec![Dim::from(channels)]);
    let indices: Vec<i64> = (0..channels as i64).collect();
    let table = net.int_table("", &[1, channels, 1, 1], &indices);
    let node = Node::new("Gather").with("axis", 0_i64);
    net.op(at("", "as_strided"), node, &[&flat.name, &table], x.dims.clone())
}
