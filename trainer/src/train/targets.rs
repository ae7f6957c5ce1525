//! Soft labels: smoothing and class weights.

use super::error::TrainError;

/// Weight of the classes in the loss. The weights are always scaled so that their mean over the images is 1.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub enum ClassWeights {
    /// Every image has the same weight.
    #[default]
    Equal,
    /// Every class has the same total weight: `w_c = N / (C·n_c)`, where C classes have images and class c has `n_c`.
    Balanced,
    /// One weight per class, 0 or more.
    Given(Vec<f64>),
}

/// The row of targets of each class.
#[derive(Debug)]
pub(super) struct Targets {
    /// `t = w_y·((1 − ε)·onehot(y) + ε/classes)` as little-endian f32, by class y.
    rows: Vec<Vec<u8>>,
}

impl Targets {
    /// Makes the rows for the labels; without labels there are no rows.
    ///
    /// # Errors
    /// T0401 for a smoothing or weights out of range, T0407 for a label without a class.
    pub(super) fn new(
        labels: Option<&[usize]>,
        classes: usize,
        smoothing: f64,
        weights: &ClassWeights,
    ) -> Result<Self, TrainError> {
        if !(0.0..1.0).contains(&smoothing) {
            let (setting, expected) = ("the label smoothing", "0 to below 1");
            return Err(TrainError::Setting { setting, found: smoothing.to_string(), expected });
        }
        let Some(labels) = labels else { return Ok(Self { rows: Vec::new() }) };
        let mut counts = vec![0_usize; classes];
        for label in labels {
            let beyond = TrainError::LabelBeyond { label: *label, classes };
            *counts.get_mut(*label).ok_or(beyond)? += 1;
        }
        let row = |(class, weight): (usize, f64)| {
            let spread = smoothing / classes as f64;
            let value = |at| if at == class { 1.0 - smoothing + spread } else { spread };
            (0..classes).flat_map(|at| ((weight * value(at)) as f32).to_le_bytes()).collect()
        };
        let weights = scaled(weights, &counts)?;
        Ok(Self { rows: weights.into_iter().enumerate().map(row).collect() })
    }

    /// Writes the targets of an image of this class; without a class it writes zeros.
    pub(super) fn write(&self, label: Option<usize>, targets: &mut [u8]) {
        match label.and_then(|label| self.rows.get(label)) {
            Some(row) => targets.copy_from_slice(row),
            None => targets.fill(0),
        }
    }
}

/// Scales the weights so that `Σ_c n_c·w_c = N`.
fn scaled(weights: &ClassWeights, counts: &[usize]) -> Result<Vec<f64>, TrainError> {
    let refused = |found: String| {
        let expected = "0 or more for each class, and not 0 for all";
        Err(TrainError::Setting { setting: "the class weights", found, expected })
    };
    let raw: Vec<f64> = match weights {
        ClassWeights::Equal => return Ok(vec![1.0; counts.len()]),
        ClassWeights::Balanced => {
            counts.iter().map(|n| if *n == 0 { 0.0 } else { 1.0 / *n as f64 }).collect()
        }
        ClassWeights::Given(given) => given.clone(),
    };
    if raw.len() != counts.len() {
        return refused(format!("{} for {} classes", raw.len(), counts.len()));
    }
    let total: usize = counts.iter().sum();
    let sum: f64 = raw.iter().zip(counts).map(|(weight, n)| weight * *n as f64).sum();
    let is_valid = |weight: &f64| weight.is_finite() && *weight >= 0.0;
    if !raw.iter().all(is_valid) || sum.is_nan() || sum <= 0.0 {
        return refused(format!("{raw:?}"));
    }
    Ok(raw.into_iter().map(|weight| weight * total as f64 / sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(targets: &Targets, label: Option<usize>) -> Vec<f32> {
        let mut bytes = [1; 16];
        targets.write(label, &mut bytes);
        bytes.as_chunks::<4>().0.iter().map(|cell| f32::from_le_bytes(*cell)).collect()
    }

    #[test]
    fn smoothing_spreads_a_share_over_all_classes() {
        let of = |smoothing| Targets::new(Some(&[0, 3]), 4, smoothing, &ClassWeights::Equal);
        assert_eq!(row(&of(0.0).unwrap(), Some(3)), [0.0, 0.0, 0.0, 1.0]);
        let smooth = row(&of(0.1).unwrap(), Some(1));
        assert_eq!(smooth, [0.025, 0.925, 0.025, 0.025]);
        assert!((smooth.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        for smoothing in [1.0, -0.1, f64::NAN] {
            assert_eq!(of(smoothing).unwrap_err().code(), "T0401");
        }
    }

    #[test]
    fn without_a_label_an_image_has_no_targets() {
        let labelled = Targets::new(Some(&[0]), 4, 0.1, &ClassWeights::Equal).unwrap();
        assert_eq!(row(&labelled, None), [0.0; 4]);
        let unlabelled = Targets::new(None, 4, 0.1, &ClassWeights::Equal).unwrap();
        assert_eq!(row(&unlabelled, None), [0.0; 4]);
    }

    #[test]
    fn weights_make_classes_count_alike_and_keep_the_mean_at_one() {
        // Class 0 has six images, class 2 has two: the weights are 8/(2·6) and 8/(2·2).
        let labels = [0, 0, 0, 2, 0, 0, 2, 0];
        let balanced = Targets::new(Some(&labels), 4, 0.0, &ClassWeights::Balanced).unwrap();
        assert_eq!(row(&balanced, Some(0)), [2.0 / 3.0, 0.0, 0.0, 0.0]);
        assert_eq!(row(&balanced, Some(2)), [0.0, 0.0, 2.0, 0.0]);
        let given = ClassWeights::Given(vec![1.0, 9.0, 5.0, 0.0]);
        let given = Targets::new(Some(&labels), 4, 0.0, &given).unwrap();
        assert_eq!((row(&given, Some(0))[0], row(&given, Some(2))[2]), (0.5, 2.5));
    }

    #[test]
    fn weights_and_labels_that_do_not_fit_are_refused() {
        let given = |weights: &[f64]| {
            let weights = ClassWeights::Given(weights.to_vec());
            Targets::new(Some(&[0, 1]), 2, 0.0, &weights).unwrap_err().code()
        };
        for weights in [&[1.0][..], &[1.0, -1.0], &[0.0, 0.0], &[f64::NAN, 1.0]] {
            assert_eq!(given(weights), "T0401", "{weights:?}");
        }
        let beyond = Targets::new(Some(&[0, 2]), 2, 0.0, &ClassWeights::Equal);
        assert_eq!(beyond.unwrap_err().code(), "T0407");
    }
}
