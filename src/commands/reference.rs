//! `errors`, `completions` and `man`.

use clap::CommandFactory;

use crate::cli::Cli;
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
pub(super) fn completions(shell: clap_complete::Shell) {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "updp-compile", &mut bytes);
    say(&String::from_utf8_lossy(&bytes));
}

/// Prints the man page.
pub(super) fn man() -> Result<(), CliError> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut bytes)
        .map_err(|error| CliError::Write { path: "-".into(), detail: error.to_string() })?;
    say(&String::from_utf8_lossy(&bytes));
    Ok(())
}
