//! Scratch memory that a thread keeps from one operator to the next.

use std::cell::Cell;

thread_local! {
    /// A stack of buffers, for nested uses.
    static KEPT: Cell<Vec<Vec<f32>>> = const { Cell::new(Vec::new()) };
}

/// Calls `call` with `count` numbers of any value.
pub(super) fn with<T>(count: usize, call: impl FnOnce(&mut [f32]) -> T) -> T {
    let mut kept = KEPT.take();
    let mut buffer = kept.pop().unwrap_or_default();
    KEPT.set(kept);
    if buffer.len() < count {
        buffer.resize(count, 0.0);
    }
    let result = call(&mut buffer[..count]);
    let mut kept = KEPT.take();
    kept.push(buffer);
    KEPT.set(kept);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_within_a_use_has_room_of_its_own() {
        with(4, |outer| {
            outer.fill(1.0);
            with(8, |inner| inner.fill(2.0));
            assert_eq!(outer, [1.0; 4]);
        });
        with(3, |again| assert_eq!(again.len(), 3));
    }
}
