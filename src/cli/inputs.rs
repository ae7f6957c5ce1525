//! Arguments for models with several inputs.

use clap::Args;

/// What a model with several inputs gets.
#[derive(Args, Clone, Debug, Default)]
pub struct InputArgs {
    /// Input of the model that takes the images [default: the only one that can]
    #[arg(long, value_name = "NAME", requires = "data")]
    pub image_input: Option<String>,
    /// Array for another input of the model, for one image; inputs without one get ones
    #[arg(long = "input", id = "constants", value_name = "NAME=FILE.npy", value_parser = constant, requires = "data")]
    pub constants: Vec<String>,
}

/// A name and a path.
fn constant(text: &str) -> Result<String, String> {
    match text.rsplit_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok(text.to_owned()),
        _ => Err("it is not NAME=FILE.npy".to_owned()),
    }
}
