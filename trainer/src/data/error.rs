//! Errors of reading data, with stable `T01` codes.

use std::path::PathBuf;

/// Data that cannot be read or do not fit the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum DataError {
    #[error("cannot read {path:?}: {detail}")]
    Unreadable { path: PathBuf, detail: String },
    #[error("{path:?} is no data set: {detail}")]
    UnknownKind { path: PathBuf, detail: String },
    #[error("{path:?} is packed, so single images cannot be read from it")]
    Packed { path: PathBuf },
    #[error("{path:?} holds the parts of a data set, {}, and not its classes", .parts.join(", "))]
    HasParts { path: PathBuf, parts: Vec<String> },
    #[error("{path:?} is damaged: {detail}")]
    Damaged { path: PathBuf, detail: String },
    #[error("the labels of {path:?} cannot be used: {detail}")]
    Labels { path: PathBuf, detail: String },
    #[error("the model's input {dims} takes no images: {detail}")]
    NotAnImageInput { dims: String, detail: String },
    #[error("the model's input {dims} leaves the size of the images open")]
    SizeUnknown { dims: String },
    #[error("--preprocess {text:?}: {detail}")]
    Preprocess { text: String, detail: String },
    #[error("{what} {found}, and the model takes {expected}")]
    DoesNotFit { what: String, found: String, expected: String },
    #[error("{skipped} of {total} images cannot be read: {}", .first.join("; "))]
    TooManySkipped { skipped: usize, total: usize, first: Vec<String> },
}

impl DataError {
    /// Every code of this module; docs/errors.md gives the cause and the cure.
    pub const CODES: &[&str] = &[
        "T0101", "T0102", "T0103", "T0104", "T0105", "T0106", "T0107", "T0108", "T0109", "T0110",
        "T0111",
    ];

    /// The stable code shown to users.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "T0101",
            Self::UnknownKind { .. } => "T0102",
            Self::Packed { .. } => "T0103",
            Self::HasParts { .. } => "T0104",
            Self::Damaged { .. } => "T0105",
            Self::Labels { .. } => "T0106",
            Self::NotAnImageInput { .. } => "T0107",
            Self::SizeUnknown { .. } => "T0108",
            Self::Preprocess { .. } => "T0109",
            Self::DoesNotFit { .. } => "T0110",
            Self::TooManySkipped { .. } => "T0111",
        }
    }

    /// What the user can do about it; `None` when the message already says it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } | Self::NotAnImageInput { .. } => return None,
            Self::UnknownKind { .. } => {
                "give a folder of images or of class folders, a .tar of images, IDX files, .npz or .npy".into()
            }
            Self::Packed { .. } => "unpack it and give the .tar or the folder".into(),
            Self::HasParts { path, parts } => {
                let parts: Vec<_> =
                    parts.iter().map(|part| path.join(part).display().to_string()).collect();
                format!("give one of {}", parts.join(", "))
            }
            Self::Damaged { .. } => "fetch or write the file again".into(),
            Self::Labels { .. } => "labels are the class numbers 0, 1, 2 …, one an image".into(),
            Self::SizeUnknown { .. } => {
                "--preprocess FILE.json with \"size\": [H, W] gives it, or --input-shape NAME:N,C,H,W".into()
            }
            Self::Preprocess { .. } => {
                "imagenet, cifar, fashion-mnist, mnist, unit, symmetric, caffe or none, each also with ,crop ,squeeze ,bgr ,rgb ,bicubic behind it; or FILE.json: mean, std, resize, crop, size, interpolation, rescale; Hugging Face's preprocessor_config.json; timm's config.json".into()
            }
            Self::DoesNotFit { .. } => {
                "--preprocess FILE.json says what the model was trained with".into()
            }
            Self::TooManySkipped { .. } => "remove or replace the files that are named".into(),
        })
    }
}
