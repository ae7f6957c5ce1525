//! Mixing two images and their labels.

use super::Augment;
use crate::data::InputSpec;
use crate::train::draw::Draw;

/// One image of a pair: its row of the input and its row of targets, as little-endian f32.
pub(in crate::train) struct Half<'a> {
    /// The normalized image.
    pub image: &'a mut [u8],
    /// Its soft label.
    pub targets: &'a mut [u8],
}

/// Mixes the two images of a pair by mixup or cutmix. If both are enabled, each has probability ½.
///
/// - mixup: `x₁' = λ·x₁ + (1 − λ)·x₂`, `x₂' = λ·x₂ + (1 − λ)·x₁`, and the same for the targets, λ ~ Beta(α, α)
/// - cutmix: the images swap a box with the share 1 − λ of the area; the targets as above with λ = 1 − area of the box
pub(in crate::train) fn mix(
    augment: &Augment,
    input: &InputSpec,
    one: &mut Half<'_>,
    two: &mut Half<'_>,
    draw: &mut Draw,
) {
    let is_cut = match (augment.mixup > 0.0, augment.cutmix > 0.0) {
        (false, false) => return,
        (both, cut) => cut && (!both || draw.happens(0.5)),
    };
    let share = if is_cut {
        let area = drawn_box(input, 1.0 - draw.beta(augment.cutmix), draw);
        swap(input, one.image, two.image, area);
        1.0 - (area[2] * area[3]) as f32 / (input.height * input.width) as f32
    } else {
        let share = draw.beta(augment.mixup) as f32;
        blend(one.image, two.image, share);
        share
    };
    blend(one.targets, two.targets, share);
}

/// `[top, left, height, width]` of a box with this share of the area and the image's aspect, clipped at the edges.
fn drawn_box(input: &InputSpec, area: f64, draw: &mut Draw) -> [usize; 4] {
    let side = area.sqrt();
    let mut span = |length: usize| {
        let middle = draw.below(length as u64) as f64;
        let half = side * length as f64 / 2.0;
        let first = (middle - half).round().max(0.0) as usize;
        let last = ((middle + half).round() as usize).min(length);
        (first, last.saturating_sub(first))
    };
    let ((top, height), (left, width)) = (span(input.height), span(input.width));
    [top, left, height, width]
}

fn swap(input: &InputSpec, one: &mut [u8], two: &mut [u8], area: [usize; 4]) {
    let [top, left, height, width] = area;
    // One line of the box is one run of bytes; if the channels are stored separately, it is one run in each channel.
    let (planes, cell) =
        if input.is_channel_last { (1, input.channels * 4) } else { (input.channels, 4) };
    let line = input.width * cell;
    for plane in 0..planes {
        for y in top..top + height {
            let from = (plane * input.height + y) * line + left * cell;
            let run = from..from + width * cell;
            one[run.clone()].swap_with_slice(&mut two[run]);
        }
    }
}

fn blend(one: &mut [u8], two: &mut [u8], share: f32) {
    let (one, two) = (one.as_chunks_mut::<4>().0, two.as_chunks_mut::<4>().0);
    for (one, two) in one.iter_mut().zip(two) {
        let (a, b) = (f32::from_le_bytes(*one), f32::from_le_bytes(*two));
        *one = (share * a + (1.0 - share) * b).to_le_bytes();
        *two = (share * b + (1.0 - share) * a).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|cell| f32::from_le_bytes(*cell)).collect()
    }

    /// Mixes an image of ones (class 0) and an image of zeros (class 1). Returns both images and both targets.
    fn mixed(augment: &Augment, input: &InputSpec, image: u64) -> [Vec<f32>; 4] {
        let count = input.row_dims().iter().product();
        let (mut a, mut b) = (bytes(&vec![1.0; count]), bytes(&vec![0.0; count]));
        let (mut s, mut t) = (bytes(&[1.0, 0.0]), bytes(&[0.0, 1.0]));
        let mut one = Half { image: &mut a, targets: &mut s };
        let mut two = Half { image: &mut b, targets: &mut t };
        mix(augment, input, &mut one, &mut two, &mut Draw::of(3, 1, image));
        [floats(&a), floats(&b), floats(&s), floats(&t)]
    }

    const INPUT: InputSpec = InputSpec { channels: 3, height: 6, width: 4, is_channel_last: false };

    #[test]
    fn mixup_gives_images_and_labels_the_same_share() {
        let augment = Augment { mixup: 0.4, ..Augment::default() };
        let mut shares = Vec::new();
        for image in 0..50 {
            let [a, b, s, t] = mixed(&augment, &INPUT, image);
            let share = a[0];
            assert!(a.iter().all(|v| *v == share) && b.iter().all(|v| *v == 1.0 - share));
            assert_eq!((s, t), (vec![share, 1.0 - share], vec![1.0 - share, share]));
            shares.push(share);
        }
        assert!(shares.iter().any(|s| *s < 0.3) && shares.iter().any(|s| *s > 0.7));
    }

    #[test]
    fn cutmix_swaps_a_box_and_labels_say_its_area() {
        let augment = Augment { cutmix: 1.0, ..Augment::default() };
        for is_channel_last in [false, true] {
            let input = InputSpec { is_channel_last, ..INPUT };
            let mut partly = 0;
            for image in 0..50 {
                let [a, b, s, t] = mixed(&augment, &input, image);
                let own = a.iter().filter(|v| **v == 1.0).count();
                let share = own as f32 / a.len() as f32;
                assert!((s[0] - share).abs() < 1e-6 && (s[1] - (1.0 - share)).abs() < 1e-6);
                assert!(a.iter().zip(&b).all(|(a, b)| a + b == 1.0));
                assert!((t[1] - share).abs() < 1e-6);
                // All channels of a pixel are swapped together.
                let channel = |pixel: usize, c: usize| {
                    if is_channel_last { a[pixel * 3 + c] } else { a[c * 24 + pixel] }
                };
                assert!(
                    (0..24)
                        .all(|p| channel(p, 0) == channel(p, 1) && channel(p, 1) == channel(p, 2))
                );
                partly += usize::from(own > 0 && own < a.len());
            }
            assert!(partly > 20, "{partly}");
        }
    }

    #[test]
    fn nothing_is_mixed_unless_asked_for() {
        let [a, b, s, t] = mixed(&Augment::default(), &INPUT, 0);
        assert!(a.iter().all(|v| *v == 1.0) && b.iter().all(|v| *v == 0.0));
        assert_eq!((s, t), (vec![1.0, 0.0], vec![0.0, 1.0]));
    }
}
