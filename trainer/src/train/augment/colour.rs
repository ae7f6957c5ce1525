//! Operations that change the values of pixels but do not move them.

use super::geometry::View;

/// `y = m + factor·(x − m)`, clamped. A factor of 0 gives `m`, 1 gives the image, and more exaggerates it.
fn blend(pixel: u8, middle: f32, factor: f32) -> u8 {
    (middle + factor * (f32::from(pixel) - middle)).round().clamp(0.0, 255.0) as u8
}

/// ITU-R 601 luma.
fn luma(pixel: &[u8]) -> f32 {
    match *pixel {
        [red, green, blue] => {
            0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)
        }
        _ => f32::from(pixel[0]),
    }
}

/// Blends with black.
pub(super) fn brightness(pixels: &mut [u8], factor: f32) {
    for pixel in pixels {
        *pixel = blend(*pixel, 0.0, factor);
    }
}

/// Blends with the mean luma of the image.
pub(super) fn contrast(view: View, pixels: &mut [u8], factor: f32) {
    let count = (view.height * view.width) as f64;
    let sum: f64 = pixels.chunks_exact(view.channels).map(|pixel| f64::from(luma(pixel))).sum();
    let mean = (sum / count).round() as f32;
    for pixel in pixels {
        *pixel = blend(*pixel, mean, factor);
    }
}

/// Blends with the grey image.
pub(super) fn saturation(view: View, pixels: &mut [u8], factor: f32) {
    for pixel in pixels.chunks_exact_mut(view.channels) {
        let grey = luma(pixel).round();
        for cell in pixel {
            *cell = blend(*cell, grey, factor);
        }
    }
}

/// Keeps the `bits` highest bits, 1 to 8.
pub(super) fn posterize(pixels: &mut [u8], bits: u32) {
    let mask = 0xff_u8 << (8 - bits.clamp(1, 8));
    for pixel in pixels {
        *pixel &= mask;
    }
}

/// Inverts the pixels that are at least `threshold`.
pub(super) fn solarize(pixels: &mut [u8], threshold: u16) {
    for pixel in pixels.iter_mut().filter(|pixel| u16::from(**pixel) >= threshold) {
        *pixel = 255 - *pixel;
    }
}

/// Stretches each channel to the range 0 to 255.
pub(super) fn stretch(view: View, pixels: &mut [u8]) {
    for channel in 0..view.channels {
        let cells = || pixels.iter().skip(channel).step_by(view.channels).copied();
        let (low, high) = (cells().min().unwrap_or(0), cells().max().unwrap_or(255));
        if low == high {
            continue;
        }
        let factor = 255.0 / f32::from(high - low);
        for cell in pixels.iter_mut().skip(channel).step_by(view.channels) {
            *cell = (f32::from(*cell - low) * factor).round() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREY: View = View { channels: 1, height: 1, width: 4 };
    const FOUR: [u8; 4] = [0, 100, 140, 160];

    fn after(change: impl Fn(&mut [u8])) -> [u8; 4] {
        let mut pixels = FOUR;
        change(&mut pixels);
        pixels
    }

    #[test]
    fn changes_grey_pixels_by_hand_computed_values() {
        assert_eq!(after(|p| brightness(p, 0.5)), [0, 50, 70, 80]);
        assert_eq!(after(|p| brightness(p, 2.0)), [0, 200, 255, 255]);
        // The mean is 100.
        assert_eq!(after(|p| contrast(GREY, p, 0.5)), [50, 100, 120, 130]);
        assert_eq!(after(|p| saturation(GREY, p, 0.0)), FOUR);
        assert_eq!(after(|p| posterize(p, 1)), [0, 0, 128, 128]);
        assert_eq!(after(|p| posterize(p, 8)), FOUR);
        assert_eq!(after(|p| solarize(p, 140)), [0, 100, 115, 95]);
        assert_eq!(after(|p| solarize(p, 256)), FOUR);
        assert_eq!(after(|p| stretch(GREY, p)), [0, 159, 223, 255]);
    }

    #[test]
    fn without_saturation_a_pixel_is_its_luma() {
        let view = View { channels: 3, height: 1, width: 1 };
        let mut pixel = [255, 0, 0];
        saturation(view, &mut pixel, 0.0);
        assert_eq!(pixel, [76; 3]);
        let mut flat = [5, 5, 5];
        stretch(view, &mut flat);
        assert_eq!(flat, [5; 3]);
    }
}
