//! What a cache is made with. Every limit has a unit, a default and a stated behaviour.

const SECOND_NS: u64 = 1_000_000_000;

/// Default of [`CacheOptions::flows_max`].
pub const FLOWS_MAX: u32 = 1 << 20;
/// Most flows one cache can be made for: an entry's number has 27 bits in the index.
pub const FLOWS_MAX_LIMIT: u32 = 100_000_000;
/// Default of [`CacheOptions::contexts_max`].
pub const CONTEXTS_MAX: u16 = 16_384;
/// Default of [`CacheOptions::paths_max`].
pub const PATHS_MAX: u32 = 65_536;
/// Default of [`CacheOptions::listeners_max`].
pub const LISTENERS_MAX: u32 = 16_384;
/// Default of [`ScanOptions::sources_max`].
pub const SOURCES_MAX: u32 = 4096;
/// Default of [`ScanOptions::records_per_second`].
pub const SOURCE_RECORDS_PER_SECOND: u32 = 100;
/// Default of [`ScanOptions::burst`].
pub const SOURCE_BURST: u32 = 1000;
/// Default of [`ScanOptions::core_records_per_second`].
pub const CORE_RECORDS_PER_SECOND: u32 = 20_000;
/// Default of [`ScanOptions::core_burst`]: half a record ring of the default size.
pub const CORE_BURST: u32 = 32_768;
/// Default of [`CacheOptions::sweep_period_ns`].
pub const SWEEP_PERIOD_NS: u64 = SECOND_NS;
/// Largest [`ScanOptions::sources_max`].
pub const SOURCES_MAX_LIMIT: u32 = 1 << 20;
/// Longest [`CacheOptions::sweep_period_ns`].
pub(crate) const SWEEP_PERIOD_MAX_NS: u64 = 100 * SECOND_NS;

/// How a cache is made. Check with [`CacheOptions::validate`]; [`FlowCache::new`] does.
///
/// [`FlowCache::new`]: crate::FlowCache::new
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Flows the cache holds. Default [`FLOWS_MAX`]. Beyond it a new flow takes the entry of the
    /// oldest embryonic one; without any it is refused ([`Admission::Full`]).
    ///
    /// [`Admission::Full`]: crate::Admission::Full
    pub flows_max: u32,
    /// Flows of `flows_max` that may be embryonic: seen in one direction only, or with an
    /// unfinished TCP handshake. 0 means a quarter of `flows_max`, the default. Beyond it a new
    /// flow takes the entry of the oldest embryonic one (reason lack-of-resources).
    ///
    /// A quarter: a SYN flood of a million flows a second then still leaves an honest handshake
    /// a quarter of a second (with a million entries) before it is pushed out, which is many
    /// round trips inside one site, while three quarters stay out of any flood's reach.
    pub embryonic_max: u32,
    /// Distinct VLAN stacks and tunnels that may key flows at one time. Default
    /// [`CONTEXTS_MAX`]. Beyond it [`FlowCache::intern_context`] refuses, counted.
    ///
    /// [`FlowCache::intern_context`]: crate::FlowCache::intern_context
    pub contexts_max: u16,
    /// Distinct paths (VLAN stack, tunnel, outer addresses) that live flows may have. Default
    /// [`PATHS_MAX`]. A flow beyond it is kept without its path, counted.
    pub paths_max: u32,
    /// Listeners remembered as evidence for the initiator of later flows. Default
    /// [`LISTENERS_MAX`]. Beyond it an older one is forgotten.
    pub listeners_max: u32,
    /// When flows end without a packet, and when long ones are told in between.
    pub timeouts: Timeouts,
    /// How long one pass of the sweep over all entries takes, nanoseconds: 1 to 100 s, default 1 s.
    /// Timeouts are noticed this much late, at most.
    pub sweep_period_ns: u64,
    /// The same while hardly any flow begins: for a pass not one to every 64 entries looked at.
    /// `sweep_period_ns` to 100 s, default the same 1 s.
    pub sweep_quiet_period_ns: u64,
    /// How the initiator of a flow is decided.
    pub initiator: InitiatorRule,
    /// Whether a SYN on a closed flow ends that flow and starts another. Default true.
    pub tcp_reuse: bool,
    /// Whether to follow TCP sequence numbers and count retransmissions. Default false: it takes
    /// a second cache line per packet of an established TCP flow; the README says what that costs.
    pub tcp_quality: bool,
    /// Core that owns the cache: the top byte of every flow id.
    pub worker: u8,
    /// When the flows of one source are told together.
    pub scan: ScanOptions,
}

/// When the flows of a source are folded into an aggregate instead of being told one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Sources, each under one decision, that have a budget and an aggregate of their own at one
    /// time; rounded up to eight times a power of two. Default [`SOURCES_MAX`]. What denied sources
    /// beyond them send is added up in one aggregate for each deciding rule. 0: nothing is folded.
    pub sources_max: u32,
    /// Denied and unanswered flows of one source that are told one by one, a second. Default
    /// [`SOURCE_RECORDS_PER_SECOND`].
    pub records_per_second: u32,
    /// As many at once after a silence. Default [`SOURCE_BURST`].
    pub burst: u32,
    /// Denied flows of all sources of this core that are told one by one, a second. Default
    /// [`CORE_RECORDS_PER_SECOND`].
    pub core_records_per_second: u32,
    /// As many at once after a silence. Default [`CORE_BURST`].
    pub core_burst: u32,
}

impl ScanOptions {
    /// Every flow is told by itself.
    pub const OFF: Self = Self {
        sources_max: 0,
        records_per_second: 1,
        burst: 1,
        core_records_per_second: 1,
        core_burst: 1,
    };
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            sources_max: SOURCES_MAX,
            records_per_second: SOURCE_RECORDS_PER_SECOND,
            burst: SOURCE_BURST,
            core_records_per_second: CORE_RECORDS_PER_SECOND,
            core_burst: CORE_BURST,
        }
    }
}

/// How the initiator of a flow is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitiatorRule {
    /// By the best evidence seen; better evidence later turns the flow round.
    #[default]
    Evidence,
    /// The sender of the flow's first packet, whatever flags and ports say.
    FirstSender,
}

/// Idle and active timeouts, nanoseconds. [`Timeouts::NEVER`] switches one off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A flow that has not been told yet is told (record kind update) this long after its first
    /// packet, so that nobody waits for the active timeout to see a flow that lives. Default 5 s.
    /// Costs one record more for every flow that has packets after that. A longer one than
    /// `active_ns` never comes.
    pub first_active_ns: u64,
    /// A long flow is told in between (record kind update) this long after the first packet that
    /// the coming record counts. Default 60 s.
    pub active_ns: u64,
    /// TCP, handshake not finished. Default 20 s.
    pub tcp_opening_ns: u64,
    /// TCP, established, both directions seen. Default 300 s.
    pub tcp_established_ns: u64,
    /// TCP without a handshake, one direction seen. Default 60 s.
    pub tcp_one_way_ns: u64,
    /// TCP, FIN seen. Default 10 s.
    pub tcp_closing_ns: u64,
    /// TCP, FIN both ways and acknowledged, or RST. Default 2 s.
    pub tcp_closed_ns: u64,
    /// UDP and UDP-Lite, one direction seen. Default 30 s.
    pub udp_single_ns: u64,
    /// UDP and UDP-Lite, both directions seen. Default 120 s.
    pub udp_paired_ns: u64,
    /// ICMP and ICMPv6. Default 10 s.
    pub icmp_ns: u64,
    /// Every other protocol. Default 60 s.
    pub other_ns: u64,
}

impl Timeouts {
    /// A timeout that never comes.
    pub const NEVER: u64 = u64::MAX;

    /// No timeouts at all: a flow lasts until the cache is flushed.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            first_active_ns: Self::NEVER,
            active_ns: Self::NEVER,
            tcp_opening_ns: Self::NEVER,
            tcp_established_ns: Self::NEVER,
            tcp_one_way_ns: Self::NEVER,
            tcp_closing_ns: Self::NEVER,
            tcp_closed_ns: Self::NEVER,
            udp_single_ns: Self::NEVER,
            udp_paired_ns: Self::NEVER,
            icmp_ns: Self::NEVER,
            other_ns: Self::NEVER,
        }
    }

    /// How long after the first packet that it counts the coming record of a live flow is due.
    /// `recorded`: it is not the flow's first.
    #[inline]
    pub(crate) const fn record_after_ns(&self, recorded: bool) -> u64 {
        if recorded || self.active_ns < self.first_active_ns {
            self.active_ns
        } else {
            self.first_active_ns
        }
    }

    /// The shortest idle timeout.
    #[must_use]
    pub fn idle_min_ns(&self) -> u64 {
        [
            self.tcp_opening_ns,
            self.tcp_established_ns,
            self.tcp_one_way_ns,
            self.tcp_closing_ns,
            self.tcp_closed_ns,
            self.udp_single_ns,
            self.udp_paired_ns,
            self.icmp_ns,
            self.other_ns,
        ]
        .into_iter()
        .fold(Self::NEVER, u64::min)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_active_ns: 5 * SECOND_NS,
            active_ns: 60 * SECOND_NS,
            tcp_opening_ns: 20 * SECOND_NS,
            tcp_established_ns: 300 * SECOND_NS,
            tcp_one_way_ns: 60 * SECOND_NS,
            tcp_closing_ns: 10 * SECOND_NS,
            tcp_closed_ns: 2 * SECOND_NS,
            udp_single_ns: 30 * SECOND_NS,
            udp_paired_ns: 120 * SECOND_NS,
            icmp_ns: 10 * SECOND_NS,
            other_ns: 60 * SECOND_NS,
        }
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            flows_max: FLOWS_MAX,
            embryonic_max: 0,
            contexts_max: CONTEXTS_MAX,
            paths_max: PATHS_MAX,
            listeners_max: LISTENERS_MAX,
            timeouts: Timeouts::default(),
            sweep_period_ns: SWEEP_PERIOD_NS,
            sweep_quiet_period_ns: SWEEP_PERIOD_NS,
            initiator: InitiatorRule::Evidence,
            tcp_reuse: true,
            tcp_quality: false,
            worker: 0,
            scan: ScanOptions::default(),
        }
    }
}

/// Why a cache could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// `flows_max` is 0 or too large.
    #[error("flows_max is {flows_max}: choose 1 to {FLOWS_MAX_LIMIT}")]
    FlowsMax {
        /// What was asked for.
        flows_max: u32,
    },
    /// `embryonic_max` is larger than `flows_max`.
    #[error("embryonic_max is {embryonic_max}: choose at most flows_max, {flows_max}")]
    EmbryonicMax {
        /// What was asked for.
        embryonic_max: u32,
        /// Flows of the cache.
        flows_max: u32,
    },
    /// `paths_max`, `listeners_max` or `scan.sources_max` is too large.
    #[error("{name} is {value}: choose at most {max}")]
    TableMax {
        /// Which option.
        name: &'static str,
        /// What was asked for.
        value: u32,
        /// Its limit.
        max: u32,
    },
    /// `sweep_period_ns` is 0, or `sweep_quiet_period_ns` shorter or too long.
    #[error(
        "sweep_period_ns: choose 1 to {SWEEP_PERIOD_MAX_NS}, and sweep_quiet_period_ns no shorter"
    )]
    SweepPeriod,
    /// The memory is not there.
    #[error("the flow cache needs {bytes} bytes, which this process cannot get: lower flows_max")]
    Memory {
        /// What all tables take together.
        bytes: usize,
    },
}

impl CacheOptions {
    /// For comparison with truth computed over a whole capture: one flow per key from the first
    /// packet to the flush, initiator = first sender, no eviction before the cache is full.
    #[must_use]
    pub fn truth(flows_max: u32) -> Self {
        Self {
            flows_max,
            embryonic_max: flows_max,
            timeouts: Timeouts::none(),
            initiator: InitiatorRule::FirstSender,
            tcp_reuse: false,
            scan: ScanOptions::OFF,
            ..Self::default()
        }
    }

    /// The share of embryonic flows in force.
    #[must_use]
    pub const fn embryonic_max(&self) -> u32 {
        if self.embryonic_max != 0 {
            self.embryonic_max
        } else if self.flows_max < 4 {
            1
        } else {
            self.flows_max / 4
        }
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// The first option out of its range.
    pub const fn validate(&self) -> Result<(), CacheError> {
        let flows_max = self.flows_max;
        if flows_max == 0 || flows_max > FLOWS_MAX_LIMIT {
            return Err(CacheError::FlowsMax { flows_max });
        }
        if self.embryonic_max > flows_max {
            return Err(CacheError::EmbryonicMax {
                embryonic_max: self.embryonic_max,
                flows_max,
            });
        }
        if self.paths_max > FLOWS_MAX_LIMIT {
            return Err(CacheError::TableMax {
                name: "paths_max",
                value: self.paths_max,
                max: FLOWS_MAX_LIMIT,
            });
        }
        if self.scan.sources_max > SOURCES_MAX_LIMIT {
            return Err(CacheError::TableMax {
                name: "scan.sources_max",
                value: self.scan.sources_max,
                max: SOURCES_MAX_LIMIT,
            });
        }
        if self.listeners_max > FLOWS_MAX_LIMIT {
            return Err(CacheError::TableMax {
                name: "listeners_max",
                value: self.listeners_max,
                max: FLOWS_MAX_LIMIT,
            });
        }
        let (period, quiet) = (self.sweep_period_ns, self.sweep_quiet_period_ns);
        if period == 0 || quiet < period || quiet > SWEEP_PERIOD_MAX_NS {
            return Err(CacheError::SweepPeriod);
        }
        Ok(())
    }
}
