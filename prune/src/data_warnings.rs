//! What the report says of the images and the inputs, beside scores.

use updp_trainer::evaluator::Score;
use updp_trainer::images::Images;
use updp_trainer::input_check::is_near_chance;
use updp_trainer::other_inputs::OtherInput;

use crate::context::Context;

/// Possible problems with the images or the preprocessing, in sentences.
pub(crate) fn data_warnings(cx: &Context<'_>, baseline: &Score) -> Vec<String> {
    let classes = cx.evaluator.classes();
    let (names, has_labels) = (&cx.images.classes, cx.evaluator.has_labels());
    let mut told = Vec::new();
    if !names.is_empty() && !has_labels {
        told.push(format!(
            "the data have {} classes and the model {}: labels are not used",
            names.len(),
            classes.map_or_else(|| "no class head".to_owned(), |count| count.to_string())
        ));
    } else if has_labels && classes.is_some_and(|count| count != names.len()) {
        told.push(format!(
            "the data have {} classes and the model {}: class numbers may not be the model's",
            names.len(),
            classes.unwrap_or(0)
        ));
    }
    if let (Some(accuracy), Some(classes)) = (baseline.accuracy, classes)
        && is_near_chance(accuracy, classes)
    {
        told.push(format!(
            "WARNING: the model itself has only {:.1} % on these data, near chance; a wrong --preprocess is the usual cause, and the order of the classes the next",
            100.0 * accuracy
        ));
    }
    told.extend(other_inputs(&cx.images.calibration));
    if let Some((height, width)) = cx.image_size {
        told.push(format!(
            "the model takes images of any size; latencies and multiply-adds of blocks are those of {height}x{width} pixels"
        ));
    }
    if cx.opened_inputs.is_none() {
        told.push("the batch of the model is fixed, and it is run so".to_owned());
    }
    told
}

/// What the inputs beside the images get, in a sentence; `None` if there are none.
fn other_inputs(images: &Images) -> Option<String> {
    let told = |other: &OtherInput| {
        let kind = if other.is_given() { "the given array" } else { "ones" };
        format!("{:?} {:?} gets {kind}", other.name(), other.dims())
    };
    let others: Vec<String> = images.others().iter().map(told).collect();
    (!others.is_empty()).then(|| {
        format!(
            "images go to the input {:?}, {:?} each; {}",
            images.input(),
            images.spec().row_dims(),
            others.join(", ")
        )
    })
}
