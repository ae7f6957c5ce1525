//! The geometry of a window that slides over the spatial axes of an image.

use std::ops::Range;

use crate::node::Node;

/// How a window slides over the spatial axes of `[N, C, …]`: each list has one number per axis. All
/// lists are empty for an operator without spatial axes.
///
/// Groups are not part of the geometry: they belong to the channels, and a pooling operator has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Kernel size, at least 1.
    pub kernel: Vec<usize>,
    /// Step between two outputs, at least 1.
    pub stride: Vec<usize>,
    /// Step between two taps of the kernel, at least 1.
    pub dilation: Vec<usize>,
    /// Zeros before the input.
    pub pad_begin: Vec<usize>,
    /// Zeros after the input.
    pub pad_end: Vec<usize>,
}

impl ConvGeometry {
    /// A dense window with this kernel: stride 1, dilation 1, no padding.
    #[must_use]
    pub fn dense(kernel: Vec<usize>) -> Self {
        let rank = kernel.len();
        Self {
            kernel,
            stride: vec![1; rank],
            dilation: vec![1; rank],
            pad_begin: vec![0; rank],
            pad_end: vec![0; rank],
        }
    }

    /// A window of one tap at every position.
    #[must_use]
    pub fn pointwise(rank: usize) -> Self {
        Self::dense(vec![1; rank])
    }

    /// Number of spatial axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.kernel.len()
    }

    /// Number of taps of the kernel.
    #[must_use]
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Whether every kernel size is 1.
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        self.kernel.iter().all(|size| *size == 1)
    }

    /// Whether any axis is padded.
    #[must_use]
    pub fn is_padded(&self) -> bool {
        self.pad_begin.iter().chain(&self.pad_end).any(|size| *size != 0)
    }

    /// Whether any axis has a stride above 1.
    #[must_use]
    pub fn is_strided(&self) -> bool {
        self.stride.iter().any(|stride| *stride > 1)
    }

    /// The window along one axis.
    #[must_use]
    pub fn axis(&self, axis: usize) -> ConvAxis {
        ConvAxis {
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            begin: self.pad_begin[axis],
            end: self.pad_end[axis],
        }
    }

    /// The window along every axis.
    pub fn axes(&self) -> impl Iterator<Item = ConvAxis> + '_ {
        (0..self.rank()).map(|axis| self.axis(axis))
    }

    /// The attribute `pads`: all paddings before, then all paddings after.
    #[must_use]
    pub fn pads(&self) -> Vec<usize> {
        [self.pad_begin.as_slice(), &self.pad_end].concat()
    }

    /// Output size for an input of these spatial dims; `None` if the ranks differ or the window
    /// exceeds the padded input.
    #[must_use]
    pub fn output_size(&self, input: &[usize]) -> Option<Vec<usize>> {
        if input.len() != self.rank() {
            return None;
        }
        self.axes().zip(input).map(|(axis, size)| axis.output_size(*size)).collect()
    }

    /// Index of the tap that reads an output's own position; `None` if there is none.
    #[must_use]
    pub fn centre_tap(&self) -> Option<usize> {
        self.axes().try_fold(0, |at, axis| Some(at * axis.kernel + axis.centre_tap()?))
    }

    /// The same outputs seen through the tap that reads their own position; `None` if there is none.
    #[must_use]
    pub fn centre(&self) -> Option<Self> {
        self.centre_tap()?;
        Some(Self { stride: self.stride.clone(), ..Self::pointwise(self.rank()) })
    }
}

/// A [`ConvGeometry`] along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvAxis {
    /// Kernel size.
    pub kernel: usize,
    /// Step between two outputs.
    pub stride: usize,
    /// Step between two taps.
    pub dilation: usize,
    /// Zeros before the input.
    pub begin: usize,
    /// Zeros after the input.
    pub end: usize,
}

impl ConvAxis {
    /// Distance from the first tap to the last, `d·(k − 1)`.
    #[must_use]
    pub const fn extent(self) -> usize {
        self.dilation * (self.kernel - 1)
    }

    /// Zeros before and after the input.
    #[must_use]
    pub const fn padding(self) -> usize {
        self.begin + self.end
    }

    /// Output size; `None` if the window exceeds the padded input.
    #[must_use]
    pub fn output_size(self, input: usize) -> Option<usize> {
        let padded = input.checked_add(self.padding())?;
        let steps = padded.checked_sub(self.extent() + 1)?;
        Some(steps / self.stride + 1)
    }

    /// The taps that read inside an input of this size at one output position.
    #[must_use]
    pub fn taps_inside(self, position: usize, input: usize) -> Range<usize> {
        let start = position * self.stride;
        let first = self.begin.saturating_sub(start).div_ceil(self.dilation);
        let last = (input + self.begin).saturating_sub(start).div_ceil(self.dilation);
        let last = last.min(self.kernel);
        first.min(last)..last
    }

    /// Distance from the reach of the last tap to the padded end, `Pb + Pe − d·(k − 1)`. With the
    /// stride, this distance decides the output size for every input size.
    #[must_use]
    pub const fn slack(self) -> i64 {
        self.padding() as i64 - self.extent() as i64
    }

    /// The tap that reads an output's own position; `None` if there is none.
    #[must_use]
    pub fn centre_tap(self) -> Option<usize> {
        let tap = self.begin / self.dilation;
        (self.begin.is_multiple_of(self.dilation) && tap < self.kernel).then_some(tap)
    }
}

/// The source of an operator's padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoPad {
    /// From the attribute `pads`.
    NotSet,
    /// No padding.
    Valid,
    /// Output size = ceil(input / stride), the odd pixel at the end.
    SameUpper,
    /// Output size = ceil(input / stride), the odd pixel at the beginning.
    SameLower,
}

impl AutoPad {
    /// Reads the attribute `auto_pad`; `None` for a value that ONNX does not define.
    #[must_use]
    pub fn of(node: &Node) -> Option<Self> {
        Some(match node.string("auto_pad") {
            None if node.has("auto_pad") => return None,
            None | Some("NOTSET" | "") => Self::NotSet,
            Some("VALID") => Self::Valid,
            Some("SAME_UPPER") => Self::SameUpper,
            Some("SAME_LOWER") => Self::SameLower,
            Some(_) => return None,
        })
    }
}
