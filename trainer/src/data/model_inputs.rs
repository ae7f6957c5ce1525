//! What a model with several inputs gets beside images.

use indexmap::IndexMap;
use updp_ir::Tensor;

use crate::hash::Fnv;

/// The input that takes the images, and constants for the other inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelInputs {
    /// Name of the input that takes the images. `None` = the only one that can take images.
    pub image: Option<String>,
    /// Constants by input name. An input that is not listed gets ones.
    pub constants: IndexMap<String, Tensor>,
}

impl ModelInputs {
    /// Whether nothing was said about inputs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.image.is_none() && self.constants.is_empty()
    }

    pub(super) fn hash(&self, hash: &mut Fnv) {
        if self.is_empty() {
            return;
        }
        hash.text(self.image.as_deref().unwrap_or_default());
        for (name, tensor) in &self.constants {
            hash.text(name);
            hash.text(&format!("{}{:?}", tensor.dtype(), tensor.dims()));
            hash.bytes(tensor.bytes());
        }
    }
}
