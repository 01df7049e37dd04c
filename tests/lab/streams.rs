//! Numbered streams between hosts, counted at both ends, that last as long as a test needs them: it waits for what
//! they have done, never for time.

use std::path::PathBuf;
use std::time::Duration;

use ringfence_tests::command::{Background, wait_until};
use ringfence_tests::lab::{Appliance, Host, Lab};
use serde_json::Value;

pub(crate) const HOST: &str = env!("CARGO_BIN_EXE_lab-host");
/// What takes a second, on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);
/// Messages after which a stream is at work, and goes on.
pub(crate) const SOME: u64 = 200;
/// Linux sends a segment again when it was not acknowledged for 200 ms; a machine that stood still nearly as long has
/// lost nothing.
const STOOD_STILL_MS: u64 = 150;

/// An echo server, once it listens; `over` is `udp` or `tcp`.
pub(crate) fn serve(lab: &Lab, host: Host, over: &str, port: u16) -> Background {
    let address = format!("{}:{port}", host.v4);
    let echo = format!("echo-{over}");
    let log = format!("{echo}-{}-{port}", host.name);
    let server = lab.start(host.name, &[HOST, &echo, &address], &log);
    lab.await_listener(host.name, over, port);
    server
}

/// Where streams are begun and ended, all at once.
pub(crate) struct Streams<'a> {
    lab: &'a Lab,
    /// Streams end when it is there.
    end: PathBuf,
}

impl<'a> Streams<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        let end = lab.directory().join("enough");
        Self { lab, end }
    }

    pub(crate) fn begin(&self, from: Host, to: Host, over: &str, port: u16) -> Background {
        let address = format!("{}:{port}", to.v4);
        let what = format!("stream-{over}");
        let log = format!("{what}-{}-{port}", from.name);
        let until = format!("until:{}", self.end.display());
        self.lab
            .start(from.name, &[HOST, &what, &address, &until], &log)
    }

    pub(crate) fn end(&self) {
        std::fs::write(&self.end, "").expect("a file");
    }
}

/// What a stream that is under way has said last.
fn last(stream: &Background) -> Option<Value> {
    let log = stream.log();
    let mut whole = log.lines().rev().map(serde_json::from_str);
    whole.find_map(Result::ok)
}

/// How many of its messages have come back, as far as it has told.
pub(crate) fn echoed(stream: &Background) -> u64 {
    told(stream, "echoed")
}

fn told(stream: &Background, key: &str) -> u64 {
    let told = last(stream).and_then(|told| told[key].as_u64());
    told.unwrap_or_default()
}

/// Waits until each of them was answered some more.
#[track_caller]
pub(crate) fn await_progress(streams: &[&Background]) {
    await_more(streams, "echoed");
}

/// Waits until each of them has sent some more, answered or not.
#[track_caller]
pub(crate) fn await_sent(streams: &[&Background]) {
    await_more(streams, "sent");
}

#[track_caller]
fn await_more(streams: &[&Background], key: &str) {
    let begun: Vec<u64> = streams.iter().map(|stream| told(stream, key)).collect();
    let went_on = || {
        let now = streams.iter().map(|stream| told(stream, key));
        now.zip(&begun).all(|(now, begun)| now >= begun + SOME)
    };
    assert!(
        wait_until(LIMIT, went_on),
        "somebody stands still: {:#?}",
        streams.iter().map(|s| s.log()).collect::<Vec<_>>()
    );
}

/// What a stream says at its end.
#[track_caller]
pub(crate) fn ended(stream: &mut Background) -> Value {
    let ended = stream.wait(LIMIT);
    assert!(
        ended.is_some_and(|status| status.success()),
        "the stream did not end well: {}",
        stream.log()
    );
    last(stream).expect("a line")
}

/// Checks that what an ended stream of datagrams lacks never came into the appliance.
#[track_caller]
pub(crate) fn assert_nothing_lost(appliance: &Appliance<'_>, udp: &[&Value]) {
    let lost = |told: &&Value| {
        let [sent, echoed] = ["sent", "echoed"].map(|key| told[key].as_u64());
        sent.zip(echoed).map_or(0, |(sent, echoed)| sent - echoed)
    };
    let lost: u64 = udp.iter().map(lost).sum();
    assert!(
        wait_until(LIMIT, || lost <= missed(appliance)),
        "of what the ports could take no datagram is lost: {lost} lost, {} missed, {udp:#?}",
        missed(appliance)
    );
}

/// Frames that came while no core had time for them, or that could not leave: a matter of the machine.
pub(crate) fn missed(appliance: &Appliance<'_>) -> u64 {
    let ports = appliance.json(&["ports"]);
    let ports = ports["ports"].as_array().into_iter().flatten();
    let lost = |port: &Value| -> u64 {
        let counters = ["rx_missed", "rx_no_buffer", "tx_errors"];
        counters.iter().filter_map(|key| port[key].as_u64()).sum()
    };
    ports.map(lost).sum()
}

/// Checks that a host has sent no TCP segment twice, unless the machine stood still while `udp` ran beside it.
#[track_caller]
pub(crate) fn assert_no_retransmission(lab: &Lab, host: Host, udp: &Value) {
    let sent_twice = retransmissions(lab, host.name);
    let gap_ms = udp["longest_gap_ms"].as_u64();
    assert!(
        sent_twice == 0 || gap_ms >= Some(STOOD_STILL_MS),
        "{} sent {sent_twice} segments twice: {udp}",
        host.name
    );
}

/// TCP segments that a host has sent more than once.
fn retransmissions(lab: &Lab, host: &str) -> u64 {
    let snmp = lab.run(host, &["cat", "/proc/net/snmp"], LIMIT).must();
    let mut tcp = snmp
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("Tcp: "))
        .map(|line| line.split(' '));
    let (names, values) = (tcp.next().expect("names"), tcp.next().expect("values"));
    names
        .zip(values)
        .find(|(name, _)| *name == "RetransSegs")
        .and_then(|(_, value)| value.parse().ok())
        .expect("RetransSegs")
}
