//! SHA-256 of files, so that a report names its models beyond doubt.

use std::fmt::Write;
use std::io::{BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// SHA-256 of a file in hexadecimal, as `sha256sum` prints it; `None` if it cannot be read.
#[must_use]
pub fn of_file(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    let is_file = file.metadata().ok()?.is_file();
    is_file.then(|| of(BufReader::with_capacity(1 << 16, file)).ok())?
}

/// SHA-256 of all bytes of a source, in hexadecimal.
///
/// # Errors
/// Those of the source.
fn of(mut source: impl Read) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut bytes = vec![0; 1 << 16];
    loop {
        match source.read(&mut bytes)? {
            0 => break,
            count => hash.update(&bytes[..count]),
        }
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum() {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(&b"abc"[..]).expect("bytes are read"), hash);
        let million = vec![b'a'; 1_000_000];
        let hash = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(of(&million[..]).expect("bytes are read"), hash);
    }

    #[test]
    fn what_is_no_file_has_no_hash() {
        assert_eq!(of_file(Path::new("-")), None);
        assert_eq!(of_file(Path::new(env!("CARGO_MANIFEST_DIR"))), None);
    }
}
