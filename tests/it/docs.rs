//! The documentation is right: its commands run, its file of options is understood, its links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use updp_testkit::{find_ort, skip};

use crate::fixtures::folder;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The code blocks of a language, in their order; `""` is a block without one.
pub(crate) fn snippets(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(name), None) => open = Some((name == language, String::new())),
            (Some(_), Some((is_wanted, code))) => {
                if *is_wanted {
                    found.push(std::mem::take(code));
                }
                open = None;
            }
            (None, Some((_, code))) => {
                code.push_str(line);
                code.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

pub(crate) fn program(at: &Path, words: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_updp-compile"));
    program.current_dir(at).args(words).output().expect("the program starts")
}

pub(crate) fn told(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

/// A copy of the trained fixtures and their images, as they lie in the repository.
fn copy_of_fixtures() -> tempfile::TempDir {
    let scene = tempfile::tempdir().expect("a folder");
    let to = scene.path().join("fixtures");
    fs::create_dir_all(to.join("trained")).expect("a folder");
    let images = "fmnist_test_1000.npz";
    fs::copy(folder().join(images), to.join(images)).expect("copied");
    let model = "trained/fmnist_resnet.bn.onnx";
    fs::copy(folder().join(model), to.join(model)).expect("copied");
    scene
}

#[test]
fn the_quick_start_of_the_readme_runs() {
    let readme = page("README.md");
    let (_, section) = readme.split_once("## One minute with a shipped model").expect("a heading");
    let commands = snippets(section, "").swap_remove(0).replace("\\\n", " ");
    let scene = copy_of_fixtures();
    let mut at = scene.path().to_owned();
    let mut ran = Vec::new();
    for line in commands.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["cd", place] => at.push(place),
            ["updp-compile", rest @ ..] => {
                let short: &[&str] = match rest.first() {
                    Some(&"prune") => &["--threads", "1", "--probe-seconds", "0.02"],
                    Some(&"bench") => &["--threads", "1", "--seconds", "0.3"],
                    _ => &["--threads", "1"],
                };
                let output = program(&at, &[rest, short].concat());
                assert_eq!(output.status.code(), Some(0), "{line}: {}", told(&output));
                ran.extend(rest.first().map(ToString::to_string));
            }
            other => panic!("neither cd nor updp-compile: {other:?}"),
        }
    }
    assert_eq!(ran, ["inspect", "compile", "prune", "evaluate", "bench"]);
}

#[test]
fn the_file_of_options_is_understood() {
    let scene = tempfile::tempdir().expect("a folder");
    let run = |toml: &str| {
        fs::write(scene.path().join("updp.toml"), toml).expect("written");
        let words = ["prune", "missing.onnx", "-o", "out.onnx", "--config", "updp.toml"];
        told(&program(scene.path(), &words))
    };
    let files = snippets(&page("docs/config-file.md"), "toml");
    assert!(!files.is_empty());
    for toml in files {
        let told = run(&toml);
        // The keys pass, so that the missing model is what stops it.
        assert!(told.contains("missing.onnx"), "{told}");
        assert!(!told.contains("C0018") && !told.contains("C0001"), "{told}");
        assert!(run(&format!("{toml}no-option = 1\n")).contains("C0018"));
    }
}

/// A Python with numpy and ONNX Runtime: that of `make test`, else that of the path.
pub(crate) fn python() -> Option<PathBuf> {
    let known = [root().join(".venv/bin/python"), PathBuf::from("python3")];
    known.into_iter().find(|python| {
        let ran = Command::new(python).args(["-c", "import numpy, onnxruntime"]).output();
        ran.is_ok_and(|output| output.status.success())
    })
}

#[test]
fn the_loop_around_an_emitted_step_trains() {
    let name = "the_loop_around_an_emitted_step_trains";
    if find_ort().is_none() {
        return skip(name, "ONNX Runtime is missing");
    }
    let Some(python) = python() else {
        return skip(name, "a Python with numpy and onnxruntime is missing");
    };
    let scene = copy_of_fixtures();
    let at = scene.path().join("fixtures");
    fs::rename(at.join("trained/fmnist_resnet.bn.onnx"), at.join("model.onnx")).expect("renamed");
    let line = "train model.onnx --data fmnist_test_1000.npz --preprocess fashion-mnist --images 64 \
                --batch-size 8 --threads 1 --emit-step step.onnx";
    let output = program(&at, &line.split_whitespace().collect::<Vec<_>>());
    assert!(output.status.success(), "{}", told(&output));
    let loops = snippets(&page("docs/train.md"), "python");
    let [snippet] = loops.as_slice() else { panic!("{} snippets", loops.len()) };
    let mut script = String::from("import numpy as np\n");
    let _ =
        writeln!(script, "images = np.random.default_rng(0).random((8, 1, 28, 28), np.float32)");
    let _ = writeln!(script, "targets = np.eye(10, dtype=np.float32)[:8]");
    let _ = writeln!(script, "batches = [(images, targets)] * 3");
    script.push_str(snippet);
    let ran = Command::new(python).current_dir(&at).args(["-c", &script]).output();
    let ran = ran.expect("Python starts");
    assert!(ran.status.success(), "{}", told(&ran));
    let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
    let number = |line: &str| line.trim_matches(['[', ']', ' ']).parse::<f64>().ok();
    let losses: Vec<f64> = printed.lines().filter_map(number).collect();
    assert_eq!(losses.len(), 3, "{printed}");
    assert!(losses.iter().all(|loss| loss.is_finite()) && losses[2] < losses[0], "{printed}");
}

/// The Markdown files whose links are checked.
pub(crate) fn pages() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"]
            .map(|name| root().join(name))
            .to_vec();
    let mut folders = vec![root().join("docs")];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The text without code blocks.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The anchors that GitHub gives the headings of a page, and those that it sets itself.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in prose(text).lines() {
        if let Some(title) = line.strip_prefix('#') {
            let is_kept = |c: &char| c.is_alphanumeric() || ['-', '_', ' '].contains(c);
            let title = title.trim_start_matches('#').trim().to_lowercase();
            let slug = title.chars().filter(is_kept).collect::<String>().replace(' ', "-");
            let count = counts.entry(slug.clone()).or_default();
            found.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
            *count += 1;
        }
        found.extend(
            line.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(Into::into),
        );
    }
    found
}

/// The targets of the links of a page, without those in code.
fn links(text: &str) -> Vec<String> {
    let text = prose(text);
    let visible: String = text.split('`').step_by(2).collect();
    let targets = visible.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

#[test]
fn every_relative_link_of_the_documentation_leads_somewhere() {
    let mut broken = String::new();
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("text");
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap_or(root()).join(path),
            };
            let has_anchor = || {
                let is_page = target.extension().is_some_and(|extension| extension == "md");
                !is_page || anchors(&fs::read_to_string(&target).expect("text")).contains(anchor)
            };
            if !target.exists() || !(anchor.is_empty() || has_anchor()) {
                let _ = writeln!(broken, "{}: {link}", page.display());
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn the_summary_of_the_site_lists_every_page_once() {
    let summary = root().join("docs/SUMMARY.md");
    let text = fs::read_to_string(&summary).expect("text");
    let plain = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut listed: Vec<PathBuf> =
        links(&text).iter().map(|link| plain(&root().join("docs").join(link))).collect();
    let mut there: Vec<PathBuf> =
        pages().iter().filter(|page| **page != summary).map(|page| plain(page)).collect();
    listed.sort();
    there.sort();
    assert_eq!(listed, there);
}

/// Runs Python with the script of the site as module `site`; the words follow as arguments.
fn with_site(code: &str, words: &[&Path]) -> String {
    let code =
        format!("import sys; sys.path.insert(0, 'scripts'); import docs_site as site\n{code}");
    let mut python = Command::new("python3");
    python.args(["-B", "-c", &code]).args(words).current_dir(root());
    let ran = python.output().expect("Python starts");
    assert!(ran.status.success(), "{}", told(&ran));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn the_check_of_the_site_finds_what_leads_nowhere() {
    let scene = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(scene.path().join(name), text).expect("written");
    write("a.html", "<h1 id=\"top\"></h1><a href=\"b.html#x\"></a><a href=\"#top\"></a>");
    write("b.html", "<p id=\"x\"></p><a href=\"a.html\"></a><a href=\"https://else.where/\"></a>");
    let check = || with_site("print(*site.check(sys.argv[1])[0], sep='\\n')", &[scene.path()]);
    assert_eq!(check().trim(), "");
    write("b.html", "<a href=\"c.html\"></a><script src=\"https://else.where/x.js\"></script>");
    let mut found: Vec<String> = check().lines().map(str::to_owned).collect();
    found.sort();
    let expected = [
        "a.html: no anchor for b.html#x",
        "b.html loads https://else.where/x.js",
        "b.html: no file for c.html",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_copy_for_the_site_keeps_every_page_and_its_links() {
    let scene = tempfile::tempdir().expect("a folder");
    let code = "copy = site.Site(sys.argv[1])\n\
                for page in [*copy.pages, 'docs/SUMMARY.md']: copy.add(page)";
    with_site(code, &[scene.path()]);
    let at = scene.path().join("src");
    let mut count = 0;
    for page in pages() {
        let name = page.strip_prefix(root()).expect("below the root");
        let name = name.strip_prefix("docs").unwrap_or(name);
        let is_first = name.file_name().is_some_and(|name| name == "README.md");
        let copy = if is_first { at.join(name).with_file_name("index.md") } else { at.join(name) };
        let text = fs::read_to_string(&copy).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        for link in links(&text) {
            let path = link.split('#').next().unwrap_or_default();
            if !link.contains("://") && !path.is_empty() {
                let target = copy.parent().expect("a folder").join(path);
                assert!(target.exists(), "{name:?}: {link}");
                count += 1;
            }
        }
    }
    assert!(count > 100, "only {count} links");
}
