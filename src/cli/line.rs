//! The command line as text, for reports.

use std::ffi::OsString;

/// The command as it can be typed again in a shell; `arguments` are those behind the name of the program.
pub(super) fn command_line<'a>(arguments: impl IntoIterator<Item = &'a OsString>) -> String {
    let mut line = "updp-compile".to_owned();
    for argument in arguments {
        line.push(' ');
        line.push_str(&quoted(&argument.to_string_lossy()));
    }
    line
}

/// A word in single quotes where a shell would change it.
fn quoted(word: &str) -> String {
    let is_plain = |it: char| it.is_alphanumeric() || "-_./=:,+%@".contains(it);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_shell_would_change_are_quoted() {
        let words = ["prune", "my model.onnx", "--speedup=1.2", "it's", "", "$HOME"];
        let words = words.map(OsString::from);
        let line = r"updp-compile prune 'my model.onnx' --speedup=1.2 'it'\''s' '' '$HOME'";
        assert_eq!(command_line(&words), line);
    }
}
