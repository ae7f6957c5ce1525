//! Seeded weights as little-endian f32 bytes, and the folding of BatchNorm into them.
//!
//! A tensor is drawn from a stream of its own that depends on the seed and the parameter's name
//! alone, so that every dialect and every order of writing gets the same weights. Only integer
//! arithmetic, products and square roots: the bytes are the same on every platform.

/// Distribution of the elements of a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Draw {
    /// About normal (sum of four uniforms) around 0 with this standard deviation.
    Normal(f64),
    /// Uniform between two bounds.
    Uniform(f64, f64),
}

/// One step of `SplitMix64` in counter form: the `index`-th output of `stream`.
fn random(stream: u64, index: u64) -> u64 {
    let mut z = stream.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The stream of a parameter: FNV-1a of its name, mixed with the seed.
fn stream(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    random(hash, seed)
}

/// The `count` elements of parameter `name`.
pub(crate) fn draw(seed: u64, name: &str, count: usize, draw: Draw) -> Vec<u8> {
    let stream = stream(seed, name);
    let mut bytes = vec![0_u8; count * 4];
    let values = bytes.as_chunks_mut::<4>().0.iter_mut().zip(0_u64..);
    match draw {
        Draw::Normal(std) => {
            // The sum of four uniform 16-bit integers has variance 4 · 2³² / 12.
            let scale = (std * 3.0_f64.sqrt() / 65_536.0) as f32;
            for (value, index) in values {
                let bits = random(stream, index);
                let sum = (bits & 0xffff)
                    + ((bits >> 16) & 0xffff)
                    + ((bits >> 32) & 0xffff)
                    + (bits >> 48);
                *value = ((sum as i32 - 131_070) as f32 * scale).to_le_bytes();
            }
        }
        Draw::Uniform(low, high) => {
            let step = (high - low) / (1_u64 << 32) as f64;
            for (value, index) in values {
                let drawn = low + (random(stream, index) >> 32) as f64 * step;
                *value = (drawn as f32).to_le_bytes();
            }
        }
    }
    bytes
}

/// Shifts each filter of `filter_len` elements to mean 0.
///
/// Activations after a `ReLU` have a positive mean in common; filters of mean 0 do not see it, so
/// that the result depends on the image and not only on the weights.
pub(crate) fn center(bytes: &mut [u8], filter_len: usize) {
    for filter in bytes.chunks_exact_mut(filter_len * 4) {
        let sum: f64 = floats(filter).map(f64::from).sum();
        let mean = (sum / filter_len as f64) as f32;
        for value in filter.as_chunks_mut::<4>().0 {
            *value = (f32::from_le_bytes(*value) - mean).to_le_bytes();
        }
    }
}

/// The f32 elements of `bytes`.
pub(crate) fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk))
}

/// `[rows, cols]` transposed to `[cols, rows]`, tile by tile.
pub(crate) fn transpose(bytes: &[u8], rows: usize, cols: usize) -> Vec<u8> {
    const TILE: usize = 32;
    let source = bytes.as_chunks::<4>().0;
    let mut result = vec![0_u8; bytes.len()];
    let target = result.as_chunks_mut::<4>().0;
    for row_tile in (0..rows).step_by(TILE) {
        for col_tile in (0..cols).step_by(TILE) {
            for col in col_tile..(col_tile + TILE).min(cols) {
                for row in row_tile..(row_tile + TILE).min(rows) {
                    target[col * rows + row] = source[row * cols + col];
                }
            }
        }
    }
    result
}

/// Parameters of one BatchNorm, each `[C]` as bytes.
pub(crate) struct BatchNorm {
    /// γ
    pub weight: Vec<u8>,
    /// β
    pub bias: Vec<u8>,
    /// μ
    pub mean: Vec<u8>,
    /// σ²
    pub variance: Vec<u8>,
}

/// Epsilon of every BatchNorm here.
pub(crate) const BATCH_NORM_EPSILON: f32 = 1e-5;

impl BatchNorm {
    /// Draws the four parameters of the BatchNorm at `path`; γ is around `gain`.
    pub(crate) fn draw(seed: u64, path: &str, channels: usize, gain: f64) -> Self {
        let part = |name: &str, low: f64, high: f64| {
            draw(seed, &format!("{path}.{name}"), channels, Draw::Uniform(low, high))
        };
        Self {
            weight: part("weight", 0.5 * gain, 1.5 * gain),
            bias: part("bias", -0.3, 0.3),
            mean: part("running_mean", -0.3, 0.3),
            variance: part("running_var", 0.5, 1.5),
        }
    }

    /// Folds into the kernel `W [C, …]` and the bias `b [C]` (zeros when there was none) of the
    /// convolution before it: `W' = W · s`, `b' = (b − μ) · s + β` with `s = γ / √(σ² + ε)`, in f64.
    pub(crate) fn fold(&self, kernel: &mut [u8], bias: Option<&[u8]>) -> Vec<u8> {
        let scales: Vec<f64> = floats(&self.weight)
            .zip(floats(&self.variance))
            .map(|(gamma, variance)| {
                f64::from(gamma) / (f64::from(variance) + f64::from(BATCH_NORM_EPSILON)).sqrt()
            })
            .collect();
        let filter_bytes = kernel.len() / scales.len();
        for (filter, scale) in kernel.chunks_exact_mut(filter_bytes).zip(&scales) {
            for value in filter.as_chunks_mut::<4>().0 {
                *value = ((f64::from(f32::from_le_bytes(*value)) * scale) as f32).to_le_bytes();
            }
        }
        let shifts = floats(&self.mean).zip(floats(&self.bias));
        let old: Vec<f32> = bias.map_or_else(|| vec![0.0; scales.len()], |b| floats(b).collect());
        shifts
            .zip(old.iter().zip(&scales))
            .flat_map(|((mean, beta), (old, scale))| {
                let new = (f64::from(*old) - f64::from(mean)) * scale + f64::from(beta);
                (new as f32).to_le_bytes()
            })
            .collect()
    }
}
