//! Tests of the pages for a compilation, a training and an evaluation.

use updp_passes::Rewrite;
use updp_trainer::finetune::Course;

use super::*;
use crate::api::{ClassScore, EvaluateReport, FlippedImage, ModelScore};

fn compiled_page(log: &Log, is_pruned: bool) -> String {
    let verified = verified();
    compiled(&Compiled {
        input: ("a<b>.onnx", &facts(9)),
        output: ("out.onnx", &facts(5)),
        log,
        verified: Some(&verified),
        status: "passed",
        is_pruned,
        missed: &["10 bytes instead of 9".to_owned()],
        held: &["1.5 times as fast".to_owned()],
        findings: &["error: <LayerNorm> is unknown".to_owned()],
        macs: &[],
        origin: &origin(),
    })
}

#[test]
fn a_compilation_has_sizes_rewrites_refusals_and_the_verification() {
    let mut log = log();
    let rewrite = |rule, node: &str| Rewrite { rule, node: node.to_owned() };
    log.rewrites = vec![
        rewrite("fuse-pad", "/pad<1>"),
        rewrite("merge-chain", "/b"),
        rewrite("merge-chain", "/c"),
    ];
    let warning = |node: &str| format!("{node} (merge-chain): grew (9-fold): quantize per channel");
    log.warnings = ["n1", "n2", "n3"].map(warning).to_vec();
    let html = compiled_page(&log, false);
    assert_well_formed(&html);
    for text in [
        "<h1>a&#60;b&#62;.onnx, compiled</h1>",
        "Operators<b>9</b><span class=\"dim\">−30.8\u{a0}%, 13 before</span>",
        "Multiply-adds<b>1,234,567</b><span class=\"dim\">as before</span>",
        "The model that was read and the file written were run on ONNX Runtime 1.22",
        "10 bytes instead of 9",
        "1.5 times as fast",
        "error: &#60;LayerNorm&#62; is unknown",
        "aria-label=\"merge-chain: 2\"",
        "Rewrites in order (3)",
        "fuse-pad at /pad&#60;1&#62;",
        "Merges declined (1)",
        "n1 (merge-chain): grew (9-fold): quantize per channel; and 2 more of this kind",
        "All warnings of rewrites (3)",
        "<td>Conv</td><td class=\"n\">9</td><td class=\"n\">5</td>",
        "SHA-256",
    ] {
        assert!(html.contains(text), "{text}: {html}");
    }
    assert!(!html.contains("not usable"));
    let pruned = compiled_page(&log, true);
    assert!(pruned.contains("pruned without recovery</h1>") && pruned.contains("not usable"));
    let nothing = compiled_page(&Log::default(), false);
    assert_well_formed(&nothing);
    assert!(nothing.contains("Nothing was merged.") && !nothing.contains("Warning"));
}

#[test]
fn a_training_alone_has_scores_and_curves() {
    let run = trainings::trained(false).training.unwrap();
    let course = Course { epochs: run.history, steps: run.course, images_per_second: Some(900.0) };
    let scores = (run.before, Score { accuracy: Some(0.85), ..run.after });
    let html = trained(("a<b>", "out"), scores, 160, &course, &origin());
    assert_well_formed(&html);
    for text in ["<h1>a&#60;b&#62;, trained</h1>", "87.3 → 85.0", "4 epochs, 160 steps", "Loss"] {
        assert!(html.contains(text), "{text}: {html}");
    }
    assert!(html.contains("worse than the input model by 2.30 points"), "{html}");
    assert_eq!(html.matches("<polyline").count(), 3);
    let better = (run.before, Score { accuracy: Some(0.9), ..run.after });
    let html = trained(("a", "b"), better, 160, &course, &origin());
    assert!(!html.contains("worse"), "{html}");
}

fn evaluation(models: usize, has_labels: bool) -> EvaluateReport {
    let class = |name: &str, first: f64, second: f64| ClassScore {
        name: name.to_owned(),
        images: 40,
        top1: [first, second].into_iter().take(if has_labels { models } else { 0 }).collect(),
        agreement: (models > 1).then_some(0.75),
    };
    let model = |path: &str, top1: f64| ModelScore {
        path: path.into(),
        runtime: "ONNX Runtime 1.22".to_owned(),
        top1: has_labels.then_some(top1),
        top5: None,
    };
    let flipped = FlippedImage {
        name: "cat/<1>.png".to_owned(),
        label: Some("cat".to_owned()),
        first: Some("cat".to_owned()),
        second: None,
    };
    EvaluateReport {
        images: 80,
        skipped: vec!["broken.png".to_owned()],
        has_labels,
        models: [model("a.onnx", 0.9), model("b.onnx", 0.85)].into_iter().take(models).collect(),
        agreement: (models > 1).then_some(0.8),
        classes: vec![class("<cat>", 0.9, 0.95), class("dog", 0.9, 0.75)],
        flipped: (0..3).map(|_| flipped.clone()).collect(),
    }
}

#[test]
fn an_evaluation_shows_the_change_of_each_class() {
    let html = evaluated(&evaluation(2, true), "images/", 2, &origin());
    assert_well_formed(&html);
    for text in [
        "<h1>a.onnx and b.onnx</h1>",
        "80 images of images/.",
        "90.0 → 85.0",
        "&#60;cat&#62; (40 images)",
        "3 from A to B; the first 2 are listed.",
        "cat/&#60;1&#62;.png: cat → not finite (label cat)",
        "broken.png",
    ] {
        assert!(html.contains(text), "{text}: {html}");
    }
    let part = html.split("<h2>Change of each class</h2>").nth(1).expect("the part is there");
    let (loss, gain) = part.split_once("&#60;cat&#62;").expect("a class");
    assert!(loss.contains("dog: −15.0 points") && loss.contains("fill-loss"), "{loss}");
    assert!(gain.contains("+5.00 points"), "{gain}");
}

#[test]
fn an_evaluation_stands_with_one_model_and_without_labels() {
    let one = evaluated(&evaluation(1, true), "d", 0, &origin());
    assert_well_formed(&one);
    assert!(one.contains(">90.0\u{a0}%<") && !one.contains("Change of each class"), "{one}");
    let unlabelled = evaluated(&evaluation(2, false), "d", 0, &origin());
    assert_well_formed(&unlabelled);
    assert!(unlabelled.contains("80.0\u{a0}%") && unlabelled.contains("without labels"));
    assert!(!unlabelled.contains("Accuracy") && !unlabelled.contains("Change of each class"));
}
