//! A light `RandAugment`: one of eleven operations, all equally likely, at a common strength.
//!
//! The ranges are timm's at strength m = M/10: rotation ±30°·m, shear ±0.3·m, translation ±0.45·m of the side;
//! brightness, contrast and saturation by 1 ± 0.9·m; 8 − 4·m bits; solarized from 256·(1 − m) on; the range stretched.
//! Three operations of timm are missing: equalization, sharpening and inversion.

use super::colour;
use super::geometry::{View, warp};
use crate::train::draw::Draw;

/// Number of operations.
const OPERATIONS: u64 = 11;

/// Draws one operation and applies it at a strength of 0 to 1.
pub(super) fn apply(view: View, pixels: &mut [u8], fill: &[u8], strength: f64, draw: &mut Draw) {
    let operation = draw.below(OPERATIONS);
    let sign = if draw.happens(0.5) { 1.0 } else { -1.0 };
    let signed = sign * strength;
    let factor = (1.0 + 0.9 * signed) as f32;
    match operation {
        0 => colour::brightness(pixels, factor),
        1 => colour::contrast(view, pixels, factor),
        2 => colour::saturation(view, pixels, factor),
        3 => colour::posterize(pixels, 8 - (4.0 * strength).round() as u32),
        4 => colour::solarize(pixels, (256.0 * (1.0 - strength)).round() as u16),
        5 => colour::stretch(view, pixels),
        6 => {
            let (sin, cos) = (30.0_f64 * signed).to_radians().sin_cos();
            centered(view, pixels, [[cos, -sin], [sin, cos]], fill);
        }
        7 => centered(view, pixels, [[1.0, 0.0], [0.3 * signed, 1.0]], fill),
        8 => centered(view, pixels, [[1.0, 0.3 * signed], [0.0, 1.0]], fill),
        9 => {
            let down = 0.45 * signed * view.height as f64;
            warp(view, pixels, [[1.0, 0.0, down], [0.0, 1.0, 0.0]], fill);
        }
        _ => {
            let right = 0.45 * signed * view.width as f64;
            warp(view, pixels, [[1.0, 0.0, 0.0], [0.0, 1.0, right]], fill);
        }
    }
}

/// Warps by a matrix around the center of the image.
fn centered(view: View, pixels: &mut [u8], matrix: [[f64; 2]; 2], fill: &[u8]) {
    let middle = [(view.height as f64 - 1.0) / 2.0, (view.width as f64 - 1.0) / 2.0];
    let row = |at: usize| {
        let [a, b] = matrix[at];
        [a, b, middle[at] - a * middle[0] - b * middle[1]]
    };
    warp(view, pixels, [row(0), row(1)], fill);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_about_the_middle_moves_every_pixel() {
        let view = View { channels: 1, height: 3, width: 3 };
        let mut pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        centered(view, &mut pixels, [[0.0, -1.0], [1.0, 0.0]], &[0]);
        assert_eq!(pixels, [7, 4, 1, 8, 5, 2, 9, 6, 3]);
    }

    #[test]
    fn at_strength_zero_only_the_stretch_changes_a_picture() {
        let view = View { channels: 3, height: 4, width: 4 };
        let picture: Vec<u8> = (0..48).map(|at| 40 + at * 3).collect();
        let mut stretched = picture.clone();
        colour::stretch(view, &mut stretched);
        assert_ne!(stretched, picture);
        let mut seen = [false; 2];
        for image in 0..100 {
            let mut pixels = picture.clone();
            apply(view, &mut pixels, &[0; 3], 0.0, &mut Draw::of(1, 1, image));
            assert!(pixels == picture || pixels == stretched);
            seen[usize::from(pixels == stretched)] = true;
        }
        assert_eq!(seen, [true, true]);
    }
}
