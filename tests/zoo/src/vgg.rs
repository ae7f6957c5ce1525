//! torchvision VGG-11 with BatchNorm.

use updp_ir::Node;

use crate::layers::{Conv, RELU_GAIN, Window};
use crate::net::{Net, Val, at};

/// Output channels of each convolution; `None` is a max pooling.
const LAYERS: [Option<usize>; 13] = [
    Some(64),
    None,
    Some(128),
    None,
    Some(256),
    Some(256),
    None,
    Some(512),
    Some(512),
    None,
    Some(512),
    Some(512),
    None,
];

/// The network.
pub(crate) fn forward(net: &mut Net) -> Val {
    let mut x = net.input();
    let mut index = 0;
    for layer in LAYERS {
        let part = |offset: usize| format!("features.{}", index + offset);
        if let Some(channels) = layer {
            x = net.conv_bn(&x, &part(0), &part(1), &Conv::new(channels, 3).biased());
            x = net.relu(&x, &part(2));
            index += 3;
        } else {
            x = net.max_pool(&x, &part(0), Window { kernel: 2, stride: 2, pad: 0 });
            index += 1;
        }
    }
    x = average_pool(net, &x);
    x = net.flatten(&x, "");
    x = net.gemm(&x, "classifier.0", 4096, RELU_GAIN);
    x = net.relu(&x, "classifier.1");
    x = net.gemm(&x, "classifier.3", 4096, RELU_GAIN);
    x = net.relu(&x, "classifier.4");
    net.classifier(&x, "classifier.6", 1.0)
}

/// `AdaptiveAvgPool2d(7)` over 7x7: a window of one pixel.
fn average_pool(net: &mut Net, x: &Val) -> Val {
    let one = || vec![1_i64; 2];
    let node = Node::new("AveragePool");
    let node = if net.dialect.is_dynamo() {
        node.with("ceil_mode", 0_i64)
            .with("count_include_pad", 0_i64)
            .with("pads", vec![0_i64; 4])
            .with("auto_pad", "NOTSET")
            .with("strides", one())
            .with("kernel_shape", one())
    } else {
        node.with("kernel_shape", one()).with("strides", one())
    };
    net.op(at("avgpool", "_adaptive_avg_pool2d"), node, &[&x.name], x.dims.clone())
}
