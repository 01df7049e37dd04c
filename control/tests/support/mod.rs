//! A dataplane played over the real contract: a real region in a memfd, real rings, real messages
//! on a real socket. And a client of the API that needs nothing but a socket.

use abi::link::{Decoder, Hello, Message, RefusalCode, Role, encode};
use abi::record::{FlowEndReason, RecordKind, TcpState};
use abi::stats::{ProcessFacts, RunState, padded_name};
use abi::verdict::{Coverage, InitiatorEvidence};
use abi::{
    Action, CoreCounters, FlowRecord, Mode, PortCounters, Producer, Region, RegionOptions,
    VerdictSource,
};
use control::Running;
use control::config::{Config, Listen, Span};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for anything; nothing takes a tenth of it.
const WAIT: Duration = Duration::from_secs(20);

/// When its cores say that they have adopted their policy.
pub(crate) const ADOPTED_NS: u64 = 1_769_860_615_000_000_000;

pub(crate) const POLICY: &str = r#"
[[workload]]
name = "web-1"
addresses = ["10.0.1.10"]
labels = { app = "shop", role = "web" }

[[workload]]
name = "db-1"
addresses = ["10.0.2.20"]
labels = { app = "shop", role = "db" }

[[segment]]
name = "shop-web"
select = "role=web"
mode = "enforce"

[[segment]]
name = "shop-db"
select = "role=db"
mode = "enforce"

[[service]]
name = "postgres"
ports = ["tcp/5432"]

[[rule]]
name = "web-to-db"
from = ["shop-web"]
to = ["shop-db"]
services = ["postgres"]
action = "allow"
"#;

/// What the played dataplane does with a published image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Adopt,
    Refuse,
    /// Adopts as soon as it is told to behave otherwise.
    Hold,
    /// Adopts, and the link breaks before the answer.
    AdoptAndHangUp,
    /// Has another image in force than control believes: changes are refused.
    #[allow(dead_code, reason = "only the tests of a policy's life play it")]
    OtherBase,
}

#[derive(Default)]
struct Played {
    /// Epoch and hash of what is in force.
    in_force: (u64, [u8; 32]),
    image: Vec<u8>,
    published: Vec<u64>,
    /// Of these, epochs that came as a change.
    changed: Vec<u64>,
    hang_up: bool,
}

/// The dataplane.
pub(crate) struct TestDataplane {
    region: Region,
    descriptor: OwnedFd,
    producers: Vec<Producer>,
    counters: Vec<CoreCounters>,
    writers: Vec<abi::stats::CoreWriter>,
    facts: abi::stats::FactsWriter,
    facts_now: ProcessFacts,
    played: Arc<Mutex<Played>>,
    behaviour: Arc<Mutex<Behaviour>>,
    path: PathBuf,
    server: Option<Server>,
}

struct Server {
    stop: Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl TestDataplane {
    /// A dataplane of two cores and two ports that listens at the socket of `config`.
    pub(crate) fn start(config: &Config) -> Self {
        Self::with_region(config, 64)
    }

    pub(crate) fn with_region(config: &Config, ring_records: u32) -> Self {
        let boot_id = Sha256::digest(control::clock::now_ns().to_le_bytes())[..16].try_into();
        let mut options = RegionOptions::new(2, 2, boot_id.unwrap());
        options.ring_records = ring_records;
        let (region, descriptor) = Region::create(options).unwrap();
        for port in 0..2_u32 {
            let mut counters = <PortCounters as zerocopy::FromZeros>::new_zeroed();
            counters.name = padded_name(["inside0", "outside0"][port as usize]);
            counters.role = u64::from(port);
            counters.rx_packets = 7;
            region.port_writer(port).unwrap().commit(&counters);
        }
        let mut facts_now = ProcessFacts::new();
        facts_now.started_ns = control::clock::now_ns();
        facts_now.state = u32::from(RunState::Running.byte());
        facts_now.tsc_hz = 2_000_000_000;
        let mut facts = region.facts_writer().unwrap();
        facts_now.heartbeat_ns = control::clock::now_ns();
        facts.commit(&facts_now);
        let mut dataplane = Self {
            producers: (0..2).map(|w| region.producer(w).unwrap()).collect(),
            writers: (0..2).map(|w| region.core_writer(w).unwrap()).collect(),
            counters: vec![CoreCounters::new(); 2],
            region,
            descriptor,
            facts,
            facts_now,
            played: Arc::default(),
            behaviour: Arc::new(Mutex::new(Behaviour::Adopt)),
            path: config.dataplane_socket(),
            server: None,
        };
        dataplane.commit();
        dataplane.listen();
        dataplane
    }

    /// Begins to answer at its socket.
    pub(crate) fn listen(&mut self) {
        std::fs::create_dir_all(self.path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = channel();
        let talk = Talk {
            played: Arc::clone(&self.played),
            behaviour: Arc::clone(&self.behaviour),
            descriptor: self.descriptor.try_clone().unwrap(),
            region_bytes: self.region.view().header().region_bytes,
            boot_id: self.region.view().header().boot_id,
        };
        let thread = std::thread::spawn(move || talk.serve(&listener, &stopped));
        self.server = Some(Server { stop, thread });
    }

    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Loses its policy, as a dataplane whose host was started again.
    pub(crate) fn forget_policy(&self) {
        self.played.lock().unwrap().in_force = (0, [0; 32]);
    }

    /// Epochs published to it, in order.
    pub(crate) fn published(&self) -> Vec<u64> {
        self.played.lock().unwrap().published.clone()
    }

    /// Of these, epochs that came as a change of the image before.
    #[allow(dead_code, reason = "only the tests of a policy's life ask")]
    pub(crate) fn changed(&self) -> Vec<u64> {
        self.played.lock().unwrap().changed.clone()
    }

    pub(crate) fn image(&self) -> acl::PolicyImage {
        acl::PolicyImage::check(self.played.lock().unwrap().image.clone()).unwrap()
    }

    /// Closes the link, with or without the word.
    pub(crate) fn close(&mut self, with_shutdown: bool) {
        let _ = std::fs::remove_file(&self.path);
        if let Some(server) = self.server.take() {
            server.stop.send(with_shutdown).unwrap();
            server.thread.join().unwrap();
        }
    }

    /// Pushes a record into a worker's ring and counts it as a core does; false where it is shed.
    pub(crate) fn push(&mut self, worker: usize, record: &FlowRecord) -> bool {
        let packets = record.packets_fwd + record.packets_rev;
        let counters = &mut self.counters[worker];
        counters.rx_packets += packets;
        counters.stage_rounds += 1;
        counters.stage_cycles[abi::Stage::Decide.index()] += 20 * packets;
        counters.stage_packets[abi::Stage::Decide.index()] += packets;
        counters.flow_packets += packets;
        counters.drops[record.drop_reason as usize] += record.dropped_packets;
        counters.tx_packets += packets - record.dropped_packets;
        let pushed = self.producers[worker].push(record).is_ok();
        if pushed {
            counters.recorded_packets += packets;
            counters.records += 1;
        } else {
            counters.shed_packets += packets;
            counters.shed_records += 1;
        }
        self.producers[worker].publish();
        self.commit();
        pushed
    }

    /// Changes what a worker has counted.
    #[allow(dead_code, reason = "only the tests of accounting play counters")]
    pub(crate) fn count(&mut self, worker: usize, change: impl FnOnce(&mut CoreCounters)) {
        change(&mut self.counters[worker]);
        self.commit();
    }

    fn commit(&mut self) {
        let epoch = self.played.lock().unwrap().in_force.0;
        for (writer, counters) in self.writers.iter_mut().zip(&mut self.counters) {
            counters.committed_ns = control::clock::now_ns();
            counters.policy_epoch = epoch;
            counters.policy_adopted_ns = if epoch > 0 { ADOPTED_NS } else { 0 };
            writer.commit(counters);
        }
    }

    /// Stops in order: the region says so, then the link.
    pub(crate) fn finish(&mut self) {
        self.commit();
        self.facts_now.state = u32::from(RunState::Stopped.byte());
        self.facts.commit(&self.facts_now);
        self.close(true);
    }
}

impl Drop for TestDataplane {
    fn drop(&mut self) {
        self.close(false);
    }
}

struct Talk {
    played: Arc<Mutex<Played>>,
    behaviour: Arc<Mutex<Behaviour>>,
    descriptor: OwnedFd,
    region_bytes: u64,
    boot_id: [u8; 16],
}

fn send(stream: &mut UnixStream, message: &Message) {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).unwrap();
    // A control process that has gone away is told nothing.
    let _ = stream.write_all(&bytes);
}

fn refuse(stream: &mut UnixStream, epoch: u64, code: RefusalCode) {
    let sentence = "no room for it in this test".to_owned();
    let refused = Message::Refused {
        epoch,
        code,
        sentence,
    };
    send(stream, &refused);
}

impl Talk {
    fn serve(&self, listener: &UnixListener, stopped: &Receiver<bool>) {
        let mut link: Option<(UnixStream, Decoder)> = None;
        loop {
            if let Ok(with_shutdown) = stopped.try_recv() {
                if let Some((mut stream, _)) = link.filter(|_| with_shutdown) {
                    send(&mut stream, &Message::Shutdown);
                }
                return;
            }
            if let Ok((mut stream, _)) = listener.accept() {
                stream
                    .set_read_timeout(Some(Duration::from_millis(5)))
                    .unwrap();
                let id = std::process::id();
                send(
                    &mut stream,
                    &Message::Hello(Hello::new(Role::Dataplane, id, self.boot_id)),
                );
                link = Some((stream, Decoder::new()));
            }
            let Some((stream, decoder)) = &mut link else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            let mut buffer = [0; 65_536];
            match stream.read(&mut buffer) {
                Ok(0) => link = None,
                Ok(bytes) => {
                    let mut hang_up = false;
                    decoder.push(&buffer[..bytes]);
                    while let Some(message) = decoder.next().unwrap() {
                        self.act(stream, message);
                        hang_up |= std::mem::take(&mut self.played.lock().unwrap().hang_up);
                    }
                    if hang_up {
                        link = None;
                    }
                }
                Err(_) => {}
            }
        }
    }

    fn act(&self, stream: &mut UnixStream, message: Message) {
        let held = Instant::now();
        let publishes = matches!(
            message,
            Message::PublishImage { .. } | Message::PublishChange { .. }
        );
        while publishes
            && *self.behaviour.lock().unwrap() == Behaviour::Hold
            && held.elapsed() < WAIT
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut played = self.played.lock().unwrap();
        match message {
            Message::Hello(hello) => {
                assert_eq!(hello.role, Role::Control);
                self.send_region(stream);
                let (epoch, image_hash) = played.in_force;
                send(stream, &Message::PolicyInForce { epoch, image_hash });
            }
            Message::PublishImage { epoch, image } => {
                played.published.push(epoch);
                self.adopt(stream, &mut played, epoch, image);
            }
            Message::PublishChange { epoch, change } => {
                if *self.behaviour.lock().unwrap() == Behaviour::OtherBase {
                    return refuse(stream, epoch, RefusalCode::UnknownBase);
                }
                let base = acl::PolicyImage::check(played.image.clone()).unwrap();
                let image = base.check_change(&change).unwrap().bytes();
                played.published.push(epoch);
                played.changed.push(epoch);
                self.adopt(stream, &mut played, epoch, image);
            }
            Message::RequestImage => {
                let (epoch, image) = (played.in_force.0, played.image.clone());
                send(stream, &Message::Image { epoch, image });
            }
            other => panic!("control said {other:?}"),
        }
    }

    fn adopt(&self, stream: &mut UnixStream, played: &mut Played, epoch: u64, image: Vec<u8>) {
        if *self.behaviour.lock().unwrap() == Behaviour::Refuse {
            return refuse(stream, epoch, RefusalCode::LimitExceeded);
        }
        assert!(epoch > played.in_force.0, "epochs rise");
        assert_eq!(
            acl::PolicyImage::check(image.clone()).unwrap().epoch(),
            epoch
        );
        played.in_force = (epoch, Sha256::digest(&image).into());
        played.image = image;
        if *self.behaviour.lock().unwrap() == Behaviour::AdoptAndHangUp {
            played.hang_up = true;
            return;
        }
        let adopted = Message::Adopted {
            epoch,
            workers: 2,
            received_to_published_ns: 7_000_000,
            published_to_adopted_ns: 42_000,
        };
        send(stream, &adopted);
    }

    fn send_region(&self, stream: &UnixStream) {
        let mut bytes = Vec::new();
        encode(
            &Message::Region {
                bytes: self.region_bytes,
            },
            &mut bytes,
        )
        .unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [self.descriptor.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let sent = sendmsg(
            stream,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::empty(),
        );
        assert_eq!(sent.unwrap(), bytes.len());
    }
}

/// A configuration in a directory of its own.
pub(crate) fn config(dir: &Path) -> Config {
    let mut config = Config::default();
    config.control.run_dir = dir.to_owned();
    config.control.state_dir = dir.join("state");
    config.metrics.listen = Listen(Some(([127, 0, 0, 1], 0).into()));
    config.dataplane.reconnect_min = Span::ms(5);
    config.dataplane.reconnect_max = Span::ms(20);
    config.export.flush = Span::ms(20);
    config
}

/// An answered TCP flow from web-1 to db-1, as a core of this image would record it.
pub(crate) fn record(image: Option<&acl::PolicyImage>, number: u16) -> FlowRecord {
    let mut r = <FlowRecord as zerocopy::FromZeros>::new_zeroed();
    let address = |last: [u8; 4]| std::net::Ipv4Addr::from(last).to_ipv6_mapped().octets();
    (r.src, r.dst) = (address([10, 0, 1, 10]), address([10, 0, 2, 20]));
    (r.sport, r.dport, r.proto, r.ip_version) = (40_000 + number, 5432, 6, 4);
    (r.packets_fwd, r.packets_rev, r.bytes_fwd, r.bytes_rev) = (5, 4, 500, 4000);
    r.first_ns = 1_795_377_600_000_000_000 + u64::from(number);
    r.last_ns = r.first_ns + 1_000_000;
    r.flow_id = 0x0100_0000_0000_0000 + u64::from(number);
    r.end_reason = FlowEndReason::EndOfFlow.byte();
    r.kind = RecordKind::End.byte();
    r.tcp_state = TcpState::Closed.byte();
    r.initiator_evidence = InitiatorEvidence::Syn.byte();
    r.egress_port = 1;
    let decision = image.map_or_else(
        || abi::Decision::without_policy(Action::Allow),
        |i| i.evaluate(&r.src, &r.dst, &acl::Service::port(6, 5432)),
    );
    r.epoch = image.map_or(0, acl::PolicyImage::epoch);
    (r.enforced, r.enforced_source) = (decision.enforced.byte(), decision.enforced_source.byte());
    (r.pending, r.pending_source) = (decision.pending.byte(), decision.pending_source.byte());
    (r.rule_id, r.pending_rule_id) = (decision.rule_id, decision.pending_rule_id);
    (r.src_identity, r.dst_identity) = (decision.src_identity, decision.dst_identity);
    (r.mode, r.coverage) = (decision.mode.byte(), decision.coverage.byte());
    r
}

/// A record whose packets were all dropped by default.
pub(crate) fn denied(image: &acl::PolicyImage, number: u16) -> FlowRecord {
    let mut r = record(Some(image), number);
    r.dport = 22;
    (r.packets_rev, r.bytes_rev) = (0, 0);
    (r.dropped_packets, r.dropped_bytes) = (r.packets_fwd, r.bytes_fwd);
    (r.enforced, r.enforced_source) = (Action::Deny.byte(), VerdictSource::Default.byte());
    (r.rule_id, r.drop_reason) = (0, abi::Reason::DeniedByDefault.byte());
    (r.mode, r.coverage) = (Mode::Enforce.byte(), Coverage::Uncovered.byte());
    (r.kind, r.egress_port) = (RecordKind::Denied.byte(), 0xffff);
    r
}

/// A client of the API.
#[derive(Clone, Debug)]
pub(crate) struct Client(pub(crate) PathBuf);

impl Client {
    pub(crate) fn open(&self, method: &str, path: &str, body: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.0).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let length = body.len();
        // HTTP/1.0: the answer is not cut into pieces and ends with the connection.
        let ask = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(ask.as_bytes()).unwrap();
        stream
    }

    /// Status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut answer = Vec::new();
        self.open(method, path, body)
            .read_to_end(&mut answer)
            .unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    #[track_caller]
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, (u16, api::ApiError)> {
        let (status, body) = self.ask("POST", path, &serde_json::to_string(body).unwrap());
        if status == 200 {
            return Ok(serde_json::from_str(&body).unwrap());
        }
        let error: api::ErrorBody =
            serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        Err((status, error.error))
    }

    pub(crate) fn apply(
        &self,
        text: &str,
    ) -> Result<api::policy::ApplyResult, (u16, api::ApiError)> {
        let request = api::policy::ApplyRequest {
            text: text.to_owned(),
            file_name: "shop.toml".to_owned(),
            author: "ada".to_owned(),
            note: "a test".to_owned(),
            ..api::policy::ApplyRequest::default()
        };
        self.post(api::endpoint::POLICY_APPLY, &request)
    }

    pub(crate) fn status(&self) -> api::Status {
        self.get(api::endpoint::STATUS)
    }

    /// Waits until the status is as wanted.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&api::Status) -> bool) -> api::Status {
        let until = Instant::now() + WAIT;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < until, "never {what}: {status:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn wait_running(&self) {
        self.wait("running", |s| {
            s.dataplane.state == api::status::DataplaneState::Running
        });
    }
}

/// A control process in a directory of its own, and its client.
pub(crate) struct Box {
    pub(crate) dir: TempDir,
    pub(crate) config: Config,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) running: Option<Running>,
    pub(crate) client: Client,
}

impl Box {
    pub(crate) fn new(adjust: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        adjust(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let client = Client(config.api_socket());
        let mut this = Self {
            dir,
            config,
            runtime,
            running: None,
            client,
        };
        this.start();
        this
    }

    pub(crate) fn start(&mut self) {
        let running = self.runtime.block_on(control::start(self.config.clone()));
        self.running = Some(running.unwrap());
    }

    pub(crate) fn stop(&mut self) {
        let running = self.running.take().unwrap();
        self.runtime.block_on(running.stop());
    }

    pub(crate) fn flows(&self, query: &str) -> Vec<api::Flow> {
        self.client
            .get::<api::flow::Flows>(&format!("/v1/flows?{query}"))
            .flows
    }

    pub(crate) fn collected(&self, count: u64) {
        self.client
            .wait("collected", |s| s.flows.collected == count);
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.stop();
        }
    }
}

/// One with its dataplane, both running.
pub(crate) fn with_dataplane() -> (Box, TestDataplane) {
    let control = Box::new(|_| {});
    let dataplane = TestDataplane::start(&control.config);
    control.client.wait_running();
    (control, dataplane)
}
