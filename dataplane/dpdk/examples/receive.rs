//! Receives capture files to their end through net_pcap, and prints what came beside what the
//! file itself says, one line each: `receive CAPTURE...`.
#![expect(
    clippy::disallowed_macros,
    reason = "an example that prints its result"
)]

use std::num::NonZeroU32;
use std::path::Path;

use dpdk::{
    Burst, CaptureFile, Eal, EalOptions, Memory, Mempool, PoolOptions, PortConfig, PortSpec,
    ProbedPort,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let memory = Memory::Ordinary {
        mb: NonZeroU32::new(128).ok_or("no memory")?,
    };
    let eal = Eal::start(&EalOptions {
        memory,
        ..EalOptions::default()
    })?;
    let pool = Mempool::create(&eal, &PoolOptions::named("receive"))?;
    for path in std::env::args().skip(1) {
        match receive(&eal, &pool, &path) {
            Ok(line) => println!("{path}: {line}"),
            Err(error) => println!("{path}: {error}"),
        }
    }
    println!("mbufs in use at the end: {}", pool.in_use_count());
    Ok(())
}

fn receive(eal: &Eal, pool: &Mempool, path: &str) -> Result<String, Failure> {
    let file = CaptureFile::open(Path::new(path))?;
    let summary = file.summary()?;
    let mut records = file.records()?;
    let spec: PortSpec = format!("pcap:in={path}").parse()?;
    let (port, mut rx, _tx) = ProbedPort::probe(eal, &spec)?.start(&PortConfig::default(), pool)?;
    let mut rx = rx.pop().ok_or("no queue")?;
    let mut burst = Burst::<32>::new();
    let (mut frames, mut bytes, mut segments_max, mut wrong_times) = (0_u64, 0_u64, 0, 0_u64);
    while rx.rx_burst(&mut burst) > 0 {
        for mbuf in &*burst {
            frames += 1;
            bytes += u64::from(mbuf.wire_len());
            segments_max = segments_max.max(mbuf.segment_count());
            let exact = records
                .next_record()?
                .map(|record| record.timestamp_ns / 1000 * 1000);
            wrong_times += u64::from(exact != mbuf.timestamp());
        }
        burst.clear();
    }
    let stats = port.stats();
    let agree = frames == summary.port_frames()
        && wrong_times == 0
        && (summary.port_stops_at.is_some() || bytes == summary.captured_bytes);
    Ok(format!(
        "{} {frames} frames {bytes} bytes, at most {segments_max} segments, {wrong_times} times \
         differ, errors {}, no mbuf {}; file: {summary:?}",
        if agree { "agrees" } else { "DIFFERS" },
        stats.rx_errors,
        stats.no_mbuf,
    ))
}
