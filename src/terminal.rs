//! What reaches the terminal.

use std::io::{IsTerminal, Write};

use crate::error::CliError;

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Results.
    Normal,
    /// Every rewrite.
    Verbose,
}

/// Prints to stdout; a closed pipe is no error.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints to stderr; used for progress and, while stdout carries a model, for everything.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Shows what is being done on a line that the next one replaces; nothing where standard error is no
/// terminal. `None` takes the line away.
pub fn progress(text: Option<&str>) {
    if std::io::stderr().is_terminal() {
        let mut out = std::io::stderr().lock();
        let _ = write!(out, "\r\x1b[2K{}", text.unwrap_or_default());
        let _ = out.flush();
    }
}

/// Prints an error with its code and the cure.
pub fn complain(error: &CliError) {
    progress(None);
    let (on, off) =
        if std::io::stderr().is_terminal() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    // One line, whatever a nested message holds.
    let text = error.to_string().replace('\n', " ");
    note(&format!("{on}error[{}]{off}: {text}", error.code()));
    if let Some(help) = error.help() {
        note(&format!("help: {help}"));
    }
}

/// Turns a panic, which is our bug, into one line and exit code 1.
pub fn install_panic_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_main = std::thread::current().name() == Some("main");
        if is_main && std::env::var_os("RUST_BACKTRACE").is_none() {
            let place = info.location().map_or_else(String::new, |at| format!(" at {at}"));
            note(&format!("error[C0000]: internal error{place}; this is a bug of updp-compile"));
            note("help: please report it with the model and this line; RUST_BACKTRACE=1 says more");
        } else {
            default(info);
        }
    }));
}
