//! docs/errors.md explains every code that can be printed, and no other.

use std::collections::BTreeSet;
use std::path::Path;

/// Every `X0000`-like word of a text that `is_wanted` by the characters around it.
fn codes(text: &str, is_wanted: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
    let is_code = |word: &str| {
        word.starts_with(['I', 'P', 'X', 'T', 'C']) && word[1..].bytes().all(|b| b.is_ascii_digit())
    };
    (0..text.len().saturating_sub(5))
        .filter(|at| text.is_char_boundary(*at) && text.is_char_boundary(at + 5))
        .filter(|at| is_code(&text[*at..at + 5]) && is_wanted(&text[..*at], &text[at + 5..]))
        .map(|at| text[at..at + 5].to_owned())
        .collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_code_is_explained_and_every_explanation_has_a_code() {
    let page = read("docs/errors.md");
    let explained =
        codes(&page, |before, after| before.ends_with("\n## ") && after.starts_with(" — "));
    let headings = page.lines().filter(|line| line.starts_with("## ")).count();
    assert_eq!(headings, explained.len(), "a heading without a code, or one code twice");
    let sources = [
        "ir/src/error.rs",
        "autodiff/src/error.rs",
        "passes/src/error.rs",
        "exec/src/error.rs",
        "trainer/src/data/error.rs",
        "trainer/src/error.rs",
        "trainer/src/train/error.rs",
        "verify/src/error.rs",
        "prune/src/error.rs",
        "src/error.rs",
    ];
    let quoted = |before: &str, after: &str| before.ends_with('"') && after.starts_with('"');
    let printed = |before: &str, _: &str| before.ends_with("error[");
    let mut known: BTreeSet<String> =
        sources.iter().flat_map(|path| codes(&read(path), quoted)).collect();
    for path in
        ["src/main.rs", "src/lib.rs", "src/cli/mod.rs", "src/interrupt.rs", "src/terminal.rs"]
    {
        known.extend(codes(&read(path), printed));
    }
    assert!(known.len() > 40, "the sources were not understood: {known:?}");
    assert_eq!(known, explained);
}

#[test]
fn every_entry_says_exit_cause_and_cure() {
    let page = read("docs/errors.md");
    for entry in page.split("\n## ").skip(1) {
        let code = &entry[..5];
        for part in ["Exit ", "\nCause: ", "\nCure: "] {
            assert!(entry.contains(part), "{code} has no {part:?}");
        }
    }
}
