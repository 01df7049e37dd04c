//! How a port is named in configuration, and what libdpdk is told for it.

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::capture::{CaptureError, CaptureFile};

/// The forms that [`PortSpec`] takes, for messages.
const FORMS: &str = "pcap:in=FILE[,out=FILE][,infinite], null[:size=BYTES][,no-rx], \
     af_packet:INTERFACE, tap:NAME, ring:NAME, pci:0000:01:00.0, vdev:DEVARGS";
/// Linux' `IFNAMSIZ` less the ending NUL.
const INTERFACE_NAME_BYTES_MAX: usize = 15;
/// What net_null takes for a frame size.
const NULL_FRAME_BYTES_MAX: u16 = 9000;
/// Drivers of the kernel with which a device of libdpdk works beside the kernel.
const SHARED_DRIVERS: &[&str] = &["mlx4_core", "mlx5_core", "mana"];
/// Drivers of the kernel that hand a device to a process.
const USER_DRIVERS: &[&str] = &["vfio-pci", "uio_pci_generic", "igb_uio"];

/// A port of the appliance: `pcap:in=a.pcap`, `null:size=64,no-rx`, `af_packet:eth1`, `tap:rf0`,
/// `ring:joint`, `pci:0000:01:00.0`, `vdev:net_memif0,role=client`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortSpec {
    /// A capture file to receive from, a file to send to, or both.
    Pcap {
        /// Frames to receive.
        input: Option<PathBuf>,
        /// Where sent frames are written; without it they are dropped.
        output: Option<PathBuf>,
        /// Receive the capture for ever, from memory; the pool must hold every frame of it.
        infinite: bool,
    },
    /// A source of frames of zero meaning, and a sink.
    Null {
        /// Bytes of each frame received.
        frame_bytes: u16,
        /// Receive nothing: a sink only.
        no_rx: bool,
    },
    /// A network interface of the kernel.
    AfPacket {
        /// Its name.
        interface: String,
    },
    /// A network interface that appears in the kernel as long as the port is open.
    Tap {
        /// Its name.
        name: String,
    },
    /// A cable inside this process: the two ports with the same name are joined.
    Ring {
        /// The name of the cable.
        name: String,
    },
    /// A hardware device.
    Pci(PciAddress),
    /// Any virtual device of libdpdk, in its own words.
    Vdev(String),
}

/// Where a PCI device sits: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PciAddress {
    domain: u16,
    bus: u8,
    device: u8,
    function: u8,
}

/// Why a port cannot be what its name says. The message is shown to the operator as is.
#[derive(Debug, thiserror::Error)]
pub enum PortSpecError {
    /// No such form.
    #[error("port `{text}`: unknown kind `{kind}`; a port is one of {FORMS}")]
    UnknownKind {
        /// What was written.
        text: String,
        /// The part before the colon.
        kind: String,
    },
    /// A setting that this kind does not have.
    #[error("port `{text}`: unknown setting `{setting}`; a port is one of {FORMS}")]
    UnknownSetting {
        /// What was written.
        text: String,
        /// The part that is not known.
        setting: String,
    },
    /// Something must follow.
    #[error("port `{text}`: {missing} is missing; a port is one of {FORMS}")]
    Missing {
        /// What was written.
        text: String,
        /// What must follow.
        missing: &'static str,
    },
    /// A frame size that net_null does not take.
    #[error("port `{text}`: `{size}` is not a frame size from 1 to {NULL_FRAME_BYTES_MAX} bytes")]
    FrameSize {
        /// What was written.
        text: String,
        /// The part that is no size.
        size: String,
    },
    /// `infinite` needs something to repeat.
    #[error("port `{text}`: `infinite` needs `in=FILE`")]
    InfiniteWithoutInput {
        /// What was written.
        text: String,
    },
    /// No PCI address.
    #[error("`{text}` is not a pci address such as 0000:01:00.0")]
    PciAddress {
        /// What was written.
        text: String,
    },
    /// A name that an interface cannot have, or a NUL byte.
    #[error("port `{text}`: `{name}` cannot be the name of an interface (1 to 15 bytes, no `/`)")]
    InterfaceName {
        /// What was written.
        text: String,
        /// The name.
        name: String,
    },
    /// libdpdk's device arguments cannot hold the path.
    #[error("port `{text}`: dpdk takes no `,`, quote or NUL in a path: rename `{path}`")]
    PathCharacters {
        /// What was written.
        text: String,
        /// The path.
        path: PathBuf,
    },
    /// The capture cannot be received from.
    #[error("port `{text}`: {source}")]
    Input {
        /// What was written.
        text: String,
        /// What is wrong with the file.
        source: CaptureError,
    },
    /// The folder of the output is not there.
    #[error("port `{text}`: cannot write `{path}`: folder `{folder}` does not exist")]
    OutputFolder {
        /// What was written.
        text: String,
        /// The path.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The host has no such interface.
    #[error("port `{text}`: no interface `{interface}` on this host (`ip link` lists them)")]
    NoInterface {
        /// What was written.
        text: String,
        /// The interface.
        interface: String,
    },
    /// The kernel makes no tap interfaces.
    #[error("port `{text}`: /dev/net/tun does not exist: load the `tun` module (`modprobe tun`)")]
    NoTun {
        /// What was written.
        text: String,
    },
    /// The process may not do what the kernel must for this port.
    #[error("port `{text}`: no permission: run as root or grant {capability}")]
    NoCapability {
        /// What was written.
        text: String,
        /// What is lacking.
        capability: &'static str,
    },
    /// The host has no such device.
    #[error("port `{text}`: no pci device {address} on this host (`lspci -D` lists them)")]
    NoPciDevice {
        /// What was written.
        text: String,
        /// Its address.
        address: PciAddress,
    },
    /// The kernel uses the device itself.
    #[error(
        "port `{text}`: the kernel uses {address} with its driver `{driver}`: run \
         `./hugepage-setup bind {address}` as root"
    )]
    PciDeviceInUse {
        /// What was written.
        text: String,
        /// Its address.
        address: PciAddress,
        /// The kernel's driver.
        driver: String,
    },
}

impl PortSpec {
    /// Whether this host has what the port needs: files, interfaces, devices. Reads files and
    /// `/sys`; changes nothing.
    ///
    /// # Errors
    /// [`PortSpecError`] that names what is not there.
    pub fn check(&self) -> Result<(), PortSpecError> {
        let text = self.to_string();
        match self {
            PortSpec::Pcap { input, output, .. } => {
                check_paths(&text, input.as_deref(), output.as_deref())
            }
            PortSpec::AfPacket { interface } => {
                if !Path::new("/sys/class/net").join(interface).exists() {
                    let interface = interface.clone();
                    return Err(PortSpecError::NoInterface { text, interface });
                }
                if !has_capability(CAP_NET_RAW) {
                    let capability = "CAP_NET_RAW";
                    return Err(PortSpecError::NoCapability { text, capability });
                }
                Ok(())
            }
            PortSpec::Tap { .. } if !Path::new("/dev/net/tun").exists() => {
                Err(PortSpecError::NoTun { text })
            }
            PortSpec::Tap { .. } if !has_capability(CAP_NET_ADMIN) => {
                Err(PortSpecError::NoCapability {
                    text,
                    capability: "CAP_NET_ADMIN",
                })
            }
            PortSpec::Pci(address) => check_pci(text, *address),
            PortSpec::Tap { .. }
            | PortSpec::Null { .. }
            | PortSpec::Ring { .. }
            | PortSpec::Vdev(_) => Ok(()),
        }
    }

    /// What libdpdk is told: the device's name, made unique by `serial`, and its arguments.
    pub(crate) fn devargs(&self, serial: u32) -> CString {
        let text = match self {
            PortSpec::Pcap {
                input,
                output,
                infinite,
            } => {
                let mut text = format!("net_pcap{serial}");
                if let Some(path) = input {
                    text += &format!(",rx_pcap={}", path.display());
                }
                if let Some(path) = output {
                    text += &format!(",tx_pcap={}", path.display());
                }
                if *infinite {
                    text += ",infinite_rx=1";
                }
                text
            }
            PortSpec::Null { frame_bytes, no_rx } => {
                format!(
                    "net_null{serial},size={frame_bytes},no-rx={}",
                    u8::from(*no_rx)
                )
            }
            PortSpec::AfPacket { interface } => af_packet_devargs(serial, interface),
            PortSpec::Tap { name } => format!("net_tap{serial},iface={name}"),
            // A cable is made by a function, not by arguments.
            PortSpec::Ring { name } => format!("net_ring_{name}"),
            PortSpec::Pci(address) => address.to_string(),
            PortSpec::Vdev(devargs) => devargs.clone(),
        };
        // No part of a parsed spec holds NUL; a spec made by hand is cut there.
        let text = text.split('\0').next().unwrap_or_default();
        CString::new(text).unwrap_or_default()
    }

    /// Bytes of data room that buffers need for this port at the least, where its driver does not
    /// spread a frame over several: net_af_packet with the interface's present MTU.
    #[must_use]
    pub fn data_room_bytes_min(&self) -> Option<u32> {
        match self {
            PortSpec::AfPacket { interface } => {
                Some(af_packet_slot_bytes(interface).saturating_sub(AF_PACKET_SLOT_HEADER_BYTES))
            }
            _ => None,
        }
    }

    /// The PCI device that EAL must be told to take when it starts.
    #[must_use]
    pub fn pci_address(&self) -> Option<PciAddress> {
        match self {
            PortSpec::Pci(address) => Some(*address),
            _ => None,
        }
    }
}

/// Bytes that net_af_packet takes off a slot before it compares it with a buffer.
const AF_PACKET_SLOT_HEADER_BYTES: u32 = 32;

/// Bytes of a slot of net_af_packet's ring: room for the interface's longest frame, because the
/// kernel cuts what is longer and the driver does not say so.
fn af_packet_slot_bytes(interface: &str) -> u32 {
    const DEFAULT_SLOT_BYTES: u32 = 2048;
    const PAGE_BYTES: u32 = 4096;
    /// The kernel's header of a slot, Ethernet header, VLAN tags, rounded up.
    const OVERHEAD_BYTES: u32 = 128;
    let mtu = fs::read_to_string(format!("/sys/class/net/{interface}/mtu"));
    let mtu = mtu
        .ok()
        .and_then(|mtu| mtu.trim().parse::<u32>().ok())
        .unwrap_or(1500);
    let wanted = mtu.saturating_add(OVERHEAD_BYTES);
    if wanted <= DEFAULT_SLOT_BYTES {
        DEFAULT_SLOT_BYTES
    } else {
        wanted
            .checked_next_multiple_of(PAGE_BYTES)
            .unwrap_or(u32::MAX)
    }
}

fn af_packet_devargs(serial: u32, interface: &str) -> String {
    const BLOCK_BYTES_MIN: u32 = 4096;
    const SLOTS: u32 = 1024;
    let slot_bytes = af_packet_slot_bytes(interface);
    let block_bytes = slot_bytes.max(BLOCK_BYTES_MIN);
    format!(
        "net_af_packet{serial},iface={interface},blocksz={block_bytes},framesz={slot_bytes},\
         framecnt={SLOTS}"
    )
}

// Bits of capabilities(7).
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// Whether this process has the capability; where that cannot be read, the driver will tell.
fn has_capability(bit: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    effective.is_none_or(|mask| mask >> bit & 1 == 1)
}

fn check_paths(
    text: &str,
    input: Option<&Path>,
    output: Option<&Path>,
) -> Result<(), PortSpecError> {
    if let Some(path) = input {
        CaptureFile::open(path).map_err(|source| PortSpecError::Input {
            text: text.to_owned(),
            source,
        })?;
    }
    if let Some(path) = output {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return Err(PortSpecError::OutputFolder {
                text: text.to_owned(),
                path: path.to_owned(),
                folder: folder.to_owned(),
            });
        }
    }
    Ok(())
}

fn check_pci(text: String, address: PciAddress) -> Result<(), PortSpecError> {
    let folder = Path::new("/sys/bus/pci/devices").join(address.to_string());
    if !folder.exists() {
        return Err(PortSpecError::NoPciDevice { text, address });
    }
    let driver = fs::read_link(folder.join("driver"))
        .ok()
        .and_then(|target| Some(target.file_name()?.to_string_lossy().into_owned()));
    match driver {
        Some(driver)
            if !USER_DRIVERS.contains(&driver.as_str())
                && !SHARED_DRIVERS.contains(&driver.as_str()) =>
        {
            Err(PortSpecError::PciDeviceInUse {
                text,
                address,
                driver,
            })
        }
        _ => Ok(()),
    }
}

impl FromStr for PortSpec {
    type Err = PortSpecError;

    fn from_str(text: &str) -> Result<PortSpec, PortSpecError> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, rest),
            // `null,no-rx` has settings and no colon.
            None => text.split_once(',').unwrap_or((text, "")),
        };
        let missing = |missing| PortSpecError::Missing {
            text: text.to_owned(),
            missing,
        };
        match kind {
            "pcap" => parse_pcap(text, rest),
            "null" => parse_null(text, rest),
            "af_packet" if rest.is_empty() => Err(missing("the name of an interface")),
            "af_packet" => Ok(PortSpec::AfPacket {
                interface: interface_name(text, rest)?,
            }),
            "tap" if rest.is_empty() => Err(missing("the name of the interface to make")),
            "tap" => Ok(PortSpec::Tap {
                name: interface_name(text, rest)?,
            }),
            "ring" if rest.is_empty() => Err(missing("the name of the cable")),
            "ring" => Ok(PortSpec::Ring {
                name: rest.to_owned(),
            }),
            "pci" if rest.is_empty() => Err(missing("the address of a device")),
            "pci" => Ok(PortSpec::Pci(rest.parse()?)),
            "vdev" if rest.is_empty() => Err(missing("a device of dpdk")),
            "vdev" => Ok(PortSpec::Vdev(rest.to_owned())),
            _ => Err(PortSpecError::UnknownKind {
                text: text.to_owned(),
                kind: kind.to_owned(),
            }),
        }
    }
}

fn parse_pcap(text: &str, settings: &str) -> Result<PortSpec, PortSpecError> {
    let (mut input, mut output, mut infinite) = (None, None, false);
    for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=') {
            Some(("in", path)) if !path.is_empty() => input = Some(capture_path(text, path)?),
            Some(("out", path)) if !path.is_empty() => output = Some(capture_path(text, path)?),
            None if setting == "infinite" => infinite = true,
            _ => return Err(unknown_setting(text, setting)),
        }
    }
    if infinite && input.is_none() {
        return Err(PortSpecError::InfiniteWithoutInput {
            text: text.to_owned(),
        });
    }
    if input.is_none() && output.is_none() {
        return Err(PortSpecError::Missing {
            text: text.to_owned(),
            missing: "`in=FILE` or `out=FILE`",
        });
    }
    Ok(PortSpec::Pcap {
        input,
        output,
        infinite,
    })
}

fn parse_null(text: &str, settings: &str) -> Result<PortSpec, PortSpecError> {
    let (mut frame_bytes, mut no_rx) = (64, false);
    for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=') {
            Some(("size", size)) => {
                let parsed = size.parse::<u16>().ok();
                let in_range = parsed.filter(|size| (1..=NULL_FRAME_BYTES_MAX).contains(size));
                frame_bytes = in_range.ok_or_else(|| PortSpecError::FrameSize {
                    text: text.to_owned(),
                    size: size.to_owned(),
                })?;
            }
            None if setting == "no-rx" => no_rx = true,
            _ => return Err(unknown_setting(text, setting)),
        }
    }
    Ok(PortSpec::Null { frame_bytes, no_rx })
}

fn unknown_setting(text: &str, setting: &str) -> PortSpecError {
    PortSpecError::UnknownSetting {
        text: text.to_owned(),
        setting: setting.to_owned(),
    }
}

/// A path that survives libdpdk's device arguments.
fn capture_path(text: &str, path: &str) -> Result<PathBuf, PortSpecError> {
    if path.contains([',', '"', '\'', '\0', '[', ']']) {
        return Err(PortSpecError::PathCharacters {
            text: text.to_owned(),
            path: path.into(),
        });
    }
    Ok(PathBuf::from(path))
}

fn interface_name(text: &str, name: &str) -> Result<String, PortSpecError> {
    let fits = name.len() <= INTERFACE_NAME_BYTES_MAX;
    let known = !name.contains(['/', ',', '=', '\0']) && !name.contains(char::is_whitespace);
    if fits && known && name != "." && name != ".." {
        return Ok(name.to_owned());
    }
    Err(PortSpecError::InterfaceName {
        text: text.to_owned(),
        name: name.to_owned(),
    })
}

impl fmt::Display for PortSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortSpec::Pcap {
                input,
                output,
                infinite,
            } => {
                let settings = [
                    input.as_ref().map(|path| format!("in={}", path.display())),
                    output
                        .as_ref()
                        .map(|path| format!("out={}", path.display())),
                    infinite.then(|| "infinite".to_owned()),
                ];
                let settings: Vec<String> = settings.into_iter().flatten().collect();
                write!(out, "pcap:{}", settings.join(","))
            }
            PortSpec::Null { frame_bytes, no_rx } => {
                write!(
                    out,
                    "null:size={frame_bytes}{}",
                    if *no_rx { ",no-rx" } else { "" }
                )
            }
            PortSpec::AfPacket { interface } => write!(out, "af_packet:{interface}"),
            PortSpec::Tap { name } => write!(out, "tap:{name}"),
            PortSpec::Ring { name } => write!(out, "ring:{name}"),
            PortSpec::Pci(address) => write!(out, "pci:{address}"),
            PortSpec::Vdev(devargs) => write!(out, "vdev:{devargs}"),
        }
    }
}

impl FromStr for PciAddress {
    type Err = PortSpecError;

    /// `0000:01:00.0`, or without the domain.
    fn from_str(text: &str) -> Result<PciAddress, PortSpecError> {
        let parse = || {
            let (place, function) = text.split_once('.')?;
            let parts: Vec<&str> = place.split(':').collect();
            let (domain, bus, device) = match parts[..] {
                [domain, bus, device] => (hex(domain, 4)?, hex(bus, 2)?, hex(device, 2)?),
                [bus, device] => (0, hex(bus, 2)?, hex(device, 2)?),
                _ => return None,
            };
            let function = hex(function, 1).filter(|function| *function < 8)?;
            let device = u8::try_from(device).ok().filter(|device| *device < 32)?;
            let (bus, function) = (u8::try_from(bus).ok()?, u8::try_from(function).ok()?);
            Some(PciAddress {
                domain,
                bus,
                device,
                function,
            })
        };
        parse().ok_or_else(|| PortSpecError::PciAddress {
            text: text.to_owned(),
        })
    }
}

/// Exactly `digits` hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u16> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u16::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for PciAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddress {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(out, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}
