//! Plain forwarding through the owners of this crate, one core: what `dpdk-testpmd
//! --forward-mode=io` is to libdpdk. Prints million frames per second of
//! this thread's CPU time, which says more than the clock where cores are shared; the
//! first half second does not count.
//!
//! `io FROM TO [SECONDS [POOL_MBUFS [DATA_ROOM_BYTES [CPU]]]]`, with FROM and TO as in
//! configuration, such as `null` and `null:no-rx`.
#![expect(
    clippy::disallowed_macros,
    reason = "an example that prints its result"
)]

use std::num::NonZeroU32;

use dpdk::{
    Burst, Eal, EalOptions, Memory, Mempool, PoolOptions, PortConfig, PortSpec, ProbedPort,
    RxQueue, TxQueue,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, numbers @ ..] = &arguments[..] else {
        return Err("usage: io FROM TO [SECONDS [POOL_MBUFS [DATA_ROOM_BYTES [CPU]]]]".into());
    };
    let number = |index: usize, default: u64| {
        numbers
            .get(index)
            .map_or(Ok(default), |text| text.parse::<u64>())
    };
    let (from, to): (PortSpec, PortSpec) = (from.parse()?, to.parse()?);
    let seconds = number(0, 2)?;
    let pool_options = PoolOptions {
        mbufs: u32::try_from(number(1, 16_383)?)?,
        data_room_bytes: u16::try_from(number(2, 2048)?)?,
        ..PoolOptions::named("io")
    };

    let memory_mb = u32::try_from(pool_options.memory_bytes() >> 20)? * 3 / 2 + 128;
    let memory_mb = NonZeroU32::new(memory_mb).ok_or("no memory")?;
    let options = EalOptions {
        memory: Memory::Ordinary { mb: memory_mb },
        ..EalOptions::default()
    };
    let eal = Eal::start(&options)?;
    let _registration = if std::env::var_os("NO_REGISTRATION").is_none() {
        Some(eal.register_thread()?)
    } else {
        None
    };
    let pool = Mempool::create(&eal, &pool_options)?;
    let config = PortConfig::default();
    let (_inside, mut rx, _) = ProbedPort::probe(&eal, &from)?.start(&config, &pool)?;
    let (_outside, _, mut tx) = ProbedPort::probe(&eal, &to)?.start(&config, &pool)?;
    let (Some(mut rx), Some(mut tx)) = (rx.pop(), tx.pop()) else {
        return Err("no queue".into());
    };

    if let Some(cpu) = numbers.get(3) {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu.parse()?);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    forward(&mut rx, &mut tx, dpdk::tsc_hz() / 2);
    let busy_before = busy_seconds()?;
    let (received, dropped) = forward(&mut rx, &mut tx, seconds * dpdk::tsc_hz());
    let busy = busy_seconds()? - busy_before;
    let mpps = received as f64 / busy / 1e6;
    println!("{mpps:.3} Mpps, {received} received, {dropped} dropped");
    Ok(())
}

/// Forwards for so many cycles; frames received, and those of them that could not be sent.
fn forward(rx: &mut RxQueue, tx: &mut TxQueue, cycles: u64) -> (u64, u64) {
    let mut burst = Burst::<32>::new();
    let started = dpdk::rdtsc();
    let (mut received, mut dropped, mut rounds) = (0_u64, 0_u64, 0_u64);
    while rounds & 0xfff != 0 || dpdk::rdtsc().wrapping_sub(started) < cycles {
        received += rx.rx_burst(&mut burst) as u64;
        tx.tx_burst(&mut burst);
        dropped += burst.len() as u64;
        burst.clear();
        rounds += 1;
    }
    (received, dropped)
}

/// Time that this thread has been on a CPU.
fn busy_seconds() -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().ok_or("no schedstat")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}
