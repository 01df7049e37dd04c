//! The flow cache of one core: fixed capacity, bidirectional, time passed in.
//!
//! One worker of the dataplane owns one [`FlowCache`] and calls it in phases, burst by burst:
//!
//! ```text
//! for packet   let c = classify(&headers, &key_options)         headers -> tuple, tags, facts
//! for packet   let (key, side) = FlowKey::new(&c.tuple, context)
//!              let hash = cache.hash(&key); cache.prefetch_bucket(hash)
//! for packet   cache.prefetch_entry(hash, key.proto())
//! for packet   let found = cache.find(hash, &key)
//! for packet   match found and cache.account(index, side, &facts, now, &mut sink) {
//!                  hit                     => index
//!                  miss or Step::Stale     => cache.insert(hash, &key, side, &new, now, &mut sink)
//!              }
//! for packet   match cache.verdict(index, epoch) {
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
mod ageing;
mod cache;
mod change;
mod context;
mod counters;
mod entry;
mod facts;
mod frag;
mod hash;
mod index;
mod initiator;
mod intern;
mod key;
mod options;
mod prefetch;
mod record;
mod tcp_state;
mod verdict;

pub use account::Step;
pub use cache::{Admission, Ends, FlowCache, FlowIndex, NewFlow};
pub use context::{ContextTags, Path, VlanTags};
pub use counters::CacheCounters;
pub use facts::{
    Classified, IcmpKey, KeyOptions, PacketFacts, TcpFlags, TransportFacts, classify, packet_facts,
    path, proto, quoted_tuple,
};
pub use frag::{
    Datagram, FragmentFull, FragmentKey, FragmentOptions, FragmentPart, FragmentTable, Ports,
};
pub use hash::FlowHash;
pub use key::{FlowKey, Side, Tuple};
pub use options::{
    CONTEXTS_MAX, CacheError, CacheOptions, FLOWS_MAX, FLOWS_MAX_LIMIT, InitiatorRule,
    LISTENERS_MAX, PATHS_MAX, SWEEP_PERIOD_NS, Timeouts,
};
pub use packet::KeyHeader;
pub use record::RecordSink;
pub use verdict::Verdict;
