//! Why a port does not work, in words for the operator.

use super::BURSTS_MBUFS;
use crate::capture::CaptureError;
use crate::errno::Errno;
use crate::spec::PortSpecError;

/// Why a port does not work.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Its name says something that this host does not have.
    #[error(transparent)]
    Spec(#[from] PortSpecError),
    /// The driver did not take the device.
    #[error("port `{port}`: no device; dpdk says: {log}")]
    Probe {
        /// The port as configured.
        port: String,
        /// libdpdk's words. Drivers tell no more than that they failed otherwise.
        log: String,
    },
    /// The driver may not do what it needs.
    #[error("port `{port}`: no permission: run as root; dpdk says: {log}")]
    NoPermission {
        /// The port as configured.
        port: String,
        /// libdpdk's own words.
        log: String,
    },
    /// More queues than the device has.
    #[error(
        "port `{port}`: {wanted_rx} receive and {wanted_tx} transmit queues asked for, it has at \
         most {rx_max} and {tx_max}"
    )]
    TooManyQueues {
        /// The port as configured.
        port: String,
        /// Receive queues asked for.
        wanted_rx: u16,
        /// Transmit queues asked for.
        wanted_tx: u16,
        /// Receive queues that it has.
        rx_max: u16,
        /// Transmit queues that it has.
        tx_max: u16,
    },
    /// An MTU beyond the device.
    #[error("port `{port}`: mtu {mtu} is beyond what it takes, {mtu_max}")]
    MtuTooLarge {
        /// The port as configured.
        port: String,
        /// Asked for.
        mtu: u16,
        /// The device's limit.
        mtu_max: u16,
    },
    /// The device does not scatter, and a frame does not fit in one buffer.
    #[error(
        "port `{port}`: frames of {frame_bytes} bytes do not fit in buffers of {data_room_bytes}, \
         and the device does not scatter: raise the pool's data room or lower the mtu"
    )]
    BufferTooSmall {
        /// The port as configured.
        port: String,
        /// Longest frame.
        frame_bytes: u32,
        /// The pool's data room.
        data_room_bytes: u16,
    },
    /// The capture to repeat cannot be read.
    #[error("port `{port}`: {source}")]
    Preload {
        /// The port as configured.
        port: String,
        /// What is wrong with it.
        source: CaptureError,
    },
    /// `infinite` keeps every frame in a buffer of its own.
    #[error(
        "port `{port}`: `infinite` keeps its {frames} frames in memory and {BURSTS_MBUFS} mbufs \
         to work with, the pool has {available} free: give it more"
    )]
    PoolTooSmall {
        /// The port as configured.
        port: String,
        /// Frames of the capture.
        frames: u64,
        /// Mbufs free in the pool.
        available: u32,
    },
    /// A step of starting it failed.
    #[error("port `{port}`: cannot {step}: {errno}; dpdk says: {log}")]
    Refused {
        /// The port as configured.
        port: String,
        /// What was being done.
        step: &'static str,
        /// What libdpdk answered.
        errno: Errno,
        /// Its own words.
        log: String,
    },
}
