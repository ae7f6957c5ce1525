//! Shell completions and the man page, made of the arguments.

use std::io;

pub use clap_complete::Shell;

use super::command;

/// Completions for a shell.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut command(), "updp-compile", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The man page, in troff.
///
/// # Errors
/// What rendering refuses.
pub fn man_page() -> io::Result<String> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command()).render(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
