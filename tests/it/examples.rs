//! The programs in `examples/` do what they say.

use crate::fixtures::folder;

#[path = "../../examples/compile.rs"]
#[expect(dead_code, reason = "the test calls what `main` calls")]
mod compile;

#[test]
fn compiling_a_file_writes_a_smaller_network() {
    let scene = tempfile::tempdir().expect("a folder");
    let out = scene.path().join("out.onnx");
    let model = folder().join("trained/fmnist_repvgg.bn.onnx");
    let text = compile::run(&model, &out).expect("it compiles");
    assert!(text.contains("verification: passed"), "{text}");
    assert!(out.is_file());
}
