//! The inputs that the windows of a convolution see, laid out so that adjacent output pixels read adjacent numbers.
//!
//! With stride s, the padded rows of x fall into s phases: row r = s·q + p becomes row q of phase p. Columns do the
//! same. Output pixel o reads position k of the kernel from phase (k·d) mod s at q = o + ⌊k·d / s⌋, so the stride is 1
//! in every phase.

use std::ops::Range;

/// A convolution x [N, I, H, W] → y [N, O, Ho, Wo] with W [O, I/g, kh, kw]: y[o] = Σ W[k]·x[o·s + k·d − p].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// N.
    pub batch: usize,
    /// I.
    pub in_channels: usize,
    /// O.
    pub out_channels: usize,
    /// g.
    pub group: usize,
    /// H, W.
    pub input: [usize; 2],
    /// Ho, Wo.
    pub output: [usize; 2],
    /// kh, kw.
    pub kernel: [usize; 2],
    /// s.
    pub strides: [usize; 2],
    /// d.
    pub dilations: [usize; 2],
    /// p: the number of zeros before each axis; the number of zeros after each axis follows from the last window.
    pub begin: [usize; 2],
}

impl Window {
    /// Number of positions of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Number of pixels of y.
    pub fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Number of pixels of x.
    pub fn seen(&self) -> usize {
        self.input[0] * self.input[1]
    }
}

/// The layout of one channel of x.
#[derive(Clone, Debug)]
pub(super) struct Phases {
    /// Rows and columns of a phase.
    size: [usize; 2],
    /// The phases that some position of the kernel reads.
    used: Vec<[usize; 2]>,
    /// The places where output pixel (0, 0) reads each position of the kernel.
    taps: Vec<usize>,
}

impl Phases {
    pub fn of(window: &Window) -> Self {
        let reach =
            |axis: usize| (window.kernel[axis] - 1) * window.dilations[axis] / window.strides[axis];
        let size = [0, 1].map(|axis| window.output[axis] + reach(axis));
        let mut used: Vec<[usize; 2]> = Vec::new();
        let mut taps = Vec::with_capacity(window.taps());
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                let at = [ky * window.dilations[0], kx * window.dilations[1]];
                let phase = [0, 1].map(|axis| at[axis] % window.strides[axis]);
                let number = used.iter().position(|known| *known == phase).unwrap_or_else(|| {
                    used.push(phase);
                    used.len() - 1
                });
                let [row, column] = [0, 1].map(|axis| at[axis] / window.strides[axis]);
                taps.push((number * size[0] + row) * size[1] + column);
            }
        }
        Self { size, used, taps }
    }

    /// Distance between two rows.
    pub fn pitch(&self) -> usize {
        self.size[1]
    }

    /// Length of a channel.
    pub fn channel(&self) -> usize {
        self.used.len() * self.size[0] * self.size[1]
    }

    /// The places where output pixel (0, 0) reads each position of the kernel.
    pub fn taps(&self) -> &[usize] {
        &self.taps
    }

    /// Whether x already has this layout in memory.
    pub fn is_plain(&self, window: &Window) -> bool {
        self.used.len() == 1
            && window.begin == [0, 0]
            && window.strides == [1, 1]
            && self.size == window.input
    }

    /// Lays out one channel `x [H, W]`. `packed` has zeros where x is padded; these are not written.
    #[inline]
    pub fn pack(&self, window: &Window, x: &[f32], packed: &mut [f32]) {
        let planes = packed.chunks_exact_mut(self.size[0] * self.size[1]);
        for (phase, plane) in self.used.iter().zip(planes) {
            let [rows, columns] = [0, 1].map(|axis| self.inside(window, axis, phase[axis]));
            for row in rows {
                let from = window.strides[0] * row + phase[0] - window.begin[0];
                let line = &x[from * window.input[1]..][..window.input[1]];
                let packed = &mut plane[row * self.size[1]..][columns.clone()];
                if columns.is_empty() {
                    continue;
                }
                let first = window.strides[1] * columns.start + phase[1] - window.begin[1];
                if window.strides[1] == 1 {
                    copy(&line[first..][..packed.len()], packed);
                } else {
                    let seen = line[first..].iter().step_by(window.strides[1]);
                    packed.iter_mut().zip(seen).for_each(|(packed, x)| *packed = *x);
                }
            }
        }
    }

    /// The values q of a phase that lie in x and not in its padding: 0 ≤ s·q + p − begin < size.
    fn inside(&self, window: &Window, axis: usize, phase: usize) -> Range<usize> {
        let (stride, begin) = (window.strides[axis], window.begin[axis]);
        let first = begin.saturating_sub(phase).div_ceil(stride);
        let end = (begin + window.input[axis]).saturating_sub(phase).div_ceil(stride);
        let end = end.min(self.size[axis]);
        first.min(end)..end
    }
}

/// Copies a row; short rows of the usual lengths need no call.
#[inline]
pub(super) fn copy(from: &[f32], to: &mut [f32]) {
    fn exactly<const LENGTH: usize>(from: &[f32], to: &mut [f32]) {
        if let (Some(from), Some(to)) = (from.first_chunk::<LENGTH>(), to.first_chunk_mut()) {
            *to = *from;
        }
    }
    match from.len() {
        4 => exactly::<4>(from, to),
        7 => exactly::<7>(from, to),
        8 => exactly::<8>(from, to),
        14 => exactly::<14>(from, to),
        16 => exactly::<16>(from, to),
        32 => exactly::<32>(from, to),
        _ => to.copy_from_slice(from),
    }
}
