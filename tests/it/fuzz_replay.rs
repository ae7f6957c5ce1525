//! Bytes that once broke a promise of the fuzz targets, and a few that must never.
//!
//! The files in `fixtures/fuzz` are named after the target that found them: `compile-….onnx`.

use std::path::Path;

#[path = "../../fuzz/harness.rs"]
mod harness;

#[test]
fn what_fuzzing_found_stays_fixed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is part of the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no file in {}", folder.display());
    for path in files {
        eprintln!("{}", path.display());
        let bytes = std::fs::read(&path).expect("readable");
        harness::decode(&bytes);
        harness::validate(&bytes);
        harness::compile(&bytes);
        harness::prune(&bytes);
        harness::thin(&bytes);
    }
}

/// Every promise also holds where bytes of a real model are changed one by one.
#[test]
fn a_damaged_model_is_refused_or_taken_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz/seed-conv-bn.onnx");
    let model = std::fs::read(path).expect("part of the repository");
    for at in 0..model.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = model.clone();
            bytes[at] ^= change;
            harness::decode(&bytes);
            harness::validate(&bytes);
            harness::compile(&bytes);
        }
        harness::compile(&model[..at]);
    }
}

/// The same of pruning, where the bytes of a block are changed.
#[test]
fn a_damaged_block_is_refused_or_pruned_whole() {
    for name in ["seed-block.onnx", "seed-mlp.onnx"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz").join(name);
        let model = std::fs::read(path).expect("part of the repository");
        for at in 0..model.len() {
            for change in [0x01, 0x80] {
                let mut bytes = model.clone();
                bytes[at] ^= change;
                harness::prune(&bytes);
                harness::thin(&bytes);
            }
        }
    }
}
