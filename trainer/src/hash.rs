//! A hash whose values reach files: names of entries in work folders, keys of latency tables. It is the same in every version and
//! on every machine, which the standard hash is not.

use std::hash::Hasher;

use fnv::FnvHasher;

/// FNV-1a.
#[derive(Default)]
pub struct Fnv(FnvHasher);

impl Fnv {
    /// A hash that differs from the plain one in its start value.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self(FnvHasher::with_key(FnvHasher::default().finish() ^ seed))
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Adds a text and its length, so that no two rows of texts look alike.
    pub fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    /// The hash of everything that was added.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.finish()
    }

    /// The hash of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> u64 {
        let mut hash = Self::default();
        hash.bytes(bytes);
        hash.value()
    }
}

#[cfg(test)]
mod tests {
    use super::Fnv;

    #[test]
    fn the_hash_is_that_of_written_files() {
        // Reference values of FNV-1a, 64 bits.
        assert_eq!(Fnv::of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fnv::of(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
