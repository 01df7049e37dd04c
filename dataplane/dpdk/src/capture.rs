//! Capture files as far as a port needs to know before it receives from one: how many frames,
//! of which link type, whether the file is whole; and beside the frames what net_pcap loses, the
//! exact time and the length on the wire.
//!
//! Both formats (pcap and pcapng), both byte orders, microseconds and nanoseconds, several
//! interfaces and sections in a pcapng file. libpcap, through which net_pcap reads, refuses some
//! of the latter: [`CaptureSummary::port_stops_at`] says so beforehand, and
//! [`CaptureFile::write_plain`] writes a capture that it takes. [`CaptureReader`] is pure;
//! [`CaptureFile`] opens paths.

mod pcapng;
mod reader;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

pub use reader::{CaptureReader, HeaderError};

/// libpcap's limit of a captured frame of Ethernet; a longer one is taken for damage.
const FRAME_BYTES_MAX: u32 = 262_144;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The format of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureFormat {
    /// libpcap's own.
    Pcap,
    /// draft-ietf-opsawg-pcapng.
    PcapNg,
}

/// The number of a link-layer header type, from the registry of tcpdump.org.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkType(pub u16);

impl LinkType {
    /// The only one that a port can receive.
    pub const ETHERNET: LinkType = LinkType(1);

    /// The registry's name for those that are met.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "BSD loopback",
            1 => "Ethernet",
            6 => "Token Ring",
            9 => "PPP",
            12 | 14 | 101 | 228 | 229 => "raw IP",
            50 => "PPP in HDLC-like framing",
            51 => "PPPoE session",
            104 => "Cisco HDLC",
            105 => "802.11",
            107 => "Frame Relay",
            108 => "OpenBSD loopback",
            113 => "Linux cooked v1",
            114 => "LocalTalk",
            119 => "802.11 with Prism header",
            127 => "802.11 with radiotap header",
            147..=162 => "user defined",
            189 | 220 => "USB",
            192 => "per-packet information",
            195 | 230 => "802.15.4",
            227 => "CAN",
            239 => "Netfilter log",
            249 => "USBPcap",
            252 => "upper PDUs of Wireshark",
            276 => "Linux cooked v2",
            _ => "unnamed",
        }
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (link type {})", self.name(), self.0)
    }
}

/// Why a file is no capture that a port can receive from.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened or read.
    #[error("cannot read capture `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The other capture cannot be written.
    #[error("cannot write capture `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing is in it.
    #[error("capture `{path}` is empty: 0 bytes, not even a header")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It begins with something else.
    #[error(
        "`{path}` is not a capture: it begins with {first_bytes:02x?}; pcap and pcapng are read \
         (decompress .gz first)"
    )]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// How it begins.
        first_bytes: Vec<u8>,
    },
    /// The file ends within its header.
    #[error("capture `{path}` ends within its header: it was cut off, copy it again")]
    HeaderCut {
        /// The file.
        path: PathBuf,
    },
    /// A version that nobody writes.
    #[error("capture `{path}` has version {major}.{minor} of its format, which is not known")]
    Version {
        /// The file.
        path: PathBuf,
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// Frames of another kind of link.
    #[error(
        "capture `{path}` holds {link_type}, not Ethernet frames: capture on an Ethernet \
             interface (with tcpdump not `-i any`)"
    )]
    NotEthernet {
        /// The file.
        path: PathBuf,
        /// What it holds.
        link_type: LinkType,
    },
}

/// What is wrong behind the last good frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The file ends in the middle of something.
    Cut,
    /// A length that cannot be.
    Length {
        /// The length found.
        bytes: u32,
    },
    /// A frame of an interface that the file did not describe.
    UnknownInterface {
        /// The number found.
        interface: u32,
    },
    /// More interfaces than this reader keeps.
    TooManyInterfaces,
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Cut => write!(out, "the file ends within it"),
            Damage::Length { bytes } => write!(out, "a length of {bytes} bytes cannot be"),
            Damage::UnknownInterface { interface } => {
                write!(out, "interface {interface} is not described in the file")
            }
            Damage::TooManyInterfaces => write!(out, "too many interfaces are described"),
        }
    }
}

/// What a whole pcapng file may hold and libpcap, so net_pcap, does not read on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortStop {
    /// An interface of another link type than the first.
    LinkType(LinkType),
    /// An interface whose frames were cut at another length than those of the first.
    SnapshotLength(u32),
    /// A section in the other byte order.
    ByteOrder,
}

impl fmt::Display for PortStop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortStop::LinkType(link_type) => write!(out, "an interface of {link_type} begins"),
            PortStop::SnapshotLength(bytes) => {
                write!(
                    out,
                    "an interface with another snapshot length ({bytes} bytes) begins"
                )
            }
            PortStop::ByteOrder => write!(out, "a section in the other byte order begins"),
        }
    }
}

/// What the capture says about one frame, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRecord {
    /// Nanoseconds since 1970; 0 where the format has no time (pcapng simple packets).
    pub timestamp_ns: u64,
    /// Bytes of the frame that are in the file.
    pub captured_bytes: u32,
    /// Bytes that the frame had on the wire.
    pub wire_bytes: u32,
    /// The link that it was captured on.
    pub link_type: LinkType,
}

/// What is in a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSummary {
    /// The format.
    pub format: CaptureFormat,
    /// Link type of the first interface; `None` in a pcapng file that describes none.
    pub link_type: Option<LinkType>,
    /// Good frames.
    pub frames: u64,
    /// Frames among them of other link types than Ethernet.
    pub frames_not_ethernet: u64,
    /// Bytes of them in the file.
    pub captured_bytes: u64,
    /// Bytes of them on the wire.
    pub wire_bytes: u64,
    /// Captured bytes of the longest.
    pub frame_bytes_max: u32,
    /// Frames of which the file holds less than was on the wire.
    pub frames_cut_short: u64,
    /// Time of the first frame, nanoseconds since 1970.
    pub first_ns: Option<u64>,
    /// Time of the last frame in the file (frames need not be in order of time).
    pub last_ns: Option<u64>,
    /// What stopped the reader: the frame, from 1, and why. `None` for a whole file.
    pub damaged_at: Option<(u64, Damage)>,
    /// Where a port stops receiving before that: the frame, from 1, and why.
    pub port_stops_at: Option<(u64, PortStop)>,
}

impl CaptureSummary {
    /// Frames that a port receives from the file as it is; what a pool must hold for `infinite`.
    #[must_use]
    pub fn port_frames(&self) -> u64 {
        self.port_stops_at
            .map_or(self.frames, |(frame, _)| frame - 1)
    }
}

/// A file that begins like a capture of Ethernet frames.
#[derive(Clone, Debug)]
pub struct CaptureFile {
    path: PathBuf,
}

impl CaptureFile {
    /// Opens the file and reads its header, not its frames.
    ///
    /// # Errors
    /// [`CaptureError`]: not readable, empty, not a capture, cut off in its header, not Ethernet.
    pub fn open(path: &Path) -> Result<CaptureFile, CaptureError> {
        let mut reader = open_reader(path)?;
        if reader.link_type().is_none() {
            // pcapng says its link type before its first frame.
            let _ = reader.next_record();
        }
        match reader.link_type() {
            Some(link_type) if link_type != LinkType::ETHERNET => Err(CaptureError::NotEthernet {
                path: path.to_owned(),
                link_type,
            }),
            _ => Ok(CaptureFile {
                path: path.to_owned(),
            }),
        }
    }

    /// Reads the whole file once and counts.
    ///
    /// # Unbounded
    /// Work and time are those of reading the file; memory is not.
    ///
    /// # Errors
    /// [`CaptureError`], as for [`CaptureFile::open`]. A damaged frame is no error: see
    /// [`CaptureSummary::damaged_at`].
    pub fn summary(&self) -> Result<CaptureSummary, CaptureError> {
        let mut reader = self.records()?;
        reader.summary().map_err(|source| CaptureError::Read {
            path: self.path.clone(),
            source,
        })
    }

    /// Writes the good Ethernet frames to `output` in the plainest form, pcap in nanoseconds with
    /// one header, which every port can receive to its end; how many frames.
    ///
    /// # Unbounded
    /// As [`CaptureFile::summary`].
    ///
    /// # Errors
    /// [`CaptureError`], reading or writing.
    pub fn write_plain(&self, output: &Path) -> Result<u64, CaptureError> {
        let mut reader = self.records()?;
        let read_failed = |source| CaptureError::Read {
            path: self.path.clone(),
            source,
        };
        let write_failed = |source| CaptureError::Write {
            path: output.to_owned(),
            source,
        };
        let file = File::create(output).map_err(write_failed)?;
        let mut output = BufWriter::with_capacity(1 << 16, file);
        output.write_all(&plain_header()).map_err(write_failed)?;
        let (mut frame, mut frames) = (Vec::new(), 0);
        while let Some(record) = reader.next_frame(&mut frame).map_err(read_failed)? {
            if record.link_type == LinkType::ETHERNET {
                output
                    .write_all(&plain_frame_header(record))
                    .map_err(write_failed)?;
                output.write_all(&frame).map_err(write_failed)?;
                frames += 1;
            }
        }
        output.flush().map_err(write_failed)?;
        Ok(frames)
    }

    /// A reader at the first frame.
    ///
    /// # Errors
    /// [`CaptureError`], as for [`CaptureFile::open`].
    pub fn records(&self) -> Result<CaptureReader<BufReader<File>>, CaptureError> {
        open_reader(&self.path)
    }
}

fn open_reader(path: &Path) -> Result<CaptureReader<BufReader<File>>, CaptureError> {
    let at_fault = |source| CaptureError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(at_fault)?;
    if file.metadata().map_err(at_fault)?.is_dir() {
        return Err(at_fault(io::ErrorKind::IsADirectory.into()));
    }
    CaptureReader::new(BufReader::with_capacity(1 << 16, file)).map_err(|error| {
        let path = path.to_owned();
        match error {
            HeaderError::Read(source) => CaptureError::Read { path, source },
            HeaderError::Empty => CaptureError::Empty { path },
            HeaderError::NotACapture(first_bytes) => {
                CaptureError::NotACapture { path, first_bytes }
            }
            HeaderError::Cut => CaptureError::HeaderCut { path },
            HeaderError::Version { major, minor } => CaptureError::Version { path, major, minor },
        }
    })
}

/// The header of a pcap file: nanoseconds, version 2.4, longest frames, Ethernet.
fn plain_header() -> [u8; 24] {
    let fields = [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, FRAME_BYTES_MAX, 1_u32];
    let mut header = [0; 24];
    for (place, field) in header.chunks_exact_mut(4).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    header
}

fn plain_frame_header(record: FrameRecord) -> [u8; 16] {
    let seconds = u32::try_from(record.timestamp_ns / NANOS_PER_SECOND).unwrap_or(u32::MAX);
    let fraction = u32::try_from(record.timestamp_ns % NANOS_PER_SECOND).unwrap_or(0);
    let mut header = [0; 16];
    let fields = [seconds, fraction, record.captured_bytes, record.wire_bytes];
    for (place, field) in header.chunks_exact_mut(4).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    header
}
