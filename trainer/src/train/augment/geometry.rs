//! Operations that move pixels: flip, shift, erase and affine warps.

/// Shape of the pixels: `[height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::train) struct View {
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Mirrors the image left to right.
pub(super) fn flip(view: View, pixels: &mut [u8]) {
    for line in pixels.chunks_exact_mut(view.width * view.channels) {
        for x in 0..view.width / 2 {
            for c in 0..view.channels {
                line.swap(x * view.channels + c, (view.width - 1 - x) * view.channels + c);
            }
        }
    }
}

/// `y[i, j] = x[i + down, j + right]`, with `fill` outside the image: a crop of the padded image.
pub(super) fn shift(view: View, pixels: &mut [u8], down: isize, right: isize, fill: &[u8]) {
    let View { channels, height, width } = view;
    let source = pixels.to_vec();
    let first = right.max(0).min(width as isize) as usize;
    let gap = (-right).max(0).min(width as isize) as usize;
    let count = (width - gap).min(width - first) * channels;
    for (i, line) in pixels.chunks_exact_mut(width * channels).enumerate() {
        for pixel in line.chunks_exact_mut(channels) {
            pixel.copy_from_slice(fill);
        }
        let from = usize::try_from(i as isize + down).ok().filter(|from| *from < height);
        if let Some(from) = from {
            let from = (from * width + first) * channels;
            line[gap * channels..][..count].copy_from_slice(&source[from..][..count]);
        }
    }
}

/// Height and width of a box inside the image with this share of the area and this aspect (width / height).
pub(super) fn box_of(view: View, area: f64, aspect: f64) -> (f64, f64) {
    let (height, width) = (view.height as f64, view.width as f64);
    let pixels = area * height * width;
    ((pixels / aspect).sqrt().min(height), (pixels * aspect).sqrt().min(width))
}

/// Fills the box `[top, left, height, width]`.
pub(super) fn erase(view: View, pixels: &mut [u8], area: [usize; 4], fill: &[u8]) {
    let [top, left, height, width] = area;
    for line in pixels.chunks_exact_mut(view.width * view.channels).skip(top).take(height) {
        for pixel in line.chunks_exact_mut(view.channels).skip(left).take(width) {
            pixel.copy_from_slice(fill);
        }
    }
}

/// Stretches the box `[top, left, height, width]`, in fractions of pixels, over the image.
pub(super) fn zoom(view: View, pixels: &mut [u8], area: [f64; 4], fill: &[u8]) {
    let [top, left, height, width] = area;
    let (down, right) = (height / view.height as f64, width / view.width as f64);
    // Centers of pixels: p + ½ = top + (i + ½)·down.
    let map = [[down, 0.0, top + 0.5 * down - 0.5], [0.0, right, left + 0.5 * right - 0.5]];
    warp(view, pixels, map, fill);
}

/// `y[i, j] = x[p, q]`, `(p, q) = A·(i, j, 1)`, bilinear, with `fill` outside the image.
pub(super) fn warp(view: View, pixels: &mut [u8], map: [[f64; 3]; 2], fill: &[u8]) {
    let View { channels, height, width } = view;
    let source = pixels.to_vec();
    let at = |p: isize, q: isize| -> &[u8] {
        let inside = p >= 0 && q >= 0 && p < height as isize && q < width as isize;
        if inside {
            &source[(p as usize * width + q as usize) * channels..][..channels]
        } else {
            fill
        }
    };
    for (index, pixel) in pixels.chunks_exact_mut(channels).enumerate() {
        let (i, j) = ((index / width) as f64, (index % width) as f64);
        let [p, q] = map.map(|[a, b, c]| a * i + b * j + c);
        let (top, left) = (p.floor(), q.floor());
        let (low, far) = ((p - top) as f32, (q - left) as f32);
        let (top, left) = (top as isize, left as isize);
        let near = [at(top, left), at(top, left + 1), at(top + 1, left), at(top + 1, left + 1)];
        let shares = [(1.0 - low) * (1.0 - far), (1.0 - low) * far, low * (1.0 - far), low * far];
        for (c, cell) in pixel.iter_mut().enumerate() {
            let sum: f32 = near.iter().zip(shares).map(|(x, share)| f32::from(x[c]) * share).sum();
            *cell = (sum + 0.5) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: View = View { channels: 1, height: 3, width: 3 };
    const NINE: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];

    fn after(change: impl Fn(&mut [u8])) -> [u8; 9] {
        let mut pixels = NINE;
        change(&mut pixels);
        pixels
    }

    #[test]
    fn flips_left_to_right_and_keeps_the_order_of_the_channels() {
        assert_eq!(after(|p| flip(VIEW, p)), [3, 2, 1, 6, 5, 4, 9, 8, 7]);
        let mut colour = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        flip(View { channels: 3, height: 2, width: 2 }, &mut colour);
        assert_eq!(colour, [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]);
    }

    #[test]
    fn crops_of_the_padded_image_are_filled_beyond_it() {
        assert_eq!(after(|p| shift(VIEW, p, 0, 0, &[0])), NINE);
        assert_eq!(after(|p| shift(VIEW, p, 1, 1, &[0])), [5, 6, 0, 8, 9, 0, 0, 0, 0]);
        assert_eq!(after(|p| shift(VIEW, p, -1, 1, &[99])), [99, 99, 99, 2, 3, 99, 5, 6, 99]);
        assert_eq!(after(|p| shift(VIEW, p, 0, -2, &[0])), [0, 0, 1, 0, 0, 4, 0, 0, 7]);
        assert_eq!(after(|p| shift(VIEW, p, 5, -7, &[4])), [4; 9]);
    }

    #[test]
    fn erases_a_box() {
        assert_eq!(after(|p| erase(VIEW, p, [1, 0, 2, 2], &[0])), [1, 2, 3, 0, 0, 6, 0, 0, 9]);
        assert_eq!(after(|p| erase(VIEW, p, [2, 2, 5, 5], &[0])), [1, 2, 3, 4, 5, 6, 7, 8, 0]);
    }

    #[test]
    fn warps_by_whole_and_half_pixels() {
        let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        assert_eq!(after(|p| warp(VIEW, p, identity, &[0])), NINE);
        let transposed = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        assert_eq!(after(|p| warp(VIEW, p, transposed, &[0])), [1, 4, 7, 2, 5, 8, 3, 6, 9]);
        let half = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.5]];
        // The values are 1.5, 2.5, then the mean of 3 and the fill value 7; halves are rounded up.
        assert_eq!(after(|p| warp(VIEW, p, half, &[7])), [2, 3, 5, 5, 6, 7, 8, 9, 8]);
    }

    #[test]
    fn a_zoom_into_everything_changes_nothing_and_into_one_pixel_gives_that() {
        assert_eq!(after(|p| zoom(VIEW, p, [0.0, 0.0, 3.0, 3.0], &[0])), NINE);
        let one = after(|p| zoom(VIEW, p, [1.25, 1.25, 0.5, 0.5], &[0]));
        assert_eq!(one[4], 5);
        let (height, width) = box_of(View { channels: 1, height: 4, width: 8 }, 0.5, 1.0);
        assert!((height - 4.0).abs() < 1e-12 && (width - 4.0).abs() < 1e-12);
    }
}
