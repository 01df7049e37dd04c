//! Checks, each with what to do.

use api::Doctor;
use api::status::CheckState;

use crate::page::{Page, Tone};
use crate::quantity::counted;

/// One line a check, and one more where something is to be done.
#[must_use]
pub fn doctor(doctor: &Doctor) -> Page {
    let width = doctor
        .checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut page = Page::new();
    for check in &doctor.checks {
        let (tone, word) = match check.state {
            CheckState::Ok => (Tone::Good, "ok"),
            CheckState::Warning => (Tone::Warning, "warn"),
            CheckState::Failed => (Tone::Bad, "FAIL"),
        };
        page.line(
            tone,
            format!("{word:<4}  {:<width$}  {}", check.name, check.what),
        );
        if !check.mend.is_empty() {
            page.line(tone, format!("      {:<width$}  -> {}", "", check.mend));
        }
    }
    page
}

/// How many checks ended how.
#[must_use]
pub fn doctor_summary(doctor: &Doctor) -> Page {
    let number = |state| {
        doctor
            .checks
            .iter()
            .filter(|check| check.state == state)
            .count() as u64
    };
    let (failed, warned) = (number(CheckState::Failed), number(CheckState::Warning));
    let mut page = Page::new();
    let (tone, text) = match (failed, warned) {
        (0, 0) => (Tone::Good, "everything is as it should be".to_owned()),
        (0, warned) => (
            Tone::Warning,
            format!("works, with {}", counted(warned, "warning")),
        ),
        (failed, warned) => (
            Tone::Bad,
            format!(
                "{} failed, {}",
                counted(failed, "check"),
                counted(warned, "warning")
            ),
        ),
    };
    page.line(tone, text);
    page
}
