//! Errors of fitting and evaluating. Errors of the data are in `data/`, errors of training in `train/`.

use updp_autodiff::AutodiffError;
use updp_exec::ExecError;
use updp_ir::IrError;
use updp_passes::PassError;

use crate::data::DataError;
use crate::train::TrainError;

/// An error that ends a recovery.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum TrainerError {
    #[error(
        "images need an input of the model that takes images (f32, f16, f64 or u8); this one {found}"
    )]
    Inputs { found: String },
    #[error("images can go to several inputs of the model: {candidates}")]
    ImageInput { candidates: String },
    #[error("training takes models of one input, and this one has {count}")]
    TrainInputs { count: usize },
    #[error("the array for the input {input:?} does not fit: {detail}")]
    Constant { input: String, detail: String },
    #[error("{output:?} is not finite for the data: nothing can be compared")]
    NotFinite { output: String },
    #[error("the model has no float output to compare")]
    NoOutput,
    #[error("the output {output:?} cannot be compared: {found}")]
    Output { output: String, found: String },
    #[error("there are {found} images, and at least {needed} are needed for fitting and comparing")]
    TooFew { found: usize, needed: usize },
    #[error("the equations of block {block} ({name}) cannot be solved: {detail}")]
    Unsolved { block: usize, name: String, detail: String },
    #[error("the work folder {folder:?} cannot be used: {detail}")]
    Work { folder: String, detail: String },
    #[error(
        "the input model has {percent} % on {images} images with --preprocess {preprocess}, near the chance of {classes} classes; tried: {tried}"
    )]
    NearChance {
        preprocess: String,
        percent: String,
        images: usize,
        classes: usize,
        tried: String,
        better: Option<String>,
    },
    #[error(
        "the input model has {percent} % on {images} images with --preprocess {preprocess}, and --expect-accuracy asks for {expected} % (± {tolerance}, two standard errors)"
    )]
    BelowExpected {
        percent: String,
        expected: String,
        tolerance: String,
        images: usize,
        preprocess: String,
    },
    #[error("{option} needs images with labels: {detail}")]
    NoLabels { option: &'static str, detail: String },
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Autodiff(#[from] AutodiffError),
    #[error(transparent)]
    Ir(#[from] IrError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl TrainerError {
    /// The stable code that users see. docs/errors.md lists its cause and remedy.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Inputs { .. } | Self::ImageInput { .. } | Self::TrainInputs { .. } => "T0001",
            Self::NotFinite { .. } => "T0002",
            Self::NoOutput | Self::Output { .. } => "T0003",
            Self::TooFew { .. } => "T0004",
            Self::Unsolved { .. } => "T0005",
            Self::Work { .. } => "T0006",
            Self::NearChance { .. } => "T0007",
            Self::BelowExpected { .. } => "T0008",
            Self::NoLabels { .. } => "T0009",
            Self::Constant { .. } => "T0010",
            Self::Data(error) => error.code(),
            Self::Train(error) => error.code(),
            Self::Autodiff(error) => error.code(),
            Self::Ir(error) => error.code(),
            Self::Pass(error) => error.code(),
            Self::Exec(error) => error.code(),
        }
    }

    /// The remedy; `None` if the text already says everything.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Inputs { .. } => {
                "--recover none prunes without data; such a model cannot be fitted".into()
            }
            Self::ImageInput { .. } => {
                "name the one for the images: --image-input NAME; the other inputs get constants (--input NAME=FILE.npy)".into()
            }
            Self::TrainInputs { .. } => {
                "--recover fit prunes such a model without training".into()
            }
            Self::Constant { .. } => {
                "--input NAME=FILE.npy takes an array with the type and the dims of the input, for one image".into()
            }
            Self::NotFinite { .. } => "a wrong --preprocess is the usual cause".into(),
            Self::NoOutput => "the first float output of the model is what is compared".into(),
            Self::Output { .. } => "--outputs takes outputs with floats for each image".into(),
            Self::TooFew { .. } => "give a folder with more images; some hundred are enough".into(),
            Self::Unsolved { .. } => "leave this block out, or give other images".into(),
            Self::Work { .. } => "name another folder with --work: a new one, or one that this program made".into(),
            Self::NearChance { better: Some(better), .. } => {
                format!("--preprocess {better}; --allow-low-accuracy goes on all the same")
            }
            Self::NearChance { better: None, .. } => {
                "the classes of the images may be in another order than the model's, or --preprocess FILE.json is needed; --allow-low-accuracy goes on all the same".into()
            }
            Self::BelowExpected { .. } => {
                "--preprocess auto tries the known preprocessings; also the images may be of another kind than those of the model".into()
            }
            Self::NoLabels { .. } => {
                "give labels (one folder a class, or KEY.cls in a .tar), or name the preprocessing: without labels, a network can be surest of pixels of the wrong scale".into()
            }
            Self::Data(error) => return error.help(),
            Self::Train(error) => return error.help(),
            Self::Autodiff(error) => return error.help(),
            Self::Exec(error) => return error.help(),
            _ => return None,
        })
    }
}
