//! The networks by name, as exporters.md's table calls them.

use updp_ir::{IrError, Model};

use crate::convnext::Origin;
use crate::dialect::{Dialect, Options};
use crate::net::Net;
use crate::{convnext, deit, mobilenet, mobileone, repvgg, resnet, vgg};

/// A network at full size, 224x224 input, 1000 classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// torchvision `ResNet-18`.
    ResNet18,
    /// torchvision `ResNet-34`.
    ResNet34,
    /// torchvision MobileNetV2, width 1.0.
    MobileNetV2,
    /// timm MobileNetV2, width 1.0.
    MobileNetV2Timm100,
    /// timm MobileNetV2, width 1.4.
    MobileNetV2Timm140,
    /// torchvision VGG-11 with BatchNorm.
    Vgg11Bn,
    /// torchvision ConvNeXt-T.
    ConvNextTiny,
    /// timm ConvNeXt-T.
    ConvNextTinyTimm,
    /// timm DeiT-T.
    DeitTiny,
    /// timm DeiT-S.
    DeitSmall,
    /// timm RepVGG-A0, train form.
    RepVggA0,
    /// timm MobileOne-S0, train form.
    MobileOneS0,
}

impl Network {
    /// Every network.
    pub const ALL: [Self; 12] = [
        Self::ResNet18,
        Self::ResNet34,
        Self::MobileNetV2,
        Self::MobileNetV2Timm100,
        Self::MobileNetV2Timm140,
        Self::Vgg11Bn,
        Self::ConvNextTiny,
        Self::ConvNextTinyTimm,
        Self::DeitTiny,
        Self::DeitSmall,
        Self::RepVggA0,
        Self::MobileOneS0,
    ];

    /// Name on the command line and in file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "tv_resnet18",
            Self::ResNet34 => "tv_resnet34",
            Self::MobileNetV2 => "tv_mobilenet_v2",
            Self::MobileNetV2Timm100 => "timm_mobilenetv2_100",
            Self::MobileNetV2Timm140 => "timm_mobilenetv2_140",
            Self::Vgg11Bn => "tv_vgg11_bn",
            Self::ConvNextTiny => "tv_convnext_tiny",
            Self::ConvNextTinyTimm => "timm_convnext_tiny",
            Self::DeitTiny => "timm_deit_tiny",
            Self::DeitSmall => "timm_deit_small",
            Self::RepVggA0 => "timm_repvgg_a0",
            Self::MobileOneS0 => "timm_mobileone_s0",
        }
    }

    /// The network of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|network| network.name() == name)
    }

    /// Whether it has BatchNorm layers.
    #[must_use]
    pub fn has_batch_norm(self) -> bool {
        !matches!(
            self,
            Self::ConvNextTiny | Self::ConvNextTinyTimm | Self::DeitTiny | Self::DeitSmall
        )
    }

    /// The dialects that make a difference: `dynamo18-bn` only where there is BatchNorm.
    pub fn dialects(self) -> impl Iterator<Item = Dialect> {
        Dialect::ALL
            .into_iter()
            .filter(move |dialect| self.has_batch_norm() || *dialect != Dialect::DynamoBn)
    }

    /// Name of the file that holds it in this form.
    #[must_use]
    pub fn file_name(self, options: &Options) -> String {
        let suffix = if options.dynamic { "-dyn" } else { "" };
        format!("{}.{}{suffix}.onnx", self.name(), options.dialect.name())
    }

    /// Builds the model.
    ///
    /// # Errors
    /// What [`updp_ir::ModelBuilder::build`] finds wrong, which would be a bug here.
    pub fn build(self, options: &Options) -> Result<Model, IrError> {
        let mut net = Net::new(options);
        let output = match self {
            Self::ResNet18 => resnet::forward(&mut net, [2, 2, 2, 2]),
            Self::ResNet34 => resnet::forward(&mut net, [3, 4, 6, 3]),
            Self::MobileNetV2 => mobilenet::torchvision(&mut net),
            Self::MobileNetV2Timm100 => mobilenet::timm(&mut net, 10),
            Self::MobileNetV2Timm140 => mobilenet::timm(&mut net, 14),
            Self::Vgg11Bn => vgg::forward(&mut net),
            Self::ConvNextTiny => convnext::forward(&mut net, Origin::Torchvision),
            Self::ConvNextTinyTimm => convnext::forward(&mut net, Origin::Timm),
            Self::DeitTiny => deit::forward(&mut net, 192),
            Self::DeitSmall => deit::forward(&mut net, 384),
            Self::RepVggA0 => repvgg::forward(&mut net),
            Self::MobileOneS0 => mobileone::forward(&mut net),
        };
        net.finish(&output)
    }
}
