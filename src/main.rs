//! Entry point; everything is in the library.

use std::process::ExitCode;

use updp_exec::worker;

fn main() -> ExitCode {
    // Before any thread starts: the runtime reads the variable when its library initializes.
    updp_exec::disable_telemetry();
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == worker::ARGUMENT) {
        return worker::serve(arguments.get(2).and_then(|memory| memory.to_str()));
    }
    if let Ok(program) = worker::this_program() {
        updp_compile::cli::use_workers(program);
    }
    updp_compile::terminal::install_panic_hook();
    updp_compile::interrupt::install();
    let code = updp_compile::run(arguments);
    worker::end_idle();
    ExitCode::from(code)
}
