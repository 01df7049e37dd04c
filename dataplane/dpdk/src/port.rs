//! A port: probed, then started with its queues, closed when the last handle on it is dropped.

mod error;

use std::ffi::{CStr, CString};
use std::fmt;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::capture::CaptureFile;
use crate::eal::{Eal, capture_log};
use crate::errno::Errno;
use crate::mempool::Mempool;
use crate::queue::{PortIndex, RxQueue, TxQueue};
use crate::ring::Cable;
use crate::spec::PortSpec;

pub use error::PortError;

/// Bytes that a frame has beyond the MTU: Ethernet header and two VLAN tags.
const FRAME_OVERHEAD_BYTES: u32 = 14 + 2 * 4;

/// Mbufs that a port which repeats a capture needs beside its frames.
pub(crate) const BURSTS_MBUFS: u64 = 64;

/// The Toeplitz key whose hash is the same for both directions of a flow: 16 bits repeated, so
/// that swapping two 32-bit addresses or two 16-bit ports changes nothing.
const SYMMETRIC_KEY_PAIR: [u8; 2] = [0x6d, 0x5a];
/// The longest key that devices of libdpdk 22.11 take.
const RSS_KEY_BYTES_MAX: usize = 128;

/// How a port is started.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Receive queues; each needs its own polling thread.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of each receive queue, brought within the device's limits.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue, brought within the device's limits.
    pub tx_descriptors: u16,
    /// Longest IP packet in bytes; `None` for the device's default, 1500. Frames may be longer
    /// than a buffer of the pool where the device scatters them.
    pub mtu: Option<u16>,
    /// Receive frames for every address, as a bump in the wire must.
    pub promiscuous: bool,
    /// Have hardware stamp frames. The unit is that of the device's clock; capture files stamp
    /// in nanoseconds and always.
    pub rx_timestamps: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        PortConfig {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
            promiscuous: true,
            rx_timestamps: false,
        }
    }
}

/// What a device is and can do.
#[derive(Clone, Debug)]
pub struct PortFacts {
    /// The driver, such as `net_pcap`.
    pub driver: String,
    /// Most receive queues.
    pub rx_queues_max: u16,
    /// Most transmit queues.
    pub tx_queues_max: u16,
    /// Whether transmit queues can be more than receive queues. A driver on sockets or rings has
    /// pairs, and gives frames to every receive queue that there is, polled or not.
    pub tx_queues_apart: bool,
    /// Longest MTU.
    pub mtu_max: u16,
    /// NUMA node of the device; `None` where it has none.
    pub numa_node: Option<u16>,
    /// Whether the hash that spreads frames over queues is the same for both directions.
    pub symmetric_rss: bool,
    /// Whether hardware can stamp received frames.
    pub rx_timestamps: bool,
    /// Whether frames longer than a buffer are received in several.
    pub scatters: bool,
}

/// Counters of a port since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device dropped because no descriptor was free (libdpdk's `imissed`).
    pub rx_missed: u64,
    /// Frames that the device found damaged (`ierrors`).
    pub rx_errors: u64,
    /// Frames that could not be sent (`oerrors`).
    pub tx_errors: u64,
    /// Times that no mbuf was free for a frame (`rx_nombuf`).
    pub no_mbuf: u64,
}

/// State of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether frames can pass.
    pub up: bool,
    /// Megabits per second; `None` where the device does not know.
    pub speed_mbps: Option<u32>,
}

/// A device that libdpdk knows, closed when the last handle on it is dropped.
pub(crate) struct Open {
    pub(crate) index: PortIndex,
    spec: String,
    /// The device, for its removal from its bus.
    device: *mut sys::rte_device,
    /// Receives into it until the port is closed.
    pool: Option<Mempool>,
    /// Joined to another port by it.
    cable: Option<Arc<Cable>>,
    pub(crate) eal: Eal,
}

// SAFETY: ports of libdpdk are not tied to a thread; starting and closing happen under the
// control lock, and counters may be read from any thread.
unsafe impl Send for Open {}
// SAFETY: as above.
unsafe impl Sync for Open {}

/// A device that has been found and is not started.
pub struct ProbedPort {
    open: Open,
    facts: PortFacts,
    limits: Limits,
    spec: PortSpec,
}

/// What of `rte_eth_dev_info` starting needs.
struct Limits {
    rx_offloads: u64,
    tx_offloads: u64,
    rss_functions: u64,
    hash_key_bytes: usize,
}

/// A started port. Its queues keep it open; it closes when they and this are dropped.
#[derive(Debug)]
pub struct Port {
    open: Arc<Open>,
    facts: PortFacts,
}

impl ProbedPort {
    /// Finds the device that `spec` names, making it where it is virtual.
    ///
    /// # Errors
    /// [`PortError`]: what the host does not have, what the driver refuses.
    pub fn probe(eal: &Eal, spec: &PortSpec) -> Result<ProbedPort, PortError> {
        spec.check()?;
        let port = spec.to_string();
        let mut control = eal.control();
        let (found, log) = capture_log(|| match spec {
            PortSpec::Ring { name } => {
                Cable::plug_in(&mut control, name).map(|(index, cable)| (index, Some(cable)))
            }
            _ => {
                let devargs = spec.devargs(control.devices_made);
                control.devices_made += 1;
                probe_device(&devargs).map(|index| (index, None))
            }
        });
        drop(control);
        let (index, cable) = match found {
            Ok(found) => found,
            Err(_) if says_permission(&log) => return Err(PortError::NoPermission { port, log }),
            Err(_) => return Err(PortError::Probe { port, log }),
        };
        let mut open = Open {
            index: PortIndex(index),
            spec: port,
            device: std::ptr::null_mut(),
            pool: None,
            cable,
            eal: eal.clone(),
        };
        let details = device_info(index).map_err(|errno| open.refused("ask what it is", errno))?;
        open.device = details.device;
        let facts = facts(index, &details);
        let limits = Limits {
            rx_offloads: details.rx_offload_capa,
            tx_offloads: details.tx_offload_capa,
            rss_functions: details.flow_type_rss_offloads & sys::SHIM_RSS_ADDRESSES_AND_PORTS,
            hash_key_bytes: usize::from(details.hash_key_size),
        };
        Ok(ProbedPort {
            open,
            facts,
            limits,
            spec: spec.clone(),
        })
    }

    /// What the device is and can do.
    #[must_use]
    pub fn facts(&self) -> &PortFacts {
        &self.facts
    }

    /// Starts the port, receiving into `pool`, and hands out its queues.
    ///
    /// # Errors
    /// [`PortError`]: more than the device has, or what libdpdk refuses.
    pub fn start(
        mut self,
        config: &PortConfig,
        pool: &Mempool,
    ) -> Result<(Port, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        self.check(config, pool)?;
        let eal = self.open.eal.clone();
        let control = eal.control();
        // Held first: queues that are set up refer to the pool.
        self.open.pool = Some(pool.clone());
        let (outcome, log) = capture_log(|| self.start_steps(config, pool));
        drop(control);
        if let Err((step, errno)) = outcome {
            let port = self.open.spec.clone();
            return Err(PortError::Refused {
                port,
                step,
                errno,
                log,
            });
        }
        // net_pcap stamps in microseconds, and not at all when it repeats a capture.
        let repeats = matches!(self.spec, PortSpec::Pcap { infinite: true, .. });
        let stamps_microseconds = self.facts.driver == "net_pcap" && !repeats;
        let factor = if stamps_microseconds { 1000 } else { 1 };
        let open = Arc::new(self.open);
        let rx = (0..config.rx_queues).map(|queue| RxQueue::new(Arc::clone(&open), queue, factor));
        let tx = (0..config.tx_queues).map(|queue| TxQueue::new(Arc::clone(&open), queue));
        let (rx, tx) = (rx.collect(), tx.collect());
        Ok((
            Port {
                open,
                facts: self.facts,
            },
            rx,
            tx,
        ))
    }

    fn check(&self, config: &PortConfig, pool: &Mempool) -> Result<(), PortError> {
        let (facts, port) = (&self.facts, || self.open.spec.clone());
        if config.rx_queues > facts.rx_queues_max || config.tx_queues > facts.tx_queues_max {
            return Err(PortError::TooManyQueues {
                port: port(),
                wanted_rx: config.rx_queues,
                wanted_tx: config.tx_queues,
                rx_max: facts.rx_queues_max,
                tx_max: facts.tx_queues_max,
            });
        }
        let data_room_bytes = pool.data_room_bytes();
        let frame_bytes = self.spec.data_room_bytes_min().unwrap_or(0);
        if frame_bytes > u32::from(data_room_bytes) {
            return Err(PortError::BufferTooSmall {
                port: port(),
                frame_bytes,
                data_room_bytes,
            });
        }
        if let PortSpec::Pcap {
            input: Some(path),
            infinite: true,
            ..
        } = &self.spec
        {
            check_preload(port(), path, pool)?;
        }
        let Some(mtu) = config.mtu else { return Ok(()) };
        if mtu > facts.mtu_max {
            return Err(PortError::MtuTooLarge {
                port: port(),
                mtu,
                mtu_max: facts.mtu_max,
            });
        }
        let frame_bytes = u32::from(mtu) + FRAME_OVERHEAD_BYTES;
        if frame_bytes > u32::from(data_room_bytes) && !facts.scatters {
            return Err(PortError::BufferTooSmall {
                port: port(),
                frame_bytes,
                data_room_bytes,
            });
        }
        Ok(())
    }

    fn start_steps(
        &self,
        config: &PortConfig,
        pool: &Mempool,
    ) -> Result<(), (&'static str, Errno)> {
        let port = self.open.index.0;
        let mut key = [0; RSS_KEY_BYTES_MAX];
        for pair in key.chunks_exact_mut(2) {
            pair.copy_from_slice(&SYMMETRIC_KEY_PAIR);
        }
        let conf = self.device_config(config, pool, &mut key);
        // SAFETY: the port exists and is stopped; `conf` and the key it points to outlive the
        // call, which copies them.
        let status =
            unsafe { sys::rte_eth_dev_configure(port, config.rx_queues, config.tx_queues, &conf) };
        outcome("configure it", status)?;
        let (mut rx_size, mut tx_size) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: two live integers.
        let status =
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(port, &mut rx_size, &mut tx_size) };
        outcome("size its queues", status)?;
        // SAFETY: the port exists.
        let socket = unsafe { sys::rte_eth_dev_socket_id(port) }.cast_unsigned();
        for queue in 0..config.rx_queues {
            // SAFETY: null asks for the driver's defaults; `open.pool` keeps the pool until the
            // port is closed.
            let status = unsafe {
                let defaults = std::ptr::null();
                sys::rte_eth_rx_queue_setup(port, queue, rx_size, socket, defaults, pool.raw())
            };
            outcome("set up a receive queue", status)?;
        }
        for queue in 0..config.tx_queues {
            // SAFETY: null asks for the driver's defaults.
            let status = unsafe {
                sys::rte_eth_tx_queue_setup(port, queue, tx_size, socket, std::ptr::null())
            };
            outcome("set up a transmit queue", status)?;
        }
        // SAFETY: configured, with all of its queues.
        outcome("start it", unsafe { sys::rte_eth_dev_start(port) })?;
        if config.promiscuous {
            // SAFETY: the port exists. Virtual devices have no such mode and see all frames.
            let status = unsafe { sys::rte_eth_promiscuous_enable(port) };
            if status != 0 && Errno::from_return(status).number() != ENOTSUP {
                return outcome("make it promiscuous", status);
            }
        }
        Ok(())
    }

    fn device_config(
        &self,
        config: &PortConfig,
        pool: &Mempool,
        key: &mut [u8; RSS_KEY_BYTES_MAX],
    ) -> sys::rte_eth_conf {
        let mut conf = sys::rte_eth_conf::default();
        let frame_bytes = u32::from(config.mtu.unwrap_or(1500)) + FRAME_OVERHEAD_BYTES;
        conf.rxmode.mtu = config.mtu.map_or(0, u32::from);
        let mut rx_offloads = 0;
        if frame_bytes > u32::from(pool.data_room_bytes()) {
            rx_offloads |= sys::SHIM_RX_OFFLOAD_SCATTER;
        }
        if config.rx_timestamps {
            rx_offloads |= sys::SHIM_RX_OFFLOAD_TIMESTAMP;
        }
        if config.rx_queues > 1 && self.limits.rss_functions != 0 {
            rx_offloads |= sys::SHIM_RX_OFFLOAD_RSS_HASH;
            conf.rxmode.mq_mode = sys::SHIM_MQ_RX_RSS;
            let rss = &mut conf.rx_adv_conf.rss_conf;
            rss.rss_hf = self.limits.rss_functions;
            if (1..=RSS_KEY_BYTES_MAX).contains(&self.limits.hash_key_bytes) {
                rss.rss_key = key.as_mut_ptr();
                rss.rss_key_len = u8::try_from(self.limits.hash_key_bytes).unwrap_or(0);
            }
        }
        conf.rxmode.offloads = rx_offloads & self.limits.rx_offloads;
        conf.txmode.offloads = sys::SHIM_TX_OFFLOAD_MULTI_SEGS & self.limits.tx_offloads;
        conf
    }
}

/// `ENOTSUP` of Linux.
const ENOTSUP: i32 = 95;

impl Port {
    /// Its number in this process.
    #[must_use]
    pub fn index(&self) -> PortIndex {
        self.open.index
    }

    /// What the device is and can do.
    #[must_use]
    pub fn facts(&self) -> &PortFacts {
        &self.facts
    }

    /// Counters since start. May ask the device or the kernel: not on the packet path.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        self.open.stats()
    }

    /// State of the link, without waiting for it.
    #[must_use]
    pub fn link(&self) -> LinkStatus {
        let mut link = sys::rte_eth_link::default();
        // SAFETY: the port exists; `link` is live.
        let status = unsafe { sys::rte_eth_link_get_nowait(self.open.index.0, &mut link) };
        let known = status == 0 && link.link_speed != 0 && link.link_speed != u32::MAX;
        LinkStatus {
            up: status == 0 && u32::from(link.link_status()) == sys::SHIM_LINK_UP,
            speed_mbps: known.then_some(link.link_speed),
        }
    }

    /// The Ethernet address of the device.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        let mut address = sys::rte_ether_addr::default();
        // SAFETY: the port exists; `address` is live.
        unsafe { sys::rte_eth_macaddr_get(self.open.index.0, &mut address) };
        address.addr_bytes
    }

    /// The MTU in force; `None` where the device cannot say.
    #[must_use]
    pub fn mtu(&self) -> Option<u16> {
        let mut mtu = 0;
        // SAFETY: the port exists; `mtu` is live.
        let status = unsafe { sys::rte_eth_dev_get_mtu(self.open.index.0, &mut mtu) };
        (status == 0).then_some(mtu)
    }
}

impl Open {
    pub(crate) fn stats(&self) -> PortStats {
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: the port exists; `stats` is live. Drivers' counters may be read at any time.
        unsafe { sys::rte_eth_stats_get(self.index.0, &mut stats) };
        PortStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            no_mbuf: stats.rx_nombuf,
        }
    }

    fn refused(&self, step: &'static str, errno: Errno) -> PortError {
        PortError::Refused {
            port: self.spec.clone(),
            step,
            errno,
            log: String::new(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let control = self.eal.control();
        let port = self.index.0;
        // SAFETY: every queue of the port held this, so no thread polls it. Errors on the way out
        // leave nothing to do: the process is done with the device either way.
        unsafe {
            sys::rte_eth_dev_stop(port);
            sys::rte_eth_dev_close(port);
            if !self.device.is_null() {
                sys::rte_dev_remove(self.device);
            }
        }
        // Released before the fields go: the pool takes the same lock.
        drop(control);
        self.cable = None;
        self.pool = None;
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Open")
            .field("index", &self.index)
            .field("spec", &self.spec)
            .finish()
    }
}

impl fmt::Debug for ProbedPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ProbedPort")
            .field("open", &self.open)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// Whether `infinite` can keep the capture. net_pcap of 22.11 checks the same, and then frees its
/// ring twice.
fn check_preload(port: String, path: &Path, pool: &Mempool) -> Result<(), PortError> {
    let summary = match CaptureFile::open(path).and_then(|file| file.summary()) {
        Ok(summary) => summary,
        Err(source) => return Err(PortError::Preload { port, source }),
    };
    let (frames, available) = (summary.port_frames(), pool.available_count());
    if frames.saturating_add(BURSTS_MBUFS) > u64::from(available) {
        return Err(PortError::PoolTooSmall {
            port,
            frames,
            available,
        });
    }
    let (frame_bytes, data_room_bytes) = (summary.frame_bytes_max, pool.data_room_bytes());
    if frame_bytes > u32::from(data_room_bytes) {
        return Err(PortError::BufferTooSmall {
            port,
            frame_bytes,
            data_room_bytes,
        });
    }
    Ok(())
}

fn outcome(step: &'static str, status: i32) -> Result<(), (&'static str, Errno)> {
    if status == 0 {
        Ok(())
    } else {
        Err((step, Errno::from_return(status)))
    }
}

fn says_permission(log: &str) -> bool {
    log.contains("Permission denied") || log.contains("Operation not permitted")
}

/// The port of a device that EAL found when it started, or that is made now.
fn probe_device(devargs: &CStr) -> Result<u16, Errno> {
    let name = devargs
        .to_bytes()
        .split(|byte| *byte == b',')
        .next()
        .unwrap_or_default();
    let name = CString::new(name).unwrap_or_default();
    let mut index = 0;
    // SAFETY: a C string and a live integer.
    if unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut index) } == 0 {
        return Ok(index);
    }
    // SAFETY: EAL has started; calls are one at a time under the control lock.
    let status = unsafe { sys::rte_dev_probe(devargs.as_ptr()) };
    if status != 0 {
        return Err(Errno::from_return(status));
    }
    // SAFETY: as above.
    let status = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut index) };
    if status == 0 {
        Ok(index)
    } else {
        Err(Errno::from_return(status))
    }
}

fn device_info(index: u16) -> Result<sys::rte_eth_dev_info, Errno> {
    let mut details = MaybeUninit::<sys::rte_eth_dev_info>::zeroed();
    // SAFETY: the port exists, and there is room for the answer.
    let status = unsafe { sys::rte_eth_dev_info_get(index, details.as_mut_ptr()) };
    if status != 0 {
        return Err(Errno::from_return(status));
    }
    // SAFETY: filled by the call; all of its fields may be zero as well.
    Ok(unsafe { details.assume_init() })
}

fn facts(index: u16, details: &sys::rte_eth_dev_info) -> PortFacts {
    let driver = if details.driver_name.is_null() {
        String::new()
    } else {
        // SAFETY: a static string of the driver.
        unsafe { CStr::from_ptr(details.driver_name) }
            .to_string_lossy()
            .into_owned()
    };
    // SAFETY: the port exists.
    let node = unsafe { sys::rte_eth_dev_socket_id(index) };
    let paired = [
        "net_af_packet",
        "net_af_xdp",
        "net_tap",
        "net_memif",
        "net_vhost",
        "net_virtio",
    ];
    let virtual_scatter = driver == "net_pcap";
    PortFacts {
        rx_queues_max: details.max_rx_queues,
        tx_queues_max: details.max_tx_queues,
        tx_queues_apart: !paired.iter().any(|name| driver.starts_with(name)),
        mtu_max: details.max_mtu,
        numa_node: u16::try_from(node).ok(),
        symmetric_rss: details.flow_type_rss_offloads & sys::SHIM_RSS_ADDRESSES_AND_PORTS != 0
            && details.hash_key_size != 0,
        rx_timestamps: driver == "net_pcap"
            || details.rx_offload_capa & sys::SHIM_RX_OFFLOAD_TIMESTAMP != 0,
        scatters: virtual_scatter || details.rx_offload_capa & sys::SHIM_RX_OFFLOAD_SCATTER != 0,
        driver,
    }
}
