//! More images for the fit: mixtures of two calibration images.
//!
//! The fit copies the original's activations, so any input of the right kind is a sample. A mixture `a·x + (1 − a)·x′`
//! with `a` uniform in `[0, 1]` (mixup, arXiv 1710.09412) needs no knowledge of what the images show. Few images make few
//! rows at the end of a network, where maps are small; mixtures add different rows there.

use indexmap::IndexMap;
use updp_ir::{DataType, Tensor};

use super::rows::floats;
use crate::error::TrainerError;
use crate::run::{Batch, BatchSource, CachedBatches};
use crate::seed::Generator;

/// Mixtures are added up to this number of images.
const IMAGES: usize = 1000;

/// Each batch is mixed at most this many times.
const ROUNDS: usize = 3;

/// The images of a source, and mixtures behind them. Both images of a mixture come from the same batch, and the batch
/// with the mixtures belongs to the same fold: batch `b` belongs to fold `b mod folds`. `None` if no mixtures are needed, or
/// if the images take more than `most` bytes.
///
/// # Errors
/// Errors of reading the images.
pub fn with_mixtures(
    source: &dyn BatchSource,
    folds: usize,
    most: usize,
    seed: u64,
) -> Result<Option<CachedBatches>, TrainerError> {
    let wanted = IMAGES.saturating_sub(source.images());
    let Some(mut held) = CachedBatches::within(source, 1, most)?.filter(|_| wanted > 0) else {
        return Ok(None);
    };
    let mut bytes: usize = held.batches.iter().map(Batch::bytes).sum();
    let mut random = Generator::new(seed ^ 0x6d69_7875);
    let (count, mut made) = (held.batches.len(), 0);
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); folds.max(1)];
    for batch in (0..ROUNDS).flat_map(|_| 0..count) {
        waiting[batch % folds.max(1)].push(batch);
    }
    for own in &mut waiting {
        own.reverse();
    }
    while made < wanted {
        let fold = held.batches.len() % folds.max(1);
        let Some(next) = waiting[fold].pop() else { break };
        let Some(mixed) = mixed(&held.batches[next], &mut random) else { break };
        bytes += mixed.bytes();
        if bytes > most {
            break;
        }
        made += mixed.images();
        held.batches.push(mixed);
    }
    Ok((made > 0).then_some(held))
}

/// Each image of a batch mixed with another one; `None` if there is one image, or images are not floats.
fn mixed(batch: &Batch, random: &mut Generator) -> Option<Batch> {
    let images = batch.images();
    if images < 2 {
        return None;
    }
    let mut partners: Vec<usize> = (0..images).collect();
    random.shuffle(&mut partners);
    let shares: Vec<f32> =
        (0..images).map(|_| random.below(1 << 20) as f32 / (1 << 20) as f32).collect();
    // The images come first. Other inputs are the same for all images.
    let inputs = batch.inputs.iter().enumerate().map(|(at, (name, tensor))| {
        if at > 0 {
            return Some((name.clone(), tensor.clone()));
        }
        let is_float = tensor.dtype() == DataType::Float && tensor.dims().first() == Some(&images);
        let values = floats(tensor).filter(|_| is_float)?;
        let size = values.len() / images;
        let mut made = Vec::with_capacity(values.len());
        for (image, (partner, share)) in partners.iter().zip(&shares).enumerate() {
            let pair = values[image * size..][..size].iter().zip(&values[partner * size..][..size]);
            made.extend(pair.map(|(own, other)| share * own + (1.0 - share) * other));
        }
        Some((name.clone(), Tensor::from_f32(tensor.dims().to_vec(), &made).ok()?))
    });
    Some(Batch::new(inputs.collect::<Option<IndexMap<_, _>>>()?, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of two images; the first value of an image is its number.
    fn batches(count: usize) -> CachedBatches {
        let batch = |at: usize| {
            let values = [2.0 * at as f32, 1.0, 2.0 * at as f32 + 1.0, 1.0];
            let tensor = Tensor::from_f32(vec![2, 2], &values).expect("fits");
            Batch::new(IndexMap::from([("x".to_owned(), tensor)]), None)
        };
        CachedBatches { batches: (0..count).map(batch).collect() }
    }

    #[test]
    fn a_mixture_lies_between_two_images_of_its_own_fold() {
        let folds = 4;
        let source = batches(10);
        let found = with_mixtures(&source, folds, usize::MAX, 0).unwrap().expect("few images");
        assert!(found.batches.len() > 30, "{} batches", found.batches.len());
        let mut is_between = false;
        for (at, batch) in found.batches.iter().enumerate().skip(10) {
            for row in floats(&batch.inputs["x"]).unwrap().chunks_exact(2) {
                assert_eq!(row[1], 1.0);
                let pair = (row[0] / 2.0).floor() as usize;
                assert_eq!(pair % folds, at % folds, "batch {at} holds {row:?}");
                is_between |= row[0].fract() != 0.0;
            }
        }
        assert!(is_between);
    }

    #[test]
    fn many_images_and_large_ones_stay_alone() {
        assert!(with_mixtures(&batches(500), 4, usize::MAX, 0).unwrap().is_none());
        assert!(with_mixtures(&batches(10), 4, 100, 0).unwrap().is_none());
        let few = with_mixtures(&batches(10), 4, 200, 0).unwrap().expect("room for two batches");
        assert_eq!(few.batches.len(), 12);
    }
}
