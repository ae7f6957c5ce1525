//! Forms of a step for one place to run it.
//!
//! What [`crate::TrainingStep`] writes runs everywhere; lowering replaces operators by faster ones that only some place has,
//! with the same function and the same names at the boundary.

mod blocked;
mod cuda;
mod operators;

use updp_ir::Model;

use crate::error::Result;
use crate::step::TrainingStep;

pub(crate) use operators::Alternative;
pub use operators::OPERATORS;

/// Where a model is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Anywhere: standard operators only.
    #[default]
    Portable,
    /// ONNX Runtime's CPU provider on a processor whose vector kernels take blocks of `block` channels: convolutions whose
    /// weights are computed or inputs get the blocked layout that the runtime itself gives only to those with constant
    /// weights.
    Cpu {
        /// Channels of a block: 16 with AVX-512F, 8 with AVX2 and FMA.
        block: usize,
    },
    /// ONNX Runtime's CUDA provider: nothing is left to the processor, so that the step can be recorded as one graph of kernels.
    Cuda,
}

impl Target {
    /// The CPU this runs on; portable where ONNX Runtime has no blocked kernels that we know the block of.
    #[must_use]
    pub fn this_cpu() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Self::Cpu { block: 16 };
            }
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
            {
                return Self::Cpu { block: 8 };
            }
        }
        Self::Portable
    }
}

impl TrainingStep {
    /// The step for a target, and how many nodes were replaced: what [`lower`] does, and for a processor also the
    /// operators of the domain [`OPERATORS`], which only `updp-exec` runs.
    ///
    /// # Errors
    /// What the graph refuses.
    pub fn lowered(&self, target: Target) -> Result<(Model, usize)> {
        let mut model = self.model.clone();
        // First: it goes by shapes, which nothing knows behind an operator of ours.
        let mut replaced = lower(&mut model, target)?;
        if matches!(target, Target::Cpu { .. }) {
            replaced += operators::place(&mut model, &self.alternatives)?;
        }
        model.validate()?;
        Ok((model, replaced))
    }
}

/// Rewrites a model, such as [`crate::TrainingStep::model`], for a target; gives how many nodes it replaced.
///
/// Shapes must be numbers where something is to be replaced: an operator of unknown size stays as it is.
///
/// # Errors
/// What the graph refuses.
pub fn lower(model: &mut Model, target: Target) -> Result<usize> {
    match target {
        Target::Portable => Ok(0),
        Target::Cpu { block } => blocked::lower(model, block),
        Target::Cuda => cuda::lower(model),
    }
}
