//! Untrusted text: names from models, folders, archives and files of options, made visible before anyone sees them.
//!
//! A name may hold a sequence that clears the screen, or a line break with a forged error line behind it. All text that
//! the program prints passes [`visible`], so no message can forget it. Line breaks are also the program's own:
//! [`distrust`] notes what surrounds the breaks inside of names, and these are escaped wherever they appear.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use updp_ir::{Graph, Model};

/// How much of a name is kept on each side of a line break. A name may be shown cut.
const CONTEXT: usize = 8;

/// What stands before and behind a line break inside of a name.
static BREAKS: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
/// Whether there is any.
static HAS_BREAKS: AtomicBool = AtomicBool::new(false);

/// Notes the line breaks of a name, so that [`visible`] escapes them.
pub fn distrust(name: &str) {
    if !name.contains('\n') {
        return;
    }
    let mut breaks = BREAKS.lock().unwrap_or_else(PoisonError::into_inner);
    for (at, _) in name.match_indices('\n') {
        let before = name[..at].chars().rev().take(CONTEXT).collect::<Vec<_>>();
        let after = name[at + 1..].chars().take(CONTEXT).collect();
        breaks.insert((before.into_iter().rev().collect(), after));
    }
    HAS_BREAKS.store(true, Ordering::Release);
}

/// Notes the names of a model.
pub fn distrust_model(model: &Model) {
    let (producer, version) = model.producer();
    distrust(producer);
    distrust(version);
    model.opsets().for_each(|(domain, _)| distrust(domain));
    model.functions().chain(model.metadata()).for_each(|(first, second)| {
        distrust(first);
        distrust(second);
    });
    distrust_graph(&model.graph);
}

fn distrust_graph(graph: &Graph) {
    distrust(graph.name());
    for id in graph.values() {
        let value = graph.value(id);
        distrust(value.name());
        if let Some(declared) = value.declared() {
            distrust(&declared.to_string());
        }
    }
    for id in graph.nodes() {
        let node = graph.node(id);
        [node.name(), node.op_type(), node.domain()].into_iter().for_each(distrust);
        node.attribute_names().for_each(|name| {
            distrust(name);
            node.string(name).into_iter().for_each(distrust);
        });
        node.bodies().for_each(distrust_graph);
    }
}

/// `text` with everything escaped that a terminal acts on or that turns the direction of reading, as JSON writes it
/// (`\u001b`). Tabs stay, and line breaks that no name brought.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let has_breaks = HAS_BREAKS.load(Ordering::Acquire);
    if !text.chars().any(|it| is_hidden(it) || (it == '\n' && has_breaks)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (at, it) in text.char_indices() {
        if it == '\n' && has_breaks && is_inside_name(&text[..at], &text[at + 1..]) {
            out.push_str("\\n");
        } else if it == '\r' {
            out.push_str("\\r");
        } else if is_hidden(it) {
            let _ = write!(out, "\\u{:04x}", u32::from(it));
        } else {
            out.push(it);
        }
    }
    Cow::Owned(out)
}

/// As [`visible`], on one line.
#[must_use]
pub fn on_one_line(text: &str) -> String {
    visible(text).replace('\n', " ")
}

/// Whether a line break between these texts is one of a name. One side suffices, because a name may be shown cut.
fn is_inside_name(before: &str, after: &str) -> bool {
    let breaks = BREAKS.lock().unwrap_or_else(PoisonError::into_inner);
    breaks.iter().any(|(left, right)| {
        (!right.is_empty() && after.starts_with(right.as_str()))
            || (!left.is_empty() && before.ends_with(left.as_str()))
    })
}

/// Control characters but tab and line feed, marks that turn the direction of reading, and other line breaks.
fn is_hidden(it: char) -> bool {
    (it.is_control() && it != '\n' && it != '\t')
        || matches!(it, '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(it, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_becomes_visible() {
        for (text, shown) in [
            ("plain äλ\u{1f600}\tx\ny", "plain äλ\u{1f600}\tx\ny"),
            ("\u{1b}[2J", "\\u001b[2J"),
            ("a\rb\u{7}\u{7f}\u{9b}", "a\\rb\\u0007\\u007f\\u009b"),
            ("\u{202e}abc\u{2066}\u{2028}", "\\u202eabc\\u2066\\u2028"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn a_line_break_of_a_name_forges_no_line() {
        distrust("conv7_forged\nerror[C0000]: fake");
        assert_eq!(
            visible("at conv7_forged\nerror[C0000]: fake\nnext"),
            "at conv7_forged\\nerror[C0000]: fake\nnext"
        );
        // A name that is shown cut.
        assert_eq!(visible("7_forged\nerr\nnext"), "7_forged\\nerr\nnext");
        assert_eq!(on_one_line("a\nb"), "a b");
    }
}
