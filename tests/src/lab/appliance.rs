//! The appliance in a lab: both processes, started as an operator would, and asked by the CLI.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::Lab;
use crate::command::{Background, Outcome, run, wait_until, words};
use crate::places::binary;

/// From start to the first forwarded frame: EAL takes a second, a loaded machine several.
const READY_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// From a packet to the record that tells of it.
const RECORD_LIMIT: Duration = Duration::from_secs(180);
const CLI_LIMIT: Duration = Duration::from_secs(180);

/// How the appliance is started.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Text of the policy that is applied before the first packet.
    pub policy: Option<String>,
    /// Collectors that get IPFIX, `HOST:PORT` in the appliance's namespace.
    pub collectors: Vec<String>,
    /// Further lines of the dataplane's configuration; they must begin with a table.
    pub dataplane: String,
    /// Further lines of the control process's configuration; they must begin with a table.
    pub control: String,
    /// The `[[lane]]` tables, instead of one lane between the two switches.
    pub lanes: Option<String>,
    /// How many workers, instead of one; they share CPUs where there are fewer.
    pub workers: Option<usize>,
    /// What an idle core does, instead of sleeping.
    pub idle: Option<&'static str>,
    /// A shell command that runs first, in the mount namespace of the processes.
    pub first: Option<String>,
    /// Start the two processes one by one instead of with `ringfence up`.
    pub apart: bool,
}

/// The lane between the two switches of the lab.
const LANE: &str =
    "[[lane]]\nname = \"rack\"\ninside = \"af_packet:in0\"\noutside = \"af_packet:out0\"\n";

/// A running appliance. Dropped, it is gone.
#[derive(Debug)]
pub struct Appliance<'lab> {
    lab: &'lab Lab,
    /// `ringfence up`, or the dataplane.
    first: Background,
    /// The control process, where it was started by itself.
    control: Option<Background>,
    socket: PathBuf,
}

impl<'lab> Appliance<'lab> {
    pub(super) fn start(lab: &'lab Lab, settings: &Settings) -> Self {
        let run_dir = lab.directory().join("run");
        std::fs::create_dir_all(&run_dir).expect("a directory for sockets");
        let dataplane = lab
            .file("dataplane.toml", dataplane_config(lab, settings))
            .display()
            .to_string();
        let control = lab
            .file("control.toml", control_config(lab, settings))
            .display()
            .to_string();
        let socket = run_dir.join("control.sock");
        let first = if settings.apart {
            let program = binary("ringfence-dataplane").display().to_string();
            lab.start("box", &[&program, "--config", &dataplane], "dataplane")
        } else {
            up(lab, settings, &socket, &dataplane, &control)
        };
        let mut appliance = Self {
            lab,
            first,
            control: None,
            socket,
        };
        if settings.apart {
            appliance.start_control();
        }
        appliance.wait_ready();
        appliance.wait_policy(settings.policy.is_some() && !settings.apart);
        if !settings.apart {
            appliance.wait_said_ready();
        }
        if let (true, Some(policy)) = (settings.apart, &settings.policy) {
            let _ = appliance.apply(policy).must();
        }
        appliance
    }

    /// Starts the control process by itself, once more.
    pub fn start_control(&mut self) {
        let program = binary("ringfence-control").display().to_string();
        let config = self
            .lab
            .directory()
            .join("control.toml")
            .display()
            .to_string();
        self.control = Some(
            self.lab
                .start("box", &[&program, "--config", &config], "control"),
        );
    }

    /// Kills the control process with SIGKILL.
    ///
    /// # Panics
    /// If it was not started by itself, or does not die.
    pub fn kill_control(&mut self) {
        let mut control = self
            .control
            .take()
            .expect("the processes were started apart");
        control.signal(Signal::KILL);
        assert!(
            control.wait(STOP_LIMIT).is_some(),
            "the control process survived SIGKILL"
        );
    }

    /// Waits until the dataplane runs and control is connected to it.
    ///
    /// # Panics
    /// If that does not come to be, with everything both have said.
    pub fn wait_ready(&mut self) {
        let is_running = |status: serde_json::Value| status["dataplane"]["state"] == "running";
        let mut ready = false;
        wait_until(READY_LIMIT, || {
            ready = self.try_json(&["status"]).is_some_and(is_running);
            ready || !self.first.runs()
        });
        assert!(ready, "the appliance is not ready\n{}", self.log());
    }

    /// Waits until `ringfence up` says that it is ready: stopped before that, it rightly ends with 130.
    fn wait_said_ready(&self) {
        let said_ready = || self.first.log().contains("ready; Ctrl-C stops");
        assert!(
            wait_until(READY_LIMIT, said_ready),
            "`ringfence up` does not say that it is ready\n{}",
            self.log()
        );
    }

    /// Waits until the policy that `ringfence up` applies has been adopted.
    fn wait_policy(&self, expected: bool) {
        let is_adopted = || self.json(&["status"])["policy"]["state"] == "adopted";
        assert!(
            !expected || wait_until(READY_LIMIT, is_adopted),
            "the policy was not adopted\n{}",
            self.log()
        );
    }

    /// Runs the CLI.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Outcome {
        let mut command = words(&[binary("ringfence")]);
        command.arg("--socket").arg(&self.socket).args(arguments);
        run(&mut command, CLI_LIMIT)
    }

    /// Runs the CLI with `--json`.
    ///
    /// # Panics
    /// If it fails or prints no JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.try_json(arguments)
            .unwrap_or_else(|| panic!("{}\n{}", self.cli(arguments), self.log()))
    }

    fn try_json(&self, arguments: &[&str]) -> Option<Value> {
        let outcome = self.cli(&[&["--json"], arguments].concat());
        serde_json::from_str(&outcome.stdout)
            .ok()
            .filter(|_| outcome.ok())
    }

    /// Applies a policy and returns how that ended.
    #[must_use]
    pub fn apply(&self, policy: &str) -> Outcome {
        let path = self.lab.file("policy-applied.toml", policy);
        self.cli(&["policy", "apply", &path.display().to_string()])
    }

    /// All recent flows.
    #[must_use]
    pub fn flows(&self) -> Vec<Value> {
        let mut all = self.json(&["flows", "--limit", "0"]);
        all["flows"]
            .take()
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Waits until a recent flow satisfies the condition, and returns it.
    ///
    /// # Panics
    /// If none comes, with all that came.
    #[track_caller]
    #[must_use]
    pub fn flow(&self, what: &str, mut condition: impl FnMut(&Value) -> bool) -> Value {
        let mut found = None;
        wait_until(RECORD_LIMIT, || {
            found = self.flows().into_iter().find(&mut condition);
            found.is_some()
        });
        found.unwrap_or_else(|| {
            panic!(
                "no flow came that {what}; these did:\n{}",
                self.cli(&["flows", "--limit", "0"])
            )
        })
    }

    /// Checks that nothing is lost uncounted.
    ///
    /// # Panics
    /// If `ringfence verify accounting` finds a difference.
    #[track_caller]
    fn assert_balanced(&self) {
        let outcome = self.cli(&["verify", "accounting"]);
        assert!(outcome.ok(), "{outcome}\n{}", self.log());
        assert_eq!(self.json(&["verify", "accounting"])["balanced"], true);
    }

    /// What the processes have said so far.
    #[must_use]
    pub fn log(&self) -> String {
        let control = self
            .control
            .as_ref()
            .map(Background::log)
            .unwrap_or_default();
        format!(
            "--- log of the appliance\n{}\n--- log of control\n{control}",
            self.first.log()
        )
    }

    /// Process id of the dataplane.
    ///
    /// # Panics
    /// If the control process does not know it.
    #[must_use]
    pub fn dataplane_pid(&self) -> u64 {
        self.json(&["status"])["dataplane"]["pid"]
            .as_u64()
            .expect("the dataplane has told its process id")
    }

    /// Checks that nothing is lost uncounted, then stops it as an operator would.
    ///
    /// # Panics
    /// If the accounting differs or a process does not end well.
    #[track_caller]
    pub fn finish(mut self) {
        self.assert_balanced();
        let first = self.first.stop(STOP_LIMIT);
        assert!(
            first.success(),
            "the appliance ended with {first}\n{}",
            self.log()
        );
        if let Some(control) = &mut self.control {
            let ended = control.stop(STOP_LIMIT);
            assert!(
                ended.success(),
                "control ended with {ended}\n{}",
                self.log()
            );
        }
    }
}

fn up(
    lab: &Lab,
    settings: &Settings,
    socket: &std::path::Path,
    dataplane: &str,
    control: &str,
) -> Background {
    let mut command: Vec<String> = vec![binary("ringfence").display().to_string()];
    command.extend(["--socket".into(), socket.display().to_string(), "up".into()]);
    command.extend([
        "--config".into(),
        dataplane.into(),
        "--control-config".into(),
        control.into(),
    ]);
    if let Some(policy) = &settings.policy {
        command.extend([
            "--policy".into(),
            lab.file("policy.toml", policy).display().to_string(),
        ]);
    }
    if let Some(first) = &settings.first {
        let shell = ["sh", "-c", &format!("{first} && exec \"$@\""), "sh"].map(str::to_owned);
        command.splice(0..0, shell);
    }
    lab.start("box", &command, "up")
}

/// `workers = [...]`, from the CPUs that this process may use.
fn worker_cpus(count: usize) -> String {
    let allowed = rustix::thread::sched_getaffinity(None).expect("the mask of this process");
    let usable = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let usable: Vec<usize> = usable.collect();
    let cpus: Vec<usize> = usable.iter().copied().cycle().take(count).collect();
    format!("workers = {cpus:?}\n")
}

fn dataplane_config(lab: &Lab, settings: &Settings) -> String {
    let directory = lab.directory().display();
    let idle = settings.idle.unwrap_or("sleep");
    let lanes = settings.lanes.as_deref().unwrap_or(LANE);
    let workers = settings.workers.map_or_else(String::new, worker_cpus);
    format!(
        "[dataplane]\nrun_dir = \"{directory}/run\"\nstate_dir = \"{directory}/dataplane\"\n\
         idle = \"{idle}\"\n{workers}\n[eal]\nfile_prefix = \"{}\"\n\n{lanes}\n{}\n",
        lab.name, settings.dataplane
    )
}

fn control_config(lab: &Lab, settings: &Settings) -> String {
    let directory = lab.directory().display();
    let address = |collector: &String| format!("{{ address = \"{collector}\" }}");
    let collectors: Vec<String> = settings.collectors.iter().map(address).collect();
    format!(
        "[control]\nrun_dir = \"{directory}/run\"\nstate_dir = \"{directory}/control\"\n\n\
         [export]\ncollectors = [{}]\n\n{}\n",
        collectors.join(", "),
        settings.control
    )
}
