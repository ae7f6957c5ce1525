//! A front from one run, a network picked from it, and the bound on the points lost, from the command line.

use std::path::Path;

use serde_json::Value;

use super::command::{arguments, chosen_set, data, degradation};
use crate::fixtures::folder;
use crate::prune::command::{ends, json, run, scene, succeeds};
use crate::schemas::assert_valid;

/// The lines of a table, each as its cells; the first line names the columns.
fn table(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).expect("written");
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// A column of a table as numbers, without the heading.
fn column(table: &[Vec<String>], name: &str) -> Vec<f64> {
    let at = table[0].iter().position(|it| it == name).expect("a column");
    table[1..].iter().map(|row| row[at].parse().expect("a number")).collect()
}

/// Names and times of change of everything that was fitted.
fn fits(work: &Path) -> Vec<(String, std::time::SystemTime)> {
    let jobs = std::fs::read_dir(work).expect("a folder").flatten();
    let entries = jobs.flat_map(|job| std::fs::read_dir(job.path()).into_iter().flatten());
    let mut all: Vec<_> = entries
        .flatten()
        .map(|it| {
            let changed = it.metadata().and_then(|it| it.modified()).expect("a time");
            (it.file_name().to_string_lossy().into_owned(), changed)
        })
        .filter(|(name, _)| name.ends_with(".safetensors"))
        .collect();
    all.sort();
    all
}

#[test]
fn one_run_measures_a_front_and_another_writes_a_network_of_it_without_fitting() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (tsv, page, report) = (path("f.tsv"), path("r.html"), path("r.json"));
    let data = data();
    let front = ["--macs", "0.7", "--force", "--shortlist", "1", "--front", &tsv];
    let more = [&front[..], &["--report", &page, "--report", &report]].concat();
    let text = succeeds(&arguments(&input, &output, &data, &more));
    assert!(text.contains("--pick K"), "{text}");
    assert!(text.contains("fitted networks:"), "{text}");

    let rows = table(Path::new(&tsv));
    assert!(rows.len() > 4, "the input model and at least three networks: {rows:?}");
    let numbers: Vec<f64> = (0..rows.len() - 1).map(|at| at as f64).collect();
    assert_eq!(column(&rows, "number"), numbers);
    let speeds = column(&rows, "speedup");
    assert!(speeds.is_sorted() && speeds[0] == 1.0, "{speeds:?}");
    let (low, high) = (column(&rows, "speedup_low"), column(&rows, "speedup_high"));
    for at in 1..speeds.len() {
        assert!(low[at] <= speeds[at] && speeds[at] <= high[at], "{rows:?}");
    }
    let macs = column(&rows, "macs_share");
    assert!(macs.iter().skip(1).all(|share| (0.1..1.0).contains(share)), "{macs:?}");
    let kl = column(&rows, "kl");
    assert!(kl[0] == 0.0 && kl.iter().skip(1).all(|kl| *kl > 0.0), "{kl:?}");
    let chosen: Vec<&Vec<String>> = rows.iter().filter(|row| row[10] == "yes").collect();
    assert_eq!(chosen.len(), 1, "{rows:?}");
    let told = json(Path::new(&report));
    let networks = told["pruning"]["fit"]["networks"].as_array().expect("a list");
    assert_eq!(networks.len(), rows.len() - 2, "{networks:?}");
    assert!(std::fs::read_to_string(&page).expect("written").contains("Fitted networks"));

    let work = folder.path().join("out.onnx.work");
    let before = fits(&work);
    assert!(!before.is_empty(), "the fits are kept");
    let (work_text, other) = (path("out.onnx.work"), path("other.onnx"));
    let picked = ["--work", &work_text, "--pick", "1", "--report", &report];
    succeeds(&arguments(&input, &other, &data, &picked));
    assert_eq!(before, fits(&work), "nothing is fitted again");
    let told = json(Path::new(&report));
    let found = &told["pruning"]["fit"];
    assert_eq!(found["goal"], "network 1 of the front");
    assert_eq!(Value::from(chosen_set(found)), networks[0]["blocks"]);
    assert!((degradation(found) - kl[1]).abs() < 1e-4, "{} and {}", degradation(found), kl[1]);
    assert!(Path::new(&other).exists());

    // The table as JSON, from the same fits.
    let whole = path("f.json");
    let again = ["--macs", "0.7", "--force", "--shortlist", "1", "--front", &whole];
    succeeds(&arguments(&input, &output, &data, &again));
    assert_eq!(before, fits(&work), "the fits are used again");
    let document: Value =
        serde_json::from_slice(&std::fs::read(&whole).expect("written")).expect("JSON");
    assert_valid(&document);
    refuses_what_is_not_there(&input, &other, &work_text);
}

/// A network that the front does not have, and another job.
fn refuses_what_is_not_there(input: &str, output: &str, work: &str) {
    std::fs::remove_file(output).expect("it is there");
    let data = data();
    let pick = |more: &[&str], code: &str, message: &str| {
        let all = arguments(input, output, &data, more);
        let text = ends(&all, 2, code);
        assert!(text.contains(message), "{message}: {text}");
    };
    pick(
        &["--work", work, "--pick", "99"],
        "error[C0020]",
        "there is no network 99: the front has",
    );
    pick(&["--work", work, "--pick", "1", "--seed", "5"], "error[C0019]", "another --seed");
    let unit = ["--work", work, "--pick", "1", "--shrink", "none"];
    pick(&unit, "error[C0019]", "it is of a run with another --shrink");
    pick(&["--pick", "1"], "error[C0019]", "there is no such folder");
    let other = folder().join("trained/fmnist_convnext.bn.onnx").display().to_string();
    let all = arguments(&other, output, &data, &["--work", work, "--pick", "1"]);
    let text = ends(&all, 2, "error[C0019]");
    assert!(text.contains("another model"), "{text}");
    pick(&["--work", work, "--pick", "1", "--prune", "2"], "error[C0001]", "--prune");
    assert!(!Path::new(output).exists(), "nothing was written");
}

#[test]
fn a_front_needs_images_a_table_and_an_end() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let data = data();
    let tsv = folder.path().join("f.tsv").display().to_string();
    let refused = |more: &[&str], message: &str| {
        let all = arguments(&input, &output, &data, more);
        ends(&all, 2, message);
    };
    refused(&["--prune", "2", "--front", "front.txt"], "FILE.tsv or FILE.json");
    refused(&["--prune", "2", "--front", &tsv, "--supernet-epochs", "1"], "not with --supernet");
    refused(&["--pick", "1", "--dry-run"], "not with --dry-run");
    refused(&["--pick", "1", "--search", "genetic"], "not with --search");
    refused(&["--front", &tsv], "--data needs a goal");
    ends(
        &[&input, "-o", &output, "--pick", "1"],
        2,
        "--front and --pick are for pruning with --data",
    );
    let nowhere = ["--prune", "2", "--front", "/nowhere/at/all.tsv"];
    refused(&nowhere, "error[C0003]");
    assert!(!Path::new(&output).exists());
}

#[test]
fn a_bound_on_points_is_bisected_and_every_look_is_told() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let report = folder.path().join("r.json");
    let (report_text, data) = (report.display().to_string(), data());
    let more = ["--max-drop", "3", "--force", "--report", &report_text];
    let told = run(&arguments(&input, &output, &data, &more));
    assert_eq!(told.status.code(), Some(0));
    let progress = String::from_utf8_lossy(&told.stderr).into_owned();
    let report = json(&report);
    let found = &report["pruning"]["fit"];
    let sentences = found["explanation"].as_array().expect("a list").iter();
    let sentences: Vec<&str> = sentences.filter_map(Value::as_str).collect();
    let looks: Vec<&&str> = sentences.iter().filter(|it| it.contains("points lost on")).collect();
    assert!((1..=7).contains(&looks.len()), "{sentences:?}");
    assert!(looks.iter().all(|look| progress.contains(**look)), "{progress}");
    assert!(looks.iter().any(|look| !look.contains("too much")), "{looks:?}");
    let words = "fitted for the bound of 3 points of accuracy";
    assert!(sentences.iter().any(|it| it.contains(words)), "{sentences:?}");
    assert_eq!(looks.len(), found["networks"].as_array().expect("a list").len());
    let lost = found["before"]["accuracy"].as_f64().expect("labels")
        - found["after"]["accuracy"].as_f64().expect("labels");
    assert!(lost <= 0.03 + 1e-9, "{lost}");
    assert!(!chosen_set(found).is_empty());
}

#[test]
fn a_large_loss_is_a_warning_with_gentler_goals() {
    let (_folder, input, output) = scene("fmnist_resnet.bn");
    let data = data();
    let text = succeeds(&arguments(
        &input,
        &output,
        &data,
        &["--macs", "0.2", "--force", "--shortlist", "1"],
    ));
    let warning = text.lines().find(|line| line.contains("WARNING")).expect("much is lost");
    assert!(warning.contains("less is lost with --macs 0."), "{warning}");
    assert!(warning.contains("predicted"), "{warning}");
    assert!(warning.contains("--max-drop 5"), "{warning}");
}
