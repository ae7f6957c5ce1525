//! Values of arguments that are more than one word or a number.

use std::num::{NonZeroU32, NonZeroUsize};

use updp_passes::surgery::Form;
use updp_prune::config::FormSet;

use super::train::ShrinkAt;

/// The blocks `--blocks` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockList {
    /// Every block that can be pruned.
    All,
    /// These, as `inspect` numbers them, rising, each once.
    Some(Vec<usize>),
}

/// Reads `all`, or numbers and ranges with commas between: `3,5,9-11`.
pub(super) fn block_list(text: &str) -> Result<BlockList, String> {
    if text == "all" {
        return Ok(BlockList::All);
    }
    let number = |text: &str| {
        text.trim().parse::<usize>().map_err(|_| format!("{text:?} is no block number"))
    };
    let mut list = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => list.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first || last - first > 100_000 {
                    return Err(format!("{part:?} is no range"));
                }
                list.extend(first..=last);
            }
        }
    }
    list.sort_unstable();
    list.dedup();
    Ok(BlockList::Some(list))
}

/// The forms that `--forms` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormList(pub FormSet);

/// Reads `auto`, `depth`, `all`, or names of forms with commas between; `thin` stands for all thin forms.
pub(super) fn form_list(text: &str) -> Result<FormList, String> {
    let mut list: Vec<Form> = Vec::new();
    match text {
        "auto" => return Ok(FormList(FormSet::Auto)),
        "depth" => return Ok(FormList(FormSet::Depth)),
        "all" => return Ok(FormList(FormSet::All)),
        _ => {}
    }
    for part in text.split(',').map(str::trim) {
        let is_named = |form: &Form| form.name() == part || (part == "thin" && form.is_thin());
        let named: Vec<Form> = Form::ALL.into_iter().filter(is_named).collect();
        if named.is_empty() {
            return Err(format!(
                "{part:?} is no form; forms are conv, dwpw, pw, low-rank, norm, drop, thin and thin-7/8 to thin-1/8"
            ));
        }
        list.extend(named);
    }
    list.sort_unstable();
    list.dedup();
    Ok(FormList(FormSet::List(list)))
}

/// Reads a number from 1 to `MOST`.
pub(super) fn up_to<const MOST: usize>(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse::<NonZeroUsize>().ok().filter(|number| number.get() <= MOST);
    number.ok_or_else(|| format!("{text:?} is no number from 1 to {MOST}"))
}

/// Reads a number from 0 to `MOST`.
pub(super) fn from_zero_to<const MOST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| *number <= MOST);
    number.ok_or_else(|| format!("{text:?} is no number from 0 to {MOST}"))
}

/// Reads a number of seconds or MiB from 1 to `MOST`.
pub(super) fn amount<const MOST: u32>(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse::<NonZeroU32>().ok().filter(|number| number.get() <= MOST);
    number.ok_or_else(|| format!("{text:?} is no number from 1 to {MOST}"))
}

/// Reads a number above 0 and up to `MOST`, such as 0.25.
pub(super) fn positive_up_to<const MOST: u32>(text: &str) -> Result<f64, String> {
    let number = positive(text).ok().filter(|x| *x <= f64::from(MOST));
    number.ok_or_else(|| format!("{text:?} is no number above 0 and up to {MOST}"))
}

/// Largest number of any option that takes a fraction. What is above it is a slip, and squares of it are still finite.
const LARGEST: f64 = 1e15;

pub(super) fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| *x > 0.0);
    let number = number.ok_or_else(|| format!("{text:?} is no positive number"))?;
    if number <= LARGEST { Ok(number) } else { Err(format!("{text:?} is above {LARGEST:e}")) }
}

/// The name of an output, with a weight behind it or with the weight 1.
pub(super) fn output_weight(text: &str) -> Result<(String, f64), String> {
    let (name, weight) = match text.rsplit_once('=') {
        Some((name, weight)) => (name, positive(weight)?),
        None => (text, 1.0),
    };
    if name.is_empty() {
        Err("it is not NAME or NAME=WEIGHT".to_owned())
    } else {
        Ok((name.to_owned(), weight))
    }
}

pub(super) fn at_least_one(text: &str) -> Result<f64, String> {
    positive(text).and_then(|x| {
        if x >= 1.0 { Ok(x) } else { Err("below 1 the ramp would not end".to_owned()) }
    })
}

pub(super) fn above_one(text: &str) -> Result<f64, String> {
    positive(text).and_then(|x| {
        if x > 1.0 { Ok(x) } else { Err("1 and below would not be faster".to_owned()) }
    })
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = positive(text).ok().filter(|x| *x < 1.0);
    share.ok_or_else(|| format!("{text:?} is no share between 0 and 1"))
}

/// Reads a percentage above 1: a share such as 0.88 is most likely a mistake.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent = positive(number).ok().filter(|x| *x > 1.0 && *x <= 100.0);
    percent.ok_or_else(|| format!("{text:?} is no percentage above 1 and up to 100, such as 88"))
}

pub(super) fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| *x >= 0.0 && *x <= LARGEST);
    number.ok_or_else(|| format!("{text:?} is no number of 0 or more"))
}

pub(super) fn part(text: &str) -> Result<f64, String> {
    not_negative(text).ok().filter(|x| *x <= 1.0).ok_or_else(|| format!("{text:?} is not 0 to 1"))
}

/// Reads `lambda` or a number of epochs.
pub(super) fn shrink_at(text: &str) -> Result<ShrinkAt, String> {
    if text == "lambda" {
        return Ok(ShrinkAt::Lambda);
    }
    let epoch = not_negative(text).map(ShrinkAt::Epoch);
    epoch.map_err(|_| format!("{text:?} is neither lambda nor a number of epochs"))
}

/// Reads a number of bytes: 500000, 500kB, 1.5MB, 2MiB.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) =
        text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("{unit:?} is none of B, kB, MB, GB, KiB, MiB, GiB")),
    };
    positive(number.trim()).map(|number| (number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::command;
    use crate::cli::config::is_number;

    #[test]
    fn kernels_shrink_with_lambda_or_at_an_epoch() {
        assert_eq!(shrink_at("lambda"), Ok(ShrinkAt::Lambda));
        assert_eq!(shrink_at("2.5"), Ok(ShrinkAt::Epoch(2.5)));
        for text in ["", "s", "-1", "NaN", "inf"] {
            assert!(shrink_at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_have_ranges() {
        for text in ["", "0", "-1", "11", "NaN", "1e1", "99999999999999999999"] {
            assert!(up_to::<10>(text).is_err(), "{text}");
            assert!(amount::<10>(text).is_err(), "{text}");
        }
        assert_eq!(up_to::<10>("10").map(NonZeroUsize::get), Ok(10));
        assert_eq!((from_zero_to::<3>("0"), from_zero_to::<3>("4").is_err()), (Ok(0), true));
        for text in ["", "0", "-1", "61", "NaN", "inf", "-inf", "1e400"] {
            assert!(positive_up_to::<60>(text).is_err(), "{text}");
        }
        assert_eq!(positive_up_to::<60>("0.25"), Ok(0.25));
        for text in ["NaN", "inf", "1e16", "1e400"] {
            assert!(positive(text).is_err() && not_negative(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_number_of_every_option_is_in_its_range() {
        let (all, mut tried) = (command(), 0);
        let bare = std::iter::once((None, &all));
        for (name, command) in bare.chain(all.get_subcommands().map(|it| (Some(it.get_name()), it)))
        {
            for option in command.get_arguments().filter(|option| is_number(option)) {
                let option = option.get_long().expect("an option");
                for text in ["nan", "inf", "-inf", "-1", "1e400", "1e30", "9999999999999999999999"]
                {
                    let words = ["updp-compile"].into_iter().chain(name).map(str::to_owned);
                    let words = words.chain(["m.onnx".to_owned(), format!("--{option}={text}")]);
                    let error = all.clone().try_get_matches_from(words).expect_err(option);
                    assert_eq!(error.kind(), ErrorKind::ValueValidation, "--{option}={text}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 300, "the options were not understood: {tried}");
    }

    #[test]
    fn a_share_is_no_percentage() {
        assert_eq!((percent("88"), percent("87.5 %")), (Ok(88.0), Ok(87.5)));
        for text in ["0.88", "1", "0", "101", "-5", "NaN", "%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("500000", 500_000),
            ("1.5MB", 1_500_000),
            ("2 MiB", 2 << 20),
            ("3kb", 3000),
            ("1B", 1),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "-1", "0", "1e400", "10 apples", "1.5.2MB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
