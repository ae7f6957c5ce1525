//! The preprocessings that a check tries.

use crate::data::Preprocess;

/// Normalizations of models with three channels. Each comes as a whole image and as a center crop.
const COLOR: [[&str; 2]; 6] = [
    ["imagenet", "imagenet,squeeze"],
    ["symmetric,crop", "symmetric"],
    ["unit,crop", "unit"],
    ["none,crop", "none"],
    ["caffe", "caffe,squeeze"],
    ["cifar,crop", "cifar"],
];

/// Normalizations of models with one channel.
const GREY: [&str; 5] = ["fashion-mnist", "mnist", "unit", "symmetric", "none"];

/// The texts of the preprocessings for a model with this number of channels, as `--preprocess` takes them.
pub(super) fn all(channels: usize) -> Vec<&'static str> {
    if channels == 1 { GREY.to_vec() } else { COLOR.concat() }
}

/// The same preprocessing with another order of channels and with other interpolation; nothing for one channel.
pub(super) fn variants(text: &str, channels: usize) -> Vec<String> {
    if channels == 1 {
        return Vec::new();
    }
    let order = if text.starts_with("caffe") { "rgb" } else { "bgr" };
    vec![format!("{text},{order}"), format!("{text},bicubic")]
}

/// A preprocessing with its text.
pub(super) fn parsed(text: &str) -> Option<(String, Preprocess)> {
    Some((text.to_owned(), Preprocess::parse(text).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_can_be_typed_and_is_another_preprocessing() {
        for channels in [1, 3] {
            let mut known: Vec<Preprocess> = Vec::new();
            for text in all(channels) {
                let texts = [vec![text.to_owned()], variants(text, channels)].concat();
                for text in texts {
                    let (_, found) = parsed(&text).unwrap_or_else(|| panic!("{text}"));
                    assert!(!known.contains(&found), "{text} is there twice");
                    known.push(found);
                }
            }
            assert_eq!(known.len(), if channels == 1 { 5 } else { 36 });
        }
    }
}
