//! From a configuration to EAL, buffers, started ports and the lanes of each worker.

mod deal;

use crate::claim::{ClaimError, InterfaceClaim};
use crate::config::{Hugepages, ValidConfig};
use crate::dpdk_port::{DpdkMaker, DpdkPort, DpdkTransmit};
use crate::kernel_link::KernelLink;
use crate::steered_lane::OwnerPort;
use crate::worker::LaneOf;
use abi::stats::LaneFacts;
use dpdk::{
    CaptureError, CaptureFile, Eal, EalError, EalOptions, Memory, Mempool, PoolError, PoolOptions,
    Port, PortConfig, PortError, PortSpec, PortSpecError, ProbedPort,
};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// Buffers that every port may hold in its queues, on top of what is configured.
const MBUFS_PER_PORT: u32 = 2 * 1024;
/// Bytes that a frame has beyond the MTU: Ethernet header and two VLAN tags.
const LINK_BYTES: u32 = 14 + 2 * 4;
/// MiB of ordinary memory on top of the buffers, for rings and devices.
const ORDINARY_EXTRA_MB: u64 = 64;

/// Why the dataplane did not start. The message is shown to the operator as is.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port's name is not one.
    #[error("lane `{lane}`: {source}")]
    Name {
        /// Name of the lane.
        lane: String,
        /// What is wrong.
        source: PortSpecError,
    },
    /// The host does not have the port.
    #[error("lane `{lane}`: {source}")]
    Spec {
        /// Name of the lane.
        lane: String,
        /// What is wrong.
        source: PortSpecError,
    },
    /// A capture cannot be read.
    #[error("lane `{lane}`: {source}")]
    Capture {
        /// Name of the lane.
        lane: String,
        /// What is wrong.
        source: CaptureError,
    },
    /// An interface belongs to another appliance, or to another lane.
    #[error("lane `{lane}`: {source}")]
    Claim {
        /// Name of the lane.
        lane: String,
        /// What is wrong.
        source: ClaimError,
    },
    /// EAL did not start.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The buffers could not be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A port did not start.
    #[error("lane `{lane}`: {source}")]
    Port {
        /// Name of the lane.
        lane: String,
        /// What is wrong.
        source: PortError,
    },
}

/// The port of a lane before EAL starts.
struct PlannedPort {
    lane: String,
    spec: PortSpec,
    /// Workers of its lane.
    workers: usize,
    /// Frames that an endless capture keeps in memory.
    preloaded_frames: u32,
    /// The capture is one that the port would not read to its end: it gets a plain copy here, which
    /// is removed once it is open.
    plain_copy: Option<PathBuf>,
}

type FrameBurst = <DpdkPort as crate::port::Port>::Burst;

/// A started port, as the workers of its lane have it.
struct PortEnds {
    /// The first, which receives.
    receiver: DpdkPort,
    /// The others.
    owners: Vec<OwnerPort<FrameBurst>>,
}

/// What is known before EAL starts: everything that can be checked without it has been.
pub struct Plan {
    ports: Vec<PlannedPort>,
}

/// Everything that runs on libdpdk.
pub struct Started {
    /// Keeps libdpdk.
    pub eal: Eal,
    /// All ports, in the order of the stats segment.
    pub ports: Vec<Port>,
    /// What the kernel knows about the link of each.
    pub kernel_links: Vec<KernelLink>,
    /// The lanes of each worker.
    pub lanes: Vec<Vec<LaneOf<DpdkPort>>>,
    /// The same lanes as `status` tells them.
    pub facts: Vec<LaneFacts>,
    /// The interfaces of all ports, this process's own for as long as these live: keep them longer
    /// than the ports.
    pub claims: Vec<InterfaceClaim>,
}

impl Plan {
    /// Checks every port of the configuration against the host.
    ///
    /// # Errors
    /// [`StartError`] that names the lane, the port and what to do.
    pub fn new(config: &ValidConfig) -> Result<Self, StartError> {
        let mut ports = Vec::new();
        for lane in &config.lanes {
            for text in lane.ports.names() {
                let run_dir = &config.config.dataplane.run_dir;
                let mut port = plan_port(&lane.name, text, run_dir, config.config.replay.checked)?;
                port.workers = lane.workers.len();
                ports.push(port);
            }
        }
        Ok(Self { ports })
    }

    /// How many ports the stats segment needs.
    #[must_use]
    pub fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// Claims the interfaces, starts EAL, takes the buffers, starts the ports.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(&self, config: &ValidConfig) -> Result<Started, StartError> {
        let claims = self.claim_interfaces()?;
        let pool_options = self.pool_options(config);
        let eal = start_eal(config, &self.ports, &pool_options)?;
        let pool = Mempool::create(&eal, &pool_options)?;
        let mut ports = Vec::new();
        let mut handles = Vec::new();
        for planned in &self.ports {
            let (port, ends) = start_port(&eal, planned, &pool)?;
            ports.push(port);
            handles.push(ends);
        }
        // Now, because a tap has its interface only since its port was started.
        let interfaces = self.ports.iter().map(|port| port.spec.interfaces());
        let kernel_links = interfaces.map(|names| KernelLink::watch(&names)).collect();
        let (lanes, facts) = deal::deal_lanes(config, handles);
        Ok(Started {
            eal,
            ports,
            kernel_links,
            lanes,
            facts,
            claims,
        })
    }

    /// Nothing of the host has been touched before this has gone well.
    fn claim_interfaces(&self) -> Result<Vec<InterfaceClaim>, StartError> {
        let mut claims = Vec::new();
        for port in &self.ports {
            for interface in port.spec.interfaces() {
                let claim = InterfaceClaim::take(interface);
                claims.push(claim.map_err(|source| StartError::Claim {
                    lane: port.lane.clone(),
                    source,
                })?);
            }
        }
        Ok(claims)
    }

    fn pool_options(&self, config: &ValidConfig) -> PoolOptions {
        let preloaded: u32 = self.ports.iter().map(|port| port.preloaded_frames).sum();
        let held = u32::try_from(self.ports.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(MBUFS_PER_PORT);
        // Each of them may be full, on the way there and on the way back.
        let rings: usize = self.ports.iter().map(|port| 2 * (port.workers - 1)).sum();
        let in_rings = u32::try_from(rings)
            .unwrap_or(u32::MAX)
            .saturating_mul(config.config.memory.resteer_ring_packets);
        PoolOptions {
            mbufs: config
                .config
                .memory
                .mbufs
                .saturating_add(preloaded)
                .saturating_add(held)
                .saturating_add(in_rings),
            data_room_bytes: config.config.memory.mbuf_bytes,
            ..PoolOptions::named("ringfence")
        }
    }
}

/// A capture that `is_checked` is whole, and read once.
fn plan_port(
    lane: &str,
    text: &str,
    run_dir: &Path,
    is_checked: bool,
) -> Result<PlannedPort, StartError> {
    let spec: PortSpec = text.parse().map_err(|source| StartError::Name {
        lane: lane.to_owned(),
        source,
    })?;
    spec.check().map_err(|source| StartError::Spec {
        lane: lane.to_owned(),
        source,
    })?;
    let mut preloaded_frames = 0;
    let mut plain_copy = None;
    if let PortSpec::Pcap {
        input: Some(path),
        infinite,
        ..
    } = &spec
        && (*infinite || !is_checked)
    {
        let unreadable = |source| StartError::Capture {
            lane: lane.to_owned(),
            source,
        };
        let file = CaptureFile::open(path).map_err(unreadable)?;
        let summary = file.summary().map_err(unreadable)?;
        if let Some((frame, damage)) = summary.damaged_at {
            eprintln!(
                "warning: {}: damaged at frame {frame}: {damage}; the {} frames before it are read",
                path.display(),
                summary.frames
            );
        }
        if summary.port_stops_at.is_some() && !*infinite {
            plain_copy = Some(run_dir.join(format!("{lane}.pcap")));
        }
        if *infinite {
            preloaded_frames = u32::try_from(summary.port_frames()).unwrap_or(u32::MAX);
        }
    }
    Ok(PlannedPort {
        lane: lane.to_owned(),
        spec,
        workers: 1,
        preloaded_frames,
        plain_copy,
    })
}

fn start_eal(
    config: &ValidConfig,
    ports: &[PlannedPort],
    pool: &PoolOptions,
) -> Result<Eal, EalError> {
    let ordinary_mb = ((pool.memory_bytes() * 5 / 4) >> 20) + ORDINARY_EXTRA_MB;
    let ordinary = Memory::Ordinary {
        mb: NonZeroU32::new(u32::try_from(ordinary_mb).unwrap_or(u32::MAX))
            .unwrap_or(NonZeroU32::MIN),
    };
    let main_cpu = config
        .config
        .dataplane
        .main_cpu
        .and_then(|cpu| u16::try_from(cpu).ok());
    let options = |memory| EalOptions {
        main_cpu,
        memory,
        file_prefix: Some(config.config.eal.prefix(&config.config.dataplane.run_dir)),
        lock_memory: !config.config.replay.finish,
        pci_allow: ports
            .iter()
            .filter_map(|port| port.spec.pci_address())
            .collect(),
        ..EalOptions::default()
    };
    match config.config.memory.hugepages {
        Hugepages::Never => Eal::start(&options(ordinary)),
        Hugepages::Always => Eal::start(&options(Memory::PrivateHugepages { mb: None })),
        Hugepages::Auto => match Eal::start(&options(Memory::PrivateHugepages { mb: None })) {
            Err(
                why @ (EalError::NoHugepages { .. }
                | EalError::TooFewHugepages { .. }
                | EalError::HugepagesNotMounted),
            ) => {
                eprintln!("memory: {why}; going on with ordinary memory, which is slower");
                Eal::start(&options(ordinary))
            }
            started => started,
        },
    }
}

fn start_port(
    eal: &Eal,
    planned: &PlannedPort,
    pool: &Mempool,
) -> Result<(Port, PortEnds), StartError> {
    let refused = |source| StartError::Port {
        lane: planned.lane.clone(),
        source,
    };
    let spec = readable(planned)?;
    let probed = ProbedPort::probe(eal, &spec).map_err(refused)?;
    let workers = u16::try_from(planned.workers).unwrap_or(u16::MAX);
    let facts = probed.facts();
    let has_queue_each = facts.tx_queues_apart && facts.tx_queues_max >= workers;
    let port_config = PortConfig {
        tx_queues: if has_queue_each { workers } else { 1 },
        ..PortConfig::default()
    };
    let (port, rx, tx) = probed.start(&port_config, pool).map_err(refused)?;
    let mut tx = tx.into_iter();
    let (Some(rx), Some(first)) = (rx.into_iter().next(), tx.next()) else {
        unreachable!("a port is started with a queue each way");
    };
    let frame_bytes_max = port
        .mtu()
        .map_or(u32::MAX, |mtu| u32::from(mtu) + LINK_BYTES);
    if let Some(copy) = &planned.plain_copy {
        // The port holds it open; nobody else needs it.
        let _ = std::fs::remove_file(copy);
    }
    let finite = matches!(
        planned.spec,
        PortSpec::Pcap {
            input: Some(_),
            infinite: false,
            ..
        }
    );
    let owners = (1..planned.workers).map(|_| OwnerPort::<FrameBurst> {
        queue: tx
            .next()
            .map(|queue| Box::new(DpdkTransmit(queue)) as Box<_>),
        maker: Box::new(DpdkMaker(pool.clone())),
        frame_bytes_max,
    });
    let owners = owners.collect();
    let receiver = DpdkPort::new(rx, first, pool.clone(), frame_bytes_max, finite);
    Ok((port, PortEnds { receiver, owners }))
}

/// The port's own capture, or a plain copy of one that libpcap stops reading in the middle.
fn readable(planned: &PlannedPort) -> Result<PortSpec, StartError> {
    let mut spec = planned.spec.clone();
    if let (
        Some(copy),
        PortSpec::Pcap {
            input: Some(path), ..
        },
    ) = (&planned.plain_copy, &mut spec)
    {
        let unreadable = |source| StartError::Capture {
            lane: planned.lane.clone(),
            source,
        };
        CaptureFile::open(path)
            .and_then(|file| file.write_plain(copy))
            .map_err(unreadable)?;
        path.clone_from(copy);
    }
    Ok(spec)
}
