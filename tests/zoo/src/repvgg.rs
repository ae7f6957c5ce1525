//! timm RepVGG-A0 in its train form: a 3x3, a 1x1 and, where shapes allow, an identity BatchNorm.

use crate::layers::Conv;
use crate::net::{Net, Val};

/// Depth and channels of each stage.
const STAGES: [(usize, usize); 4] = [(2, 48), (4, 96), (14, 192), (1, 1280)];

/// The network.
pub(crate) fn forward(net: &mut Net) -> Val {
    let input = net.input();
    let mut x = block(net, &input, "stem", 48, 2);
    for (stage, (depth, channels)) in STAGES.into_iter().enumerate() {
        for index in 0..depth {
            let stride = if index == 0 { 2 } else { 1 };
            x = block(net, &x, &format!("stages.{stage}.{index}"), channels, stride);
        }
    }
    x = net.global_pool(&x, "head.global_pool.pool");
    x = net.flatten(&x, "head.global_pool.flatten");
    net.classifier(&x, "head.fc", 3.0)
}

fn block(net: &mut Net, x: &Val, path: &str, channels: usize, stride: usize) -> Val {
    let part = |name: &str| format!("{path}.{name}");
    net.declare(path, &[".identity", ".conv_kxk", ".conv_1x1"]);
    let has_identity = stride == 1 && x.size(1) == channels;
    let gain = if path == "stem" {
        3.0
    } else if has_identity {
        0.65
    } else {
        1.1
    };
    let identity = has_identity.then(|| net.batch_norm(x, &part("identity"), 0.6));
    let mut branch = |name: &str, kernel: usize| {
        let conv = Conv::new(channels, kernel).stride(stride).gain(gain);
        net.conv_bn(x, &part(&format!("{name}.conv")), &part(&format!("{name}.bn")), &conv)
    };
    let (one, three) = (branch("conv_1x1", 1), branch("conv_kxk", 3));
    let mut sum = net.add(&one, &three, path);
    if let Some(identity) = identity {
        sum = net.add(&sum, &identity, path);
    }
    net.relu(&sum, &part("act"))
}
