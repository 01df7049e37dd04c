//! The subject: `ringfence-dataplane` inline on the same source, one polling core. This program
//! plays its control process: it publishes a policy, drains the records and reads the counters.

use abi::CoreCounters;
use abi::link::{Decoder, Hello, Message, Role, encode};
use abi::shm::{Region, RegionView};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the dataplane may take to start.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How the subject runs.
pub(crate) struct Setup<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) capture: &'a Path,
    pub(crate) frames: u32,
    pub(crate) core: usize,
    pub(crate) policy: Option<&'a str>,
    pub(crate) seconds: u32,
}

/// What one run gave.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Measured {
    /// Packets received per second.
    pub(crate) rate: f64,
    /// Packets forwarded, of those received, 0 to 1.
    pub(crate) forwarded: f64,
    /// Flows in the cache at the end.
    pub(crate) flows: u64,
    /// Received less sent less dropped by reason, at the end: 0.
    pub(crate) unaccounted: i128,
}

/// A dataplane that ends with this value.
struct Running {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}

/// Runs the dataplane inline from the capture to a sink and measures it.
///
/// # Errors
/// A sentence.
pub(crate) fn run(setup: &Setup<'_>) -> Result<Measured, String> {
    let running = start(setup)?;
    let mut link = connect(&running.dir.path().join("run/dataplane.sock"))?;
    if let Some(policy) = setup.policy {
        publish(&mut link, policy)?;
    }
    let view = &link.view;
    let mut consumer = view
        .attach(0, std::process::id())
        .ok_or("the region has no worker")?
        .map_err(|error| error.to_string())?;
    let mut batch = vec![zerocopy::FromZeros::new_zeroed(); 256];
    let mut rates = Vec::new();
    let mut last: Option<CoreCounters> = None;
    let end = Instant::now() + Duration::from_secs(u64::from(setup.seconds));
    let mut next = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        while consumer
            .read(&mut batch)
            .map_err(|error| error.to_string())?
            > 0
        {
            consumer.release().map_err(|error| error.to_string())?;
        }
        if Instant::now() >= next {
            next += Duration::from_secs(1);
            let now = view
                .core(0)
                .ok_or("the region has no worker")?
                .map_err(|error| error.to_string())?;
            if let Some(before) = last.replace(now) {
                rates.push(rate(&before, &now));
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let counters = last.ok_or("the run was shorter than a second")?;
    if rates.len() < 3 {
        return Err("the run was shorter than five seconds".into());
    }
    rates.drain(..1);
    let received = counters.rx_packets;
    let ended = counters.tx_packets + counters.dropped_packets();
    Ok(Measured {
        rate: crate::median(&mut rates),
        forwarded: counters.tx_packets as f64 / received.max(1) as f64,
        flows: counters.flows_cached,
        unaccounted: i128::from(received) - i128::from(ended),
    })
}

fn rate(before: &CoreCounters, now: &CoreCounters) -> f64 {
    let packets = now.rx_packets - before.rx_packets;
    let ns = now.committed_ns - before.committed_ns;
    packets as f64 * 1e9 / ns.max(1) as f64
}

fn start(setup: &Setup<'_>) -> Result<Running, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let config = dir.path().join("dataplane.toml");
    std::fs::write(&config, configuration(setup, dir.path())).map_err(|error| error.to_string())?;
    let child = Command::new(setup.binary)
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(dir.path().join("log")).map_err(|error| error.to_string())?)
        .spawn()
        .map_err(|error| {
            format!(
                "{} did not start: {error}; build it with `cargo build --release`",
                setup.binary.display()
            )
        })?;
    let mut running = Running { child, dir };
    let began = Instant::now();
    loop {
        let log = std::fs::read_to_string(running.dir.path().join("log")).unwrap_or_default();
        if log.contains("running:") {
            return Ok(running);
        }
        if let Ok(Some(status)) = running.child.try_wait() {
            return Err(format!("the dataplane ended with {status}: {log}"));
        }
        if began.elapsed() > START_PATIENCE {
            return Err(format!(
                "the dataplane did not start in {} s: {log}",
                START_PATIENCE.as_secs()
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn configuration(setup: &Setup<'_>, dir: &Path) -> String {
    let main = usize::from(setup.core == 0);
    // The pool is that of the peer, less what the dataplane adds for its ports and the capture.
    let mbufs = crate::SPARE_MBUFS;
    format!(
        "[dataplane]\nrun_dir = \"{dir}/run\"\nstate_dir = \"{dir}/state\"\nworkers = [{core}]\nmain_cpu = {main}\nidle = \"none\"\n\
         [memory]\nmbufs = {mbufs}\nmbuf_bytes = {mbuf_bytes}\n\
         [eal]\nfile_prefix = \"ringfence-perf-{id}\"\n\
         [flow]\nflows_max = {flows}\n\
         [[lane]]\nname = \"bench\"\ninside = \"pcap:in={capture},infinite\"\noutside = \"null:no-rx\"\n",
        dir = dir.display(),
        core = setup.core,
        mbuf_bytes = crate::MBUF_BYTES - 128,
        id = std::process::id(),
        flows = setup.frames.next_power_of_two(),
        capture = setup.capture.display(),
    )
}

/// The conversation with the dataplane.
struct Link {
    stream: UnixStream,
    decoder: Decoder,
    view: RegionView,
}

/// Says hello and maps the region.
fn connect(path: &PathBuf) -> Result<Link, String> {
    let stream =
        UnixStream::connect(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut stream = stream;
    let mut bytes = Vec::new();
    let hello = Hello::new(Role::Control, std::process::id(), [1; 16]);
    encode(&Message::Hello(hello), &mut bytes).map_err(|error| error.to_string())?;
    stream
        .write_all(&bytes)
        .map_err(|error| error.to_string())?;
    let mut decoder = Decoder::new();
    let mut descriptor = None;
    loop {
        receive(&stream, &mut decoder, &mut descriptor)?;
        while let Some(message) = decoder.next().map_err(|error| error.to_string())? {
            if let Message::Region { .. } = message
                && let Some(fd) = descriptor.take()
            {
                let view = Region::open(fd).map_err(|error| error.to_string())?;
                return Ok(Link {
                    stream,
                    decoder,
                    view,
                });
            }
        }
    }
}

fn receive(
    stream: &UnixStream,
    decoder: &mut Decoder,
    descriptor: &mut Option<OwnedFd>,
) -> Result<(), String> {
    let mut buffer = [0_u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|error| error.to_string())?;
    if received.bytes == 0 {
        return Err("the dataplane closed the link".into());
    }
    decoder.push(&buffer[..received.bytes]);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            *descriptor = fds.next().or(descriptor.take());
        }
    }
    Ok(())
}

fn publish(link: &mut Link, text: &str) -> Result<(), String> {
    let today = jiff::civil::date(2026, 1, 1);
    let valid = policy::load(text, "perf.toml", today).map_err(|error| error.to_string())?;
    let compiled = policy::compile(&valid, 1, today).map_err(|error| error.to_string())?;
    let image = compiled.image.bytes().to_vec();
    let mut bytes = Vec::new();
    encode(&Message::PublishImage { epoch: 1, image }, &mut bytes)
        .map_err(|error| error.to_string())?;
    link.stream
        .write_all(&bytes)
        .map_err(|error| error.to_string())?;
    let mut buffer = [0_u8; 4096];
    loop {
        let count = link
            .stream
            .read(&mut buffer)
            .map_err(|error| error.to_string())?;
        link.decoder.push(&buffer[..count]);
        while let Some(message) = link.decoder.next().map_err(|error| error.to_string())? {
            match message {
                Message::Adopted { .. } => return Ok(()),
                Message::Refused { sentence, .. } => {
                    return Err(format!("the policy was refused: {sentence}"));
                }
                _ => {}
            }
        }
    }
}
