//! Turns a panic inside a runtime into a message, and keeps the default hook from printing it.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// How many guarded calls this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Text and place of the last panic inside a guarded call.
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// Ends a guarded call, even when the call unwinds.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Runs `call`; a panic in it becomes `Err` with its text and place.
///
/// The hook is replaced once per process and checks a thread-local depth. Panics of other threads
/// and panics outside guarded calls therefore reach the previous hook. This has no effect where
/// panics abort.
///
/// # Errors
/// The text and place of the panic.
pub fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if DEPTH.with(Cell::get) == 0 {
                previous(info);
            } else {
                let text = info.payload_as_str().unwrap_or("no message");
                let place = info.location().map_or_else(String::new, |l| format!(" at {l}"));
                MESSAGE.with(|message| *message.borrow_mut() = format!("{text}{place}"));
            }
        }));
    });
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let guard = Guard;
    let outcome = catch_unwind(AssertUnwindSafe(call));
    drop(guard);
    outcome.map_err(|_| MESSAGE.with(RefCell::take))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catches_a_panic_with_its_text_and_place() {
        let result = catch(|| -> i32 { panic!("index {} is out", 7) });
        let text = result.expect_err("it panics");
        assert!(text.starts_with("index 7 is out at ") && text.contains("quiet.rs"), "{text}");
        assert_eq!(catch(|| 3), Ok(3));
    }

    #[test]
    fn is_over_when_the_call_has_ended() {
        let _ = catch(|| catch(|| panic!("inner")));
        assert_eq!(DEPTH.with(Cell::get), 0);
    }
}
