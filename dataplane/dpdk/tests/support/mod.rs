//! What the tests of ports share: EAL on ordinary memory, and captures written by hand.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::num::NonZeroU32;
use std::sync::LazyLock;

use dpdk::{Eal, EalOptions, Memory, Mempool, PoolOptions, Port, PortConfig, ProbedPort};
use dpdk::{RxQueue, TxQueue};

/// EAL starts once in a process: all tests of a file share this one.
pub(crate) static EAL: LazyLock<Eal> = LazyLock::new(|| {
    let memory = Memory::Ordinary {
        mb: NonZeroU32::new(256).unwrap(),
    };
    Eal::start(&EalOptions {
        memory,
        ..EalOptions::default()
    })
    .unwrap()
});

pub(crate) fn pool(name: &str, mbufs: u32) -> Mempool {
    let options = PoolOptions {
        mbufs,
        cache_mbufs: mbufs.min(96) / 2,
        ..PoolOptions::named(name)
    };
    Mempool::create(&EAL, &options).unwrap()
}

/// The port started with one queue each way.
pub(crate) fn start(spec: &str, pool: &Mempool) -> (Port, RxQueue, TxQueue) {
    let probed = ProbedPort::probe(&EAL, &spec.parse().unwrap()).unwrap();
    let (port, mut rx, mut tx) = probed.start(&PortConfig::default(), pool).unwrap();
    (port, rx.pop().unwrap(), tx.pop().unwrap())
}

/// How a pcap file is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pcap {
    pub(crate) big_endian: bool,
    pub(crate) nanoseconds: bool,
    pub(crate) link_type: u32,
}

pub(crate) const PLAIN: Pcap = Pcap {
    big_endian: false,
    nanoseconds: false,
    link_type: 1,
};

/// A frame in a capture: its time, its bytes, and its length on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) nanos: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) wire_bytes: u32,
}

/// A frame whose bytes tell it from others.
pub(crate) fn frame(nanos: u64, length: usize) -> Frame {
    let bytes: Vec<u8> = (0..length)
        .map(|index| u8::try_from((index * 7 + length) % 256).unwrap())
        .collect();
    Frame {
        nanos,
        wire_bytes: u32::try_from(length).unwrap(),
        bytes,
    }
}

impl Pcap {
    fn word(self, value: u32) -> [u8; 4] {
        if self.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    fn half(self, value: u16) -> [u8; 2] {
        if self.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    pub(crate) fn file(self, frames: &[Frame]) -> Vec<u8> {
        let magic = if self.nanoseconds {
            0xa1b2_3c4d
        } else {
            0xa1b2_c3d4
        };
        let mut file = self.word(magic).to_vec();
        file.extend([self.half(2), self.half(4)].concat());
        file.extend(
            [0, 0, 262_144, self.link_type]
                .map(|word| self.word(word))
                .concat(),
        );
        for frame in frames {
            let unit = if self.nanoseconds { 1 } else { 1000 };
            let seconds = u32::try_from(frame.nanos / 1_000_000_000).unwrap();
            let fraction = u32::try_from(frame.nanos % 1_000_000_000 / unit).unwrap();
            let captured = u32::try_from(frame.bytes.len()).unwrap();
            let header = [seconds, fraction, captured, frame.wire_bytes];
            file.extend(header.map(|word| self.word(word)).concat());
            file.extend(&frame.bytes);
        }
        file
    }

    /// A pcapng block.
    pub(crate) fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let total = u32::try_from(padded + 12).unwrap();
        let mut block = [self.word(kind), self.word(total)].concat();
        block.extend(body);
        block.resize(8 + padded, 0);
        block.extend(self.word(total));
        block
    }

    pub(crate) fn section(self) -> Vec<u8> {
        let mut body = self.word(0x1a2b_3c4d).to_vec();
        body.extend([self.half(1), self.half(0)].concat());
        body.extend([0xff; 8]);
        self.block(0x0a0d_0d0a, &body)
    }

    /// `resolution` is the value of if_tsresol.
    pub(crate) fn interface(self, link_type: u16, snapshot: u32, resolution: u8) -> Vec<u8> {
        let mut body = [self.half(link_type), self.half(0)].concat();
        body.extend(self.word(snapshot));
        body.extend([self.half(9), self.half(1)].concat());
        body.extend([resolution, 0, 0, 0]);
        body.extend([0; 4]);
        self.block(1, &body)
    }

    /// An enhanced packet with its time in the units of its interface.
    pub(crate) fn packet(self, interface: u32, units: u64, frame: &Frame) -> Vec<u8> {
        let captured = u32::try_from(frame.bytes.len()).unwrap();
        let half = |units: u64| u32::try_from(units & 0xffff_ffff).unwrap();
        let (high, low) = (half(units >> 32), half(units));
        let words = [interface, high, low, captured, frame.wire_bytes];
        let mut body = words.map(|word| self.word(word)).concat();
        body.extend(&frame.bytes);
        self.block(6, &body)
    }
}
