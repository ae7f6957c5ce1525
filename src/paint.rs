//! Colours of the terminal, those of cargo: warnings yellow, errors red, headers and what went well green.

use std::ffi::OsString;

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It went well.
    Good,
    /// It is done, and something needs attention.
    Warning,
    /// It failed, or a goal was missed.
    Bad,
    /// The head of a table.
    Header,
}

impl Tone {
    /// The escape sequence that begins it.
    fn start(self) -> &'static str {
        match self {
            Self::Good => "\x1b[1;32m",
            Self::Warning => "\x1b[1;33m",
            Self::Bad => "\x1b[1;31m",
            Self::Header => "\x1b[1;92m",
        }
    }

    /// The text in its colour; as it is if `has_colour` is false or there is no text.
    #[must_use]
    pub fn paint(self, text: &str, has_colour: bool) -> String {
        if has_colour && !text.is_empty() {
            format!("{}{text}\x1b[0m", self.start())
        } else {
            text.to_owned()
        }
    }
}

/// Whether a stream gets colours: a terminal does, unless `NO_COLOR` is set, `CLICOLOR` is 0 or `TERM` is `dumb`.
/// `CLICOLOR_FORCE` gives colours to what is no terminal too.
#[must_use]
pub fn has_colour(is_terminal: bool) -> bool {
    decide(is_terminal, |name| std::env::var_os(name))
}

fn decide(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let is = |name: &str, value: &str| variable(name).is_some_and(|it| it == value);
    if is_set("NO_COLOR") {
        return false;
    }
    if is_set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0") {
        return true;
    }
    is_terminal && !is("CLICOLOR", "0") && !is("TERM", "dumb")
}

/// Paints the word at the start of each line that is a warning.
#[must_use]
pub fn warnings(text: &str, has_colour: bool) -> String {
    if !has_colour || !(text.contains("warning:") || text.contains("WARNING:")) {
        return text.to_owned();
    }
    let line = |line: &str| {
        let words = line.trim_start();
        let (space, words) = line.split_at(line.len() - words.len());
        match words.split_at_checked("warning:".len()) {
            Some((word @ ("warning:" | "WARNING:"), rest)) => {
                format!("{space}{}{rest}", Tone::Warning.paint(word, true))
            }
            _ => line.to_owned(),
        }
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_takes_them_gets_colours() {
        type Variables<'a> = &'a [(&'a str, &'a str)];
        let cases: [(bool, Variables<'_>, bool); 9] = [
            (true, &[], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (true, &[("CLICOLOR", "0")], false),
            (true, &[("CLICOLOR", "1")], true),
            (true, &[("TERM", "dumb")], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ];
        for (is_terminal, variables, expected) in cases {
            let of = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(decide(is_terminal, of), expected, "{is_terminal} {variables:?}");
        }
    }

    #[test]
    fn only_the_word_at_the_start_of_a_warning_is_painted() {
        let text = "a warning: no\n  WARNING: 9 points\nwarning: weights";
        let painted = "a warning: no\n  \x1b[1;33mWARNING:\x1b[0m 9 points\n\x1b[1;33mwarning:\x1b[0m weights";
        assert_eq!(warnings(text, true), painted);
        assert_eq!(warnings(text, false), text);
        assert_eq!(Tone::Good.paint("done", true), "\x1b[1;32mdone\x1b[0m");
        assert_eq!(
            (Tone::Good.paint("", true), Tone::Bad.paint("no", false)),
            (String::new(), "no".to_owned())
        );
    }
}
