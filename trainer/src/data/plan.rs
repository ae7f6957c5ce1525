//! The steps from 8-bit pixels to one row of the input: resize, crop and normalize.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{
    FilterType, IntoImageView, IntoImageViewMut, PixelTrait, PixelType, ResizeAlg, ResizeOptions,
    Resizer,
};

use super::decode::Pixels;
use super::error::DataError;
use super::input::InputSpec;
use super::preprocess::{Interpolation, Preprocess, Resize};

/// Largest number of pixels of an image after resizing.
const MOST_PIXELS: usize = 1 << 26;

/// A preprocessing for one input.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    input: InputSpec,
    resize: Resize,
    is_cropped: bool,
    is_bgr: bool,
    algorithm: ResizeAlg,
    /// The f32 value of each 8-bit pixel, little-endian, by channel.
    values: Vec<[[u8; 4]; 256]>,
}

impl Plan {
    /// Adapts a preprocessing to an input.
    ///
    /// # Errors
    /// T0110 when the preprocessing is for another size or number of channels.
    pub(super) fn new(preprocess: &Preprocess, input: &InputSpec) -> Result<Self, DataError> {
        let Preprocess { mean, std, rescale, size, .. } = preprocess;
        let follows_input = matches!(preprocess.resize, Resize::Share { .. });
        let needed = (input.height, input.width);
        if let Some(size) = size.filter(|size| *size != needed && !follows_input) {
            return Err(DataError::DoesNotFit {
                what: "the preprocessing gives images of".to_owned(),
                found: format!("{}×{}", size.0, size.1),
                expected: format!("{}×{}", needed.0, needed.1),
            });
        }
        let count = mean.len();
        if count != std.len() || (count != 1 && count != input.channels) {
            return Err(DataError::DoesNotFit {
                what: "the preprocessing has".to_owned(),
                found: format!("{count} means and {} standard deviations", std.len()),
                expected: format!("images of {} channels", input.channels),
            });
        }
        let table = |channel: usize| {
            let (mean, std) = (mean[channel.min(count - 1)], std[channel.min(count - 1)]);
            std::array::from_fn(|pixel| {
                (((pixel as f64 * rescale - mean) / std) as f32).to_le_bytes()
            })
        };
        Ok(Self {
            input: *input,
            resize: preprocess.resize,
            is_cropped: preprocess.is_cropped,
            is_bgr: preprocess.is_bgr,
            algorithm: algorithm(preprocess.interpolation),
            values: (0..input.channels).map(table).collect(),
        })
    }

    /// The input that the plan was made for.
    pub(super) fn input(&self) -> &InputSpec {
        &self.input
    }

    /// Number of bytes of one row.
    pub(super) fn row_bytes(&self) -> usize {
        self.input.channels * self.input.height * self.input.width * 4
    }

    /// Writes the f32 values of one image into `row`, which has [`Plan::row_bytes`] bytes.
    ///
    /// # Errors
    /// Fails when the image is so elongated that resizing would need too much memory.
    pub(super) fn apply(&self, pixels: Pixels, row: &mut [u8]) -> Result<(), String> {
        let mut fitted = vec![0; self.row_bytes() / 4];
        self.fit(pixels, &mut fitted)?;
        self.normalize(&fitted, row);
        Ok(())
    }

    /// Writes the pixels `[H, W, C]` of one image in the input's size; they take a quarter of [`Plan::row_bytes`].
    ///
    /// # Errors
    /// Those of [`Plan::apply`].
    pub(super) fn fit(&self, pixels: Pixels, fitted: &mut [u8]) -> Result<(), String> {
        let pixels = pixels.with_channels(self.input.channels);
        let (height, width) = self.resized(pixels.height, pixels.width);
        let pixels = resize(pixels, height, width, self.algorithm)?;
        self.crop(&pixels, fitted);
        Ok(())
    }

    /// Looks up the f32 values of `pixels [H, W, C]` and writes them in the order of the input.
    pub(super) fn normalize(&self, pixels: &[u8], row: &mut [u8]) {
        let InputSpec { channels, height, width, is_channel_last } = self.input;
        let (cells, _) = row.as_chunks_mut::<4>();
        for (channel, values) in self.values.iter().enumerate() {
            let target = if self.is_bgr { channels - 1 - channel } else { channel };
            let (first, step) =
                if is_channel_last { (target, channels) } else { (target * height * width, 1) };
            let pixels = pixels.iter().skip(channel).step_by(channels);
            for (cell, pixel) in cells[first..].iter_mut().step_by(step).zip(pixels) {
                *cell = values[usize::from(*pixel)];
            }
        }
    }

    /// The pixel of each channel whose f32 value is nearest to 0.
    pub(super) fn mean_pixel(&self) -> Vec<u8> {
        let nearest = |values: &[[u8; 4]; 256]| {
            let size = |pixel: &u8| f32::from_le_bytes(values[usize::from(*pixel)]).abs();
            (0..=255_u8).min_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(0)
        };
        self.values.iter().map(nearest).collect()
    }

    /// Size of an image before the crop.
    fn resized(&self, height: usize, width: usize) -> (usize, usize) {
        let InputSpec { height: to_height, width: to_width, .. } = self.input;
        match self.resize {
            _ if !self.is_cropped => (to_height, to_width),
            Resize::Keep => (height, width),
            Resize::ShortSide(side) => short_side(height, width, side),
            Resize::Exact { height, width } => (height, width),
            Resize::Share { share, is_rounded, is_squashed } => {
                let larger = |side: usize| {
                    let side = side as f64 / share;
                    if is_rounded { side.round() as usize } else { side as usize }
                };
                let (to_height, to_width) = (larger(to_height), larger(to_width));
                if is_squashed {
                    (to_height, to_width)
                } else if to_height == to_width {
                    short_side(height, width, to_height)
                } else {
                    cover(height, width, to_height, to_width)
                }
            }
        }
    }

    /// Cuts out the center in the input's size; positions outside the image are black.
    fn crop(&self, pixels: &Pixels, fitted: &mut [u8]) {
        let InputSpec { channels, height, width, .. } = self.input;
        let (top, left) = (crop_start(pixels.height, height), crop_start(pixels.width, width));
        let first = left.max(0) as usize;
        let gap = (-left).max(0) as usize;
        let count = width.saturating_sub(gap).min(pixels.width - first);
        fitted.fill(0);
        for (y, line) in fitted.chunks_exact_mut(width * channels).enumerate() {
            let Some(from) = usize::try_from(y as isize + top).ok().filter(|y| *y < pixels.height)
            else {
                continue;
            };
            let from = (from * pixels.width + first) * channels;
            line[gap * channels..][..count * channels]
                .copy_from_slice(&pixels.bytes[from..][..count * channels]);
        }
        debug_assert_eq!(fitted.len(), height * width * channels);
    }
}

/// First pixel of a crop as torchvision computes it: half of the difference, with ties to even. If the image gets a
/// border, the border is smaller at the start.
fn crop_start(length: usize, wanted: usize) -> isize {
    if length >= wanted {
        ((length - wanted) as f64 / 2.0).round_ties_even() as isize
    } else {
        -((wanted - length) as isize / 2)
    }
}

fn short_side(height: usize, width: usize, side: usize) -> (usize, usize) {
    let long = side.saturating_mul(height.max(width)) / height.min(width).max(1);
    if height <= width { (side, long) } else { (long, side) }
}

/// The smallest size that keeps the image's proportions and covers another size, as in timm's `ResizeKeepRatio`.
fn cover(height: usize, width: usize, to_height: usize, to_width: usize) -> (usize, usize) {
    let ratio = (height as f64 / to_height as f64).min(width as f64 / to_width as f64);
    let scaled = |side: usize| (side as f64 / ratio).round_ties_even() as usize;
    (scaled(height).max(1), scaled(width).max(1))
}

fn algorithm(interpolation: Interpolation) -> ResizeAlg {
    match interpolation {
        Interpolation::Nearest => ResizeAlg::Nearest,
        Interpolation::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Interpolation::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Interpolation::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
    }
}

fn resize(
    pixels: Pixels,
    height: usize,
    width: usize,
    algorithm: ResizeAlg,
) -> Result<Pixels, String> {
    if (pixels.height, pixels.width) == (height, width) {
        return Ok(pixels);
    }
    if height.checked_mul(width).is_none_or(|count| count > MOST_PIXELS) {
        return Err(format!("it would be resized to {height}×{width}"));
    }
    let options = ResizeOptions::new().resize_alg(algorithm);
    let bytes = if pixels.channels == 1 {
        resample::<U8>(&pixels, (height, width), PixelType::U8, &options)
    } else {
        resample::<U8x3>(&pixels, (height, width), PixelType::U8x3, &options)
    };
    Ok(Pixels { height, width, channels: pixels.channels, bytes: bytes? })
}

/// The bytes of the resized image. It handles one pixel type, because `Resizer::resize` would compile all of them.
fn resample<P: PixelTrait>(
    pixels: &Pixels,
    (height, width): (usize, usize),
    kind: PixelType,
    options: &ResizeOptions,
) -> Result<Vec<u8>, String> {
    let misfit = || format!("its pixels are no {kind:?}");
    let source = ImageRef::new(pixels.width as u32, pixels.height as u32, &pixels.bytes, kind)
        .map_err(|error| error.to_string())?;
    let mut resized = Image::new(width as u32, height as u32, kind);
    let from = source.image_view::<P>().ok_or_else(misfit)?;
    let mut into = resized.image_view_mut::<P>().ok_or_else(misfit)?;
    Resizer::new().resize_typed(&from, &mut into, options).map_err(|error| error.to_string())?;
    drop(into);
    Ok(resized.into_vec())
}
