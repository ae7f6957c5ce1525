//! Tests parallel branches against the sum of their outputs.

use super::*;

fn equals_sum(merged: &AffineMap, own: &AffineMap, other: &AffineMap, input: &ArrayD<f64>) -> bool {
    let expected = own.apply(input).unwrap() + other.apply(input).unwrap();
    is_close(&merged.apply(input).unwrap(), &expected)
}

/// Makes both sizes give the same output size everywhere, through the choice of stride and end padding.
fn aligned(own: &mut Geometry, other: &mut Geometry, extra: usize) {
    other.stride.clone_from(&own.stride);
    for axis in 0..own.stride.len() {
        let reach = |sizes: &Geometry| sizes.dilation[axis] * (sizes.kernel[axis] - 1);
        let slack = (own.begin[axis] + reach(other)).max(other.begin[axis] + reach(own)) + extra;
        own.end[axis] = slack - reach(other) - own.begin[axis];
        other.end[axis] = slack - reach(own) - other.begin[axis];
    }
}

proptest! {
    #![proptest_config(fixed_seed(192))]

    #[test]
    fn adds_and_subtracts_any_branches_of_one_size(
        (mut own, mut other) in (0..=3_usize).prop_flat_map(|rank| (geometry(rank), geometry(rank))),
        (inputs, outputs, groups, other_groups) in
            select(vec![(3, 4, 1, 1), (4, 4, 4, 4), (4, 4, 4, 1), (4, 8, 2, 4), (6, 6, 2, 3), (2, 6, 2, 2)]),
        seed in any::<u64>(),
        extra in 0..2_usize,
    ) {
        aligned(&mut own, &mut other, extra);
        let own = own.map(inputs, outputs, groups, seed);
        let other = other.map(inputs, outputs, other_groups, seed >> 1);
        let size: Vec<usize> =
            input_size(&own, &AffineMap::identity(outputs, own.spatial_rank()), 2);
        let input = image_for(&own, &size, seed ^ 7);
        let sum = own.plus(&other, None).unwrap();
        prop_assert!(equals_sum(&sum, &own, &other, &input));
        let difference = own.plus(&other.negated(), None).unwrap();
        prop_assert!(equals_sum(&difference, &own, &other.negated(), &input));
    }

    #[test]
    fn adds_branches_that_carry_border_maps(
        (mut own, mut other) in (1..=2_usize).prop_flat_map(|rank| (geometry(rank), geometry(rank))),
        seed in any::<u64>(),
    ) {
        aligned(&mut own, &mut other, 0);
        let (own, other) = (own.map(4, 4, 2, seed), other.map(4, 4, 4, seed >> 1));
        let size = input_size(&own, &AffineMap::identity(4, own.spatial_rank()), 3);
        let shifted = own.shift_input(&numbers(4, seed ^ 3), Some(&size)).unwrap();
        let input = image_for(&own, &size, seed ^ 7);
        prop_assert!(equals_sum(&shifted.plus(&other, Some(&size)).unwrap(), &shifted, &other, &input));
        prop_assert!(equals_sum(&other.plus(&shifted, None).unwrap(), &shifted, &other, &input));
        prop_assert!(equals_sum(&shifted.plus(&shifted, None).unwrap(), &shifted, &shifted, &input));
    }
}

#[test]
fn grows_the_kernel_for_an_identity_between_the_taps() {
    let sizes = Geometry {
        kernel: vec![2],
        stride: vec![1],
        dilation: vec![2],
        begin: vec![1],
        end: vec![1],
    };
    let (map, identity) = (sizes.map(2, 2, 1, 3), AffineMap::identity(2, 1));
    let merged = map.plus(&identity, None).unwrap();
    assert_eq!((merged.kernel_size(), &merged.dilation[..]), (&[3][..], &[1][..]));
    assert!(equals_sum(&merged, &map, &identity, &image(&[2, 7], 2)));
}

#[test]
fn keeps_depthwise_branches_depthwise() {
    let large = Geometry::square(7, 1, 3).map(8, 8, 8, 1);
    let small = Geometry::square(3, 1, 1).map(8, 8, 8, 3);
    let merged = large.plus(&small, None).unwrap();
    let merged = merged.plus(&AffineMap::identity(8, 2), None).unwrap();
    assert_eq!((merged.weight.shape(), merged.groups), (&[8, 1, 7, 7][..], 8));
}

#[test]
fn adds_a_strided_projection_and_a_pool_into_a_larger_kernel() {
    let main = Geometry::square(5, 2, 2).map(3, 4, 1, 1);
    let projection = Geometry::square(1, 2, 0).map(3, 4, 1, 3);
    let pool = AffineMap::average_pool(3, &[3, 3], &[2, 2], &[1, 1], &[1, 1]).unwrap();
    let pooled = pool.then(&Geometry::square(1, 1, 0).map(3, 4, 1, 5), None).unwrap();
    let input = image(&[3, 11, 12], 2);
    let merged = main.plus(&projection, None).unwrap();
    assert!(equals_sum(&merged, &main, &projection, &input));
    assert!(equals_sum(&merged.plus(&pooled, None).unwrap(), &merged, &pooled, &input));
    let shortcut = AffineMap::selection(3, &[None, Some(0), Some(1), Some(2)], &[2, 2]).unwrap();
    assert!(equals_sum(&main.plus(&shortcut, None).unwrap(), &main, &shortcut, &input));
}

#[test]
fn adds_asymmetric_kernels_of_one_size() {
    let tall = Geometry {
        kernel: vec![3, 1],
        begin: vec![1, 0],
        end: vec![1, 0],
        ..Geometry::square(1, 1, 0)
    };
    let wide = Geometry {
        kernel: vec![1, 3],
        begin: vec![0, 1],
        end: vec![0, 1],
        ..Geometry::square(1, 1, 0)
    };
    let (tall, wide) = (tall.map(3, 3, 1, 1), wide.map(3, 3, 1, 3));
    let merged = tall.plus(&wide, None).unwrap();
    assert_eq!(merged.kernel_size(), [3, 3]);
    assert!(equals_sum(&merged, &tall, &wide, &image(&[3, 5, 6], 4)));
}

#[test]
fn adds_branches_of_different_dilation_on_their_common_grid() {
    let dilated = |dilation: usize| Geometry {
        dilation: vec![dilation; 2],
        ..Geometry::square(3, 1, dilation)
    };
    let (two, four) = (dilated(2).map(2, 2, 1, 1), dilated(4).map(2, 2, 1, 3));
    let merged = two.plus(&four, None).unwrap();
    assert_eq!((merged.kernel_size(), &merged.dilation[..]), (&[5, 5][..], &[2, 2][..]));
    assert!(equals_sum(&merged, &two, &four, &image(&[2, 9, 9], 4)));
}

#[test]
fn adds_a_pooled_shortcut_only_at_sizes_where_it_agrees() {
    let main = Geometry::square(3, 2, 1).map(3, 4, 1, 1);
    let pool = AffineMap::average_pool(3, &[2, 2], &[2, 2], &[0, 0], &[0, 0]).unwrap();
    let shortcut = pool.then(&Geometry::square(1, 1, 0).map(3, 4, 1, 3), None).unwrap();
    for (own, other) in [(&main, &shortcut), (&shortcut, &main)] {
        let merged = own.plus(other, Some(&[8, 6])).unwrap();
        assert!(equals_sum(&merged, own, other, &image(&[3, 8, 6], 4)));
        assert_eq!(reason(own.plus(other, Some(&[8, 7]))), "output-size-mismatch");
        assert_eq!(reason(own.plus(other, None)), "output-size-mismatch");
    }
}

#[test]
fn refuses_branches_that_are_not_parallel() {
    let map = Geometry::square(3, 1, 1).map(2, 4, 1, 1);
    assert_eq!(
        reason(map.plus(&Geometry::square(3, 2, 1).map(2, 4, 1, 1), None)),
        "stride-mismatch"
    );
    assert_eq!(
        reason(map.plus(&Geometry::square(3, 1, 1).map(4, 4, 1, 1), None)),
        "channels-mismatch"
    );
    assert_eq!(
        reason(map.plus(&Geometry::square(3, 1, 1).map(2, 2, 1, 1), None)),
        "channels-mismatch"
    );
    assert_eq!(reason(map.plus(&AffineMap::identity(2, 1), None)), "spatial-rank-mismatch");
    let shifted = map.shift_input(&[1.0, 2.0], Some(&[5, 5])).unwrap();
    let smaller = map.shift_input(&[1.0, 2.0], Some(&[4, 5])).unwrap();
    assert_eq!(reason(shifted.plus(&smaller, None)), "border-size-mismatch");
    assert_eq!(reason(shifted.plus(&map, Some(&[4, 5]))), "border-size-mismatch");
    assert_eq!(
        reason(shifted.then(&AffineMap::identity(4, 2), Some(&[4, 5]))),
        "border-size-mismatch"
    );
    assert_eq!(
        reason(AffineMap::identity(2, 2).then(&shifted, Some(&[4, 5]))),
        "border-size-mismatch"
    );
    assert_eq!(reason(shifted.apply(&image(&[2, 4, 5], 1))), "border-size-mismatch");
}
