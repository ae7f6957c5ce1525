//! Remembers that tract ran a model because ONNX Runtime could not. A caller tells the user once.

use std::sync::{Mutex, PoisonError};

use crate::error::ExecError;

/// What this process knows of fallbacks.
#[derive(Debug)]
enum Known {
    Nothing,
    ToTell(ExecError),
    Told,
}

static KNOWN: Mutex<Known> = Mutex::new(Known::Nothing);

/// Records why ONNX Runtime did not run a model; only the first reason of a process is kept.
pub fn note_fallback(reason: &ExecError) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*known, Known::Nothing) {
        *known = Known::ToTell(reason.clone());
    }
}

/// The first fallback of this process, in one line with a cure. It is returned once.
#[must_use]
pub fn take_fallback() -> Option<String> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if !matches!(*known, Known::ToTell(_)) {
        return None;
    }
    match std::mem::replace(&mut *known, Known::Told) {
        Known::ToTell(reason) => Some(sentence(&reason)),
        _ => None,
    }
}

fn sentence(reason: &ExecError) -> String {
    // The places that were searched fill lines; doctor lists them.
    let detail = match reason {
        ExecError::LibraryNotFound { .. } => "ONNX Runtime was not found".to_owned(),
        other => other.to_string(),
    };
    let cure = if reason.is_runtime_missing() {
        "updp-compile doctor says what to install"
    } else {
        "updp-compile doctor shows the runtimes"
    };
    format!(
        "the built-in tract runs models, with one thread and more slowly: {detail} ({}); {cure}",
        reason.code()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_reason_and_the_cure() {
        let line = sentence(&ExecError::LibraryNotFound { searched: vec!["/usr/lib".into()] });
        assert!(
            line.contains("not found (X0001)") && line.contains("updp-compile doctor"),
            "{line}"
        );
        assert!(!line.contains("/usr/lib"), "{line}");
        let (runtime, op) = ("ONNX Runtime 1.27.0".to_owned(), "Foo".to_owned());
        let detail = "not registered".to_owned();
        let line = sentence(&ExecError::OperatorUnsupported { runtime, op, detail });
        assert!(line.contains("ONNX Runtime 1.27.0 has no operator Foo"), "{line}");
    }
}
