//! `evaluate A [B]`: accuracy and agreement over images.

use std::fmt::Write;

use serde_json::{Value, json};

use super::write_report;
use crate::api::{self, EvaluateOptions, EvaluateReport, Source};
use crate::cli::EvaluateArgs;
use crate::data;
use crate::error::CliError;
use crate::listener::{Listener, Outcome};
use crate::report_page::{self, Origin};
use crate::untrusted::on_one_line;
use updp_prune::words::counted;

/// Runs the subcommand.
pub(super) fn run(
    arguments: &EvaluateArgs,
    listener: &mut Listener<'_>,
) -> Result<Outcome, CliError> {
    arguments.paths().check()?;
    let options = EvaluateOptions {
        preprocess: arguments.preprocess.clone(),
        inputs: data::model_inputs(&arguments.inputs)?,
        expect_accuracy: arguments.expect_accuracy.map(|percent| percent / 100.0),
        images: arguments.images.map(usize::from),
        seed: arguments.seed,
        input_shapes: arguments.input_shape.clone(),
        runtime: arguments.runtime.options(),
    };
    let (model, other) = (&arguments.model, arguments.other.as_ref().map(Source::from));
    let report = listener
        .during(|observer| api::evaluate(model, other, &arguments.data, &options, observer))?;
    let shown = arguments.flipped.min(report.flipped.len());
    let document = json(arguments, &report, shown);
    write_report(arguments.report.as_ref(), &document, || page(arguments, &report, shown))?;
    if arguments.json {
        listener.say(&format!("{document:#}"));
    } else {
        listener.say(&table(arguments, &report, shown));
    }
    Ok(Outcome::of(document))
}

/// The report as a page.
fn page(arguments: &EvaluateArgs, report: &EvaluateReport, shown: usize) -> String {
    let mut origin = Origin::of(&arguments.command_line);
    for (what, model) in ["A", "B"].into_iter().zip(&report.models) {
        origin = origin.model(what, &model.path);
    }
    if let Some(model) = report.models.first() {
        origin = origin.fact("Runtime", &*model.runtime);
    }
    origin = origin.threads(arguments.runtime.threads.map(usize::from));
    let origin = origin.fact("Preprocessing", &*arguments.preprocess);
    report_page::evaluated(report, &arguments.data.display().to_string(), shown, &origin)
}

/// A percentage, or a dash.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0))
}

/// The report for people.
fn table(arguments: &EvaluateArgs, report: &EvaluateReport, shown: usize) -> String {
    let mut lines = vec![format!(
        "{} of {}{}",
        counted(report.images, "image", "images"),
        arguments.data.display(),
        if report.has_labels { "" } else { ", without labels" }
    )];
    let mut letters = ["A", "B"].into_iter();
    for model in &report.models {
        let letter = letters.next().unwrap_or_default();
        lines.push(format!("  {letter} = {} in {}", model.path.display(), model.runtime));
    }
    if !report.skipped.is_empty() {
        let count = counted(report.skipped.len(), "image", "images");
        lines.push(format!(
            "  {count} could not be read, such as {}",
            on_one_line(&report.skipped[0])
        ));
    }
    let row = |name: &str, images: &str, cells: Vec<String>| {
        let mut line = format!("  {name:<24}{images:>8}");
        for cell in cells {
            let _ = write!(line, "{cell:>12}");
        }
        line.trim_end().to_owned()
    };
    let has_two = report.models.len() > 1;
    let names = ["A", "B"].into_iter().take(report.models.len()).filter(|_| report.has_labels);
    let agreement = has_two.then_some("agreement");
    lines.push(row("", "images", names.chain(agreement).map(str::to_owned).collect()));
    let both = |shares: Vec<Option<f64>>, agreement: Option<f64>| -> Vec<String> {
        let cells = shares.into_iter().filter(|_| report.has_labels).map(percent);
        cells.chain(has_two.then(|| percent(agreement))).collect()
    };
    let top1 = report.models.iter().map(|model| model.top1).collect();
    let count = report.images.to_string();
    lines.push(row(
        if report.has_labels { "top-1" } else { "all" },
        &count,
        both(top1, report.agreement),
    ));
    if report.models.iter().any(|model| model.top5.is_some()) {
        let top5 = report.models.iter().map(|model| percent(model.top5)).collect();
        lines.push(row("top-5", &count, top5));
    }
    for class in &report.classes {
        let top1 = class.top1.iter().copied().map(Some).collect();
        let name = format!("  {}", on_one_line(&class.name));
        lines.push(row(&name, &class.images.to_string(), both(top1, class.agreement)));
    }
    if has_two {
        lines.extend(flipped(report, shown));
    }
    lines.join("\n")
}

/// The images whose class changes.
fn flipped(report: &EvaluateReport, shown: usize) -> Vec<String> {
    let count = report.flipped.len();
    let mut head = format!("{} change their class from A to B", counted(count, "image", "images"));
    if shown > 0 && shown < count {
        let _ = write!(head, "; the first {shown} (--flipped N shows more)");
    }
    let mut lines = vec![head];
    for image in &report.flipped[..shown] {
        let class = |name: &Option<String>| {
            name.as_deref().map_or_else(|| "not finite".to_owned(), on_one_line)
        };
        let label = image
            .label
            .as_ref()
            .map_or_else(String::new, |label| format!(" (label {})", on_one_line(label)));
        let (first, second) = (class(&image.first), class(&image.second));
        lines.push(format!("  {}: {first} -> {second}{label}", on_one_line(&image.name)));
    }
    lines
}

/// The report, schema `updp-evaluate/1`.
fn json(arguments: &EvaluateArgs, report: &EvaluateReport, shown: usize) -> Value {
    let models = report.models.iter().map(|model| {
        json!({
            "path": model.path.display().to_string(),
            "runtime": model.runtime,
            "top1": model.top1,
            "top5": model.top5,
        })
    });
    let classes = report.classes.iter().map(|class| {
        json!({
            "name": class.name,
            "images": class.images,
            "top1": class.top1,
            "agreement": class.agreement,
        })
    });
    let flipped = report.flipped[..shown].iter().map(|image| {
        json!({
            "name": image.name,
            "label": image.label,
            "first": image.first,
            "second": image.second,
        })
    });
    json!({
        "schema": "updp-evaluate/1",
        "data": arguments.data.display().to_string(),
        "images": report.images,
        "skipped": report.skipped,
        "has_labels": report.has_labels,
        "models": models.collect::<Vec<Value>>(),
        "agreement": report.agreement,
        "classes": classes.collect::<Vec<Value>>(),
        "flipped_count": report.flipped.len(),
        "flipped": flipped.collect::<Vec<Value>>(),
    })
}
