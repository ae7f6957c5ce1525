//! Short descriptions of the operators of a micro-model.

/// A Conv or `ConvTranspose`; every list has one entry per spatial dim once the rank is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// Number of output channels.
    pub out_channels: usize,
    /// Kernel; one entry stands for all dims, as in the lists below.
    pub kernel: Vec<usize>,
    /// Strides.
    pub stride: Vec<usize>,
    /// Dilations.
    pub dilation: Vec<usize>,
    /// Padding before (one entry per dim), then after, in the order of ONNX; one entry stands for all.
    pub pads: Vec<i64>,
    /// Number of groups.
    pub groups: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// `auto_pad` instead of `pads`.
    pub auto_pad: Option<&'static str>,
}

/// A pointwise convolution with bias to `out_channels`; the methods change it.
#[must_use]
pub fn conv(out_channels: usize) -> ConvSpec {
    ConvSpec {
        out_channels,
        kernel: vec![1],
        stride: vec![1],
        dilation: vec![1],
        pads: vec![0],
        groups: 1,
        bias: true,
        auto_pad: None,
    }
}

impl ConvSpec {
    /// The same kernel size in every dim.
    #[must_use]
    pub fn kernel(self, size: usize) -> Self {
        self.kernels(&[size])
    }

    /// One kernel size per dim.
    #[must_use]
    pub fn kernels(mut self, sizes: &[usize]) -> Self {
        self.kernel = sizes.to_vec();
        self
    }

    /// The same stride in every dim.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = vec![stride];
        self
    }

    /// The same dilation in every dim.
    #[must_use]
    pub fn dilation(mut self, dilation: usize) -> Self {
        self.dilation = vec![dilation];
        self
    }

    /// The same padding on every side.
    #[must_use]
    pub fn pad(self, pad: i64) -> Self {
        self.pads(&[pad])
    }

    /// Padding before every dim, then after every dim.
    #[must_use]
    pub fn pads(mut self, pads: &[i64]) -> Self {
        self.pads = pads.to_vec();
        self
    }

    /// Number of groups.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Without bias.
    #[must_use]
    pub fn no_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// `auto_pad` instead of `pads`.
    #[must_use]
    pub fn auto_pad(mut self, mode: &'static str) -> Self {
        self.auto_pad = Some(mode);
        self
    }

    /// The same operator, with lists of full length for `spatial` dims.
    #[must_use]
    pub fn of_rank(&self, spatial: usize) -> Self {
        let spread =
            |list: &[usize]| if list.len() == 1 { vec![list[0]; spatial] } else { list.to_vec() };
        Self {
            kernel: spread(&self.kernel),
            stride: spread(&self.stride),
            dilation: spread(&self.dilation),
            pads: if self.pads.len() == 1 {
                vec![self.pads[0]; 2 * spatial]
            } else {
                self.pads.clone()
            },
            ..self.clone()
        }
    }
}

/// A Gemm.
#[derive(Clone, Debug, PartialEq)]
pub struct GemmSpec {
    /// Number of output features.
    pub out_features: usize,
    /// `alpha`.
    pub alpha: f32,
    /// `beta`.
    pub beta: f32,
    /// Whether the weight is stored `[O, I]`.
    pub trans_b: bool,
    /// Whether it has a bias.
    pub bias: bool,
}

/// A Gemm as torch exports it: `transB = 1` and a bias.
#[must_use]
pub fn gemm(out_features: usize) -> GemmSpec {
    GemmSpec { out_features, alpha: 1.0, beta: 1.0, trans_b: true, bias: true }
}

impl GemmSpec {
    /// Other factors.
    #[must_use]
    pub fn factors(mut self, alpha: f32, beta: f32) -> Self {
        (self.alpha, self.beta) = (alpha, beta);
        self
    }

    /// The weight stored `[I, O]`.
    #[must_use]
    pub fn plain_weight(mut self) -> Self {
        self.trans_b = false;
        self
    }

    /// Without bias.
    #[must_use]
    pub fn no_bias(mut self) -> Self {
        self.bias = false;
        self
    }
}

/// An `AveragePool` with a square window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Window.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Padding on every side.
    pub pad: usize,
    /// Whether padding counts in the mean.
    pub count_include_pad: bool,
}

/// A window with stride 1 and without padding.
#[must_use]
pub fn pool(kernel: usize) -> PoolSpec {
    PoolSpec { kernel, stride: 1, pad: 0, count_include_pad: false }
}

impl PoolSpec {
    /// Padding on every side, counted in the mean.
    #[must_use]
    pub fn pad_counted(mut self, pad: usize) -> Self {
        (self.pad, self.count_include_pad) = (pad, true);
        self
    }

    /// Stride.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }
}

/// Shape of the constant operand of an elementwise operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// `[]`.
    Scalar,
    /// `[1]`.
    One,
    /// `[C, 1, …]` over the dims after the channels (`[C]` where they are last).
    Channel,
    /// `[1, C, 1, …]` of the operand's rank.
    Full,
}

impl Broadcast {
    /// The dims for an operand with this rank, number of channels and channel axis.
    #[must_use]
    pub fn dims(self, channels: usize, rank: usize, axis: usize) -> Vec<usize> {
        let mut full = vec![1; rank];
        full[axis] = channels;
        match self {
            Self::Scalar => vec![],
            Self::One => vec![1],
            Self::Channel => full[axis..].to_vec(),
            Self::Full => full,
        }
    }
}
