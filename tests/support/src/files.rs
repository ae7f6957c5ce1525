//! Reads models, including external data.

use std::path::Path;

use bytes::Bytes;
use updp_ir::proto::ModelProto;
use updp_ir::{IrError, Model, no_external_data};

/// Reads a model from bytes with all data inside.
///
/// # Errors
/// As [`Model::decode`].
pub fn decode(bytes: impl Into<Bytes>) -> Result<Model, IrError> {
    Model::decode(bytes.into(), &mut no_external_data)
}

/// Reads a model from its message with all data inside.
///
/// # Errors
/// As [`Model::from_proto`].
pub fn model_of(proto: ModelProto) -> Result<Model, IrError> {
    Model::from_proto(proto, &mut no_external_data)
}

/// Reads a model file and the external data beside it.
///
/// # Panics
/// When a file is missing or malformed.
#[must_use]
pub fn read_model(path: &Path) -> Model {
    let read = |path: &Path| -> Bytes {
        std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let model = Model::decode(read(path), &mut |reference| {
        let all = read(&folder.join(&reference.location));
        let start = reference.offset as usize;
        let end = reference.length.map_or(all.len(), |length| start + length as usize);
        Ok(all.slice(start..end))
    });
    model.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
