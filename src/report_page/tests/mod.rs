//! Tests of the page for a made-up run, complete and with missing parts.

use updp_prune::outcome::{
    DataOutcome, FrontNetwork, ImageInputOutcome, NetworkSpeed, SetOutcome, Speed,
};

use updp_passes::{Declined, Refusal};

use super::*;
use updp_verify::OutputResult;

mod other_pages;
mod trainings;

fn candidate(form: &str, latency_ms: f64, degradation: f64) -> CandidateOutcome {
    let score = Score {
        images: 500,
        accuracy: Some(0.8),
        top5: Some(0.97),
        agreement: Some(0.9),
        overlap: 0.95,
        kl: 0.0,
    };
    let (form, ridge) = (form.to_owned(), Some(1e-3));
    CandidateOutcome { form, latency_ms, output_error: 0.0123, ridge, score, degradation }
}

fn block(index: usize, candidates: Vec<CandidateOutcome>, chosen: Option<&str>) -> BlockOutcome {
    BlockOutcome {
        index,
        name: format!("/layer{}/layer{0}.{index}/Conv <a&b>", index / 3 + 1),
        kind: "residual".to_owned(),
        baseline_ms: 1.0 + 0.17 * index as f64,
        reason: candidates.is_empty().then(|| "its result is read \"twice\"".to_owned()),
        candidates,
        chosen: chosen.map(str::to_owned),
    }
}

fn tried(
    blocks: &[(usize, &str)],
    latency_ms: f64,
    degradation: f64,
    joint: Option<f64>,
) -> SetOutcome {
    let blocks = blocks.iter().map(|&(at, form)| (at, form.to_owned())).collect();
    SetOutcome {
        blocks,
        latency_ms,
        degradation,
        joint_degradation: joint,
        fitted_degradation: None,
    }
}

/// A measured set; the second one is chosen, and the third one is beaten.
fn network(number: usize, speedup: f64, kl: f64) -> FrontNetwork {
    let speed = NetworkSpeed {
        after_ms: 14.21 / speedup,
        speedup,
        low: speedup - 0.01,
        high: speedup + 0.01,
    };
    FrontNetwork {
        number,
        is_chosen: number == 2,
        is_beaten: number == 3,
        speed: Some(speed),
        macs_share: 1.0 / speedup,
        score: Score { images: 500, accuracy: Some(0.86), kl, ..Score::default() },
        blocks: vec![(3, "thin-4/8".to_owned())],
    }
}

fn outcome() -> Outcome {
    let score = |accuracy, agreement| Score {
        images: 1000,
        accuracy: Some(accuracy),
        top5: Some(0.987),
        agreement: Some(agreement),
        overlap: agreement,
        kl: 0.0,
    };
    let words = |words: &[&str]| words.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
    Outcome {
        data: DataOutcome {
            calibration: 2000,
            held_out: 500,
            validation: 1000,
            classes: words(&["cat", "dog", "<bird>"]),
            skipped: words(&["broken.jpg"]),
            image_input: ImageInputOutcome { name: "images".to_owned(), dims: vec![3, 32, 32] },
            other_inputs: Vec::new(),
        },
        metric: "accuracy".to_owned(),
        input: None,
        goal: "at most 9 ms in the blocks".to_owned(),
        held_out_baseline: score(0.871, 1.0),
        before: score(0.873, 1.0),
        after: score(0.866, 0.942),
        training: None,
        outputs: Vec::new(),
        speed: Some(Speed {
            before_ms: 14.21,
            after_ms: 10.05,
            speedup: 1.414,
            low: 1.402,
            high: 1.421,
            batch: 1,
            threads: 1,
            runtime: "ONNX Runtime 1.22".to_owned(),
        }),
        blocks: vec![
            block(
                0,
                vec![candidate("linear", 0.4, 0.4), candidate("merged-3x3", 0.7, 0.1)],
                Some("merged-3x3"),
            ),
            block(1, vec![candidate("linear", 0.5, 1.234), candidate("identity", 0.0, 9.0)], None),
            block(2, Vec::new(), None),
            block(3, vec![candidate("linear", 0.6, -0.2)], Some("linear")),
            block(4, vec![candidate("merged-3x3", 0.8, 0.6)], None),
        ],
        front: vec![
            tried(&[], 6.7, 0.0, None),
            tried(&[(3, "linear")], 5.8, 0.05, None),
            tried(&[(0, "merged-3x3"), (3, "linear")], 5.4, 0.1, None),
            tried(&[(0, "linear"), (1, "linear"), (3, "linear")], 4.4, 1.65, None),
            tried(&[(0, "linear"), (1, "identity"), (3, "linear")], 3.9, 9.4, None),
        ],
        tried: vec![
            tried(&[(0, "merged-3x3"), (3, "linear")], 5.31, 0.1, Some(0.7)),
            tried(&[(0, "linear"), (3, "linear")], 5.0, 0.4, Some(1.9)),
            tried(&[(0, "linear"), (1, "linear"), (3, "linear")], 4.4, 1.65, Some(3.4)),
        ],
        networks: vec![network(1, 1.2, 0.01), network(2, 1.414, 0.05), network(3, 1.3, 0.07)],
        supernet: None,
        search: None,
        explanation: words(&["3 sets were tried together.", "The cheapest <kept> won."]),
        missed: words(&["accuracy fell by 0.7 points & 0.5 were allowed"]),
    }
}

fn facts(convs: usize) -> ModelSummary {
    let ops = [("Conv".to_owned(), convs), ("Relu".to_owned(), 4)].into_iter().collect();
    ModelSummary { nodes: convs + 4, ops, parameters: 1000 * convs, macs: 1_234_567, bytes: 4321 }
}

fn verified() -> Verification {
    let output = OutputResult {
        name: "scores <1>".to_owned(),
        relative: 3.1e-7,
        rms: 2e-7,
        cosine: 1.0,
        top1_agreement: Some(1.0),
        limit: 1e-4,
        undecided: 0,
        noise: None,
        silence: None,
        failure: None,
    };
    let runtime = "ONNX Runtime 1.22".to_owned();
    Verification { runtime, runs: 3, outputs: vec![output], ..Verification::default() }
}

fn log() -> Log {
    let declined = Declined { reason: "slower", detail: "2 operators <in> a row".into() };
    let refusal = Refusal { rule: "merge-chain", node: "/head/Conv".to_owned(), declined };
    Log { refusals: vec![refusal], ..Log::default() }
}

fn page(model: &str, output: &str, outcome: &Outcome) -> String {
    page_with(model, output, outcome, Some(&verified()))
}

fn page_with(
    model: &str,
    output: &str,
    outcome: &Outcome,
    verified: Option<&Verification>,
) -> String {
    let block =
        |index, before, after| BlockMacs { index, name: format!("b<{index}>"), before, after };
    let macs = [block(0, 2_000_000, 1_000_000), block(3, 600_000, 150_000)];
    super::page(&Run {
        input: (model, &facts(9)),
        output: (output, &facts(5)),
        log: &log(),
        verified,
        status: if verified.is_some() { "passed" } else { "unchanged" },
        outcome,
        missed: &outcome.missed,
        macs: if outcome.blocks.is_empty() { &[] } else { &macs },
        origin: &origin(),
    })
}

fn origin() -> Origin {
    let origin = Origin {
        version: env!("CARGO_PKG_VERSION"),
        command: "updp-compile prune 'a b.onnx' --data <dir>".to_owned(),
        date: "2026-11-30 21:46 UTC".to_owned(),
        models: vec![
            ("Input", "a<b>.onnx".to_owned(), Some("00ff".repeat(16))),
            ("Output", "-".to_owned(), None),
        ],
        facts: Vec::new(),
    };
    origin.threads(Some(2)).fact("Image size", image_size(&[3, 32, 32]))
}

fn bare() -> Outcome {
    let score =
        Score { images: 0, accuracy: None, top5: None, agreement: None, overlap: 1.0, kl: 0.0 };
    let mut outcome = outcome();
    outcome.blocks.clear();
    outcome.front.clear();
    outcome.tried.clear();
    outcome.networks.clear();
    outcome.explanation.clear();
    outcome.missed.clear();
    outcome.data.classes.clear();
    outcome.data.skipped.clear();
    (outcome.before, outcome.after, outcome.speed) = (score, score, None);
    outcome
}

/// Every opened tag is closed in order, and nothing is loaded from outside.
fn assert_well_formed(html: &str) {
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').expect("a tag ends") + at;
        let tag = &rest[at + 1..end];
        assert!(!tag.contains('<'), "<{tag}>");
        rest = &rest[end + 1..];
        let name = tag.split_whitespace().next().unwrap_or_default();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') && !["!doctype", "meta"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for outside in ["NaN", "inf", "http", "src=", "href=", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn the_page_shows_every_part_of_a_run_with_names_escaped() {
    let html = page("a<b>.onnx", "out & more.onnx", &outcome());
    assert_well_formed(&html);
    for text in [
        "a&#60;b&#62;.onnx, pruned",
        "out &#38; more.onnx",
        "/layer1/layer1.0/Conv &#60;a&#38;b&#62;",
        "87.3 → 86.6\u{a0}%",
        "Label among the first five<b>98.7 → 98.7\u{a0}%",
        "−0.700 points, ±\u{a0}1.08 standard error, 1000 images",
        "×\u{a0}1.41",
        "0.7 points &#38; 0.5 were allowed",
        "its result is read &#34;twice&#34;",
        "The cheapest &#60;kept&#62; won.",
        "✓ merged-3x3",
        "&#60;bird&#62;",
        "broken.jpg",
        "ONNX Runtime 1.22, 3 inputs each, the runtime's own optimizer off: equal",
        "scores &#60;1&#62;",
        "<td>Conv</td><td class=\"n\">9</td><td class=\"n\">5</td>",
        "merge-chain at /head/Conv: slower (2 operators &#60;in&#62; a row)",
    ] {
        assert!(html.contains(text), "{text}");
    }
    // Candidates, latencies, and multiply-adds of two blocks.
    assert_eq!(html.matches("<rect class=\"bar").count(), 6 + 2 + 4);
    assert_eq!(html.matches("<tr class=\"chosen\"").count(), 2);
    assert_eq!(html.matches("<circle class=\"ring\" cx=\"9\"").count(), 1);
    // One of the three tried sets is above the axis.
    assert_eq!(html.matches("<circle class=\"ring\"").count(), 2 + 1);
    assert_eq!(html.matches("<path class=\"ring beyond\"").count(), 1);
    assert_eq!(html.matches("<path class=\"fill-is beyond\"").count(), 1);
    assert!(html.contains("upper edge: 2 points are above the axis"), "{html}");
    // Only operator types whose number changed are listed.
    assert!(!html.contains("<td>Relu</td>"));
    let [before, after] = [1, 2].map(|at| html.split("<div style=\"width:").nth(at).unwrap());
    assert_eq!(before.split("</div>").next().unwrap().matches("<b style").count(), 5);
    assert_eq!(after.split("</div>").next().unwrap().matches("<b class=\"is\"").count(), 2);
}

#[test]
fn the_map_draws_each_block_as_long_as_it_takes() {
    let html = page("a", "b", &outcome());
    let lane = |at: usize| {
        let part = html.split("<div style=\"width:").nth(at).expect("a lane");
        let (width, part) = part.split_once('%').expect("a width");
        let pieces = part.split("</div>").next().expect("an end").split("style=\"width:").skip(1);
        let pieces: Vec<f64> =
            pieces.map(|it| it.split('%').next().expect("a width").parse().unwrap()).collect();
        (width.parse::<f64>().unwrap(), pieces)
    };
    // 1, 1.17, 1.34, 1.51 and 1.68 ms; the first becomes 0.7 ms, the fourth 0.6 ms.
    let (before, after) = (6.7, 6.7 - 0.3 - 0.91);
    let (width, pieces) = lane(1);
    assert!((width - 100.0).abs() < 0.01 && (pieces.iter().sum::<f64>() - 100.0).abs() < 0.01);
    assert!((pieces[4] - 100.0 * 1.68 / before).abs() < 0.01, "{pieces:?}");
    let (width, pieces) = lane(2);
    assert!((width - 100.0 * after / before).abs() < 0.01, "{width}");
    assert!((pieces.iter().sum::<f64>() - 100.0).abs() < 0.01, "the blocks fill their lane");
    assert!((pieces[0] - 100.0 * 0.7 / after).abs() < 0.01, "{pieces:?}");
}

#[test]
fn a_page_tells_how_it_was_made() {
    let html = page("a", "b", &outcome());
    for text in [
        "<code>updp-compile prune &#39;a b.onnx&#39; --data &#60;dir&#62;</code>",
        concat!("updp-compile ", env!("CARGO_PKG_VERSION")),
        "<dd>2026-11-30 21:46 UTC</dd>",
        "SHA-256 <code>00ff00ff",
        "<dt>Threads</dt><dd>2</dd>",
        "<dt>Image size</dt><dd>3 × 32 × 32</dd>",
        "b&#60;3&#62;",
        "2,000,000",
    ] {
        assert!(html.contains(text), "{text}: {html}");
    }
    assert_eq!(html.matches("SHA-256").count(), 1, "standard output has no hash");
}

#[test]
fn a_warning_stands_at_the_top_and_a_long_list_is_folded() {
    let mut run = outcome();
    run.explanation = (0..9).map(|at| format!("Sentence {at}.")).collect();
    run.explanation.push("WARNING: 9.0 points are lost".to_owned());
    let html = page("a", "b", &run);
    assert_well_formed(&html);
    let warned = html.split("<section class=\"warned\">").nth(1).expect("a warning");
    let warned = warned.split("</section>").next().unwrap();
    assert!(warned.contains("<li>9.0 points are lost</li>"), "{warned}");
    let (shown, folded) = html.split_once("More about the choice (4)").expect("a fold");
    assert!(shown.contains("Sentence 4.") && !shown.contains("Sentence 5."));
    assert!(folded.contains("Sentence 5.") && folded.contains("Sentence 8."));
    let many = |count: usize| {
        let mut run = outcome();
        let block = block(0, vec![candidate("drop", 0.1, 0.2)], None);
        run.blocks = (0..count).map(|index| BlockOutcome { index, ..block.clone() }).collect();
        page("a", "b", &run)
    };
    for (count, is_open) in [(8, true), (17, false)] {
        let html = many(count);
        assert_well_formed(&html);
        for heading in ["Degradation of every form", "Blocks"] {
            let open = format!("<details open><summary><h2>{heading}</h2>");
            assert_eq!(html.contains(&open), is_open, "{count} {heading}");
        }
    }
}

#[test]
fn a_network_that_was_not_run_or_differs_is_told_so() {
    let html = page_with("a", "b", &outcome(), None);
    assert_well_formed(&html);
    assert!(html.contains("nothing to compare"), "{html}");
    let mut wrong = verified();
    wrong.outputs[0].failure = Some("by 0.3".to_owned());
    let html = page_with("a", "b", &outcome(), Some(&wrong));
    assert!(html.contains("<b class=\"bad\">different</b>"), "{html}");
}

#[test]
fn the_chosen_set_is_marked_at_its_joint_degradation() {
    let html = page("a", "b", &outcome());
    let mark = html.split("<circle class=\"mark\"").nth(1).unwrap();
    assert!(mark.contains("5.31 ms, sum 0.1000 nats, together 0.7000"), "{mark}");
}

#[test]
fn measured_networks_are_drawn_and_listed_with_their_numbers() {
    let html = page("a", "b", &outcome());
    let part = html.split("<h2>Fitted networks</h2>").nth(1).expect("the part is there");
    let part = part.split("<h2>").next().unwrap();
    // Twice the input model, three sets, and the mark around the chosen one: degradation and accuracy.
    assert_eq!(part.matches("<circle").count(), 2 * 5);
    assert_eq!(
        part.matches("<circle class=\"fill-was\"").count(),
        2 * 2,
        "the input, and the beaten"
    );
    assert!(part.contains("against accuracy, %") && !part.contains("agreement with"), "{part}");
    for text in ["<td class=\"n\">✓ 2</td>", "×\u{a0}1.41 (1.40–1.42)", "3 thin-4/8", "0.0500"]
    {
        assert!(part.contains(text), "{text}: {part}");
    }
    let mut one = outcome();
    one.networks.truncate(1);
    assert!(!page("a", "b", &one).contains("Fitted networks"), "one network is no front");
}

#[test]
fn the_page_stands_without_blocks_labels_and_speed() {
    let html = page("a", "b", &bare());
    assert_well_formed(&html);
    assert!(html.contains("The model has no blocks.") && html.contains("no labels"));
    assert!(
        !html.contains("Speedup")
            && !html.contains("<b>Accuracy")
            && !html.contains("first five")
            && !html.contains("Missed")
    );
    assert_eq!(html.matches("<rect").count(), 0);
}

#[test]
fn numbers_that_are_not_finite_become_dashes() {
    let mut outcome = outcome();
    outcome.blocks[0].candidates[0].degradation = f64::NAN;
    outcome.blocks[1].baseline_ms = f64::INFINITY;
    outcome.front[1].degradation = f64::NAN;
    outcome.tried[1].joint_degradation = Some(f64::INFINITY);
    outcome.after.accuracy = Some(f64::NAN);
    outcome.speed.as_mut().unwrap().after_ms = f64::NAN;
    let html = page("a", "b", &outcome);
    assert_well_formed(&html);
    assert!(html.contains('–'));
}

#[test]
fn numbers_have_three_significant_digits() {
    let cases =
        [(0.0, "0"), (1.0, "1.00"), (-0.123_45, "−0.123"), (12_345.6, "12346"), (87.34, "87.3")];
    for (value, text) in cases {
        assert_eq!(number(value), text);
    }
    assert_eq!(number(0.000_012_34), "1.23e−5");
}
