//! Runtimes in worker processes: what crashes, runs for ever or takes all memory becomes an error.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use onnx_protobuf::ModelProto;
use protobuf::Message;
use updp_exec::{Clock, ExecError, Executor, ModelSource, Options, Runtime, WorkerOptions, open};
use updp_ir::{DataType, Dim, ModelBuilder, Node, Tensor};
use updp_testkit::{encode, find_ort};

use crate::fixtures::folder;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_updp-compile"))
}

fn worker() -> WorkerOptions {
    let time = Duration::from_mins(2);
    WorkerOptions { program: program(), memory: None, is_fresh: false, time }
}

fn options(worker: Option<WorkerOptions>) -> Options {
    let threads = Some(NonZeroUsize::MIN);
    Options { library: find_ort(), threads, worker, ..Options::default() }
}

fn opened(
    bytes: &bytes::Bytes,
    runtime: Runtime,
    worker: WorkerOptions,
) -> Result<Box<dyn Executor>, ExecError> {
    open(ModelSource::Bytes(bytes), runtime, &options(Some(worker)))
}

fn inputs(name: &str, dims: &[usize]) -> IndexMap<String, Tensor> {
    let values = vec![0.5; dims.iter().product()];
    IndexMap::from([(name.to_owned(), Tensor::from_f32(dims.to_vec(), &values).expect("whole"))])
}

/// A BatchNormalization of opset 9 whose further results have no names: ONNX Runtime crashes on it. This program refuses
/// it when it reads it (I0111), so the names are removed from the file.
fn crashing() -> bytes::Bytes {
    let mut m = ModelBuilder::new(9);
    let dims = [Dim::Known(1), Dim::Known(2), Dim::Known(3), Dim::Known(3)];
    m.input("x", DataType::Float, &dims).output("y", DataType::Float, Some(&dims));
    for name in ["scale", "shift", "mean", "variance"] {
        m.initializer(name, &Tensor::from_f32(vec![2], &[1.0, 2.0]).expect("whole"));
    }
    let operands = ["x", "scale", "shift", "mean", "variance"];
    m.node(Node::new("BatchNormalization"), &operands, &["y", "m", "v", "sm", "sv"]);
    let named = encode(&m.build().expect("a model"));
    let mut model = ModelProto::parse_from_bytes(&named).expect("a model");
    for name in model.graph.as_mut().expect("a graph").node[0].output.iter_mut().skip(1) {
        name.clear();
    }
    model.write_to_bytes().expect("it encodes").into()
}

/// A product of matrices, many times over: minutes of work.
fn endless() -> bytes::Bytes {
    let mut m = ModelBuilder::new(13);
    let dims = [Dim::Known(2048), Dim::Known(2048)];
    m.input("x", DataType::Float, &dims).output("y400", DataType::Float, Some(&dims));
    for step in 0..=400 {
        let from = if step == 0 { "x".to_owned() } else { format!("y{}", step - 1) };
        m.node(Node::new("MatMul"), &[&from, "x"], &[&format!("y{step}")]);
    }
    encode(&m.build().expect("a model"))
}

/// A scalar expanded to 32 GiB.
fn vast() -> bytes::Bytes {
    let mut m = ModelBuilder::new(13);
    let dims = [Dim::Known(1), Dim::Known(1)];
    m.input("x", DataType::Float, &dims).output("y", DataType::Float, None);
    let size = Tensor::from_i64(vec![2], &[1 << 16, 1 << 17]).expect("whole");
    m.initializer("size", &size);
    m.node(Node::new("Expand"), &["x", "size"], &["large"]);
    m.node(Node::new("ReduceSum"), &["large"], &["y"]);
    encode(&m.build().expect("a model"))
}

#[test]
fn a_runtime_that_crashes_is_an_error_and_the_next_model_runs() {
    let mut executor = match opened(&crashing(), Runtime::Ort, worker()) {
        Ok(executor) => executor,
        Err(error) => {
            assert_eq!(error.code(), "X0404", "{error}");
            return;
        }
    };
    let x = inputs("x", &[1, 2, 3, 3]);
    let error = executor.run(&x).expect_err("it crashes");
    assert_eq!(error.code(), "X0404", "{error}");
    assert!(error.to_string().contains("signal"), "{error}");
    assert_eq!(executor.run(&x).expect_err("it is gone").code(), "X0408");
    let mut executor = match opened(&endless(), Runtime::Ort, worker()) {
        Ok(executor) => executor,
        Err(error) => panic!("a new worker loads the next model: {error}"),
    };
    assert_eq!(executor.run(&x).expect_err("another model").code(), "X0303");
}

#[test]
fn a_run_ends_at_its_time_limit() {
    for runtime in [Runtime::Ort, Runtime::Tract] {
        let worker = WorkerOptions { time: Duration::from_secs(5), ..worker() };
        let begin = Instant::now();
        let error = opened(&endless(), runtime, worker)
            .and_then(|mut executor| executor.run(&inputs("x", &[2048, 2048])))
            .expect_err("it takes minutes");
        assert_eq!(error.code(), "X0405", "{runtime:?}: {error}");
        assert!(begin.elapsed() < Duration::from_mins(1));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_model_gets_no_more_than_its_memory() {
    for runtime in [Runtime::Ort, Runtime::Tract] {
        let worker = WorkerOptions { memory: Some(2 << 30), ..worker() };
        let error = opened(&vast(), runtime, worker)
            .and_then(|mut executor| executor.run(&inputs("x", &[1, 1])))
            .expect_err("32 GiB do not fit into 2");
        assert_eq!(error.code(), "X0406", "{runtime:?}: {error}");
    }
}

#[test]
fn a_worker_computes_the_same_bits() {
    let path = folder().join("trained/fmnist_resnet.bn.onnx");
    let model = bytes::Bytes::from(std::fs::read(&path).expect("it is there"));
    let x = inputs("x", &[3, 1, 28, 28]);
    for runtime in [Runtime::Ort, Runtime::Tract] {
        for source in [ModelSource::Bytes(&model), ModelSource::Path(&path)] {
            let mut here = open(source, runtime, &options(None)).expect("it loads");
            let mut there = open(source, runtime, &options(Some(worker()))).expect("it loads");
            assert_eq!(here.name(), there.name());
            assert_eq!(here.output_names(), there.output_names());
            let x: IndexMap<_, _> =
                x.values().map(|x| (here.input_names()[0].clone(), x.clone())).collect();
            let (expected, found) = (here.run(&x).expect("ok"), there.run(&x).expect("ok"));
            for (name, tensor) in &expected {
                assert_eq!(tensor.bytes(), found[name].bytes(), "{runtime:?} {name}");
            }
            assert_eq!(here.computes_on_calling_thread(), there.computes_on_calling_thread());
            let times = there.time(&x, 3, Clock::Thread).expect("ok");
            assert!(times.len() == 3 && times.iter().all(|ms| *ms > 0.0), "{times:?}");
            let wrong = inputs("another", &[1]);
            let errors =
                [&mut here, &mut there].map(|it| it.run(&wrong).expect_err("no such input"));
            assert_eq!(errors[0], errors[1]);
        }
    }
}

/// Processes that `parent` started, by the list of the system.
#[cfg(target_os = "linux")]
fn children(parent: u32) -> Vec<u32> {
    let of = |entry: std::fs::DirEntry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let after_name = stat.rsplit_once(')')?.1;
        let mut words = after_name.split_whitespace();
        let is_running = words.next()? != "Z";
        (is_running && words.next()?.parse() == Ok(parent)).then_some(process)
    };
    std::fs::read_dir("/proc").expect("it is there").flatten().filter_map(of).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn no_worker_outlives_the_program() {
    let model = folder().join("trained/fmnist_resnet.bn.onnx");
    let mut program = Command::new(program())
        .args([Path::new("bench"), &model, Path::new("--seconds"), Path::new("60")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let limit = Instant::now() + Duration::from_secs(30);
    let workers = loop {
        let workers = children(program.id());
        if !workers.is_empty() || Instant::now() > limit {
            break workers;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    program.kill().expect("it runs");
    program.wait().expect("it has ended");
    assert!(!workers.is_empty(), "a worker was started");
    let is_alive = |process: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    };
    while workers.iter().any(is_alive) {
        assert!(Instant::now() < limit + Duration::from_secs(30), "{workers:?} still run");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_program_reports_a_runtime_without_memory_and_leaves_nothing() {
    let folder_of_output = tempfile::tempdir().expect("a folder");
    let output = folder_of_output.path().join("o.onnx");
    let model = folder().join("trained/fmnist_resnet.bn.onnx");
    let mut command = Command::new(program());
    command.args([&model, Path::new("-o"), &output, Path::new("--run-memory"), Path::new("8")]);
    let result = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(8), "{text}");
    assert!(text.contains("X0404") || text.contains("X0406") || text.contains("C0009"), "{text}");
    let left: Vec<_> = std::fs::read_dir(folder_of_output.path()).expect("ok").collect();
    assert!(left.is_empty(), "{left:?}");
}
