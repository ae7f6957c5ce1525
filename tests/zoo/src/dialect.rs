//! The exporters whose files the zoo imitates.

/// One way of exporting: exporter, opset, and whether Conv + BatchNorm arrive folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// `TorchScript` exporter, opset 17, `training=EVAL` with constant folding: BatchNorm folded.
    LegacyEval,
    /// `TorchScript` exporter, opset 17, `training=PRESERVE` without constant folding: BatchNorm kept,
    /// weights transposed and shapes assembled in the graph.
    LegacyPreserve,
    /// torch.export based exporter, opset 18, optimized: BatchNorm folded, no `Constant` nodes.
    Dynamo,
    /// As [`Dialect::Dynamo`] with BatchNorm kept.
    DynamoBn,
}

impl Dialect {
    /// Every dialect, in the order of the tables.
    pub const ALL: [Self; 4] =
        [Self::LegacyEval, Self::LegacyPreserve, Self::Dynamo, Self::DynamoBn];

    /// Name on the command line and in file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LegacyEval => "legacy17-eval",
            Self::LegacyPreserve => "legacy17-preserve",
            Self::Dynamo => "dynamo18",
            Self::DynamoBn => "dynamo18-bn",
        }
    }

    /// The dialect of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// Whether a `BatchNormalization` after a `Conv` is written as such.
    #[must_use]
    pub fn keeps_batch_norm(self) -> bool {
        matches!(self, Self::LegacyPreserve | Self::DynamoBn)
    }

    /// Whether this is a form of the torch.export based exporter.
    #[must_use]
    pub fn is_dynamo(self) -> bool {
        matches!(self, Self::Dynamo | Self::DynamoBn)
    }

    /// Opset of the file.
    #[must_use]
    pub fn opset(self) -> i64 {
        if self.is_dynamo() { 18 } else { 17 }
    }

    /// IR version of the file.
    #[must_use]
    pub fn ir_version(self) -> i64 {
        if self.is_dynamo() { 10 } else { 8 }
    }
}

/// How a network is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Exporter to imitate.
    pub dialect: Dialect,
    /// Seed of every weight; the weights of one seed are the same function in every dialect.
    pub seed: u64,
    /// Whether the batch is the symbol `batch` instead of 1.
    pub dynamic: bool,
}

impl Options {
    /// This dialect with seed 0 and batch 1.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, seed: 0, dynamic: false }
    }
}
