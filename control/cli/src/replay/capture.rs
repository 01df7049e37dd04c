//! Reads the frame headers of a capture file before the dataplane does.
//!
//! The dataplane reads captures with libpcap inside net_pcap, which ends a damaged file without a
//! word: the driver sees "no more packets" whether the file is complete or cut. This walk reads
//! the same record headers by the same rules (libpcap `sf-pcap.c` and `sf-pcapng.c`), so that the
//! operator learns how many frames there are, whether the file is cut and after which frame, and
//! what to do about a file that cannot be replayed at all. Of the frames only the ends are looked
//! at, to tell how many flows there may be ([`super::distinct`]).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::distinct::{Distinct, LINK_FIRST_BYTES};
use super::ethernet::{LINK_TYPE_ETHERNET, is_replayed};
use super::link_type::link_type_name;
use super::pcapng;

/// libpcap's limit for one captured frame on Ethernet, bytes (`MAXIMUM_SNAPLEN`).
pub(super) const FRAME_BYTES_MAX: u32 = 262_144;
/// Minor part of the pcap format's last number, 2.4.
pub(super) const PCAP_MINOR_LAST: u16 = 4;

/// What a walk over a capture found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// File format, as people call it.
    pub format: &'static str,
    /// Frames that can be read, up to the cut if there is one.
    pub frames: u64,
    /// Flows in it at most, as far as its frames tell; never more than there are frames.
    pub flows_max: u64,
    /// Frames that may be fragments of a datagram.
    pub fragments_max: u64,
    /// Where and why reading ends before the end of the file.
    pub cut: Option<Cut>,
    /// Frames of interfaces whose link type is not replayed, beside others in the same file.
    pub passed_over: Option<PassedOver>,
    /// Why net_pcap does not read the file as it is although it can be read, see [`super::rewrite`].
    pub refused: Option<Refused>,
}

/// Frames that are not replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// How many.
    pub frames: u64,
    /// Link type of the first of them.
    pub link_type: u16,
}

impl Capture {
    /// What of a file is not replayed, in sentences.
    pub(super) fn warnings(&self, path: &Path) -> Vec<String> {
        let path = path.display();
        let passed_over = self.passed_over.map(|PassedOver { frames, link_type }| {
            format!(
                "{path}: frames of link type {link_type} ({}), {frames} in all, are passed over; {REPLAYED}",
                link_type_name(link_type)
            )
        });
        let cut = self.cut.as_ref().map(|cut| {
            format!(
                "{path} is damaged behind frame {}: {}; the flows are those of the frames before",
                cut.after_frame, cut.reason
            )
        });
        passed_over.into_iter().chain(cut).collect()
    }
}

impl Capture {
    /// Whether it is the plain format, and every reader comes to its end.
    #[must_use]
    pub fn is_whole_pcap(&self) -> bool {
        self.format == "pcap" && self.cut.is_none()
    }
}

/// What libpcap or net_pcap refuses and other readers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another link type than Ethernet, whose frames become Ethernet frames.
    OtherLink,
    /// pcapng: interfaces have different snapshot lengths.
    MixedSnapshots,
    /// pcap: the minor part of the format's number is above 4, the last there is.
    UnknownMinor,
}

/// Which link types are, for messages.
const REPLAYED: &str =
    "ringfence replays Ethernet, Linux cooked, raw IP, BSD loopback, PPP and Cisco HDLC";

/// The place from which on a capture cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Number of the last whole frame (1-based); 0 where not even the first is whole.
    pub after_frame: u64,
    /// What is wrong behind it.
    pub reason: String,
}

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Opening or reading failed.
    #[error("cannot read capture {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("cannot replay {path}: it is a {kind}; give the name of a capture file (pcap or pcapng)",
        path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// Zero bytes.
    #[error("capture {path} is empty (0 bytes); record it again, for example with \
             `tcpdump -w {path} -c 1000`", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A good header with nothing behind it.
    #[error("capture {path} holds no frames: {reason}; there is nothing to replay",
        path = path.display())]
    NoFrames {
        /// The file.
        path: PathBuf,
        /// Whether the file is cut or simply has no frames.
        reason: String,
    },
    /// The first bytes are no capture's.
    #[error("{path} is not a capture: {found}; ringfence replays pcap and pcapng{advice}",
        path = path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What its first bytes say.
        found: String,
        /// How to make a capture of it, starting with its own separator; may be empty.
        advice: &'static str,
    },
    /// Neither Ethernet nor a link whose frames are replayed as Ethernet frames.
    #[error("capture {path} has link type {link_type} ({name}); {REPLAYED}", path = path.display())]
    OtherLink {
        /// The file.
        path: PathBuf,
        /// Number in the tcpdump.org registry.
        link_type: u16,
        /// Its name there.
        name: &'static str,
    },
}

/// Walks the whole file.
///
/// # Unbounded
/// One step per frame of the file.
///
/// # Errors
/// [`CaptureError`], when no frame of the file can be replayed.
pub fn inspect(path: &Path) -> Result<Capture, CaptureError> {
    let unreadable = |source| CaptureError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() {
            "directory"
        } else {
            "pipe or device"
        };
        return Err(CaptureError::NotAFile {
            path: path.to_owned(),
            kind,
        });
    }
    let file = File::open(path).map_err(unreadable)?;
    if metadata.len() == 0 {
        return Err(CaptureError::Empty {
            path: path.to_owned(),
        });
    }
    let mut source = Source {
        reader: BufReader::with_capacity(1 << 16, file),
    };
    let found = walk(&mut source).map_err(|stop| match stop {
        Stop::Io(source) => unreadable(source),
        Stop::NotACapture { found, advice } => CaptureError::NotACapture {
            path: path.to_owned(),
            found,
            advice,
        },
        Stop::OtherLink(link_type) => CaptureError::OtherLink {
            path: path.to_owned(),
            link_type,
            name: link_type_name(link_type),
        },
    })?;
    if found.frames == 0 {
        let reason = match &found.cut {
            Some(cut) => format!("its first frame cannot be read ({})", cut.reason),
            None => format!(
                "it is a {} file with a header and nothing else",
                found.format
            ),
        };
        return Err(CaptureError::NoFrames {
            path: path.to_owned(),
            reason,
        });
    }
    Ok(found)
}

/// Why a walk ends without a capture.
#[derive(Debug)]
pub(super) enum Stop {
    Io(io::Error),
    NotACapture { found: String, advice: &'static str },
    OtherLink(u16),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Bytes of the file in order.
pub(super) struct Source<R> {
    pub(super) reader: R,
}

impl<R: BufRead> Source<R> {
    /// Fills `buffer`, or tells how many bytes there were.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> io::Result<Result<(), usize>> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(if filled == buffer.len() {
            Ok(())
        } else {
            Err(filled)
        })
    }

    /// Passes over `count` bytes, or tells how many there were.
    pub(super) fn skip(&mut self, count: u64) -> io::Result<Result<(), u64>> {
        let mut passed = 0;
        while passed < count {
            let there = match self.reader.fill_buf() {
                Ok([]) => return Ok(Err(passed)),
                Ok(bytes) => bytes.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let rest = usize::try_from(count - passed).unwrap_or(usize::MAX);
            self.reader.consume(there.min(rest));
            passed += there.min(rest) as u64;
        }
        Ok(Ok(()))
    }
}

/// Byte order of a file, found from its magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u16(self, bytes: &[u8]) -> u16 {
        let array = [bytes[0], bytes[1]];
        match self {
            Self::Little => u16::from_le_bytes(array),
            Self::Big => u16::from_be_bytes(array),
        }
    }

    pub(super) fn u32(self, bytes: &[u8]) -> u32 {
        let array = [bytes[0], bytes[1], bytes[2], bytes[3]];
        match self {
            Self::Little => u32::from_le_bytes(array),
            Self::Big => u32::from_be_bytes(array),
        }
    }
}

fn walk<R: BufRead>(source: &mut Source<R>) -> Result<Capture, Stop> {
    let mut magic = [0; 4];
    if let Err(count) = source.take(&mut magic)? {
        let found = format!(
            "it has only {count} byte{}",
            if count == 1 { "" } else { "s" }
        );
        return Err(Stop::NotACapture { found, advice: "" });
    }
    match u32::from_le_bytes(magic) {
        0xa1b2_c3d4 | 0xa1b2_3c4d | 0xa1b2_cd34 => walk_pcap(source, Order::Little, magic),
        0xd4c3_b2a1 | 0x4d3c_b2a1 | 0x34cd_b2a1 => walk_pcap(source, Order::Big, magic),
        pcapng::BLOCK_SECTION => pcapng::walk(source),
        _ => Err(not_a_capture(magic)),
    }
}

fn not_a_capture(magic: [u8; 4]) -> Stop {
    let [a, b, c, d] = magic;
    let (found, advice) = match magic {
        [0x1f, 0x8b, ..] => ("it is gzip", "; unpack it first with `gunzip`"),
        [0x28, 0xb5, 0x2f, 0xfd] => ("it is zstd", "; unpack it first with `unzstd`"),
        [b'B', b'Z', b'h', _] => ("it is bzip2", "; unpack it first with `bunzip2`"),
        [0xfd, b'7', b'z', b'X'] => ("it is xz", "; unpack it first with `unxz`"),
        [b'P', b'K', 3, 4] => ("it is a zip archive", "; unpack it first with `unzip`"),
        [b's', b'n', b'o', b'o'] => (
            "it is a snoop capture",
            "; convert it with `editcap -F pcap IN OUT`",
        ),
        _ => {
            let found = format!("it begins with the bytes {a:02x} {b:02x} {c:02x} {d:02x}");
            return Stop::NotACapture { found, advice: "" };
        }
    };
    Stop::NotACapture {
        found: found.to_owned(),
        advice,
    }
}

/// The pcap file format (draft-ietf-opsawg-pcap section 4), as libpcap reads it.
fn walk_pcap<R: BufRead>(
    source: &mut Source<R>,
    order: Order,
    magic: [u8; 4],
) -> Result<Capture, Stop> {
    let mut header = [0; 20];
    if let Err(count) = source.take(&mut header)? {
        let found = format!("its pcap header is cut after {} of 24 bytes", count + 4);
        return Err(Stop::NotACapture { found, advice: "" });
    }
    let record = Record::new(order, magic, &header)?;
    if !is_replayed(record.link_type) {
        return Err(Stop::OtherLink(record.link_type));
    }
    let mut frames = 0;
    let mut distinct = Distinct::new();
    let cut = loop {
        match walk_pcap_record(source, &record, &mut distinct)? {
            Step::Frame => frames += 1,
            Step::PassedOver(_) | Step::Other => {}
            Step::End => break None,
            Step::Cut(reason) => {
                break Some(Cut {
                    after_frame: frames,
                    reason,
                });
            }
        }
    };
    let other_link = (record.link_type != LINK_TYPE_ETHERNET).then_some(Refused::OtherLink);
    Ok(Capture {
        format: "pcap",
        frames,
        flows_max: distinct.flows(),
        fragments_max: distinct.fragments(),
        cut,
        passed_over: None,
        refused: other_link.or(record.is_of_unknown_minor.then_some(Refused::UnknownMinor)),
    })
}

/// Whether the captured length of a frame header stands where the original length should.
#[derive(Clone, Copy)]
enum Swapped {
    No,
    Yes,
    Maybe,
}

/// Layout of a pcap file's frame headers.
pub(super) struct Record {
    pub(super) order: Order,
    /// Bytes of a frame's header: 16, or 24 in Kuznetzov's variant.
    pub(super) bytes: usize,
    /// Nanoseconds in the second field of a time stamp.
    pub(super) fraction_ns: u32,
    pub(super) link_type: u16,
    is_of_unknown_minor: bool,
    swapped: Swapped,
}

impl Record {
    /// By the file's magic number and the rest of its header.
    pub(super) fn new(order: Order, magic: [u8; 4], header: &[u8; 20]) -> Result<Self, Stop> {
        let (major, minor) = (order.u16(&header[0..2]), order.u16(&header[2..4]));
        if major != 2 && major != 543 {
            let found =
                format!("its pcap header says version {major}, and only version 2 is known");
            return Err(Stop::NotACapture { found, advice: "" });
        }
        // The upper half holds the FCS length, not the link type.
        let [low, high, ..] = order.u32(&header[16..20]).to_le_bytes();
        // Writers before 2.3 stored the two lengths the other way round; those of 2.3 either way.
        let swapped = match (major, minor) {
            (2, 3) => Swapped::Maybe,
            (2, 4..) => Swapped::No,
            _ => Swapped::Yes,
        };
        let magic = order.u32(&magic);
        Ok(Self {
            order,
            bytes: if magic == 0xa1b2_cd34 { 24 } else { 16 },
            fraction_ns: if magic == 0xa1b2_3c4d { 1 } else { 1_000 },
            link_type: u16::from_le_bytes([low, high]),
            is_of_unknown_minor: major == 2 && minor > PCAP_MINOR_LAST,
            swapped,
        })
    }

    /// Bytes of a frame that are in the file, and that it had.
    pub(super) fn lengths(&self, header: &[u8]) -> (u32, u32) {
        let (first, second) = (
            self.order.u32(&header[8..12]),
            self.order.u32(&header[12..16]),
        );
        match self.swapped {
            Swapped::No => (first, second),
            Swapped::Yes => (second, first),
            Swapped::Maybe => (first.min(second), first.max(second)),
        }
    }
}

/// What one record or block of a capture turned out to be.
pub(super) enum Step {
    Frame,
    /// A frame of a link type that is not replayed.
    PassedOver(u16),
    Other,
    End,
    Cut(String),
}

fn walk_pcap_record<R: BufRead>(
    source: &mut Source<R>,
    record: &Record,
    distinct: &mut Distinct,
) -> io::Result<Step> {
    let record_bytes = record.bytes;
    let mut header = [0; 24];
    match source.take(&mut header[..record_bytes])? {
        Ok(()) => {}
        Err(0) => return Ok(Step::End),
        Err(count) => {
            return Ok(Step::Cut(format!(
                "the file ends {count} bytes into a frame header of {record_bytes}"
            )));
        }
    }
    let (captured, _) = record.lengths(&header);
    if captured > FRAME_BYTES_MAX {
        return Ok(Step::Cut(format!(
            "the next frame header claims {captured} bytes, more than the {FRAME_BYTES_MAX} of \
             the longest frame"
        )));
    }
    let cut = |count| {
        Ok(Step::Cut(format!(
            "the file ends {count} bytes into a frame of {captured}"
        )))
    };
    let (mut first, bytes) = (
        [0; LINK_FIRST_BYTES],
        LINK_FIRST_BYTES.min(captured as usize),
    );
    if let Err(count) = source.take(&mut first[..bytes])? {
        return cut(count as u64);
    }
    if let Err(count) = source.skip(u64::from(captured) - bytes as u64)? {
        return cut(bytes as u64 + count);
    }
    distinct.add_frame(record.link_type, &first[..bytes], captured);
    Ok(Step::Frame)
}
