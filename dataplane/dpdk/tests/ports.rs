//! net_null, cables, pools and bursts through the owners.

mod support;

use dpdk::PortSpec;
use dpdk::{Burst, Mempool, PoolError, PoolOptions, PortConfig, PortError, ProbedPort};
use support::{EAL, pool, start};

#[test]
fn null_receives_and_sends_and_its_sink_receives_nothing() {
    let pool = pool("null", 255);
    let (source, mut rx, _) = start("null:size=100", &pool);
    let (sink, mut sink_rx, mut tx) = start("null:no-rx", &pool);
    let mut burst = Burst::<32>::new();
    assert_eq!(rx.rx_burst(&mut burst), 32);
    assert_eq!(rx.rx_burst(&mut burst), 0, "a full burst has no room");
    assert!(
        burst
            .iter()
            .all(|mbuf| mbuf.wire_len() == 100 && mbuf.timestamp().is_none())
    );
    assert_eq!(tx.tx_burst(&mut burst), 32);
    assert!(burst.is_empty());
    assert_eq!(sink_rx.rx_burst(&mut burst), 0);
    assert_eq!(pool.in_use_count(), 0);
    assert_eq!(
        (source.stats().rx_packets, sink.stats().tx_packets),
        (32, 32)
    );
    assert_eq!(source.facts().driver, "net_null");
    assert_ne!(source.index(), sink.index());
}

#[test]
fn a_cable_carries_frames_both_ways_and_holds_back_what_does_not_fit() {
    let pool = pool("cable", 8191);
    let (left, mut left_rx, mut left_tx) = start("ring:joint", &pool);
    let (right, mut right_rx, mut right_tx) = start("ring:joint", &pool);
    let mut burst = Burst::<32>::new();
    let mut mbuf = pool.alloc().unwrap();
    mbuf.append(60).unwrap().fill(7);
    burst.push(mbuf).unwrap();
    assert_eq!(left_tx.tx_burst(&mut burst), 1);
    assert_eq!(
        left_rx.rx_burst(&mut burst),
        0,
        "a sender does not hear itself"
    );
    assert_eq!(right_rx.rx_burst(&mut burst), 1);
    assert_eq!(burst[0].bytes(), [7; 60]);
    burst[0].bytes_mut()[0] = 8;
    assert_eq!(right_tx.tx_burst(&mut burst), 1);
    assert_eq!(left_rx.rx_burst(&mut burst), 1);
    assert_eq!(burst.pop().unwrap().bytes()[0], 8);

    let (mut sent, mut held_back) = (0, 0);
    while held_back == 0 {
        assert!(pool.alloc_bulk(&mut burst, 32));
        sent += left_tx.tx_burst(&mut burst);
        held_back = burst.len();
        burst.clear();
    }
    assert!((4000..4200).contains(&sent), "{sent} frames in the cable");
    drop((left, left_rx, left_tx, right, right_rx, right_tx));
    assert_eq!(
        pool.in_use_count(),
        0,
        "frames in a cable go back to their pool"
    );
}

#[test]
fn a_burst_keeps_order_and_frees_each_frame_once() {
    let pool = pool("burst", 255);
    let mut burst = Burst::<32>::new();
    assert!(pool.alloc_bulk(&mut burst, 32));
    for (index, mbuf) in burst.iter_mut().enumerate() {
        mbuf.append(index + 1).unwrap();
    }
    assert!(burst.push(pool.alloc().unwrap()).is_err());
    burst.retain(|index, mbuf| {
        assert_eq!(mbuf.bytes().len(), index + 1);
        index % 3 == 0
    });
    let lengths = |burst: &Burst| {
        burst
            .iter()
            .map(|mbuf| mbuf.bytes().len())
            .collect::<Vec<_>>()
    };
    assert_eq!(lengths(&burst), [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31]);
    assert_eq!(pool.in_use_count(), 11);
    let mut other = Burst::<32>::new();
    assert!(pool.alloc_bulk(&mut other, 30));
    other.append(&mut burst);
    assert_eq!((other.len(), burst.len()), (32, 9));
    assert_eq!(lengths(&burst)[0], 7, "the rest stays in order");
    other.truncate(30);
    assert_eq!(pool.in_use_count(), 39);
    drop((burst, other));
    assert_eq!(pool.in_use_count(), 0);
}

#[test]
fn a_frame_grows_and_shrinks_within_its_buffer() {
    let pool = pool("frame", 63);
    let mut mbuf = pool.alloc().unwrap();
    assert_eq!(
        (mbuf.bytes().len(), mbuf.wire_len(), mbuf.tailroom()),
        (0, 0, 2048)
    );
    mbuf.append(2000).unwrap().fill(1);
    assert!(mbuf.append(49).is_none());
    assert_eq!(mbuf.append(48).unwrap(), [0; 48]);
    assert_eq!((mbuf.wire_len(), mbuf.tailroom()), (2048, 0));
    mbuf.truncate(10);
    mbuf.truncate(20);
    assert_eq!(mbuf.bytes(), [1; 10]);
}

#[test]
fn a_pool_lives_as_long_as_its_frames_and_its_name_is_free_again_afterwards() {
    let first = pool("again", 63);
    let mbuf = first.alloc().unwrap();
    drop(first);
    let taken = Mempool::create(
        &EAL,
        &PoolOptions {
            mbufs: 63,
            cache_mbufs: 0,
            ..PoolOptions::named("again")
        },
    );
    assert!(
        matches!(taken, Err(PoolError::Refused { .. })),
        "a frame is still out"
    );
    assert_eq!(mbuf.tailroom(), 2048);
    drop(mbuf);
    drop(pool("other", 63));
    drop(pool("again", 63));
}

#[test]
fn limits_are_refused_with_what_to_do() {
    let cache = PoolOptions {
        mbufs: 100,
        cache_mbufs: 99,
        ..PoolOptions::named("limits")
    };
    let error = Mempool::create(&EAL, &cache).unwrap_err();
    assert!(
        error.to_string().contains("at most 512, and two thirds"),
        "{error}"
    );

    let huge = PoolOptions {
        mbufs: 10_000_000,
        ..PoolOptions::named("limits")
    };
    let error = Mempool::create(&EAL, &huge).unwrap_err().to_string();
    assert!(
        error.contains("needs about") && error.contains("give more memory"),
        "{error}"
    );

    let pool = pool("limits", 63);
    let probe = |text: &str| ProbedPort::probe(&EAL, &text.parse::<PortSpec>().unwrap());
    let queues = PortConfig {
        rx_queues: 9999,
        ..PortConfig::default()
    };
    let error = probe("null").unwrap().start(&queues, &pool).unwrap_err();
    assert!(matches!(error, PortError::TooManyQueues { .. }), "{error}");

    let error = probe("vdev:net_nonsense0").unwrap_err().to_string();
    assert!(
        error.contains("no device") && error.contains("net_nonsense0"),
        "{error}"
    );
    let error = probe("vdev:net_pcap_x,rx_pcap=/nowhere").unwrap_err();
    assert!(matches!(error, PortError::Probe { .. }), "{error}");
}
