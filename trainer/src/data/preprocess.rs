//! The processing of an image before the model sees it.

use std::path::Path;

use super::config;
use super::error::DataError;
use super::input::InputSpec;
use super::plan::Plan;

/// Largest size of a file with a preprocessing, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// The resizing of the preset `imagenet` before the crop.
const CROP: Resize = Resize::Share { share: 0.875, is_rounded: true, is_squashed: false };

/// Size, crop and normalization of images, as torchvision, timm and Hugging Face apply them to 8-bit pixels with
/// Pillow.
///
/// The steps are, in this order: convert to grey or RGB, as the model's input requires (alpha is dropped, the EXIF
/// orientation is not applied); resize; crop at the center, with black borders if the image is smaller;
/// `(pixel · rescale − mean) / std`. The result always has the size of the model's input.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Preprocess {
    /// Resizing before the crop; without a crop, images are resized directly to the input's size.
    pub resize: Resize,
    /// Whether the center is cropped; otherwise the whole image is squeezed into the input's size.
    pub is_cropped: bool,
    /// Interpolation between pixels; it is antialiased when images get smaller.
    pub interpolation: Interpolation,
    /// Factor of the 8-bit pixels, usually 1/255.
    pub rescale: f64,
    /// Means after rescaling: one for all channels, or one per channel in the order RGB.
    pub mean: Vec<f64>,
    /// Standard deviations after rescaling, as many as there are means.
    pub std: Vec<f64>,
    /// Whether the model takes the channels in the order BGR.
    pub is_bgr: bool,
    /// `(height, width)` for a model that leaves the size open; `None` = unknown. Unless `resize` depends on the
    /// input's size, an input of another size is an error.
    pub size: Option<(usize, usize)>,
}

/// Resizing before the crop.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub enum Resize {
    /// No resizing.
    Keep,
    /// Resizes the shorter side to this many pixels and the other in proportion, rounded down.
    ShortSide(usize),
    /// Resizes to this size and ignores the proportions.
    Exact {
        /// Pixels from top to bottom.
        height: usize,
        /// Pixels from left to right.
        width: usize,
    },
    /// Resizes to the input's size divided by `share`.
    Share {
        /// Share of the resized image that the crop keeps, above 0 and at most 1.
        share: f64,
        /// Whether the quotient is rounded to the nearest integer instead of down.
        is_rounded: bool,
        /// Whether the image gets exactly that size instead of just covering it.
        is_squashed: bool,
    },
}

/// Interpolation between pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Triangle filter.
    Bilinear,
    /// Catmull-Rom, a = −0.5, as in Pillow.
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos,
}

impl Preprocess {
    /// Names of the presets.
    pub const PRESETS: &[&str] =
        &["imagenet", "cifar", "fashion-mnist", "mnist", "unit", "symmetric", "caffe", "none"];

    /// Words that change a preset, behind it with commas: `symmetric,crop,bicubic`.
    pub const CHANGES: &[&str] = &["crop", "squeeze", "bgr", "rgb", "bilinear", "bicubic"];

    /// Reads a preset, or a `.json` file: our own keys, Hugging Face's `preprocessor_config.json` or timm's
    /// `config.json`.
    ///
    /// | preset | size | pixel, of 0 to 1 |
    /// |---|---|---|
    /// | `imagenet` | short side to round(size / 0.875), bilinear, center crop | mean 0.485 0.456 0.406, std 0.229 0.224 0.225 |
    /// | `cifar` | squeezed into the input, bilinear; 32×32 stay as they are | mean 0.4914 0.4822 0.4465, std 0.247 0.2435 0.2616 |
    /// | `fashion-mnist` | the same | mean 0.45, std 0.25 |
    /// | `mnist` | the same | mean 0.1307, std 0.3081 |
    /// | `unit` | the same | 0 to 1 |
    /// | `symmetric` | the same | −1 to 1 |
    /// | `none` | the same | unchanged, 0 to 255 |
    /// | `caffe` | as `imagenet`, channels BGR | 0 to 255 minus 123.68 116.779 103.939 (of R, G, B) |
    ///
    /// Words behind a preset change it, such as `symmetric,crop,bicubic`: `crop` is the size of `imagenet`, `squeeze`
    /// that of `cifar`; `bgr` and `rgb` are the order of the channels; `bilinear` and `bicubic` the interpolation;
    /// `480x640` or `320` is the size for inputs that leave theirs open, height first.
    ///
    /// Our own keys, all optional:
    ///
    /// | key | default | means |
    /// |---|---|---|
    /// | `mean`, `std` | 0, 1 | one number, or a list with one number in all or one per channel |
    /// | `rescale` | 1/255 | factor of the 8-bit pixels before that |
    /// | `resize` | `null` | N = short side, `[H, W]` = exact size, `null` = no resizing |
    /// | `crop` | whether `resize` is given | center crop; without it the image is squeezed into the input |
    /// | `size` | `null` | N or `[H, W]`, for inputs that leave their size open |
    /// | `interpolation` | `"bilinear"` | `nearest`, `bilinear`, `bicubic`, `lanczos` |
    ///
    /// # Errors
    /// T0109 when it is neither, or when the file is not understood.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let refused = |detail| DataError::Preprocess { text: text.to_owned(), detail };
        let mut words = text.split(',').map(str::trim);
        let Some(mut found) = words.next().and_then(Self::preset) else {
            // A file may be followed by a size, as a preset may.
            if let Some((file, word)) = text.rsplit_once(',')
                && let Some(size) = size_of(word.trim())
            {
                return Self::read(file).map(|it| Self { size: Some(size), ..it }).map_err(refused);
            }
            return Self::read(text).map_err(refused);
        };
        for word in words {
            found.change(word).map_err(refused)?;
        }
        Ok(found)
    }

    /// A preset without changes; `None` if there is none of this name.
    fn preset(name: &str) -> Option<Self> {
        Some(match name {
            "imagenet" => Self::cropped(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]),
            "cifar" => Self::squeezed(&[0.4914, 0.4822, 0.4465], &[0.247, 0.2435, 0.2616]),
            "fashion-mnist" => Self::squeezed(&[0.45], &[0.25]),
            "mnist" => Self::squeezed(&[0.1307], &[0.3081]),
            "unit" => Self::squeezed(&[0.0], &[1.0]),
            "symmetric" => Self::squeezed(&[0.5], &[0.5]),
            "caffe" => Self {
                rescale: 1.0,
                is_bgr: true,
                ..Self::cropped(&[123.68, 116.779, 103.939], &[1.0, 1.0, 1.0])
            },
            "none" => Self { rescale: 1.0, ..Self::squeezed(&[0.0], &[1.0]) },
            _ => return None,
        })
    }

    /// Applies a word of [`Self::CHANGES`].
    fn change(&mut self, word: &str) -> Result<(), String> {
        match word {
            "crop" => (self.resize, self.is_cropped) = (CROP, true),
            "squeeze" => (self.resize, self.is_cropped) = (Resize::Keep, false),
            "bgr" => self.is_bgr = true,
            "rgb" => self.is_bgr = false,
            "bilinear" => self.interpolation = Interpolation::Bilinear,
            "bicubic" => self.interpolation = Interpolation::Bicubic,
            _ => {
                let wrong = || {
                    format!(
                        "{word:?} is none of {}, and no size as 480x640",
                        Self::CHANGES.join(", ")
                    )
                };
                self.size = Some(size_of(word).ok_or_else(wrong)?);
            }
        }
        Ok(())
    }

    /// Crops the center as the preset `imagenet`, and normalizes pixels of 0 to 1.
    fn cropped(mean: &[f64], std: &[f64]) -> Self {
        Self { resize: CROP, is_cropped: true, ..Self::squeezed(mean, std) }
    }

    /// Squeezes images into the input's size if theirs differs, and normalizes pixels of 0 to 1.
    pub(super) fn squeezed(mean: &[f64], std: &[f64]) -> Self {
        Self {
            resize: Resize::Keep,
            is_cropped: false,
            interpolation: Interpolation::Bilinear,
            rescale: 1.0 / 255.0,
            mean: mean.to_vec(),
            std: std.to_vec(),
            is_bgr: false,
            size: None,
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        if !path.is_file() {
            return Err("no such preset, and no such file".to_owned());
        }
        let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if bytes > LARGEST_FILE {
            return Err(format!("{bytes} bytes are too many"));
        }
        let json = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let json = serde_json::from_str(&json).map_err(|error| error.to_string())?;
        config::preprocess(&json)
    }

    /// The steps for one input.
    ///
    /// # Errors
    /// T0110 when the channels or the size do not fit.
    pub(super) fn plan(&self, input: &InputSpec) -> Result<Plan, DataError> {
        Plan::new(self, input)
    }
}
/// Height and width: `480x640`, or one number for both.
fn size_of(word: &str) -> Option<(usize, usize)> {
    let side = |text: &str| text.parse().ok().filter(|side| *side > 0);
    match word.split_once('x') {
        Some((height, width)) => Some((side(height)?, side(width)?)),
        None => side(word).map(|side| (side, side)),
    }
}
