//! A panic within an operator, on the calling thread and on another.

use bytes::Bytes;
use ort::operator::OperatorDomain;
use ort::session::builder::SessionBuilder;
use ort::value::Tensor;

use super::super::DOMAIN;
use super::super::call::{Attributes, Call, Entry, Operation, Refusal};
use super::{model_of, ours};
use crate::tests::ort_options;
use crate::{ExecError, library};

/// Panics, on the threads of the session where its operand has more than one element.
struct Panics;

impl Operation for Panics {
    const NAME: &'static str = "Panics";
    const OPERANDS: usize = 1;
    const RESULTS: usize = 1;

    fn read(_: &Attributes<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn run(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let count = call.operand(0)?.values()?.len();
        assert!(count > 1, "on the calling thread");
        call.each(8, |at| assert!(at != 5, "in part {at}"))
    }
}

fn run(model: &Bytes, values: Vec<f32>) -> Option<ExecError> {
    let options = ort_options("panics")?;
    let loaded = library::load(options.library.as_deref()).expect("loads");
    let domain = OperatorDomain::new(DOMAIN).and_then(|domain| domain.add(Entry::<Panics>::new()));
    let mut session = SessionBuilder::new(&loaded.environment)
        .and_then(|builder| Ok(builder.with_intra_threads(2)?.with_operators(domain?)?))
        .and_then(|mut builder| builder.commit_from_memory(model))
        .expect("opens");
    let x = Tensor::from_array(([values.len()], values)).expect("a tensor");
    let error = session.run(ort::inputs!["x0" => x]).map(|_| ()).expect_err("panics");
    Some(ExecError::of_run("ONNX Runtime", error.message()))
}

#[test]
fn a_panic_is_an_error_of_the_run() {
    for (values, place) in [(vec![1.0], "on the calling thread"), (vec![1.0; 2], "in part 5")] {
        let model = model_of(ours("Panics", 1, 1), &[&[values.len()]], &[1]);
        let Some(error) = run(&model, values) else { return };
        assert_eq!(error.code(), "X0402");
        let text = error.to_string();
        assert!(text.contains("Panics") && text.contains(place), "{text}");
    }
}
