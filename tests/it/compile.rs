//! Compiles models in memory, as every module here does.

use updp_ir::Model;
use updp_passes::{Log, Options, pipeline};
use updp_testkit::{Micro, encode, node_total, ops, prove};

/// Compiles with the default options.
pub fn compile(model: &mut Model) -> Log {
    compile_with(model, &Options::default())
}

/// Compiles with these options.
pub fn compile_with(model: &mut Model, options: &Options) -> Log {
    pipeline::compile(model, options, &mut |_, _| ())
        .unwrap_or_else(|error| panic!("{}: {error}", error.code()))
}

/// Every merge made, whatever the cost guard says.
pub fn merge_all() -> Options {
    Options { merge_all: true, ..Options::default() }
}

/// Compiles the micro-model with the default options, proves it and checks the node count, bodies
/// included.
#[track_caller]
pub fn becomes(micro: &Micro, nodes: usize) -> Model {
    becomes_with(micro, nodes, &Options::default())
}

/// The same where the cost guard rightly declines on shapes this small.
#[track_caller]
pub fn becomes_when_all_is_merged(micro: &Micro, nodes: usize) -> Model {
    becomes_with(micro, nodes, &merge_all())
}

#[track_caller]
fn becomes_with(micro: &Micro, nodes: usize, options: &Options) -> Model {
    let before = micro.build();
    let mut after = micro.build();
    let log = compile_with(&mut after, options);
    prove(&before, &after);
    assert_eq!(
        node_total(&after.graph),
        nodes,
        "left: {}\nmade: {:?}\nrefused: {:#?}",
        ops(&after.graph).join(" "),
        log.rewrites,
        log.refusals
    );
    again_changes_nothing(&after, options);
    after
}

/// Compiles the micro-model and checks that not a field changed.
#[track_caller]
pub fn stays(micro: &Micro) {
    prove(&micro.build(), &stays_unrun(micro.build()));
}

/// Compiles a model that no runtime here needs to run, and checks that not a field changed.
#[track_caller]
pub fn stays_unrun(mut model: Model) -> Model {
    let was = model.to_proto().expect("encodes");
    let log = compile_with(&mut model, &merge_all());
    let is = model.to_proto().expect("encodes");
    assert!(was == is, "left: {}\nmade: {:?}", ops(&model.graph).join(" "), log.rewrites);
    model
}

#[track_caller]
fn again_changes_nothing(model: &Model, options: &Options) {
    let bytes = encode(model);
    let mut again = updp_testkit::decode(bytes.clone()).expect("reads its own output");
    let log = compile_with(&mut again, options);
    assert!(encode(&again) == bytes, "compiled again: {:?}", log.rewrites);
}
