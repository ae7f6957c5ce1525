//! Arithmetic on stored weights: in f64, rounded once to the stored dtype, in one pass, without a
//! whole f64 copy.

use half::{bf16, f16};
use updp_ir::{DataType, Tensor};

use crate::error::Declined;

/// Multiplies chunk `j` (of `inner` consecutive elements) of `tensor` by `factor(j)`.
///
/// # Errors
/// `overflow` when a finite weight becomes infinite or NaN in the stored dtype, `dtype` when the
/// weights have no float type.
pub fn scale_chunks(
    tensor: &Tensor,
    inner: usize,
    factor: impl Fn(usize) -> f64,
) -> Result<Tensor, Declined> {
    let bytes = tensor.bytes();
    let (out, is_finite) = match tensor.dtype() {
        DataType::Float => scale(
            bytes,
            inner,
            factor,
            |b| f64::from(f32::from_le_bytes(b)),
            |v| {
                let v = v as f32;
                (v.to_le_bytes(), v.is_finite())
            },
        ),
        DataType::Double => {
            scale(bytes, inner, factor, f64::from_le_bytes, |v| (v.to_le_bytes(), v.is_finite()))
        }
        DataType::Float16 => scale(
            bytes,
            inner,
            factor,
            |b| f16::from_le_bytes(b).to_f64(),
            |v| {
                let v = f16::from_f64(v);
                (v.to_le_bytes(), v.is_finite())
            },
        ),
        DataType::Bfloat16 => scale(
            bytes,
            inner,
            factor,
            |b| bf16::from_le_bytes(b).to_f64(),
            |v| {
                let v = bf16::from_f64(v);
                (v.to_le_bytes(), v.is_finite())
            },
        ),
        other => return Err(Declined::new("dtype", format!("weights of dtype {other}"))),
    };
    if !is_finite {
        return Err(Declined::new(
            "overflow",
            format!("a scaled weight leaves the range of {}", tensor.dtype()),
        ));
    }
    Tensor::new(tensor.dtype(), tensor.dims().to_vec(), out.into())
        .map_err(|error| Declined::new("malformed-weight", error.to_string()))
}

fn scale<const N: usize>(
    bytes: &[u8],
    inner: usize,
    factor: impl Fn(usize) -> f64,
    read: impl Fn([u8; N]) -> f64,
    write: impl Fn(f64) -> ([u8; N], bool),
) -> (Vec<u8>, bool) {
    let mut out = vec![0; bytes.len()];
    let mut is_finite = true;
    let step = (inner * N).max(1);
    for (j, (source, target)) in bytes.chunks(step).zip(out.chunks_mut(step)).enumerate() {
        let factor = factor(j);
        let pairs = source.as_chunks::<N>().0.iter().zip(target.as_chunks_mut::<N>().0);
        for (from, to) in pairs {
            let (value, finite) = write(read(*from) * factor);
            is_finite &= finite;
            *to = value;
        }
    }
    (out, is_finite)
}

/// A constant of `dtype` holding `values`.
///
/// # Errors
/// `overflow` when a value is not finite in `dtype`.
pub fn stored(dtype: DataType, dims: Vec<usize>, values: &[f64]) -> Result<Tensor, Declined> {
    let tensor = Tensor::from_f64(dtype, dims, values)
        .map_err(|error| Declined::new("malformed-weight", error.to_string()))?;
    let largest = match dtype {
        DataType::Float16 => f16::MAX.to_f64(),
        DataType::Bfloat16 => bf16::MAX.to_f64(),
        DataType::Float => f64::from(f32::MAX),
        _ => f64::MAX,
    };
    if values.iter().all(|v| v.abs() <= largest) {
        Ok(tensor)
    } else {
        Err(Declined::new("overflow", format!("a merged weight leaves the range of {dtype}")))
    }
}
