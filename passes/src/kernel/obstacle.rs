//! The reason why two maps cannot become one: the failing condition, by name.

/// A condition of the affine algebra that does not hold.
///
/// Condition numbers are those of docs/papers.md; axes count the spatial axes from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// L5: the second map pads with zeros where the first map would still see its input.
    #[error(
        "axis {axis}: padding of {padding} after a kernel of {kernel} has no single-kernel form"
    )]
    InnerPadding {
        /// Spatial axis.
        axis: usize,
        /// Kernel size of the first map.
        kernel: usize,
        /// Padding of the second map on the failing side.
        padding: usize,
    },
    /// L4, L7: the padded ring needs a border map, but the spatial size is not known.
    #[error("the padded ring holds a bias and the spatial size is unknown")]
    SymbolicSpatial,
    /// The border map takes more bytes than the caller allows.
    #[error("the border map takes {bytes} bytes, granted are {limit}")]
    BorderTooLarge {
        /// Bytes that the map takes.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A border map belongs to another output size.
    #[error("the border map has spatial size {found:?}, expected {expected:?}")]
    BorderSizeMismatch {
        /// Output size of the map the border is added to.
        expected: Vec<usize>,
        /// Spatial size of the border.
        found: Vec<usize>,
    },
    /// L10, L11: parallel branches need equal strides.
    #[error("axis {axis}: stride {found}, expected {expected}")]
    StrideMismatch {
        /// Spatial axis.
        axis: usize,
        /// Stride of the first branch.
        expected: usize,
        /// Stride of the other branch.
        found: usize,
    },
    /// L10, L11: parallel branches need one output size for every input size.
    #[error("axis {axis}: the branches give different output sizes")]
    OutputSizeMismatch {
        /// Spatial axis.
        axis: usize,
    },
    /// Channel counts differ that should agree.
    #[error("{found} channels, expected {expected}")]
    ChannelsMismatch {
        /// Channels needed.
        expected: usize,
        /// Channels given.
        found: usize,
    },
    /// Numbers of spatial axes differ that should agree.
    #[error("{found} spatial axes, expected {expected}")]
    SpatialRankMismatch {
        /// Spatial axes needed.
        expected: usize,
        /// Spatial axes given.
        found: usize,
    },
    /// The group count is zero, or does not divide the channels or groups that it should divide.
    #[error("{groups} groups do not divide {channels}")]
    GroupsNotADivisor {
        /// Requested group count.
        groups: usize,
        /// Channels or groups to divide.
        channels: usize,
    },
    /// A stride, dilation or kernel size is zero.
    #[error("axis {axis}: kernel, stride and dilation must be at least 1")]
    ZeroStep {
        /// Spatial axis.
        axis: usize,
    },
    /// A kernel size, stride, dilation or padding is larger than any useful one.
    #[error("axis {axis}: a kernel size, stride, dilation or padding exceeds {limit}")]
    OutOfRange {
        /// Spatial axis.
        axis: usize,
        /// Largest size that this module accepts.
        limit: usize,
    },
    /// L10: no tap of the kernel reads the output's own position.
    #[error(
        "axis {axis}: no tap of the kernel of {kernel} with padding {padding} reads the own position"
    )]
    IdentityNeedsCentreTap {
        /// Spatial axis.
        axis: usize,
        /// Kernel size.
        kernel: usize,
        /// Padding at the beginning.
        padding: usize,
    },
    /// The dilated kernel is larger than the padded input, so there is no output.
    #[error(
        "axis {axis}: the kernel reaches over {reach} positions, the padded input has {padded}"
    )]
    KernelExceedsInput {
        /// Spatial axis.
        axis: usize,
        /// `d·(k − 1) + 1`.
        reach: usize,
        /// Input size with both paddings.
        padded: usize,
    },
    /// The result would hold more elements than any useful kernel or map.
    #[error("the result would hold more than {limit} elements")]
    TooManyElements {
        /// Largest element count that this module builds.
        limit: usize,
    },
    /// A normalization has `var + eps ≤ 0`.
    #[error("channel {channel}: variance plus epsilon is not positive")]
    VarianceNotPositive {
        /// Channel.
        channel: usize,
    },
    /// A number that scales or shifts a channel is infinite or not a number.
    #[error("channel {channel}: the value is not finite")]
    NotFinite {
        /// Channel.
        channel: usize,
    },
}

impl Obstacle {
    /// Returns the stable kebab-case code that `--why-not` shows.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InnerPadding { .. } => "inner-padding",
            Self::SymbolicSpatial => "symbolic-spatial",
            Self::BorderTooLarge { .. } => "border-too-large",
            Self::BorderSizeMismatch { .. } => "border-size-mismatch",
            Self::StrideMismatch { .. } => "stride-mismatch",
            Self::OutputSizeMismatch { .. } => "output-size-mismatch",
            Self::ChannelsMismatch { .. } => "channels-mismatch",
            Self::SpatialRankMismatch { .. } => "spatial-rank-mismatch",
            Self::GroupsNotADivisor { .. } => "groups-not-a-divisor",
            Self::ZeroStep { .. } => "zero-step",
            Self::OutOfRange { .. } => "out-of-range",
            Self::IdentityNeedsCentreTap { .. } => "identity-needs-centre-tap",
            Self::KernelExceedsInput { .. } => "kernel-exceeds-input",
            Self::TooManyElements { .. } => "too-many-elements",
            Self::VarianceNotPositive { .. } => "variance-not-positive",
            Self::NotFinite { .. } => "not-finite",
        }
    }
}
