//! `ringfence doctor`: what of this host and of the running processes stands in the way, and what
//! to do about it. Reads only; changes nothing.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use api::policy::PolicyState;
use api::status::{Check, CheckState};
use api::{Doctor, Ports, Stages, Status, endpoint};

use crate::args::DoctorArgs;
use crate::capacity::{self, Costs, Setup};
use crate::client::Client;
use crate::configuration;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use crate::print;
use crate::process::Programs;
use crate::up::{CONTROL_CONFIG, DATAPLANE_CONFIG};

/// Bytes of hugepages that the default configuration asks for: buffers, flow cache and devices.
const HUGEPAGE_BYTES_WANTED: u64 = 512 << 20;

/// Runs every check and prints them.
pub(crate) async fn doctor(
    args: &DoctorArgs,
    client: &Client,
    json: bool,
    output: Output,
) -> Result<Exit, CliError> {
    if args.capacity {
        return capacity(args, client, json, output).await;
    }
    let mut doctor = Doctor { checks: host(args) };
    doctor.checks.extend(socket(client.socket()));
    match client.get::<Status>(endpoint::STATUS, &()).await {
        Err(error) => doctor.checks.push(Check {
            name: "control".into(),
            state: CheckState::Failed,
            what: first_clause(&error.to_string()),
            mend: "start it with `ringfence up`, or name its socket with --socket".into(),
        }),
        Ok(status) => {
            doctor.checks.extend(running(&status.value));
            let ports = client.get::<Ports>(endpoint::PORTS, &()).await?;
            doctor.checks.extend(ports.value.ports.iter().map(port));
            let theirs = client.get::<Doctor>(endpoint::DOCTOR, &()).await?;
            // Where both sides judge the same thing, the one that sees more of it has the word.
            let theirs = theirs.value.checks;
            doctor
                .checks
                .retain(|own| theirs.iter().all(|check| check.name != own.name));
            doctor.checks.extend(theirs);
        }
    }
    if json {
        let text = serde_json::to_vec(&doctor).map_err(|error| CliError::Output(error.into()))?;
        output.json(&text)?;
    } else {
        output.page(&print::doctor(&doctor))?;
        output.page(&print::doctor_summary(&doctor))?;
    }
    let failed = doctor
        .checks
        .iter()
        .any(|check| check.state == CheckState::Failed);
    Ok(if failed { Exit::No } else { Exit::Ok })
}

/// Computes what the running configuration carries.
async fn capacity(
    args: &DoctorArgs,
    client: &Client,
    json: bool,
    output: Output,
) -> Result<Exit, CliError> {
    let status = client.get::<Status>(endpoint::STATUS, &()).await?.value;
    let ports = client.get::<Ports>(endpoint::PORTS, &()).await?.value.ports;
    let stages = client.get::<Stages>(endpoint::STAGES, &()).await?.value;
    let workers = &status.dataplane.workers;
    let speeds: Vec<u64> = ports.iter().map(|port| port.link_mbps).collect();
    let known = !speeds.is_empty() && speeds.iter().all(|mbps| *mbps > 0);
    let setup = Setup {
        workers: workers.len() as u64,
        ports: ports.len() as u64,
        ports_gbps: known.then(|| speeds.iter().sum::<u64>() as f64 / 1e3),
        nodes: args.nodes,
        flows_max: workers.iter().map(|worker| worker.flows_max).sum(),
        ring_records: workers.iter().map(|worker| worker.ring_max).sum(),
    };
    let costs = Costs::recorded().map_err(|error| CliError::Output(io::Error::other(error)))?;
    let (cycles, packets) = (stages.total.cycles(), stages.total.packets());
    let measured = packets > 0 && stages.tsc_hz > 0;
    let live_ns = measured.then(|| cycles as f64 / packets as f64 * 1e9 / stages.tsc_hz as f64);
    let found = capacity::capacity(&costs, setup, live_ns);
    if json {
        let text = serde_json::to_vec(&found).map_err(|error| CliError::Output(error.into()))?;
        output.json(&text)?;
    } else {
        output.page(&print::capacity(&found))?;
    }
    Ok(Exit::Ok)
}

fn ok(name: &str, what: impl Into<String>) -> Check {
    Check {
        name: name.into(),
        state: CheckState::Ok,
        what: what.into(),
        mend: String::new(),
    }
}

fn warning(name: &str, what: impl Into<String>, mend: impl Into<String>) -> Check {
    let state = CheckState::Warning;
    Check {
        name: name.into(),
        state,
        what: what.into(),
        mend: mend.into(),
    }
}

fn failed(name: &str, what: impl Into<String>, mend: impl Into<String>) -> Check {
    let state = CheckState::Failed;
    Check {
        name: name.into(),
        state,
        what: what.into(),
        mend: mend.into(),
    }
}

/// What a message says before it says what to do.
fn first_clause(message: &str) -> String {
    message.split(';').next().unwrap_or_default().to_owned()
}

/// Checks that need no running process.
fn host(args: &DoctorArgs) -> Vec<Check> {
    let mut checks = vec![programs(), permission(), hugepages(), processors()];
    checks.push(config_file(
        "dataplane-file",
        args.config.as_deref(),
        DATAPLANE_CONFIG,
    ));
    checks.push(config_file("control-file", None, CONTROL_CONFIG));
    checks
}

fn programs() -> Check {
    match Programs::locate() {
        Ok(programs) => ok(
            "programs",
            format!(
                "{} and {}",
                programs.dataplane.display(),
                programs.control.display()
            ),
        ),
        Err(error) => failed(
            "programs",
            format!("{} is not beside this program and not in PATH", error.name),
            "install all three programs into one directory",
        ),
    }
}

fn permission() -> Check {
    if rustix::process::geteuid().is_root() {
        return ok("permission", "root");
    }
    warning(
        "permission",
        "not root: hardware ports, af_packet and tap need CAP_NET_ADMIN and CAP_NET_RAW",
        "run as root for live ports; `ringfence replay` works as you are",
    )
}

fn hugepages() -> Check {
    const MEND: &str = "`hugepage-setup reserve` reserves them; without, packets cost more time";
    let name = "hugepages";
    let (free, total, page_bytes) = match std::fs::read_to_string("/proc/meminfo") {
        Ok(text) => (
            meminfo(&text, "HugePages_Free:"),
            meminfo(&text, "HugePages_Total:"),
            meminfo(&text, "Hugepagesize:").saturating_mul(1024),
        ),
        Err(error) => return warning(name, format!("/proc/meminfo: {error}"), MEND),
    };
    let free_bytes = free.saturating_mul(page_bytes);
    let found = format!(
        "{free} of {total} free, {} in all",
        crate::quantity::bytes(total.saturating_mul(page_bytes))
    );
    // A running dataplane holds pages, so that few may be free where there are enough.
    if free_bytes >= HUGEPAGE_BYTES_WANTED || (total > 0 && free < total) {
        ok(name, found)
    } else {
        warning(name, found, MEND)
    }
}

/// A number of `/proc/meminfo`, 0 where the line is missing.
fn meminfo(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn processors() -> Check {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => warning(
            "processors",
            "1: the worker shares it with everything else",
            "give this host two or more, or keep dataplane.idle = \"sleep\"",
        ),
        count => ok("processors", format!("{count} that this process may use")),
    }
}

fn config_file(name: &str, given: Option<&Path>, default: &str) -> Check {
    let path = given.map_or_else(|| PathBuf::from(default), Path::to_owned);
    let shown = path.display();
    if given.is_none() && !path.exists() {
        return ok(
            name,
            format!("no {shown}; defaults and the command line hold"),
        );
    }
    match configuration::load(&path) {
        Ok(_) => ok(name, format!("{shown} is readable TOML")),
        Err(error) => failed(name, error.to_string(), "mend the file, or name another"),
    }
}

fn socket(path: &Path) -> Vec<Check> {
    let name = "control-socket";
    let shown = path.display();
    let check = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => failed(
            name,
            format!("{shown} does not exist"),
            "start with `ringfence up`",
        ),
        Err(error) => failed(
            name,
            format!("{shown}: {error}"),
            "run as root, or name another socket",
        ),
        Ok(found) if !found.file_type().is_socket() => failed(
            name,
            format!("{shown} is not a socket"),
            "name the right one with --socket",
        ),
        Ok(found) => match UnixStream::connect(path) {
            Ok(_) if found.permissions().mode() & 0o002 != 0 => warning(
                name,
                format!("{shown} answers, and everybody on this host may change the policy"),
                format!("`chmod o-rwx {shown}`"),
            ),
            Ok(_) => ok(name, format!("{shown} answers")),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failed(
                name,
                format!("no permission to open {shown}"),
                "run as root, or as a member of the group that owns it",
            ),
            Err(_) => failed(
                name,
                format!("{shown} is left over: nobody listens"),
                "start with `ringfence up`, which replaces it",
            ),
        },
    };
    vec![check]
}

/// Checks of what the control process says about itself.
fn running(status: &Status) -> Vec<Check> {
    let own = env!("CARGO_PKG_VERSION");
    let theirs = &status.control.release;
    let mut checks = vec![if theirs == own {
        ok(
            "release",
            format!("this command and the control process are {own}"),
        )
    } else {
        warning(
            "release",
            format!("this command is {own}, the control process is {theirs}"),
            "install one release of all three programs and restart control; traffic does not notice",
        )
    }];
    checks.push(match status.policy.state {
        PolicyState::Adopted => ok(
            "policy",
            format!(
                "revision {} is in force",
                crate::quantity::revision(&status.policy.revision)
            ),
        ),
        PolicyState::None => warning(
            "policy",
            "none: every flow follows the exception policy",
            "`ringfence policy apply FILE`",
        ),
        PolicyState::Refused => failed(
            "policy",
            "the dataplane refused it and keeps what it has",
            "`ringfence policy show` says why",
        ),
        state @ (PolicyState::Waiting | PolicyState::Publishing) => warning(
            "policy",
            format!("{state}: the dataplane does not have it yet"),
            "`ringfence status` says whether the dataplane is connected",
        ),
    });
    checks
}

fn port(port: &api::accounting::Port) -> Check {
    let name = format!("port {}", port.name);
    if !port.link_up {
        return failed(
            &name,
            format!("{} of lane {}: link down", port.role, port.lane),
            "plug it in, or bring the interface up (`ip link set INTERFACE up`)",
        );
    }
    let lost = port.rx_missed + port.rx_no_buffer;
    if lost > 0 {
        return warning(
            &name,
            format!(
                "up; {} lost before a worker saw them",
                crate::quantity::counted(lost, "packet")
            ),
            "more workers, memory.mbufs, or dataplane.idle = \"none\"",
        );
    }
    ok(&name, format!("{} of lane {}: up", port.role, port.lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_meminfo_are_found_by_their_key() {
        let text = "MemTotal:  8 kB\nHugePages_Total:     512\nHugePages_Free:       12\nHugepagesize:    2048 kB\n";
        assert_eq!(meminfo(text, "HugePages_Total:"), 512);
        assert_eq!(meminfo(text, "Hugepagesize:"), 2048);
        assert_eq!(meminfo(text, "Nothing:"), 0);
    }

    #[test]
    fn a_down_port_fails_and_says_what_to_do() {
        let down = api::accounting::Port {
            name: "af_packet:eth1".into(),
            role: "inside".into(),
            ..Default::default()
        };
        let check = port(&down);
        assert_eq!(check.state, CheckState::Failed);
        assert!(check.mend.contains("ip link set"), "{check:?}");
    }
}
