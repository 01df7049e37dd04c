//! The laws of the house, as far as a program can check them. Each test reads the tree as it is and
//! prints every place that breaks its law, so that one run shows all there is to mend.

#![forbid(unsafe_code)]

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/purity.rs"]
mod purity;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

/// Fails with all findings, one a line.
#[track_caller]
fn assert_none(law: &str, findings: &[String]) {
    assert!(
        findings.is_empty(),
        "{law}\n  {}\n({} in all)",
        findings.join("\n  "),
        findings.len()
    );
}
