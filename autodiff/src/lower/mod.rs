//! Forms of a step for one place to run it.
//!
//! What [`crate::TrainingStep`] writes runs everywhere; lowering replaces operators by faster ones that only some place has,
//! with the same function and the same names at the boundary.

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

/// In which numbers convolutions and matrix products are computed; everything else is computed in f32.
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

/// Lets convolutions and matrix products of f32 be computed in another precision; gives how many. Inputs, outputs and states stay f32.
/// Convolutions of bf16 came with opset 22: below it they stay in f32.
/// Before [`lower`].
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
    /// The step for a target, and how many nodes were replaced: what [`lower`] does, and for a processor also the
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

/// Rewrites a model, such as [`crate::TrainingStep::model`], for a target; gives how many nodes it replaced.
///
/// Shapes must be numbers where something is to be replaced: an operator of unknown size stays as it is.
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

/// Holds every node of a model against what a target takes, without running anything: standard operators everywhere but on the
/// processor, where the runtime's own domain and ours are allowed; for [`Target::MiGraphX`] what [`lower`] leaves.
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
