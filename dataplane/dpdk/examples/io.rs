//! Plain forwarding through the owners of this crate, one core: what `dpdk-testpmd
//! --forward-mode=io` is to libdpdk. Prints one number: million frames per second.
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
    let _registration = if std::env::var_os("NO_REGISTRATION").is_none() {
        Some(eal.register_thread()?)
    } else {
        None
    };
    let mut burst = Burst::<32>::new();
    let started = dpdk::rdtsc();
    let ticks = seconds * dpdk::tsc_hz();
    let (mut received, mut dropped, mut rounds) = (0_u64, 0_u64, 0_u64);
    loop {
        received += rx.rx_burst(&mut burst) as u64;
        tx.tx_burst(&mut burst);
        dropped += burst.len() as u64;
        burst.clear();
        rounds += 1;
        if rounds & 0xfff == 0 && dpdk::rdtsc().wrapping_sub(started) > ticks {
            break;
        }
    }
    let elapsed = dpdk::rdtsc().wrapping_sub(started) as f64 / dpdk::tsc_hz() as f64;
    println!(
        "{:.3} Mpps, {received} received, {dropped} dropped",
        received as f64 / elapsed / 1e6
    );
    Ok(())
}
