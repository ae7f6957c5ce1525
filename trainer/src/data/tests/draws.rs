//! Parts and samples are stratified and the same every time.

use super::*;

/// `sizes[c]` images of class c.
fn classes(sizes: &[usize]) -> Folder {
    let mut folder = Folder::new();
    for (class, size) in sizes.iter().enumerate() {
        for image in 0..*size {
            folder = folder.with(&format!("{class}/{image:03}.png"), png(1, 1, &[class as u8]));
        }
    }
    folder
}

fn counts(data: &Dataset) -> Vec<usize> {
    let mut counts = vec![0; data.classes().len()];
    data.labels().unwrap().into_iter().for_each(|label| counts[label] += 1);
    counts
}

#[test]
fn splits_every_class_by_the_share() {
    let folder = classes(&[20, 10, 5]);
    let data = folder.open().unwrap();
    let (rest, held_out) = data.split(0.2, 7);
    assert_eq!(counts(&held_out), [4, 2, 1]);
    assert_eq!(counts(&rest), [16, 8, 4]);
    let mut both = [names(&rest), names(&held_out)].concat();
    both.sort();
    assert_eq!(both, names(&data));
    assert!(names(&held_out).is_sorted() && names(&rest).is_sorted());
    assert_eq!(names(&folder.open().unwrap().split(0.2, 7).1), names(&held_out));
    assert_ne!(names(&data.split(0.2, 8).1), names(&held_out));
}

#[test]
fn leaves_neither_part_empty_unless_asked_to() {
    let data = classes(&[1, 1]).open().unwrap();
    for share in [0.01, 0.99] {
        let (rest, held_out) = data.split(share, 1);
        assert_eq!((rest.len(), held_out.len()), (1, 1));
    }
    assert!(data.split(0.0, 1).1.is_empty());
    assert!(data.split(1.0, 1).0.is_empty());
    assert_eq!(data.split(f64::NAN, 1).0.len(), 2);
}

#[test]
fn samples_classes_in_proportion_and_mixes_them() {
    let data = classes(&[40, 20, 20]).open().unwrap();
    let sample = data.sample(20, 3);
    assert_eq!(counts(&sample), [10, 5, 5]);
    assert!(!names(&sample).is_sorted());
    assert_eq!(names(&data.sample(20, 3)), names(&sample));
    assert_ne!(names(&data.sample(20, 4)), names(&sample));
    assert_eq!(data.sample(500, 3).len(), 80);
    assert_eq!(counts(&data.sample(1, 3)).iter().sum::<usize>(), 1);
    let unlabelled = Dataset::open(&classes(&[9]).path("0")).unwrap();
    assert_eq!(unlabelled.sample(4, 0).len(), 4);
}

#[test]
fn batches_of_a_sample_keep_labels_with_their_images() {
    let folder = classes(&[7, 5, 6]);
    let data = folder.open().unwrap().sample(11, 5);
    let mut labels = Vec::new();
    for batch in all(&data, &GREY_2X2, 4) {
        let found = batch.labels.clone().unwrap();
        for (image, label) in values(&batch).chunks(4).zip(&found) {
            assert_eq!(image, [*label as f64; 4]);
        }
        labels.extend(found);
    }
    assert_eq!(labels, data.labels().unwrap());
}

#[test]
fn fingerprint_changes_with_names_labels_sizes_and_order() {
    let folder = classes(&[2, 2]);
    let data = folder.open().unwrap();
    let first = data.fingerprint();
    assert_eq!(folder.open().unwrap().fingerprint(), first);
    assert_ne!(data.sample(4, 1).fingerprint(), first);
    assert_ne!(data.split(0.5, 1).0.fingerprint(), first);
    std::fs::write(folder.path("0/000.png"), png(3, 3, &[9])).unwrap();
    let changed = folder.open().unwrap().fingerprint();
    assert_ne!(changed, first);
    std::fs::rename(folder.path("1"), folder.path("2")).unwrap();
    assert_ne!(folder.open().unwrap().fingerprint(), changed);

    let array = |labels: &[i64]| {
        let images = npy("|u1", &[2, 1, 1], &[1, 2]);
        let labels = npy("<i8", &[2], &i64_bytes(labels));
        let folder = Folder::new().with("a.npz", npz(&[("x", images), ("y", labels)]));
        let file = std::fs::File::options().write(true).open(folder.path("a.npz")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        Dataset::open(&folder.path("a.npz")).unwrap().fingerprint()
    };
    assert_eq!(array(&[0, 1]), array(&[0, 1]));
    assert_ne!(array(&[0, 1]), array(&[1, 0]));
}
