//! Comparing two models by running them.

use updp_exec::{InputData, RuntimeOptions};
use updp_ir::{Graph, ValueId};
use updp_verify::{Oracle, Verification};

use super::{Error, Observer, Source, error::check_cancelled, telling::Telling};

/// How two models are compared.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Arrays by input name; empty = random inputs. With labels, the report contains the top-1 accuracy of both models.
    pub input_data: InputData,
    /// Number of random inputs.
    pub inputs: usize,
    /// Largest allowed `max|Δ| / max|reference|`; `None` = the limit for the dtype of the output.
    pub limit: Option<f64>,
    /// How models are run.
    pub runtime: RuntimeOptions,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            input_data: InputData::default(),
            inputs: 3,
            limit: None,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// The result of comparing two models.
pub type VerifyReport = Verification;

/// Runs `model` and `reference` on the same inputs and compares their outputs.
///
/// A difference is not an error: call [`Verification::is_passed`]. Nor are values that show no difference whatever the
/// models compute: call [`Verification::proves_nothing`].
///
/// # Errors
/// C0007 if the models have different inputs or outputs, C0008 if only the reference can be run, C0009 if the reference
/// cannot be run, and the errors of reading a model.
pub fn verify<'a>(
    reference: impl Into<Source<'a>>,
    model: impl Into<Source<'a>>,
    options: &VerifyOptions,
    observer: &mut dyn Observer,
) -> Result<VerifyReport, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let (reference, model) = (reference.into().open()?, model.into().open()?);
    same("inputs", &names(&reference.model.graph, true), &names(&model.model.graph, true))?;
    same("outputs", &names(&reference.model.graph, false), &names(&model.model.graph, false))?;
    observer.progress("running the reference", 0, 0);
    let source = reference.source.for_runtime();
    let VerifyOptions { input_data, inputs, limit, runtime } = options;
    let oracle = Oracle::new(source, &reference.model.graph, input_data, *inputs, runtime)?
        .with_limit(*limit);
    check_cancelled(observer)?;
    observer.progress("running the model", 0, 0);
    Ok(oracle.compare(model.source.for_runtime())?)
}

fn names(graph: &Graph, is_input: bool) -> String {
    let name = |id: ValueId| graph.value(id).name().to_owned();
    let names: Vec<String> = if is_input {
        graph.required_inputs().map(name).collect()
    } else {
        graph.outputs().map(name).collect()
    };
    names.join(", ")
}

fn same(what: &'static str, first: &str, second: &str) -> Result<(), Error> {
    if first == second {
        return Ok(());
    }
    let (first, second) = (first.to_owned(), second.to_owned());
    Err(Error::DifferentSignature { what, first, second })
}
