//! Computes the next parameters and moments from the gradients.
//!
//! With accumulation, the numbers `share` (weight of this batch) and `apply` (1: this batch makes the update, 0: it
//! only adds its gradients) are factors. So an update does the same work for each element: m ← (1 − apply·(1 − μ))·m +
//! apply·d, p ← p − apply·rate·…, gradients ← (1 − apply)·gradients.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use updp_ir::{DataType, Tensor, TensorType, ValueId};

use super::spec::{Optimizer, StepSpec};
use super::state::{State, StateKind};
use crate::emit::Emit;
use crate::error::{AutodiffError, Result};

/// A parameter with its gradient.
#[derive(Clone, Debug)]
pub(super) struct Trained {
    /// The graph input that holds it.
    pub value: ValueId,
    /// The name of its initializer in the network.
    pub source: String,
    /// Its value in the network.
    pub initial: Tensor,
    /// Its gradient.
    pub gradient: ValueId,
}

impl Trained {
    /// Whether weight decay applies. It does not apply to scales, shifts and biases: they have at most one axis longer
    /// than 1.
    fn decays(&self) -> bool {
        self.initial.dims().iter().filter(|dim| **dim > 1).count() > 1
    }
}

/// The numbers that control an update. They are graph inputs of type f32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Controls {
    pub learning_rate: ValueId,
    pub step: Option<ValueId>,
    pub apply: Option<ValueId>,
    pub share: Option<ValueId>,
}

impl Controls {
    /// Adds the inputs.
    pub fn write(emit: &mut Emit<'_>, spec: &StepSpec) -> Self {
        let number = TensorType::fixed(DataType::Float, &[]);
        let mut input = |name: &str| emit.graph_mut().add_input(name, &number);
        Self {
            learning_rate: input("learning_rate"),
            step: matches!(spec.optimizer, Optimizer::AdamW { .. }).then(|| input("step")),
            apply: spec.accumulates.then(|| input("apply")),
            share: spec.accumulates.then(|| input("share")),
        }
    }
}

/// Writes updates and collects the states.
pub(super) struct Update<'a, 'b> {
    pub emit: &'a mut Emit<'b>,
    pub spec: &'a StepSpec,
    pub controls: Controls,
    /// Whether the gradients of this batch are not finite. `None` when the loss is not scaled.
    pub is_bad: Option<ValueId>,
    pub states: Vec<State>,
    /// The next value of each state. Each becomes a graph output.
    pub outputs: Vec<(ValueId, TensorType)>,
}

/// Numbers that are the same for all parameters of one type.
struct Factors {
    /// −apply·rate, divided by 1 − β₁ᵗ for AdamW.
    pace: ValueId,
    /// 1/√(1 − β₂ᵗ), for AdamW.
    second: Option<ValueId>,
    /// 1 − apply·rate·decay, for AdamW.
    kept: Option<ValueId>,
    apply: Option<ValueId>,
}

/// How a moment decays.
#[derive(Clone, Copy)]
struct Decay {
    /// The factor of the old moment.
    beta: f64,
    /// The factor of the new term.
    gain: f64,
}

impl Update<'_, '_> {
    /// Adds the gradients of earlier batches, and clips the sum. Returns the common norm before clipping.
    pub fn gradients(&mut self, trained: &mut [Trained]) -> Result<ValueId> {
        self.emit.set_scope("update");
        if self.spec.scales_loss {
            let name = if self.spec.accumulates { "batch_grad_norm" } else { "grad_norm" };
            let norm = self.norm(trained, name)?;
            self.check_finite(trained, norm)?;
            if !self.spec.accumulates {
                self.clip(trained, norm)?;
                return Ok(norm);
            }
        }
        for parameter in trained.iter_mut() {
            self.accumulate(parameter)?;
        }
        let norm = self.norm(trained, "grad_norm")?;
        self.clip(trained, norm)?;
        Ok(norm)
    }

    /// Checks by the norm whether the gradients of this batch are finite. If several batches make an update, gradients
    /// that are not finite count as 0.
    fn check_finite(&mut self, trained: &mut [Trained], norm: ValueId) -> Result<()> {
        let is_bad = is_not_finite(self.emit, norm)?;
        self.emit.set_scope("update");
        self.is_bad = Some(is_bad);
        if self.spec.accumulates {
            for parameter in trained.iter_mut() {
                let zero = self.emit.scalar(parameter.gradient, 0.0)?;
                parameter.gradient =
                    self.emit.call("Where", &[is_bad, zero, parameter.gradient])?;
            }
        }
        Ok(())
    }

    /// The common norm of the gradients, as a value with this name.
    fn norm(&mut self, trained: &[Trained], name: &str) -> Result<ValueId> {
        let mut squares = Vec::with_capacity(trained.len());
        for parameter in trained {
            let axes: Vec<usize> = (0..parameter.initial.dims().len()).collect();
            let square = self.emit.reduce("ReduceSumSquare", parameter.gradient, &axes, false)?;
            squares.push(self.emit.cast(square, DataType::Float)?);
        }
        let sum = match squares[..] {
            [one] => one,
            _ => self.emit.call("Sum", &squares)?,
        };
        self.emit.name_next(name);
        self.emit.call("Sqrt", &[sum])
    }

    /// Scales the gradients down to the limit if their norm is larger.
    fn clip(&mut self, trained: &mut [Trained], norm: ValueId) -> Result<()> {
        if let Some(limit) = self.spec.clip_norm {
            let safe = self.emit.shift(norm, 1e-6)?;
            let limit = self.emit.scalar(norm, limit)?;
            let ratio = self.emit.div(limit, safe)?;
            let one = self.emit.scalar(norm, 1.0)?;
            let factor = self.emit.call("Min", &[ratio, one])?;
            for parameter in trained.iter_mut() {
                let factor = self.emit.cast(factor, parameter.initial.dtype())?;
                parameter.gradient = self.emit.mul(parameter.gradient, factor)?;
            }
        }
        Ok(())
    }

    /// Adds the gradients of earlier batches: g ← held + share·g, held ← (1 − apply)·g.
    fn accumulate(&mut self, parameter: &mut Trained) -> Result<()> {
        let (Some(apply), Some(share)) = (self.controls.apply, self.controls.share) else {
            return Ok(());
        };
        let dtype = parameter.initial.dtype();
        let held =
            self.state(StateKind::Gradient, "gradient", parameter, &zeros(&parameter.initial)?);
        let share = self.emit.cast(share, dtype)?;
        let own = self.emit.mul(parameter.gradient, share)?;
        parameter.gradient = self.emit.add(held, own)?;
        let apply = self.emit.cast(apply, dtype)?;
        let rest = self.emit.complement(1.0, apply)?;
        self.next("gradient", &parameter.source);
        let next = self.emit.mul(parameter.gradient, rest)?;
        self.set_next_state(next)
    }

    /// Writes the next value of every parameter, its moments and its average.
    pub fn parameters(&mut self, trained: &[Trained]) -> Result<()> {
        self.emit.set_scope("update");
        for parameter in trained {
            if !matches!(parameter.initial.dtype(), DataType::Float | DataType::Double) {
                let dtype = Some(parameter.initial.dtype());
                return Err(AutodiffError::dtype(&parameter.source, "f32 or f64", dtype));
            }
        }
        let mut factors: BTreeMap<DataType, Factors> = BTreeMap::new();
        for parameter in trained {
            let dtype = parameter.initial.dtype();
            let shared = match factors.entry(dtype) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.factors(dtype)?),
            };
            let next = match self.spec.optimizer {
                Optimizer::Sgd { momentum, nesterov } => {
                    self.sgd(parameter, shared, momentum, nesterov)?
                }
                Optimizer::AdamW { beta1, beta2, epsilon } => {
                    self.adamw(parameter, shared, [beta1, beta2], epsilon)?
                }
            };
            self.average(&parameter.source, &parameter.initial, next)?;
        }
        Ok(())
    }

    fn factors(&mut self, dtype: DataType) -> Result<Factors> {
        let apply = match self.controls.apply {
            Some(apply) => Some(self.emit.cast(apply, dtype)?),
            None => None,
        };
        let rate = self.emit.cast(self.controls.learning_rate, dtype)?;
        let rate = match apply {
            Some(apply) => self.emit.mul(rate, apply)?,
            None => rate,
        };
        let pace = self.emit.neg(rate)?;
        let plain = Factors { pace, second: None, kept: None, apply };
        let Optimizer::AdamW { beta1, beta2, .. } = self.spec.optimizer else { return Ok(plain) };
        let Some(step) = self.controls.step else { return Ok(plain) };
        let step = self.emit.cast(step, dtype)?;
        let mut corrections = [beta1, beta2];
        let mut values = Vec::with_capacity(2);
        for beta in &mut corrections {
            let beta = self.emit.scalar(step, *beta)?;
            let power = self.emit.call("Pow", &[beta, step])?;
            values.push(self.emit.complement(1.0, power)?);
        }
        let pace = self.emit.div(pace, values[0])?;
        let root = self.emit.call("Sqrt", &[values[1]])?;
        let second = Some(self.emit.call("Reciprocal", &[root])?);
        let mut kept = None;
        if self.spec.weight_decay > 0.0 {
            let loss = self.emit.scale(rate, self.spec.weight_decay)?;
            kept = Some(self.emit.complement(1.0, loss)?);
        }
        Ok(Factors { pace, second, kept, apply })
    }

    /// Writes the next value of a moment: m ← (1 − apply·(1 − β))·m + apply·gain·d.
    fn moment(
        &mut self,
        parameter: &Trained,
        part: &str,
        decay: Decay,
        d: ValueId,
        apply: Option<ValueId>,
    ) -> Result<ValueId> {
        let m = self.state(StateKind::Moment, part, parameter, &zeros(&parameter.initial)?);
        let (kept, new) = match apply {
            None => (self.emit.scale(m, decay.beta)?, self.emit.scale(d, decay.gain)?),
            Some(apply) => {
                let lost = self.emit.scale(apply, 1.0 - decay.beta)?;
                let rest = self.emit.complement(1.0, lost)?;
                let gain = self.emit.scale(apply, decay.gain)?;
                (self.emit.mul(m, rest)?, self.emit.mul(d, gain)?)
            }
        };
        self.next(part, &parameter.source);
        let next = self.emit.add(kept, new)?;
        self.set_next_state(next)?;
        Ok(next)
    }

    fn sgd(
        &mut self,
        parameter: &Trained,
        factors: &Factors,
        momentum: f64,
        is_nesterov: bool,
    ) -> Result<ValueId> {
        let mut d = parameter.gradient;
        if self.spec.weight_decay > 0.0 && parameter.decays() {
            let decay = self.emit.scale(parameter.value, self.spec.weight_decay)?;
            d = self.emit.add(d, decay)?;
        }
        let mut direction = d;
        if momentum > 0.0 {
            let m = self.moment(
                parameter,
                "momentum",
                Decay { beta: momentum, gain: 1.0 },
                d,
                factors.apply,
            )?;
            direction = m;
            if is_nesterov {
                let ahead = self.emit.scale(m, momentum)?;
                direction = self.emit.add(d, ahead)?;
            }
        }
        let change = self.emit.mul(direction, factors.pace)?;
        self.finish(parameter, parameter.value, change)
    }

    fn adamw(
        &mut self,
        parameter: &Trained,
        factors: &Factors,
        betas: [f64; 2],
        epsilon: f64,
    ) -> Result<ValueId> {
        let g = parameter.gradient;
        let first = Decay { beta: betas[0], gain: 1.0 - betas[0] };
        let m = self.moment(parameter, "first_moment", first, g, factors.apply)?;
        let square = self.emit.mul(g, g)?;
        let second = Decay { beta: betas[1], gain: 1.0 - betas[1] };
        let v = self.moment(parameter, "second_moment", second, square, factors.apply)?;
        let mut root = self.emit.call("Sqrt", &[v])?;
        if let Some(second) = factors.second {
            root = self.emit.mul(root, second)?;
        }
        let size = self.emit.shift(root, epsilon)?;
        let direction = self.emit.div(m, size)?;
        let change = self.emit.mul(direction, factors.pace)?;
        let base = match factors.kept.filter(|_| parameter.decays()) {
            Some(kept) => self.emit.mul(parameter.value, kept)?,
            None => parameter.value,
        };
        self.finish(parameter, base, change)
    }

    fn finish(&mut self, parameter: &Trained, base: ValueId, change: ValueId) -> Result<ValueId> {
        self.record(StateKind::Parameter, parameter.value, &parameter.source, &parameter.initial);
        self.next("next", &parameter.source);
        let next = self.emit.add(base, change)?;
        self.set_next_state(next)?;
        Ok(next)
    }

    /// Writes e ← e + apply·(1 − d)·(p − e), if the step keeps averages.
    pub fn average(&mut self, source: &str, initial: &Tensor, next: ValueId) -> Result<()> {
        let Some(decay) = self.spec.average else { return Ok(()) };
        let ty = TensorType::fixed(initial.dtype(), initial.dims());
        let name = format!("average.{source}");
        let e = self.emit.graph_mut().add_input(&name, &ty);
        self.record(StateKind::Average, e, source, initial);
        let apart = self.emit.sub(next, e)?;
        let mut part = self.emit.scale(apart, 1.0 - decay)?;
        if let Some(apply) = self.controls.apply {
            let apply = self.emit.cast(apply, initial.dtype())?;
            part = self.emit.mul(part, apply)?;
        }
        self.next("average", source);
        let next = self.emit.add(e, part)?;
        self.set_next_state(next)
    }

    /// Adds a new state of a parameter. The next call of [`Update::set_next_state`] sets its next value.
    fn state(
        &mut self,
        kind: StateKind,
        part: &str,
        parameter: &Trained,
        initial: &Tensor,
    ) -> ValueId {
        let ty = TensorType::fixed(initial.dtype(), initial.dims());
        let name = format!("{part}.{}", parameter.source);
        let value = self.emit.graph_mut().add_input(&name, &ty);
        self.record(kind, value, &parameter.source, initial);
        value
    }

    /// Records a state whose input already exists. The next call of [`Update::set_next_state`] sets its next value.
    pub fn record(&mut self, kind: StateKind, value: ValueId, source: &str, initial: &Tensor) {
        self.states.push(State {
            input: self.emit.name(value),
            output: String::new(),
            kind,
            source: source.to_owned(),
            initial: initial.clone(),
        });
    }

    /// Makes the name of the next node the name of the next value of a state.
    pub fn next(&mut self, part: &str, source: &str) {
        let name =
            if part == "next" { format!("next.{source}") } else { format!("next.{part}.{source}") };
        self.emit.name_next(&name);
    }

    /// Sets the next value of the state that was recorded last. The state keeps its value when the gradients of the
    /// batch are not finite.
    pub fn set_next_state(&mut self, next: ValueId) -> Result<()> {
        let mut next = next;
        if let (Some(is_bad), Some(state)) = (self.is_bad, self.states.last())
            && (!self.spec.accumulates || state.kind == StateKind::Statistic)
            && let Some(current) = self.emit.graph().find(&state.input)
        {
            let name = self.emit.name(next);
            self.emit.name_next(&format!("{name}.kept"));
            next = self.emit.call("Where", &[is_bad, current, next])?;
        }
        let ty = TensorType::fixed(self.emit.dtype(next)?, &self.emit.dims(next)?);
        if let Some(state) = self.states.last_mut() {
            state.output = self.emit.name(next);
        }
        self.outputs.push((next, ty));
        Ok(())
    }
}

/// Zeros with the type and dims of a tensor.
fn zeros(like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::from_f64(like.dtype(), like.dims().to_vec(), &vec![0.0; like.len()])?)
}

/// Whether a norm is NaN or infinite, as a truth value `[]`.
fn is_not_finite(emit: &mut Emit<'_>, norm: ValueId) -> Result<ValueId> {
    emit.set_scope("scale");
    // ∞ − ∞ is NaN.
    let apart = emit.sub(norm, norm)?;
    emit.call("IsNaN", &[apart])
}
