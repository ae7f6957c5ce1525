//! Pages in a real browser: nothing sticks out or overlaps, everything can be read, by day and by night, on a desk and on a phone.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use updp_testkit::skip;

/// Names a Chromium goes by.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Widths of two phones and of a desk, in pixels.
const WIDTHS: [usize; 3] = [360, 390, 1280];
/// Least contrast of text to what is behind it, WCAG 2.2 criterion 1.4.3.
const CONTRAST: f64 = 4.5;

/// Opens a page in frames of several widths and looks at each.
const HARNESS: &str = r#"
function rgb(text) { const n = text.match(/[\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; }
function light(c) {
  const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(window, it) {
  for (; it; it = it.parentElement) {
    const c = rgb(window.getComputedStyle(it).backgroundColor);
    if (c[3] > 0) return c;
  }
  return [255, 255, 255, 1];
}
function contrast(window, it) {
  const style = window.getComputedStyle(it);
  const front = light(rgb(it.closest('svg') ? style.fill : style.color).slice(0, 3));
  const back = light(behind(window, it).slice(0, 3));
  return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
}
function look(frame) {
  const { contentDocument: page, contentWindow: window } = frame, root = page.documentElement, wrong = [];
  if (root.scrollWidth > root.clientWidth) wrong.push(`the page is ${root.scrollWidth} wide`);
  let texts = 0;
  for (const it of page.body.querySelectorAll('*')) {
    const own = [...it.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
    if (!own || !it.checkVisibility() || it.tagName === 'title') continue;
    texts++;
    const ratio = contrast(window, it);
    if (!(ratio >= CONTRAST)) wrong.push(`"${own}" has a contrast of ${ratio.toFixed(2)}`);
    if (!it.closest('svg,.map,.wide') && it.scrollWidth > it.clientWidth + 1 && it.clientWidth > 0)
      wrong.push(`"${own}" sticks out of its ${it.tagName}`);
  }
  for (const svg of page.querySelectorAll('svg')) {
    const box = svg.getBoundingClientRect();
    const seen = [...svg.querySelectorAll('text')].map(it => [it.textContent, it.getBoundingClientRect()]);
    seen.forEach(([text, a], at) => {
      if (a.left < box.left - 1 || a.right > box.right + 1 || a.top < box.top - 1 || a.bottom > box.bottom + 1)
        wrong.push(`"${text}" sticks out of its chart`);
      for (const [other, b] of seen.slice(at + 1))
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3)
          wrong.push(`"${text}" and "${other}" overlap`);
    });
  }
  // A row of the map is as wide as its share of the longer row says, and its blocks fill it.
  for (const row of page.querySelectorAll('.map [data-share]')) {
    const { width, right } = row.getBoundingClientRect(), whole = row.parentElement.getBoundingClientRect().width;
    const want = whole * row.dataset.share / 100;
    if (Math.abs(width - want) > 1) wrong.push(`a row is ${width} wide instead of ${want}`);
    const end = Math.max(...[...row.children].map(it => it.getBoundingClientRect().right));
    if (Math.abs(end - right) > 1) wrong.push(`the blocks of a row end at ${end} instead of ${right}`);
  }
  // What is wider than the page scrolls in a box of its own.
  for (const it of page.body.querySelectorAll('*')) {
    if (it.closest('.wide') || it.closest('svg') || !it.checkVisibility()) continue;
    const { left, right } = it.getBoundingClientRect();
    if (left < -1 || right > root.clientWidth + 1) wrong.push(`a ${it.tagName} reaches from ${left} to ${right}`);
  }
  const loaded = window.performance.getEntriesByType('resource').map(it => it.name);
  return { width: root.clientWidth, dark: window.matchMedia('(prefers-color-scheme:dark)').matches, texts, wrong, loaded,
    headings: [...page.querySelectorAll('h1,h2')].map(it => it.textContent) };
}
window.onload = () => {
  const found = [...document.querySelectorAll('iframe')].map(look);
  const escaped = c => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0');
  document.getElementById('found').textContent = JSON.stringify(found).replace(/[^ -~]|[<>&]/g, escaped);
};
"#;

fn find() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |it| it.join(name)))
        .find(|it| it.is_file())
}

/// Looks at a page from near and far: it has these headings among others and nothing is wrong with it.
#[track_caller]
pub(crate) fn assert_shows(page: &Path, headings: &[&str]) {
    let html = std::fs::read_to_string(page).expect("written");
    for heading in headings {
        assert!(html.contains(&format!(">{heading}</h")), "no {heading:?} in {html}");
    }
    let Some(browser) = find() else {
        return skip("a page in a browser", "there is no Chromium");
    };
    let folder = tempfile::tempdir().expect("a folder");
    let html = html.replace('&', "&amp;").replace('"', "&quot;");
    let mut harness = format!(
        "<!doctype html><meta charset=utf-8><script>const CONTRAST = {CONTRAST};{HARNESS}</script><pre id=found></pre>"
    );
    for width in WIDTHS {
        let _ = write!(
            harness,
            "<iframe width={width} height=900 style=border:0 srcdoc=\"{html}\"></iframe>"
        );
    }
    let path = folder.path().join("harness.html");
    std::fs::write(&path, harness).expect("written");
    for is_dark in [false, true] {
        let frames = looked_at(&browser, folder.path(), &path, is_dark);
        assert_eq!(frames.len(), WIDTHS.len());
        for (frame, width) in frames.iter().zip(WIDTHS) {
            assert_eq!((&frame["dark"], &frame["width"]), (&is_dark.into(), &width.into()));
            assert_eq!(frame["wrong"], Value::Array(Vec::new()), "{width} wide, dark {is_dark}");
            assert_eq!(
                frame["loaded"],
                Value::Array(Vec::new()),
                "the page needs nothing from outside"
            );
            assert!(frame["texts"].as_u64() > Some(5), "{frame}");
            let shown = frame["headings"].as_array().expect("a list");
            assert!(headings.iter().all(|&it| shown.contains(&it.into())), "{shown:?}");
        }
    }
}

/// What the harness found in each frame.
fn looked_at(browser: &Path, folder: &Path, harness: &Path, is_dark: bool) -> Vec<Value> {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1400,2000",
            "--virtual-time-budget=20000",
        ])
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!is_dark)))
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", harness.display()))
        .output()
        .expect("the browser starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.split("<pre id=\"found\">").nth(1).and_then(|it| it.split('<').next());
    let found = found.filter(|it| !it.is_empty());
    let found =
        found.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(found).expect("JSON")
}
