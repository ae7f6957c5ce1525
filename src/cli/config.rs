//! `--config FILE.toml`: long options as keys.
//!
//! There is no second list of options. The command line is parsed once without its errors, to learn which options it gives; the
//! keys of the file are looked up among the long options that clap knows, and those that the command line neither gives nor
//! contradicts become arguments in front of its own. Then everything is parsed as if it had been typed, so values, defaults and
//! conflicts are judged by the same code. Paths mean what they mean on the command line: they start from the working directory.

use std::any::TypeId;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::de::{DeTable, DeValue};

use super::help;
use super::{BlockList, command};
use crate::error::CliError;

/// Name of the option itself.
const OPTION: &str = "config";

/// Largest file of options, in bytes.
const LARGEST: u64 = 1 << 20;

/// Arguments with those of the file among them.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) arguments: Vec<OsString>,
    file: PathBuf,
    /// Keys that became arguments.
    keys: Vec<Key>,
}

/// A key with its line.
type Key = (String, usize);

/// Adds the arguments of the file that `--config` names, where it is given.
///
/// # Errors
/// C0018 when the file cannot be read, is no TOML, or has a key or a type that no option has.
pub(super) fn expand(mut arguments: Vec<OsString>) -> Result<Given, CliError> {
    let mut given = Given { arguments: Vec::new(), file: PathBuf::new(), keys: Vec::new() };
    let command = command();
    let matches = command.clone().ignore_errors(true).try_get_matches_from(&arguments);
    if let Ok(matches) = matches {
        let (command, matches, name) = match matches.subcommand() {
            Some((name, inner)) => (command.find_subcommand(name), inner, Some(name)),
            None => (Some(&command), &matches, None),
        };
        let path = matches.try_get_one::<PathBuf>(OPTION).ok().flatten();
        if let (Some(command), Some(path)) = (command, path) {
            let is_name = |word: &OsString| {
                name.is_some_and(|name| word == name)
                    || command.get_all_aliases().any(|alias| word == alias)
            };
            let at = match name {
                Some(_) => arguments.iter().skip(1).position(is_name).map_or(1, |at| at + 2),
                None => 1,
            };
            let at = at.min(arguments.len());
            let (words, keys) = read(path, command, matches)?;
            arguments.splice(at..at, words);
            (given.file, given.keys) = (path.clone(), keys);
        }
    }
    given.arguments = arguments;
    Ok(given)
}

impl Given {
    /// The error of the file that an error of the arguments is; `None` when the file has no part in it.
    pub(super) fn explain(&self, error: &clap::Error) -> Option<CliError> {
        let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
            return None;
        };
        let name = option.split([' ', '=']).next()?.strip_prefix("--")?;
        let (_, line) = self.keys.iter().find(|(key, _)| key == name)?;
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let cure = match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) if !values.is_empty() => {
                format!("{name} is one of {}", values.join(", "))
            }
            _ => format!("{name} takes what --{name} takes: updp-compile --help"),
        };
        let detail = first.strip_prefix("error: ").unwrap_or(first).to_owned();
        Some(CliError::Config { path: self.file.clone(), line: Some(*line), detail, cure })
    }
}

/// Arguments of the keys that the command line leaves to the file, and these keys with their lines.
fn read(
    path: &Path,
    command: &Command,
    matches: &ArgMatches,
) -> Result<(Vec<OsString>, Vec<Key>), CliError> {
    let wrong = |line: Option<usize>, detail: String, cure: String| CliError::Config {
        path: path.to_owned(),
        line,
        detail,
        cure,
    };
    let text = read_text(path)
        .map_err(|error| wrong(None, error.to_string(), "give the path of a text file".into()))?;
    let line_of = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let table = DeTable::parse(&text).map_err(|error| {
        let line = error.span().map(|span| line_of(span.start));
        let cure = "a line is KEY = VALUE, text in quotes: optimizer = \"sgd\"";
        wrong(line, error.message().to_owned(), cure.to_owned())
    })?;
    let typed: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine))
        .collect();
    let excludes = |a: &Arg, b: &Arg| {
        command.get_arg_conflicts_with(a).iter().any(|other| other.get_id() == b.get_id())
    };
    let (mut words, mut keys) = (Vec::new(), Vec::new());
    for (key, value) in table.get_ref() {
        let (name, line) = (key.get_ref().to_string(), line_of(key.span().start));
        let option = command.get_arguments().find(|arg| is_called(arg, &name));
        let Some(option) = option.filter(|_| name != OPTION) else {
            let detail =
                format!("there is no option --{name} that the key {name:?} could stand for");
            return Err(wrong(Some(line), detail, similar(command, &name)));
        };
        let values = of(option, &name, value.get_ref()).map_err(|expected| {
            let cure = format!("{name} is {expected}");
            wrong(Some(line), format!("{name:?} is of another type"), cure)
        })?;
        let is_left = |typed: &&Arg| {
            typed.get_id() == option.get_id() || excludes(typed, option) || excludes(option, typed)
        };
        if !typed.iter().any(is_left) {
            words.extend(values);
            keys.push((name, line));
        }
    }
    Ok((words, keys))
}

/// Reads a text file of at most 1 MiB; a device may not end.
fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(std::io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

/// Whether an option has this long name, or had it before.
fn is_called(option: &Arg, name: &str) -> bool {
    option.get_long() == Some(name)
        || option.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

/// The option that clap takes for the one meant.
fn similar(command: &Command, name: &str) -> String {
    let arguments = [command.get_name().to_owned(), format!("--{name}")];
    let error = command.clone().try_get_matches_from(arguments).err();
    let suggested = error.and_then(|error| match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(option)) => Some(option.trim_start_matches('-').to_owned()),
        _ => None,
    });
    let owners = help::owners(name);
    match suggested {
        _ if !owners.is_empty() => format!("--{name} is an option of {}", owners.join(", ")),
        Some(option) => format!("did you mean {option:?}?"),
        None => "keys are long options without the dashes in front: updp-compile --help".to_owned(),
    }
}

/// A key as arguments; the error says what it takes.
fn of(option: &Arg, name: &str, value: &DeValue<'_>) -> Result<Vec<OsString>, &'static str> {
    let word = |value| scalar(option, value).map(|text| OsString::from(format!("--{name}={text}")));
    match (option.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(true)) => Ok(vec![format!("--{name}").into()]),
        (ArgAction::SetTrue, DeValue::Boolean(false)) => Ok(Vec::new()),
        (_, DeValue::Boolean(true)) if needs_no_value(option) => {
            Ok(vec![format!("--{name}").into()])
        }
        (_, DeValue::Boolean(false)) if needs_no_value(option) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err("true or false"),
        (ArgAction::Append, DeValue::Array(values)) => {
            values.iter().map(|value| word(value.get_ref())).collect()
        }
        _ => Ok(vec![word(value)?]),
    }
}

/// Whether an option may stand without a value.
fn needs_no_value(option: &Arg) -> bool {
    option.get_num_args().is_some_and(|count| count.min_values() == 0)
}

/// Whether an option takes a number.
pub(super) fn is_number(option: &Arg) -> bool {
    let kind = option.get_value_parser().type_id();
    let numbers = [
        TypeId::of::<f64>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<NonZeroUsize>(),
        TypeId::of::<NonZeroU32>(),
    ];
    numbers.iter().any(|number| kind == *number)
}

/// A number or a text as it would be typed.
fn scalar(option: &Arg, value: &DeValue<'_>) -> Result<String, &'static str> {
    let kind = option.get_value_parser().type_id();
    let is_number = is_number(option);
    match value {
        DeValue::Integer(number) if is_number || kind == TypeId::of::<BlockList>() => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            parsed.map(|number| number.to_string()).map_err(|_| "a number")
        }
        DeValue::Float(number) if is_number => Ok(number.as_str().to_owned()),
        DeValue::String(text) if !is_number => Ok(text.to_string()),
        _ if is_number => Err("a number, without quotes"),
        _ => Err("text in quotes"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::cli::{Cli, Command as Sub, OptimizerChoice, TrainArgs};

    /// The arguments of `line` with a file of this text.
    fn given(text: &str, line: &[&str]) -> (TempDir, Result<Given, CliError>) {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("updp.toml");
        fs::write(&path, text).expect("written");
        let mut arguments: Vec<OsString> = vec!["updp-compile".into()];
        arguments.extend(line.iter().map(Into::into));
        arguments.extend(["--config".into(), path.into_os_string()]);
        let given = expand(arguments);
        (folder, given)
    }

    fn parsed(text: &str, line: &[&str]) -> Cli {
        let (_folder, given) = given(text, line);
        <Cli as clap::Parser>::try_parse_from(given.expect("it is understood").arguments)
            .expect("it can be parsed")
    }

    fn trained(text: &str, line: &[&str]) -> TrainArgs {
        let all = [&["train", "m.onnx", "-o", "o.onnx"], line].concat();
        match parsed(text, &all).command {
            Some(Sub::Finetune(arguments)) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    /// What is wrong with the file, and the cure.
    fn refused(text: &str, line: &[&str]) -> (String, String) {
        let (_folder, given) = given(text, line);
        let error: Result<(), CliError> = given.and_then(|given| {
            let error = <Cli as clap::Parser>::try_parse_from(&given.arguments).expect_err("wrong");
            Err(given.explain(&error).unwrap_or_else(|| panic!("not of the file: {error}")))
        });
        let error = error.expect_err("refused");
        assert_eq!((error.code(), error.exit_code()), ("C0018", 2));
        (error.to_string(), error.help().expect("a cure"))
    }

    #[test]
    fn keys_of_every_type_become_options() {
        let text = "data = \"images\"\nepochs = 4\nlr = 1e-3\noptimizer = \"adamw\"\nbalance-classes = true\n\
                    quiet = false\nfreeze = [\"a\", \"b\"]\nbatch-size = 0x20\n";
        let arguments = trained(text, &[]);
        assert_eq!(arguments.images.data.as_deref(), Some(Path::new("images")));
        assert_eq!(
            (arguments.epochs.get(), arguments.training.batch_size),
            (4, NonZeroUsize::new(32))
        );
        assert_eq!(arguments.training.lr, Some(1e-3));
        assert_eq!(arguments.training.optimizer, OptimizerChoice::Adamw);
        assert!(arguments.training.balance_classes && !arguments.quiet);
        assert_eq!(arguments.training.freeze, ["a", "b"]);
        let compile = parsed("blocks = 3\nform = \"conv\"\n", &["m.onnx", "-o", "o.onnx"]).bare;
        assert_eq!(compile.pruning.prune.blocks, Some(BlockList::Some(vec![3])));
    }

    #[test]
    fn the_command_line_wins_also_over_what_it_contradicts() {
        let text = "data = \"images\"\nepochs = 4\nfreeze = [\"a\"]\nbalance-classes = true\n";
        let line = ["--epochs", "7", "--freeze", "z", "--class-weights", "1,2"];
        let arguments = trained(text, &line);
        assert_eq!(arguments.epochs.get(), 7);
        assert_eq!(arguments.training.freeze, ["z"]);
        assert!(!arguments.training.balance_classes);
        let line = ["m.onnx", "-o", "o.onnx", "--speedup", "2", "--data", "d"];
        let compile = parsed("prune = 3\nquiet = true\n", &line).bare;
        let prune = &compile.pruning.prune;
        assert_eq!((prune.prune, prune.speedup), (None, Some(2.0)));
        assert!(compile.common.quiet);
        let line = ["m.onnx", "-o", "o.onnx", "-v"];
        assert!(!parsed("quiet = true\n", &line).bare.common.quiet);
    }

    #[test]
    fn a_file_may_give_what_the_command_line_lacks() {
        let compile = parsed("output = \"o.onnx\"\nval = \"v\"\ndata = \"d\"\n", &["m.onnx"]).bare;
        assert_eq!(compile.common.output.as_deref(), Some(Path::new("o.onnx")));
        assert_eq!(compile.pruning.images.val.as_deref(), Some(Path::new("v")));
    }

    #[test]
    fn subcommands_with_another_name_and_options_with_an_old_name_are_known() {
        for name in ["finetune", "train"] {
            let cli = parsed("epochs = 4\n", &[name, "m.onnx", "-o", "o.onnx"]);
            let Some(Sub::Finetune(arguments)) = cli.command else { panic!("{name}") };
            assert_eq!(arguments.epochs.get(), 4, "{name}");
        }
        for key in ["shortlist", "finalists"] {
            let line = ["prune", "m.onnx", "-o", "o.onnx", "--data", "d", "--prune", "2"];
            let cli = parsed(&format!("{key} = 3\n"), &line);
            let Some(Sub::Prune(arguments)) = cli.command else { panic!("{key}") };
            let search = &arguments.pruning.prune.search;
            assert_eq!(search.shortlist.map(NonZeroUsize::get), Some(3), "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_its_cure() {
        let train = ["train", "m.onnx", "-o", "o.onnx"];
        for (text, line, detail, cure) in [
            ("\nepoch = 3", 2, "no option --epoch", "did you mean \"epochs\"?"),
            ("data = \"d\"\nlr = \"fast\"", 2, "\"lr\" is of another type", "without quotes"),
            ("optimizer = 3", 1, "of another type", "text in quotes"),
            ("quiet = 1", 1, "of another type", "true or false"),
            ("data = \"d\"\n\nval-split = 2", 3, "no share between 0 and 1", "--val-split"),
            ("optimizer = \"adma\"", 1, "invalid value 'adma'", "auto, sgd, adamw"),
            ("epochs = -1", 1, "invalid value '-1'", "--epochs"),
            ("epochs = 3\nepochs = 4", 2, "duplicate", "KEY = VALUE"),
            ("[train]\nepochs = 3", 1, "no option --train", "long options"),
            ("config = \"x\"", 1, "no option --config", ""),
            ("data = [\"a\", \"b\"]", 1, "of another type", "text in quotes"),
            ("epochs = ", 1, "", "KEY = VALUE"),
        ] {
            let (found, help) = refused(text, &train);
            assert!(found.contains(&format!("updp.toml:{line}: ")), "{found}");
            assert!(found.contains(detail) && help.contains(cure), "{found} {help}");
        }
        let (found, _) = refused("prune = 2\nspeedup = 2\n", &["m", "-o", "o", "--data", "d"]);
        assert!(found.contains("cannot be used with"), "{found}");
    }

    #[test]
    fn a_file_that_is_not_there_is_told() {
        let arguments = ["updp-compile", "m", "-o", "o", "--config", "/no/such.toml"];
        let error = expand(arguments.map(OsString::from).to_vec()).expect_err("it is not there");
        assert_eq!(error.code(), "C0018");
        assert!(error.to_string().contains("/no/such.toml"), "{error}");
    }

    #[test]
    fn arguments_without_a_file_stay_as_they_are() {
        for line in [vec!["updp-compile", "--help"], vec!["updp-compile", "bench", "a"], vec![]] {
            let line: Vec<OsString> = line.into_iter().map(OsString::from).collect();
            assert_eq!(expand(line.clone()).expect("nothing to read").arguments, line);
        }
    }
}
