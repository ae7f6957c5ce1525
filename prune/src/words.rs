//! Numbers and times in words.

/// A number with its noun.
#[must_use]
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A time in words, with two digits, because an estimate is not more precise.
#[must_use]
pub fn about(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "no estimate".to_owned(),
        s if s < 90.0 => format!("about {:.0} s", s.max(1.0)),
        s if s < 90.0 * 60.0 => format!("about {:.0} min", s / 60.0),
        s => format!("about {:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::about;

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let texts = [0.1, 42.4, 95.0, 3600.0, 7200.0, f64::NAN].map(about);
        let expected = [
            "about 1 s",
            "about 42 s",
            "about 2 min",
            "about 60 min",
            "about 2.0 h",
            "no estimate",
        ];
        assert_eq!(texts, expected);
    }
}
