//! The commands in the documentation: the program understands each of them, and those that need only a model run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use updp_testkit::{find_ort, skip};

use crate::docs::{pages, program, python, root, snippets, told};
use crate::fixtures::folder;

/// A command with the page that it stands on.
struct Line {
    page: String,
    text: String,
}

/// The words of a command as a shell sees them: quotes, no comment, nothing behind `|`, `>`, `&&` or `;`.
fn words(line: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut word, mut quote, mut is_open) = (String::new(), None, false);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => (quote, is_open) = (Some(c), true),
            ('#' | '|' | '>' | ';', None) if word.is_empty() && !is_open => break,
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() || is_open {
                    found.push(std::mem::take(&mut word));
                }
                is_open = false;
            }
            (c, _) => word.push(c),
        }
        if found.last().is_some_and(|last| last == "&&") {
            found.pop();
            return found;
        }
    }
    if !word.is_empty() || is_open {
        found.push(word);
    }
    found
}

/// The commands of this program in the code of a page, each in one line.
fn commands(page: &Path) -> Vec<Line> {
    let text = fs::read_to_string(page).expect("text").replace("\\\n", " ");
    let name = page.strip_prefix(root()).expect("a page").to_string_lossy().into_owned();
    let indented = text.lines().filter(|line| line.starts_with("    "));
    let blocks: Vec<String> =
        ["", "sh", "bash", "console", "yaml"].iter().flat_map(|it| snippets(&text, it)).collect();
    let lines = blocks.iter().flat_map(|block| block.lines()).chain(indented);
    let starts = ["", "$ ", "- ", "- run: "];
    let is_ours = |line: &&str| line.starts_with("updp-compile ");
    let lines = lines.filter_map(|line| {
        let line = line.trim_start();
        starts.iter().find_map(|start| line.strip_prefix(start).filter(is_ours))
    });
    lines.map(|text| Line { page: name.clone(), text: text.to_owned() }).collect()
}

/// The commands in the running text of a page.
fn inline_commands(page: &Path) -> Vec<Line> {
    let text = fs::read_to_string(page).expect("text");
    let name = page.strip_prefix(root()).expect("a page").to_string_lossy().into_owned();
    let code = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let ours = code.filter(|code| code.starts_with("updp-compile "));
    ours.map(|text| Line { page: name.clone(), text: text.to_owned() }).collect()
}

/// What stands for a number, a list or a name in a command, and something of that kind.
const PLACEHOLDERS: [(&str, &str); 10] = [
    ("G", "1.3"),
    ("N", "3"),
    ("K", "3"),
    ("RATE", "0.01"),
    ("S", "input:1,3,8,8"),
    ("P", "imagenet"),
    ("…", "imagenet"),
    ("LIST", "1,3"),
    ("FILE", "file.json"),
    ("SUBCOMMAND", "compile"),
];

/// The command with something in the place of each placeholder; brackets mark what may be left out.
fn filled(line: &str) -> Vec<String> {
    let known = BTreeMap::from(PLACEHOLDERS);
    let plain = |word: String| match known.get(word.trim_matches(['[', ']'])) {
        Some(text) => (*text).to_owned(),
        None if word.starts_with("[--") => word.trim_matches(['[', ']']).to_owned(),
        // One of several choices.
        None if word.contains('|') => word.split('|').next().unwrap_or_default().to_owned(),
        None => word,
    };
    words(line).into_iter().map(plain).collect()
}

/// Whether the program understands a command. Help and the version end the program with 0.
fn is_understood(words: &[String]) -> bool {
    let arguments: Vec<OsString> = words.iter().map(Into::into).collect();
    updp_compile::cli::parse(arguments).err().is_none_or(|code| code == 0)
}

#[test]
fn the_program_understands_every_command_of_the_documentation() {
    let mut count = 0;
    let mut wrong = String::new();
    for page in pages() {
        // The page of the command line shows usage, made from the parser itself.
        let is_usage = page.ends_with("docs/command-line.md");
        let lines = if is_usage { Vec::new() } else { commands(&page) };
        for line in lines.into_iter().chain(inline_commands(&page)) {
            let words = filled(&line.text);
            // The name of a tool that is compared, and of one in a list of versions.
            let is_name = words.len() == 2 && words[1] == "--no-verify";
            if is_name || words.get(1).is_some_and(|word| word.starts_with("0.1.0")) {
                continue;
            }
            count += 1;
            if !is_understood(&words) {
                let _ = writeln!(wrong, "{}: {}", line.page, line.text);
            }
        }
    }
    assert!(wrong.is_empty(), "not understood:\n{wrong}");
    assert!(count > 60, "only {count} commands were found");
    let split = |line: &str| words(line).join("|");
    assert_eq!(split("updp-compile a 'b c' \"\" # d"), "updp-compile|a|b c|");
    assert_eq!(split("updp-compile a && b"), "updp-compile|a");
    assert_eq!(split("updp-compile a > b"), "updp-compile|a");
    assert!(!is_understood(&filled("updp-compile compile m.onnx -o o.onnx --no-such-option")));
    assert!(!is_understood(&filled("updp-compile compile m.onnx -o o.onnx --prune 3")));
}

/// Files by the names that the pages use.
fn scene() -> tempfile::TempDir {
    let scene = tempfile::tempdir().expect("a folder");
    let copy = |from: &str, to: &str| {
        let to = scene.path().join(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::copy(folder().join(from), to).expect("copied");
    };
    copy("trained/fmnist_resnet.bn.onnx", "model.onnx");
    copy("trained/fmnist_resnet.bn.onnx", "fixtures/trained/fmnist_resnet.bn.onnx");
    copy("fmnist_test_1000.npz", "fixtures/fmnist_test_1000.npz");
    copy("fmnist_test_1000.npz", "images.npz");
    scene
}

/// Whether a command reads only what the scene has.
fn is_runnable(words: &[String]) -> bool {
    let is_read = |word: &String| {
        let is_model = word.contains(".onnx") && !["model.onnx", "out.onnx"].contains(&&**word);
        is_model && !word.starts_with("fixtures/trained/fmnist_resnet")
    };
    let needs_images = words.iter().any(|word| word == "--data");
    let is_tool = !["prune", "train", "finetune"].contains(&words[1].as_str());
    is_tool && !needs_images && !words[1..].iter().any(is_read)
}

#[test]
fn commands_that_need_only_a_model_run_as_they_stand_there() {
    let scene = scene();
    let mut count = 0;
    for name in ["docs/getting-started.md", "docs/deploy.md", "docs/ci.md", "README.md"] {
        for line in commands(&root().join(name)) {
            let all = filled(&line.text);
            if !is_runnable(&all) {
                continue;
            }
            let mut given: Vec<&str> = all[1..].iter().map(String::as_str).collect();
            given.extend(["--threads", "1"]);
            if all[1] == "bench" {
                given.extend(["--seconds", "0.3"]);
            }
            let ran = program(scene.path(), &given);
            assert_eq!(ran.status.code(), Some(0), "{name}: {}: {}", line.text, told(&ran));
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} commands ran");
}

#[test]
fn the_python_of_the_page_about_deploying_runs() {
    let name = "the_python_of_the_page_about_deploying_runs";
    let (true, Some(python)) = (find_ort().is_some(), python()) else {
        return skip(name, "a Python with numpy and onnxruntime is missing");
    };
    let scene = tempfile::tempdir().expect("a folder");
    let model = folder().join("exported/timm_repvgg_mini.legacy17-eval.onnx");
    let compiled = program(scene.path(), &[&*model.to_string_lossy(), "-o", "out.onnx"]);
    assert!(compiled.status.success(), "{}", told(&compiled));
    let text = fs::read_to_string(root().join("docs/deploy.md")).expect("text");
    let found = snippets(&text, "python");
    let [snippet] = found.as_slice() else { panic!("{} snippets", found.len()) };
    let script = format!("{snippet}\nprint(len(outputs), outputs[0].shape[0])\n");
    let ran = Command::new(python).current_dir(scene.path()).args(["-c", &script]).output();
    let ran = ran.expect("Python starts");
    assert!(ran.status.success(), "{}", told(&ran));
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "1 2");
}
