//! Outputs that are kept as text: what a person reads is compared with what a person has read and found good.
//!
//! In the kept text `…` stands for any run of characters within its line (times, revisions, byte counts), and blanks
//! count as one; a line with `⋮` alone stands for any number of lines, up to one that the next line of the kept text fits.
//! With `RINGFENCE_GOLDEN=write` in the environment the output is written in place of the comparison.

use std::path::Path;

/// Compares an output with the text kept in `tests/golden/NAME`.
///
/// # Panics
/// At the first line that differs, with both texts; or if the file cannot be read or written.
#[track_caller]
pub fn assert_golden(name: &str, output: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    if std::env::var_os("RINGFENCE_GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(&path, output).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return;
    }
    let kept = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}\n{output}", path.display()));
    if let Some((at, line)) = first_difference(&kept, output) {
        panic!(
            "{name}, line {}: `{line}` is not what is kept\n--- kept\n{kept}\n--- now\n{output}",
            at + 1
        );
    }
}

/// Index and text of the first line that differs.
fn first_difference<'o>(kept: &str, output: &'o str) -> Option<(usize, &'o str)> {
    let (mut patterns, mut lines) = (kept.lines(), output.lines());
    let mut at = 0;
    loop {
        let mut pattern = patterns.next();
        let mut line = lines.next();
        if pattern == Some("⋮") {
            pattern = patterns.next();
            let ends = |line: &str| pattern.is_some_and(|p| fits(p, line));
            while line.is_some_and(|l| !ends(l)) {
                line = lines.next();
                at += 1;
            }
        }
        match (pattern, line) {
            (None, None) => return None,
            (Some(pattern), Some(line)) if fits(pattern, line) => at += 1,
            (_, line) => return Some((at, line.unwrap_or("(nothing more)"))),
        }
    }
}

/// Whether a line is what the pattern says.
fn fits(pattern: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (words(pattern), words(line));
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(found) => rest = &rest[found + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_stands_for_any_run_within_its_line() {
        assert!(fits("web … db  … bytes", "web  -> db 12 bytes"));
        assert!(fits("…", ""));
        assert!(fits("plain", "  plain "));
        assert!(!fits("web … db", "web -> db-2"));
        assert!(!fits("a … b … c", "a b"));
        assert!(!fits("short", "shorter"));
    }

    #[test]
    fn a_line_of_dots_stands_for_any_number_of_lines() {
        assert_eq!(first_difference("a\n⋮\nd\n", "a\nb\nc\nd\n"), None);
        assert_eq!(first_difference("a\n⋮\nd\n", "a\nd\n"), None);
        assert_eq!(first_difference("a\n⋮\n", "a\nb\n"), None);
        assert_eq!(
            first_difference("a\n⋮\nd\n", "a\nb\n"),
            Some((2, "(nothing more)"))
        );
        assert_eq!(
            first_difference("⋮\nd\ne\n", "b\nd\n"),
            Some((2, "(nothing more)"))
        );
    }

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(first_difference("a\nb …\n", "a\nb 1\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some((1, "c")));
        assert_eq!(
            first_difference("a\nb\n", "a\n"),
            Some((1, "(nothing more)"))
        );
        assert_eq!(first_difference("a\n", "a\nb\n"), Some((1, "b")));
    }
}
