//! Trainings of small models, in ONNX Runtime, on small data.

mod loading;
#[cfg(target_os = "linux")]
mod memory;
mod training;

use std::path::Path;

use tempfile::TempDir;

use crate::data::{Dataset, InputSpec, Preprocess};

/// 3×4 grey images in an IDX file with labels; pixel `p` of image `i` is `(i·31 + p·7) mod 256`, its class `i mod classes`.
fn small(images: usize, classes: usize) -> (TempDir, Dataset) {
    let folder = TempDir::new().unwrap();
    let header = |dims: &[u32]| {
        let dims_bytes = dims.iter().flat_map(|dim| dim.to_be_bytes());
        [0, 0, 8, dims.len() as u8].into_iter().chain(dims_bytes).collect::<Vec<u8>>()
    };
    let pixels = (0..images).flat_map(|i| (0..12).map(move |p| (i * 31 + p * 7) as u8));
    let write = |name: &str, dims: &[u32], elements: Vec<u8>| {
        std::fs::write(folder.path().join(name), [header(dims), elements].concat()).unwrap();
    };
    write("train-images-idx3-ubyte", &[images as u32, 3, 4], pixels.collect());
    let labels = (0..images).map(|i| (i % classes) as u8).collect();
    write("train-labels-idx1-ubyte", &[images as u32], labels);
    let dataset = open(folder.path());
    (folder, dataset)
}

fn open(path: &Path) -> Dataset {
    Dataset::open(path).unwrap()
}

/// Pixels over 255, as they are.
fn plain() -> Preprocess {
    Preprocess { rescale: 1.0 / 255.0, ..Preprocess::parse("none").unwrap() }
}

const INPUT: InputSpec = InputSpec { channels: 1, height: 3, width: 4, is_channel_last: false };
