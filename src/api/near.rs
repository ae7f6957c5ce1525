//! Names that resemble a name that does not exist.

/// Most names that a message shows.
const MOST: usize = 3;

/// The names that resemble `name` most, the closest first.
pub(super) fn matches<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .filter_map(|known| {
            let lower = known.to_lowercase();
            let is_part =
                !wanted.is_empty() && (lower.contains(&wanted) || wanted.contains(&lower));
            let distance = distance(&wanted, &lower);
            let limit = wanted.chars().count().div_ceil(3).max(1);
            (is_part || distance <= limit).then_some((distance, known))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(MOST).map(|(_, known)| known).collect()
}

/// The near names as the end of a message: `; near: a, b`, or all names if none is near and there are few.
pub(super) fn told(name: &str, known: &[&str]) -> String {
    let near = matches(name, known.iter().copied());
    match near.as_slice() {
        [] if known.len() <= MOST => format!("; there are: {}", known.join(", ")),
        [] => String::new(),
        near => format!("; near: {}", near.join(", ")),
    }
}

/// Number of characters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_come_first_and_far_ones_not_at_all() {
        let known = ["conv1.weight", "conv2.weight", "conv1.bias", "fc.weight"];
        let found = matches("conv1.wieght", known.into_iter());
        assert_eq!(found, ["conv1.weight", "conv2.weight"]);
        assert_eq!(matches("CONV1", known.into_iter()), ["conv1.bias", "conv1.weight"]);
        assert!(matches("nope", known.into_iter()).is_empty());
    }
}
