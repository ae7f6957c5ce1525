//! Decodes encoded images to 8-bit pixels.

use std::io::Cursor;

use image::{ImageReader, Limits};

/// Longest side of an image, in pixels.
const LONGEST_SIDE: u32 = 20_000;

/// Largest size of a decoded image, in bytes.
const MOST_BYTES: u64 = 256 << 20;

/// 8-bit pixels `[H, W, C]` with C = 1 (grey) or 3 (RGB).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `height · width · channels` bytes.
    pub bytes: Vec<u8>,
}

/// Decodes a JPEG, PNG, WebP or BMP image to grey (`channels` 1) or RGB (3). The content determines the format.
///
/// # Errors
/// Describes the problem of the image in words.
pub(super) fn decode(encoded: &[u8], channels: usize) -> Result<Pixels, String> {
    let mut reader = ImageReader::new(Cursor::new(encoded))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| error.to_string())?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    if height == 0 || width == 0 {
        return Err(format!("it is {height}×{width}"));
    }
    let (found, bytes) = if channels == 1 && !image.color().has_color() {
        (1, image.into_luma8().into_raw())
    } else {
        (3, image.into_rgb8().into_raw())
    };
    Ok(Pixels { height, width, channels: found, bytes }.with_channels(channels))
}

impl Pixels {
    /// The same image in grey (`channels` 1) or RGB (3), as Pillow's `convert` makes it.
    #[must_use]
    pub(super) fn with_channels(self, channels: usize) -> Self {
        let bytes = match (self.channels, channels) {
            (3, 1) => self.bytes.as_chunks::<3>().0.iter().map(|pixel| luma(*pixel)).collect(),
            (1, 3) => self.bytes.iter().flat_map(|grey| [*grey; 3]).collect(),
            _ => return self,
        };
        Self { channels, bytes, ..self }
    }
}

/// ITU-R 601 luma in Pillow's fixed point.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}
