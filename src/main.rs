//! Entry point; everything is in the library.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use updp_exec::worker;

fn main() -> ExitCode {
    #[expect(
        unsafe_code,
        reason = "setting a variable of the environment is unsafe once threads run"
    )]
    // SAFETY: this is the first statement of the program, so no other thread exists.
    unsafe {
        updp_exec::disable_telemetry();
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == worker::ARGUMENT) {
        return worker::serve(arguments.get(2).and_then(|memory| memory.to_str()));
    }
    if let Ok(program) = worker::this_program() {
        updp_compile::cli::use_workers(program);
    }
    updp_compile::terminal::install_panic_hook();
    updp_compile::interrupt::install();
    let run = AssertUnwindSafe(|| updp_compile::run(arguments));
    // The hook has told of the panic.
    let code = std::panic::catch_unwind(run).unwrap_or(1);
    worker::end_idle();
    ExitCode::from(code)
}
