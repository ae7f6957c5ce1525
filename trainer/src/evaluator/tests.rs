use super::*;
use updp_ir::DataType;

#[test]
fn overlap_is_one_for_the_same_classes_and_falls_with_the_difference() {
    let same = overlap(&[1.0, 2.0, 3.0], &[2.0, 3.0, 4.0]);
    assert!((same - 1.0).abs() < 1e-9);
    let near = overlap(&[1.0, 2.0, 3.0], &[1.0, 2.1, 2.9]);
    let far = overlap(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]);
    assert!(1.0 > near && near > far && far > 0.0);
    assert!((overlap(&[0.5, 0.5], &[0.25, 0.75]) - 0.75).abs() < 1e-6);
    assert_eq!(overlap(&[0.0, 1.0, 3.0], &[f32::NAN, 1.0, 1.0]), 0.0);
}

#[test]
fn a_label_is_among_the_first_five_by_score_then_by_index() {
    let row = [0.0, 5.0, 4.0, 3.0, 2.0, 1.0, 2.0, f32::NAN];
    let among: Vec<usize> = (0..9).filter(|label| is_among_five(&row, *label)).collect();
    assert_eq!(among, [1, 2, 3, 4, 6]);
    assert!(is_among_five(&[1.0; 6], 4) && !is_among_five(&[1.0; 6], 5));
}

#[test]
fn the_first_five_are_told_of_labels_and_more_than_ten_classes_only() {
    let answer = |width: usize| Answer {
        values: (0..2 * width).map(|at| (at % width) as f32).collect(),
        width,
        dtype: DataType::Float,
        dims: vec![2, width],
        is_classes: true,
    };
    let score = |width: usize, has_labels: bool| {
        let mut sums = Sums::default();
        let labels = [width - 3, 0];
        sums.add(&answer(width), &answer(width), has_labels.then_some(&labels[..]));
        sums.score(has_labels)
    };
    let many = score(11, true);
    assert_eq!((many.accuracy, many.top5), (Some(0.0), Some(0.5)));
    assert_eq!((score(10, true).top5, score(11, false).top5), (None, None));
}

#[test]
fn scores_kept_by_earlier_versions_are_read() {
    let kept = r#"{"images":3,"accuracy":0.5,"agreement":1.0,"overlap":0.25}"#;
    let score: Score = serde_json::from_str(kept).unwrap();
    assert_eq!((score.images, score.accuracy, score.top5), (3, Some(0.5), None));
}
