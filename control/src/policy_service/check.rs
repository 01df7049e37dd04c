//! From the text of a policy to its image, or to everything that is wrong with it. Needs no
//! dataplane and no state.

use super::members::Sources;
use super::press::Press;
use super::proof::Proof;
use super::{InForce, PolicyService};
use crate::answers::counted;
use crate::clock::today;
use abi::Mode;
use api::error::{ApiError, ErrorCode, ErrorDetail};
use api::policy::{CheckResult, PolicyCounts};
use policy::{CompiledPolicy, Diagnostic, PolicyErrors, Severity, ValidPolicy};

/// Names that one warning lists.
const NAMES_TOLD_MAX: usize = 10;

/// Whether a text could be applied: read, validated and compiled as for a publication, and thrown
/// away. Takes long for a large policy: call it off the event loop.
///
/// # Errors
/// The check itself failed; a policy that is not valid is an answer.
pub fn check(text: &str, file: &str) -> Result<CheckResult, ApiError> {
    check_with(text, file, &Sources::default())
}

/// The same beside an inventory.
pub(super) fn check_with(
    text: &str,
    file: &str,
    sources: &Sources,
) -> Result<CheckResult, ApiError> {
    // Any epoch will do: the image is thrown away.
    match Press::default().compile(text, file, 1, sources) {
        Ok(in_force) => {
            let proof = Proof::of(&in_force.compiled);
            let mut warnings = warnings(&in_force.valid);
            warnings.extend(proof.not_yet);
            Ok(CheckResult {
                valid: true,
                revision: in_force.valid.revision.to_string(),
                errors: Vec::new(),
                warnings,
                broken_invariants: proof.broken,
                counts: counts(&in_force),
            })
        }
        Err(error) if error.code == ErrorCode::InvalidPolicy => {
            let mut errors = error.details;
            if errors.is_empty() {
                errors.push(ErrorDetail {
                    what: error.message,
                    ..ErrorDetail::default()
                });
            }
            Ok(CheckResult {
                errors,
                ..CheckResult::default()
            })
        }
        Err(error) => Err(error),
    }
}

impl PolicyService {
    /// Reads and compiles a draft that is not to be published, beside the inventory in force. Takes long for a large
    /// policy: call it off the event loop.
    ///
    /// # Errors
    /// Every error of the text, by line.
    pub fn draft(
        &self,
        text: &str,
        file: &str,
        enforce: bool,
    ) -> Result<(ValidPolicy, CompiledPolicy), ApiError> {
        let (mut valid, _) = Press::default().load(text, file, today(), &self.sources())?;
        if enforce {
            valid = policy::simulate::enforced(&valid);
        }
        // Any epoch will do: the image is thrown away.
        let compiled = policy::compile(&valid, 1, today()).map_err(|error| {
            let message = format!("{file} cannot be compiled: {error}");
            ApiError::new(ErrorCode::InvalidPolicy, message)
        })?;
        Ok((valid, compiled))
    }
}

pub(super) fn details(
    file: &str,
    diagnostics: &[Diagnostic],
    severity: Severity,
) -> Vec<ErrorDetail> {
    let wanted = diagnostics
        .iter()
        .filter(|d| d.problem.severity() == severity);
    wanted
        .map(|d| ErrorDetail {
            file: file.to_owned(),
            line: d.line,
            column: d.column,
            what: d.problem.to_string(),
            mend: d.problem.mend(),
        })
        .collect()
}

pub(super) fn invalid(errors: &PolicyErrors) -> ApiError {
    let details = details(&errors.file, &errors.diagnostics, Severity::Error);
    let untold = match errors.untold {
        0 => String::new(),
        untold => format!(" and {untold} more"),
    };
    let errors_told = counted(details.len() as u64, "error");
    let message = format!("{} is not valid: {errors_told}{untold}", errors.file);
    ApiError {
        code: ErrorCode::InvalidPolicy,
        message,
        details,
    }
}

pub(super) fn counts(in_force: &InForce) -> PolicyCounts {
    let image = &in_force.compiled.image;
    PolicyCounts {
        workloads: in_force.valid.workloads.len() as u64,
        segments: in_force.valid.segments.len() as u64,
        services: in_force.valid.services.len() as u64,
        rules: in_force.valid.rules.len() as u64,
        identities: u64::from(image.identity_count()),
        image_bytes: image.byte_count() as u64,
    }
}

/// A warning where segments enforced before and do not any more.
pub(super) fn no_longer_enforces(before: &ValidPolicy, after: &ValidPolicy) -> Option<ErrorDetail> {
    let still = |name: &str| {
        let mut segments = after.segments.iter();
        segments.any(|s| s.name == name && s.mode == Mode::Enforce)
    };
    let enforced = before.segments.iter().filter(|s| s.mode == Mode::Enforce);
    let gone: Vec<&str> = enforced
        .map(|s| s.name.as_str())
        .filter(|name| !still(name))
        .collect();
    let verb = if gone.len() == 1 { "s" } else { "" };
    let names = gone.get(..NAMES_TOLD_MAX).unwrap_or(&gone).join(", ");
    let rest = match gone.len().saturating_sub(NAMES_TOLD_MAX) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    (!gone.is_empty()).then(|| ErrorDetail {
        file: after.file.clone(),
        what: format!(
            "{} no longer enforce{verb}: {names}{rest}",
            counted(gone.len() as u64, "segment")
        ),
        mend: "`ringfence policy rollback` returns to the policy before".to_owned(),
        ..ErrorDetail::default()
    })
}

pub(super) fn warnings(valid: &ValidPolicy) -> Vec<ErrorDetail> {
    details(&valid.file, &valid.warnings, Severity::Warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_enforce_no_longer_are_named() {
        let policy = |modes: &[(&str, &str)]| {
            let segment = |(name, mode): &(&str, &str)| {
                format!(
                    "[[segment]]\nname = \"{name}\"\naddresses = [\"10.0.0.0/8\"]\nmode = \"{mode}\"\n"
                )
            };
            let text: String = modes.iter().map(segment).collect();
            policy::load(&format!("[policy]\n{text}"), "p.toml", today()).unwrap()
        };
        let told = |before: &[_], after: &[_]| {
            no_longer_enforces(&policy(before), &policy(after)).map(|d| d.what)
        };
        let both = [("web", "enforce"), ("db", "enforce"), ("ops", "test")];
        assert_eq!(told(&both, &both), None);
        assert_eq!(
            told(&both, &[]).as_deref(),
            Some("2 segments no longer enforce: web, db")
        );
        assert_eq!(
            told(&both, &[("web", "enforce"), ("db", "test")]).as_deref(),
            Some("1 segment no longer enforces: db")
        );
        assert_eq!(told(&[("web", "test")], &[]), None);
    }
}
