//! The main thread of the process: it makes everything, starts the cores, and from then on carries
//! messages, copies port counters and corrects the clock. Cores never wait for it.

use abi::PortCounters;
use abi::counters::PORT_NAME_BYTES;
use abi::link::{Hello, Message, Role};
use abi::shm::{Region, RegionError, RegionOptions};
use abi::stats::{FactsWriter, PortWriter, ProcessFacts, RunState, SHORT_NAME_BYTES, padded_name};
use dataplane::adopt::{Publisher, Subscriber};
use dataplane::claim::InterfaceClaim;
use dataplane::clock::{Clock, Drift, TscClock, system_ns};
use dataplane::config::{ClockSource, ConfigError, Hugepages, ValidConfig};
use dataplane::control_link::{ControlLink, OpenError};
use dataplane::core::{Core, CoreError};
use dataplane::export::RecordSink;
use dataplane::idle::Backoff;
use dataplane::kernel_link::{KernelLink, LinkState};
use dataplane::policy_keeper::{Arrived, PolicyKeeper};
use dataplane::stages::StageWatch;
use dataplane::start::{Plan, StartError, Started};
use dataplane::worker::Worker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the main thread waits for the socket at a time.
const WAIT: Duration = Duration::from_millis(20);
/// How often port counters are read and the clock is corrected.
const HOUSEKEEPING_NS: u64 = 500_000_000;
/// How long a stopping process waits for the control process to make room for the last records.
const FLUSH_PATIENCE_NS: u64 = 3_000_000_000;

/// How long an offline run waits for its control process.
const CONTROL_PATIENCE_NS: u64 = 30_000_000_000;

/// Why the process did not start, or ended. The message is shown to the operator as is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error(transparent)]
    Socket(#[from] OpenError),
    #[error(transparent)]
    Core(#[from] CoreError),
    #[error("signals cannot be watched: {0}")]
    Signals(std::io::Error),
    #[error("worker {worker} did not start: {source}")]
    Thread {
        worker: usize,
        source: std::io::Error,
    },
    #[error("worker {worker} died; restart the process, and report what it said above")]
    WorkerDied { worker: usize },
    #[error("the configuration cannot be written as TOML: {0}")]
    Dump(toml::ser::Error),
    #[error("standard output: {0}")]
    Output(std::io::Error),
}

impl ProcessError {
    /// Exit code of the process: 2 where its configuration has to change, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Start(StartError::Name { .. }) => 2,
            _ => 1,
        }
    }
}

/// What the workers and the main thread share besides the region.
#[derive(Clone)]
struct Flags {
    /// Set by a signal: cores stop polling.
    stop: Arc<AtomicBool>,
    /// Set when nobody will read the last records any more.
    abandon: Arc<AtomicBool>,
    /// Workers that have told every flow.
    finished: Arc<AtomicUsize>,
}

/// Checks the CPUs and the ports of a configuration against the host.
pub(crate) fn check(config: &ValidConfig) -> Result<(), ProcessError> {
    plan(config)?;
    Ok(())
}

fn plan(config: &ValidConfig) -> Result<Plan, ProcessError> {
    // Where the mask cannot be read, pinning will tell.
    if let Ok(allowed) = rustix::thread::sched_getaffinity(None) {
        let cpus = 0..rustix::thread::CpuSet::MAX_CPU;
        let usable: Vec<usize> = cpus.filter(|cpu| allowed.is_set(*cpu)).collect();
        config.check_cpus(&usable)?;
    }
    Ok(Plan::new(config)?)
}

/// Runs until a signal, or to the end of a capture.
pub(crate) fn run(config: &ValidConfig) -> Result<(), ProcessError> {
    let plan = plan(config)?;
    let boot_id = boot_id();
    let (region, link) = open_contract(config, plan.port_count(), boot_id)?;
    let mut facts = Facts::new(config, &region, boot_id)?;
    facts.tell(RunState::Starting);
    let Started {
        eal,
        ports,
        kernel_links,
        lanes,
        facts: lane_facts,
        claims,
    } = plan.start(config)?;
    facts.set_lanes(&lane_facts);
    let (publisher, subscribers) = Publisher::new(config.worker_count);
    let mut keeper = PolicyKeeper::new(
        publisher,
        &config.config.dataplane.state_dir,
        config.worker_count,
        place_policy(config),
    );
    keeper.restore();
    let flags = Flags {
        stop: watch_signals()?,
        abandon: Arc::default(),
        finished: Arc::default(),
    };
    let drift = Drift::default();
    let clock = Clock::Tsc(TscClock::new(dpdk::rdtsc, dpdk::tsc_hz(), drift.clone()));
    let mut workers = Vec::new();
    for (index, (subscriber, lanes)) in subscribers.into_iter().zip(lanes).enumerate() {
        workers.push(make_worker(
            config, &region, index, subscriber, lanes, &clock, &flags,
        )?);
    }
    let ports = PortCounting::new(config, &region, ports, kernel_links)?;
    let mut main = Main {
        link,
        keeper,
        facts,
        ports,
        _claims: claims,
        drift,
        clock,
        housekept_ns: 0,
        region,
    };
    if config.config.replay.finish {
        main.await_control(&flags);
    }
    let mut threads = Vec::new();
    for (index, worker) in workers.into_iter().enumerate() {
        threads.push(start_worker(config, index, worker, eal.clone(), &flags)?);
    }
    main.facts.tell(RunState::Running);
    eprintln!(
        "running: {} lanes, {} workers, {}",
        config.lanes.len(),
        config.worker_count,
        eal.dpdk_release()
    );
    main.serve(&flags, threads.len());
    main.stop(&flags, threads)
}

struct Main {
    link: ControlLink,
    keeper: PolicyKeeper,
    facts: Facts,
    ports: PortCounting,
    /// Let go after the ports.
    _claims: Vec<InterfaceClaim>,
    drift: Drift,
    clock: Clock,
    housekept_ns: u64,
    region: Region,
}

impl Main {
    /// An offline run has no wire that will not wait: it begins when its control process is there.
    fn await_control(&mut self, flags: &Flags) {
        let began = system_ns();
        while !self.link.is_connected() && !flags.stop.load(Ordering::Relaxed) {
            self.exchange(WAIT);
            if system_ns().saturating_sub(began) > CONTROL_PATIENCE_NS {
                eprintln!("replay: no control process came; its records will be lost");
                return;
            }
        }
    }

    /// Carries messages until a signal comes or every worker has finished.
    fn serve(&mut self, flags: &Flags, workers: usize) {
        while !flags.stop.load(Ordering::Relaxed)
            && flags.finished.load(Ordering::Acquire) < workers
        {
            self.exchange(WAIT);
            self.keep_house();
        }
    }

    fn exchange(&mut self, patience: Duration) {
        for message in self.link.wait(patience) {
            let arrived = self.clock.read();
            let answer = match message {
                Message::Hello(_) => Some(self.keeper.in_force()),
                Message::RequestImage => Some(self.keeper.image()),
                Message::PublishImage { epoch, image } => {
                    Some(self.publish(epoch, Arrived::Image(image), arrived))
                }
                Message::PublishChange { epoch, change } => {
                    Some(self.publish(epoch, Arrived::Change(change), arrived))
                }
                _ => None,
            };
            if let Some(answer) = answer {
                self.link.send(&answer);
            }
        }
    }

    fn publish(&mut self, epoch: u64, policy: Arrived, arrived_ns: u64) -> Message {
        let elapsed = || Duration::from_nanos(self.clock.read().saturating_sub(arrived_ns));
        self.keeper.publish(epoch, policy, elapsed)
    }

    fn keep_house(&mut self) {
        let now = system_ns();
        if now.abs_diff(self.housekept_ns) < HOUSEKEEPING_NS {
            return;
        }
        self.housekept_ns = now;
        self.drift.correct(&self.clock);
        self.ports.commit(now);
        self.facts.tell(RunState::Running);
    }

    /// Stops the cores, lets the control process take the last records, says goodbye.
    fn stop(mut self, flags: &Flags, threads: Vec<JoinHandle<()>>) -> Result<(), ProcessError> {
        flags.stop.store(true, Ordering::Relaxed);
        self.facts.tell(RunState::Stopping);
        let began = system_ns();
        while flags.finished.load(Ordering::Acquire) < threads.len()
            && threads.iter().any(|t| !t.is_finished())
        {
            self.exchange(WAIT);
            let late = system_ns().saturating_sub(began) > FLUSH_PATIENCE_NS;
            if late || !self.link.is_connected() {
                flags.abandon.store(true, Ordering::Relaxed);
            }
        }
        let mut outcome = Ok(());
        for (worker, thread) in threads.into_iter().enumerate() {
            if thread.join().is_err() {
                outcome = Err(ProcessError::WorkerDied { worker });
            }
        }
        self.ports.commit(system_ns());
        self.facts.tell(RunState::Stopped);
        self.link.send(&Message::Shutdown);
        self.link.flush(Duration::from_secs(1));
        drop(self.region);
        outcome
    }
}

/// The region and the socket: all that the control process sees.
fn open_contract(
    config: &ValidConfig,
    ports: usize,
    boot_id: [u8; 16],
) -> Result<(Region, ControlLink), ProcessError> {
    let options = RegionOptions {
        ring_records: config.config.memory.ring_records,
        ..RegionOptions::new(count(config.worker_count), count(ports), boot_id)
    };
    let (region, descriptor) = Region::create(options)?;
    let bytes = region.view().header().region_bytes;
    let hello = Hello::new(Role::Dataplane, std::process::id(), boot_id);
    let link = ControlLink::open(&config.config.dataplane.run_dir, descriptor, bytes, hello)?;
    Ok((region, link))
}

type DpdkWorker = Worker<dataplane::dpdk_port::DpdkPort>;

fn make_worker(
    config: &ValidConfig,
    region: &Region,
    index: usize,
    subscriber: Subscriber,
    lanes: Vec<dataplane::worker::LaneOf<dataplane::dpdk_port::DpdkPort>>,
    clock: &Clock,
    flags: &Flags,
) -> Result<DpdkWorker, ProcessError> {
    let worker = count(index);
    let producer = region.producer(worker)?;
    let patient_always = config.config.replay.finish;
    let sink = RecordSink::new(producer, Arc::clone(&flags.abandon), patient_always);
    let mut core = Core::new(config, index, subscriber, sink, region.core_writer(worker)?)?;
    let every_rounds = config.config.telemetry.stage_cycles_every_rounds;
    core.measure_stages(StageWatch::new(dpdk::rdtsc, every_rounds));
    if config.config.memory.hugepages != Hugepages::Never {
        place_tables(index, &core);
    }
    let clock = match config.config.replay.clock {
        ClockSource::Machine => clock.clone(),
        // The time stamps of the frames are the time; between them it stands still.
        ClockSource::Capture => Clock::Manual(0),
    };
    let backoff = Backoff::new(config.config.dataplane.idle);
    Ok(Worker::new(
        core,
        lanes,
        clock,
        backoff,
        config.config.dataplane.tx_attempts_max,
    ))
}

/// Puts the flow tables into huge pages where the kernel can.
fn place_tables(index: usize, core: &Core) {
    for table in core.flow_tables() {
        if let Err(error) = dpdk::move_to_huge_pages(&table) {
            eprintln!(
                "worker {index}: the flow tables stay in ordinary pages ({error}), slower with many flows; \
                 transparent huge pages need Linux 6.1 and `madvise` or `always` in \
                 /sys/kernel/mm/transparent_hugepage/enabled"
            );
            break;
        }
    }
}

/// What puts the tables of a policy into huge pages, where these are wanted. A kernel that cannot has
/// been told about with the flow tables.
fn place_policy(config: &ValidConfig) -> fn(&core::ops::Range<*const u8>) {
    if config.config.memory.hugepages == Hugepages::Never {
        return |_| ();
    }
    |table| {
        let _ = dpdk::move_to_huge_pages(table);
    }
}

fn start_worker(
    config: &ValidConfig,
    index: usize,
    mut worker: DpdkWorker,
    eal: dpdk::Eal,
    flags: &Flags,
) -> Result<JoinHandle<()>, ProcessError> {
    let flags = flags.clone();
    let wait_policy = config.config.replay.wait_policy;
    let cpu = config.config.dataplane.workers.get(index).copied();
    let body = move || {
        pin(index, cpu);
        // Without a registration buffers come from the shared ring: slower, still right.
        let registration = eal.register_thread();
        if let Err(error) = &registration {
            eprintln!("worker {index}: {error}; going on without a buffer cache, slower");
        }
        if wait_policy {
            worker.wait_for_policy(&flags.stop);
        }
        worker.run(&flags.stop);
        flags.finished.fetch_add(1, Ordering::Release);
    };
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(body)
        .map_err(|source| ProcessError::Thread {
            worker: index,
            source,
        })
}

fn pin(index: usize, cpu: Option<usize>) {
    let Some(id) = cpu else { return };
    if !core_affinity::set_for_current(core_affinity::CoreId { id }) {
        eprintln!(
            "worker {index}: CPU {id} is not one this process may use; running unpinned, with jitter"
        );
    }
}

fn watch_signals() -> Result<Arc<AtomicBool>, ProcessError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(ProcessError::Signals)?;
    }
    Ok(stop)
}

/// What `status` tells about this process.
struct Facts {
    facts: ProcessFacts,
    writer: FactsWriter,
}

impl Facts {
    fn new(config: &ValidConfig, region: &Region, boot_id: [u8; 16]) -> Result<Self, ProcessError> {
        let mut facts = ProcessFacts::new();
        facts.process_id = u64::from(std::process::id());
        facts.started_ns = system_ns();
        facts.boot_id = boot_id;
        facts.workers = count(config.worker_count);
        facts.ports = region.view().ports();
        facts.ring_records = config.config.memory.ring_records;
        facts.package_version = padded_name::<SHORT_NAME_BYTES>(env!("CARGO_PKG_VERSION"));
        let idle = toml::Value::try_from(config.config.dataplane.idle).ok();
        let idle = idle
            .as_ref()
            .and_then(toml::Value::as_str)
            .unwrap_or_default()
            .to_owned();
        facts.idle = padded_name::<SHORT_NAME_BYTES>(&idle);
        for (index, place) in facts.worker_cpus.iter_mut().enumerate() {
            let cpu = config.config.dataplane.workers.get(index).copied();
            *place = cpu
                .and_then(|cpu| u16::try_from(cpu).ok())
                .unwrap_or(u16::MAX);
        }
        Ok(Self {
            facts,
            writer: region.facts_writer()?,
        })
    }

    /// What is known once libdpdk runs.
    fn set_lanes(&mut self, lanes: &[abi::stats::LaneFacts]) {
        self.facts.tsc_hz = dpdk::tsc_hz();
        self.facts.lanes = count(lanes.len());
        for (place, lane) in self.facts.lane.iter_mut().zip(lanes) {
            *place = *lane;
        }
    }

    fn tell(&mut self, state: RunState) {
        self.facts.state = u32::from(state.byte());
        self.facts.heartbeat_ns = system_ns();
        self.writer.commit(&self.facts);
    }
}

/// Copies what the drivers count into the stats segment.
struct PortCounting {
    ports: Vec<CountedPort>,
}

struct CountedPort {
    port: dpdk::Port,
    kernel_link: KernelLink,
    writer: PortWriter,
    counters: PortCounters,
}

impl CountedPort {
    /// What the driver says, but where the kernel knows better.
    fn link(&self) -> LinkState {
        let driver = self.port.link();
        match self.kernel_link.read() {
            Some(kernel) => LinkState {
                up: kernel.up && driver.up,
                ..kernel
            },
            None => LinkState {
                up: driver.up,
                mbps: driver.speed_mbps,
            },
        }
    }
}

impl PortCounting {
    fn new(
        config: &ValidConfig,
        region: &Region,
        ports: Vec<dpdk::Port>,
        kernel_links: Vec<KernelLink>,
    ) -> Result<Self, ProcessError> {
        use dataplane::config::LanePorts;
        let named = config
            .lanes
            .iter()
            .enumerate()
            .flat_map(|(lane, of)| match &of.ports {
                LanePorts::Inline { inside, outside } => {
                    vec![(lane, 0, inside), (lane, 1, outside)]
                }
                LanePorts::Mirror(port) => vec![(lane, 2, port)],
            });
        let mut all = Vec::new();
        let ports = ports.into_iter().zip(kernel_links).zip(named).enumerate();
        for (index, ((port, kernel_link), (lane, role, name))) in ports {
            let mut counters: PortCounters = zerocopy::FromZeros::new_zeroed();
            counters.role = role;
            counters.lane = lane as u64;
            counters.name = padded_name::<PORT_NAME_BYTES>(name);
            all.push(CountedPort {
                port,
                kernel_link,
                writer: region.port_writer(count(index))?,
                counters,
            });
        }
        let mut counting = Self { ports: all };
        counting.commit(system_ns());
        Ok(counting)
    }

    fn commit(&mut self, now: u64) {
        for counted in &mut self.ports {
            let (stats, link) = (counted.port.stats(), counted.link());
            let counters = &mut counted.counters;
            counters.read_ns = now;
            counters.rx_packets = stats.rx_packets;
            counters.rx_bytes = stats.rx_bytes;
            counters.tx_packets = stats.tx_packets;
            counters.tx_bytes = stats.tx_bytes;
            counters.rx_missed = stats.rx_missed;
            counters.rx_errors = stats.rx_errors;
            counters.tx_errors = stats.tx_errors;
            counters.rx_no_buffer = stats.no_mbuf;
            counters.link_up = u64::from(link.up);
            counters.link_mbps = u64::from(link.mbps.unwrap_or(0));
            counted.writer.commit(counters);
        }
    }
}

/// Unique per start: random, from the kernel.
fn boot_id() -> [u8; 16] {
    dataplane::core::random_bytes()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
