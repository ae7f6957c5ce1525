//! Forms of a step for one place to run it.
//!
//! The step of [`crate::TrainingStep`] runs everywhere. Lowering replaces operators by faster ones that only some places have. The
//! function and the names at the boundary stay the same.

mod blocked;
mod cuda;
mod half;
mod migraphx;
mod operators;

use updp_ir::{DataType, Model};

use crate::alternative::OPERATORS;
use crate::error::{AutodiffError, Result};
use crate::step::TrainingStep;

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
    /// ONNX Runtime's MIGraphX provider: operators, forms and types that MIGraphX documents, of opset 19 or older, and every size
    /// known before the step runs.
    MiGraphX,
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

/// The number type of convolutions and matrix products; everything else is computed in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum Precision {
    /// f32.
    #[default]
    Single,
    /// f16: the step has to be built with [`crate::StepSpec::scales_loss`].
    Half,
    /// bf16.
    Brain,
}

/// Lets convolutions and matrix products of f32 be computed in another precision. Returns their number. Inputs, outputs and states
/// stay f32. Convolutions stay in f32 for bf16 below opset 22, which brought them. Call this before [`lower`].
///
/// # Errors
/// T0304 for bf16 below opset 13, which has no such operators; what the graph refuses.
pub fn set_precision(model: &mut Model, precision: Precision) -> Result<usize> {
    match precision {
        Precision::Single => Ok(0),
        Precision::Half => half::lower(model, DataType::Float16),
        Precision::Brain => {
            let found = model.opset("").unwrap_or(0);
            let needed = 13;
            if found < needed {
                return Err(AutodiffError::Opset { found, needed });
            }
            half::lower(model, DataType::Bfloat16)
        }
    }
}

impl TrainingStep {
    /// The step for a target, and the number of replaced nodes. Does the work of [`lower`]; for a processor it also places the
    /// operators of the domain [`OPERATORS`], which only `updp-exec` runs.
    ///
    /// # Errors
    /// What the graph refuses.
    pub fn lowered(&self, target: Target) -> Result<(Model, usize)> {
        let mut model = self.model.clone();
        // First: it goes by shapes, which nothing knows behind an operator of ours.
        let mut replaced = lower(&mut model, target)?;
        if let Target::Cpu { block } = target {
            replaced += operators::place(&mut model, &self.alternatives, block)?;
        }
        model.validate()?;
        Ok((model, replaced))
    }
}

/// Rewrites a model, such as [`crate::TrainingStep::model`], for a target. Returns the number of nodes it replaced.
///
/// An operator whose sizes are not all numbers stays as it is.
///
/// # Errors
/// T0311 for a node that [`Target::MiGraphX`] does not take in any form known here; what the graph refuses.
pub fn lower(model: &mut Model, target: Target) -> Result<usize> {
    match target {
        Target::Portable => Ok(0),
        Target::Cpu { block } => blocked::lower(model, block),
        Target::Cuda => cuda::lower(model),
        Target::MiGraphX => migraphx::lower(model),
    }
}

/// Checks that a target takes every node of a model, without running the model. Every target takes standard operators; the
/// processor also takes the domain of the runtime and [`OPERATORS`]; [`Target::MiGraphX`] takes the operators that [`lower`] leaves.
///
/// # Errors
/// T0311 with the first node that the target does not take.
pub fn check(model: &Model, target: Target) -> Result<()> {
    let (name, is_processor) = match target {
        Target::MiGraphX => return migraphx::check(model),
        Target::Portable => ("a portable step", false),
        Target::Cuda => ("the CUDA form", false),
        Target::Cpu { .. } => ("ONNX Runtime", true),
    };
    for id in model.graph.nodes() {
        let node = model.graph.node(id);
        let is_own = is_processor && [blocked::DOMAIN, OPERATORS].contains(&node.domain());
        if !model.is_standard(node) && !is_own {
            let detail = format!("it is of the domain {:?}", node.domain());
            return Err(AutodiffError::refused(name, Some(node), detail));
        }
    }
    Ok(())
}
