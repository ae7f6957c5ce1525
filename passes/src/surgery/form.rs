//! The forms a pruned block can take.

use crate::blocks::{Block, BlockKind, Element};

/// The form that a block becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// The form of the paper: activations and normalizations become linear, kernels shrink, and everything merges
    /// into one convolution or fully connected operator.
    Conv,
    /// A depthwise convolution, then a pointwise convolution.
    DepthwisePointwise,
    /// One pointwise convolution.
    Pointwise,
    /// The normalization stays; everything after it merges into one pointwise or fully connected operator.
    Norm,
    /// A convolution to a quarter of the channels, then a pointwise convolution back; fitted only.
    LowRank,
    /// The shortcut alone.
    Drop,
    /// The block with this many eighths (1 to 7) of its hidden channels; fitted only.
    Thin(u8),
}

impl Form {
    /// All forms, the form of the paper first.
    pub const ALL: [Self; 13] = [
        Self::Conv,
        Self::DepthwisePointwise,
        Self::Pointwise,
        Self::Norm,
        Self::LowRank,
        Self::Drop,
        Self::Thin(7),
        Self::Thin(6),
        Self::Thin(5),
        Self::Thin(4),
        Self::Thin(3),
        Self::Thin(2),
        Self::Thin(1),
    ];

    /// The name of the form for `--form`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv => "conv",
            Self::DepthwisePointwise => "dwpw",
            Self::Pointwise => "pw",
            Self::Norm => "norm",
            Self::LowRank => "low-rank",
            Self::Drop => "drop",
            Self::Thin(7) => "thin-7/8",
            Self::Thin(6) => "thin-6/8",
            Self::Thin(5) => "thin-5/8",
            Self::Thin(4) => "thin-4/8",
            Self::Thin(3) => "thin-3/8",
            Self::Thin(2) => "thin-2/8",
            Self::Thin(1) => "thin-1/8",
            Self::Thin(_) => "thin",
        }
    }

    /// The form with this [`name`](Self::name).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }

    /// Whether the block keeps its operators and loses hidden channels.
    #[must_use]
    pub fn is_thin(self) -> bool {
        matches!(self, Self::Thin(_))
    }

    /// Whether the block loses operators.
    #[must_use]
    pub fn is_depth(self) -> bool {
        !self.is_thin()
    }

    /// Whether each nonlinear operator of the branch is replaced in place, so that the pruned flow has the
    /// branch's own weights; otherwise the branch gets a second flow with weights of its own.
    #[must_use]
    pub fn is_in_place(self, kind: BlockKind) -> bool {
        match self {
            Self::Conv | Self::Norm => true,
            Self::DepthwisePointwise => kind == BlockKind::ConvNext,
            Self::Pointwise | Self::LowRank | Self::Drop | Self::Thin(_) => false,
        }
    }
}

/// The forms a block offers without fitting, the form of the paper first; empty if the block cannot be pruned or is only
/// fitted.
#[must_use]
pub fn forms(block: &Block) -> Vec<Form> {
    if block.refusal.is_some() || block.fit_only.is_some() {
        return Vec::new();
    }
    let mut forms = match block.kind {
        BlockKind::Other | BlockKind::Attention => Vec::new(),
        BlockKind::ConvNext => vec![Form::Conv, Form::DepthwisePointwise, Form::Norm],
        BlockKind::VitLayer | BlockKind::Mlp => vec![Form::Conv, Form::Norm],
        BlockKind::Basic
        | BlockKind::Bottleneck
        | BlockKind::InvertedResidual
        | BlockKind::Residual
        | BlockKind::Chain => {
            if block.linears().all(crate::lift::Linear::is_conv) {
                vec![Form::Conv, Form::DepthwisePointwise, Form::Pointwise]
            } else {
                vec![Form::Conv]
            }
        }
    };
    let has_norm = block.branch.iter().any(|element| matches!(element, Element::Norm(_)));
    if !has_norm {
        forms.retain(|form| *form != Form::Norm);
    }
    if block.has_identity_shortcut() && block.attention.is_none() {
        forms.push(Form::Drop);
    }
    forms
}
