//! Prunes blocks of a model with images: `cargo run --example prune MODEL OUT IMAGES PREPROCESS COUNT`.

use std::path::Path;

use updp_compile::{Error, Goal, Observer, PruneOptions, prune};

/// Collects each kind of work once.
#[derive(Default)]
struct Work(Vec<String>);

impl Observer for Work {
    fn progress(&mut self, what: &str, _done: usize, _total: usize) {
        if self.0.last().is_none_or(|last| last != what) {
            self.0.push(what.to_owned());
        }
    }
}

/// Prunes `count` blocks of `model`, writes the result to `out` and returns what to print.
///
/// # Errors
/// What pruning, merging and verifying give.
pub fn run(
    model: &Path,
    out: &Path,
    images: &Path,
    preprocess: &str,
    count: usize,
) -> Result<String, Error> {
    let mut options = PruneOptions::new(images, Goal::Count(count));
    preprocess.clone_into(&mut options.preprocess);
    options.compile.output = Some(out.to_owned());
    // Prunes even where this machine measures no gain.
    options.config.forms.force = true;
    let mut work = Work::default();
    let Some(report) = prune(model, &options, &mut work)? else {
        return Ok("it stopped early".to_owned());
    };
    let blocks = report
        .pruned
        .chosen
        .iter()
        .map(|(it, form)| format!("block {} becomes {}", it.block.index, form.name()));
    let mut lines: Vec<String> = blocks.collect();
    if let Some(outcome) = &report.pruned.outcome {
        lines.push(format!("before: {}", outcome.before));
        lines.push(format!("after:  {}", outcome.after));
    }
    lines.push(format!("stages: {}", work.0.join(", ")));
    Ok(lines.join("\n"))
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [model, out, images, preprocess, count] = &arguments[..] else {
        eprintln!("usage: prune MODEL OUT IMAGES PREPROCESS COUNT");
        std::process::exit(2);
    };
    let Ok(count) = count.parse() else {
        eprintln!("COUNT is a number of blocks");
        std::process::exit(2);
    };
    match run(Path::new(model), Path::new(out), Path::new(images), preprocess, count) {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("error[{}]: {error}", error.code());
            std::process::exit(error.exit_code().into());
        }
    }
}
