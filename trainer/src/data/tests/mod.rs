//! Tests of the data: small files of every kind, written into temporary folders.

mod broken;
mod draws;
mod kinds;
mod pixels;
mod settings;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageFormat};
use tempfile::TempDir;

use super::{Batch, DataError, Dataset, InputSpec, Interpolation, Preprocess, Resize};

/// A temporary folder that files are written into by their path below it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn open(&self) -> Result<Dataset, DataError> {
        Dataset::open(self.0.path())
    }
}

/// An image whose pixels all have one colour (1 value = grey, 3 = RGB, 4 = with alpha).
fn image(format: ImageFormat, height: usize, width: usize, colour: &[u8]) -> Vec<u8> {
    encode(format, height, width, &colour.repeat(height * width))
}

fn encode(format: ImageFormat, height: usize, width: usize, pixels: &[u8]) -> Vec<u8> {
    let kind = match pixels.len() / (height * width) {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => ExtendedColorType::Rgba8,
    };
    let mut bytes = Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut bytes, pixels, width as u32, height as u32, kind, format)
        .unwrap();
    bytes.into_inner()
}

fn png(height: usize, width: usize, colour: &[u8]) -> Vec<u8> {
    image(ImageFormat::Png, height, width, colour)
}

/// The pixel of the reference image: `(7x + 13y + 50c + 9·(xy mod 11)) mod 256`.
fn pattern(height: usize, width: usize) -> Vec<u8> {
    let pixel = |y: usize, x: usize, c: usize| (x * 7 + y * 13 + c * 50 + (x * y) % 11 * 9) as u8;
    (0..height * width * 3).map(|at| pixel(at / 3 / width, at / 3 % width, at % 3)).collect()
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn idx(dims: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    bytes.extend(elements);
    bytes
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

fn npy(kind: &str, dims: &[usize], elements: &[u8]) -> Vec<u8> {
    let dims: Vec<_> = dims.iter().map(|dim| format!("{dim},")).collect();
    let dims = dims.join(" ");
    let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({dims}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(elements);
    bytes
}

fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in arrays {
        writer.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn i64_bytes(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

const RGB_4X4: InputSpec = InputSpec { channels: 3, height: 4, width: 4, is_channel_last: false };
const GREY_2X2: InputSpec = InputSpec { channels: 1, height: 2, width: 2, is_channel_last: false };

/// Pixels of 0 to 255 as they are.
fn raw() -> Preprocess {
    Preprocess::parse("none").unwrap()
}

fn all(data: &Dataset, input: &InputSpec, batch: usize) -> Vec<Batch> {
    data.batches(&raw(), input, batch).unwrap().map(Result::unwrap).collect()
}

/// All values of a batch.
fn values(batch: &Batch) -> Vec<f64> {
    batch.images.to_f64().unwrap()
}

fn names(data: &Dataset) -> Vec<String> {
    (0..data.len()).map(|position| data.name(position).unwrap()).collect()
}

fn code(result: Result<Dataset, DataError>) -> &'static str {
    result.map(|data| names(&data)).unwrap_err().code()
}

fn parse(folder: &Path, json: &str) -> Result<Preprocess, DataError> {
    let path = folder.join("preprocess.json");
    std::fs::write(&path, json).unwrap();
    Preprocess::parse(path.to_str().unwrap())
}
