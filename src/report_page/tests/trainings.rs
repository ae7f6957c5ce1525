//! Tests of the curves of a training.

use updp_prune::outcome::{SubnetOutcome, SupernetOutcome, TrainingOutcome};
use updp_trainer::finetune::{EpochSummary, StepSummary};

use super::*;

pub(super) fn trained(has_lambda: bool) -> Outcome {
    let mut outcome = outcome();
    let lambda = |at: u64| has_lambda.then(|| (at as f64 / 50.0).min(1.0));
    let history = (1..=4).map(|epoch| EpochSummary {
        epoch,
        loss: 0.5,
        lambda: lambda(epoch * 40),
        score: Score { accuracy: Some(0.8 + 0.02 * epoch as f64), ..outcome.after },
    });
    let course = (1..=160).map(|step| StepSummary {
        step,
        loss: 2.0 / (1.0 + 0.05 * step as f64),
        lambda: lambda(step),
        learning_rate: 5e-4 * (1.0 - step as f64 / 160.0),
    });
    outcome.training = Some(TrainingOutcome {
        method: "progressive <p>".to_owned(),
        epochs: 4,
        steps: 160,
        images: 2560,
        images_per_second: Some(900.0),
        before: outcome.before,
        after: outcome.after,
        is_written: true,
        history: history.collect(),
        course: course.collect(),
    });
    outcome
}

#[test]
fn curves_show_how_a_training_went() {
    let html = page("a", "b", &trained(true));
    assert_well_formed(&html);
    assert_eq!(html.matches("<polyline class=\"curve\"").count(), 4);
    for text in [
        "progressive &#60;p&#62;: 4 epochs with 2560 images, 160 steps",
        "<h3>Loss</h3>",
        "<h3>Accuracy, %</h3>",
        "<h3>λ</h3>",
        ">0.25</text>",
        "<h3>Learning rate</h3>",
        "step 160: 88.0",
        "after each epoch, λ at 1.",
    ] {
        assert!(html.contains(text), "{text}");
    }
    // The first step is near the left end, the last step is at the right end, and the largest loss is at the top.
    let line = html.split("<polyline class=\"curve\" points=\"").nth(1).unwrap();
    let line = line.split('"').next().unwrap();
    let points: Vec<(f64, f64)> = line
        .split(' ')
        .map(|it| it.split_once(',').unwrap())
        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        .collect();
    assert_eq!(points.len(), 160);
    assert!(points[0].0 < 10.0 && points[159].0 > points[158].0 && points[159].0 > 750.0);
    assert!(points[0].1 < points[80].1 && points[80].1 < points[159].1, "{line}");
    assert!(points.iter().all(|(x, y)| (0.0..=1000.0).contains(x) && (0.0..=1000.0).contains(y)));
}

#[test]
fn the_axis_of_an_accuracy_follows_its_values_and_ends_at_100() {
    let mut run = trained(false);
    for epoch in &mut run.training.as_mut().unwrap().history {
        epoch.score.accuracy = Some(1.0);
    }
    let html = page("a", "b", &run);
    let curve = html.split("<h3>Accuracy, %</h3>").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(curve.contains(">99</text>") && curve.contains(">100</text>"), "{curve}");
    assert!(!curve.contains(">75</text>") && !curve.contains(">125</text>"), "{curve}");
}

#[test]
fn curves_without_lambda_labels_or_finite_losses_leave_those_out() {
    let mut run = trained(false);
    let training = run.training.as_mut().unwrap();
    training.course.iter_mut().for_each(|it| it.loss = f64::NAN);
    training.history.iter_mut().for_each(|it| it.score.accuracy = None);
    let html = page("a", "b", &run);
    assert_well_formed(&html);
    assert_eq!(html.matches("<polyline").count(), 2);
    assert!(html.contains("<h3>Agreement, %</h3>") && !html.contains("<h3>λ"));
    assert!(!page("a", "b", &outcome()).contains("<h2>Training"));
    let training = run.training.as_mut().unwrap();
    (training.course, training.history) = (Vec::new(), Vec::new());
    assert!(!page("a", "b", &run).contains("<h2>Training"));
}

#[test]
fn a_supernet_has_curves_of_its_own() {
    let mut run = trained(false);
    let training = run.training.take().unwrap();
    let subnet = SubnetOutcome { before: run.before, after: run.after };
    run.supernet = Some(SupernetOutcome {
        epochs: training.epochs,
        steps: training.steps,
        images: training.images,
        images_per_second: training.images_per_second,
        blocks: vec![(0, "conv".to_owned()), (3, "drop".to_owned())],
        baseline: subnet,
        all_pruned: subnet,
        history: training.history,
        course: training.course,
        start: Some("supernet".to_owned()),
    });
    let html = page("a", "b", &run);
    assert_well_formed(&html);
    assert_eq!(html.matches("<polyline").count(), 3);
    for text in [
        "<h2>Supernet</h2>",
        "2 blocks in two flows: 4 epochs with 2560 images, 160 steps",
        "after each epoch, every block pruned.",
    ] {
        assert!(html.contains(text), "{text}");
    }
}
