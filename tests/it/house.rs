//! The fences that ARCHITECTURE.md names: who knows clap, who prints, how long a file is.

use std::path::{Path, PathBuf};

/// Crates with their sources; the tests of a crate are not held to the fences.
const CRATES: [&str; 8] = [
    "ir/src",
    "autodiff/src",
    "passes/src",
    "exec/src",
    "verify/src",
    "trainer/src",
    "prune/src",
    "src",
];

/// Most lines of a source file (style of the house).
const MOST_LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the repository, as a path from its root.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).expect("a source file is text")
}

/// The lines of code of a file that hold one of `words`: no comments, nothing behind `mod tests`.
fn uses<'a>(text: &'a str, words: &[&str]) -> Vec<&'a str> {
    let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    let code = code.take_while(|line| !line.starts_with("mod tests {"));
    code.filter(|line| words.iter().any(|word| line.contains(word))).collect()
}

#[test]
fn only_the_arguments_know_clap() {
    let mut knowing = 0;
    for path in CRATES.iter().flat_map(|folder| sources(folder)) {
        let found = uses(&read(&path), &["clap::", "use clap", "clap("]).len();
        if path.starts_with("src/cli") {
            knowing += found;
        } else {
            assert_eq!(found, 0, "{} knows clap", path.display());
        }
    }
    assert!(knowing > 0, "the fence looks at nothing");
}

#[test]
fn only_the_command_line_prints_and_draws() {
    let words = ["println!", "print!(", "io::stdout", "io::stderr", "indicatif::", "dbg!("];
    // A worker process replies through its standard output; a signal handler may only make system calls.
    let allowed =
        ["src/terminal.rs", "src/write.rs", "src/interrupt.rs", "exec/src/worker/server.rs"];
    let mut printing = 0;
    for path in CRATES.iter().flat_map(|folder| sources(folder)) {
        let is_test = path.components().any(|part| part.as_os_str() == "tests")
            || path.file_stem().is_some_and(|stem| stem == "tests");
        let text = read(&path);
        let found = uses(&text, &words);
        if allowed.iter().any(|name| path == Path::new(name)) {
            printing += found.len();
        } else {
            assert!(is_test || found.is_empty(), "{} prints: {found:?}", path.display());
        }
    }
    assert!(printing > 0, "the fence looks at nothing");
}

#[test]
fn no_source_file_is_too_long() {
    for path in CRATES.iter().chain(&["tests", "examples", "fuzz"]).flat_map(|it| sources(it)) {
        let lines = read(&path).lines().count();
        let is_built = path.components().any(|part| part.as_os_str() == "target");
        assert!(is_built || lines <= MOST_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn crates_import_downwards_only() {
    let allowed: [(&str, &[&str]); 7] = [
        ("ir", &[]),
        ("autodiff", &["ir"]),
        ("passes", &["ir"]),
        ("exec", &["ir"]),
        ("verify", &["exec", "ir"]),
        ("trainer", &["autodiff", "exec", "ir", "passes"]),
        ("prune", &["autodiff", "exec", "ir", "passes", "trainer"]),
    ];
    for (name, below) in allowed {
        let manifest = read(Path::new(name).join("Cargo.toml").as_path());
        let (_, rest) = manifest.split_once("\n[dependencies]\n").expect("it has dependencies");
        let own = rest.split("\n[").next().unwrap_or_default();
        let mut known: Vec<&str> = own
            .lines()
            .filter_map(|line| line.strip_prefix("updp-")?.split(['.', ' ']).next())
            .collect();
        known.sort_unstable();
        assert_eq!(known, below, "{name} knows other crates than ARCHITECTURE.md says");
    }
}
