//! The order of help: the five options that matter most come first, and `-h` shows no others.

use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// The options that matter most, by subcommand; the bare form has no name.
pub(super) const FIRST: [(&str, &[&str]); 9] = [
    ("", &["output", "data", "preprocess", "prune", "speedup"]),
    ("compile", &["output", "input_shape", "input_data", "target", "report"]),
    ("prune", &["output", "data", "preprocess", "prune", "speedup"]),
    ("finetune", &["output", "data", "preprocess", "epochs", "lr"]),
    ("inspect", &["latency", "map", "why_not", "target", "json"]),
    ("verify", &["input_data", "check", "limit", "runtime", "threads"]),
    ("evaluate", &["data", "preprocess", "images", "flipped", "json"]),
    ("bench", &["batch", "seconds", "json", "per_block", "threads"]),
    ("doctor", &["json", "ort_lib"]),
];

/// Heading of the options that have no other.
const REST: &str = "More options";

/// The command line as clap knows it.
#[must_use]
pub fn command() -> Command {
    let mut command = Cli::command();
    for (name, first) in FIRST {
        command = if name.is_empty() {
            sorted(command, first)
                .mut_arg("model", |arg| arg.required_unless_present("list_passes"))
        } else {
            command.mut_subcommand(name, |inner| sorted(inner, first))
        };
    }
    command
        .mut_subcommand("compile", |inner| {
            inner.mut_arg("model", |arg| arg.required_unless_present("list_passes"))
        })
        .mut_subcommand("prune", |inner| inner.mut_arg("model", |arg| arg.required(true)))
}

/// The subcommands that have a long option of this name, visible or as an alias.
pub(super) fn owners(option: &str) -> Vec<String> {
    let is_called = |arg: &Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(option) || aliases.contains(&option)
    };
    let command = command();
    let having = command.get_subcommands().filter(|inner| inner.get_arguments().any(is_called));
    having.map(|inner| inner.get_name().to_owned()).collect()
}

/// Puts the options named first, and the others under headings.
fn sorted(command: Command, first: &[&str]) -> Command {
    command.mut_args(|arg: Arg| {
        if arg.is_positional() {
            return arg;
        }
        match first.iter().position(|name| arg.get_id() == name) {
            Some(place) => arg.help_heading(None::<&str>).display_order(place),
            None if arg.get_help_heading().is_some() => arg.hide_short_help(true),
            None => arg.help_heading(REST).hide_short_help(true),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn short_help_shows_the_options_that_matter_most_and_no_others() {
        for (name, first) in FIRST {
            let mut command = command();
            command.build();
            let shown = if name.is_empty() {
                &mut command
            } else {
                command.find_subcommand_mut(name).expect("a subcommand")
            };
            let text = shown.render_help().to_string();
            let options: Vec<&str> = text
                .lines()
                .filter_map(|line| {
                    line.trim_start()
                        .split("--")
                        .nth(1)
                        .filter(|_| line.trim_start().starts_with('-'))
                })
                .filter_map(|rest| rest.split([' ', '=']).next())
                .filter(|option| !["help", "version"].contains(option))
                .collect();
            let expected: Vec<String> = first.iter().map(|id| id.replace('_', "-")).collect();
            assert_eq!(options, expected, "{name}\n{text}");
        }
    }

    #[test]
    fn compiling_has_no_option_of_pruning_and_pruning_none_of_debugging() {
        let has = |name: &str, id: &str| {
            let command = command();
            let inner = command.find_subcommand(name).expect("a subcommand");
            inner.get_arguments().any(|arg| arg.get_id() == id)
        };
        assert!(!has("compile", "prune") && !has("compile", "data") && !has("compile", "epochs"));
        assert!(has("prune", "prune") && has("prune", "data") && !has("prune", "stop_after"));
        assert!(has("compile", "stop_after") && !has("finetune", "blocks"));
    }
}
