//! MobileNetV2 of torchvision and of timm: one architecture, two namings.

use crate::layers::{Conv, PLAIN_GAIN};
use crate::net::{Net, Val};

/// Expansion, channels, depth and stride of each stage.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Paths of the three Conv + BatchNorm pairs of a block; the first is absent without expansion.
struct Names {
    block: String,
    expand: Option<[String; 3]>,
    depthwise: [String; 3],
    project: [String; 2],
}

/// Channels at a width of `tenths` / 10: the nearest multiple of 8, at most a tenth too small.
fn scaled(channels: usize, tenths: usize) -> usize {
    let hundredths = channels * tenths * 10;
    let rounded = ((hundredths + 400) / 800 * 8).max(8);
    if rounded * 1000 < hundredths * 9 { rounded + 8 } else { rounded }
}

/// torchvision's, at width 1.
pub(crate) fn torchvision(net: &mut Net) -> Val {
    let mut x = net.input();
    x = net.conv_bn(&x, "features.0.0", "features.0.1", &Conv::new(32, 3).stride(2));
    x = net.relu6(&x, "features.0.2");
    let mut index = 1;
    for (expansion, channels, depth, stride) in STAGES {
        for block in 0..depth {
            let names = torchvision_names(index, expansion > 1);
            let stride = if block == 0 { stride } else { 1 };
            x = inverted_residual(net, &x, &names, [expansion, channels, stride]);
            index += 1;
        }
    }
    x = net.conv_bn(&x, "features.18.0", "features.18.1", &Conv::new(1280, 1));
    x = net.relu6(&x, "features.18.2");
    x = net.global_pool(&x, "");
    x = net.flatten(&x, "");
    net.classifier(&x, "classifier.1", 1.5)
}

fn torchvision_names(index: usize, has_expansion: bool) -> Names {
    let block = format!("features.{index}");
    let part = |name: &str| format!("{block}.conv.{name}");
    let unit = |at: usize| [0, 1, 2].map(|layer| part(&format!("{at}.{layer}")));
    let first = usize::from(has_expansion);
    Names {
        expand: has_expansion.then(|| unit(0)),
        depthwise: unit(first),
        project: [part(&(first + 1).to_string()), part(&(first + 2).to_string())],
        block,
    }
}

/// timm's, at a width of `tenths` / 10.
pub(crate) fn timm(net: &mut Net, tenths: usize) -> Val {
    let mut x = net.input();
    let stem = Conv::new(scaled(32, tenths), 3).stride(2);
    x = net.conv_bn(&x, "conv_stem", "bn1", &stem);
    x = net.relu6(&x, "bn1.act");
    for (stage, (expansion, channels, depth, stride)) in STAGES.into_iter().enumerate() {
        for block in 0..depth {
            let names = timm_names(&format!("blocks.{stage}.{block}"), expansion > 1);
            let stride = if block == 0 { stride } else { 1 };
            x = inverted_residual(net, &x, &names, [expansion, scaled(channels, tenths), stride]);
        }
    }
    x = net.conv_bn(&x, "conv_head", "bn2", &Conv::new(scaled(1280, tenths.max(10)), 1));
    x = net.relu6(&x, "bn2.act");
    x = net.global_pool(&x, "global_pool.pool");
    x = net.flatten(&x, "global_pool.flatten");
    net.classifier(&x, "classifier", 1.5)
}

fn timm_names(block: &str, has_expansion: bool) -> Names {
    let part = |name: &str| format!("{block}.{name}");
    let unit = |conv: &str, bn: &str| [part(conv), part(bn), part(&format!("{bn}.act"))];
    if has_expansion {
        Names {
            block: block.to_owned(),
            expand: Some(unit("conv_pw", "bn1")),
            depthwise: unit("conv_dw", "bn2"),
            project: [part("conv_pwl"), part("bn3")],
        }
    } else {
        Names {
            block: block.to_owned(),
            expand: None,
            depthwise: unit("conv_dw", "bn1"),
            project: [part("conv_pw"), part("bn2")],
        }
    }
}

fn inverted_residual(
    net: &mut Net,
    x: &Val,
    names: &Names,
    [expansion, channels, stride]: [usize; 3],
) -> Val {
    let in_channels = x.size(1);
    let mut branch = x.clone();
    if let Some([conv, bn, act]) = &names.expand {
        let expand = Conv::new(in_channels * expansion, 1).gain(PLAIN_GAIN);
        branch = net.conv_bn(&branch, conv, bn, &expand);
        branch = net.relu6(&branch, act);
    }
    let [conv, bn, act] = &names.depthwise;
    let depthwise = Conv::depthwise(in_channels * expansion, 3).stride(stride);
    branch = net.conv_bn(&branch, conv, bn, &depthwise);
    branch = net.relu6(&branch, act);
    let is_residual = stride == 1 && in_channels == channels;
    let gain = if is_residual { 0.6 } else { 1.1 };
    let [conv, bn] = &names.project;
    branch = net.conv_bn(&branch, conv, bn, &Conv::new(channels, 1).gain(gain));
    if is_residual { net.add(&branch, x, &names.block) } else { branch }
}
