//! Files that a careless or hostile hand may have made.

use std::fs;
use std::path::{Path, PathBuf};

/// A `.npy` file of version 1. The header says `dims`, whatever `elements` holds.
pub fn npy(kind: &str, dims: &[usize], elements: &[u8]) -> Vec<u8> {
    let dims: Vec<String> = dims.iter().map(|dim| format!("{dim},")).collect();
    let text =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", dims.join(" "));
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{text:<width$}\n", width = length - 1).bytes());
    bytes.extend(elements);
    bytes
}

pub fn floats(dims: &[usize], values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    let elements: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    npy("<f4", dims, &elements)
}

pub fn integers(values: &[i64]) -> Vec<u8> {
    let elements: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    npy("<i8", &[values.len()], &elements)
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

/// A `.npz` file: a zip archive whose members are stored.
pub fn npz(path: &Path, members: &[(&str, Vec<u8>)]) -> PathBuf {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let name = format!("{name}.npy");
        let start = (out.len() as u32).to_le_bytes();
        let mut facts = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        facts.extend(crc(bytes).to_le_bytes());
        facts.extend((bytes.len() as u32).to_le_bytes());
        facts.extend((bytes.len() as u32).to_le_bytes());
        facts.extend((name.len() as u16).to_le_bytes());
        facts.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&facts);
        out.extend(name.bytes());
        out.extend(bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&facts);
        directory.extend([0; 10]);
        directory.extend(start);
        directory.extend(name.bytes());
    }
    let start = out.len() as u32;
    let count = (members.len() as u16).to_le_bytes();
    out.extend(&directory);
    out.extend(b"PK\x05\x06\x00\x00\x00\x00");
    out.extend([count, count].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    fs::write(path, out).expect("written");
    path.to_owned()
}

/// The header of a `.tar` member.
pub fn tar_header(name: &str, size: u64, kind: u8) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar  \0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A bitmap of 28×28 grey pixels.
pub fn bitmap(seed: u8) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    let (head, pixels) = (54_u32, 28 * 28 * 3_u32);
    bytes.extend((head + pixels).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(head.to_le_bytes());
    bytes.extend(40_u32.to_le_bytes());
    bytes.extend([28_u32.to_le_bytes(), 28_u32.to_le_bytes()].concat());
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    bytes.extend((0..28 * 28_u32).flat_map(|at| [(at as u8).wrapping_mul(seed); 3]));
    bytes
}
