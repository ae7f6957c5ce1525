//! How much a model amplifies rounding: it runs again with inputs and weights that are changed in their last bits.

use indexmap::IndexMap;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;
use updp_exec::{ExecError, Executor, compare_tensors};
use updp_ir::proto::TensorProto;
use updp_ir::{DataType, Tensor};

/// Relative change of the inputs: eight units in the last place of f32, about what rounding adds up to in a deep network.
pub const INPUT_CHANGE: f64 = 1e-6;
/// Number of changed runs.
pub const SEEDS: u64 = 4;
/// A difference of up to this multiple of the measured noise counts as rounding.
pub const FACTOR: f64 = 4.0;
/// The noise never excuses a relative difference above this one.
pub const CEILING: f64 = 0.1;

/// The difference that a measured noise excuses.
#[must_use]
pub fn allowance(noise: f64) -> f64 {
    (FACTOR * noise).min(CEILING)
}

/// Whether the noise is so large that values decide nothing.
#[must_use]
pub fn is_chaotic(noise: f64) -> bool {
    FACTOR * noise > CEILING
}

/// Largest relative difference that the model makes of inputs changed by [`INPUT_CHANGE`], by output; float outputs only.
///
/// # Errors
/// The error of the executor.
pub fn of_outputs(
    executor: &mut dyn Executor,
    inputs: &IndexMap<String, Tensor>,
    outputs: &IndexMap<String, Tensor>,
) -> Result<IndexMap<String, f64>, ExecError> {
    let mut noise = IndexMap::new();
    for seed in 0..SEEDS {
        let Some(changed) = changed(inputs, seed, INPUT_CHANGE) else { break };
        let results = executor.run(&changed)?;
        for (name, expected) in outputs.iter().filter(|(_, it)| it.dtype().is_foldable_float()) {
            let Some(found) = results.get(name) else { continue };
            let relative = compare_tensors(expected, found).relative();
            let most: &mut f64 = noise.entry(name.clone()).or_insert(0.0);
            *most = most.max(relative);
        }
    }
    Ok(noise)
}

/// The float tensors times 1 ± `size`, with a random sign per element; `None` without float tensors.
#[must_use]
pub fn changed(
    tensors: &IndexMap<String, Tensor>,
    seed: u64,
    size: f64,
) -> Option<IndexMap<String, Tensor>> {
    let mut random = Pcg64Mcg::new(0x9e37_79b9_7f4a_7c15 << 64 | u128::from(seed));
    let mut any = false;
    let changed = tensors.iter().map(|(name, tensor)| {
        if !tensor.dtype().is_foldable_float() {
            return Some((name.clone(), tensor.clone()));
        }
        any = true;
        Some((name.clone(), changed_tensor(tensor, &mut random, size)?))
    });
    let changed = changed.collect::<Option<IndexMap<_, _>>>()?;
    any.then_some(changed)
}

/// A float tensor times 1 ± `size`, with a random sign per element; `None` for other tensors.
pub(crate) fn changed_tensor(tensor: &Tensor, random: &mut Pcg64Mcg, size: f64) -> Option<Tensor> {
    let mut values = tensor.to_f64()?;
    for value in &mut values {
        *value *= if random.next_u32() & 1 == 0 { 1.0 + size } else { 1.0 - size };
    }
    Tensor::from_f64(tensor.dtype(), tensor.dims().to_vec(), &values).ok()
}

/// One unit in the last place.
fn unit(dtype: DataType) -> f64 {
    match dtype {
        DataType::Double => f64::EPSILON,
        DataType::Float16 => 9.8e-4,
        DataType::Bfloat16 => 7.9e-3,
        _ => f64::from(f32::EPSILON),
    }
}

/// A float tensor with its elements in another order: steps of a golden section of its length, so that every channel
/// gets elements of all channels.
pub(crate) fn shuffled_tensor(tensor: &Tensor) -> Tensor {
    let width = tensor.dtype().byte_len(1).unwrap_or(0);
    let count = tensor.len();
    if !tensor.dtype().is_foldable_float() || width == 0 || count < 3 {
        return tensor.clone();
    }
    let mut step = (count as f64 * 0.618) as usize;
    while greatest_common_divisor(step, count) != 1 {
        step -= 1;
    }
    let old = tensor.bytes();
    let mut bytes = Vec::with_capacity(old.len());
    let mut at = count / 3;
    for _ in 0..count {
        bytes.extend_from_slice(&old[at * width..(at + 1) * width]);
        at = (at + step) % count;
    }
    let shuffled = Tensor::new(tensor.dtype(), tensor.dims().to_vec(), bytes.into());
    shuffled.unwrap_or_else(|_| tensor.clone())
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The tensor, changed in its last bit where there is a generator.
pub(crate) fn jittered(tensor: &Tensor, random: &mut Option<Pcg64Mcg>) -> Tensor {
    let changed = random
        .as_mut()
        .filter(|_| tensor.dtype().is_foldable_float())
        .and_then(|random| changed_tensor(tensor, random, unit(tensor.dtype())));
    changed.unwrap_or_else(|| tensor.clone())
}

pub(crate) fn jittered_constant(proto: &TensorProto, random: &mut Option<Pcg64Mcg>) -> TensorProto {
    if random.is_none() {
        return proto.clone();
    }
    let tensor = Tensor::from_proto(proto.clone(), None);
    match tensor.map(|tensor| jittered(&tensor, random)) {
        Ok(tensor) => TensorProto { name: proto.name.clone(), ..tensor.proto().clone() },
        Err(_) => proto.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_excuses_a_multiple_of_itself_up_to_the_ceiling() {
        assert!((allowance(1e-3) - 4e-3).abs() < 1e-12 && !is_chaotic(1e-3));
        assert!((allowance(0.5) - CEILING).abs() < 1e-12 && is_chaotic(0.5));
    }

    #[test]
    fn another_order_has_the_same_elements() {
        for count in [3_u16, 4, 7, 64, 100] {
            let values: Vec<f32> = (0..count).map(f32::from).collect();
            let tensor = Tensor::from_f32(vec![1, count.into()], &values).expect("ok");
            let shuffled = shuffled_tensor(&tensor);
            assert_ne!(shuffled, tensor);
            let mut found = shuffled.to_f64().expect("floats");
            found.sort_by(f64::total_cmp);
            assert_eq!(found, tensor.to_f64().expect("floats"));
        }
    }

    #[test]
    fn changes_floats_in_their_last_digits_and_leaves_integers() {
        let floats = Tensor::from_f32(vec![3], &[1.0, -2.0, 0.0]).expect("ok");
        let whole = Tensor::from_i64(vec![1], &[7]).expect("ok");
        let tensors = IndexMap::from([("x".to_owned(), floats), ("n".to_owned(), whole.clone())]);
        let first = changed(&tensors, 0, 1e-3).expect("floats");
        assert_eq!(first["n"], whole);
        let values = first["x"].to_f64().expect("floats");
        assert!((values[0].abs() - 1.0).abs() > 5e-4 && values[2].abs() < f64::MIN_POSITIVE);
        assert!(changed(&IndexMap::from([("n".to_owned(), whole)]), 0, 1e-3).is_none());
    }
}
