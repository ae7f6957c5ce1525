//! Moving padding inside a run of convolutions (L6).
//!
//! This move changes the function on the border ring; only surgery does it.

/// Sums paddings into the first map: `P₁ + s₁·P₂ + s₁·s₂·P₃ + …` per spatial axis.
///
/// `paddings` and `strides` hold one list per map, in order; each list holds one number per spatial axis.
/// Beginning and end move the same way, each in its own call. A missing stride counts as 1.
#[must_use]
pub fn padding_moved_to_first(paddings: &[&[usize]], strides: &[&[usize]]) -> Vec<usize> {
    let rank = paddings.first().map_or(0, |padding| padding.len());
    let mut moved = vec![0; rank];
    let mut step = vec![1; rank];
    for (index, padding) in paddings.iter().enumerate() {
        for axis in 0..rank {
            moved[axis] += step[axis] * padding.get(axis).copied().unwrap_or(0);
            step[axis] *=
                strides.get(index).and_then(|stride| stride.get(axis)).copied().unwrap_or(1);
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighs_each_padding_by_the_strides_before_it() {
        let paddings: [&[usize]; 3] = [&[1, 1], &[1, 0], &[1, 2]];
        let strides: [&[usize]; 3] = [&[2, 2], &[1, 3], &[2, 2]];
        assert_eq!(padding_moved_to_first(&paddings, &strides), [5, 13]);
    }
}
