//! SHA-256 of files [FIPS 180-4], so that a report names its models beyond doubt.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

/// The fractional parts of the cube roots of the first 64 primes.
#[rustfmt::skip]
const ROUNDS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// The fractional parts of the square roots of the first 8 primes.
#[rustfmt::skip]
const START: [u32; 8] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
];

/// SHA-256 of a file in hexadecimal, as `sha256sum` prints it; `None` if it cannot be read.
#[must_use]
pub fn of_file(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    let is_file = file.metadata().ok()?.is_file();
    is_file.then(|| of(std::io::BufReader::with_capacity(1 << 16, file)).ok())?
}

/// SHA-256 of all bytes of a source, in hexadecimal.
///
/// # Errors
/// Those of the source.
pub fn of(mut source: impl Read) -> std::io::Result<String> {
    let mut state = START;
    let mut length = 0_u64;
    let mut block = [0_u8; 64];
    loop {
        let filled = fill(&mut source, &mut block)?;
        length += filled as u64;
        if filled < block.len() {
            // A bit of 1, zeros, and the length in bits end the message.
            block[filled] = 0x80;
            block[filled + 1..].fill(0);
            if filled >= 56 {
                compress(&mut state, &block);
                block.fill(0);
            }
            block[56..].copy_from_slice(&(8 * length).to_be_bytes());
            compress(&mut state, &block);
            return Ok(hexadecimal(&state));
        }
        compress(&mut state, &block);
    }
}

fn hexadecimal(state: &[u32; 8]) -> String {
    let mut text = String::new();
    for word in state {
        let _ = write!(text, "{word:08x}");
    }
    text
}

/// Reads until the block is full or the source ends; returns the number of bytes.
fn fill(source: &mut impl Read, block: &mut [u8; 64]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match source.read(&mut block[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// The compression function, section 6.2.2.
fn compress(state: &mut [u32; 8], block: &[u8; 64]) {
    let mut words = [0_u32; 64];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = bytes.iter().fold(0, |all, byte| (all << 8) | u32::from(*byte));
    }
    for at in 16..words.len() {
        let (old, new) = (words[at - 15], words[at - 2]);
        let low = old.rotate_right(7) ^ old.rotate_right(18) ^ (old >> 3);
        let high = new.rotate_right(17) ^ new.rotate_right(19) ^ (new >> 10);
        let sum = words[at - 16].wrapping_add(words[at - 7]);
        words[at] = sum.wrapping_add(low).wrapping_add(high);
    }
    let mut it = *state;
    for (word, round) in words.iter().zip(ROUNDS) {
        let turned = it[4].rotate_right(6) ^ it[4].rotate_right(11) ^ it[4].rotate_right(25);
        let choice = (it[4] & it[5]) ^ (!it[4] & it[6]);
        let first = it[7].wrapping_add(turned).wrapping_add(choice);
        let first = first.wrapping_add(round).wrapping_add(*word);
        let turned = it[0].rotate_right(2) ^ it[0].rotate_right(13) ^ it[0].rotate_right(22);
        let majority = (it[0] & it[1]) ^ (it[0] & it[2]) ^ (it[1] & it[2]);
        let top = first.wrapping_add(turned).wrapping_add(majority);
        it = [top, it[0], it[1], it[2], it[3].wrapping_add(first), it[4], it[5], it[6]];
    }
    for (old, new) in state.iter_mut().zip(it) {
        *old = old.wrapping_add(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        let cases: [(&[u8], &str); 3] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ];
        for (text, hash) in cases {
            assert_eq!(of(text).expect("bytes are read"), hash);
        }
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
