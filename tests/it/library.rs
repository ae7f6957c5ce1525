//! The functions of the library, without a command line.

use updp_compile::{
    BenchOptions, CompileOptions, EvaluateOptions, Goal, InspectOptions, Observer, PruneOptions,
    Silent, Source, VerificationStatus, VerifyOptions, bench, compile, evaluate, inspect, prune,
    run_command, verify,
};
use updp_prune::BlockSelection;
use updp_testkit::{prove, read_model};

use crate::fixtures::folder;
use crate::schemas::assert_valid;

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
        let error = compile(repvgg(), &options, &mut Impatient { calls }).expect_err("cancelled");
        assert_eq!((error.code(), error.exit_code()), ("C0011", 130));
        assert_eq!(std::fs::read_dir(scene.path()).expect("readable").count(), 0);
    }
    let data = folder().join("fmnist_test_1000.npz");
    let options =
        EvaluateOptions { preprocess: "fashion-mnist".into(), ..EvaluateOptions::default() };
    let error = evaluate(repvgg(), None, &data, &options, &mut Impatient { calls: 1 });
    assert_eq!(error.expect_err("cancelled").code(), "C0011");
}

#[test]
fn inspecting_and_measuring_give_plain_numbers() {
    let report = inspect(repvgg(), &InspectOptions::default(), &mut Silent).expect("it is read");
    let (log, after) = report.compiled.expect("it is compiled by default");
    assert!(!log.rewrites.is_empty() && after.nodes < report.before.nodes);
    assert!(report.findings.is_none());
    let options = BenchOptions { seconds: 0.1, batch: 2, ..BenchOptions::default() };
    let report = bench(repvgg(), Some(repvgg().into()), &options, &mut Silent).expect("it runs");
    assert_eq!((report.batch, report.models.len()), (2, 2));
    assert!(report.models.iter().all(|model| model.latency.median_ms > 0.0));
}

#[test]
fn pruning_ends_wherever_it_is_cancelled() {
    let scene = tempfile::tempdir().expect("a folder");
    let output = scene.path().join("out.onnx");
    let model = folder().join("trained/fmnist_resnet.bn.onnx");
    let mut options = PruneOptions::new(
        folder().join("fmnist_test_1000.npz"),
        Goal::Blocks(BlockSelection::List(vec![2])),
    );
    options.preprocess = "none".to_owned();
    options.config.data.images = Some(100);
    options.compile.output = Some(output.clone());
    let mut ended = Vec::new();
    for calls in [1, 2, 3, 5, 8, 13, 18] {
        match prune(&model, &options, &mut Impatient { calls }) {
            Err(error) => {
                assert_eq!((error.code(), error.exit_code()), ("C0011", 130));
                assert!(!output.exists(), "after {calls} calls");
                ended.push(calls);
            }
            Ok(_) => break,
        }
    }
    assert!(ended.len() >= 5, "the observer is asked too rarely: {ended:?}");
}

/// Runs a command for a program.
fn ran(words: &[&str]) -> Result<updp_compile::Outcome, updp_compile::Error> {
    run_command(words.iter().map(Into::into).collect(), &mut Silent)
}

#[test]
fn commands_give_a_program_their_documents() {
    let scene = tempfile::tempdir().expect("a folder");
    let text = |path: std::path::PathBuf| path.to_str().expect("UTF-8").to_owned();
    let (input, output) = (text(repvgg()), text(scene.path().join("out.onnx")));
    let images = text(folder().join("fmnist_test_1000.npz"));
    let data = ["--data", &images, "--preprocess", "none", "--images", "100"];
    let compile = ["compile", &input, "-o", &output];
    let jobs: [(&str, Vec<&str>); 6] = [
        ("updp-report/2", compile.to_vec()),
        ("updp-verify/1", vec!["verify", &input, &output]),
        ("updp-inspect/1", vec!["inspect", &output, "--json"]),
        ("updp-bench/1", vec!["bench", &input, &output, "--seconds", "0.1"]),
        ("updp-evaluate/1", [&["evaluate", &input, &output], &data[..]].concat()),
        (
            "updp-train/1",
            [&["finetune", &input, "-o", &output, "--epochs", "1"], &data[..]].concat(),
        ),
    ];
    for (schema, words) in jobs {
        let outcome = ran(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        assert!(outcome.failure.is_none(), "{words:?}: {:?}", outcome.failure);
        let document = outcome.document.expect("every job has a document");
        assert_eq!(document["schema"], schema);
        assert_valid(&document);
    }
}

#[test]
fn a_missed_gate_and_a_difference_come_with_the_document() {
    let scene = tempfile::tempdir().expect("a folder");
    let text = |path: std::path::PathBuf| path.to_str().expect("UTF-8").to_owned();
    let (input, output) = (text(repvgg()), text(scene.path().join("out.onnx")));
    let missed = ran(&["compile", &input, "-o", &output, "--max-bytes", "100"]).expect("it runs");
    assert_eq!(missed.failure.map(|failure| failure.code()), Some("C0017"));
    assert!(
        !missed.document.expect("a report")["gates"]["missed"]
            .as_array()
            .expect("a list")
            .is_empty()
    );
    let resnet = text(folder().join("trained/fmnist_resnet.bn.onnx"));
    let pruned = ["prune", &resnet, "-o", &output, "--blocks", "2", "--recover", "none"];
    assert!(ran(&pruned).expect("it runs").failure.is_none());
    let differs = ran(&["verify", &resnet, &output]).expect("both run");
    assert_eq!(differs.failure.map(|failure| failure.code()), Some("C0008"));
    let document = differs.document.expect("a comparison");
    assert_valid(&document);
    assert_eq!(document["is_equal"], false);
    let wrong = ran(&["verify", &resnet]).expect_err("an argument is missing");
    assert_eq!(wrong.code(), "C0001");
    assert!(!wrong.to_string().contains("Usage:"), "{wrong}");
}
