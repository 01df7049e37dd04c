//! What the sentences about the cache are told with: packets, a clock moved by hand, records.
#![allow(dead_code, reason = "each test file uses its own part")]

use abi::record::FlowRecord;
use flow::{
    Admission, CacheOptions, FlowCache, FlowIndex, FlowKey, NewFlow, PacketFacts, Path,
    TcpFlags as T, TransportFacts, Tuple,
};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1000 * MS;
pub(crate) const START: u64 = 1_700_000_000 * SECOND;

pub(crate) fn options(flows_max: u32, embryonic_max: u32) -> CacheOptions {
    CacheOptions {
        flows_max,
        embryonic_max,
        ..CacheOptions::default()
    }
}

/// A cache, a clock moved by hand, and the records told so far.
pub(crate) struct House {
    pub(crate) cache: FlowCache,
    pub(crate) now: u64,
    pub(crate) records: Vec<FlowRecord>,
}

pub(crate) fn tuple(src: u32, src_port: u16, dst: u32, dst_port: u16, proto: u8) -> Tuple {
    let address = |host: u32| {
        let mut address = [0; 16];
        address[10..12].fill(0xff);
        address[12..].copy_from_slice(&(0x0a00_0000 + host).to_be_bytes());
        address
    };
    Tuple {
        src: address(src),
        dst: address(dst),
        src_port,
        dst_port,
        proto,
    }
}

pub(crate) fn back(t: Tuple) -> Tuple {
    Tuple {
        src: t.dst,
        dst: t.src,
        src_port: t.dst_port,
        dst_port: t.src_port,
        ..t
    }
}

pub(crate) fn plain(ip_bytes: u32) -> PacketFacts {
    PacketFacts {
        ip_bytes,
        tos: 0,
        ipv6: false,
        transport: TransportFacts::Plain,
    }
}

pub(crate) fn segment(flags: u16, seq: u32, payload_bytes: u32) -> PacketFacts {
    let transport = TransportFacts::Tcp {
        flags,
        seq,
        ack: 0,
        payload_bytes,
    };
    PacketFacts {
        ip_bytes: 40 + payload_bytes,
        tos: 0,
        ipv6: false,
        transport,
    }
}

impl House {
    pub(crate) fn new(options: &CacheOptions) -> Self {
        let cache = FlowCache::new(options, [11, 22]).unwrap();
        Self {
            cache,
            now: START,
            records: Vec::new(),
        }
    }

    pub(crate) fn find(&self, tuple: Tuple) -> Option<FlowIndex> {
        let (key, _) = FlowKey::new(&tuple, 0);
        self.cache.find(self.cache.hash(&key), &key)
    }

    pub(crate) fn admit(&mut self, tuple: Tuple, facts: &PacketFacts, path: &Path) -> Admission {
        let (key, side) = FlowKey::new(&tuple, 0);
        let hash = self.cache.hash(&key);
        let new = NewFlow {
            facts,
            ingress_port: 1,
            path,
        };
        let records = &mut self.records;
        let mut sink = |r: &FlowRecord| records.push(*r);
        self.cache
            .insert(hash, &key, side, &new, self.now, &mut sink)
    }

    /// One packet the usual way; `None` where the cache is full.
    pub(crate) fn packet(&mut self, tuple: Tuple, facts: &PacketFacts) -> Option<FlowIndex> {
        match self.admit(tuple, facts, &Path::default()) {
            Admission::New(index) | Admission::Joined(index) => Some(index),
            Admission::Full => None,
        }
    }

    pub(crate) fn tcp(&mut self, tuple: Tuple, flags: u16) -> Option<FlowIndex> {
        self.packet(tuple, &segment(flags, 0, 0))
    }

    pub(crate) fn handshake(&mut self, tuple: Tuple) -> FlowIndex {
        self.tcp(tuple, T::SYN).unwrap();
        self.now += 3 * MS;
        self.tcp(back(tuple), T::SYN | T::ACK).unwrap();
        self.now += 5 * MS;
        self.tcp(tuple, T::ACK).unwrap()
    }

    pub(crate) fn sweep(&mut self, slots_max: u32) -> u32 {
        let records = &mut self.records;
        self.cache
            .sweep(self.now, slots_max, &mut |r: &FlowRecord| records.push(*r))
    }

    /// Lets time pass with the sweep running.
    pub(crate) fn wait(&mut self, ns: u64) {
        let end = self.now + ns;
        while self.now < end {
            self.sweep(u32::MAX);
            self.now = (self.now + SECOND / 2).min(end);
        }
        self.sweep(u32::MAX);
    }

    pub(crate) fn flush(&mut self) {
        let records = &mut self.records;
        let mut sink = |r: &FlowRecord| records.push(*r);
        while !self.cache.flush(self.now, 16, &mut sink) {}
    }
}
