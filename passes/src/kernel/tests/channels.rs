//! Constructors, sizes, per-channel factors and groups.

use super::*;

proptest! {
    #![proptest_config(fixed_seed(96))]

    #[test]
    fn scales_rows_and_columns_as_diagonals_do(
        sizes in (0..=2_usize).prop_flat_map(geometry),
        (inputs, outputs, groups) in select(vec![(3, 4, 1), (4, 4, 4), (4, 8, 4), (6, 4, 2)]),
        seed in any::<u64>(),
    ) {
        let rank = sizes.stride.len();
        let map = sizes.map(inputs, outputs, groups, seed);
        let size = input_size(&map, &AffineMap::identity(outputs, rank), 2);
        let map = map.shift_input(&numbers(inputs, seed ^ 3), Some(&size)).unwrap();
        let input = image_for(&map, &size, seed ^ 7);
        let (rows, columns) = (numbers(outputs, seed ^ 1), numbers(inputs, seed ^ 2));
        let after = AffineMap::diagonal(&rows, &vec![0.0; outputs], rank).unwrap();
        let before = AffineMap::diagonal(&columns, &vec![0.0; inputs], rank).unwrap();
        prop_assert!(equals_chain(&map.scale_rows(&rows).unwrap(), &map, &after, &input));
        prop_assert!(equals_chain(&map.scale_cols(&columns).unwrap(), &before, &map, &input));
    }

    #[test]
    fn keeps_the_function_with_fewer_groups(
        sizes in (0..=2_usize).prop_flat_map(geometry),
        (inputs, outputs, groups, fewer) in select(vec![(4, 4, 4, 2), (4, 8, 4, 1), (12, 6, 6, 3), (6, 4, 2, 2)]),
        seed in any::<u64>(),
    ) {
        let map = sizes.map(inputs, outputs, groups, seed);
        let size = input_size(&map, &AffineMap::identity(outputs, map.spatial_rank()), 1);
        let input = image_for(&map, &size, seed ^ 7);
        let expanded = map.to_groups(fewer).unwrap();
        prop_assert_eq!(expanded.weight.shape()[1], inputs / fewer);
        prop_assert_eq!(expanded.apply(&input).unwrap(), map.apply(&input).unwrap());
    }
}

#[test]
fn tells_sizes_and_cost() {
    let map = Geometry::square(3, 2, 1).map(4, 8, 2, 1);
    assert_eq!((map.in_channels(), map.out_channels(), map.spatial_rank()), (4, 8, 2));
    assert_eq!((map.kernel_size(), map.macs_per_output()), (&[3, 3][..], 8 * 2 * 9));
    assert!(!map.is_pointwise() && !map.is_depthwise() && !map.is_unpadded());
    assert_eq!(map.output_size(&[7, 8]), Some(vec![4, 4]));
    assert_eq!(map.output_size(&[7]), None);
    assert_eq!(Geometry::square(3, 1, 0).map(1, 1, 1, 0).output_size(&[2, 9]), None);
    assert_eq!(map.output_size(&[usize::MAX, 1]), None);
    let identity = AffineMap::identity(5, 3);
    assert!(identity.is_pointwise() && identity.is_depthwise() && identity.is_unpadded());
    let input = image(&[5, 2, 1, 3], 1);
    assert_eq!(identity.apply(&input).unwrap(), input);
}

#[test]
fn refuses_parts_that_make_no_map() {
    let new = |dims: &[usize], bias: usize, steps: [&[usize]; 4], groups: usize| {
        let [stride, dilation, begin, end] = steps.map(<[usize]>::to_vec);
        reason(AffineMap::new(
            ArrayD::zeros(IxDyn(dims)),
            vec![0.0; bias],
            stride,
            dilation,
            begin,
            end,
            groups,
        ))
    };
    assert_eq!(new(&[4, 2, 3], 3, [&[1], &[1], &[0], &[0]], 1), "channels-mismatch");
    assert_eq!(new(&[4, 2, 3], 4, [&[1], &[1], &[0, 0], &[0]], 1), "spatial-rank-mismatch");
    assert_eq!(new(&[4, 2], 4, [&[1], &[1], &[0], &[0]], 1), "spatial-rank-mismatch");
    assert_eq!(new(&[], 4, [&[], &[], &[], &[]], 1), "spatial-rank-mismatch");
    assert_eq!(new(&[4, 2, 3], 4, [&[0], &[1], &[0], &[0]], 1), "zero-step");
    assert_eq!(new(&[4, 2, 3], 4, [&[1], &[1 << 21], &[0], &[0]], 1), "out-of-range");
    assert_eq!(new(&[4, 2, 3], 4, [&[1], &[1], &[0], &[0]], 3), "groups-not-a-divisor");
    assert_eq!(new(&[4, 2, 3], 4, [&[1], &[1], &[0], &[0]], 0), "groups-not-a-divisor");
    assert_eq!(reason(AffineMap::diagonal(&[1.0], &[], 2)), "channels-mismatch");
    assert_eq!(reason(AffineMap::zero_pad(1, &[1], &[])), "spatial-rank-mismatch");
}

#[test]
fn refuses_factors_of_another_length_and_other_groups() {
    let map = Geometry::square(3, 1, 1).map(4, 8, 4, 1);
    assert_eq!(reason(map.scale_rows(&[1.0; 4])), "channels-mismatch");
    assert_eq!(reason(map.scale_cols(&[1.0; 8])), "channels-mismatch");
    assert_eq!(reason(map.to_groups(3)), "groups-not-a-divisor");
    assert_eq!(reason(map.to_groups(8)), "groups-not-a-divisor");
}
