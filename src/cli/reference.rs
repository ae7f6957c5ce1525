//! Shell completions and the man page, made of the arguments.

use std::io;

pub use clap_complete::Shell;

use super::command;

/// Completions for a shell.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut command(), "updp-compile", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The man page, in troff.
///
/// # Errors
/// What rendering refuses.
pub fn man_page() -> io::Result<String> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command()).render(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The page docs/command-line.md. Only the test below calls it, which writes the page.
#[cfg(test)]
mod page {
    use std::fmt::Write;

    use clap::{Arg, Command};

    use super::super::help::FIRST;
    use super::command;

    const INTRODUCTION: &str = "\
# Command line

This page is made from the program's own help (`updp-compile SUBCOMMAND --help`).

The bare form `updp-compile MODEL -o OUT` compiles. With a goal, such as `--prune 3`, it also prunes. It takes the options of `compile`
and those of `prune`. Every subcommand also takes `-h` (the options that matter most) and `--help` (all options).
Long options can stand in a file: [options in a file](config-file.md).

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a bug of the program |
| 2 | wrong usage |
| 3 | the model is broken |
| 4 | the model has something that is not supported |
| 5 | the verification failed |
| 6 | there is nothing to prune |
| 7 | a goal or a gate was missed |
| 8 | the runtime is missing |
| 130 | interrupted |

[Error codes](errors.md) explains every error.
";

    /// The subcommands with their options, as Markdown.
    pub(super) fn command_line() -> String {
        let mut root = command();
        root.build();
        let mut page = INTRODUCTION.to_owned();
        let rank = |name: &str| FIRST.iter().position(|(known, _)| *known == name);
        let mut subcommands: Vec<&Command> =
            root.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
        subcommands.sort_by_key(|inner| rank(inner.get_name()).unwrap_or(usize::MAX));
        for subcommand in subcommands {
            write_subcommand(&mut page, subcommand);
        }
        page
    }

    fn write_subcommand(page: &mut String, subcommand: &Command) {
        let usage = subcommand.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = write!(page, "\n## {}\n\n{about}.", subcommand.get_name());
        for alias in subcommand.get_visible_aliases() {
            let _ = write!(page, " Another name: `{alias}`.");
        }
        let _ = write!(page, "\n\n```\n{usage}\n```\n");
        let mut groups: Vec<(&str, Vec<&Arg>)> = Vec::new();
        let shown = |arg: &&Arg| {
            !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str())
        };
        for arg in subcommand.get_arguments().filter(shown) {
            let default = if arg.is_positional() { "Arguments" } else { "Options" };
            let name = arg.get_help_heading().unwrap_or(default);
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, group)) => group.push(arg),
                None => groups.push((name, vec![arg])),
            }
        }
        let rank = |name: &str| ["Arguments", "Options"].iter().position(|first| *first == name);
        groups.sort_by_key(|(name, _)| rank(name).unwrap_or(usize::MAX));
        let (_, first) =
            FIRST.iter().find(|(name, _)| *name == subcommand.get_name()).unwrap_or(&FIRST[0]);
        for (name, mut group) in groups {
            let place = |arg: &&Arg| first.iter().position(|id| arg.get_id() == id);
            group.sort_by_key(|arg| place(arg).unwrap_or(usize::MAX));
            let _ = write!(page, "\n| {name} | |\n|---|---|\n");
            for arg in group {
                let _ = writeln!(page, "| {} | {} |", names(arg), meaning(arg));
            }
        }
    }

    /// Names and value of an argument: `-o`, `--output OUT`.
    fn names(arg: &Arg) -> String {
        let value = arg.get_value_names().unwrap_or_default().join(" ");
        if arg.is_positional() {
            return cell(&format!("`{value}`"));
        }
        let long = arg.get_long().map(|long| {
            let has_value = arg.get_action().takes_values();
            let is_optional = arg.get_num_args().is_some_and(|count| count.min_values() == 0);
            match (has_value, is_optional) {
                (true, true) => format!("`--{long}[={value}]`"),
                (true, false) => format!("`--{long} {value}`"),
                (false, _) => format!("`--{long}`"),
            }
        });
        let short = arg.get_short().map(|short| format!("`-{short}`"));
        cell(&short.into_iter().chain(long).collect::<Vec<_>>().join(", "))
    }

    /// Help, values and default of an argument.
    fn meaning(arg: &Arg) -> String {
        let mut lines = vec![arg.get_help().map(ToString::to_string).unwrap_or_default()];
        if arg.get_action().takes_values() {
            for value in arg.get_possible_values().iter().filter(|value| !value.is_hide_set()) {
                let help = value.get_help().map(|help| format!(": {help}")).unwrap_or_default();
                lines.push(format!("`{}`{help}", value.get_name()));
            }
            let defaults: Vec<_> =
                arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            if !defaults.is_empty() {
                lines.push(format!("Default: `{}`", defaults.join(",")));
            }
        }
        cell(&lines.join("<br>"))
    }

    /// A text as a table takes it.
    fn cell(text: &str) -> String {
        text.replace('|', "\\|").replace('\n', " ")
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    #[test]
    fn the_page_of_the_command_line_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
        let page = page::command_line();
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &page).expect("docs/command-line.md is written");
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "docs/command-line.md is out of date: UPDATE_DOCS=1 cargo test -p updp-compile --lib reference"
        );
    }

    #[test]
    fn the_page_leaves_out_no_option_of_the_bare_form() {
        let page = page::command_line();
        for long in command().get_arguments().filter_map(|arg| arg.get_long()) {
            assert!(page.contains(&format!("`--{long}")), "--{long}");
        }
    }
}
