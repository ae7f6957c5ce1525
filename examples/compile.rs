//! Merges the layers of a model and says what that changed: `cargo run --example compile MODEL OUT`.

use std::path::Path;

use updp_compile::{BenchOptions, CompileOptions, Error, Silent, bench, compile};

/// Compiles `model` into `out` and returns what to print.
///
/// # Errors
/// What compiling, verifying and measuring give.
pub fn run(model: &Path, out: &Path) -> Result<String, Error> {
    let options = CompileOptions { output: Some(out.to_owned()), ..CompileOptions::default() };
    let report = compile(model, &options, &mut Silent)?;
    let (before, after) = (report.before.nodes, report.after.nodes);
    let speed = BenchOptions { seconds: 1.0, ..BenchOptions::default() };
    let measured = bench(model, Some(out.into()), &speed, &mut Silent)?;
    let speedup = measured.models[1].speedup;
    Ok(format!(
        "{before} nodes become {after}; verification: {}; {speedup:.2}x as fast",
        report.status.name()
    ))
}

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [model, out] = &arguments[..] else {
        eprintln!("usage: compile MODEL OUT");
        std::process::exit(2);
    };
    match run(Path::new(model), Path::new(out)) {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("error[{}]: {error}", error.code());
            std::process::exit(error.exit_code().into());
        }
    }
}
