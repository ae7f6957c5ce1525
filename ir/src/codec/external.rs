//! References to tensor data in other files.

use crate::error::IrError;
use crate::proto::TensorProto;

/// The place of the bytes of an external tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalRef {
    /// Tensor name, for messages.
    pub tensor: String,
    /// File relative to the model's folder. The spelling is checked not to leave the folder; the opener
    /// still has to check links.
    pub location: String,
    /// First byte.
    pub offset: u64,
    /// Byte count; `None` = to the end of the file.
    pub length: Option<u64>,
}

impl ExternalRef {
    /// Reads the `external_data` entries of a tensor.
    ///
    /// # Errors
    /// I0206 for an absolute path, a `..` component, a backslash or a drive letter; I0207 for missing or
    /// unreadable entries.
    pub(crate) fn of(tensor: &TensorProto) -> Result<Self, IrError> {
        let name = tensor.name().to_owned();
        let fail =
            |detail: &str| IrError::ExternalData { name: name.clone(), detail: detail.to_owned() };
        let entry = |key: &str| {
            tensor.external_data.iter().find(|e| e.key() == key).map(|e| e.value().to_owned())
        };
        let number = |key: &str| {
            entry(key)
                .map(|text| {
                    text.trim()
                        .parse::<u64>()
                        .map_err(|_| fail(&format!("{key} {text:?} is not a number")))
                })
                .transpose()
        };
        let location = entry("location").ok_or_else(|| fail("no location is given"))?;
        let escapes = location.is_empty()
            || location.starts_with('/')
            || location.contains(['\\', '\0', ':'])
            || location.split('/').any(|part| part == "..");
        if escapes {
            return Err(IrError::ExternalPathEscapes { name, location });
        }
        Ok(Self {
            tensor: name.clone(),
            location,
            offset: number("offset")?.unwrap_or(0),
            length: number("length")?,
        })
    }
}
