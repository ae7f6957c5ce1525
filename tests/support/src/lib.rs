//! Test kit of `updp-compile`: model builders, drawn shapes, proof by execution.
//!
//! It uses `updp-ir` and `updp-exec`, never the passes. A proof takes the model before a change and
//! the model after it, no matter which code made the change.
//!
//! ```
//! use updp_testkit::{Micro, conv, prove_rewrite};
//!
//! let mut m = Micro::new(1);
//! let x = m.input("x", &[4, 8, 8]);
//! let y = m.conv(&x, &conv(6).kernel(3).pad(1));
//! let y = m.bn(&y);
//! m.output(&y);
//! prove_rewrite(&m.builder(), |_model| ());
//! ```

mod files;
mod micro;
mod numbers;
mod planted;
mod proof;
mod run;
mod spec;
mod strategies;
mod summary;
#[cfg(test)]
mod tests;
mod widen;

pub use bytes::Bytes;
pub use files::{decode, model_of, read_model};
pub use micro::{Micro, Val, WeightForm};
pub use numbers::{Random, known, seeded, seeded_between, symbol, tensor};
pub use planted::{Fault, Planted, WEIGHT_ERROR, plant};
pub use proof::{Limit, Proof, encode, prove, prove_network, prove_rewrite};
pub use run::{Inputs, Outputs, Session, draw_inputs, find_ort, run, sessions, skip};
pub use spec::{Broadcast, ConvSpec, GemmSpec, PoolSpec, conv, gemm, pool};
pub use strategies::{ConvCase, check, conv_cases};
pub use summary::{Signature, node_total, op_counts, ops, signature};
pub use updp_exec::ExecError;
