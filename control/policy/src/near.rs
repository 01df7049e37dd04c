//! The nearest known word, for "did you mean".

/// The known word nearest to `word`, if it is near enough to be meant: at most a third of the
/// longer word's letters differ, two letters swapped counting as one.
#[must_use]
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
    known
        .into_iter()
        .filter(|other| other.len().abs_diff(word.len()) <= 1 + word.len() / 3)
        .map(|other| {
            let theirs: Vec<char> = other.chars().flat_map(char::to_lowercase).collect();
            let allowed = (letters.len().max(theirs.len()) / 3).max(1);
            (distance(&letters, &theirs), allowed, other)
        })
        .filter(|(distance, allowed, _)| distance <= allowed)
        .min_by_key(|(distance, _, other)| (*distance, *other))
        .map(|(_, _, other)| other)
}

/// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (previous[j] + usize::from(x != y)).min(previous[j + 1] + 1);
            best = best.min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = core::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let known = ["name", "ports", "services", "on_change"];
        assert_eq!(nearest("prots", known), Some("ports"));
        assert_eq!(nearest("service", known), Some("services"));
        assert_eq!(nearest("Name", known), Some("name"));
        assert_eq!(nearest("colour", known), None);
    }
}
