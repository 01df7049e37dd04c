//! What control tells collectors about timeouts (IPFIX 36 and 37): those of the dataplane that `up`
//! starts, so that nobody has to write them twice.

use std::path::Path;
use std::time::Duration;

use toml::Table;

use crate::configuration;
use crate::error::CliError;
use crate::process::ask;

/// The elements are seconds in 16 bits, and 0 would say that there is no timeout.
const SECONDS_TOLD_MAX: u64 = u16::MAX as u64;

/// The dataplane's configuration in force: file, environment and all defaults, as it says itself.
pub(super) async fn in_force(program: &Path, config: &Path) -> Result<Table, CliError> {
    let arguments = [Path::new("--config"), config, Path::new("--dump")];
    let text = ask("dataplane", program, arguments).await?;
    toml::from_str(&text).map_err(|error| CliError::Configuration {
        path: program.to_owned(),
        message: format!("what --dump prints is not understood: {error}"),
    })
}

/// Sets `export.active_timeout` and `export.idle_timeout`, the longest of the idle classes, where
/// control's configuration does not name them.
pub(super) fn overlay(control: &mut Table, dataplane: &Table) {
    let Some(flow) = dataplane.get("flow").and_then(|flow| flow.as_table()) else {
        return;
    };
    let span = |value: &toml::Value| humantime::parse_duration(value.as_str()?).ok();
    let active = flow.get("active_timeout").and_then(span);
    let idle = flow
        .iter()
        .filter(|(key, _)| key.starts_with("idle_"))
        .filter_map(|(_, value)| span(value))
        .max();
    for (key, timeout) in [("active_timeout", active), ("idle_timeout", idle)] {
        let given = control
            .get("export")
            .is_some_and(|export| export.get(key).is_some());
        if let (false, Some(timeout)) = (given, timeout) {
            configuration::set(control, "export", key, told(timeout));
        }
    }
}

fn told(timeout: Duration) -> String {
    let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    format!("{}s", seconds.clamp(1, SECONDS_TOLD_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaid(control: &str, flow: &str) -> Table {
        let mut control = toml::from_str(control).unwrap();
        let dataplane = toml::from_str(&format!("[flow]\n{flow}")).unwrap();
        overlay(&mut control, &dataplane);
        control
    }

    #[test]
    fn collectors_are_told_the_active_and_the_longest_idle_timeout() {
        let flow = "first_active_timeout = '9h'\nactive_timeout = '1m 30s'\nidle_icmp = '10s'\n\
                    idle_udp_paired = '11m'\nidle_other = '1m'\nfragment_timeout = '1day'\n";
        let table = overlaid("", flow);
        let export = table["export"].as_table().unwrap();
        assert_eq!(export["active_timeout"].as_str(), Some("90s"));
        assert_eq!(export["idle_timeout"].as_str(), Some("660s"));
        let table = overlaid("[export]\nidle_timeout = '7s'\n", flow);
        let export = table["export"].as_table().unwrap();
        assert_eq!(export["active_timeout"].as_str(), Some("90s"));
        assert_eq!(export["idle_timeout"].as_str(), Some("7s"));
    }

    #[test]
    fn what_sixteen_bits_of_seconds_cannot_say_is_told_as_near_as_they_can() {
        let flow = "active_timeout = '1ms'\nidle_other = '1day'\n";
        let table = overlaid("", flow);
        assert_eq!(table["export"]["active_timeout"].as_str(), Some("1s"));
        assert_eq!(table["export"]["idle_timeout"].as_str(), Some("65535s"));
    }
}
