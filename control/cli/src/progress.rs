//! How far long work has come, drawn over and over in one line of standard error where that is a terminal.

use std::io::Write;

use crate::output::Output;
use crate::quantity::count;

/// Cells of a bar.
const CELLS: u32 = 20;
/// Back to the beginning of the line; what a longer line has left there goes.
const CLEAR: &str = "\r\x1b[K";

/// Draws that `done` of `of` are done; 0 where it is not known how many there are.
pub(crate) fn draw(output: Output, done: u64, of: u64, what: &str) {
    if output.draws_progress() {
        write(&format!("{CLEAR}{}", line(done, of, what)));
    }
}

/// Takes away what was drawn.
pub(crate) fn clear(output: Output) {
    if output.draws_progress() {
        write(CLEAR);
    }
}

fn line(done: u64, of: u64, what: &str) -> String {
    // What is there now may be more than was there at the beginning.
    let share = |parts: u32| u128::from(done.min(of)) * u128::from(parts) / u128::from(of.max(1));
    if of == 0 {
        return format!("{} {what}", count(done));
    }
    let full = usize::try_from(share(CELLS)).unwrap_or_default();
    let empty = usize::try_from(CELLS).unwrap_or_default() - full;
    format!(
        "[{}{}] {:>3} %  {} of {} {what}",
        "#".repeat(full),
        "-".repeat(empty),
        share(100),
        count(done),
        count(of)
    )
}

/// A terminal that cannot be written to has nobody in front of it.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_bar_fills_from_nothing_to_everything_and_no_further() {
        let bar = |done| line(done, 8, "frames");
        assert_eq!(bar(0), "[--------------------]   0 %  0 of 8 frames");
        assert_eq!(bar(3), "[#######-------------]  37 %  3 of 8 frames");
        assert_eq!(bar(8), "[####################] 100 %  8 of 8 frames");
        assert_eq!(bar(9), "[####################] 100 %  9 of 8 frames");
        assert_eq!(line(u64::MAX, u64::MAX, "frames")[..22], bar(8)[..22]);
    }

    #[test]
    fn where_the_end_is_not_known_the_work_is_counted() {
        assert_eq!(line(4_096, 0, "conversations"), "4,096 conversations");
    }
}
