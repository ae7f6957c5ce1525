//! `doctor`: what this machine has for running models.

use serde_json::{Value, json};

use crate::api::{self, DoctorProvider, DoctorReport};
use crate::cli::DoctorArgs;
use crate::error::CliError;
use crate::listener::{Listener, Outcome};
use crate::untrusted::on_one_line;

/// Runs the subcommand. It fails where ONNX Runtime does not work, after the report.
pub(super) fn run(
    arguments: &DoctorArgs,
    listener: &mut Listener<'_>,
) -> Result<Outcome, CliError> {
    let report = listener.during(|observer| api::doctor(&arguments.options(), observer))?;
    let document = json(&report);
    if arguments.json {
        listener.say(&format!("{document:#}"));
    } else {
        listener.say(&text(&report));
    }
    Ok(Outcome { document: Some(document), failure: report.error.map(Into::into) })
}

/// The report for people.
fn text(report: &DoctorReport) -> String {
    let mut lines =
        vec![format!("updp-compile {}, with {} built in", report.version, report.tract)];
    lines.push(String::new());
    lines.extend(library(report));
    lines.push(String::new());
    lines.push("machine".to_owned());
    lines.extend(machine(report));
    if report.pythons.is_empty() {
        lines.push("  python      none on PATH".to_owned());
    }
    for python in &report.pythons {
        lines.push(format!("  python      {}", python.display()));
    }
    for cure in &report.cures {
        lines.push(String::new());
        lines.push(format!("{}; type:", cure.what));
        lines.push(format!("  {}", cure.command));
    }
    lines.join("\n")
}

fn library(report: &DoctorReport) -> Vec<String> {
    let mut lines = Vec::new();
    match (&report.library, &report.error) {
        (Some(library), None) => lines.push(format!("ONNX Runtime {} works", library.version)),
        (Some(library), Some(_)) => {
            lines.push(format!("ONNX Runtime {} is loaded and does not work", library.version));
        }
        (None, _) => lines.push("ONNX Runtime does not work".to_owned()),
    }
    if let Some(library) = &report.library {
        lines.push(format!("  library     {}", library.path.display()));
        let (place, reason) = (library.place.words(), &library.reason);
        lines.push(format!("  found in    {place}: {reason}"));
    }
    if let Some(error) = &report.error {
        lines.push(format!("  reason      {}", on_one_line(&error.to_string())));
    }
    for it in &report.providers {
        lines.push(format!("  provider    {}: {}", it.name, state(it)));
    }
    for it in &report.passed_over {
        let version = it.version.as_ref().map_or_else(String::new, |it| format!("{it}, "));
        let (path, place) = (it.path.display(), it.place.words());
        lines.push(format!("  not used    {path} ({version}{place}): {}", it.reason));
    }
    lines
}

fn state(provider: &DoctorProvider) -> String {
    match (provider.is_usable, &provider.detail) {
        (Some(true), _) => "usable".to_owned(),
        (None, _) => "not used by this program".to_owned(),
        (Some(false), None) => "not usable".to_owned(),
        (Some(false), Some(detail)) => format!("not usable: {}", on_one_line(detail)),
    }
}

fn machine(report: &DoctorReport) -> Vec<String> {
    let it = &report.machine;
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let name = if it.processor.is_empty() { "unknown" } else { &it.processor };
    let vectors =
        if it.vectors.is_empty() { "none known".to_owned() } else { it.vectors.join(", ") };
    let allowed = if it.usable_threads < it.hardware_threads {
        format!("{} of {}, by a limit of this process", it.usable_threads, it.hardware_threads)
    } else {
        it.usable_threads.to_string()
    };
    let free = report
        .temporary_free_bytes
        .map_or_else(|| "free space unknown".to_owned(), |free| format!("{} free", gib(free)));
    vec![
        format!("  processor   {name} ({})", it.architecture),
        format!("  vectors     {vectors}"),
        format!("  threads     {allowed} (cores: {})", it.cores),
        format!(
            "  memory      {} of {} free",
            gib(it.available_memory_bytes),
            gib(it.memory_bytes)
        ),
        format!("  temporary   {}, {free}", report.temporary.display()),
    ]
}

/// The report, schema `updp-doctor/1`.
fn json(report: &DoctorReport) -> Value {
    let machine = &report.machine;
    let library = report.library.as_ref().map(|it| {
        json!({
            "path": it.path.display().to_string(),
            "version": it.version,
            "place": it.place,
            "reason": it.reason,
        })
    });
    let error = report.error.as_ref().map(
        |error| json!({ "code": error.code(), "message": error.to_string(), "help": error.help() }),
    );
    let providers = report.providers.iter();
    let providers = providers
        .map(|it| json!({ "name": it.name, "is_usable": it.is_usable, "detail": it.detail }));
    let passed_over = report.passed_over.iter().map(|it| {
        json!({
            "path": it.path.display().to_string(),
            "version": it.version,
            "place": it.place,
            "reason": it.reason,
        })
    });
    let names = |paths: &[std::path::PathBuf]| -> Vec<String> {
        paths.iter().map(|path| path.display().to_string()).collect()
    };
    let cures = report.cures.iter();
    json!({
        "schema": "updp-doctor/1",
        "version": report.version,
        "works": report.error.is_none(),
        "library": library,
        "error": error,
        "providers": providers.collect::<Vec<Value>>(),
        "passed_over": passed_over.collect::<Vec<Value>>(),
        "searched": names(&report.searched),
        "tract": report.tract,
        "pythons": names(&report.pythons),
        "machine": {
            "processor": machine.processor,
            "architecture": machine.architecture,
            "cores": machine.cores,
            "hardware_threads": machine.hardware_threads,
            "usable_threads": machine.usable_threads,
            "vectors": machine.vectors,
            "memory_bytes": machine.memory_bytes,
            "available_memory_bytes": machine.available_memory_bytes,
        },
        "temporary": {
            "path": report.temporary.display().to_string(),
            "free_bytes": report.temporary_free_bytes,
        },
        "cures": cures
            .map(|it| json!({ "what": it.what, "command": it.command }))
            .collect::<Vec<Value>>(),
    })
}
