//! torchvision `ResNet` with basic blocks.

use crate::layers::{Conv, RELU_GAIN, Window};
use crate::net::{Net, Val};

/// The network with this many blocks a stage.
pub(crate) fn forward(net: &mut Net, depths: [usize; 4]) -> Val {
    let mut x = net.input();
    x = net.conv_bn(&x, "conv1", "bn1", &Conv { pad: 3, ..Conv::new(64, 7) }.stride(2).gain(4.0));
    x = net.relu(&x, "relu");
    x = net.max_pool(&x, "maxpool", Window { kernel: 3, stride: 2, pad: 1 });
    for (stage, (depth, channels)) in depths.into_iter().zip([64, 128, 256, 512]).enumerate() {
        for block in 0..depth {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = basic_block(net, &x, &format!("layer{}.{block}", stage + 1), channels, stride);
        }
    }
    x = net.global_pool(&x, "avgpool");
    x = net.flatten(&x, "");
    net.classifier(&x, "fc", 0.8)
}

fn basic_block(net: &mut Net, x: &Val, path: &str, channels: usize, stride: usize) -> Val {
    let part = |name: &str| format!("{path}.{name}");
    let first = Conv::new(channels, 3).stride(stride);
    let mut branch = net.conv_bn(x, &part("conv1"), &part("bn1"), &first);
    branch = net.relu(&branch, &part("relu"));
    let second = Conv::new(channels, 3).gain(RELU_GAIN / 2.0);
    branch = net.conv_bn(&branch, &part("conv2"), &part("bn2"), &second);
    let shortcut = if stride == 1 {
        x.clone()
    } else {
        let conv = Conv::new(channels, 1).stride(stride).gain(1.1);
        net.conv_bn(x, &part("downsample.0"), &part("downsample.1"), &conv)
    };
    let sum = net.add(&branch, &shortcut, path);
    net.relu(&sum, &part("relu_1"))
}
