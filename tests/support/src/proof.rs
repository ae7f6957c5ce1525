//! Proof by execution: two models give the same outputs for the same inputs.

use std::fmt::Write as _;

use bytes::Bytes;
use updp_exec::{
    Comparison, HALF_LIMIT, ONE_REWRITE_LIMIT, Runtime, WHOLE_NETWORK_LIMIT, compare_tensors,
};
use updp_ir::{DataPlacement, Model, ModelBuilder, Tensor};

use crate::run::{Inputs, Outputs, Session, draw_inputs, find_ort, runtimes, skip};
use crate::summary::{op_counts, ops, signature};
use crate::widen::{as_f32, tensor_as_f32};

/// Width of the border ring, which is compared separately from the interior.
const RING: usize = 2;

/// Largest allowed difference of outputs, as max|Δ| / max|ref|.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// One rewrite or one block: [`ONE_REWRITE_LIMIT`].
    OneRewrite,
    /// A whole network: [`WHOLE_NETWORK_LIMIT`].
    WholeNetwork,
}

impl Limit {
    fn of(self, is_half: bool) -> f64 {
        match self {
            _ if is_half => HALF_LIMIT,
            Self::OneRewrite => ONE_REWRITE_LIMIT,
            Self::WholeNetwork => WHOLE_NETWORK_LIMIT,
        }
    }
}

/// Settings for the comparison of two models.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// Limit of the comparison.
    pub limit: Limit,
    /// Number of inputs to draw.
    pub runs: usize,
    /// Seed of the inputs.
    pub seed: u64,
    /// Whether one runtime is enough (ONNX Runtime where it is found); meant for larger networks.
    pub one_runtime: bool,
}

impl Default for Proof {
    fn default() -> Self {
        Self { limit: Limit::OneRewrite, runs: 4, seed: 20_260_101, one_runtime: false }
    }
}

/// The bytes of a model with its data inside.
///
/// # Panics
/// When the model does not encode.
#[must_use]
pub fn encode(model: &Model) -> Bytes {
    model
        .encode(&DataPlacement::Inline)
        .unwrap_or_else(|error| panic!("the model does not encode: {error}"))
        .model_to_bytes()
}

/// Proves that two models are the same function, with the limit of one rewrite.
///
/// Where tract does not run the first model and there is no ONNX Runtime, the proof is skipped under
/// the name of the test ([`skip`]).
///
/// # Panics
/// With a readable report when they differ, or when ONNX Runtime is available and no runtime runs the first.
pub fn prove(before: &Model, after: &Model) {
    Proof::default().assert(before, after);
}

/// Proves that two networks are the same function, with the limit of a whole network.
///
/// # Panics
/// As [`prove`].
pub fn prove_network(before: &Model, after: &Model) {
    let proof =
        Proof { limit: Limit::WholeNetwork, runs: 3, one_runtime: true, ..Proof::default() };
    proof.assert(before, after);
}

/// Builds a model twice, rewrites one copy, proves that nothing changed, and returns the rewritten copy.
///
/// # Panics
/// As [`prove`]; also when the builder's model is malformed.
pub fn prove_rewrite(builder: &ModelBuilder, rewrite: impl FnOnce(&mut Model)) -> Model {
    let build = || builder.build().unwrap_or_else(|error| panic!("the micro-model: {error}"));
    let before = build();
    let mut after = build();
    rewrite(&mut after);
    prove(&before, &after);
    after
}

impl Proof {
    /// Runs the proof and panics with a report if it fails.
    ///
    /// # Panics
    /// When the models differ, or when ONNX Runtime is available and no runtime runs the first.
    pub fn assert(&self, before: &Model, after: &Model) {
        if let Err(report) = self.check(before, after) {
            panic!("{report}");
        }
    }

    /// Runs the proof.
    ///
    /// # Errors
    /// A report that names the difference, its place, the runtime and the seed.
    pub fn check(&self, before: &Model, after: &Model) -> Result<(), String> {
        let (was, is) = (signature(before), signature(after));
        if was != is {
            return Err(format!("the signature changed\n  before {was:?}\n  after  {is:?}"));
        }
        let mut refusals = Vec::new();
        let mut proved = 0;
        for runtime in runtimes().into_iter().rev() {
            match self.in_runtime(before, after, runtime, false)? {
                Ok(()) => proved += 1,
                Err(refusal) => refusals.push(refusal),
            }
            if self.one_runtime && proved > 0 {
                return Ok(());
            }
        }
        if proved > 0 {
            return Ok(());
        }
        // No runtime computes this dtype, so the proof uses the same weights, widened exactly.
        let (before, after) = (as_f32(before), as_f32(after));
        for runtime in runtimes().into_iter().rev() {
            match self.in_runtime(&before, &after, runtime, true)? {
                Ok(()) => return Ok(()),
                Err(refusal) => refusals.push(refusal),
            }
        }
        let reason = format!("no runtime runs the model: {}", refusals.join("; "));
        if find_ort().is_some() {
            return Err(reason);
        }
        let thread = std::thread::current();
        skip(thread.name().unwrap_or("a proof"), &format!("{reason} (no ONNX Runtime library)"));
        Ok(())
    }

    /// Outer error: the models differ. Inner error: the runtime does not run the first model.
    fn in_runtime(
        &self,
        before: &Model,
        after: &Model,
        runtime: Runtime,
        is_widened: bool,
    ) -> Result<Result<(), String>, String> {
        let mut reference = match Session::open(before, runtime) {
            Ok(session) => session,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let name = reference.name();
        let mut result = Session::open(after, runtime)
            .map_err(|error| report(before, after, &format!("{name}: after: {error}")))?;
        let mut inputs = draw_inputs(before, self.runs, self.seed, false);
        // Callers may feed inputs that have a default; only ONNX Runtime allows it.
        if runtime == Runtime::Ort && has_defaults(before) {
            inputs.extend(draw_inputs(before, 2, self.seed + 100, true));
        }
        for (at, inputs) in inputs.iter().enumerate() {
            let expected = match reference.run(inputs) {
                Ok(outputs) => outputs,
                Err(error) if at == 0 => return Ok(Err(error.to_string())),
                Err(error) => return Err(format!("{name}: input {at} before: {error}")),
            };
            let found = result
                .run(inputs)
                .map_err(|error| report(before, after, &format!("{name}: after: {error}")))?;
            self.compare(&expected, &found, is_widened).map_err(|text| {
                let drawn = describe(inputs);
                let text = format!("{name}, seed {} + {at}, inputs {drawn}:\n{text}", self.seed);
                report(before, after, &text)
            })?;
        }
        Ok(Ok(()))
    }

    fn compare(&self, expected: &Outputs, found: &Outputs, is_half: bool) -> Result<(), String> {
        for (name, reference) in expected {
            let result = found.get(name).ok_or_else(|| format!("output {name:?} is missing"))?;
            let is_half = is_half
                || matches!(
                    reference.dtype(),
                    updp_ir::DataType::Float16 | updp_ir::DataType::Bfloat16
                );
            let limit = self.limit.of(is_half);
            let comparison = compare_tensors(reference, result);
            if let Comparison::Float(difference) = &comparison
                && difference.max_ref == 0.0
                && difference.elements > 0
            {
                return Err(format!("output {name:?} is all zero or not finite: proves nothing"));
            }
            if !comparison.is_within(limit) {
                return Err(mismatch(name, reference, result, &comparison, limit));
            }
        }
        Ok(())
    }
}

fn has_defaults(model: &Model) -> bool {
    // Below IR 4 every initializer is listed among the inputs and is a constant.
    model.ir_version() >= 4 && model.graph.inputs().count() > model.graph.required_inputs().count()
}

fn describe(inputs: &Inputs) -> String {
    let shown: Vec<String> =
        inputs.iter().map(|(name, t)| format!("{name} {}{:?}", t.dtype(), t.dims())).collect();
    shown.join(", ")
}

fn report(before: &Model, after: &Model, text: &str) -> String {
    format!(
        "{text}\n  before: {:?}\n  after:  {:?}\n  nodes:  {}",
        op_counts(&before.graph),
        op_counts(&after.graph),
        ops(&after.graph).join(" ")
    )
}

fn mismatch(
    name: &str,
    reference: &Tensor,
    result: &Tensor,
    comparison: &Comparison,
    limit: f64,
) -> String {
    let mut text =
        format!("output {name:?} {:?}: {comparison}, limit {limit:.0e}", reference.dims());
    let (Some(a), Some(b)) = (tensor_as_f32(reference).to_f64(), tensor_as_f32(result).to_f64())
    else {
        return text;
    };
    if a.len() != b.len() {
        return text;
    }
    if let [_, _, h, w] = *reference.dims() {
        let (mut ring, mut interior) = (0.0_f64, 0.0_f64);
        for (index, (a, b)) in a.iter().zip(&b).enumerate() {
            let (y, x) = (index / w % h, index % w);
            let is_inside = (RING..h.saturating_sub(RING)).contains(&y)
                && (RING..w.saturating_sub(RING)).contains(&x);
            let side = if is_inside { &mut interior } else { &mut ring };
            *side = side.max((a - b).abs());
        }
        let _ = write!(text, "\n  border ring max|Δ| {ring:.2e}, interior {interior:.2e}");
    }
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).enumerate();
    if let Some((at, _)) = worst.max_by(|a, b| a.1.total_cmp(&b.1)) {
        let index = unravel(at, reference.dims());
        let _ = write!(text, "\n  worst at {index:?}: expected {}, found {}", a[at], b[at]);
    }
    text
}

fn unravel(mut at: usize, dims: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = dims
        .iter()
        .rev()
        .map(|dim| {
            let place = at % dim;
            at /= dim;
            place
        })
        .collect();
    index.reverse();
    index
}
