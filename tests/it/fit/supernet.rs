//! The supernet from the command line: trained, searched, stopped and taken up again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use updp_testkit::read_model;

use super::command::{arguments, chosen_set, data, degradation};
use crate::prune::command::{ends, json, run, scene, started, succeeds};

/// Options of a small search in a supernet.
const SEARCH: [&str; 12] = [
    "--prune",
    "3",
    "--force",
    "--supernet-epochs",
    "1",
    "--evaluations",
    "12",
    "--shortlist",
    "2",
    "--batch-size",
    "16",
    "--quiet",
];

/// Files of a work folder whose names end so.
fn kept(work: &Path, end: &str) -> usize {
    let folders = std::fs::read_dir(work).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten());
    files.flatten().filter(|file| file.file_name().to_string_lossy().ends_with(end)).count()
}

/// A work folder with the table in it, and a report.
struct Place {
    work: std::path::PathBuf,
    texts: [String; 3],
}

impl Place {
    fn new(folder: &Path) -> Self {
        let text = |name: &str| folder.join(name).display().to_string();
        let texts = [text("work"), text("t.json"), text("r.json")];
        Self { work: folder.join("work"), texts }
    }

    fn options(&self) -> [&str; 6] {
        let [work, table, report] = &self.texts;
        ["--work", work, "--latency-table", table, "--report", report]
    }
}

fn accuracy(score: &Value) -> f64 {
    score["accuracy"].as_f64().expect("labelled data")
}

#[test]
fn sets_are_tried_in_a_trained_supernet_and_the_result_is_verified() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (data, place) = (data(), Place::new(folder.path()));
    let page = folder.path().join("r.html");
    let page_text = page.display().to_string();
    let more = [&SEARCH[..], &place.options(), &["--report", &page_text]].concat();
    succeeds(&arguments(&input, &output, &data, &more));
    let report = json(Path::new(&place.texts[2]));
    assert_eq!(report["verification"]["status"], "passed");
    let fit = &report["pruning"]["fit"];
    let supernet = &fit["supernet"];
    // 700 images in 43 batches of 16, four an update.
    assert_eq!((&supernet["epochs"], &supernet["steps"]), (&1.into(), &10.into()));
    assert!(supernet["images_per_second"].as_f64().is_some_and(|rate| rate > 0.0));
    assert_eq!(supernet["blocks"].as_array().map(Vec::len), Some(11));
    let [baseline, all] = [&supernet["baseline"], &supernet["all_pruned"]];
    assert!((accuracy(&baseline["before"]) - accuracy(&fit["before"])).abs() < 1e-9, "{supernet}");
    assert!(accuracy(&baseline["after"]) > accuracy(&baseline["before"]) - 0.06, "{supernet}");
    assert!(accuracy(&all["after"]) > accuracy(&all["before"]), "{supernet}");
    assert_eq!(
        (&fit["search"]["strategy"], &fit["search"]["evaluated"]),
        (&"genetic".into(), &12.into())
    );
    assert!(["fit", "supernet"].contains(&supernet["start"].as_str().expect("known")));
    let told = fit["explanation"].to_string();
    assert!(told.contains("12 sets together in the supernet"), "{told}");
    assert!(told.contains("the subnet of the supernet has a degradation of"), "{told}");
    let pruned: Vec<&Value> = fit["blocks"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|it| !it["chosen"].is_null())
        .collect();
    assert_eq!(pruned.len(), 3);
    let headings = ["Verification", "Supernet", "Blocks", "Network before and after", "Data"];
    crate::browser::assert_shows(&page, &headings);
    // One set of one file each: the scores in the supernet are not those of the fitted blocks.
    assert_eq!(kept(&place.work, ".jsonl"), 2, "scores and the journal");
}

#[test]
fn the_subnet_that_is_written_scores_what_the_search_saw() {
    let (folder, input, output) = scene("fmnist_mobilenetv2.bn");
    let (data, place) = (data(), Place::new(folder.path()));
    for search in ["genetic", "random", "greedy", "fit"] {
        let more = ["--start", "supernet", "--search", search];
        let more = [&SEARCH[..], &place.options(), &more].concat();
        succeeds(&arguments(&input, &output, &data, &more));
        let report = json(Path::new(&place.texts[2]));
        let fit = &report["pruning"]["fit"];
        assert_eq!(fit["supernet"]["start"], "supernet");
        let chosen = chosen_set(fit);
        assert_eq!(chosen.len(), 3, "{search}");
        let tried = fit["tried"].as_array().expect("a list");
        let own = tried.iter().find(|set| set["blocks"] == Value::from(chosen.clone()));
        let seen = own.and_then(|set| set["joint_degradation"].as_f64()).expect("it was tried");
        let of_three = tried.iter().filter(|set| set["blocks"].as_array().map(Vec::len) == Some(3));
        let least = of_three
            .filter_map(|set| set["joint_degradation"].as_f64())
            .fold(f64::INFINITY, f64::min);
        assert_eq!(seen, least, "{search}");
        // The degradation of what is written, on the same images.
        let degradation = degradation(fit);
        assert!((degradation - seen).abs() < 1e-3, "{search}: {degradation} and {seen}");
    }
}

#[test]
fn a_supernet_that_was_interrupted_ends_with_the_same_bytes() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (data, place) = (data(), Place::new(folder.path()));
    let mut options = SEARCH;
    let at = options.iter().position(|it| *it == "--supernet-epochs").expect("it is there");
    options[at + 1] = "6";
    let more = [&options[..], &place.options(), &["--form", "conv"]].concat();
    let all = arguments(&input, &output, &data, &more);
    let mut child = started(&all);
    let start = Instant::now();
    while kept(&place.work, "steps.csv") < 1 && start.elapsed() < Duration::from_mins(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    let signal = Command::new("kill").args(["-INT", &id]).status().expect("kill starts");
    assert!(signal.success(), "the training was under way");
    assert_eq!(child.wait().expect("it has ended").code(), Some(130));
    assert!(!Path::new(&output).exists());
    succeeds(&all);
    let resumed = std::fs::read(&output).expect("written");
    let report = json(Path::new(&place.texts[2]));
    assert_eq!(report["pruning"]["fit"]["supernet"]["steps"], 60);
    let told = report["pruning"]["fit"]["supernet"]["course"].as_array().map(Vec::len);
    assert!(told.is_some_and(|told| 0 < told && told < 60), "it went on: {told:?}");
    std::fs::remove_dir_all(&place.work).expect("it is there");
    succeeds(&all);
    assert_eq!(resumed, std::fs::read(&output).expect("written"), "going on differs");
}

#[test]
fn a_run_in_steps_or_killed_again_and_again_ends_with_the_bytes_of_one_run() {
    let (folder, input, output) = scene("fmnist_convnext.bn");
    let (data, place) = (data(), Place::new(folder.path()));
    let training = ["--epochs", "1", "--lr", "0.0005"];
    let more = [&SEARCH[..11], &place.options(), &training].concat();
    let all = arguments(&input, &output, &data, &more);
    let start = Instant::now();
    succeeds(&all);
    let time = start.elapsed();
    let whole = std::fs::read(&output).expect("written");
    std::fs::remove_dir_all(&place.work).expect("it is there");
    std::fs::remove_file(&output).expect("it is there");
    for (stage, told) in [("supernet", "every block pruned"), ("search", "chosen: "), ("train", "")]
    {
        let stopped = run(&[&all[..], &["--until", stage]].concat());
        let text = String::from_utf8_lossy(&stopped.stderr).into_owned();
        assert_eq!(stopped.status.code(), Some(0), "{text}");
        assert!(text.contains("the same command without --until resumes from"), "{text}");
        assert!(text.contains(told), "{text}");
        assert!(!Path::new(&output).exists(), "{stage}");
    }
    succeeds(&all);
    assert_eq!(whole, std::fs::read(&output).expect("written"), "the steps differ");
    assert_eq!(read_model(Path::new(&output)).graph.required_inputs().count(), 1);

    std::fs::remove_dir_all(&place.work).expect("it is there");
    std::fs::remove_file(&output).expect("it is there");
    for part in [0.05, 0.17, 0.23, 0.31, 0.37, 0.43] {
        let mut child = started(&all);
        std::thread::sleep(time.mul_f64(part));
        child.kill().expect("it can be killed");
        child.wait().expect("it has ended");
        let beside = std::fs::read_dir(folder.path()).expect("readable").flatten();
        let half = beside.filter(|it| it.file_name().to_string_lossy().ends_with(".onnx"));
        let is_whole = |path: std::path::PathBuf| std::fs::read(path).expect("readable") == whole;
        assert!(half.map(|it| it.path()).all(is_whole), "a part of a model is left");
    }
    succeeds(&all);
    assert_eq!(whole, std::fs::read(&output).expect("written"), "after {time:?}");
}

#[test]
fn says_what_a_supernet_or_an_early_end_lacks() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (data, work) = (data(), folder.path().join("work").display().to_string());
    let all = |more: &[&str], code, message: &str| {
        ends(
            &arguments(&input, &output, &data, &[&["--prune", "2"], more].concat()),
            code,
            message,
        );
    };
    all(&["--supernet-epochs", "1", "--recover", "fit"], 2, "not with --recover fit");
    all(&["--start", "fit"], 2, "--supernet-epochs");
    let start =
        ["--supernet-epochs", "1", "--start", "supernet", "--epochs", "1", "--method", "direct"];
    all(&start, 2, "--start supernet is for --method fit");
    all(&["--supernet-epochs", "1", "--augment", "light"], 2, "error[T0408]");
    all(&["--until", "search"], 2, "--work DIR");
    all(&["--until", "supernet", "--work", &work], 2, "needs --supernet-epochs N");
    all(&["--until", "train", "--work", &work], 2, "needs --epochs N");
    all(&["--until", "expand"], 2, "needs --blocks LIST");
    let none = ["--blocks", "1", "--recover", "none", "--search", "fit", "--supernet-epochs", "1"];
    ends(&arguments(&input, &output, &data, &none), 2, "--supernet-epochs choose");
    let early = ["--blocks", "1", "--until", "expand", "--supernet-epochs", "1"];
    ends(&arguments(&input, &output, &data, &early), 2, "no --search, --evaluations");
    ends(&[&input, "-o", &output, "--until", "search"], 2, "are for pruning with --data");
    ends(&[&input, "-o", &output, "--prune", "2", "--supernet-epochs", "1"], 2, "error[C0001]");
    assert!(!Path::new(&output).exists() && !Path::new(&work).exists());
}

#[test]
fn a_dry_run_counts_the_supernet() {
    let (_folder, input, output) = scene("fmnist_resnet.bn");
    let data = data();
    let more = ["--prune", "2", "--supernet-epochs", "2", "--dry-run"];
    let text = succeeds(&arguments(&input, &output, &data, &more));
    // 700 images in 10 batches of 64, four an update.
    assert!(text.contains("supernet: 2 epochs and 4 steps"), "{text}");
    assert!(text.contains("evaluating sets in it: about"), "{text}");
    assert!(!Path::new(&output).exists());
}
