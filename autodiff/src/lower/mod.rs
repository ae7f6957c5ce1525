//! Forms of a step for one target.
//!
//! The step of [`crate::TrainingStep`] runs everywhere. Lowering replaces operators with faster ones that only some
//! targets have. The function, and the names of inputs and outputs, stay the same.

mod blocked;
mod cuda;
mod half;
mod migraphx;
mod operators;

use updp_ir::{DataType, Model};

use crate::alternative::OPERATORS;
use crate::error::{AutodiffError, Result};
use crate::step::TrainingStep;

/// The place where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Anywhere: standard operators only.
    #[default]
    Portable,
    /// ONNX Runtime's CPU provider on a processor whose vector kernels take blocks of `block` channels. Convolutions
    /// with computed weights or with weights that are inputs get the blocked layout. The runtime itself gives this
    /// layout only to convolutions with constant weights.
    Cpu {
        /// The channels of a block: 16 with AVX-512F, 8 with AVX2 and FMA.
        block: usize,
    },
    /// ONNX Runtime's CUDA provider. Nothing is left to the CPU, so that the step can be recorded as one graph of
    /// kernels.
    Cuda,
    /// ONNX Runtime's MIGraphX provider: only operators, forms and types that MIGraphX documents, of opset 19 or older.
    /// Every size is known before the step runs.
    MiGraphX,
}

impl Target {
    /// The CPU of this machine, or `Portable` where ONNX Runtime has no blocked kernels with a known block size.
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

/// The number type of convolutions and matrix products. Everything else is computed in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum Precision {
    /// f32.
    #[default]
    Single,
    /// f16. The step must be built with [`crate::StepSpec::scales_loss`].
    Half,
    /// bf16.
    Brain,
}

/// Changes convolutions and matrix products of f32 to another precision. Returns their number. Inputs, outputs and
/// states stay f32. For bf16, convolutions stay in f32 below opset 22, which introduced them. Call this before
/// [`lower`].
///
/// # Errors
/// T0304 for bf16 below opset 13, which has no bf16 operators, and errors of the graph.
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
    /// Returns the step for a target, and the number of replaced nodes. Does the work of [`lower`]. For a CPU it also
    /// places the operators of the domain [`OPERATORS`], which only `updp-exec` runs.
    ///
    /// # Errors
    /// Errors of the graph.
    pub fn lowered(&self, target: Target) -> Result<(Model, usize)> {
        let mut model = self.model.clone();
        // This goes first: it needs shapes, and no shape is known behind an operator of ours.
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
/// An operator stays unchanged if one of its sizes is not a number.
///
/// # Errors
/// T0311 for a node that [`Target::MiGraphX`] does not support in any form known here, and errors of the graph.
pub fn lower(model: &mut Model, target: Target) -> Result<usize> {
    match target {
        Target::Portable => Ok(0),
        Target::Cpu { block } => blocked::lower(model, block),
        Target::Cuda => cuda::lower(model),
        Target::MiGraphX => migraphx::lower(model),
    }
}

/// Checks that a target supports every node of a model, without running the model. Every target supports standard
/// operators. The CPU also supports the domain of the runtime and [`OPERATORS`]. [`Target::MiGraphX`] supports the
/// operators that [`lower`] leaves.
///
/// # Errors
/// T0311 with the first node that the target does not support.
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
