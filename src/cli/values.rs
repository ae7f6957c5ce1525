//! Values of arguments that are more than one word or a number.

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

pub(super) fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| format!("{text:?} is no positive number"))
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
    let number = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x >= 0.0);
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
    use super::*;

    #[test]
    fn kernels_shrink_with_lambda_or_at_an_epoch() {
        assert_eq!(shrink_at("lambda"), Ok(ShrinkAt::Lambda));
        assert_eq!(shrink_at("2.5"), Ok(ShrinkAt::Epoch(2.5)));
        for text in ["", "s", "-1", "NaN", "inf"] {
            assert!(shrink_at(text).is_err(), "{text}");
        }
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
