//! Predictions of a network for single images.

use indexmap::IndexSet;
use updp_exec::Executor;
use updp_ir::Tensor;

use crate::error::TrainerError;
use crate::evaluator::{first_class, is_among_five, main_output};
use crate::fit::floats;
use crate::images::Images;

/// Prediction of a network for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The class with the highest score; `None` when a score is not finite.
    pub class: Option<usize>,
    /// The image's own class; `None` without labels.
    pub label: Option<usize>,
    /// Whether fewer than five classes rank before the label.
    pub is_among_five: bool,
}

impl Prediction {
    fn of(scores: &[f32], label: Option<usize>) -> Self {
        let is_finite = scores.iter().all(|score| score.is_finite());
        let among_five = label.is_some_and(|label| is_among_five(scores, label));
        let class = is_finite.then(|| first_class(scores));
        Self { class, label, is_among_five: is_finite && among_five }
    }

    /// Whether the predicted class is the label.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.label.is_some() && self.class == self.label
    }
}

/// What a network says of all images of a data set, in its order.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Classes that the network tells apart.
    pub classes: usize,
    /// One entry an image that could be read.
    pub images: Vec<Prediction>,
    /// Names of the images of `images`.
    pub names: Vec<String>,
    /// Names of images that could not be read, with the reasons.
    pub skipped: Vec<String>,
}

impl Predictions {
    /// Whether no image has finite scores.
    #[must_use]
    pub fn is_never_finite(&self) -> bool {
        self.images.iter().all(|image| image.class.is_none())
    }

    /// Runs a network over all images. `progress` hears how many are done and says whether to go on.
    ///
    /// A network of fixed batch gets its last batch filled up with copies of the last image.
    ///
    /// # Errors
    /// T0003 when the network's output is no row of class scores, T0004 when there are no images; what reading and running
    /// refuse. `Ok(None)` when `progress` ends the work.
    pub fn of(
        executor: &mut dyn Executor,
        images: &Images,
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Self>, TrainerError> {
        let mut batches = images.all()?;
        let (mut classes, mut all) = (0, Vec::new());
        for batch in batches.by_ref() {
            let batch = batch?;
            let count = batch.images.dims().first().copied().unwrap_or(0);
            let size = images.fixed_batch().map_or(count, |_| images.batch());
            let inputs = images.inputs(filled(batch.images, size));
            let outputs = executor.run(&inputs)?;
            let name = main_output(&outputs, size).ok_or(TrainerError::NoOutput)?;
            let scores = outputs.get(&name).filter(|tensor| tensor.dims().len() == 2);
            let scores = scores.ok_or(TrainerError::NoOutput)?;
            classes = scores.dims()[1];
            let values = floats(scores).ok_or(TrainerError::NoOutput)?;
            let rows = values.chunks_exact(classes.max(1)).take(count);
            all.extend(rows.enumerate().map(|(at, row)| {
                let label = batch.labels.as_ref().and_then(|labels| labels.get(at)).copied();
                Prediction::of(row, label)
            }));
            if !progress(all.len()) {
                return Ok(None);
            }
        }
        if all.is_empty() {
            return Err(TrainerError::TooFew { found: 0, needed: 1 });
        }
        let lost: IndexSet<&str> = batches.skipped().iter().map(|it| it.name.as_str()).collect();
        let dataset = images.dataset();
        let names = (0..dataset.len()).filter_map(|at| dataset.name(at));
        Ok(Some(Self {
            classes,
            images: all,
            names: names.filter(|name| !lost.contains(name.as_str())).collect(),
            skipped: batches
                .skipped()
                .iter()
                .map(|it| format!("{}: {}", it.name, it.reason))
                .collect(),
        }))
    }
}

/// The tensor with copies of its last row behind it, up to `size` rows.
pub(crate) fn filled(tensor: Tensor, size: usize) -> Tensor {
    let rows = tensor.dims().first().copied().unwrap_or(0);
    if rows == 0 || rows >= size {
        return tensor;
    }
    let row = tensor.bytes().len() / rows;
    let mut bytes = tensor.bytes().to_vec();
    let last = bytes[(rows - 1) * row..].to_vec();
    for _ in rows..size {
        bytes.extend_from_slice(&last);
    }
    let mut dims = tensor.dims().to_vec();
    dims[0] = size;
    Tensor::new(tensor.dtype(), dims, bytes.into()).unwrap_or(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_filled_up_with_its_last_row() {
        let tensor = Tensor::from_f32(vec![2, 2], &[1.0, 2.0, 3.0, 4.0]).expect("four elements");
        let filled = filled(tensor.clone(), 4);
        assert_eq!(filled.dims(), [4, 2]);
        let values = floats(&filled).expect("floats").into_owned();
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0]);
        assert_eq!(super::filled(tensor.clone(), 2), tensor);
    }

    #[test]
    fn scores_that_are_not_finite_are_never_right() {
        let right = Prediction::of(&[0.0, 2.0, 1.0], Some(1));
        assert!(right.is_right() && right.is_among_five && right.class == Some(1));
        let lost = Prediction::of(&[0.0, 2.0, f32::NAN], Some(1));
        assert!(!lost.is_right() && !lost.is_among_five && lost.class.is_none());
        assert!(!Prediction::of(&[0.0, 2.0], None).is_right());
    }
}
