//! Pruning with data from the command line.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use updp_ir::{DataPlacement, DataType, Dim, ModelBuilder, Node};
use updp_testkit::{op_counts, read_model};

use crate::browser::assert_shows;
use crate::fixtures::folder;
use crate::prune::command::{ends, json, run, scene, started, succeeds};

pub(super) fn data() -> String {
    folder().join("fmnist_test_1000.npz").display().to_string()
}

/// One thread where no number is asked for: tests already keep every core busy, and the threads of several would wait for
/// each other in loops.
pub(super) fn with_threads(mut all: Vec<&str>) -> Vec<&str> {
    if !all.contains(&"--threads") {
        all.extend(["--threads", "1"]);
    }
    all
}

/// Arguments of a run on the Fashion-MNIST fixture, and more.
pub(super) fn arguments<'a>(
    input: &'a str,
    output: &'a str,
    data: &'a str,
    more: &[&'a str],
) -> Vec<&'a str> {
    let mut all = vec![input, "-o", output, "--data", data, "--preprocess", "fashion-mnist"];
    all.extend(["--images", "400", "--val-split", "0.3", "--probe-seconds", "0.02"]);
    all.extend(more);
    with_threads(all)
}

/// Blocks that were pruned with their forms, as the report lists a set.
pub(super) fn chosen_set(fit: &Value) -> Vec<Value> {
    let blocks = fit["blocks"].as_array().expect("a list").iter();
    let pruned = blocks.filter(|block| !block["chosen"].is_null());
    pruned.map(|block| serde_json::json!([block["index"], block["chosen"]])).collect()
}

/// Points that the result loses on the images it is reported on.
pub(super) fn degradation(fit: &Value) -> f64 {
    fit["after"]["kl"].as_f64().expect("a number")
}

fn accuracy(report: &Value, when: &str) -> f64 {
    report["pruning"]["fit"][when]["accuracy"].as_f64().expect("labelled data")
}

#[test]
fn prunes_so_many_blocks_and_keeps_the_accuracy() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (report, page) = (folder.path().join("r.json"), folder.path().join("r.html"));
    let (report_text, page_text) = (report.display().to_string(), page.display().to_string());
    let data = data();
    let more = ["--prune", "2", "--force", "--report", &report_text, "--report", &page_text];
    let text = succeeds(&arguments(&input, &output, &data, &more));
    assert!(text.contains("2 of 11 blocks pruned"), "{text}");
    let report = json(&report);
    let (before, after) = (accuracy(&report, "before"), accuracy(&report, "after"));
    assert!(before > 0.8, "{before}");
    assert!(after > before - 0.05, "{before} -> {after}");
    assert_eq!(report["pruning"]["recovery"], "fit");
    let chosen = report["pruning"]["fit"]["blocks"].as_array().expect("a list");
    assert_eq!(chosen.iter().filter(|block| !block["chosen"].is_null()).count(), 2);
    let convs = |path: &str| op_counts(&read_model(Path::new(path)).graph)["Conv"];
    assert!(convs(&output) < convs(&input));
    assert!(std::fs::read_to_string(page).expect("written").contains("</html>"));
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("readable").collect();
    assert_eq!(left.len(), 3, "the work folder is gone: {left:?}");
}

#[test]
fn the_same_command_gives_the_same_bytes_also_after_it_was_killed() {
    let (folder, input, output) = scene("fmnist_deit.bn");
    let table = folder.path().join("t.json").display().to_string();
    let work = folder.path().join("work");
    let (work_text, data) = (work.display().to_string(), data());
    let more =
        ["--prune", "2", "--force", "--form", "norm", "--latency-table", &table, "--threads", "2"];
    let all = arguments(&input, &output, &data, &more);
    succeeds(&all);
    let first = std::fs::read(&output).expect("written");
    succeeds(&all);
    assert_eq!(first, std::fs::read(&output).expect("written"), "a second run differs");

    std::fs::remove_file(&output).expect("it is there");
    let kept = [all.as_slice(), &["--work", &work_text]].concat();
    let mut child = started(&kept);
    let entries = || -> usize {
        let folders = std::fs::read_dir(&work).into_iter().flatten().flatten();
        folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten()).count()
    };
    let start = Instant::now();
    while entries() < 2 && start.elapsed() < Duration::from_mins(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it has ended");
    assert!(entries() >= 2, "something was kept");
    let output_of_rest = run(&kept);
    assert_eq!(output_of_rest.status.code(), Some(0));
    let note = String::from_utf8_lossy(&output_of_rest.stderr).into_owned();
    assert!(note.contains("resuming with the results in"), "{note}");
    assert_eq!(first, std::fs::read(&output).expect("written"), "going on differs");
}

#[test]
fn a_genetic_search_keeps_its_goal_and_gives_the_same_bytes_twice() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let table = folder.path().join("t.json").display().to_string();
    let report = folder.path().join("r.json");
    let (report_text, data) = (report.display().to_string(), data());
    let more = ["--prune", "3", "--force", "--shortlist", "1", "--latency-table", &table];
    let search = ["--search", "genetic", "--evaluations", "20", "--report", &report_text];
    let all = arguments(&input, &output, &data, &[more.as_slice(), &search].concat());
    succeeds(&all);
    let first = std::fs::read(&output).expect("written");
    let found = &json(&report)["pruning"]["fit"];
    assert_eq!(found["search"]["strategy"], "genetic");
    assert_eq!(found["search"]["evaluated"], 20);
    let tried = found["tried"].as_array().expect("a list");
    assert_eq!(tried.len(), 20);
    assert!(tried.iter().all(|set| set["blocks"].as_array().map(Vec::len) == Some(3)));
    assert!(found["search"]["by_latency"].as_array().expect("a list").len() > 1);
    let chosen = found["blocks"].as_array().expect("a list");
    assert_eq!(chosen.iter().filter(|block| !block["chosen"].is_null()).count(), 3);
    succeeds(&all);
    assert_eq!(first, std::fs::read(&output).expect("written"), "a second run differs");
}

#[test]
fn of_the_sets_that_lose_least_the_best_as_a_whole_is_taken() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (report, work) = (folder.path().join("r.json"), folder.path().join("work"));
    let table = folder.path().join("t.json").display().to_string();
    let (report_text, work_text) = (report.display().to_string(), work.display().to_string());
    let data = data();
    let kept = ["--work", &work_text, "--latency-table", &table, "--report", &report_text];
    let number = |set: &Value, name: &str| set[name].as_f64();
    let least = |sets: &[Value], name: &str| {
        sets.iter().filter_map(|set| number(set, name)).fold(f64::INFINITY, f64::min)
    };
    for (goal, search, count) in [
        (["--prune", "2"], "fit", 1),
        (["--prune", "2"], "fit", 3),
        (["--prune", "2"], "greedy", 3),
        (["--macs", "0.8"], "fit", 3),
    ] {
        let shortlist = count.to_string();
        let more = ["--force", "--form", "conv", "--search", search, "--shortlist", &shortlist];
        let more = [&goal[..], &more, &kept].concat();
        let text = succeeds(&arguments(&input, &output, &data, &more));
        let found = &json(&report)["pruning"]["fit"];
        // Sets on the way to the goal are not among them.
        let is_goal =
            |set: &Value| goal[0] != "--prune" || set["blocks"].as_array().map(Vec::len) == Some(2);
        let tried = found["tried"].as_array().expect("a list").iter().cloned();
        let (fitted, passed): (Vec<Value>, Vec<Value>) =
            tried.filter(is_goal).partition(|set| number(set, "fitted_degradation").is_some());
        assert_eq!(fitted.len(), count, "{goal:?}");
        // Each of them loses no more together than any that was passed over.
        if goal[0] == "--prune" {
            let most = fitted.iter().filter_map(|set| number(set, "joint_degradation"));
            let most = most.fold(f64::NEG_INFINITY, f64::max);
            assert!(most <= least(&passed, "joint_degradation"), "{fitted:?} {passed:?}");
        }
        assert_eq!(text.contains("sets on the shortlist have"), count > 1, "{text}");
        // The result is the best of them but for the noise of so few images; its degradation is on the same ones.
        let degradation = degradation(found);
        let images = found["data"]["held_out"].as_f64().expect("a number");
        let best = least(&fitted, "fitted_degradation");
        let noise = 2.0 * best / images.sqrt();
        assert!(degradation < best + noise + 1e-9, "{goal:?}: {degradation} and {best}");
        assert_eq!(text.contains("is within the noise of"), degradation > best + 1e-9);
        let chosen = Value::from(chosen_set(found));
        let own = fitted.iter().find(|set| set["blocks"] == chosen);
        let own = own.and_then(|set| number(set, "fitted_degradation")).expect("it is one of them");
        assert!((degradation - own).abs() < 1e-3, "{goal:?}: {degradation} and {own}");
    }
}

#[test]
fn a_share_of_the_multiply_adds_is_kept_to_by_every_search() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let report = folder.path().join("r.json");
    let (report_text, data) = (report.display().to_string(), data());
    // Blocks are fitted once for all goals.
    let work = folder.path().join("work").display().to_string();
    let macs = |report: &Value, side: &str| report[side]["macs"].as_f64().expect("a number");
    let blocks = |report: &Value| -> Vec<Value> {
        let all = report["pruning"]["fit"]["blocks"].as_array().expect("a list").clone();
        all.into_iter().filter(|block| !block["chosen"].is_null()).collect()
    };
    let mut pruned = Vec::new();
    for (share, search) in [("0.8", "fit"), ("0.6", "fit"), ("0.6", "greedy")] {
        let more = ["--macs", share, "--search", search, "--evaluations", "12", "--force"];
        let kept = ["--shortlist", "1", "--work", &work, "--report", &report_text];
        let more = [&more[..], &kept].concat();
        succeeds(&arguments(&input, &output, &data, &more));
        let report = json(&report);
        let left = macs(&report, "output") / macs(&report, "input");
        let most: f64 = share.parse().expect("a number");
        assert!(left <= most + 1e-3, "{search}: {left} of {most} is left");
        let goal = report["pruning"]["fit"]["goal"].as_str().expect("a text");
        assert_eq!(goal, format!("{share} of the multiply-adds"));
        // Latencies of the sets are still milliseconds.
        let front = report["pruning"]["fit"]["front"].as_array().expect("a list").clone();
        assert!(front.iter().all(|set| set["latency_ms"].as_f64().is_some_and(|ms| ms < 1e3)));
        pruned.push(blocks(&report).len());
    }
    assert!(0 < pruned[0] && pruned[0] < pruned[1], "{pruned:?}");
    let more = ["--macs", "0.01", "--force", "--work", &work, "--report", &report_text];
    ends(&arguments(&input, &output, &data, &more), 7, "of the multiply-adds are left instead of");
    ends(&arguments(&input, &output, &data, &["--macs", "1.5"]), 2, "no share between 0 and 1");
    ends(&[&input, "-o", &output, "--macs", "0.5"], 2, "a goal needs images");
}

#[test]
fn labels_are_not_needed() {
    let (folder, input, output) = scene("fmnist_convnext.bn");
    let images = folder.path().join("images.npy");
    let dims = [120_usize, 28, 28];
    let pixels: Vec<u8> =
        (0..dims.iter().product()).map(|at: usize| (at * 31 % 251) as u8).collect();
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {dims:?}, }}");
    header = header.replace('[', "(").replace(']', ")");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(&pixels);
    std::fs::write(&images, bytes).expect("written");
    let images = images.display().to_string();
    let report = folder.path().join("r.json");
    let report_text = report.display().to_string();
    let more = ["--blocks", "1,4", "--force", "--report", &report_text];
    succeeds(&arguments(&input, &output, &images, &more));
    let report = json(&report);
    assert_eq!(report["pruning"]["fit"]["metric"], "agreement");
    assert!(report["pruning"]["fit"]["after"]["accuracy"].is_null());
    assert!(report["pruning"]["fit"]["after"]["agreement"].as_f64().expect("a share") > 0.5);
}

#[test]
fn a_goal_out_of_reach_ends_with_7_and_the_best_network() {
    let (folder, input, output) = scene("fmnist_vgg.bn");
    let data = data();
    let page = folder.path().join("r.html");
    let page_text = page.display().to_string();
    let more = ["--speedup", "50", "--batch", "8", "--max-bytes", "1kB", "--report", &page_text];
    ends(
        &arguments(&input, &output, &data, &more),
        7,
        "bytes instead of 1000; the result is written",
    );
    assert_shows(&page, &["Missed"]);
    let page = std::fs::read_to_string(page).expect("written");
    assert!(page.contains("instead of 50<") && page.contains("instead of 1000<"), "{page}");
    assert!(Path::new(&output).exists());
}

#[test]
fn as_much_is_pruned_as_the_bound_allows() {
    let (folder, input, output) = scene("fmnist_mobilenetv2.bn");
    let report = folder.path().join("r.json");
    let (report_text, data) = (report.display().to_string(), data());
    let more = ["--max-drop", "4", "--force", "--report", &report_text];
    succeeds(&arguments(&input, &output, &data, &more));
    let report = json(&report);
    assert!(accuracy(&report, "after") >= accuracy(&report, "before") - 0.04);
    let blocks = report["pruning"]["fit"]["blocks"].as_array().expect("a list").clone();
    assert!(blocks.iter().any(|block| !block["chosen"].is_null()));
    let found = &report["pruning"]["fit"];
    let chosen = Value::from(chosen_set(found));
    let mut tried = found["tried"].as_array().expect("a list").iter();
    let own = tried.find(|set| set["blocks"] == chosen).expect("it was tried");
    let own = own["fitted_degradation"].as_f64().expect("it was fitted as a whole");
    assert!((degradation(found) - own).abs() < 1e-3, "{} and {own}", degradation(found));
}

#[test]
fn says_what_is_missing() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let data = data();
    ends(&[&input, "-o", &output, "--data", &data], 2, "--data needs a goal");
    ends(&[&input, "-o", &output, "--prune", "2"], 2, "a goal needs images");
    ends(&[&input, "-o", &output, "--speedup", "0.5"], 2, "error[C0001]");
    ends(&[&input, "-o", &output, "--recover", "fit", "--blocks", "1"], 2, "--data DIR");
    ends(&[&input, "-o", &output, "--blocks", "1"], 2, "--data DIR");
    let many = arguments(&input, &output, &data, &["--prune", "99"]);
    ends(&many, 6, "error[C0014]");
    ends(&many, 6, "99 blocks are asked for");
    assert!(!folder.path().join("out.onnx.work").exists(), "latencies are left behind");
    ends(&[&input, "-o", &output, "--prune", "2", "--search", "genetic"], 2, "error[C0001]");
    let none = ["--blocks", "1", "--recover", "none", "--search", "greedy"];
    ends(
        &arguments(&input, &output, &data, &none),
        2,
        "--search, --evaluations, --shortlist and --supernet-epochs choose",
    );
    ends(&arguments(&input, &output, &data, &["--blocks", "99"]), 2, "error[C0013]");
    ends(&arguments(&input, &output, "/nowhere", &["--prune", "1"]), 2, "error[T0101]");
    let file = folder.path().join("a file");
    std::fs::write(&file, "text").expect("written");
    let file = file.display().to_string();
    ends(&arguments(&input, &output, &data, &["--prune", "1", "--work", &file]), 2, "error[C0003]");
    assert!(!Path::new(&output).exists());
}

/// A model of one operator from inputs of these names, written to a file.
fn small(path: &Path, inputs: &[&str], node: Node, dtype: DataType) {
    let dims = [Dim::from("n"), Dim::from(1), Dim::from(28), Dim::from(28)];
    let mut builder = ModelBuilder::new(17);
    for input in inputs {
        builder.input(input, DataType::Float, &dims);
    }
    builder.output("y", dtype, None);
    builder.node(node, inputs, &["y"]);
    let model = builder.build().expect("well formed");
    let bytes = model.encode(&DataPlacement::Inline).expect("it is small").model_to_bytes();
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn models_that_cannot_be_judged_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let output = path("out.onnx").display().to_string();
    let data = data();
    small(&path("two.onnx"), &["a", "b"], Node::new("Add"), DataType::Float);
    small(&path("index.onnx"), &["a"], Node::new("ArgMax").with("axis", 3_i64), DataType::Int64);
    small(&path("log.onnx"), &["a"], Node::new("Log"), DataType::Float);
    for (name, code) in [("two", "T0001"), ("index", "T0003"), ("log", "T0002")] {
        let input = path(&format!("{name}.onnx")).display().to_string();
        let all = arguments(&input, &output, &data, &["--prune", "1"]);
        ends(&all, 2, &format!("error[{code}]"));
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (data, report) = (data(), folder.path().join("r.json").display().to_string());
    let work = folder.path().join("work").display().to_string();
    let table = folder.path().join("t.json").display().to_string();
    let kept = ["--report", &report, "--work", &work, "--latency-table", &table, "--dry-run"];
    for (more, training) in [
        (&["--prune", "2"][..], None),
        (&["--blocks", "4,7", "--epochs", "2"], Some("2 epochs and 42 steps")),
        (
            &["--prune", "2", "--epochs", "1", "--method", "progressive"],
            Some("1 epoch and 10 steps"),
        ),
    ] {
        let text = succeeds(&arguments(&input, &output, &data, &[more, &kept].concat()));
        let prunable = if more.contains(&"--prune") { 11 } else { 2 };
        assert!(text.contains(&format!("11 found, {prunable} with forms to fit")), "{text}");
        assert!(text.contains("400 to fit with, 200 held out") && text.contains("in all about"));
        assert_eq!(text.contains("training:"), training.is_some(), "{text}");
        assert!(training.is_none_or(|training| text.contains(training)), "{text}");
    }
    let train = ["train", &input, "--data", &data, "--preprocess", "fashion-mnist", "--dry-run"];
    let text = succeeds(&[&train[..], &["-o", &output, "--epochs", "3"]].concat());
    assert!(text.contains("900 to train with, 100 to score by"), "{text}");
    assert!(text.contains("3 epochs and 42 steps") && text.contains("ms a step, "), "{text}");
    succeeds(&train);
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
    ends(&[&input, "-o", &output, "--dry-run"], 2, "--dry-run is for pruning with --data");
    ends(&arguments(&input, &output, &data, &["--dry-run"]), 2, "--data needs a goal");
}
