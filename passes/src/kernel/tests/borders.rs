//! Tests border maps: the ring and the interior, each separately.

use super::*;
use crate::kernel::{constant_image_response, image_response};

proptest! {
    #![proptest_config(fixed_seed(128))]

    #[test]
    fn responds_to_a_constant_image_as_the_oracle_does(
        sizes in (0..=3_usize).prop_flat_map(geometry),
        (inputs, outputs, groups) in select(vec![(3, 4, 1), (4, 4, 4), (4, 8, 4), (6, 4, 2)]),
        seed in any::<u64>(),
        extra in 0..4_usize,
    ) {
        let map = sizes.map(inputs, outputs, groups, seed & !1);
        let size = input_size(&map, &AffineMap::identity(outputs, map.spatial_rank()), extra);
        let constant = numbers(inputs, seed ^ 9);
        let mut filled = image_for(&map, &size, 0);
        filled.outer_iter_mut().zip(&constant).for_each(|(mut channel, &value)| channel.fill(value));
        let found = constant_image_response(&map, &constant, &size).unwrap();
        prop_assert!(is_close(&found, &map.apply(&filled).unwrap()));
        let drawn = image_for(&map, &size, seed);
        prop_assert!(is_close(&image_response(&map, &drawn).unwrap(), &map.apply(&drawn).unwrap()));
    }

    #[test]
    fn folds_a_shift_before_a_padded_map(
        sizes in (0..=3_usize).prop_flat_map(geometry),
        (inputs, outputs, groups) in select(vec![(3, 4, 1), (4, 4, 4), (4, 8, 4), (6, 4, 2)]),
        seed in any::<u64>(),
    ) {
        let map = sizes.map(inputs, outputs, groups, seed);
        let size = input_size(&map, &AffineMap::identity(outputs, map.spatial_rank()), 2);
        let (scale, shift) = (numbers(inputs, seed ^ 1), numbers(inputs, seed ^ 2));
        let norm = AffineMap::diagonal(&scale, &shift, map.spatial_rank()).unwrap();
        let folded = map.shift_input(&shift, Some(&size)).unwrap().scale_cols(&scale).unwrap();
        let input = image_for(&map, &size, seed ^ 7);
        prop_assert!(equals_chain(&folded, &norm, &map, &input));
        prop_assert!(equals_chain(&norm.then(&map, Some(&size)).unwrap(), &norm, &map, &input));
    }
}

fn biased_pair() -> (AffineMap, AffineMap) {
    (Geometry::square(1, 1, 0).map(2, 3, 1, 1), Geometry::square(3, 1, 1).map(3, 2, 1, 3))
}

#[test]
fn is_right_on_the_ring_and_in_the_interior() {
    let (first, next) = biased_pair();
    let composed = first.then(&next, Some(&[14, 14])).unwrap();
    assert!(composed.bias.iter().all(|&bias| bias == 0.0));
    let input = image(&[2, 14, 14], 5);
    let expected = next.apply(&first.apply(&input).unwrap()).unwrap();
    let found = composed.apply(&input).unwrap();

    let unpadded = Geometry::square(3, 1, 0).map(3, 2, 1, 3);
    let mut naive = first.then(&unpadded, None).unwrap();
    naive.pad_begin = vec![1; 2];
    naive.pad_end = vec![1; 2];
    let naive = naive.apply(&input).unwrap();
    let mut wrong = 0;
    for place in 0..196 {
        let (row, column) = (place / 14, place % 14);
        let is_ring = row == 0 || column == 0 || row == 13 || column == 13;
        let at = [1, row, column];
        assert!((found[at] - expected[at]).abs() <= TOLERANCE * 10.0);
        let is_wrong = (naive[at] - expected[at]).abs() > TOLERANCE * 10.0;
        assert_eq!(is_wrong, is_ring);
        wrong += usize::from(is_wrong);
    }
    assert_eq!(wrong, 52);
}

#[test]
fn holds_nine_values_a_channel_for_a_padded_kernel_of_three() {
    let (first, next) = biased_pair();
    let border = first.then(&next, Some(&[8, 9])).unwrap().border.unwrap();
    assert_eq!((border.spatial_size(), border.bytes(4)), (&[8, 9][..], 2 * 8 * 9 * 4));
    assert!(!border.is_uniform());
    let mut values: Vec<u64> =
        border.map.index_axis(ndarray::Axis(0), 0).iter().map(|value| value.to_bits()).collect();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 9);
}

#[test]
fn becomes_a_bias_when_the_padding_is_never_read() {
    let first = Geometry::square(1, 1, 0).map(2, 3, 1, 1);
    let next = Geometry { begin: vec![0; 2], ..Geometry::square(2, 2, 1) }.map(3, 2, 1, 3);
    let composed = first.then(&next, Some(&[8, 8])).unwrap();
    assert!(composed.border.is_none());
    assert!(equals_chain(&composed, &first, &next, &image(&[2, 8, 8], 3)));
    let composed = first.then(&next, Some(&[7, 7])).unwrap();
    assert!(composed.border.is_some());
    assert!(equals_chain(&composed, &first, &next, &image(&[2, 7, 7], 3)));
}

#[test]
fn tells_when_a_border_is_too_large() {
    let (first, next) = biased_pair();
    let composed = first.then(&next, Some(&[8, 8])).unwrap();
    assert_eq!(composed.check_border_bytes(4, 512), Ok(()));
    let expected = Obstacle::BorderTooLarge { bytes: 512, limit: 511 };
    assert_eq!(composed.check_border_bytes(4, 511), Err(expected));
    assert_eq!(reason(composed.check_border_bytes(4, 0)), "border-too-large");
    assert_eq!(next.check_border_bytes(4, 0), Ok(()));
}

#[test]
fn carries_a_border_through_a_strided_pointwise_map_and_padding() {
    let (first, next) = biased_pair();
    let composed = first.then(&next, Some(&[8, 9])).unwrap();
    let input = image(&[2, 8, 9], 4);
    let sampled = Geometry::square(1, 2, 0).map(2, 3, 1, 5);
    let three = composed.then(&sampled, None).unwrap();
    assert_eq!(three.border.as_ref().unwrap().spatial_size(), [4, 5]);
    assert!(equals_chain(&three, &composed, &sampled, &input));

    let shifted = Geometry::square(1, 1, 0).map(2, 2, 1, 7);
    let shifted = AffineMap { border: composed.border.clone(), bias: vec![0.0; 2], ..shifted };
    let padded = Geometry::square(3, 2, 1).map(2, 3, 1, 5);
    let three = shifted.then(&padded, None).unwrap();
    assert!(equals_chain(&three, &shifted, &padded, &input));
}

#[test]
fn adds_the_border_of_the_second_map() {
    let (first, next) = biased_pair();
    let composed = first.then(&next, Some(&[8, 9])).unwrap();
    let before = Geometry::square(1, 1, 0).map(4, 2, 2, 9);
    let three = before.then(&composed, Some(&[8, 9])).unwrap();
    assert!(equals_chain(&three, &before, &composed, &image(&[4, 8, 9], 4)));
    let twice = before.then(&composed, Some(&[8, 9])).unwrap();
    let shift = AffineMap::diagonal(&[1.0; 2], &[1.0, 2.0], 2).unwrap();
    let twice = twice.then(&shift, None).unwrap();
    let input = image(&[4, 8, 9], 4);
    let moved = twice.apply(&input).unwrap() - three.apply(&input).unwrap();
    assert!(
        moved
            .index_axis(ndarray::Axis(0), 1)
            .iter()
            .all(|value| (value - 2.0).abs() < TOLERANCE * 10.0)
    );
}

#[test]
fn refuses_a_shift_before_padding_at_an_unknown_size() {
    let padded = Geometry::square(3, 1, 1).map(2, 2, 1, 1);
    assert_eq!(reason(padded.shift_input(&[1.0, 0.0], None)), "symbolic-spatial");
    assert_eq!(padded.shift_input(&[0.0, 0.0], None).unwrap(), padded);
    let unpadded = Geometry::square(3, 1, 0).map(2, 2, 1, 1);
    assert!(unpadded.shift_input(&[1.0, 0.0], None).unwrap().border.is_none());
    assert_eq!(reason(padded.shift_input(&[1.0], None)), "channels-mismatch");
    assert_eq!(reason(constant_image_response(&padded, &[1.0], &[5, 5])), "channels-mismatch");
    assert_eq!(reason(image_response(&padded, &image(&[2, 5], 1))), "spatial-rank-mismatch");
}
