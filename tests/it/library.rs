//! The functions of the library, without a command line.

use updp_compile::{
    BenchOptions, CompileOptions, EvaluateOptions, InspectOptions, Observer, Silent, Source,
    VerificationStatus, VerifyOptions, bench, compile, evaluate, inspect, verify,
};
use updp_testkit::{prove, read_model};

use crate::fixtures::folder;

fn repvgg() -> std::path::PathBuf {
    folder().join("trained/fmnist_repvgg.bn.onnx")
}

/// An observer that ends the work when it is asked for the `calls`th time.
struct Impatient {
    calls: usize,
}

impl Observer for Impatient {
    fn is_cancelled(&mut self) -> bool {
        self.calls -= 1;
        self.calls == 0
    }
}

#[test]
fn a_path_bytes_and_a_graph_give_the_same_result() {
    let path = repvgg();
    let options = CompileOptions::default();
    let model = read_model(&path);
    let sources: [Source<'_>; 3] =
        [Source::from(&path), Source::from(std::fs::read(&path).expect("there")), (&model).into()];
    let mut results = Vec::new();
    for source in sources {
        let report = compile(source, &options, &mut Silent).expect("it compiles");
        assert_eq!(report.status, VerificationStatus::Passed);
        assert!(report.path.is_none() && report.after.nodes < report.before.nodes);
        results.push(report.model.expect("no file is asked for"));
    }
    assert!(results[0] == results[1], "a path and bytes differ");
    let scene = tempfile::tempdir().expect("a folder");
    let out = scene.path().join("out.onnx");
    let options = CompileOptions { output: Some(out.clone()), ..options };
    let report = compile(&path, &options, &mut Silent).expect("it compiles");
    assert_eq!((report.path.as_ref(), report.model), (Some(&out), None));
    assert!(results[0] == std::fs::read(&out).expect("written"), "a file and bytes differ");
    prove(&model, &read_model(&out));
    let same = verify(&path, &out, &VerifyOptions::default(), &mut Silent).expect("both run");
    assert!(same.is_passed());
}

#[test]
fn cancelled_work_ends_with_an_error_and_leaves_nothing() {
    let scene = tempfile::tempdir().expect("a folder");
    let output = Some(scene.path().join("out.onnx"));
    let options = CompileOptions { output, ..CompileOptions::default() };
    for calls in [1, 2] {
        let error = compile(&repvgg(), &options, &mut Impatient { calls }).expect_err("cancelled");
        assert_eq!((error.code(), error.exit_code()), ("C0011", 130));
        assert_eq!(std::fs::read_dir(scene.path()).expect("readable").count(), 0);
    }
    let data = folder().join("fmnist_test_1000.npz");
    let options =
        EvaluateOptions { preprocess: "fashion-mnist".into(), ..EvaluateOptions::default() };
    let error = evaluate(&repvgg(), None, &data, &options, &mut Impatient { calls: 1 });
    assert_eq!(error.expect_err("cancelled").code(), "C0011");
}

#[test]
fn inspecting_and_measuring_give_plain_numbers() {
    let report = inspect(&repvgg(), &InspectOptions::default(), &mut Silent).expect("it is read");
    let (log, after) = report.compiled.expect("it is compiled by default");
    assert!(!log.rewrites.is_empty() && after.nodes < report.before.nodes);
    assert!(report.findings.is_none());
    let options = BenchOptions { seconds: 0.1, batch: 2, ..BenchOptions::default() };
    let report = bench(&repvgg(), Some(repvgg().into()), &options, &mut Silent).expect("it runs");
    assert_eq!((report.batch, report.models.len()), (2, 2));
    assert!(report.models.iter().all(|model| model.latency.median_ms > 0.0));
}
