//! Deterministic inputs for models.

use std::ops::Range;

use indexmap::IndexMap;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;
use updp_ir::{DataType, Tensor};

use crate::error::ExecError;
use crate::inputs::{InputSpec, SymbolSizes};
use crate::ort_value::string_tensor;

/// Maximum size of the sample of one input, in elements.
const MOST_ELEMENTS: usize = 1 << 31;

/// Draws values for every input. The same specs, seed and sizes give the same values on every machine.
///
/// Floats are nearly standard normal (mean 0, variance 1). Integers are 0, 1 or 2, because most
/// integer inputs are indices, axes, class ids or token ids, and small values are valid there. Bools
/// are true or false with equal chance. Strings are one of three words. The values of an input depend
/// on its name, not on the other inputs.
///
/// # Errors
/// X0501 for a dtype that cannot be drawn, X0502 when an input would be too large.
pub fn sample_inputs(
    specs: &[InputSpec],
    seed: u64,
    sizes: &SymbolSizes,
) -> Result<IndexMap<String, Tensor>, ExecError> {
    sample_inputs_in(specs, seed, sizes, 0..3)
}

/// Like [`sample_inputs`], with integers from `integers`.
///
/// # Errors
/// As [`sample_inputs`].
pub fn sample_inputs_in(
    specs: &[InputSpec],
    seed: u64,
    sizes: &SymbolSizes,
    integers: Range<u8>,
) -> Result<IndexMap<String, Tensor>, ExecError> {
    let drawn = |spec: &InputSpec| sample(spec, seed, sizes, &integers);
    specs.iter().map(|spec| Ok((spec.name.clone(), drawn(spec)?))).collect()
}

fn sample(
    spec: &InputSpec,
    seed: u64,
    sizes: &SymbolSizes,
    integers: &Range<u8>,
) -> Result<Tensor, ExecError> {
    let dims: Vec<usize> = (0..spec.dims.len()).map(|axis| sizes.size_of(spec, axis)).collect();
    let too_large = || ExecError::SampleSize { name: spec.name.clone(), dims: dims.clone() };
    let count = dims
        .iter()
        .try_fold(1_usize, |count, dim| count.checked_mul(*dim))
        .filter(|count| *count <= MOST_ELEMENTS)
        .ok_or_else(too_large)?;
    let mut random = generator(seed, &spec.name);
    let dtype = spec.dtype;
    let unknown = || ExecError::SampleDtype { name: spec.name.clone(), dtype };
    if dtype.is_foldable_float() {
        let values: Vec<f64> = (0..count).map(|_| normal(&mut random)).collect();
        return Tensor::from_f64(dtype, dims, &values).map_err(|_| unknown());
    }
    if dtype == DataType::String {
        let words = ["a", "b", "c"];
        let texts = (0..count).map(|_| words[below(&mut random, 3)].to_owned()).collect();
        return string_tensor(&dims, texts).map_err(|_| unknown());
    }
    let range = match dtype {
        DataType::Bool => 0..2,
        _ if dtype.is_integer() => integers.clone(),
        _ => return Err(unknown()),
    };
    let width = dtype.byte_len(1).ok_or_else(unknown)?;
    let mut bytes = vec![0_u8; count * width];
    for element in bytes.chunks_exact_mut(width) {
        element[0] = range.start + below(&mut random, range.len().max(1)) as u8;
    }
    Tensor::new(dtype, dims, bytes.into()).map_err(|_| unknown())
}

/// A generator for one input (FNV-1a of the name, mixed with the seed).
fn generator(seed: u64, name: &str) -> Pcg64Mcg {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Pcg64Mcg::new(u128::from(hash) << 64 | u128::from(seed))
}

/// Sum of twelve uniform numbers minus 6. Its variance is 1, and it is exact in f64, so every machine gets the same.
fn normal(random: &mut Pcg64Mcg) -> f64 {
    let sum: u64 = (0..12).map(|_| u64::from(random.next_u32())).sum();
    sum as f64 / 4_294_967_296.0 - 6.0
}

fn below(random: &mut Pcg64Mcg, limit: usize) -> usize {
    (random.next_u32() >> 8) as usize % limit
}

#[cfg(test)]
mod tests {
    use updp_ir::Dim;

    use super::*;
    use crate::inputs::symbol_plans;

    fn spec(name: &str, dtype: DataType, dims: Vec<Dim>) -> InputSpec {
        InputSpec { name: name.to_owned(), dtype, dims }
    }

    fn symbol(name: &str) -> Dim {
        Dim::Symbol(name.into())
    }

    #[test]
    fn floats_are_nearly_standard_normal_and_repeat() {
        let specs = [spec("x", DataType::Float, vec![Dim::Known(100), Dim::Known(100)])];
        let draw = |seed| sample_inputs(&specs, seed, &SymbolSizes::default()).expect("drawn");
        let values = draw(1)["x"].to_f64().expect("floats");
        let mean = values.iter().sum::<f64>() / 1e4;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn the_generator_never_changes() {
        let specs = [spec("x", DataType::Double, vec![Dim::Known(2)])];
        let drawn = sample_inputs(&specs, 0, &SymbolSizes::default()).expect("drawn");
        let values = drawn["x"].to_f64().expect("floats");
        assert_eq!(values, FIRST_VALUES);
    }

    const FIRST_VALUES: [f64; 2] = [0.283_707_698_108_628_4, -1.558_251_334_819_942_7];

    #[test]
    fn every_dtype_is_drawn() {
        let whole = [
            DataType::Uint8,
            DataType::Int8,
            DataType::Uint16,
            DataType::Int16,
            DataType::Uint32,
            DataType::Int32,
            DataType::Uint64,
            DataType::Int64,
            DataType::Bool,
        ];
        for dtype in whole {
            let specs = [spec("x", dtype, vec![Dim::Known(50)])];
            let drawn = sample_inputs(&specs, 3, &SymbolSizes::default()).expect("drawn");
            let values = drawn["x"].to_i64().expect("integers");
            let highest = if dtype == DataType::Bool { 1 } else { 2 };
            assert!(values.iter().all(|v| (0..=highest).contains(v)), "{dtype} {values:?}");
            assert!(values.contains(&0) && values.contains(&highest), "{dtype} {values:?}");
        }
        for dtype in [DataType::Float16, DataType::Bfloat16, DataType::Double] {
            let specs = [spec("x", dtype, vec![])];
            assert_eq!(
                sample_inputs(&specs, 3, &SymbolSizes::default()).expect("ok")["x"].len(),
                1
            );
        }
        let specs = [spec("x", DataType::String, vec![Dim::Known(2)])];
        let drawn = sample_inputs(&specs, 3, &SymbolSizes::default()).expect("drawn");
        assert_eq!(drawn["x"].strings().len(), 2);
    }

    #[test]
    fn refuses_what_cannot_be_drawn() {
        let specs = [spec("x", DataType::Complex64, vec![])];
        let error = sample_inputs(&specs, 0, &SymbolSizes::default()).expect_err("complex");
        assert_eq!(error.code(), "X0501");
        let specs = [spec("x", DataType::Float, vec![Dim::Known(1 << 40), Dim::Known(1 << 40)])];
        let error = sample_inputs(&specs, 0, &SymbolSizes::default()).expect_err("too large");
        assert_eq!(error.code(), "X0502");
    }

    #[test]
    fn symbolic_batches_give_two_plans() {
        let image = vec![symbol("batch"), Dim::Known(3), symbol("height"), Dim::Unknown];
        let specs = [
            spec("image", DataType::Float, image),
            spec("label", DataType::Int64, vec![symbol("batch")]),
        ];
        let plans = symbol_plans(&specs);
        assert_eq!(plans.len(), 2);
        let drawn = sample_inputs(&specs, 0, &plans[1]).expect("drawn");
        assert_eq!(drawn["image"].dims(), [3, 3, 64, 64]);
        assert_eq!(drawn["label"].dims(), [3]);
        let mut sizes = plans[0].clone();
        sizes.symbols.insert("height".to_owned(), 32);
        let drawn = sample_inputs(&specs, 0, &sizes).expect("drawn");
        assert_eq!(drawn["image"].dims(), [1, 3, 32, 64]);
    }

    #[test]
    fn a_fixed_batch_gives_one_plan() {
        let specs = [spec("x", DataType::Float, vec![Dim::Known(2), symbol("length")])];
        let plans = symbol_plans(&specs);
        assert_eq!(plans.len(), 1);
        assert_eq!(sample_inputs(&specs, 0, &plans[0]).expect("drawn")["x"].dims(), [2, 8]);
    }
}
