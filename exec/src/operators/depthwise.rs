//! W̄ of a convolution that reads one channel per group: products of whole planes.
//!
//! W̄[o, k] = Σₙ Σⱼ ȳ[n, o, j]·x[n, c, j + tap k] over the pixels j of a plane in the layout of [`Phases`]. ȳ has zeros
//! where a row of this layout is longer than a row of ȳ. The sum over images is computed lane by lane, in the order of
//! the batch, so it does not depend on the number of threads.

use super::lanes::{Lanes, Level, Vectored, dispatch};
use super::window::{Phases, Window, copy};

/// The gradient of the kernels of some channels.
pub(super) struct Depthwise<'a> {
    pub window: &'a Window,
    pub phases: &'a Phases,
    pub level: Level,
    /// x [N, I, H, W].
    pub x: &'a [f32],
    /// ȳ [N, O, Ho, Wo].
    pub dy: &'a [f32],
    /// The first output channel.
    pub first: usize,
    /// W̄ of the channels from `first` on, [channels, taps].
    pub gradient: &'a mut [f32],
    /// Scratch memory, [`Depthwise::room`] numbers.
    pub scratch: &'a mut [f32],
}

/// Number of kernel positions that are summed at once.
const FEW: usize = 9;
const MANY: usize = 13;

impl Depthwise<'_> {
    /// Length of the scratch for vectors of `lanes`.
    pub fn room(window: &Window, phases: &Phases, lanes: usize) -> usize {
        let plane = plane(window, phases, lanes);
        // x is read up to one plane past the last position of the kernel.
        let packed = phases.channel() + plane;
        plane + packed + (window.taps() + MANY) * lanes
    }
}

/// Length of a plane of ȳ, in whole vectors.
fn plane(window: &Window, phases: &Phases, lanes: usize) -> usize {
    (window.output[0] * phases.pitch()).next_multiple_of(lanes)
}

impl Depthwise<'_> {
    pub fn run(self) {
        let Self { window, phases, level, x, dy, first, gradient, scratch } = self;
        let (taps, lanes) = (window.taps(), level.lanes());
        let spread = plane(window, phases, lanes);
        scratch.fill(0.0);
        let (cotangent, rest) = scratch.split_at_mut(spread);
        let (packed, sums) = rest.split_at_mut(phases.channel() + spread);
        let multiple = window.out_channels / window.in_channels;
        for (at, gradient) in gradient.chunks_exact_mut(taps).enumerate() {
            let out = first + at;
            sums.fill(0.0);
            for image in 0..window.batch {
                let place = (image * window.out_channels + out) * window.pixels();
                let rows = &dy[place..][..window.pixels()];
                spread_rows(rows, window.output[1], cotangent, phases.pitch());
                let place = (image * window.in_channels + out / multiple) * window.seen();
                phases.pack(window, &x[place..][..window.seen()], packed);
                add_products(level, (cotangent, packed), phases.taps(), sums);
            }
            for (gradient, sum) in gradient.iter_mut().zip(sums.chunks_exact(lanes)) {
                *gradient = sum.iter().sum();
            }
        }
    }
}

/// Writes rows of length `width` at a distance of `pitch`; the elements between them stay unchanged.
#[inline]
fn spread_rows(rows: &[f32], width: usize, spread: &mut [f32], pitch: usize) {
    for (row, spread) in rows.chunks_exact(width).zip(spread.chunks_mut(pitch)) {
        copy(row, &mut spread[..width]);
    }
}

/// Adds the products of ȳ and x of an image at each position of the kernel, lane by lane.
fn add_products(
    level: Level,
    (cotangent, packed): (&[f32], &[f32]),
    taps: &[usize],
    sums: &mut [f32],
) {
    let at_once = if taps.len() <= FEW { FEW } else { MANY };
    for (taps, sums) in taps.chunks(at_once).zip(sums.chunks_mut(at_once * level.lanes())) {
        // Positions past the last one repeat the last one, and their results are not kept.
        let place = |at: usize| taps[at.min(taps.len() - 1)];
        if at_once == FEW {
            let taps = std::array::from_fn(place);
            dispatch(level, Products::<FEW> { cotangent, packed, taps, sums });
        } else {
            let taps = std::array::from_fn(place);
            dispatch(level, Products::<MANY> { cotangent, packed, taps, sums });
        }
    }
}

/// The products at `T` positions of the kernel.
///
/// This is a separate function, not a part of the loops around it: in one large function the sums do not stay in
/// registers.
struct Products<'a, const T: usize> {
    /// ȳ, in whole vectors.
    cotangent: &'a [f32],
    /// x; from each position of the kernel on it is at least as long as ȳ.
    packed: &'a [f32],
    taps: [usize; T],
    /// [T, L].
    sums: &'a mut [f32],
}

impl<const T: usize> Vectored for Products<'_, T> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "see `lanes`")]
    #[inline(always)]
    fn run<const L: usize, const FUSED: bool>(self) {
        let Self { cotangent, packed, taps, sums } = self;
        let sums = &mut sums.as_chunks_mut::<L>().0[..T];
        let seen: [&[f32]; T] = std::array::from_fn(|at| &packed[taps[at]..][..cotangent.len()]);
        let mut own: [Lanes<L>; T] = std::array::from_fn(|at| Lanes(sums[at]));
        for (vector, cotangent) in cotangent.chunks_exact(L).enumerate() {
            let cotangent = Lanes::<L>::load(cotangent);
            for at in 0..T {
                let seen = Lanes::load(&seen[at][vector * L..]);
                own[at] = own[at].add_product::<FUSED>(cotangent, seen);
            }
        }
        for at in 0..T {
            sums[at] = own[at].0;
        }
    }
}
