//! The model's input, described as images.

use super::error::DataError;
use super::preprocess::Preprocess;

/// Longest side of an input, in pixels.
const LONGEST_SIDE: usize = 16_384;

/// Channels, size and layout of the images that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// `[N, H, W, C]` instead of `[N, C, H, W]`.
    pub is_channel_last: bool,
}

impl InputSpec {
    /// Reads the dims of a model's input, `[N, C, H, W]` or `[N, H, W, C]` with C = 1 or 3; `None` is a symbolic dim.
    ///
    /// If both readings are possible, the first is used. A symbolic H or W takes the size of the preprocessing.
    ///
    /// # Errors
    /// T0107 when the dims do not describe images; T0108 when the preprocessing has no size for a symbolic dim.
    pub fn of(dims: &[Option<usize>], preprocess: &Preprocess) -> Result<Self, DataError> {
        let refused = |detail: &str| DataError::NotAnImageInput {
            dims: display(dims),
            detail: detail.to_owned(),
        };
        let [_, second, third, fourth] = *dims else {
            return Err(refused("it has not four dims"));
        };
        let (channels, height, width, is_channel_last) = match (second, fourth) {
            (Some(channels @ (1 | 3)), _) => (channels, third, fourth, false),
            (_, Some(channels @ (1 | 3))) => (channels, second, third, true),
            _ => return Err(refused("neither its second nor its last dim is 1 or 3 channels")),
        };
        let size = preprocess.size;
        let open = || DataError::SizeUnknown { dims: display(dims) };
        let height = height.or(size.map(|size| size.0)).ok_or_else(open)?;
        let width = width.or(size.map(|size| size.1)).ok_or_else(open)?;
        if !(1..=LONGEST_SIDE).contains(&height) || !(1..=LONGEST_SIDE).contains(&width) {
            return Err(refused("a side is 0 or above 16384 pixels"));
        }
        Ok(Self { channels, height, width, is_channel_last })
    }

    /// Dims of one image.
    #[must_use]
    pub fn row_dims(&self) -> [usize; 3] {
        let Self { channels, height, width, .. } = *self;
        if self.is_channel_last { [height, width, channels] } else { [channels, height, width] }
    }
}

fn display(dims: &[Option<usize>]) -> String {
    let dims: Vec<_> =
        dims.iter().map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string())).collect();
    format!("[{}]", dims.join(","))
}
