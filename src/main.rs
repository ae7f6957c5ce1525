//! Entry point; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread starts: the runtime reads the variable when its library initializes.
    updp_exec::disable_telemetry();
    updp_compile::terminal::install_panic_hook();
    updp_compile::interrupt::install();
    ExitCode::from(updp_compile::run(std::env::args_os().collect()))
}
