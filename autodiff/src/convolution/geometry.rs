//! The positions that a convolution reads: y[o] = Σₖ W[k]·x[o·s + k·d − p].

use updp_ir::{Node, ValueId};

use crate::emit::Emit;
use crate::error::Result;

/// A convolution x [N, I, input] → y [N, O, output] with W [O, I/g, kernel]. `output` determines the padding at the
/// end. The padding may cut off entries that no window sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// N.
    pub batch: usize,
    /// I.
    pub in_channels: usize,
    /// O.
    pub out_channels: usize,
    /// g, at least 1.
    pub group: usize,
    /// Spatial dims of x.
    pub input: Vec<usize>,
    /// Spatial dims of y.
    pub output: Vec<usize>,
    /// Spatial dims of W.
    pub kernel: Vec<usize>,
    /// s, one per spatial axis.
    pub strides: Vec<usize>,
    /// d, one per spatial axis.
    pub dilations: Vec<usize>,
    /// p: zeros before each spatial axis.
    pub begin: Vec<usize>,
}

impl Geometry {
    /// The number of spatial axes.
    pub fn space(&self) -> usize {
        self.kernel.len()
    }

    /// The number of positions of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// The number of spatial positions of y.
    pub fn pixels(&self) -> usize {
        self.output.iter().product()
    }

    /// Whether each group reads one channel.
    pub fn is_depthwise(&self) -> bool {
        self.group == self.in_channels && self.group > 1
    }

    /// Whether every output pixel reads only the input pixel at its own place.
    pub fn is_pointwise(&self) -> bool {
        self.taps() == 1
            && self.has_stride_1()
            && self.begin.iter().all(|pad| *pad == 0)
            && self.input == self.output
    }

    /// Whether every axis has stride 1.
    pub fn has_stride_1(&self) -> bool {
        self.strides.iter().all(|stride| *stride == 1)
    }

    /// The reach of the dilated kernel on a spatial axis, without the first position.
    pub fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis]
    }

    /// The number of zeros after each spatial axis so that the last window just fits. A negative number counts entries
    /// that no window sees.
    pub fn end(&self) -> Vec<i64> {
        (0..self.space())
            .map(|a| {
                let seen = (self.output[a] - 1) * self.strides[a] + self.reach(a) + 1;
                seen as i64 - self.begin[a] as i64 - self.input[a] as i64
            })
            .collect()
    }

    /// All positions of the kernel, the last axis fastest.
    pub fn positions(&self) -> Vec<Vec<usize>> {
        positions(&self.kernel)
    }

    /// The convolution itself, without bias.
    pub fn forward(&self, emit: &mut Emit<'_>, x: ValueId, weight: ValueId) -> Result<ValueId> {
        let begin: Vec<i64> = self.begin.iter().map(|pad| *pad as i64).collect();
        convolve(
            emit,
            x,
            weight,
            &Slide {
                group: self.group,
                strides: &self.strides,
                dilations: &self.dilations,
                begin: &begin,
                end: &self.end(),
            },
        )
    }
}

/// The way a kernel slides.
#[derive(Clone, Copy)]
pub(super) struct Slide<'a> {
    pub group: usize,
    pub strides: &'a [usize],
    pub dilations: &'a [usize],
    /// Zeros before. Negative numbers cut entries off.
    pub begin: &'a [i64],
    /// Zeros after. Negative numbers cut entries off.
    pub end: &'a [i64],
}

/// A `Conv` whose pads may be negative.
pub(super) fn convolve(
    emit: &mut Emit<'_>,
    x: ValueId,
    weight: ValueId,
    slide: &Slide<'_>,
) -> Result<ValueId> {
    // `Conv` skips a rest shorter than a stride, so nothing needs to cut the rest off.
    let is_skipped = |(pad, stride): (&i64, &usize)| *pad < 0 && (-*pad as usize) < *stride;
    let end = slide.end.iter().zip(slide.strides);
    let end: Vec<i64> = end.map(|pair| if is_skipped(pair) { 0 } else { *pair.0 }).collect();
    let cut = |pads: &[i64]| -> Vec<i64> {
        [0, 0].into_iter().chain(pads.iter().map(|pad| (*pad).min(0))).collect()
    };
    let x = emit.pad(x, &cut(slide.begin), &cut(&end), 0.0)?;
    let pads: Vec<i64> = slide.begin.iter().chain(&end).map(|pad| (*pad).max(0)).collect();
    let kernel = emit.dims(weight)?[2..].to_vec();
    let node = Node::new("Conv")
        .with("kernel_shape", kernel.as_slice())
        .with("strides", slide.strides)
        .with("dilations", slide.dilations)
        .with("group", slide.group as i64)
        .with("pads", pads);
    emit.node(node, &[Some(x), Some(weight)])
}

/// All positions of a grid with these sizes, the last axis fastest.
pub(crate) fn positions(sizes: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for size in sizes {
        all = all
            .into_iter()
            .flat_map(|start: Vec<usize>| {
                (0..*size).map(move |at| start.iter().copied().chain([at]).collect())
            })
            .collect();
    }
    all
}

/// For each position of the kernel, a kernel that is 1 there and 0 elsewhere: [taps, kernel].
pub(crate) fn one_hot(kernel: &[usize]) -> Vec<f64> {
    let taps: usize = kernel.iter().product();
    (0..taps * taps).map(|at| f64::from(u8::from(at / taps == at % taps))).collect()
}
