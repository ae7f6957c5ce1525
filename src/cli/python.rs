//! The keyword arguments of the Python module, made of the options: `python/updp_compile/_options.py`.

use std::any::TypeId;
use std::fmt::Write;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::{env, fs, path::Path};

use clap::{Arg, ArgAction, Command};

use super::{BlockList, FormList, command};

const HEAD: &str = r#""""The options of every job as keyword arguments.

Made from the options of the command line: UPDATE_DOCS=1 cargo test -p updp-compile --lib python
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Union

if TYPE_CHECKING:
    from ._data import Data

StrPath = Union[str, "os.PathLike[str]"]
"#;

/// The subcommands and the names of their options in Python.
const JOBS: [(&str, &str); 8] = [
    ("compile", "CompileOptions"),
    ("prune", "PruneOptions"),
    ("finetune", "FinetuneOptions"),
    ("inspect", "InspectOptions"),
    ("verify", "VerifyOptions"),
    ("evaluate", "EvaluateOptions"),
    ("bench", "BenchmarkOptions"),
    ("doctor", "DoctorOptions"),
];

/// Options that Python has in another way, and those that print instead of making a result.
const LEFT_OUT: [&str; 21] = [
    "config",
    "data",
    "debug",
    "dot",
    "dry_run",
    "dump_after",
    "emit_step",
    "help",
    "json",
    "list_passes",
    "output",
    "per_block",
    "latency_table",
    "quiet",
    "stop_after",
    "text",
    "time_passes",
    "until",
    "verbose",
    "version",
    "why_not",
];

/// The type of an option, as Python has it.
fn type_of(option: &Arg) -> String {
    let kind = option.get_value_parser().type_id();
    let name = option.get_id().as_str();
    let known = [
        ("freeze_weights", "bool | str | Sequence[str]"),
        ("input", "Mapping[str, Any] | str | Sequence[str]"),
        ("input_data", "Mapping[str, Any] | StrPath | Sequence[str]"),
        ("input_shape", "Mapping[str, Sequence[int | str]] | str | Sequence[str]"),
        ("outputs", "Mapping[str, float] | str | Sequence[str]"),
        ("val", "Data"),
    ];
    if let Some((_, kind)) = known.iter().find(|(known, _)| *known == name) {
        return (*kind).to_owned();
    }
    let values = option.get_possible_values();
    let is_bare = option.get_num_args().is_some_and(|count| count.min_values() == 0);
    let one = if !option.get_action().takes_values() {
        "bool".to_owned()
    } else if is_bare {
        "bool | str".to_owned()
    } else if !values.is_empty() {
        let values: Vec<String> =
            values.iter().map(|value| format!("{:?}", value.get_name())).collect();
        format!("Literal[{}]", values.join(", "))
    } else if kind == TypeId::of::<f64>() {
        "float".to_owned()
    } else if kind == TypeId::of::<u64>() {
        "int | str".to_owned()
    } else if [TypeId::of::<usize>(), TypeId::of::<NonZeroUsize>(), TypeId::of::<NonZeroU32>()]
        .iter()
        .any(|number| kind == *number)
    {
        "int".to_owned()
    } else if kind == TypeId::of::<PathBuf>() {
        "StrPath".to_owned()
    } else if kind == TypeId::of::<BlockList>() {
        "int | str | Sequence[int]".to_owned()
    } else if kind == TypeId::of::<FormList>() {
        "str | Sequence[str]".to_owned()
    } else {
        "str".to_owned()
    };
    if matches!(option.get_action(), ArgAction::Append) {
        return format!("{one} | Sequence[{one}]");
    }
    one
}

fn write_options(page: &mut String, subcommand: &Command, name: &str) {
    let title = subcommand.get_name();
    let _ = write!(
        page,
        "\n\nclass {name}(TypedDict, total=False):\n    \"\"\"Options of `{title}`; all may be left out.\"\"\"\n"
    );
    let shown = |arg: &&Arg| {
        !arg.is_hide_set() && !arg.is_positional() && !LEFT_OUT.contains(&arg.get_id().as_str())
    };
    for option in subcommand.get_arguments().filter(shown) {
        let Some(long) = option.get_long() else { continue };
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        let defaults: Vec<_> =
            option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = if defaults.is_empty() || !option.get_action().takes_values() {
            String::new()
        } else {
            format!(" [default: {}]", defaults.join(","))
        };
        let _ = write!(
            page,
            "    # {}{default}\n    {}: {}\n",
            help.replace('\n', " "),
            long.replace('-', "_"),
            type_of(option)
        );
    }
}

/// The module, and the options that may be given more than once.
fn page() -> String {
    let mut root = command();
    root.build();
    let mut page = HEAD.to_owned();
    let mut repeated: Vec<String> = Vec::new();
    for (subcommand, name) in JOBS {
        let subcommand = root.find_subcommand(subcommand).expect("a subcommand");
        write_options(&mut page, subcommand, name);
        let appended = |arg: &&Arg| {
            matches!(arg.get_action(), ArgAction::Append) && arg.get_value_delimiter().is_none()
        };
        let longs = subcommand.get_arguments().filter(appended).filter_map(Arg::get_long);
        repeated.extend(longs.map(|long| long.replace('-', "_")));
    }
    repeated.sort();
    repeated.dedup();
    let names: Vec<String> = repeated.iter().map(|name| format!("{name:?}")).collect();
    let _ = write!(
        page,
        "\n\n# Options that are given once for each value; the values of others are joined with commas.\nREPEATED = frozenset({{{}}})\n",
        names.join(", ")
    );
    page
}

#[test]
fn the_options_of_the_python_module_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/updp_compile/_options.py");
    let page = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("the module is written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "python/updp_compile/_options.py is out of date: UPDATE_DOCS=1 cargo test -p updp-compile --lib python"
    );
}
