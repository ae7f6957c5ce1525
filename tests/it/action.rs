//! The GitHub Action: its steps run here as a runner would run them, and its workflow files are held to the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::folder;

const PROGRAM: &str = env!("CARGO_BIN_EXE_updp-compile");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of a job, with the files that a runner gives to a step.
struct Job {
    folder: TempDir,
}

/// What a step did.
struct Ran {
    code: Option<i32>,
    log: String,
    outputs: BTreeMap<String, String>,
    summary: String,
}

impl Job {
    fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a step with these inputs.
    fn step(&self, name: &str, inputs: &[(&str, &str)]) -> Ran {
        self.step_with(name, inputs, &[])
    }

    /// Runs a step with these inputs and variables of the runner.
    fn step_with(&self, name: &str, inputs: &[(&str, &str)], runner: &[(&str, &str)]) -> Ran {
        let (outputs, summary) = (self.path("outputs.txt"), self.path("summary.md"));
        for path in [&outputs, &summary] {
            fs::write(path, "").expect("written");
        }
        let mut python = Command::new("python3");
        python.arg(root().join("action/steps.py")).arg(name).current_dir(self.folder.path());
        python.env("GITHUB_OUTPUT", &outputs).env("GITHUB_STEP_SUMMARY", &summary);
        python.env("GITHUB_ACTIONS", "true").env("UPDP_PROGRAM", PROGRAM);
        python.envs(runner.iter().copied());
        python.envs(inputs.iter().map(|(name, value)| (format!("UPDP_{name}"), value)));
        let Output { status, stdout, stderr } = python.output().expect("Python starts");
        let log = format!("{}{}", text(&stdout), text(&stderr));
        assert!(!log.contains("Traceback"), "{log}");
        Ran {
            code: status.code(),
            log,
            outputs: read_outputs(&fs::read_to_string(outputs).expect("text")),
            summary: fs::read_to_string(summary).expect("text"),
        }
    }
}

impl Ran {
    #[track_caller]
    fn ends(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{}", self.log);
    }

    fn output(&self, name: &str) -> &str {
        self.outputs.get(name).unwrap_or_else(|| panic!("no output {name}"))
    }

    #[track_caller]
    fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.summary.contains(word), "no {word:?} in {}", self.summary);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Outputs in the form `name<<mark`, lines, `mark`, as the runner reads them.
fn read_outputs(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, mark) = line.split_once("<<").expect("a name and a mark");
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != mark).collect();
        found.insert(name.to_owned(), value.join("\n"));
    }
    found
}

fn repvgg() -> String {
    folder().join("trained/fmnist_repvgg.bn.onnx").to_string_lossy().into_owned()
}

#[test]
fn the_step_install_takes_a_program_and_checks_its_version() {
    let job = Job::new();
    let version = env!("CARGO_PKG_VERSION");
    for wanted in ["", version, &format!("v{version}")] {
        let ran = job.step("install", &[("INSTALL", PROGRAM), ("VERSION", wanted)]);
        ran.ends(0);
        assert_eq!((ran.output("version"), ran.output("program")), (version, PROGRAM));
    }
    let ran = job.step("install", &[("INSTALL", PROGRAM), ("VERSION", "9.9.9")]);
    ran.ends(2);
    ran.says(&["version 9.9.9 is asked for"]);
    assert!(ran.outputs.is_empty());
    for missing in ["dist/*.whl", "target/missing/updp-compile"] {
        let ran = job.step("install", &[("INSTALL", missing)]);
        ran.ends(2);
        assert!(
            ran.log.contains("::error") && ran.log.contains("install: there is no"),
            "{}",
            ran.log
        );
    }
}

/// Writes a wheel whose program tells its version, and the variable of its environment.
const WHEEL: &str = r##"
import sys, zipfile
version = sys.argv[1]
info = f"updp_compile-{version}.dist-info"
program = f"#!/bin/sh\n[ \"$1\" = --version ] || echo home \"$VIRTUAL_ENV\"\necho updp-compile {version}\n"
files = {
    f"updp_compile-{version}.data/scripts/updp-compile": program,
    f"{info}/METADATA": f"Metadata-Version: 2.1\nName: updp-compile\nVersion: {version}\nProvides-Extra: ort\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
with zipfile.ZipFile(f"updp_compile-{version}-py3-none-any.whl", "w") as wheel:
    for name, text in files.items():
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o100755 << 16
        wheel.writestr(entry, text)
    wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
"##;

#[test]
fn the_step_install_takes_a_wheel_into_an_environment_of_its_own() {
    let job = Job::new();
    let mut python = Command::new("python3");
    python.current_dir(job.folder.path()).args(["-c", WHEEL, "1.2.3"]);
    assert!(python.status().expect("Python starts").success());
    let temporary = job.folder.path().to_string_lossy().into_owned();
    let inputs = [("INSTALL", "*.whl"), ("VERSION", "1.2.3")];
    let ran = job.step_with("install", &inputs, &[("RUNNER_TEMP", &temporary)]);
    ran.ends(0);
    assert_eq!(ran.output("version"), "1.2.3");
    let program = ran.output("program").to_owned();
    assert!(program.starts_with(&temporary), "{program}");
    // ONNX Runtime is found in the environment that the program lies in.
    let ran = job.step("run", &[("PROGRAM", &program), ("MODEL", "model.onnx")]);
    let home = Path::new(&program).parent().and_then(Path::parent).expect("an environment");
    assert!(ran.log.contains(&format!("home {}", home.display())), "{}", ran.log);
}

#[test]
fn a_compilation_ends_with_a_summary_and_outputs_that_its_report_confirms() {
    let job = Job::new();
    let args = "--runtime tract --threads 1 --max-bytes 1MB --target ort";
    let ran = job.step("run", &[("MODEL", &repvgg()), ("ARGS", args), ("OUTPUT", "out.onnx")]);
    ran.ends(0);
    let report = fs::read_to_string(job.path(ran.output("report"))).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let bytes = fs::metadata(job.path(ran.output("model"))).expect("a model").len();
    let after = &report["output"];
    assert_eq!(ran.output("bytes"), bytes.to_string());
    assert_eq!(ran.output("nodes"), after["nodes"].to_string());
    assert_eq!(ran.output("macs"), after["macs"].to_string());
    assert_eq!([ran.output("exit-code"), ran.output("verification")], ["0", "passed"]);
    assert_eq!(["page", "speedup", "accuracy"].map(|name| ran.output(name)), ["", "", ""]);
    let nodes = format!("| Nodes | {} | {} | −", report["input"]["nodes"], after["nodes"]);
    ran.says(&[&nodes, "| File size | 123.03 kB |", "**Verification** passed: 3 runs in tract"]);
    ran.says(&["| merge-parallel | "]);
    assert!(!ran.summary.contains("Failed"), "{}", ran.summary);
    // The program's lines stand between marks that take commands of the runner away from them.
    let (_, rest) = ran.log.split_once("::stop-commands::").expect("commands are stopped");
    let (token, rest) = rest.split_once('\n').expect("a line");
    let (_, after) = rest.split_once(&format!("::{token}::")).expect("commands are taken again");
    assert!(!after.contains("multiply-adds"), "{}", ran.log);
}

#[test]
fn a_pruning_tells_speed_accuracy_and_blocks_and_leaves_a_page() {
    let job = Job::new();
    let at = |name: &str| folder().join(name).to_string_lossy().into_owned();
    let (model, data) = (at("trained/fmnist_resnet.bn.onnx"), at("fmnist_test_1000.npz"));
    let args = "--preprocess fashion-mnist --prune 1 --force --threads 1 --probe-seconds 0.02 --images 200";
    let inputs = [
        ("MODEL", model.as_str()),
        ("DATA", data.as_str()),
        ("ARGS", args),
        ("REPORT", "kept.json"),
    ];
    let ran = job.step("run", &inputs);
    ran.ends(0);
    let page = fs::read_to_string(job.path(ran.output("page"))).expect("a page");
    assert!(page.contains("<html") && ran.output("page") == "kept.html");
    ran.says(&["| Latency | ", " times as fast (", "| Accuracy (", "**Pruned blocks** "]);
    let number = |name: &str| ran.output(name).parse::<f64>().expect("a number");
    assert!(number("speedup") > 0.5 && (0.1..=1.0).contains(&number("accuracy")));
}

#[test]
fn a_missed_gate_fails_the_step_and_keeps_model_and_report() {
    let job = Job::new();
    let args = "--runtime tract --threads 1 --max-bytes 1kB";
    let ran = job.step("run", &[("MODEL", &repvgg()), ("ARGS", args)]);
    ran.ends(7);
    assert!(job.path(ran.output("model")).is_file() && job.path(ran.output("report")).is_file());
    assert_eq!(ran.output("exit-code"), "7");
    ran.says(&[
        "**Failed: a gate was missed** (exit code 7)",
        "bytes instead of 1000",
        "| Nodes | ",
    ]);
    let annotation = "::error title=updp-compile%3A a gate was missed (exit code 7)::missed: ";
    assert!(ran.log.contains(annotation), "{}", ran.log);
}

#[test]
fn a_wrong_model_fails_the_step_and_an_old_report_is_not_taken_for_its_own() {
    let job = Job::new();
    let old = fs::read_to_string(root().join("docs/schemas/updp-report-2.schema.json"));
    fs::write(job.path("updp-report.json"), old.expect("text")).expect("written");
    fs::write(job.path("wrong.onnx"), "no model").expect("written");
    let ran = job.step("run", &[("MODEL", "wrong.onnx")]);
    ran.ends(3);
    assert_eq!(["model", "report", "nodes"].map(|name| ran.output(name)), ["", "", ""]);
    assert_eq!(ran.output("exit-code"), "3");
    ran.says(&["**Failed: the model cannot be read** (exit code 3)", "error\\[I00"]);
    assert!(!job.path("updp-report.json").exists() && !ran.summary.contains("| Nodes |"));
}

#[test]
fn inputs_are_arguments_and_no_code() {
    let job = Job::new();
    let hostile = "$(touch made) `touch made`; touch made";
    for name in ["MODEL", "OUTPUT", "ARGS", "DATA"] {
        let mut inputs = BTreeMap::from([("MODEL", repvgg())]);
        inputs.insert(name, hostile.to_owned());
        let inputs: Vec<(&str, &str)> = inputs.iter().map(|(a, b)| (*a, b.as_str())).collect();
        let _ = job.step("run", &inputs);
        assert!(!job.path("made").exists(), "{name}");
    }
    for (name, value) in [("ARGS", "--report x.json"), ("ARGS", "'open"), ("COMMAND", "bench")] {
        job.step("run", &[("MODEL", &repvgg()), (name, value)]).ends(2);
    }
    job.step("run", &[]).ends(2);
}

/// The names below a key of the first level in a YAML file.
fn names_below(text: &str, key: &str) -> BTreeSet<String> {
    let (_, rest) = text.split_once(&format!("\n{key}:\n")).expect("the key");
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with(' '));
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'));
    names.filter(|name| !name.starts_with([' ', '#'])).map(str::to_owned).collect()
}

/// What stands behind `prefix` in the expressions of a text.
fn used(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    text.split(prefix).skip(1).map(|rest| rest.chars().take_while(is_name).collect()).collect()
}

#[test]
fn the_action_declares_what_its_steps_take_and_set() {
    let action = fs::read_to_string(root().join("action.yml")).expect("text");
    let page = fs::read_to_string(root().join("docs/ci.md")).expect("text");
    let inputs = names_below(&action, "inputs");
    let outputs = names_below(&action, "outputs");
    assert!(inputs.len() > 5 && outputs.len() > 5, "{inputs:?} {outputs:?}");
    assert_eq!(used(&action, "inputs."), inputs);
    for name in inputs.iter().chain(&outputs) {
        assert!(page.contains(&format!("`{name}`")), "docs/ci.md does not name {name}");
    }
    let job = Job::new();
    let set = [
        job.step("install", &[("INSTALL", PROGRAM)]),
        job.step("run", &[("MODEL", "missing.onnx")]),
    ];
    let set: BTreeSet<String> = set.iter().flat_map(|ran| ran.outputs.keys().cloned()).collect();
    assert!(outputs.is_subset(&set), "{outputs:?} {set:?}");
    assert_eq!(used(&action, ".outputs."), set);
    for line in action.lines().filter(|line| line.trim_start().starts_with("run: ")) {
        assert!(!line.contains("${{"), "an expression in a command is code: {line}");
    }
}

/// The workflow files and the action.
fn yaml_files() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join(".github/workflows")).expect("workflows");
    let mut found: Vec<PathBuf> = folder.map(|entry| entry.expect("readable").path()).collect();
    found.push(root().join("action.yml"));
    assert!(found.len() >= 3, "{found:?}");
    found
}

#[test]
fn other_actions_are_pinned_to_commits_and_their_version_is_told() {
    let mut pins: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in yaml_files() {
        let text = fs::read_to_string(&path).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some((_, action)) = line.split_once("uses: ") else { continue };
            let place = format!("{}:{}", path.display(), at + 1);
            let (name, commit) = action.split_once('@').expect("a commit");
            let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            assert!(commit.len() == 40 && commit.chars().all(is_hex), "{place}: {action}");
            let told = lines[at - 1].trim_start().strip_prefix("# v").expect("the version above");
            let version = told.split(';').next().unwrap_or(told);
            let numbers = version.split('.').filter(|part| part.parse::<u32>().is_ok()).count();
            assert_eq!(numbers, 3, "{place}: {told}");
            pins.entry(name.to_owned()).or_default().insert(format!("{version} {commit}"));
        }
    }
    assert!(pins.len() >= 5, "{pins:?}");
    assert!(pins.values().all(|found| found.len() == 1), "one action, two commits: {pins:?}");
}

#[test]
fn no_command_of_a_workflow_holds_what_others_write() {
    for path in yaml_files() {
        let text = fs::read_to_string(&path).expect("text");
        for line in text.lines().filter(|line| line.contains("${{")) {
            // Names of branches, titles and inputs reach a shell as variables, never as its code.
            let is_value = line.trim_start().trim_start_matches("- ").split_once(": ");
            let key = is_value.map(|(key, _)| key).unwrap_or_default();
            let allowed = ["runs-on", "continue-on-error", "name", "group", "if", "value"];
            let is_variable = key.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let is_path = path.ends_with("action.yml") && key.is_empty();
            assert!(
                allowed.contains(&key) || is_variable && !key.is_empty() || is_path,
                "{}: {line}",
                path.display()
            );
        }
    }
}

#[test]
fn the_examples_of_the_page_give_inputs_that_the_action_has() {
    let action = fs::read_to_string(root().join("action.yml")).expect("text");
    let inputs = names_below(&action, "inputs");
    let page = fs::read_to_string(root().join("docs/ci.md")).expect("text");
    let name = format!("OWNER/updp-compile@v{}\n", env!("CARGO_PKG_VERSION"));
    let mut given = BTreeSet::new();
    for rest in page.split("uses: ").skip(1).filter(|rest| rest.starts_with(&name)) {
        let (_, rest) = rest.split_once("        with:\n").expect("inputs");
        let lines = rest.lines().take_while(|line| line.starts_with("          "));
        let keys = lines.filter_map(|line| line.strip_prefix("          ")?.split_once(':'));
        given.extend(keys.map(|(key, _)| key.to_owned()).filter(|key| !key.starts_with(' ')));
    }
    assert!(given.len() >= 4, "{given:?}");
    assert!(given.is_subset(&inputs), "{given:?}");
}
