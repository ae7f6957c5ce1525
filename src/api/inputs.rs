//! Models with several inputs and outputs: names that exist, and what each input gets.

use updp_ir::Model;
use updp_passes::surgery;
use updp_trainer::data::{Dataset, ModelInputs, Preprocess};
use updp_trainer::evaluator::OutputWeights;
use updp_trainer::images::Images;
use updp_trainer::other_inputs::OtherInput;

use super::{Error, Observer, near};

/// Refuses names of inputs that the model does not have.
///
/// # Errors
/// C0001, with the name and near ones.
pub(super) fn refuse_unknown_inputs(model: &Model, inputs: &ModelInputs) -> Result<(), Error> {
    let graph = &model.graph;
    let known: Vec<&str> =
        surgery::data_inputs(model).into_iter().map(|input| graph.value(input).name()).collect();
    let image = inputs.image.iter().map(|name| ("--image-input", name));
    let named = image.chain(inputs.constants.keys().map(|name| ("--input", name)));
    for (option, name) in named {
        if !known.contains(&name.as_str()) {
            let near = near::told(name, &known);
            let detail = format!("{option}: the model has no input {name:?}{near}");
            return Err(Error::Usage { detail });
        }
    }
    Ok(())
}

/// Refuses names of outputs that the model does not have.
///
/// # Errors
/// C0001, with the name and near ones.
pub(super) fn refuse_unknown_outputs(model: &Model, outputs: &OutputWeights) -> Result<(), Error> {
    let graph = &model.graph;
    let known: Vec<&str> = graph.outputs().map(|output| graph.value(output).name()).collect();
    match outputs.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let near = near::told(name, &known);
            let detail = format!("--outputs: the model has no output {name:?}{near}");
            Err(Error::Usage { detail })
        }
    }
}

/// Says what each input of a model with several inputs gets.
///
/// # Errors
/// T0001, T0010, T0107 and T0108 when the inputs do not fit.
pub(super) fn tell_inputs(
    model: &Model,
    dataset: &Dataset,
    preprocess: &Preprocess,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    let images = Images::new(model, dataset.sample(1, 0), preprocess)?;
    let told = |other: &OtherInput| format!("{:?} {:?}", other.name(), other.dims());
    let of = |is_given: bool| {
        let others = images.others().iter().filter(|other| other.is_given() == is_given);
        others.map(told).collect::<Vec<_>>().join(", ")
    };
    let (given, ones) = (of(true), of(false));
    if !images.others().is_empty() {
        let (name, dims) = (images.input(), images.spec().row_dims());
        observer.message(&format!("the input {name:?} takes the images, {dims:?} each"));
    }
    if !given.is_empty() {
        observer.message(&format!("other inputs with the arrays of --input: {given}"));
    }
    if !ones.is_empty() {
        observer.warning(&format!(
            "other inputs get ones: {ones}; --input NAME=FILE.npy gives what the model gets in use"
        ));
    }
    Ok(())
}
