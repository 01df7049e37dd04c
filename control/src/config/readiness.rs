//! What is asked of a segment before it comes into its next mode.

use api::readiness::Thresholds;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A share, written `0.95`; kept in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of 1000.
    pub permille: u32,
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.permille) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        (0..=1000)
            .find(|permille| f64::from(*permille) >= (share * 1000.0).round())
            .filter(|_| (0.0..=1.0).contains(&share))
            .map(|permille| Self { permille })
            .ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "{share} is no share: write 0.0 to 1.0, such as 0.95"
                ))
            })
    }
}

/// What is asked of a segment before it comes into its next mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadinessConfig {
    /// Days that it was watched in its mode.
    pub days_min: u32,
    /// Flows that would be denied, were it in enforce.
    pub would_deny_flows_max: u64,
    /// Share of its flows that a rule speaks about.
    pub coverage_min: Share,
    /// Days since the last flow that would be denied.
    pub quiet_days_min: u32,
    /// Days of history that are looked at.
    pub window_days: u32,
}

impl Default for ReadinessConfig {
    fn default() -> Self {
        Self {
            days_min: 7,
            would_deny_flows_max: 0,
            coverage_min: Share { permille: 950 },
            quiet_days_min: 3,
            window_days: 30,
        }
    }
}

impl ReadinessConfig {
    /// As the API tells them.
    #[must_use]
    pub const fn thresholds(&self) -> Thresholds {
        Thresholds {
            days_min: self.days_min,
            would_deny_flows_max: self.would_deny_flows_max,
            coverage_permille_min: self.coverage_min.permille,
            quiet_days_min: self.quiet_days_min,
            window_days: self.window_days,
        }
    }
}
