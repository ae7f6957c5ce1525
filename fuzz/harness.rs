//! The properties that the fuzz targets check for any bytes. `tests/it/fuzz_replay.rs` checks the same properties for
//! the files in `fixtures/fuzz`.
//!
//! Each function panics if a property is violated, and returns if the bytes are refused.

#![allow(dead_code, reason = "every target uses one function")]

use bytes::Bytes;
use updp_ir::infer::Shapes;
use updp_ir::{DataPlacement, IrError, Model, no_external_data, order, text};
use updp_passes::surgery::{self, Choice, Form, Shrink};
use updp_passes::{Options, PassError, pipeline};

fn read(bytes: &[u8]) -> Result<Model, IrError> {
    Model::decode(Bytes::copy_from_slice(bytes), &mut no_external_data)
}

fn write(model: &Model) -> Option<Vec<u8>> {
    Some(model.encode(&DataPlacement::Inline).ok()?.model_to_bytes().to_vec())
}

/// A model that can be read can also be written, and the written bytes read as the same bytes again.
pub fn decode(bytes: &[u8]) {
    let Ok(model) = read(bytes) else { return };
    let Some(first) = write(&model) else { return };
    let again = read(&first).expect("what we write can be read");
    let second = write(&again).expect("what was read can be written");
    assert!(first == second, "writing is not stable");
}

/// Every model that can be read is valid: its shapes can be inferred, and it can be shown and ordered.
pub fn validate(bytes: &[u8]) {
    let Ok(model) = read(bytes) else { return };
    model.validate().expect("what is read is valid");
    let _ = Shapes::infer(&model.graph, model.opset("").unwrap_or(0));
    let _ = text::to_text(&model);
    let _ = text::to_dot(&model.graph);
    order::topological(&model.graph).expect("a valid graph has an order");
}

/// A valid model compiles to a valid model, and compiling that model again changes nothing.
pub fn compile(bytes: &[u8]) {
    for merge_all in [false, true] {
        let Ok(mut model) = read(bytes) else { return };
        let options = Options { merge_all, validate_each: true, ..Options::default() };
        pipeline::compile(&mut model, &options, &mut |_, _| {}).expect("a valid model compiles");
        let Some(first) = write(&model) else { continue };
        let mut again = read(&first).expect("what was compiled can be read");
        pipeline::compile(&mut again, &options, &mut |_, _| {}).expect("compiles again");
        let second = write(&again).expect("can be written");
        assert!(first == second, "compiling again changes the model");
    }
}

/// Every block of a valid model is either refused or thinned to a valid model that compiles.
pub fn thin(bytes: &[u8]) {
    let Ok(mut model) = read(bytes) else { return };
    pipeline::prepare(&mut model).expect("a valid model can be prepared");
    let blocks = surgery::blocks_of(&model).expect("a valid graph has an order");
    for block in &blocks {
        let offered = surgery::with_context(&model, |cx| surgery::sites(cx, block, Shrink::Auto));
        let thin = offered.into_iter().filter(|(form, _)| form.is_thin());
        for site in thin.filter_map(|(_, site)| site.ok()) {
            let mut model = model.clone();
            let stand_in = surgery::stand_in(&site).expect("the window of an operator");
            match surgery::substitute(&mut model, &site, &stand_in) {
                Ok(()) => {}
                Err(PassError::Refused { .. }) => continue,
                Err(error) => panic!("{}: {error}", site.form.name()),
            }
            model.validate().expect("a thinned model is valid");
            let options = Options { merge_all: true, validate_each: true, ..Options::default() };
            pipeline::compile(&mut model, &options, &mut |_, _| {}).expect("and compiles");
        }
    }
}

/// Every block of a valid model is either refused or pruned to a valid model that compiles.
pub fn prune(bytes: &[u8]) {
    for form in Form::ALL {
        for shrink in [Shrink::Auto, Shrink::None] {
            let Ok(mut model) = read(bytes) else { return };
            pipeline::prepare(&mut model).expect("a valid model can be prepared");
            let blocks = surgery::blocks_of(&model).expect("a valid graph has an order");
            let offered = blocks.into_iter().filter(|block| surgery::forms(block).contains(&form));
            let choices: Vec<Choice> = offered.map(|block| Choice { block, form }).collect();
            if choices.is_empty() {
                continue;
            }
            match surgery::prune(&mut model, &choices, shrink) {
                Ok(()) => {}
                Err(PassError::Refused { .. } | PassError::AlreadyExpanded) => continue,
                Err(error) => panic!("{}: {error}", form.name()),
            }
            model.validate().expect("a pruned model is valid");
            let options = Options { merge_all: true, validate_each: true, ..Options::default() };
            pipeline::compile(&mut model, &options, &mut |_, _| {}).expect("and compiles");
        }
    }
}
