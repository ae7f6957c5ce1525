//! The one value that every linear translation-invariant op lifts to.

use ndarray::{Array2, ArrayD, IxDyn};
use updp_ir::{ConvAxis, ConvGeometry};

use super::border::{Border, Constant};
use super::obstacle::Obstacle;

/// Largest element count of a kernel or border map built here (2 GiB in f64).
const MAX_ELEMENTS: usize = 1 << 28;

/// Largest kernel size, stride, dilation or padding; products of three of them stay below the word size.
const MAX_STEP: usize = 1 << 20;

/// An affine map `[I, in…] -> [O, out…]`: a convolution with an optional position-dependent constant.
///
/// `y[o,p] = b[o] + B[o,p] + Σ_{c,u} W[o,c,u] · x~[c, s·p + d·u − P]`. Here `x~` is `x`, and zero
/// outside of it; `c` runs over the inputs in the group of `o`. A map without spatial axes is fully
/// connected. [`Self::new`] checks the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineMap {
    /// Kernel `W [O, I/g, k…]`.
    pub weight: ArrayD<f64>,
    /// Bias `b [O]`; all zero when `border` is present.
    pub bias: Vec<f64>,
    /// Step `s` between outputs, one per spatial axis.
    pub stride: Vec<usize>,
    /// Step `d` between taps, one per spatial axis.
    pub dilation: Vec<usize>,
    /// Zeros `P` before the input, one number per spatial axis.
    pub pad_begin: Vec<usize>,
    /// Zeros after the input, one number per spatial axis.
    pub pad_end: Vec<usize>,
    /// Group count `g`.
    pub groups: usize,
    /// Constant `B [O, out…]` added to the output (L4c, L7, L9); fixes the output size. `None`
    /// means zero.
    pub border: Option<Border>,
}

impl AffineMap {
    /// Makes a convolution from its parts, `weight [O, I/g, k…]` and `bias [O]`.
    ///
    /// # Errors
    /// `channels-mismatch` when the bias is not `[O]`; `spatial-rank-mismatch` when the spatial
    /// lists and the kernel differ in length; `zero-step`; `out-of-range`; `groups-not-a-divisor`
    /// when `g` does not divide `O`.
    pub fn new(
        weight: ArrayD<f64>,
        bias: Vec<f64>,
        stride: Vec<usize>,
        dilation: Vec<usize>,
        pad_begin: Vec<usize>,
        pad_end: Vec<usize>,
        groups: usize,
    ) -> Result<Self, Obstacle> {
        let rank = stride.len();
        for found in [dilation.len(), pad_begin.len(), pad_end.len()] {
            check_rank(rank, found)?;
        }
        if weight.ndim() != rank + 2 {
            let found = weight.ndim().saturating_sub(2);
            return Err(Obstacle::SpatialRankMismatch { expected: rank, found });
        }
        check_channels(weight.shape()[0], bias.len())?;
        for axis in 0..rank {
            if stride[axis] == 0 || dilation[axis] == 0 || weight.shape()[axis + 2] == 0 {
                return Err(Obstacle::ZeroStep { axis });
            }
            let steps = [stride[axis], dilation[axis], pad_begin[axis], pad_end[axis]];
            if weight.shape()[axis + 2].max(steps.into_iter().max().unwrap_or(0)) > MAX_STEP {
                return Err(Obstacle::OutOfRange { axis, limit: MAX_STEP });
            }
        }
        if groups == 0 || !bias.len().is_multiple_of(groups) {
            return Err(Obstacle::GroupsNotADivisor { groups, channels: bias.len() });
        }
        Ok(Self { weight, bias, stride, dilation, pad_begin, pad_end, groups, border: None })
    }

    /// Makes a convolution of this geometry from `weight [O, I/g, k…]` and `bias [O]`.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn with_geometry(
        weight: ArrayD<f64>,
        bias: Vec<f64>,
        geometry: &ConvGeometry,
        groups: usize,
    ) -> Result<Self, Obstacle> {
        let ConvGeometry { stride, dilation, pad_begin, pad_end, .. } = geometry.clone();
        Self::new(weight, bias, stride, dilation, pad_begin, pad_end, groups)
    }

    /// Makes the map `y = x` on `[C, …]`, depthwise 1×1.
    #[must_use]
    pub fn identity(channels: usize, spatial_rank: usize) -> Self {
        Self::depthwise_pointwise(&vec![1.0; channels], vec![0.0; channels], spatial_rank)
    }

    /// Makes the map `y[c] = scale[c] · x[c] + shift[c]`, depthwise 1×1.
    ///
    /// # Errors
    /// `channels-mismatch` when the two lists differ in length.
    pub fn diagonal(scale: &[f64], shift: &[f64], spatial_rank: usize) -> Result<Self, Obstacle> {
        check_channels(scale.len(), shift.len())?;
        Ok(Self::depthwise_pointwise(scale, shift.to_vec(), spatial_rank))
    }

    /// Makes the map `y = W·x + b` without spatial axes, `weight [O, I]`, `bias [O]`.
    ///
    /// # Errors
    /// `channels-mismatch` when the bias is not `[O]`.
    pub fn dense(weight: Array2<f64>, bias: Vec<f64>) -> Result<Self, Obstacle> {
        Self::new(weight.into_dyn(), bias, vec![], vec![], vec![], vec![], 1)
    }

    /// Makes an average pool as a depthwise convolution with weights `1/Πk` (L14).
    ///
    /// The caller checks `ceil_mode = 0` and that the padding is counted or absent.
    ///
    /// # Errors
    /// `spatial-rank-mismatch` or `zero-step` when the lists do not make a kernel.
    pub fn average_pool(
        channels: usize,
        kernel: &[usize],
        stride: &[usize],
        pad_begin: &[usize],
        pad_end: &[usize],
    ) -> Result<Self, Obstacle> {
        let dims = [&[channels, 1], kernel].concat();
        let taps: usize = kernel.iter().product();
        Self::new(
            ArrayD::from_elem(IxDyn(&dims), 1.0 / taps.max(1) as f64),
            vec![0.0; channels],
            stride.to_vec(),
            vec![1; kernel.len()],
            pad_begin.to_vec(),
            pad_end.to_vec(),
            channels.max(1),
        )
    }

    /// Makes a zero pad of the spatial axes: the identity with padding.
    ///
    /// # Errors
    /// `spatial-rank-mismatch` when the two lists differ in length.
    pub fn zero_pad(channels: usize, begin: &[usize], end: &[usize]) -> Result<Self, Obstacle> {
        check_rank(begin.len(), end.len())?;
        Self::average_pool(channels, &vec![1; begin.len()], &vec![1; begin.len()], begin, end)
    }

    /// Makes the map that drops positions at the beginning and end of the spatial axes: an unpadded
    /// depthwise kernel with one tap 1 and zeros (L12). A strided slice is this map, then a strided
    /// [`Self::selection`].
    ///
    /// # Errors
    /// `spatial-rank-mismatch` when the two lists differ in length; `out-of-range` or
    /// `too-many-elements`.
    pub fn crop(channels: usize, begin: &[usize], end: &[usize]) -> Result<Self, Obstacle> {
        let rank = begin.len();
        check_rank(rank, end.len())?;
        let kernel =
            begin.iter().zip(end).map(|(begin, end)| begin.saturating_add(*end).saturating_add(1));
        let dims: Vec<usize> = [channels, 1].into_iter().chain(kernel).collect();
        let mut weight = array(&dims, vec![0.0; checked_elements(&dims)?]);
        for mut kernel in weight.outer_iter_mut() {
            kernel[&[&[0], begin].concat()[..]] = 1.0;
        }
        let (step, pad) = (vec![1; rank], vec![0; rank]);
        Self::new(
            weight,
            vec![0.0; channels],
            step.clone(),
            step,
            pad.clone(),
            pad,
            channels.max(1),
        )
    }

    /// Makes the map that takes output channel `o` from input channel `sources[o]` (zero for `None`) at
    /// every `stride`-th position. It covers slices, permutations, concatenations and zero pads of
    /// channels (L11b).
    ///
    /// # Errors
    /// `channels-mismatch` when a source is not an input channel; `zero-step`.
    pub fn selection(
        in_channels: usize,
        sources: &[Option<usize>],
        stride: &[usize],
    ) -> Result<Self, Obstacle> {
        let rank = stride.len();
        let dims = [&[sources.len(), in_channels][..], &vec![1; rank]].concat();
        let mut weight = vec![0.0; checked_elements(&dims)?];
        for (output, source) in sources.iter().enumerate() {
            if let Some(source) = *source {
                if source >= in_channels {
                    return Err(Obstacle::ChannelsMismatch {
                        expected: in_channels,
                        found: source + 1,
                    });
                }
                weight[output * in_channels + source] = 1.0;
            }
        }
        Self::new(
            array(&dims, weight),
            vec![0.0; sources.len()],
            stride.to_vec(),
            vec![1; rank],
            vec![0; rank],
            vec![0; rank],
            1,
        )
    }

    fn depthwise_pointwise(scale: &[f64], bias: Vec<f64>, rank: usize) -> Self {
        let dims = [&[scale.len(), 1][..], &vec![1; rank]].concat();
        Self {
            weight: array(&dims, scale.to_vec()),
            bias,
            stride: vec![1; rank],
            dilation: vec![1; rank],
            pad_begin: vec![0; rank],
            pad_end: vec![0; rank],
            groups: scale.len().max(1),
            border: None,
        }
    }

    /// Returns the number of spatial axes.
    #[must_use]
    pub fn spatial_rank(&self) -> usize {
        self.stride.len()
    }

    /// Returns `I`.
    #[must_use]
    pub fn in_channels(&self) -> usize {
        self.weight.shape()[1] * self.groups
    }

    /// Returns `O`.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        self.weight.shape()[0]
    }

    /// Returns `k`, one number per spatial axis.
    #[must_use]
    pub fn kernel_size(&self) -> &[usize] {
        &self.weight.shape()[2..]
    }

    /// Returns the output size for an input size; `None` if the ranks differ or the kernel exceeds
    /// the padded input.
    #[must_use]
    pub fn output_size(&self, input: &[usize]) -> Option<Vec<usize>> {
        if input.len() != self.spatial_rank() {
            return None;
        }
        (0..input.len()).map(|axis| self.axis(axis).output_size(input[axis])).collect()
    }

    /// Tells whether every kernel size is 1 (any stride, any padding).
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        self.kernel_size().iter().all(|&k| k == 1)
    }

    /// Tells whether every output reads one input channel (any multiplier).
    #[must_use]
    pub fn is_depthwise(&self) -> bool {
        self.weight.shape()[1] == 1
    }

    /// Returns the factor of each channel, `[C]`, if the map has one 1×1 kernel per channel; otherwise
    /// `None`.
    pub(super) fn diagonal_scale(&self) -> Option<Vec<f64>> {
        let is_diagonal =
            self.is_pointwise() && self.is_depthwise() && self.groups == self.out_channels();
        is_diagonal.then(|| self.weight.iter().copied().collect())
    }

    /// Tells whether no spatial axis is padded.
    #[must_use]
    pub fn is_unpadded(&self) -> bool {
        self.pad_begin.iter().chain(&self.pad_end).all(|&pad| pad == 0)
    }

    /// Returns the number of multiplications per output position: `O · I/g · Πk`.
    #[must_use]
    pub fn macs_per_output(&self) -> u64 {
        self.weight.shape().iter().map(|&dim| dim as u64).product()
    }

    /// Checks that the border map, if any, takes at most `limit` bytes with elements of
    /// `element_bytes`.
    ///
    /// # Errors
    /// `border-too-large`.
    pub fn check_border_bytes(&self, element_bytes: usize, limit: usize) -> Result<(), Obstacle> {
        match self.border.as_ref().map(|border| border.bytes(element_bytes)) {
            Some(bytes) if bytes > limit => Err(Obstacle::BorderTooLarge { bytes, limit }),
            _ => Ok(()),
        }
    }

    /// Returns the geometry of the window; its kernel is the shape of the weight.
    #[must_use]
    pub fn geometry(&self) -> ConvGeometry {
        ConvGeometry {
            kernel: self.kernel_size().to_vec(),
            stride: self.stride.clone(),
            dilation: self.dilation.clone(),
            pad_begin: self.pad_begin.clone(),
            pad_end: self.pad_end.clone(),
        }
    }

    pub(super) fn axis(&self, axis: usize) -> ConvAxis {
        ConvAxis {
            kernel: self.kernel_size()[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            begin: self.pad_begin[axis],
            end: self.pad_end[axis],
        }
    }

    /// Returns the output size; the error names the failing axis.
    pub(super) fn expect_output_size(&self, input: &[usize]) -> Result<Vec<usize>, Obstacle> {
        check_rank(self.spatial_rank(), input.len())?;
        let size = |axis: usize| {
            let window = self.axis(axis);
            window.output_size(input[axis]).ok_or_else(|| Obstacle::KernelExceedsInput {
                axis,
                reach: window.extent() + 1,
                padded: input[axis].saturating_add(window.begin + window.end),
            })
        };
        (0..input.len()).map(size).collect()
    }

    pub(super) fn constant(&self) -> Constant {
        match &self.border {
            Some(border) => Constant::Image(border.map.clone()),
            None => Constant::Channel(self.bias.clone()),
        }
    }

    /// Replaces bias and border with a constant part.
    pub(super) fn with_constant(mut self, constant: Constant) -> Self {
        (self.bias, self.border) = constant.into_parts();
        self
    }
}

pub(super) fn check_channels(expected: usize, found: usize) -> Result<(), Obstacle> {
    if expected == found { Ok(()) } else { Err(Obstacle::ChannelsMismatch { expected, found }) }
}

pub(super) fn check_rank(expected: usize, found: usize) -> Result<(), Obstacle> {
    if expected == found { Ok(()) } else { Err(Obstacle::SpatialRankMismatch { expected, found }) }
}

/// Returns the product of the dims; refuses sizes that no useful kernel or map has.
pub(super) fn checked_elements(dims: &[usize]) -> Result<usize, Obstacle> {
    let product = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    match product {
        Some(elements) if elements <= MAX_ELEMENTS => Ok(elements),
        _ => Err(Obstacle::TooManyElements { limit: MAX_ELEMENTS }),
    }
}

/// Makes an array whose data has exactly as many elements as its dims require.
pub(super) fn array(dims: &[usize], data: Vec<f64>) -> ArrayD<f64> {
    let mut data = data.into_iter();
    ArrayD::from_shape_simple_fn(IxDyn(dims), || data.next().unwrap_or(0.0))
}

pub(super) const fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
