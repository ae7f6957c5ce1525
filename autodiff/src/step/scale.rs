//! A factor s on the loss. It keeps the digits of small gradients in f16. The step skips an update when s was too large
//! (\[Micikevicius18\] sec. 3.2).
//!
//! The backward pass starts from s in place of 1, and every gradient is multiplied by 1/s (exact: s is a power of 2).
//! If the norm of all gradients is not finite, every state keeps its value and s becomes s/2, but not less than 1.
//! After [`PATIENCE`] good batches in a row, s becomes 2·s. s and the number of good batches are states.

use updp_ir::{DataType, Tensor, TensorType, ValueId};

use super::optimizer::{Trained, Update};
use super::state::{State, StateKind};
use crate::emit::Emit;
use crate::error::Result;

/// The value of s before the first step.
const FIRST: f32 = 65_536.0;

/// The upper limit of s.
const MOST: f64 = 16_777_216.0;

/// The number of good batches after which s is doubled.
const PATIENCE: f64 = 2000.0;

/// The states of the scale. They are graph inputs, f32 `[]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// s.
    pub value: ValueId,
    /// The number of good batches since s last changed.
    good: ValueId,
}

impl Scale {
    /// Adds the inputs.
    pub fn write(emit: &mut Emit<'_>) -> Self {
        let number = TensorType::fixed(DataType::Float, &[]);
        let mut input = |name: &str| emit.graph_mut().add_input(name, &number);
        Self { value: input("current.loss_scale"), good: input("current.good_batches") }
    }

    /// Divides the gradients by s.
    pub fn unscale(&self, emit: &mut Emit<'_>, trained: &mut [Trained]) -> Result<()> {
        emit.set_scope("scale");
        let inverse = emit.call("Reciprocal", &[self.value])?;
        for parameter in trained {
            let inverse = emit.cast(inverse, parameter.initial.dtype())?;
            parameter.gradient = emit.mul(parameter.gradient, inverse)?;
        }
        Ok(())
    }

    /// Writes the next s and the next number of good batches.
    pub fn next(&self, update: &mut Update<'_, '_>, is_bad: ValueId) -> Result<()> {
        let emit = &mut *update.emit;
        emit.set_scope("scale");
        let counted = emit.shift(self.good, 1.0)?;
        let bound = emit.scalar(counted, PATIENCE)?;
        let is_due = emit.call("Less", &[counted, bound])?;
        let (zero, one) = (emit.scalar(counted, 0.0)?, emit.scalar(counted, 1.0)?);
        let kept = emit.call("Where", &[is_due, counted, zero])?;
        let doubled = emit.scale(self.value, 2.0)?;
        let most = emit.scalar(doubled, MOST)?;
        let doubled = emit.call("Min", &[doubled, most])?;
        let larger = emit.call("Where", &[is_due, self.value, doubled])?;
        let half = emit.scale(self.value, 0.5)?;
        let half = emit.call("Max", &[half, one])?;
        let states = [
            ("loss_scale", self.value, FIRST, (half, larger)),
            ("good_batches", self.good, 0.0, (zero, kept)),
        ];
        for (source, input, initial, (if_bad, if_good)) in states {
            let emit = &mut *update.emit;
            emit.name_next(&format!("next.{source}"));
            let next = emit.call("Where", &[is_bad, if_bad, if_good])?;
            let state = State {
                input: emit.name(input),
                output: emit.name(next),
                kind: StateKind::Scale,
                source: source.to_owned(),
                initial: Tensor::from_f32(Vec::new(), &[initial])?,
            };
            update.states.push(state);
            update.outputs.push((next, TensorType::fixed(DataType::Float, &[])));
        }
        Ok(())
    }
}
