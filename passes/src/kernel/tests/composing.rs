//! Tests composition against the oracle: every condition, and every refusal.

use ndarray::array;

use super::*;
use crate::kernel::batch_norm_affine;

proptest! {
    #![proptest_config(fixed_seed(192))]

    #[test]
    fn composes_any_pair_when_the_second_is_unpadded(
        (first, next) in (0..=3_usize).prop_flat_map(|rank| (geometry(rank), geometry(rank))),
        (inputs, middle, outputs, groups, next_groups) in channels(),
        seed in any::<u64>(),
        extra in 0..3_usize,
    ) {
        let first = first.map(inputs, middle, groups, seed);
        let next = next.unpadded().map(middle, outputs, next_groups, seed >> 1);
        let composed = first.then(&next, None).unwrap();
        prop_assert!(composed.border.is_none());
        let input = image_for(&first, &input_size(&first, &next, extra), seed ^ 7);
        prop_assert!(equals_chain(&composed, &first, &next, &input));
    }

    #[test]
    fn composes_a_padded_map_after_a_pointwise_one_at_a_known_size(
        (first, next) in (0..=3_usize).prop_flat_map(|rank| (geometry(rank), geometry(rank))),
        (inputs, middle, outputs, groups, next_groups) in channels(),
        seed in any::<u64>(),
        extra in 0..3_usize,
    ) {
        let first = first.pointwise().map(inputs, middle, groups, seed);
        let next = next.map(middle, outputs, next_groups, seed >> 1);
        let size = input_size(&first, &next, extra);
        let composed = first.then(&next, Some(&size)).unwrap();
        prop_assert!(equals_chain(&composed, &first, &next, &image_for(&first, &size, seed ^ 7)));
        if seed % 2 == 0 {
            let sizeless = first.then(&next, None).unwrap();
            prop_assert!(sizeless.border.is_none());
            prop_assert_eq!(sizeless.weight, composed.weight);
        }
    }

    #[test]
    fn composes_exactly_or_refuses_inner_padding(
        (first, next) in (1..=3_usize).prop_flat_map(|rank| (geometry(rank), geometry(rank))),
        (inputs, middle, outputs, groups, next_groups) in channels(),
        seed in any::<u64>(),
        extra in 0..3_usize,
    ) {
        let first = first.map(inputs, middle, groups, seed);
        let next = next.map(middle, outputs, next_groups, seed >> 1);
        let size = input_size(&first, &next, extra);
        match first.then(&next, Some(&size)) {
            Ok(composed) => {
                prop_assert!(equals_chain(&composed, &first, &next, &image_for(&first, &size, seed ^ 7)));
            }
            Err(Obstacle::InnerPadding { axis, kernel, padding }) => {
                prop_assert_eq!(kernel, first.kernel_size()[axis]);
                prop_assert!(kernel > 1 && padding > 0);
            }
            Err(obstacle) => prop_assert!(false, "{}", obstacle),
        }
    }

    #[test]
    fn composes_three_maps_over_the_border_of_the_first_two(
        (first, next, last) in (1..=2_usize).prop_flat_map(|rank| (geometry(rank), geometry(rank), geometry(rank))),
        (inputs, middle, outputs, groups, next_groups) in channels(),
        seed in any::<u64>(),
    ) {
        let first = first.pointwise().map(inputs, middle, groups, seed | 1);
        let next = next.map(middle, outputs, next_groups, seed >> 1);
        let last = last.unpadded().map(outputs, 2, 1, seed >> 2);
        let two = |size: &[usize]| first.then(&next, Some(size)).unwrap();
        let size = input_size(&two(&input_size(&first, &next, 2)), &last, 2);
        let size: Vec<usize> =
            size.iter().zip(input_size(&first, &next, 0)).map(|(&size, least)| size.max(least)).collect();
        let two = two(&size);
        let three = two.then(&last, None);
        prop_assert_eq!(&three, &two.then(&last, Some(&size)));
        let input = image_for(&first, &size, seed ^ 7);
        let expected = last.apply(&next.apply(&first.apply(&input).unwrap()).unwrap()).unwrap();
        prop_assert!(is_close(&three.unwrap().apply(&input).unwrap(), &expected));
    }
}

#[test]
fn agrees_with_impulse_probing() {
    let first = Geometry { dilation: vec![2, 1], ..Geometry::square(3, 2, 1) }.map(3, 4, 1, 11);
    let next = Geometry::square(2, 1, 0).map(4, 6, 2, 13);
    let composed = first.then(&next, None).unwrap();
    let size = [23, 23];
    let row = |axis: usize, tap: usize| {
        4 * composed.stride[axis] + tap * composed.dilation[axis] - composed.pad_begin[axis]
    };
    for (at, &weight) in composed.weight.index_axis(ndarray::Axis(0), 5).indexed_iter() {
        let mut impulse = ArrayD::zeros(IxDyn(&[3, size[0], size[1]]));
        impulse[[at[0], row(0, at[1]), row(1, at[2])]] = 1.0;
        let response = next.apply(&first.apply(&impulse).unwrap()).unwrap();
        assert!((response[[5, 4, 4]] - composed.bias[5] - weight).abs() <= TOLERANCE);
    }
}

#[test]
fn notices_a_change_of_one_percent_in_one_weight() {
    let first = Geometry::square(3, 1, 1).map(3, 4, 1, 1);
    let next = Geometry::square(1, 1, 0).map(4, 4, 1, 3);
    let mut composed = first.then(&next, None).unwrap();
    let input = image(&[3, 6, 6], 5);
    assert!(equals_chain(&composed, &first, &next, &input));
    composed.weight[[2, 1, 0, 2]] *= 1.01;
    assert!(!equals_chain(&composed, &first, &next, &input));
}

#[test]
fn keeps_depthwise_after_depthwise_depthwise() {
    let first = Geometry::square(7, 1, 3).map(16, 16, 16, 1);
    let composed = first.then(&Geometry::square(3, 1, 0).map(16, 32, 16, 3), None).unwrap();
    assert_eq!(composed.weight.shape(), [32, 1, 9, 9]);
    assert!(composed.is_depthwise() && !composed.is_pointwise());
    assert_eq!((composed.groups, composed.macs_per_output()), (16, 32 * 81));
}

#[test]
fn keeps_a_dilation_that_all_taps_share() {
    let dilated = Geometry { dilation: vec![3, 3], ..Geometry::square(3, 1, 3) };
    let pointwise = Geometry::square(1, 2, 0).map(2, 2, 1, 2);
    let strided = pointwise.then(&dilated.map(2, 2, 1, 4), None).unwrap();
    assert_eq!((strided.kernel_size(), &strided.dilation[..]), (&[3, 3][..], &[6, 6][..]));
    assert_eq!((&strided.pad_begin[..], &strided.stride[..]), (&[6, 6][..], &[2, 2][..]));
    let after = dilated.map(2, 2, 1, 4).then(&pointwise, None).unwrap();
    assert_eq!((after.kernel_size(), &after.dilation[..]), (&[3, 3][..], &[3, 3][..]));
}

#[test]
fn composes_padding_behind_a_fully_padded_kernel() {
    let first = Geometry::square(3, 1, 2).map(2, 3, 1, 2);
    let next = Geometry::square(3, 1, 1).map(3, 2, 1, 3);
    let composed = first.then(&next, None).unwrap();
    assert!(equals_chain(&composed, &first, &next, &image(&[2, 5, 5], 1)));
}

#[test]
fn composes_padding_behind_patches_that_tile_the_image() {
    let patches = Geometry::square(4, 4, 0).map(3, 4, 1, 1);
    let next = Geometry::square(3, 1, 1).map(4, 4, 1, 3);
    let composed = patches.then(&next, Some(&[16, 12])).unwrap();
    assert!(equals_chain(&composed, &patches, &next, &image(&[3, 16, 12], 1)));
    assert_eq!(reason(patches.then(&next, Some(&[17, 12]))), "inner-padding");
    assert_eq!(reason(patches.then(&next, None)), "inner-padding");
}

#[test]
fn refuses_inner_padding_that_changes_the_ring() {
    let first = Geometry::square(3, 1, 1).map(2, 2, 1, 2);
    let next = Geometry::square(3, 1, 1).map(2, 2, 1, 4);
    let refused = first.then(&next, Some(&[7, 7])).unwrap_err();
    assert_eq!(refused, Obstacle::InnerPadding { axis: 0, kernel: 3, padding: 1 });

    let moved = Geometry::square(3, 1, 2).map(2, 2, 1, 2);
    let composed = moved.then(&Geometry::square(3, 1, 0).map(2, 2, 1, 4), None).unwrap();
    let input = image(&[2, 7, 7], 3);
    let found = composed.apply(&input).unwrap();
    let expected = next.apply(&first.apply(&input).unwrap()).unwrap();
    let differs = |row: usize, column: usize| {
        (0..2).any(|channel| {
            (found[[channel, row, column]] - expected[[channel, row, column]]).abs() > TOLERANCE
        })
    };
    let wrong = (0..49).filter(|&place| differs(place / 7, place % 7)).count();
    assert_eq!(wrong, 24);
    assert!((1..6).all(|row| (1..6).all(|column| !differs(row, column))));
}

#[test]
fn refuses_what_does_not_fit() {
    let map = Geometry::square(3, 1, 0).map(2, 2, 1, 1);
    let padded = Geometry::square(3, 1, 1).map(2, 2, 1, 1);
    let pointwise = Geometry::square(1, 1, 0).map(2, 2, 1, 1);
    assert_eq!(reason(pointwise.then(&padded, None)), "symbolic-spatial");
    assert_eq!(reason(map.then(&AffineMap::identity(3, 2), None)), "channels-mismatch");
    assert_eq!(reason(map.then(&AffineMap::identity(2, 1), None)), "spatial-rank-mismatch");
    assert_eq!(reason(map.then(&map, Some(&[9]))), "spatial-rank-mismatch");
    assert_eq!(reason(map.then(&map, Some(&[4, 9]))), "kernel-exceeds-input");
    assert_eq!(reason(map.apply(&image(&[2, 2, 9], 1))), "kernel-exceeds-input");
    assert_eq!(reason(map.apply(&image(&[3, 9, 9], 1))), "channels-mismatch");
    assert_eq!(reason(AffineMap::identity(1 << 15, 0).to_groups(1)), "too-many-elements");
}

#[test]
fn merges_a_token_block_with_its_norms_layer_scale_and_skip() {
    let (width, hidden) = (6, 24);
    let norm = |channels: usize, seed: u64| {
        let variance: Vec<f64> = numbers(channels, seed).iter().map(|v| v * v + 0.5).collect();
        let draw = |salt: u64| numbers(channels, seed + salt);
        let norm = batch_norm_affine(&draw(1), &draw(2), &draw(3), &variance, 1e-6).unwrap();
        AffineMap::diagonal(&norm.scale, &norm.shift, 0).unwrap()
    };
    let flat =
        Geometry { kernel: vec![], stride: vec![], dilation: vec![], begin: vec![], end: vec![] };
    let (up, down) = (flat.map(width, hidden, 1, 21), flat.map(hidden, width, 1, 23));
    let layer_scale = AffineMap::diagonal(&numbers(width, 8), &vec![0.0; width], 0).unwrap();
    let chain = [norm(width, 31), up, norm(hidden, 37), down, layer_scale];
    let mut merged = AffineMap::identity(width, 0);
    let mut expected = image(&[width], 2);
    let input = expected.clone();
    for map in &chain {
        merged = merged.then(map, None).unwrap();
        expected = map.apply(&expected).unwrap();
    }
    merged = merged.plus(&AffineMap::identity(width, 0), None).unwrap();
    assert_eq!(merged.weight.shape(), [width, width]);
    assert!(is_close(&merged.apply(&input).unwrap(), &(expected + &input)));
}

#[test]
fn composes_the_dense_and_pool_constructors() {
    let dense =
        AffineMap::dense(array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], vec![1.0, 0.0, -1.0]).unwrap();
    let found = dense.apply(&array![1.0, 10.0].into_dyn()).unwrap();
    assert_eq!(found, array![22.0, 43.0, 64.0].into_dyn());

    let pool = AffineMap::average_pool(3, &[2, 2], &[2, 2], &[0, 0], &[0, 0]).unwrap();
    let next = Geometry::square(1, 1, 0).map(3, 5, 1, 3);
    let composed = pool.then(&next, None).unwrap();
    assert_eq!((composed.weight.shape(), &composed.stride[..]), (&[5, 3, 2, 2][..], &[2, 2][..]));
    assert!(equals_chain(&composed, &pool, &next, &image(&[3, 7, 8], 4)));
}

#[test]
fn composes_a_zero_pad_with_a_padded_map() {
    let pad = AffineMap::zero_pad(2, &[1, 0], &[2, 1]).unwrap();
    let next = Geometry::square(3, 2, 1).map(2, 3, 1, 3);
    let composed = pad.then(&next, None).unwrap();
    assert_eq!((&composed.pad_begin[..], &composed.pad_end[..]), (&[2, 1][..], &[3, 2][..]));
    assert!(equals_chain(&composed, &pad, &next, &image(&[2, 5, 6], 4)));
}

#[test]
fn composes_a_strided_channel_selection() {
    let shortcut = AffineMap::selection(2, &[None, Some(0), Some(1), None], &[2, 2]).unwrap();
    let next = Geometry::square(3, 1, 1).map(4, 4, 2, 3);
    let composed = shortcut.then(&next, None).unwrap();
    assert_eq!(&composed.pad_begin[..], [2, 2]);
    assert!(equals_chain(&composed, &shortcut, &next, &image(&[2, 8, 9], 4)));
    assert_eq!(reason(AffineMap::selection(2, &[Some(2)], &[1])), "channels-mismatch");
}

#[test]
fn composes_a_crop_and_a_slice_with_an_offset() {
    let crop = AffineMap::crop(2, &[1, 0], &[2, 1]).unwrap();
    let input = image(&[2, 8, 7], 4);
    let expected = input.slice(ndarray::s![.., 1..6, 0..6]).into_dyn();
    assert_eq!(crop.apply(&input).unwrap(), expected);
    let next = Geometry::square(3, 2, 0).map(2, 3, 1, 3);
    let composed = crop.then(&next, None).unwrap();
    assert!(equals_chain(&composed, &crop, &next, &input));
    let inner = Geometry::square(3, 1, 0).map(2, 2, 1, 5);
    let skip = AffineMap::crop(2, &[1, 1], &[1, 1]).unwrap();
    let merged = inner.plus(&skip, None).unwrap();
    assert_eq!(merged.kernel_size(), [3, 3]);
    let sum = inner.apply(&input).unwrap() + skip.apply(&input).unwrap();
    assert!(is_close(&merged.apply(&input).unwrap(), &sum));
}
