//! W̄ of a convolution whose groups read several channels: W̄ [O/g, I/g·taps] = Σ over pixels of ȳ ⊗ the inputs that
//! the pixel sees.
//!
//! A tile of W̄ stays in registers over a block of pixels. A tile is one or two vectors of output channels by some
//! columns; each column is a channel and a position of the kernel. ȳ is packed pixel by pixel, with its channels side
//! by side. The inputs of a pixel are read from x in the layout of [`Phases`], so no image is unrolled. The sizes alone
//! determine how the batch is cut into parts, and the parts are added in order. The result therefore does not depend on
//! the number of threads.

use std::ops::Range;

use super::lanes::{Lanes, Level, Vectored, dispatch};
use super::window::{Phases, Window};

/// Approximate number of pixels over which a tile stays in registers. The packed ȳ of a tile and the same number of
/// rows of x then stay in the first-level cache.
const BLOCK: usize = 256;

/// Maximum size in bytes of all partial sums together, unless a single one is larger.
const PARTIAL_BYTES: usize = 1 << 20;

/// Number of parts that are computed at the same time.
const PARTS: usize = 16;

/// The division of the work; it depends only on the sizes and the width of vectors.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    level: Level,
    strips: Vec<Strip>,
    /// Images of each part.
    images: Vec<Range<usize>>,
    /// Input channels within a group of each part.
    channels: Vec<Range<usize>>,
}

/// A row of tiles, all with the same output channels.
#[derive(Clone, Copy, Debug)]
struct Strip {
    /// The first output channel within a group.
    first: usize,
    /// Number of vectors of output channels.
    vectors: usize,
    /// Number of columns of a tile.
    columns: usize,
}

/// The work of one part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    group: usize,
    images: Range<usize>,
    channels: Range<usize>,
}

impl Plan {
    pub fn of(window: &Window, level: Level) -> Self {
        let lanes = level.lanes();
        let outer = window.out_channels / window.group;
        let inner = window.in_channels / window.group;
        let mut strips = Vec::new();
        let mut first = 0;
        while first < outer {
            let vectors = if outer - first > lanes { 2 } else { 1 };
            let columns = if vectors == 1 {
                8
            } else if lanes == 16 {
                12
            } else {
                6
            };
            strips.push(Strip { first, vectors, columns });
            first += vectors * lanes;
        }
        let bytes = 4 * window.out_channels * inner * window.taps();
        let parts = (PARTIAL_BYTES / bytes.max(1)).clamp(1, PARTS).min(window.batch.max(1));
        let blocks = PARTS.div_ceil(parts * window.group).clamp(1, inner);
        Self { level, strips, images: cut(window.batch, parts), channels: cut(inner, blocks) }
    }

    fn lanes(&self) -> usize {
        self.level.lanes()
    }

    /// Number of output channels of all strips.
    fn width(&self) -> usize {
        self.strips.iter().map(|strip| strip.vectors * self.lanes()).sum()
    }

    /// The parts, in the order in which they are added.
    pub fn parts(&self, window: &Window) -> Vec<Part> {
        let mut parts = Vec::new();
        for group in 0..window.group {
            for channels in &self.channels {
                for images in &self.images {
                    let (images, channels) = (images.clone(), channels.clone());
                    parts.push(Part { group, images, channels });
                }
            }
        }
        parts
    }

    /// Length of the sums of a part; the sums of all parts have the same layout.
    pub fn sums(&self, window: &Window) -> usize {
        let most = self.channels.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        self.strips.iter().map(|strip| self.row(window, strip, most)).sum()
    }

    /// Length of the sums of a strip.
    fn row(&self, window: &Window, strip: &Strip, channels: usize) -> usize {
        (channels * window.taps()).next_multiple_of(strip.columns) * strip.vectors * self.lanes()
    }

    /// Length of the scratch that a part needs.
    pub fn room(&self, window: &Window, phases: &Phases) -> usize {
        let most = self.channels.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let at_once = images_at_once(window);
        at_once * (self.width() * window.pixels() + most * phases.channel())
    }

    /// Adds the parts: W̄ [O, I/g·taps].
    pub fn gather(&self, window: &Window, sums: &[f32], gradient: &mut [f32]) {
        let (outer, taps) = (window.out_channels / window.group, window.taps());
        let inner = window.in_channels / window.group;
        let size = self.sums(window);
        let mut of_parts = sums.chunks_exact(size);
        for group in 0..window.group {
            for channels in &self.channels {
                let own: Vec<&[f32]> = of_parts.by_ref().take(self.images.len()).collect();
                let mut row = 0;
                for strip in &self.strips {
                    let width = strip.vectors * self.lanes();
                    for column in 0..channels.len() * taps {
                        let place = row + column * width;
                        for lane in 0..width.min(outer - strip.first) {
                            let sum: f32 = own.iter().map(|part| part[place + lane]).sum();
                            let out = group * outer + strip.first + lane;
                            gradient[(out * inner + channels.start) * taps + column] = sum;
                        }
                    }
                    row += self.row(window, strip, channels.len());
                }
            }
        }
    }
}

/// Cuts `count` items into `parts` ranges of about the same length.
fn cut(count: usize, parts: usize) -> Vec<Range<usize>> {
    (0..parts).map(|part| count * part / parts..count * (part + 1) / parts).collect()
}

/// Number of images whose pixels make a block.
fn images_at_once(window: &Window) -> usize {
    BLOCK.div_ceil(window.pixels().max(1)).min(window.batch.max(1))
}

/// The sums of one part.
pub(super) struct Dense<'a> {
    pub window: &'a Window,
    pub phases: &'a Phases,
    pub plan: &'a Plan,
    pub part: Part,
    /// x [N, I, H, W].
    pub x: &'a [f32],
    /// ȳ [N, O, Ho, Wo].
    pub dy: &'a [f32],
    /// The result, [`Plan::sums`] numbers.
    pub sums: &'a mut [f32],
    /// Scratch memory, [`Plan::room`] numbers.
    pub scratch: &'a mut [f32],
}

impl Dense<'_> {
    pub fn run(self) {
        let Self { window, phases, plan, part, x, dy, sums, scratch } = self;
        let width = plan.width();
        let at_once = images_at_once(window);
        let (panels, packed) = scratch.split_at_mut(at_once * width * window.pixels());
        packed.fill(0.0);
        sums.fill(0.0);
        let is_plain = phases.is_plain(window);
        let own = part.channels.len() * phases.channel();
        let between = if is_plain { window.in_channels * window.seen() } else { own };
        let mut image = part.images.start;
        while image < part.images.end {
            let images = image..part.images.end.min(image + at_once);
            let copies =
                panels.chunks_exact_mut(width * window.pixels()).zip(packed.chunks_exact_mut(own));
            for (image, (panels, packed)) in images.clone().zip(copies) {
                pack_cotangent(window, plan, dy, (image, part.group), panels);
                if !is_plain {
                    pack_seen(window, phases, x, (image, &part), packed);
                }
            }
            let packed = if is_plain {
                &x[first_plane(window, image, &part) * window.seen()..]
            } else {
                &*packed
            };
            let block =
                Block { window, phases, plan, panels, packed, own, between, images: images.len() };
            block.add(part.channels.len(), sums);
            image = images.end;
        }
    }
}

/// Packs ȳ of an image into panels [pixels, channels], one per row of tiles, with zeros where there is no channel.
fn pack_cotangent(
    window: &Window,
    plan: &Plan,
    dy: &[f32],
    (image, group): (usize, usize),
    panels: &mut [f32],
) {
    let (pixels, outer) = (window.pixels(), window.out_channels / window.group);
    let first = image * window.out_channels + group * outer;
    let mut rest = panels;
    for strip in &plan.strips {
        let width = strip.vectors * plan.lanes();
        let (panel, others) = rest.split_at_mut(width * pixels);
        rest = others;
        let known = width.min(outer - strip.first);
        let rows = &dy[(first + strip.first) * pixels..][..known * pixels];
        if known < width {
            panel.fill(0.0);
        }
        // Only some pixels at a time, so that the cache lines they go to stay in the first-level cache.
        for start in (0..pixels).step_by(64) {
            let count = (pixels - start).min(64);
            let panel = &mut panel[start * width..][..count * width];
            for (channel, row) in rows.chunks_exact(pixels).enumerate() {
                let places = panel[channel..].iter_mut().step_by(width);
                places.zip(&row[start..][..count]).for_each(|(place, value)| *place = *value);
            }
        }
    }
}

/// The first channel of a part in an image, counted from the first of the batch.
fn first_plane(window: &Window, image: usize, part: &Part) -> usize {
    let inner = window.in_channels / window.group;
    image * window.in_channels + part.group * inner + part.channels.start
}

fn pack_seen(
    window: &Window,
    phases: &Phases,
    x: &[f32],
    (image, part): (usize, &Part),
    packed: &mut [f32],
) {
    let first = first_plane(window, image, part);
    let planes = x[first * window.seen()..].chunks_exact(window.seen());
    for (plane, packed) in planes.zip(packed.chunks_exact_mut(phases.channel())) {
        phases.pack(window, plane, packed);
    }
}

/// Some images, packed.
struct Block<'a> {
    window: &'a Window,
    phases: &'a Phases,
    plan: &'a Plan,
    panels: &'a [f32],
    packed: &'a [f32],
    /// Length of an image in `packed`.
    own: usize,
    /// Distance from one image to the next.
    between: usize,
    images: usize,
}

impl Block<'_> {
    fn add(&self, channels: usize, sums: &mut [f32]) {
        let [height, width] = self.window.output;
        let rows = BLOCK.div_ceil(width).min(height);
        for top in (0..height).step_by(rows) {
            let rows = top..height.min(top + rows);
            let mut sums = &mut *sums;
            let mut before = 0;
            for strip in &self.plan.strips {
                let (own, rest) = sums.split_at_mut(self.plan.row(self.window, strip, channels));
                sums = rest;
                let row = Row { block: self, before, rows: rows.clone(), channels };
                match (strip.vectors, strip.columns) {
                    (2, 12) => row.add::<2, 12>(own),
                    (2, _) => row.add::<2, 6>(own),
                    _ => row.add::<1, 8>(own),
                }
                before += strip.vectors * self.plan.lanes();
            }
        }
    }
}

/// A strip over some rows of pixels.
struct Row<'a> {
    block: &'a Block<'a>,
    /// Number of channels of ȳ in the earlier panels.
    before: usize,
    rows: Range<usize>,
    channels: usize,
}

impl Row<'_> {
    fn add<const V: usize, const C: usize>(&self, sums: &mut [f32]) {
        let Self { block, before, rows, channels } = self;
        let (window, phases, lanes) = (block.window, block.phases, block.plan.lanes());
        let (pixels, pitch, width) = (window.pixels(), phases.pitch(), window.output[1]);
        let per_image = block.panels.len() / images_at_once(window);
        let columns = channels * window.taps();
        let place = |column: usize| {
            // Columns past the last one repeat the last one, and their results are not kept.
            let column = column.min(columns - 1);
            let (channel, tap) = (column / window.taps(), column % window.taps());
            channel * phases.channel() + phases.taps()[tap] + rows.start * pitch
        };
        // Rows without a gap between them count as one row.
        let whole = rows.len() * width;
        let (count, long) = if pitch == width { (1, whole) } else { (rows.len(), width) };
        let vectors = V * lanes;
        for (at, sums) in sums.chunks_exact_mut(C * vectors).enumerate() {
            let places: [usize; C] = std::array::from_fn(|column| place(at * C + column));
            for image in 0..block.images {
                let first = image * per_image + before * pixels + rows.start * width * vectors;
                let tile = Tile::<V, C> {
                    panel: &block.panels[first..][..whole * vectors],
                    packed: &block.packed[image * block.between..][..block.own],
                    places,
                    rows: count,
                    width: long,
                    pitch,
                    sums: &mut *sums,
                };
                dispatch(block.plan.level, tile);
            }
        }
    }
}

/// Adds ȳ ⊗ (seen inputs) of some rows of pixels to a tile.
///
/// This is a separate function, not a part of the loops around it: in one large function the sums do not stay in
/// registers.
struct Tile<'a, const V: usize, const C: usize> {
    /// ȳ with the channels of the tile side by side: [rows, width, V, L].
    panel: &'a [f32],
    packed: &'a [f32],
    /// The place where each column sees the first pixel.
    places: [usize; C],
    rows: usize,
    width: usize,
    pitch: usize,
    /// [C, V, L].
    sums: &'a mut [f32],
}

impl<const V: usize, const C: usize> Vectored for Tile<'_, V, C> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "see `lanes`")]
    #[inline(always)]
    fn run<const L: usize, const FUSED: bool>(self) {
        let Self { panel, packed, places, rows, width, pitch, sums } = self;
        let sums = &mut sums.as_chunks_mut::<L>().0.as_chunks_mut::<V>().0[..C];
        let mut own: [[Lanes<L>; V]; C] = std::array::from_fn(|c| sums[c].map(Lanes));
        for row in 0..rows {
            let panel = &panel[row * width * V * L..][..width * V * L];
            let seen: [&[f32]; C] =
                std::array::from_fn(|c| &packed[places[c] + row * pitch..][..width]);
            for (pixel, cotangent) in panel.chunks_exact(V * L).enumerate() {
                let cotangent: [Lanes<L>; V] =
                    std::array::from_fn(|v| Lanes::load(&cotangent[v * L..]));
                for column in 0..C {
                    let seen = Lanes::splat(seen[column][pixel]);
                    for vector in 0..V {
                        own[column][vector] =
                            own[column][vector].add_product::<FUSED>(cotangent[vector], seen);
                    }
                }
            }
        }
        for column in 0..C {
            for vector in 0..V {
                sums[column][vector] = own[column][vector].0;
            }
        }
    }
}
