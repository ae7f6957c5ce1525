//! Commands as a shell takes them, for messages that say what to type.

use std::ffi::OsString;

/// A word in the quotes that it needs.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |it: char| it.is_alphanumeric() || "-_./=:,+@%^".contains(it);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The command that this program was started with.
#[must_use]
pub fn own_command(arguments: &[OsString]) -> String {
    let words = arguments.iter().skip(1).map(|word| quoted(&word.to_string_lossy()));
    let program = std::iter::once("updp-compile".to_owned());
    program.chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let words =
            ["/x/updp-compile", "train", "a model.onnx", "--lr", "1e-3", "--name", "it's", ""];
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let told = own_command(&words);
        assert_eq!(told, r"updp-compile train 'a model.onnx' --lr 1e-3 --name 'it'\''s' ''");
    }
}
