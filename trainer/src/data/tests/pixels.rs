//! Values after resizing, cropping and normalizing.
//!
//! The references are Pillow 13.0.0's, of
//! `y, x, c = np.mgrid[0:12, 0:9, 0:3]; im = Image.fromarray(((x*7 + y*13 + c*50 + (x*y) % 11 * 9) % 256).astype("u1"))`:
//! `np.asarray(im.resize((6, 5), FILTER))` with the filters 0, 2 and 3, and `im.convert("L")`.

use super::*;
use crate::data::decode::{Pixels, decode};

const NEAREST: [u8; 90] = [
    13, 63, 113, 45, 95, 145, 61, 111, 161, 93, 143, 193, 109, 159, 209, 141, 191, 241, 39, 89,
    139, 107, 157, 207, 141, 191, 241, 110, 160, 210, 144, 194, 244, 113, 163, 213, 78, 128, 178,
    101, 151, 201, 162, 212, 6, 185, 235, 29, 147, 197, 247, 170, 220, 14, 104, 154, 204, 163, 213,
    7, 143, 193, 243, 202, 252, 46, 182, 232, 26, 241, 35, 85, 130, 180, 230, 225, 19, 69, 223, 17,
    67, 219, 13, 63, 217, 11, 61, 213, 7, 57,
];
const BILINEAR: [u8; 90] = [
    18, 68, 118, 39, 89, 139, 61, 111, 161, 80, 130, 180, 86, 136, 184, 103, 153, 201, 53, 103,
    153, 99, 149, 186, 110, 160, 201, 124, 174, 178, 132, 182, 180, 147, 197, 155, 93, 143, 178,
    133, 183, 157, 144, 194, 120, 154, 200, 126, 165, 163, 137, 174, 192, 66, 132, 177, 144, 168,
    205, 79, 177, 180, 93, 185, 175, 75, 197, 140, 60, 202, 113, 46, 155, 165, 192, 194, 137, 68,
    193, 134, 40, 195, 129, 39, 209, 102, 53, 212, 95, 56,
];
const BICUBIC: [u8; 90] = [
    14, 64, 114, 33, 83, 134, 58, 108, 159, 77, 127, 184, 82, 132, 182, 100, 150, 205, 50, 100,
    152, 101, 151, 193, 111, 161, 213, 126, 176, 180, 132, 187, 186, 150, 202, 159, 91, 141, 183,
    135, 186, 164, 144, 196, 114, 154, 207, 126, 165, 160, 143, 175, 198, 57, 132, 179, 139, 172,
    216, 69, 180, 182, 93, 185, 176, 75, 201, 133, 55, 203, 105, 42, 155, 166, 203, 198, 133, 61,
    193, 132, 33, 194, 130, 32, 212, 101, 54, 213, 92, 58,
];

/// First row in grey.
const LUMA: [u8; 9] = [41, 48, 55, 62, 69, 76, 83, 90, 97];

fn picture() -> Pixels {
    Pixels { height: 12, width: 9, channels: 3, bytes: pattern(12, 9) }
}

/// The f32 of an image after all steps.
fn apply(preprocess: &Preprocess, input: &InputSpec, pixels: Pixels) -> Vec<f32> {
    let plan = preprocess.plan(input).unwrap();
    let mut row = vec![0; plan.row_bytes()];
    plan.apply(pixels, &mut row).unwrap();
    row.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

const fn rgb(height: usize, width: usize) -> InputSpec {
    InputSpec { channels: 3, height, width, is_channel_last: true }
}

#[test]
fn resizes_as_pillow_does() {
    for (interpolation, expected) in [
        (Interpolation::Nearest, NEAREST),
        (Interpolation::Bilinear, BILINEAR),
        (Interpolation::Bicubic, BICUBIC),
    ] {
        let found = apply(&Preprocess { interpolation, ..raw() }, &rgb(5, 6), picture());
        assert_eq!(found.len(), expected.len());
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (found - f32::from(expected)).abs();
            assert!(difference <= 0.0, "{interpolation:?} at {at}: {found}, not {expected}");
        }
    }
}

#[test]
fn converts_to_grey_as_pillow_does() {
    let grey = picture().with_channels(1);
    assert_eq!(&grey.bytes[..9], LUMA);
    let decoded = decode(&encode(ImageFormat::Png, 12, 9, &pattern(12, 9)), 1).unwrap();
    assert_eq!(decoded, grey);
}

#[test]
fn keeps_grey_images_and_drops_alpha() {
    let grey = decode(&png(2, 2, &[77]), 1).unwrap();
    assert_eq!(grey.bytes, [77; 4]);
    assert_eq!(decode(&png(2, 2, &[77]), 3).unwrap().bytes, [77; 12]);
    let clear = decode(&png(1, 1, &[10, 20, 30, 0]), 3).unwrap();
    assert_eq!(clear.bytes, [10, 20, 30]);
}

#[test]
fn normalizes_by_channel_in_both_layouts() {
    let preprocess = Preprocess::parse("imagenet").unwrap();
    let expected: [f32; 3] = [
        (100.0 / 255.0 - 0.485) / 0.229,
        (150.0 / 255.0 - 0.456) / 0.224,
        (200.0 / 255.0 - 0.406) / 0.225,
    ];
    let one = |height, width| Pixels {
        height,
        width,
        channels: 3,
        bytes: [100, 150, 200].repeat(height * width),
    };
    for (height, width) in [(4, 4), (30, 50), (3, 2)] {
        let last = apply(&preprocess, &rgb(4, 4), one(height, width));
        let first = apply(&preprocess, &RGB_4X4, one(height, width));
        for at in 0..48 {
            assert!((last[at] - expected[at % 3]).abs() < 1e-6, "{height}×{width}");
            assert!((first[at] - expected[at / 16]).abs() < 1e-6, "{height}×{width}");
        }
    }
    let fashion = Preprocess::parse("fashion-mnist").unwrap();
    let grey = Pixels { height: 2, width: 2, channels: 1, bytes: vec![255; 4] };
    assert_eq!(apply(&fashion, &GREY_2X2, grey), [2.2; 4]);
    let cifar = apply(&Preprocess::parse("cifar").unwrap(), &RGB_4X4, one(4, 4));
    assert!((cifar[16] - (150.0 / 255.0 - 0.4822) / 0.2435).abs() < 1e-6);
}

#[test]
fn turns_the_channels_around_for_bgr() {
    let preprocess = Preprocess { is_bgr: true, ..raw() };
    let one = Pixels { height: 1, width: 1, channels: 3, bytes: vec![1, 2, 3] };
    assert_eq!(apply(&preprocess, &rgb(1, 1), one), [3.0, 2.0, 1.0]);
}

#[test]
fn crops_the_center_as_torchvision_does() {
    // 12×9 keeps its size: its short side is round(8 / 0.875) = 9 already.
    let preprocess = Preprocess {
        mean: vec![0.0],
        std: vec![1.0],
        rescale: 1.0,
        ..Preprocess::parse("imagenet").unwrap()
    };
    let found = apply(&preprocess, &rgb(8, 8), picture());
    let (top, left) = (2, 0);
    assert_eq!(found.len(), 8 * 8 * 3);
    for (at, value) in found.iter().enumerate() {
        let (y, x) = (at / 24 + top, at / 3 % 8 + left);
        assert_eq!(*value, f32::from(pattern(12, 9)[(y * 9 + x) * 3 + at % 3]), "at {at}");
    }
}

#[test]
fn puts_black_around_images_smaller_than_the_crop() {
    let preprocess = Preprocess { is_cropped: true, ..raw() };
    let one = Pixels { height: 2, width: 1, channels: 1, bytes: vec![8, 9] };
    let found = apply(&preprocess, &InputSpec { height: 3, width: 4, ..GREY_2X2 }, one);
    assert_eq!(found, [0.0, 8.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn resizes_in_proportion_or_exactly_before_the_crop() {
    // A ramp from left to right: where the crop lies shows how wide the image was before it.
    let ramp = || Pixels {
        height: 10,
        width: 40,
        channels: 1,
        bytes: (0..40).map(|x| x * 6).collect::<Vec<u8>>().repeat(10),
    };
    let input = InputSpec { height: 4, width: 4, ..GREY_2X2 };
    let width = |resize: Resize| {
        let preprocess = Preprocess { resize, is_cropped: true, ..raw() };
        let found = apply(&preprocess, &input, ramp());
        (240.0 / f64::from(found[2] - found[1])).round() as usize
    };
    assert_eq!(width(Resize::ShortSide(5)), 20);
    assert_eq!(width(Resize::Exact { height: 5, width: 10 }), 10);
    assert_eq!(width(Resize::Share { share: 0.8, is_rounded: false, is_squashed: false }), 20);
    assert_eq!(width(Resize::Share { share: 0.8, is_rounded: false, is_squashed: true }), 5);
    assert_eq!(width(Resize::Keep), 40);
}

#[test]
fn covers_an_input_that_is_not_square() {
    let preprocess = Preprocess {
        resize: Resize::Share { share: 1.0, is_rounded: false, is_squashed: false },
        is_cropped: true,
        ..raw()
    };
    let input = InputSpec { height: 2, width: 8, ..GREY_2X2 };
    let white = Pixels { height: 3, width: 4, channels: 1, bytes: vec![255; 12] };
    assert_eq!(apply(&preprocess, &input, white), [255.0; 16]);
}

#[test]
fn refuses_an_image_that_would_get_too_long() {
    let plan = Preprocess { resize: Resize::ShortSide(9000), is_cropped: true, ..raw() };
    let plan = plan.plan(&RGB_4X4).unwrap();
    let line = Pixels { height: 1, width: 9000, channels: 3, bytes: vec![0; 27_000] };
    assert!(plan.apply(line, &mut vec![0; plan.row_bytes()]).is_err());
}
