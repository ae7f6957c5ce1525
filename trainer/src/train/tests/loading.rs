//! Batches.

use std::num::NonZeroUsize;

use super::{INPUT, open, plain, small};
use crate::data::Dataset;
use crate::train::{Augment, Loaded, Loader, LoaderSettings};

fn loader(dataset: &Dataset, settings: LoaderSettings) -> Loader {
    Loader::new(dataset, &plain(), &INPUT, settings).unwrap()
}

fn some(loader: &Loader, from: u64, count: usize) -> Vec<Loaded> {
    loader.stream(from).unwrap().take(count).collect::<Result<_, _>>().unwrap()
}

fn rich() -> LoaderSettings {
    let augment = Augment {
        flip: true,
        crop_padding: 1,
        least_area: Some(0.5),
        operations: 2,
        magnitude: 7.0,
        erase: 0.3,
        mixup: 0.3,
        cutmix: 1.0,
    };
    LoaderSettings { augment, smoothing: 0.1, ..LoaderSettings::new(5, 4, 11) }
}

#[test]
fn every_epoch_is_another_permutation_cut_into_whole_batches() {
    let (_folder, dataset) = small(23, 4);
    let loader = loader(&dataset, LoaderSettings::new(5, 4, 3));
    assert_eq!(loader.steps_per_epoch(), 4);
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let order = loader.order(epoch);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..23).collect::<Vec<_>>());
        let batches = some(&loader, epoch * 4, 4);
        let positions: Vec<_> = batches.iter().flat_map(|batch| batch.positions.clone()).collect();
        assert_eq!(positions, order[..20]);
        assert!(!orders.contains(&order));
        orders.push(order);
    }
}

#[test]
fn an_image_comes_with_its_pixels_and_its_label() {
    let (_folder, dataset) = small(12, 4);
    let loader = loader(&dataset, LoaderSettings::new(3, 4, 1));
    for batch in some(&loader, 0, 8) {
        assert_eq!((batch.images.dims(), batch.targets.dims()), (&[3, 1, 3, 4][..], &[3, 4][..]));
        let images = batch.images.to_f64().unwrap();
        let targets = batch.targets.to_f64().unwrap();
        for (row, position) in batch.positions.iter().enumerate() {
            for pixel in 0..12 {
                let expected = f64::from((position * 31 + pixel * 7) as u8) / 255.0;
                assert!((images[row * 12 + pixel] - expected).abs() < 1e-7);
            }
            let expected: Vec<f64> = (0..4).map(|c| f64::from(c == position % 4)).collect();
            assert_eq!(targets[row * 4..][..4], expected);
        }
    }
}

#[test]
fn batches_do_not_depend_on_threads_memory_or_where_the_stream_starts() {
    let (_folder, dataset) = small(23, 4);
    let with = |threads, memory_bytes| {
        let threads = NonZeroUsize::new(threads);
        loader(&dataset, LoaderSettings { threads, memory_bytes, ..rich() })
    };
    let expected = some(&with(1, 0), 0, 12);
    for (loader, from) in [(with(3, 1 << 20), 0), (with(2, 0), 7), (with(1, 1 << 20), 4)] {
        let found = some(&loader, from as u64, 12 - from);
        for (found, expected) in found.iter().zip(&expected[from..]) {
            assert_eq!(found.positions, expected.positions);
            assert_eq!(found.images.bytes(), expected.images.bytes());
            assert_eq!(found.targets.bytes(), expected.targets.bytes());
        }
    }
    let other = some(&loader(&dataset, LoaderSettings { seed: 12, ..rich() }), 0, 1);
    assert_ne!(other[0].images.bytes(), expected[0].images.bytes());
}

#[test]
fn mixed_and_smoothed_labels_still_sum_to_one() {
    let (_folder, dataset) = small(23, 4);
    let mut mixed = 0;
    for batch in some(&loader(&dataset, rich()), 0, 20) {
        for row in batch.targets.to_f64().unwrap().chunks(4) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{row:?}");
            assert!(row.iter().all(|share| *share >= 0.0249));
            mixed += usize::from(row.iter().filter(|share| **share > 0.026).count() == 2);
        }
    }
    assert!(mixed > 20, "{mixed}");
}

#[test]
fn images_without_labels_have_targets_of_zeros() {
    let folder = tempfile::TempDir::new().unwrap();
    let header = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4];
    let path = folder.path().join("train-images-idx3-ubyte");
    std::fs::write(path, [&header[..], &[9; 24]].concat()).unwrap();
    let loader = loader(&open(folder.path()), LoaderSettings::new(2, 4, 1));
    assert_eq!(some(&loader, 0, 1)[0].targets.to_f64().unwrap(), [0.0; 8]);
}

#[test]
fn an_image_that_cannot_be_read_counts_for_nothing_and_many_end_the_training() {
    let folder = tempfile::TempDir::new().unwrap();
    let png = |name: &str, colour: u8| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(4, 3, image::Luma([colour])).save(path).unwrap();
    };
    (0..12).for_each(|at| png(&format!("a/{at}.png"), 51));
    png("b/0.png", 102);
    std::fs::write(folder.path().join("a/7.png"), "no image").unwrap();
    let data = open(folder.path());
    let with = LoaderSettings::new(13, 2, 1);
    let broken = (0..13).find(|at| data.name(*at).unwrap() == "a/7.png").unwrap();
    let one = loader(&data, with.clone());
    let batch = &some(&one, 0, 1)[0];
    let row = batch.positions.iter().position(|at| *at == broken).unwrap();
    let (images, targets) = (batch.images.to_f64().unwrap(), batch.targets.to_f64().unwrap());
    assert!(images[row * 12..][..12].iter().chain(&targets[row * 2..][..2]).all(|v| *v == 0.0));
    assert_eq!(targets.iter().sum::<f64>(), 12.0);
    assert_eq!(one.skipped().len(), 1);
    assert_eq!(one.skipped()[0].name, "a/7.png");
    (0..12).for_each(|at| std::fs::write(folder.path().join(format!("a/{at}.png")), "").unwrap());
    let error = loader(&data, with).stream(0).unwrap().next().unwrap().unwrap_err();
    assert_eq!(error.code(), "T0111");
}

#[test]
fn settings_and_data_that_do_not_fit_are_refused() {
    let (_folder, dataset) = small(8, 4);
    let code = |settings| {
        Loader::new(&dataset, &plain(), &INPUT, settings).err().map_or("none", |e| e.code())
    };
    let settings = LoaderSettings::new(8, 4, 1);
    assert_eq!(code(settings.clone()), "none");
    assert_eq!(code(LoaderSettings { batch: 9, ..settings.clone() }), "T0406");
    assert_eq!(code(LoaderSettings { batch: 0, ..settings.clone() }), "T0401");
    assert_eq!(code(LoaderSettings { classes: 3, ..settings.clone() }), "T0407");
    assert_eq!(code(LoaderSettings { smoothing: 1.0, ..settings.clone() }), "T0401");
    let augment = Augment { mixup: 3.0, ..Augment::default() };
    assert_eq!(code(LoaderSettings { augment, ..settings }), "T0401");
}
