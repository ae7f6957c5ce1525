//! timm MobileOne-S0 in its train form: four equal branches, a 1x1 scale branch beside larger
//! kernels and, where shapes allow, an identity BatchNorm.

use updp_ir::Node;

use crate::layers::Conv;
use crate::net::{Net, Val, at};

/// Depth and channels of each stage; a stage is that many pairs of depthwise 3x3 and 1x1 block.
const STAGES: [(usize, usize); 4] = [(2, 48), (8, 128), (10, 256), (1, 1024)];

const BRANCHES: usize = 4;

/// The network.
pub(crate) fn forward(net: &mut Net) -> Val {
    let input = net.input();
    let mut x = block(net, &input, "stem", &Conv::new(48, 3).stride(2), 1);
    for (stage, (depth, channels)) in STAGES.into_iter().enumerate() {
        for pair in 0..depth {
            let stride = if pair == 0 { 2 } else { 1 };
            let path = format!("stages.{stage}.{}", 2 * pair);
            let depthwise = Conv::depthwise(x.size(1), 3).stride(stride);
            x = block(net, &x, &path, &depthwise, BRANCHES);
            let path = format!("stages.{stage}.{}", 2 * pair + 1);
            x = block(net, &x, &path, &Conv::new(channels, 1), BRANCHES);
        }
    }
    x = net.global_pool(&x, "head.global_pool.pool");
    x = net.flatten(&x, "head.global_pool.flatten");
    net.classifier(&x, "head.fc", 1.0)
}

/// `scale + Σ kxk + identity` in this order, from the left; Python adds the literal 0 of an absent
/// scale or identity, which legacy keeps.
fn block(net: &mut Net, x: &Val, path: &str, conv: &Conv, branches: usize) -> Val {
    let part = |name: &str| format!("{path}.{name}");
    net.declare(path, &[".identity", ".conv_kxk", ".conv_scale"]);
    let has_identity = conv.stride == 1 && x.size(1) == conv.out_channels;
    let has_scale = conv.kernel > 1;
    let summands = branches + usize::from(has_scale);
    let total = match (path, conv.groups, has_identity) {
        ("stem", ..) => 4.0,
        (_, 1, true) => 0.92,
        (_, 1, false) => 1.55,
        (.., true) => 0.8,
        (.., false) => 1.3,
    };
    let conv = conv.gain(total / (summands as f64).sqrt());
    let identity = has_identity.then(|| net.batch_norm(x, &part("identity"), 0.6));
    let pair = |net: &mut Net, name: &str, conv: &Conv| {
        net.conv_bn(x, &part(&format!("{name}.conv")), &part(&format!("{name}.bn")), conv)
    };
    let mut sum = has_scale.then(|| pair(net, "conv_scale", &Conv { kernel: 1, pad: 0, ..conv }));
    for branch in 0..branches {
        let term = pair(net, &format!("conv_kxk.{branch}"), &conv);
        sum = Some(match sum {
            Some(sum) => net.add(&sum, &term, path),
            None => add_zero(net, term, path),
        });
    }
    let sum = sum.expect("at least one branch");
    let sum = match identity {
        Some(identity) => net.add(&sum, &identity, path),
        None => add_zero(net, sum, path),
    };
    net.relu(&sum, &part("act"))
}

fn add_zero(net: &mut Net, x: Val, path: &str) -> Val {
    if net.dialect.is_dynamo() {
        return x;
    }
    let zero = net.float_scalar(path, 0.0);
    net.op(at(path, ""), Node::new("Add"), &[&x.name, &zero], x.dims)
}
