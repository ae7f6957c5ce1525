//! Trains a model on labelled images: `cargo run --example finetune MODEL OUT IMAGES PREPROCESS EPOCHS`.

use std::path::Path;

use updp_compile::{Error, FinetuneOptions, Observer, TrainingEvent, finetune};

/// Collects a line an epoch.
#[derive(Default)]
struct Epochs(Vec<String>);

impl Observer for Epochs {
    fn training(&mut self, event: TrainingEvent<'_>) {
        if let TrainingEvent::Epoch { epoch, score } = event {
            self.0.push(format!("epoch {epoch}: {score}"));
        }
    }
}

/// Trains `model` for some epochs, writes the result to `out` and returns what to print.
///
/// # Errors
/// What reading the images and training give.
pub fn run(
    model: &Path,
    out: &Path,
    images: &Path,
    preprocess: &str,
    epochs: usize,
) -> Result<String, Error> {
    let mut options = FinetuneOptions::new(images);
    preprocess.clone_into(&mut options.preprocess);
    options.output = Some(out.to_owned());
    options.epochs = epochs;
    let mut lines = Epochs::default();
    let report = finetune(model, &options, &mut lines)?;
    let mut lines = lines.0;
    lines.push(format!("before: {}", report.before));
    lines.push(format!("after:  {}", report.trained.score));
    Ok(lines.join("\n"))
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [model, out, images, preprocess, epochs] = &arguments[..] else {
        eprintln!("usage: finetune MODEL OUT IMAGES PREPROCESS EPOCHS");
        std::process::exit(2);
    };
    let Ok(epochs) = epochs.parse() else {
        eprintln!("EPOCHS is a number");
        std::process::exit(2);
    };
    match run(Path::new(model), Path::new(out), Path::new(images), preprocess, epochs) {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("error[{}]: {error}", error.code());
            std::process::exit(error.exit_code().into());
        }
    }
}
