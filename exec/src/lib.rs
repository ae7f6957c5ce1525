//! Runs ONNX models: tract (embedded) and ONNX Runtime (a shared library found at run time).
//!
//! There is one [`Executor`] per model; [`open()`] picks the runtime. Verification switches the
//! runtime's own graph optimizer off: otherwise the optimizer would do our folds itself and hide
//! our mistakes. This is the only crate that knows `ort` and `tract`. It prints nothing. Call
//! [`disable_telemetry`] at the top of `main`.

pub mod clock;
pub mod compare;
pub mod device;
pub mod error;
pub mod executor;
pub mod fallback;
pub mod inputs;
pub mod latency;
pub mod library;
pub mod machine;
pub mod open;
pub mod operators;
pub mod ort;
mod ort_value;
pub mod quiet;
pub mod runtime_options;
pub mod samples;
pub mod sessions;
pub mod step;
pub mod tract;
mod tract_value;
pub mod worker;

#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use compare::{
    Comparison, Difference, HALF_LIMIT, ONE_REWRITE_LIMIT, WHOLE_NETWORK_LIMIT, compare,
    compare_tensors, whole_network_limit,
};
pub use device::{Device, Optimizer, Runtime};
pub use error::ExecError;
pub use executor::{Executor, ModelSource, Options};
pub use fallback::{note_fallback, take_fallback};
pub use inputs::{InputData, InputSpec, SymbolSizes, batch_plan, input_specs, symbol_plans};
pub use latency::{
    Budget, Interval, Latency, Measurement, Precision, measure, median, median_interval,
};
pub use library::{
    FoundLibrary, LibraryPlace, LibrarySearch, OLDEST as OLDEST_LIBRARY, ProbedLibrary,
    disable_telemetry, find_library, prefer_library_folder, search_libraries,
};
pub use machine::Machine;
pub use open::open;
pub use ort::OrtExecutor;
pub use runtime_options::RuntimeOptions;
pub use samples::{sample_inputs, sample_inputs_in};
pub use sessions::combined;
pub use step::{StateSpec, StepSession};
pub use tract::{TRACT, TractExecutor};
pub use worker::WorkerOptions;
