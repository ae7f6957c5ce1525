//! Builds a training step: loss, gradients and updates behind the forward pass.

use std::collections::BTreeSet;

use updp_ir::{DataType, Model, NodeId, Tensor, TensorType, ValueId, order, view};

use super::loss::Loss;
use super::optimizer::{Controls, Trained, Update};
use super::scale::Scale;
use super::spec::StepSpec;
use super::state::StateKind;
use super::training_step::{StepNames, TrainingStep};
use super::{parameters, prepare};
use crate::driver::gradients;
use crate::emit::Emit;
use crate::error::{AutodiffError, Result};
use crate::train_form::{self, TrainForm};

impl TrainingStep {
    /// Builds the step of a network whose inputs have fixed sizes. Extra inputs, such as λ, stay inputs.
    ///
    /// The step trains every float initializer that is read as a weight and affects the loss, except the frozen ones.
    ///
    /// # Errors
    /// T0301 to T0305 for a network that cannot be differentiated, T0306 for a BatchNormalization with one value per
    /// channel, T0307 for a network without parameters, T0308 when the outputs do not fit the objective, T0310 for a
    /// setting out of range.
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
        let mut loss = Loss::write(&mut emit, &spec.objective, &outputs)?;
        for features in &spec.features {
            loss.add_features(&mut emit, features)?;
        }
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
        let names = StepNames {
            targets: loss.targets.map(name),
            teachers: loss.teachers.iter().copied().map(name).collect(),
            features: loss.features.iter().copied().map(name).collect(),
            learning_rate: name(controls.learning_rate),
            step: controls.step.map(name),
            apply: controls.apply.map(name),
            share: controls.share.map(name),
            loss: name(reported),
            correct: loss.correct.map(name),
            gradient_norm: name(norm),
        };
        let step = Self { model, states, network_inputs, network_outputs, names, alternatives };
        step.model.validate()?;
        Ok(step)
    }
}

/// Turns the candidates that the loss depends on into inputs.
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

/// Makes the loss, the number of correct images and the norm graph outputs. Returns the loss in the form of the output.
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

/// Turns an initializer into a graph input that all its readers read. Returns the name, the tensor and the input.
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

/// Records the running statistics as states.
fn statistics(update: &mut Update<'_, '_>, form: &TrainForm) -> Result<()> {
    for (_, norm) in form.norms() {
        let pairs = [(norm.running_mean, norm.next_mean), (norm.running_var, norm.next_var)];
        for (running, next) in pairs {
            let (source, initial, input) = as_input(update.emit, running)?;
            update.record(StateKind::Statistic, input, &source, &initial);
            update.set_next_state(next)?;
            update.average(&source, &initial, next)?;
        }
    }
    Ok(())
}
