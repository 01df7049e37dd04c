//! The flow cache of one core: fixed capacity, bidirectional, time passed in.
//!
//! One worker of the dataplane owns one [`FlowCache`] and calls it in phases, burst by burst:
//!
//! ```text
//! for packet   let hash = packet.read_plain(frame, cache.hash_key()),
//!              or by classify(&headers, &key_options) and cache.hash(&key)
//!              cache.prefetch_bucket(hash)
//! for packet   let likely = cache.prefetch_entry(hash, key.proto())
//! for packet   cache.pass(&gate, likely, &packet, now, &mut passed)           nearly always true
//!              or, after cache.take_passed(&mut passed):
//!              match cache.find(hash, &key) and cache.account(index, side, &facts, now, &mut sink) {
//!                  hit                     => index
//!                  miss or Step::Gone      => cache.insert(hash, &key, side, &new, now, &mut sink)
//!              }
//!              match cache.verdict(index, epoch) {
//!                  Some(verdict)           => as the flow's entry says
//!                  None                    => judge cache.ends(index), cache.set_decision(..)
//!              }
//!              dropped?                    => cache.note_drop(..), cache.tell_denied(..)
//! per round    cache.sweep(now, slots_max, &mut sink)
//! ```
//!
//! Both `account` and `insert` count the packet; counting comes before deciding because a packet
//! may end one flow and start the next in the same entry, or turn the initiator round, and the
//! verdict must be that of the new state ([`FlowCache::verdict`] is `None` after either).
//! [`FlowCache::pass`] is the straight path through all of that, for a packet that changes nothing
//! about an allowed flow; what it does not take, the others do.
//!
//! The room never allocates after [`FlowCache::new`], reads no clock, knows no lock, and does a
//! bounded amount of work in every call. Times are nanoseconds since the Unix epoch, given by the
//! caller, and may step backwards.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod account;
mod admit;
mod ageing;
mod aggregate;
mod budget;
mod cache;
mod census;
mod change;
mod context;
mod counters;
mod entry;
mod facts;
mod fold;
mod frag;
mod hash;
mod index;
mod initiator;
mod intern;
mod key;
mod options;
mod pass;
mod prefetch;
mod record;
mod scan;
mod sketch;
mod tcp_state;
mod verdict;

pub use account::Step;
pub use admit::Judged;
pub use cache::{Admission, Ends, FlowCache, FlowIndex, LikelyEntry, NewFlow};
pub use context::{ContextTags, Path, VlanTags};
pub use counters::CacheCounters;
pub use entry::Gate;
pub use facts::{
    Classified, IcmpKey, KeyOptions, KeyedPacket, PacketFacts, TcpFlags, TransportFacts, classify,
    path, proto, quoted_tuple,
};
pub use fold::{Attempt, Run, Sender};
pub use frag::{
    Datagram, FragmentFull, FragmentKey, FragmentOptions, FragmentPart, FragmentTable, Ports,
};
pub use hash::{FlowHash, HashKey, fold, secret};
pub use key::{FlowKey, Side, Tuple};
pub use options::{
    CONTEXTS_MAX, CORE_BURST, CORE_RECORDS_PER_SECOND, CacheError, CacheOptions, FLOWS_MAX,
    FLOWS_MAX_LIMIT, InitiatorRule, LISTENERS_MAX, PATHS_MAX, SOURCE_BURST,
    SOURCE_RECORDS_PER_SECOND, SOURCES_MAX, SOURCES_MAX_LIMIT, SWEEP_PERIOD_NS, ScanOptions,
    Timeouts,
};
pub use packet::KeyHeader;
pub use pass::{Blocked, Passed};
pub use record::RecordSink;
pub use verdict::Verdict;
