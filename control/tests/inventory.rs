//! Workloads from files beside the policy and from DNS, against a played dataplane.

#[allow(
    dead_code,
    reason = "written for the tests of the process, which use all of it"
)]
mod support;

use abi::record::{FlowEndReason, RecordKind};
use api::Explain;
use api::inventory::{ImportRequest, ImportResult, Inventory};
use api::policy::{ApplyResult, PolicyChange, PolicyInForce, PolicyLog, Workloads};
use api::quarantine::{LiftRequest, QuarantineRequest, QuarantineResult};
use control::config::{Config, Span};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Box, POLICY, TestDataplane, record};

/// Longest wait for anything; nothing takes a tenth of it.
const WAIT: Duration = Duration::from_secs(30);

const CSV: &str = "name,addresses,label:app,label:role\nweb-2,10.0.1.11,shop,web\n";

fn quick(config: &mut Config) {
    config.inventory.look_interval = Span::ms(10);
    config.inventory.settle = Span::ms(20);
}

/// An appliance with one inventory file, `workloads.csv` in its directory.
fn with_file(csv: &str) -> (Box, TestDataplane, PathBuf) {
    let mut file = PathBuf::new();
    let control = Box::new(|config| {
        file = config.control.run_dir.join("workloads.csv");
        std::fs::write(&file, csv).unwrap();
        quick(config);
        config.inventory.files = vec![file.clone()];
    });
    let dataplane = TestDataplane::start(&control.config);
    control.client.wait_running();
    (control, dataplane, file)
}

/// Waits until the inventory is as wanted.
#[track_caller]
fn inventory(control: &Box, what: &str, wanted: impl Fn(&Inventory) -> bool) -> Inventory {
    let until = Instant::now() + WAIT;
    loop {
        let inventory: Inventory = control.client.get("/v1/inventory");
        if wanted(&inventory) {
            return inventory;
        }
        assert!(Instant::now() < until, "never {what}: {inventory:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Replaces a file at once, as tools do that mind who reads it.
fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, file).unwrap();
}

fn rule(control: &Box, src: &str) -> Option<String> {
    let path = format!("/v1/explain?src={src}&dst=db-1&service=tcp/5432");
    control.client.get::<Explain>(&path).rule
}

fn log(control: &Box) -> Vec<api::policy::PolicyLogEntry> {
    control.client.get::<PolicyLog>("/v1/policy/log").entries
}

#[test]
fn a_file_beside_the_policy_is_published_with_it_and_after_it() {
    let (control, dataplane, file) = with_file(CSV);
    inventory(&control, "read", |i| i.files[0].good_ts.is_some());
    let applied = control.client.apply(POLICY).unwrap();
    assert_eq!(applied.counts.workloads, 3);
    assert_eq!(rule(&control, "10.0.1.11").as_deref(), Some("web-to-db"));
    replace(&file, &CSV.replace("10.0.1.11", "10.0.1.12"));
    inventory(&control, "moved", |i| i.moves == 1);
    assert_eq!(rule(&control, "10.0.1.12").as_deref(), Some("web-to-db"));
    assert_eq!(rule(&control, "10.0.1.11"), None);
    let in_force: PolicyInForce = control.client.get("/v1/policy");
    assert_eq!(
        (in_force.revision, in_force.epoch),
        (applied.revision.clone(), 2)
    );
    assert_eq!(in_force.text, POLICY, "the text is the operator's alone");
    assert_eq!(
        in_force.adopted_ts,
        control.client.get::<PolicyInForce>("/v1/policy").adopted_ts
    );
    let entries = log(&control);
    let entry = entries.last().unwrap();
    assert_eq!(
        (entry.change, &entry.revision),
        (PolicyChange::Membership, &applied.revision)
    );
    assert!(entry.note.ends_with("workloads.csv changed"), "{entry:?}");
    assert_ne!(entry.inventory, entries[0].inventory);
    assert_eq!(dataplane.published(), [1, 2]);
    let workloads: Workloads = control.client.get("/v1/workloads");
    let from: Vec<_> = workloads
        .workloads
        .iter()
        .map(|w| (&*w.name, w.from_inventory))
        .collect();
    assert_eq!(from, [("web-1", false), ("db-1", false), ("web-2", true)]);
    // The same workloads written another way are no move.
    replace(
        &file,
        "label:role,label:app,name,addresses\nweb,shop,web-2,10.0.1.12\n",
    );
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(dataplane.published(), [1, 2]);
}

#[test]
fn what_is_wrong_in_a_file_is_told_and_what_was_good_stays() {
    let (control, dataplane, file) = with_file(CSV);
    control.client.apply(POLICY).unwrap();
    inventory(&control, "in force", |i| i.workloads == 1);
    let published = dataplane.published().len();
    replace(&file, "name,addresses\nweb-2,10.0.1.300\nweb 3,10.0.1.13\n");
    let told = inventory(&control, "told", |i| !i.files[0].errors.is_empty());
    let file_name = file.display().to_string();
    let places: Vec<_> = told.files[0]
        .errors
        .iter()
        .map(|e| {
            (
                e.file == file_name,
                e.line,
                e.column,
                e.what.contains("300"),
            )
        })
        .collect();
    assert_eq!(places, [(true, 2, 7, true), (true, 3, 1, false)]);
    assert_eq!((told.files[0].workloads, told.files[0].refused), (1, 1));
    assert_eq!(rule(&control, "10.0.1.11").as_deref(), Some("web-to-db"));
    let doctor: api::Doctor = control.client.get("/v1/doctor");
    let check = doctor
        .checks
        .iter()
        .find(|c| c.name == "inventory")
        .unwrap();
    assert_eq!(check.state, api::status::CheckState::Warning);
    assert!(
        check.what.contains("1 inventory file with errors"),
        "{check:?}"
    );
    // An address of the policy's own, and a file that is gone.
    replace(&file, "name,addresses\nx,10.0.2.20\n");
    let told = inventory(&control, "in conflict", |i| {
        i.files[0].errors.iter().any(|e| e.what.contains("`db-1`"))
    });
    assert_eq!(
        (told.files[0].errors[0].line, told.files[0].errors[0].column),
        (2, 3)
    );
    std::fs::remove_file(&file).unwrap();
    inventory(&control, "gone", |i| {
        i.files[0]
            .errors
            .iter()
            .any(|e| e.what.starts_with("cannot be read"))
    });
    assert_eq!(dataplane.published().len(), published);
    replace(&file, CSV);
    inventory(&control, "good again", |i| i.files[0].errors.is_empty());
    assert_eq!(dataplane.published().len(), published);
}

#[test]
fn a_policy_in_conflict_with_the_inventory_is_refused_and_names_both() {
    let (control, _dataplane, file) = with_file("name,addresses\nx,10.0.2.20\n");
    inventory(&control, "read", |i| i.files[0].good_ts.is_some());
    let (status, error) = control.client.apply(POLICY).unwrap_err();
    assert_eq!(status, 422, "{error:?}");
    let detail = &error.details[0];
    assert_eq!(
        (&detail.file, detail.line),
        (&file.display().to_string(), 2)
    );
    assert!(
        detail.what.contains("`x`") && detail.what.contains("`db-1` (shop.toml:"),
        "{detail:?}"
    );
    // Of one name the policy's is taken.
    replace(&file, "name,addresses\ndb-1,10.0.2.99\n");
    inventory(&control, "read again", |i| {
        control.client.apply(POLICY).is_ok() && i.files[0].errors.is_empty()
    });
    let told = inventory(&control, "overridden", |i| i.overridden.len() == 1);
    assert_eq!(
        (&*told.overridden[0].workload, told.overridden[0].line),
        ("db-1", 2)
    );
    assert_eq!(rule(&control, "web-1").as_deref(), Some("web-to-db"));
}

#[test]
fn a_restart_finds_the_inventory_that_was_in_force_without_its_file() {
    let (mut control, dataplane, file) = with_file(CSV);
    control.client.apply(POLICY).unwrap();
    inventory(&control, "in force", |i| i.workloads == 1);
    let published = dataplane.published();
    control.stop();
    std::fs::remove_file(&file).unwrap();
    control.start();
    control.client.wait_running();
    inventory(&control, "gone", |i| !i.files[0].errors.is_empty());
    assert_eq!(rule(&control, "10.0.1.11").as_deref(), Some("web-to-db"));
    assert_eq!(dataplane.published(), published, "nothing has changed");
    // A dataplane that has lost everything gets both again.
    dataplane.forget_policy();
    control.stop();
    control.start();
    let until = Instant::now() + WAIT;
    while dataplane.published().len() == published.len() {
        assert!(Instant::now() < until, "never restored");
        std::thread::sleep(Duration::from_millis(5));
    }
    inventory(&control, "restored", |i| i.workloads == 1);
    assert_eq!(rule(&control, "10.0.1.11").as_deref(), Some("web-to-db"));
}

#[test]
fn a_change_that_finds_no_dataplane_waits_for_it() {
    let (control, mut dataplane, file) = with_file(CSV);
    control.client.apply(POLICY).unwrap();
    inventory(&control, "in force", |i| i.workloads == 1);
    dataplane.close(false);
    control.client.wait("disconnected", |s| {
        s.dataplane.state == api::status::DataplaneState::Disconnected
    });
    replace(&file, &CSV.replace("10.0.1.11", "10.0.1.12"));
    inventory(&control, "waiting", |i| i.waiting.is_some());
    dataplane.listen();
    inventory(&control, "moved", |i| i.waiting.is_none());
    assert_eq!(rule(&control, "10.0.1.12").as_deref(), Some("web-to-db"));
}

#[test]
fn a_list_is_imported_into_the_policy_as_one_revision() {
    let (control, dataplane) = support::with_dataplane();
    control.client.apply(POLICY).unwrap();
    let import = |text: &str, replace: bool, dry_run: bool| {
        let request = ImportRequest {
            text: text.into(),
            file_name: "assets.csv".into(),
            replace,
            dry_run,
            author: "ada".into(),
            note: String::new(),
        };
        control
            .client
            .post::<ImportResult>(api::endpoint::WORKLOADS_IMPORT, &request)
    };
    let list =
        "name,addresses,labels\nweb-1,10.0.1.50,app=shop;role=web\nweb-9,10.0.1.59,role=web\n";
    let dry = import(list, true, true).unwrap();
    assert_eq!(
        (&*dry.added, &*dry.changed),
        (&["web-9".to_owned()][..], &["web-1".to_owned()][..])
    );
    assert_eq!(
        (&*dry.removed, dry.applied),
        (&["db-1".to_owned()][..], None)
    );
    assert_eq!(dataplane.published(), [1]);
    let done = import(list, false, false).unwrap();
    let applied: ApplyResult = done.applied.unwrap();
    assert_eq!(
        (
            applied.epoch,
            applied.memberships_only,
            applied.counts.workloads
        ),
        (2, true, 3)
    );
    assert_eq!(rule(&control, "10.0.1.59").as_deref(), Some("web-to-db"));
    assert_eq!(
        log(&control).last().unwrap().note,
        "imported from assets.csv"
    );
    assert_eq!(
        import(list, false, false).unwrap().applied,
        None,
        "nothing is to be changed"
    );
    let (status, error) = import("name,addresses\nweb-1,10.0.1\n", false, false).unwrap_err();
    let place = (error.details[0].line, error.details[0].column);
    assert_eq!((status, place), (422, (2, 7)), "{error:?}");
}

/// dnsmasq with one zone, at a port of its own.
struct DnsServer {
    process: Child,
    hosts: PathBuf,
    address: SocketAddr,
}

impl DnsServer {
    fn start(dir: &Path, hosts: &str) -> Self {
        let path = dir.join("hosts");
        std::fs::write(&path, hosts).unwrap();
        let address = free_address();
        let process = Command::new("dnsmasq")
            .env(
                "PATH",
                format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()),
            )
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--bind-interfaces",
            ])
            .args([
                "--listen-address=127.0.0.1",
                "--local-ttl=1",
                "--conf-file=/dev/null",
            ])
            .args([
                "--user=",
                "--group=",
                "--pid-file=",
                "--local=/example/",
                "--log-facility=-",
            ])
            .arg(format!("--port={}", address.port()))
            .arg(format!("--addn-hosts={}", path.display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq-base is installed; tests/setup.sh does it");
        Self {
            process,
            hosts: path,
            address,
        }
    }

    /// Answers otherwise from now on.
    fn change(&self, hosts: &str) {
        std::fs::write(&self.hosts, hosts).unwrap();
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that is free for UDP and TCP.
fn free_address() -> SocketAddr {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

const BY_DNS: &str = r#"
[[workload]]
name = "web-9"
dns = ["web.example"]
labels = { role = "web" }
"#;

fn addresses(inventory: &Inventory) -> Vec<String> {
    let names = inventory.names.iter().flat_map(|name| &name.addresses);
    names.map(|address| address.address.to_string()).collect()
}

#[test]
fn a_dns_name_is_followed_and_kept_when_its_server_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = DnsServer::start(
        dir.path(),
        "10.0.1.91 web.example\n2001:db8::91 web.example\n",
    );
    let control = Box::new(|config| {
        quick(config);
        config.inventory.dns.servers = vec![server.address];
        config.inventory.dns.ttl_min = Span::s(1);
        config.inventory.dns.retry = Span::s(1);
        config.inventory.dns.timeout = Span::ms(300);
        config.inventory.dns.flow_grace = Span::s(0);
    });
    let mut dataplane = TestDataplane::start(&control.config);
    control.client.wait_running();
    control.client.apply(&format!("{POLICY}{BY_DNS}")).unwrap();
    inventory(&control, "resolved", |i| {
        addresses(i) == ["10.0.1.91", "2001:db8::91"]
    });
    inventory(&control, "moved", |i| i.moves == 1);
    assert_eq!(rule(&control, "10.0.1.91").as_deref(), Some("web-to-db"));

    // A flow of the address lives: it stays beside the new one.
    let mut lives = record(Some(&dataplane.image()), 7);
    lives.src = std::net::Ipv4Addr::new(10, 0, 1, 91)
        .to_ipv6_mapped()
        .octets();
    lives.last_ns = control::clock::now_ns();
    (lives.kind, lives.end_reason) = (
        RecordKind::Update.byte(),
        FlowEndReason::ActiveTimeout.byte(),
    );
    assert!(dataplane.push(0, &lives));
    control.collected(1);
    server.change("10.0.1.92 web.example\n");
    let held = inventory(&control, "followed", |i| {
        addresses(i) == ["10.0.1.91", "10.0.1.92"] && i.names[0].addresses[0].kept_for_flows
    });
    assert!(!held.names[0].addresses[1].kept_for_flows);
    inventory(&control, "in force", |_| {
        rule(&control, "10.0.1.92").is_some()
    });
    assert_eq!(rule(&control, "10.0.1.91").as_deref(), Some("web-to-db"));
    let ended = abi::FlowRecord {
        kind: RecordKind::End.byte(),
        ..lives
    };
    assert!(dataplane.push(0, &ended));
    inventory(&control, "let go", |i| addresses(i) == ["10.0.1.92"]);
    inventory(&control, "gone from force", |_| {
        rule(&control, "10.0.1.91").is_none()
    });

    server.stop();
    let lost = inventory(&control, "unanswered", |i| i.names[0].failures > 0);
    assert_eq!(addresses(&lost), ["10.0.1.92"]);
    assert_eq!(rule(&control, "10.0.1.92").as_deref(), Some("web-to-db"));
    let doctor: api::Doctor = control.client.get("/v1/doctor");
    let check = doctor
        .checks
        .iter()
        .find(|c| c.name == "inventory")
        .unwrap();
    assert!(
        check
            .what
            .contains("1 DNS name not resolved, web.example first"),
        "{check:?}"
    );
    let moves = log(&control)
        .iter()
        .filter(|e| e.change == PolicyChange::Membership)
        .count();
    assert!(
        (2..=5).contains(&moves),
        "one republish for each settled change: {moves}"
    );
}

#[test]
fn a_name_that_does_not_exist_is_told_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = DnsServer::start(dir.path(), "10.0.1.91 other.example\n");
    let control = Box::new(|config| {
        quick(config);
        config.inventory.dns.servers = vec![server.address];
        config.inventory.dns.retry = Span::s(1);
    });
    let dataplane = TestDataplane::start(&control.config);
    control.client.wait_running();
    control.client.apply(&format!("{POLICY}{BY_DNS}")).unwrap();
    let told = inventory(&control, "told", |i| {
        i.names.first().is_some_and(|n| {
            n.error
                .as_deref()
                .is_some_and(|e| e.starts_with("no such name"))
        })
    });
    assert_eq!(addresses(&told), [""; 0]);
    assert_eq!(dataplane.published(), [1]);
}

#[test]
fn a_workload_of_a_file_is_held_wherever_it_moves_until_it_is_let_go() {
    let (control, _dataplane, file) = with_file(CSV);
    inventory(&control, "read", |i| i.files[0].good_ts.is_some());
    control.client.apply(POLICY).unwrap();
    assert_eq!(rule(&control, "10.0.1.11").as_deref(), Some("web-to-db"));
    let request = QuarantineRequest {
        workload: "web-2".into(),
        for_s: 600,
        author: "ada".into(),
        ..QuarantineRequest::default()
    };
    let held: Result<QuarantineResult, _> =
        control.client.post(api::endpoint::QUARANTINE, &request);
    assert_eq!(held.unwrap().addresses, ["10.0.1.11"]);
    let holds = Some("quarantine:web-2:out");
    assert_eq!(rule(&control, "10.0.1.11").as_deref(), holds);
    replace(&file, &CSV.replace("10.0.1.11", "10.0.1.12"));
    inventory(&control, "moved", |i| i.moves == 1);
    assert_eq!(rule(&control, "10.0.1.12").as_deref(), holds);
    assert_eq!(rule(&control, "10.0.1.11"), None);
    // Nor does a policy that knows nothing of it let it go.
    let other = POLICY.replace("web-to-db", "web-may-ask-db");
    let applied = control.client.apply(&other).unwrap();
    let told: Vec<&str> = applied.warnings.iter().map(|w| &*w.what).collect();
    assert!(
        told.iter()
            .any(|w| w.starts_with("web-2 is in quarantine until ")),
        "{told:?}"
    );
    assert_eq!(rule(&control, "10.0.1.12").as_deref(), holds);
    let lift = LiftRequest {
        workload: "web-2".into(),
        author: "ada".into(),
        ..LiftRequest::default()
    };
    let lifted: Result<ApplyResult, _> = control.client.post(api::endpoint::QUARANTINE_LIFT, &lift);
    lifted.unwrap();
    let rule = rule(&control, "10.0.1.12");
    assert_eq!(rule.as_deref(), Some("web-may-ask-db"));
}
