//! Random changes to images during training.
//!
//! Each image is changed as 8-bit pixels `[H, W, C]` of the input's size, before normalization, in this order: flip,
//! crop with padding, resized crop, random operations, erasing. Pairs of images are then mixed as normalized floats. A
//! generator of (seed, epoch, image) makes all random choices, so the result depends neither on threads nor on where a
//! training was interrupted.

mod colour;
mod geometry;
mod mix;
mod operations;

pub(super) use geometry::View;
pub(super) use mix::{Half, mix};

use super::draw::Draw;
use super::error::TrainError;

/// Settings of the augmentation; [`Augment::default`] changes nothing.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Augment {
    /// Whether half of the images are mirrored left to right.
    pub flip: bool,
    /// Pixels of padding on each side; a window of the input's size is cropped from the padded image at random; 0 =
    /// none.
    pub crop_padding: usize,
    /// Smallest share of the area in a random resized crop, with an aspect of 3/4 to 4/3; `None` = no such crop. The
    /// crop is taken from the image after it was resized to the input's size.
    pub least_area: Option<f64>,
    /// Random operations per image (`RandAugment`'s N); 0 = none.
    pub operations: usize,
    /// Their strength, 0 to 10 (`RandAugment`'s M).
    pub magnitude: f64,
    /// Share of the images in which a box is filled with the mean; the box has 2 to 33 % of the area and an aspect of
    /// 0.3 to 3.3.
    pub erase: f64,
    /// α of mixup, `x = λ·x₁ + (1 − λ)·x₂`, λ ~ Beta(α, α); 0 = none.
    pub mixup: f64,
    /// α of cutmix: a box with the share 1 − λ of the area comes from the other image; 0 = none.
    pub cutmix: f64,
}

impl Augment {
    /// Flip and crop, as networks for CIFAR are usually trained.
    #[must_use]
    pub fn light(crop_padding: usize) -> Self {
        Self { flip: true, crop_padding, ..Self::default() }
    }

    /// Rejects settings out of range, and pixel operations on data that are already floats.
    ///
    /// # Errors
    /// T0401, T0408.
    pub fn check(&self, is_pixels: bool) -> Result<(), TrainError> {
        let refused = |setting, found: f64, expected| {
            Err(TrainError::Setting { setting, found: found.to_string(), expected })
        };
        for (setting, alpha) in [("α of mixup", self.mixup), ("α of cutmix", self.cutmix)] {
            if !(0.0..=2.0).contains(&alpha) {
                return refused(setting, alpha, "0 to 2");
            }
        }
        if !(0.0..=1.0).contains(&self.erase) {
            return refused("the share of erased images", self.erase, "0 to 1");
        }
        if !(0.0..=10.0).contains(&self.magnitude) {
            return refused("the magnitude of the augmentation", self.magnitude, "0 to 10");
        }
        if let Some(area) = self.least_area
            && !(0.01..=1.0).contains(&area)
        {
            return refused("the least area of a crop", area, "0.01 to 1");
        }
        let of_pixels = [
            ("flipping", self.flip),
            ("cropping", self.crop_padding > 0 || self.least_area.is_some()),
            ("RandAugment", self.operations > 0),
            ("erasing", self.erase > 0.0),
        ];
        match of_pixels.into_iter().find(|(_, is_asked)| *is_asked && !is_pixels) {
            Some((augmentation, _)) => Err(TrainError::NotPixels { augmentation }),
            None => Ok(()),
        }
    }

    /// Changes one image; `fill` is the pixel for positions outside the image.
    pub(super) fn apply(&self, view: View, pixels: &mut [u8], fill: &[u8], draw: &mut Draw) {
        if self.flip && draw.happens(0.5) {
            geometry::flip(view, pixels);
        }
        if self.crop_padding > 0 {
            let span = 2 * self.crop_padding as u64 + 1;
            let padding = self.crop_padding as isize;
            let (down, right) = (draw.below(span) as isize, draw.below(span) as isize);
            geometry::shift(view, pixels, down - padding, right - padding, fill);
        }
        if let Some(least) = self.least_area {
            let (area, aspect) = (draw.between(least, 1.0), draw.ratio(0.75, 4.0 / 3.0));
            let (height, width) = geometry::box_of(view, area, aspect);
            let top = draw.unit() * (view.height as f64 - height);
            let left = draw.unit() * (view.width as f64 - width);
            geometry::zoom(view, pixels, [top, left, height, width], fill);
        }
        for _ in 0..self.operations {
            operations::apply(view, pixels, fill, self.magnitude / 10.0, draw);
        }
        if draw.happens(self.erase) {
            let (area, aspect) = (draw.between(0.02, 0.33), draw.ratio(0.3, 1.0 / 0.3));
            let (height, width) = geometry::box_of(view, area, aspect);
            let (height, width) = (height.round() as usize, width.round() as usize);
            let top = draw.below((view.height - height.min(view.height)) as u64 + 1) as usize;
            let left = draw.below((view.width - width.min(view.width)) as u64 + 1) as usize;
            geometry::erase(view, pixels, [top, left, height, width], fill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: View = View { channels: 3, height: 8, width: 6 };

    fn picture() -> Vec<u8> {
        (0..8 * 6 * 3).map(|at| (at * 37 % 251) as u8).collect()
    }

    fn everything() -> Augment {
        Augment {
            flip: true,
            crop_padding: 2,
            least_area: Some(0.3),
            operations: 2,
            magnitude: 9.0,
            erase: 0.5,
            mixup: 0.2,
            cutmix: 1.0,
        }
    }

    #[test]
    fn nothing_is_changed_unless_asked_for() {
        let mut pixels = picture();
        Augment::default().apply(VIEW, &mut pixels, &[9, 9, 9], &mut Draw::of(1, 2, 3));
        assert_eq!(pixels, picture());
    }

    #[test]
    fn the_same_seed_epoch_and_image_give_the_same_pixels_and_others_give_others() {
        let changed = |seed, epoch, image| {
            let mut pixels = picture();
            let mut draw = Draw::of(seed, epoch, image);
            everything().apply(VIEW, &mut pixels, &[9, 9, 9], &mut draw);
            pixels
        };
        let found = changed(1, 2, 3);
        assert_eq!(found, changed(1, 2, 3));
        for other in [changed(2, 2, 3), changed(1, 3, 3), changed(1, 2, 4)] {
            assert_ne!(found, other);
        }
    }

    #[test]
    fn every_drawn_change_keeps_the_size_and_never_panics() {
        for view in [VIEW, View { channels: 1, height: 1, width: 1 }] {
            let count = view.channels * view.height * view.width;
            for image in 0..300 {
                let mut pixels = picture()[..count].to_vec();
                let mut draw = Draw::of(7, 0, image);
                everything().apply(view, &mut pixels, &[9; 3][..view.channels], &mut draw);
                assert_eq!(pixels.len(), count);
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        everything().check(true).unwrap();
        for augment in [
            Augment { mixup: 2.1, ..everything() },
            Augment { cutmix: -0.1, ..everything() },
            Augment { erase: f64::NAN, ..everything() },
            Augment { magnitude: 11.0, ..everything() },
            Augment { least_area: Some(0.0), ..everything() },
        ] {
            assert_eq!(augment.check(true).unwrap_err().code(), "T0401", "{augment:?}");
        }
        Augment { mixup: 0.5, ..Augment::default() }.check(false).unwrap();
        assert_eq!(Augment::light(4).check(false).unwrap_err().code(), "T0408");
    }
}
