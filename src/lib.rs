//! The command line of `updp-compile`: arguments, files, verification, printing.
//!
//! The only crate that talks to the terminal.

pub mod block_map;
pub mod block_report;
pub mod cli;
pub mod commands;
pub mod data;
pub mod deploy;
pub mod error;
pub mod gates;
pub mod interrupt;
pub mod latency_table;
pub mod model_file;
pub mod prune;
pub mod recover;
pub mod rehearsal;
pub mod report;
pub mod report_page;
pub mod survey;
pub mod terminal;
pub mod test_vectors;
pub mod training;
pub mod write;

/// Runs the command line and returns the exit code.
#[must_use]
pub fn run(arguments: Vec<std::ffi::OsString>) -> u8 {
    let command = match cli::parse(arguments) {
        Ok(command) => command,
        Err(code) => return code,
    };
    match commands::run(command) {
        Ok(()) => 0,
        Err(error) => {
            terminal::complain(&error);
            error.exit_code()
        }
    }
}
