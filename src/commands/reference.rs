//! `errors`, `completions` and `man`.

use crate::cli::{self, Shell};
use crate::error::CliError;
use crate::terminal::say;

const ERRORS: &str = include_str!("../../docs/errors.md");

/// Prints the entry of one code, or the whole document.
pub(super) fn errors(code: Option<&str>) -> Result<(), CliError> {
    let Some(code) = code else {
        say(ERRORS);
        return Ok(());
    };
    let heading = format!("## {code}");
    let entry = ERRORS.find(&heading).map(|start| {
        let end = ERRORS[start + 3..].find("\n## ").map_or(ERRORS.len(), |at| start + 3 + at);
        &ERRORS[start..end]
    });
    let entry = entry.ok_or_else(|| CliError::UnknownCode { code: code.to_owned() })?;
    say(entry.trim_end());
    Ok(())
}

/// Prints shell completions.
pub(super) fn completions(shell: Shell) {
    say(&cli::completions(shell));
}

/// Prints the man page.
pub(super) fn man() -> Result<(), CliError> {
    let failed =
        |error: std::io::Error| CliError::Write { path: "-".into(), detail: error.to_string() };
    say(&cli::man_page().map_err(failed)?);
    Ok(())
}
