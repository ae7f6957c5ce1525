//! One training step as one plain ONNX model: forward pass, loss, gradients, optimizer.
//!
//! The model maps its inputs — those of the network, labels or what a teacher gives, the learning rate, and the state — to
//! the network's outputs, the loss, and the next state. A trainer feeds the outputs back as inputs; nothing else
//! changes from step to step, so one session serves a whole training, and [`TrainingStep::settle`] puts the end into the
//! network it began with.

mod loss;
mod optimizer;
mod parameters;
mod prepare;
mod recompute;
mod scale;
mod settle;
mod spec;

pub use recompute::Recomputed;
pub use settle::Settled;
pub use spec::{Distance, Objective, Optimizer, StepSpec};

use std::collections::BTreeSet;

use updp_ir::{DataType, Model, NodeId, Tensor, TensorType, ValueId, order, view};

use crate::alternative::Alternative;
use crate::driver::gradients;
use crate::emit::Emit;
use crate::error::{AutodiffError, Result};
use crate::train_form::{self, TrainForm};
use loss::Loss;
use optimizer::{Controls, Trained, Update};
use scale::Scale;

/// What a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKind {
    /// A trained tensor.
    Parameter,
    /// A running mean or variance: updated, not trained.
    Statistic,
    /// A moment of the optimizer.
    Moment,
    /// A moving average of a parameter or a statistic.
    Average,
    /// Gradients of batches that have made no update yet.
    Gradient,
    /// The scale of the loss, or what it goes by.
    Scale,
}

/// A tensor that goes from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Name of the step's input that takes it.
    pub input: String,
    /// Name of the step's output that gives the next one.
    pub output: String,
    /// What it is.
    pub kind: StateKind,
    /// Name of the initializer of the network it belongs to.
    pub source: String,
    /// What it is before the first step: the network's tensor, or zeros.
    pub initial: Tensor,
}

/// A training step. Every name is that of an input or output of `model`.
#[derive(Debug)]
pub struct TrainingStep {
    /// The step; its outputs begin with those of the network.
    pub model: Model,
    /// Everything that goes from step to step, in a fixed order.
    pub states: Vec<State>,
    /// Inputs of the network, such as images and λ.
    pub network_inputs: Vec<String>,
    /// Outputs of the network.
    pub network_outputs: Vec<String>,
    /// Soft labels `[N, classes]`, where the objective has labels.
    pub targets: Option<String>,
    /// Outputs of a teacher, where the objective has one: one input, or one an output of the network.
    pub teachers: Vec<String>,
    /// The learning rate, f32 `[]`.
    pub learning_rate: String,
    /// The number of this update counted from 1, f32 `[]`; AdamW alone needs it.
    pub step: Option<String>,
    /// Whether this batch makes the update (1) or only adds its gradients (0), f32 `[]`; with accumulation.
    pub apply: Option<String>,
    /// Weight of this batch in the gradient, such as 1 / number of batches, f32 `[]`; with accumulation.
    pub share: Option<String>,
    /// The loss of the batch, f32 `[]`.
    pub loss: String,
    /// Images whose largest score stands where the largest label (else: the teacher's largest score) does, f32 `[]`;
    /// where the objective has scores.
    pub correct: Option<String>,
    /// Norm of all gradients together before clipping, f32 `[]`.
    pub gradient_norm: String,
    /// What operators of ours compute as well.
    pub(crate) alternatives: Vec<Alternative>,
}

impl TrainingStep {
    /// Builds the step of a network whose inputs have fixed sizes; extra inputs, such as λ, stay inputs.
    ///
    /// Trained is every float initializer that is read as a weight and that the loss depends on, except the frozen ones.
    ///
    /// # Errors
    /// T0301 to T0305 for a network that cannot be differentiated, T0306 for a BatchNormalization with one value a
    /// channel, T0307 without parameters, T0308 when the outputs do not fit the objective, T0310 for a setting out of
    /// range.
    pub fn build(mut model: Model, spec: &StepSpec) -> Result<Self> {
        spec.validate()?;
        prepare::prepare(&mut model)?;
        let network_inputs = names(&model, model.graph.required_inputs());
        let network_outputs = names(&model, model.graph.outputs());
        let candidates = parameters::parameters(&model.graph, &spec.frozen);
        let norms = norms(&model, spec)?;
        let mut emit = Emit::new(&mut model)?;
        let form = match spec.batch_norm_momentum {
            Some(momentum) => train_form::write(&mut emit, &norms, momentum)?,
            None => TrainForm::default(),
        };
        let outputs = float_outputs(&emit);
        let loss = Loss::write(&mut emit, &spec.objective, &outputs)?;
        let scale = spec.scales_loss.then(|| Scale::write(&mut emit));
        let seed = match scale {
            Some(scale) => {
                let dtype = emit.dtype(loss.value)?;
                emit.cast(scale.value, dtype)?
            }
            None => emit.scalar(loss.value, 1.0)?,
        };
        let found = gradients(&mut emit, &form, &[(loss.value, seed)], &candidates)?;
        let mut trained = trained(&mut emit, &candidates, &found)?;
        if let Some(scale) = scale {
            scale.unscale(&mut emit, &mut trained)?;
        }
        let controls = Controls::write(&mut emit, spec);
        let (states, outputs) = (Vec::new(), Vec::new());
        let mut update = Update { emit: &mut emit, spec, controls, is_bad: None, states, outputs };
        let norm = update.gradients(&mut trained)?;
        update.parameters(&trained)?;
        statistics(&mut update, &form)?;
        if let (Some(scale), Some(is_bad)) = (scale, update.is_bad) {
            scale.next(&mut update, is_bad)?;
        }
        let Update { states, outputs: next, .. } = update;
        let reported = report(&mut emit, &loss, norm)?;
        for (value, ty) in next {
            emit.graph_mut().add_output(value, &ty)?;
        }
        let alternatives = emit.take_alternatives();
        let name = |value: ValueId| emit.name(value);
        let step = Self {
            alternatives,
            states,
            network_inputs,
            network_outputs,
            targets: loss.targets.map(name),
            teachers: loss.teachers.iter().copied().map(name).collect(),
            learning_rate: name(controls.learning_rate),
            step: controls.step.map(name),
            apply: controls.apply.map(name),
            share: controls.share.map(name),
            loss: name(reported),
            correct: loss.correct.map(name),
            gradient_norm: name(norm),
            model,
        };
        step.model.validate()?;
        Ok(step)
    }
}

/// The candidates that the loss depends on, turned into inputs.
fn trained(
    emit: &mut Emit<'_>,
    candidates: &[ValueId],
    gradients: &[Option<ValueId>],
) -> Result<Vec<Trained>> {
    let mut trained = Vec::new();
    for (value, gradient) in candidates.iter().zip(gradients) {
        if let Some(gradient) = *gradient {
            let (source, initial, value) = as_input(emit, *value)?;
            trained.push(Trained { value, source, initial, gradient });
        }
    }
    if trained.is_empty() { Err(AutodiffError::NoParameter) } else { Ok(trained) }
}

/// Gives loss, correct images and norm as outputs; the loss under its name.
fn report(emit: &mut Emit<'_>, loss: &Loss, norm: ValueId) -> Result<ValueId> {
    let number = TensorType::fixed(DataType::Float, &[]);
    let value = emit.cast(loss.value, DataType::Float)?;
    emit.name_next("loss");
    let value = emit.call("Identity", &[value])?;
    for output in [Some(value), loss.correct, Some(norm)].into_iter().flatten() {
        emit.graph_mut().add_output(output, &number)?;
    }
    Ok(value)
}

fn names(model: &Model, values: impl Iterator<Item = ValueId>) -> Vec<String> {
    values.map(|value| model.graph.value(value).name().to_owned()).collect()
}

fn float_outputs(emit: &Emit<'_>) -> Vec<ValueId> {
    let is_float = |value: &ValueId| emit.dtype(*value).is_ok_and(DataType::is_foldable_float);
    emit.graph().outputs().filter(is_float).collect()
}

/// BatchNormalizations that the outputs depend on and whose running statistics are initializers of their own.
fn norms(model: &Model, spec: &StepSpec) -> Result<Vec<NodeId>> {
    let graph = &model.graph;
    let opset = model.opset("").unwrap_or(0);
    let mut needed: BTreeSet<ValueId> = graph.outputs().collect();
    let mut norms = Vec::new();
    for node in order::topological(graph)?.into_iter().rev() {
        if !graph.results(node).into_iter().flatten().any(|value| needed.contains(&value)) {
            continue;
        }
        needed.extend(graph.operands(node).into_iter().flatten());
        let Some(norm) = view::BatchNorm::of(graph, node, opset) else { continue };
        let is_free = |value: ValueId| {
            graph.constant_initializer(value).is_some()
                && !spec.frozen.iter().any(|name| name == graph.value(value).name())
        };
        if is_free(norm.mean) && is_free(norm.var) {
            norms.push(node);
        }
    }
    norms.reverse();
    Ok(norms)
}

/// Turns an initializer into a graph input that all its readers read: name, tensor, input.
fn as_input(emit: &mut Emit<'_>, value: ValueId) -> Result<(String, Tensor, ValueId)> {
    let name = emit.name(value);
    let tensor = emit.graph().constant_initializer(value).cloned();
    let tensor = tensor.ok_or(updp_ir::IrError::StaleId)?;
    let ty = TensorType::fixed(tensor.dtype(), tensor.dims());
    let graph = emit.graph_mut();
    let input = graph.add_input(&format!("current.{name}"), &ty);
    graph.redirect_uses(value, input)?;
    graph.remove_initializer(value)?;
    emit.rename_in_alternatives(&name, input);
    Ok((name, tensor, input))
}

/// The running statistics as states.
fn statistics(update: &mut Update<'_, '_>, form: &TrainForm) -> Result<()> {
    for (_, norm) in form.norms() {
        let pairs = [(norm.running_mean, norm.next_mean), (norm.running_var, norm.next_var)];
        for (running, next) in pairs {
            let (source, initial, input) = as_input(update.emit, running)?;
            update.record(StateKind::Statistic, input, &source, &initial);
            update.give(next)?;
            update.average(&source, &initial, next)?;
        }
    }
    Ok(())
}
