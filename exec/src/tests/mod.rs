//! Tests that run models.
//!
//! Those of ONNX Runtime look for the library and are skipped by name where there is none.

mod library;
pub(crate) mod models;
mod ort;
mod step;
mod tract;

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use updp_ir::Tensor;

use crate::library::find_library;
use crate::{ExecError, Options};

/// The runtime's library, also where the build folder lies elsewhere; `None` prints the skip.
fn ort_library(test: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
    let beside = root.map(|root| root.join("target/ort/libonnxruntime.so"));
    match find_library(None) {
        Ok(path) => Some(path),
        Err(_) if beside.as_ref().is_some_and(|path| path.exists()) => beside,
        Err(error) => {
            eprintln!("skipped {test}: {error}");
            None
        }
    }
}

/// Options that take the library found for `test`.
pub(crate) fn ort_options(test: &str) -> Option<Options> {
    let library = Some(ort_library(test)?);
    Some(Options { library, ..Options::default() })
}

fn one_input(name: &str, tensor: Tensor) -> IndexMap<String, Tensor> {
    IndexMap::from([(name.to_owned(), tensor)])
}

/// The values of output `name`.
fn values(outputs: &IndexMap<String, Tensor>, name: &str) -> Vec<f64> {
    outputs[name].to_f64().expect("numbers")
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{found:?} instead of {expected:?}");
    }
}

pub(crate) fn code<T>(result: Result<T, ExecError>) -> &'static str {
    result.err().map_or("no error", |error| error.code())
}

#[test]
fn codes_are_unique_and_all_listed() {
    let mut codes = ExecError::CODES.to_vec();
    codes.dedup();
    assert_eq!(codes.len(), ExecError::CODES.len());
    assert!(codes.is_sorted() && codes.iter().all(|code| code.starts_with('X')));
}
