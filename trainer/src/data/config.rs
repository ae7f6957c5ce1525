//! Preprocessing from JSON, with our own keys, Hugging Face's or timm's.

use serde_json::{Map, Value};

use super::preprocess::{Interpolation, Preprocess, Resize};

/// Largest number of pixels that a side can be resized to.
const LARGEST_SIDE: u64 = 16_384;

/// Our own keys.
const OWN: [&str; 7] = ["mean", "std", "rescale", "resize", "crop", "size", "interpolation"];

/// Keys that only Hugging Face's files contain.
const HUGGING_FACE: [&str; 10] = [
    "image_mean",
    "image_std",
    "do_resize",
    "do_normalize",
    "do_rescale",
    "do_center_crop",
    "rescale_factor",
    "crop_size",
    "resample",
    "image_processor_type",
];

/// Keys that only timm's files contain.
const TIMM: [&str; 3] = ["input_size", "crop_pct", "crop_mode"];

/// Reads a preprocessing from JSON.
///
/// # Errors
/// The message names the key that is not understood, or the keys that were expected.
pub(super) fn preprocess(json: &Value) -> Result<Preprocess, String> {
    let Value::Object(keys) = json else { return Err("it is no JSON object".to_owned()) };
    if let Some(Value::Object(nested)) = keys.get("pretrained_cfg") {
        return timm(nested);
    }
    let has = |names: &[&str]| names.iter().any(|name| keys.contains_key(*name));
    let found = if has(&HUGGING_FACE) {
        hugging_face(keys)
    } else if has(&TIMM) {
        timm(keys)
    } else if has(&OWN) {
        own(keys)
    } else {
        Err("it has none of the keys mean, std, resize, image_mean, image_std, do_resize, pretrained_cfg, input_size"
            .to_owned())
    }?;
    check(found)
}

fn check(found: Preprocess) -> Result<Preprocess, String> {
    let Preprocess { mean, std, rescale, .. } = &found;
    let is_finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
    if mean.len() != std.len() || !matches!(mean.len(), 1 | 3) {
        return Err(format!("{} means and {} standard deviations", mean.len(), std.len()));
    }
    if !is_finite(mean) || !is_finite(std) || std.iter().any(|std| *std <= 0.0) {
        return Err("a standard deviation is not above 0".to_owned());
    }
    if !rescale.is_finite() || *rescale <= 0.0 {
        return Err(format!("the pixels are rescaled by {rescale}"));
    }
    if let Resize::Share { share, .. } = found.resize
        && !(0.05..=1.0).contains(&share)
    {
        return Err(format!("the crop keeps the share {share}"));
    }
    Ok(found)
}

fn own(keys: &Map<String, Value>) -> Result<Preprocess, String> {
    if let Some(unknown) = keys.keys().find(|key| !OWN.contains(&key.as_str())) {
        return Err(format!("the key {unknown:?} is not one of {}", OWN.join(", ")));
    }
    let (mean, std) = (numbers(keys, "mean")?, numbers(keys, "std")?);
    let (mean, std) =
        same_length(mean.unwrap_or_else(|| vec![0.0]), std.unwrap_or_else(|| vec![1.0]));
    let resize = side_or_size(keys, "resize")?;
    let is_cropped = flag(keys, "crop")?.unwrap_or(resize.is_some());
    let size = side_or_size(keys, "size")?.map(Extent::square);
    let squeezed = resize.filter(|_| !is_cropped).map(Extent::square);
    Ok(Preprocess {
        resize: resize.map_or(Resize::Keep, Extent::resize),
        is_cropped,
        interpolation: interpolation(keys, "interpolation")?,
        rescale: number(keys, "rescale")?.unwrap_or(1.0 / 255.0),
        size: size.or(squeezed),
        ..Preprocess::squeezed(&mean, &std)
    })
}

/// `size` is the exact size without a crop and the short side with one. `crop_pct` is ConvNeXt's, which squeezes the
/// whole image from 384 pixels on.
fn hugging_face(keys: &Map<String, Value>) -> Result<Preprocess, String> {
    for key in ["do_pad", "include_top", "rescale_offset"] {
        if flag(keys, key)? == Some(true) {
            return Err(format!("{key:?} is not supported"));
        }
    }
    let is_normalized = flag(keys, "do_normalize")?.unwrap_or(keys.contains_key("image_mean"));
    let (mean, std) = if is_normalized {
        let needed = |key| numbers(keys, key)?.ok_or(format!("{key:?} is missing"));
        same_length(needed("image_mean")?, needed("image_std")?)
    } else {
        (vec![0.0], vec![1.0])
    };
    let size = side_or_size(keys, "size")?;
    let crop_size = side_or_size(keys, "crop_size")?.or(size).map(Extent::square);
    let is_cropped = flag(keys, "do_center_crop")?.unwrap_or(false);
    let is_resized = flag(keys, "do_resize")?.unwrap_or(size.is_some());
    let mut found = Preprocess {
        is_cropped,
        is_bgr: flag(keys, "do_flip_channel_order")?.unwrap_or(false),
        interpolation: resample(keys)?,
        ..Preprocess::squeezed(&mean, &std)
    };
    if flag(keys, "do_rescale")?.unwrap_or(true) {
        found.rescale = number(keys, "rescale_factor")?.unwrap_or(1.0 / 255.0);
    } else {
        found.rescale = 1.0;
    }
    let resized = if is_resized { Some(size.ok_or("\"size\" is missing")?) } else { None };
    let crop_pct = number(keys, "crop_pct")?;
    match (resized, crop_pct) {
        (Some(Extent::ShortSide(side)), Some(share)) => {
            found.is_cropped = side < 384;
            let larger = (side as f64 / share.clamp(0.05, 1.0)) as usize;
            found.resize = if side < 384 { Resize::ShortSide(larger) } else { Resize::Keep };
            found.size = Some((side, side));
        }
        (resized, _) => {
            found.resize = resized.map_or(Resize::Keep, Extent::resize);
            found.size = if is_cropped { crop_size } else { resized.map(Extent::square) };
        }
    }
    Ok(found)
}

fn timm(keys: &Map<String, Value>) -> Result<Preprocess, String> {
    let needed = |key| numbers(keys, key)?.ok_or(format!("{key:?} is missing"));
    let (mean, std) = same_length(needed("mean")?, needed("std")?);
    let is_squashed = match keys.get("crop_mode").and_then(Value::as_str).unwrap_or("center") {
        "center" => false,
        "squash" => true,
        other => return Err(format!("\"crop_mode\": {other:?} is not supported")),
    };
    let share = number(keys, "crop_pct")?.unwrap_or(0.875);
    let size = match keys.get("input_size") {
        None => None,
        Some(Value::Array(dims)) if dims.len() == 3 => {
            Some((side(&dims[1], "input_size")?, side(&dims[2], "input_size")?))
        }
        Some(other) => return Err(format!("\"input_size\": {other} is not [C, H, W]")),
    };
    check(Preprocess {
        resize: Resize::Share { share, is_rounded: false, is_squashed },
        is_cropped: true,
        interpolation: interpolation(keys, "interpolation")?,
        size,
        ..Preprocess::squeezed(&mean, &std)
    })
}

/// A size as it appears in the files.
#[derive(Clone, Copy)]
enum Extent {
    ShortSide(usize),
    Exact(usize, usize),
}

impl Extent {
    fn resize(self) -> Resize {
        match self {
            Self::ShortSide(side) => Resize::ShortSide(side),
            Self::Exact(height, width) => Resize::Exact { height, width },
        }
    }

    fn square(self) -> (usize, usize) {
        match self {
            Self::ShortSide(side) => (side, side),
            Self::Exact(height, width) => (height, width),
        }
    }
}

fn side(value: &Value, key: &str) -> Result<usize, String> {
    let side = value.as_u64().filter(|side| (1..=LARGEST_SIDE).contains(side));
    Ok(side.ok_or_else(|| format!("{key:?}: {value} is no number of pixels"))? as usize)
}

/// `N`, `[H, W]`, `{"shortest_edge": N}` or `{"height": H, "width": W}`.
fn side_or_size(keys: &Map<String, Value>, key: &str) -> Result<Option<Extent>, String> {
    let Some(value) = keys.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    let exact = |height, width| Ok(Some(Extent::Exact(side(height, key)?, side(width, key)?)));
    match value {
        Value::Array(sides) if sides.len() == 2 => exact(&sides[0], &sides[1]),
        Value::Object(named) => {
            match (named.get("shortest_edge"), named.get("height"), named.get("width")) {
                (Some(short), ..) if named.len() == 1 => {
                    Ok(Some(Extent::ShortSide(side(short, key)?)))
                }
                (None, Some(height), Some(width)) => exact(height, width),
                _ => Err(format!("{key:?} needs shortest_edge, or height and width")),
            }
        }
        _ => Ok(Some(Extent::ShortSide(side(value, key)?))),
    }
}

fn flag(keys: &Map<String, Value>, key: &str) -> Result<Option<bool>, String> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(format!("{key:?}: {other} is not true or false")),
    }
}

fn number(keys: &Map<String, Value>, key: &str) -> Result<Option<f64>, String> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(format!("{key:?}: {value} is no number")),
    }
}

fn numbers(keys: &Map<String, Value>, key: &str) -> Result<Option<Vec<f64>>, String> {
    let refused = |value: &Value| format!("{key:?}: {value} is no list of numbers");
    match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value @ Value::Array(items)) => {
            let items: Option<Vec<_>> = items.iter().map(Value::as_f64).collect();
            items.map(Some).ok_or_else(|| refused(value))
        }
        Some(value) => value.as_f64().map(|one| Some(vec![one])).ok_or_else(|| refused(value)),
    }
}

/// Repeats a single value so that both lists have the same length.
fn same_length(mut mean: Vec<f64>, mut std: Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    match (&mean[..], &std[..]) {
        ([one], _) => mean = vec![*one; std.len()],
        (_, [one]) => std = vec![*one; mean.len()],
        _ => {}
    }
    (mean, std)
}

fn interpolation(keys: &Map<String, Value>, key: &str) -> Result<Interpolation, String> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(Interpolation::Bilinear),
        Some(value) => match value.as_str() {
            Some("nearest") => Ok(Interpolation::Nearest),
            Some("bilinear") => Ok(Interpolation::Bilinear),
            Some("bicubic") => Ok(Interpolation::Bicubic),
            Some("lanczos") => Ok(Interpolation::Lanczos),
            _ => Err(format!("{key:?}: {value} is not nearest, bilinear, bicubic or lanczos")),
        },
    }
}

/// Pillow's numbers for the filters.
fn resample(keys: &Map<String, Value>) -> Result<Interpolation, String> {
    match keys.get("resample") {
        None | Some(Value::Null) => Ok(Interpolation::Bilinear),
        Some(value) => match value.as_u64() {
            Some(0) => Ok(Interpolation::Nearest),
            Some(1) => Ok(Interpolation::Lanczos),
            Some(2) => Ok(Interpolation::Bilinear),
            Some(3) => Ok(Interpolation::Bicubic),
            _ => Err(format!("\"resample\": {value} is not 0, 1, 2 or 3")),
        },
    }
}
