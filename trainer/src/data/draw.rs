//! Seeded draws that are stratified by class and identical on every machine.

use crate::seed::Generator;

/// Draws `count` of the positions `0..classes.len()`, in random order; `classes` gives the class of each position.
///
/// Every class gets its share of `count`, rounded so that the shares add up. If shares are below one, the seed decides
/// which classes get one position.
pub(super) fn stratified(classes: &[usize], count: usize, seed: u64) -> Vec<usize> {
    let total = classes.len();
    let count = count.min(total);
    let mut generator = Generator::new(seed);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (position, class) in classes.iter().enumerate() {
        if groups.len() <= *class {
            groups.resize(class + 1, Vec::new());
        }
        groups[*class].push(position);
    }
    for group in &mut groups {
        generator.shuffle(group);
    }
    generator.shuffle(&mut groups);
    let share = |seen: usize| {
        let (count, seen, total) = (count as u128, seen as u128, total.max(1) as u128);
        ((2 * count * seen + total) / (2 * total)) as usize
    };
    let mut seen = 0;
    let mut drawn = Vec::with_capacity(count);
    for group in &groups {
        let quota = share(seen + group.len()) - share(seen);
        drawn.extend(&group[..quota]);
        seen += group.len();
    }
    generator.shuffle(&mut drawn);
    drawn
}
