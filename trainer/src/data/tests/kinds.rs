//! Every kind of data is found, in order, with its labels.

use super::*;

#[test]
fn numbers_class_folders_by_their_sorted_names_and_walks_them() {
    let folder = Folder::new()
        .with("dog/b.png", png(4, 4, &[2, 2, 2]))
        .with("dog/a.PNG", png(4, 4, &[1, 1, 1]))
        .with("cat/deep/er/c.png", png(4, 4, &[0, 0, 0]))
        .with("cat/notes.txt", "no image")
        .with(".hidden/d.png", "no image")
        .with("overview.png", "not in a class");
    std::fs::create_dir(folder.path("bird")).unwrap();
    let data = folder.open().unwrap();
    assert_eq!(data.classes(), ["bird", "cat", "dog"]);
    assert_eq!(names(&data), ["cat/deep/er/c.png", "dog/a.PNG", "dog/b.png"]);
    assert_eq!(data.labels().unwrap(), [1, 2, 2]);
    let batches = all(&data, &RGB_4X4, 2);
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].labels.as_deref(), Some(&[1, 2][..]));
    assert_eq!(batches[1].images.dims(), [1, 3, 4, 4]);
    assert_eq!(values(&batches[1]), vec![2.0; 48]);
}

#[test]
fn takes_a_folder_of_images_without_labels() {
    let folder = Folder::new()
        .with("b.jpg", image(ImageFormat::Jpeg, 4, 4, &[9, 9, 9]))
        .with("a.webp", image(ImageFormat::WebP, 4, 4, &[8, 8, 8]))
        .with("c.bmp", image(ImageFormat::Bmp, 4, 4, &[7, 7, 7]))
        .with("readme.txt", "no image");
    let data = folder.open().unwrap();
    assert!(!data.has_labels() && data.classes().is_empty() && data.labels().is_none());
    assert_eq!(names(&data), ["a.webp", "b.jpg", "c.bmp"]);
    let batch = &all(&data, &RGB_4X4, 8)[0];
    assert_eq!(values(batch), [vec![8.0; 48], vec![9.0; 48], vec![7.0; 48]].concat());
    assert!(batch.labels.is_none());
}

#[test]
fn goes_through_a_folder_that_only_wraps_another() {
    let folder = Folder::new().with("data/train/x/a.png", "").with("data/train/y/b.png", "");
    assert_eq!(folder.open().unwrap().classes(), ["x", "y"]);
    let flat = Folder::new().with("pictures/a.png", "").with("annotations/a.xml", "");
    assert_eq!(names(&flat.open().unwrap()), ["a.png"]);
    assert!(!flat.open().unwrap().has_labels());
}

#[test]
fn refuses_a_folder_of_parts_and_names_them() {
    let folder = Folder::new().with("train/x/a.png", "").with("val/x/b.png", "");
    let error = folder.open().unwrap_err();
    assert_eq!(error.code(), "T0104");
    assert!(error.to_string().contains("train, val"), "{error}");
    let help = error.help().unwrap();
    assert!(help.contains(folder.path("val").to_str().unwrap()), "{help}");
}

#[test]
fn reads_web_dataset_shards_with_their_labels() {
    let grey = |value: u8| png(4, 4, &[value; 3]);
    let first = [
        ("s/0001.jpg", &image(ImageFormat::Jpeg, 4, 4, &[5, 5, 5])[..]),
        ("s/0001.cls", b" 3\n"),
        ("s/0001.seg.png", b"another image of the sample"),
        ("s/0000.cls", b"0"),
        ("s/0000.png", &grey(6)),
        ("s/0000.json", b"{}"),
    ];
    let folder = Folder::new()
        .with("b.tar", tar(&first))
        .with("a.tar", tar(&[("0000.png", &grey(7)), ("0000.cls", b"1")]));
    let data = folder.open().unwrap();
    assert_eq!(names(&data), ["a.tar:0000.png", "b.tar:s/0001.jpg", "b.tar:s/0000.png"]);
    assert_eq!(data.labels().unwrap(), [1, 3, 0]);
    assert_eq!(data.classes(), ["0", "1", "2", "3"]);
    let batch = &all(&data, &RGB_4X4, 3)[0];
    assert_eq!(values(batch), [vec![7.0; 48], vec![5.0; 48], vec![6.0; 48]].concat());
}

#[test]
fn takes_no_labels_from_the_folders_inside_a_tar() {
    let bytes = tar(&[("cat/x.y.png", &png(4, 4, &[1; 3])), ("dog/z.png", &png(4, 4, &[2; 3]))]);
    let folder = Folder::new().with("a.tar", bytes);
    let data = Dataset::open(&folder.path("a.tar")).unwrap();
    assert!(!data.has_labels());
    assert_eq!(names(&data), ["cat/x.y.png", "dog/z.png"]);
}

#[test]
fn reads_long_names_in_a_tar() {
    let name = format!("{}/a.png", "long".repeat(60));
    let bytes = tar(&[(&name, &png(4, 4, &[1; 3]))]);
    let folder = Folder::new().with("a.tar", bytes);
    let data = Dataset::open(&folder.path("a.tar")).unwrap();
    assert_eq!(names(&data), [name]);
    assert_eq!(values(&all(&data, &RGB_4X4, 1)[0]), vec![1.0; 48]);
}

#[test]
fn reads_idx_files_packed_or_not() {
    let folder = Folder::new()
        .with("train-images-idx3-ubyte", idx(&[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]))
        .with("train-labels-idx1-ubyte.gz", gz(&idx(&[2], &[2, 0])))
        .with("t10k-images-idx3-ubyte.gz", gz(&idx(&[1, 2, 2], &[9, 8, 7, 6])));
    let data = folder.open().unwrap();
    assert_eq!(data.labels().unwrap(), [2, 0]);
    assert_eq!(data.classes(), ["0", "1", "2"]);
    assert_eq!(data.name(1).unwrap(), "train-images-idx3-ubyte[1]");
    assert_eq!(values(&all(&data, &GREY_2X2, 2)[0]), (0..8).map(f64::from).collect::<Vec<_>>());
    for path in ["t10k", "t10k-images-idx3-ubyte.gz"] {
        let test = Dataset::open(&folder.path(path)).unwrap();
        assert!(!test.has_labels());
        assert_eq!(values(&all(&test, &GREY_2X2, 2)[0]), [9.0, 8.0, 7.0, 6.0]);
    }
    let rgb = InputSpec { channels: 3, ..GREY_2X2 };
    let first = [0.0, 1.0, 2.0, 3.0];
    assert_eq!(values(&all(&data, &rgb, 1)[0]), [first, first, first].concat());
}

#[test]
fn reads_pixels_of_arrays_in_every_layout() {
    let folder = Folder::new();
    let labels = ("y", npy("<i8", &[2], &i64_bytes(&[1, 0])));
    let bytes: Vec<u8> = (0..24).collect();
    let planes: Vec<f64> = (0..24).map(f64::from).collect();
    // [N, H, W, C] as [N, C, H, W]
    let mixed: Vec<f64> =
        (0..24).map(|at| f64::from(at / 12 * 12 + at % 4 * 3 + at % 12 / 4)).collect();
    let rgb = InputSpec { channels: 3, ..GREY_2X2 };
    for (dims, expected) in [([2, 3, 2, 2], &planes), ([2, 2, 2, 3], &mixed)] {
        let archive = npz(&[labels.clone(), ("pictures", npy("|u1", &dims, &bytes))]);
        std::fs::write(folder.path("a.npz"), archive).unwrap();
        let data = Dataset::open(&folder.path("a.npz")).unwrap();
        assert_eq!(data.labels().unwrap(), [1, 0]);
        assert_eq!(&values(&all(&data, &rgb, 2)[0]), expected);
    }
    let last = InputSpec { is_channel_last: true, ..rgb };
    let data = Dataset::open(&folder.path("a.npz")).unwrap();
    assert_eq!(values(&all(&data, &last, 2)[0]), planes);
    assert_eq!(all(&data, &last, 2)[0].images.dims(), [2, 2, 2, 3]);

    std::fs::write(folder.path("a.npy"), npy("|u1", &[6, 2, 2], &bytes)).unwrap();
    let grey = Dataset::open(&folder.path("a.npy")).unwrap();
    assert_eq!(values(&all(&grey, &GREY_2X2, 6)[0]), planes);

    let with_alpha = npy("|u1", &[1, 2, 2, 4], &[1, 2, 3, 0].repeat(4));
    std::fs::write(folder.path("b.npy"), with_alpha).unwrap();
    let data = Dataset::open(&folder.path("b.npy")).unwrap();
    assert_eq!(values(&all(&data, &last, 1)[0]), [1.0, 2.0, 3.0].repeat(4));
}

#[test]
fn passes_floats_of_the_inputs_shape_through() {
    let folder = Folder::new();
    let floats: Vec<f32> = (0..8).map(|value| value as f32 / 3.0 - 1.0).collect();
    let expected: Vec<f64> = floats.iter().map(|value| f64::from(*value)).collect();
    let doubles: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
    let single = npy("<f4", &[2, 1, 2, 2], &f32_bytes(&floats));
    std::fs::write(folder.path("a.npy"), &single).unwrap();
    std::fs::write(folder.path("b.npy"), npy("<f8", &[2, 1, 2, 2], &doubles)).unwrap();
    let labels = npy("|u1", &[2, 1], &[4, 5]);
    let archive = npz(&[("x", single), ("extra", labels.clone()), ("label", labels)]);
    std::fs::write(folder.path("c.npz"), archive).unwrap();
    for file in ["a.npy", "b.npy", "c.npz"] {
        let data = Dataset::open(&folder.path(file)).unwrap();
        let preprocess = Preprocess::parse("fashion-mnist").unwrap();
        let batches = data.batches(&preprocess, &GREY_2X2, 1).unwrap();
        let found: Vec<f64> = batches.flat_map(|batch| values(&batch.unwrap())).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn reads_every_array_of_a_file_by_name() {
    let arrays =
        [("b", npy("<i4", &[1], &[7, 0, 0, 0])), ("a", npy("<f4", &[], &f32_bytes(&[2.5])))];
    let folder = Folder::new().with("x.npz", npz(&arrays));
    let found = crate::data::npz::read_npz(&folder.path("x.npz")).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(found["b"].to_i64().unwrap(), [7]);
    assert_eq!(found["a"].scalar_f64(), Some(2.5));
}
