//! Frame headers, and frames, one after the other out of any source of bytes.

use std::io::{self, BufRead, Read};

use super::pcapng::{Interface, SECTION_HEADER};
use super::{
    CaptureFormat, CaptureSummary, Damage, FRAME_BYTES_MAX, FrameRecord, LinkType,
    NANOS_PER_SECOND, PortStop,
};

const PCAP_FRAME_HEADER_BYTES_MAX: usize = 24;

/// Why bytes are no capture.
#[derive(Debug)]
pub enum HeaderError {
    /// The source of bytes failed.
    Read(io::Error),
    /// There is not one byte.
    Empty,
    /// They begin with something else.
    NotACapture(Vec<u8>),
    /// They end within the header.
    Cut,
    /// A version that nobody writes.
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
}

/// Reads a capture from its header to its end, or to what is damaged.
#[derive(Debug)]
pub struct CaptureReader<R> {
    pub(super) source: Source<R>,
    pub(super) layout: Layout,
    /// Link type and snapshot length of the first interface.
    pub(super) first: Option<(LinkType, u32)>,
    damage: Option<Damage>,
    /// What makes libpcap stop here.
    pub(super) port_stop: Option<PortStop>,
}

#[derive(Debug)]
pub(super) enum Layout {
    Pcap {
        /// Nanoseconds in the second field of a timestamp.
        fraction_ns: u64,
        /// Bytes of a frame's header: 16, or 24 in Kuznetzov's variant.
        header_bytes: usize,
    },
    /// The interfaces of the section that is being read.
    PcapNg(Vec<Interface>),
}

/// What reading on led to.
pub(super) enum Step {
    Frame(FrameRecord),
    /// A block that is no frame.
    Other,
    End,
}

/// Why reading a record stopped.
pub(super) enum Stop {
    Damaged(Damage),
    Read(io::Error),
}

/// Where the bytes of a frame go: nowhere, or into a buffer that they replace.
pub(super) type Sink<'a> = Option<&'a mut Vec<u8>>;

impl<R: BufRead> CaptureReader<R> {
    /// Reads the header of a capture.
    ///
    /// # Errors
    /// [`HeaderError`]: these bytes are no capture.
    pub fn new(input: R) -> Result<CaptureReader<R>, HeaderError> {
        let mut source = Source {
            input,
            big_endian: false,
        };
        let mut magic = [0; 4];
        match source.fill(&mut magic).map_err(HeaderError::Read)? {
            0 => return Err(HeaderError::Empty),
            4 => {}
            count => return Err(HeaderError::NotACapture(magic[..count].to_vec())),
        }
        let (little, big) = (u32::from_le_bytes(magic), u32::from_be_bytes(magic));
        if little == SECTION_HEADER {
            return Self::new_pcapng(source);
        }
        match (pcap_variant(little), pcap_variant(big)) {
            (Some(layout), _) => Self::new_pcap(source, layout),
            (None, Some(layout)) => {
                source.big_endian = true;
                Self::new_pcap(source, layout)
            }
            (None, None) => Err(HeaderError::NotACapture(magic.to_vec())),
        }
    }

    fn new_pcap(mut source: Source<R>, layout: Layout) -> Result<CaptureReader<R>, HeaderError> {
        let mut header = [0; 20];
        if source.fill(&mut header).map_err(HeaderError::Read)? < header.len() {
            return Err(HeaderError::Cut);
        }
        let fields = source.fields(&header);
        let (major, minor) = (fields.u16(0), fields.u16(2));
        // libpcap reads 2.0 to 2.4, and 543.0 of one old program.
        if !(major == 2 && minor <= 4 || major == 543 && minor == 0) {
            return Err(HeaderError::Version { major, minor });
        }
        // The upper half of the last field says whether frames end with a check sequence.
        let first = (
            LinkType(fields.u16_in_u32(16)),
            snapshot_bytes(fields.u32(12)),
        );
        Ok(CaptureReader {
            source,
            layout,
            first: Some(first),
            damage: None,
            port_stop: None,
        })
    }

    fn new_pcapng(source: Source<R>) -> Result<CaptureReader<R>, HeaderError> {
        let layout = Layout::PcapNg(Vec::new());
        let mut reader = CaptureReader {
            source,
            layout,
            first: None,
            damage: None,
            port_stop: None,
        };
        match reader.read_section_header() {
            Ok(()) => Ok(reader),
            Err(Stop::Read(error)) => Err(HeaderError::Read(error)),
            Err(Stop::Damaged(_)) => Err(HeaderError::Cut),
        }
    }

    /// The format.
    #[must_use]
    pub fn format(&self) -> CaptureFormat {
        match self.layout {
            Layout::Pcap { .. } => CaptureFormat::Pcap,
            Layout::PcapNg(_) => CaptureFormat::PcapNg,
        }
    }

    /// Link type of the first interface; in pcapng known from the first frame on.
    #[must_use]
    pub fn link_type(&self) -> Option<LinkType> {
        self.first.map(|(link_type, _)| link_type)
    }

    /// What stopped the reader before the end of the file.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// The next frame's record, `None` behind the last good one; then [`damage`] says whether
    /// that was the end of the file.
    ///
    /// # Errors
    /// The source of bytes failed.
    ///
    /// [`damage`]: CaptureReader::damage
    pub fn next_record(&mut self) -> io::Result<Option<FrameRecord>> {
        self.next(None)
    }

    /// As [`next_record`](CaptureReader::next_record), with the frame's bytes in `frame`.
    ///
    /// # Errors
    /// The source of bytes failed.
    pub fn next_frame(&mut self, frame: &mut Vec<u8>) -> io::Result<Option<FrameRecord>> {
        self.next(Some(frame))
    }

    fn next(&mut self, mut sink: Sink<'_>) -> io::Result<Option<FrameRecord>> {
        while self.damage.is_none() {
            let sink = sink.as_deref_mut();
            let step = match self.layout {
                Layout::Pcap {
                    fraction_ns,
                    header_bytes,
                } => self.next_in_pcap(fraction_ns, header_bytes, sink),
                Layout::PcapNg(_) => self.next_in_pcapng(sink),
            };
            match step {
                Ok(Step::Frame(record)) => return Ok(Some(record)),
                Ok(Step::Other) => {}
                Ok(Step::End) => return Ok(None),
                Err(Stop::Damaged(damage)) => self.damage = Some(damage),
                Err(Stop::Read(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads to the end and counts.
    ///
    /// # Errors
    /// The source of bytes failed.
    pub fn summary(&mut self) -> io::Result<CaptureSummary> {
        let mut summary = CaptureSummary {
            format: self.format(),
            link_type: None,
            frames: 0,
            frames_not_ethernet: 0,
            captured_bytes: 0,
            wire_bytes: 0,
            frame_bytes_max: 0,
            frames_cut_short: 0,
            first_ns: None,
            last_ns: None,
            damaged_at: None,
            port_stops_at: None,
        };
        loop {
            let record = self.next_record()?;
            if summary.port_stops_at.is_none() {
                summary.port_stops_at = self.port_stop.map(|stop| (summary.frames + 1, stop));
            }
            let Some(record) = record else { break };
            summary.frames += 1;
            summary.frames_not_ethernet += u64::from(record.link_type != LinkType::ETHERNET);
            summary.captured_bytes += u64::from(record.captured_bytes);
            summary.wire_bytes += u64::from(record.wire_bytes);
            summary.frame_bytes_max = summary.frame_bytes_max.max(record.captured_bytes);
            summary.frames_cut_short += u64::from(record.captured_bytes < record.wire_bytes);
            summary.first_ns = summary.first_ns.or(Some(record.timestamp_ns));
            summary.last_ns = Some(record.timestamp_ns);
        }
        summary.link_type = self.link_type();
        summary.damaged_at = self.damage.map(|damage| (summary.frames + 1, damage));
        Ok(summary)
    }

    fn next_in_pcap(
        &mut self,
        fraction_ns: u64,
        header_bytes: usize,
        sink: Sink<'_>,
    ) -> Result<Step, Stop> {
        let mut header = [0; PCAP_FRAME_HEADER_BYTES_MAX];
        let (Some(header), Some((link_type, snapshot_bytes))) =
            (header.get_mut(..header_bytes), self.first)
        else {
            return Ok(Step::End);
        };
        match self.source.fill(header).map_err(Stop::Read)? {
            0 => return Ok(Step::End),
            count if count < header_bytes => return Err(Stop::Damaged(Damage::Cut)),
            _ => {}
        }
        let fields = self.source.fields(header);
        let (seconds, fraction) = (u64::from(fields.u32(0)), u64::from(fields.u32(4)));
        let (captured, wire_bytes) = (fields.u32(8), fields.u32(12));
        if captured > FRAME_BYTES_MAX {
            return Err(Stop::Damaged(Damage::Length { bytes: captured }));
        }
        // A frame longer than the header of the file allows is cut, as libpcap does.
        let captured_bytes = captured.min(snapshot_bytes);
        self.source.read_frame(captured_bytes, sink)?;
        self.source.skip(captured - captured_bytes)?;
        let timestamp_ns = seconds * NANOS_PER_SECOND + fraction * fraction_ns;
        Ok(Step::Frame(FrameRecord {
            timestamp_ns,
            captured_bytes,
            wire_bytes,
            link_type,
        }))
    }
}

/// The layout of a pcap file with this magic number.
fn pcap_variant(magic: u32) -> Option<Layout> {
    let (fraction_ns, header_bytes) = match magic {
        0xa1b2_c3d4 => (1000, 16),
        0xa1b2_3c4d => (1, 16),
        0xa1b2_cd34 => (1000, 24),
        _ => return None,
    };
    Some(Layout::Pcap {
        fraction_ns,
        header_bytes,
    })
}

/// The length at which frames were cut; as libpcap does, 0 and too much are its limit.
pub(super) fn snapshot_bytes(field: u32) -> u32 {
    if (1..=FRAME_BYTES_MAX).contains(&field) {
        field
    } else {
        FRAME_BYTES_MAX
    }
}

/// Bytes in the order of the file.
#[derive(Debug)]
pub(super) struct Source<R> {
    input: R,
    pub(super) big_endian: bool,
}

impl<R: BufRead> Source<R> {
    pub(super) fn fields<'a>(&self, bytes: &'a [u8]) -> Fields<'a> {
        Fields {
            bytes,
            big_endian: self.big_endian,
        }
    }

    pub(super) fn read_u32(&mut self) -> Result<u32, Stop> {
        let mut bytes = [0; 4];
        self.read_exactly(&mut bytes)?;
        Ok(self.fields(&bytes).u32(0))
    }

    pub(super) fn read_exactly(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        let count = self.fill(bytes).map_err(Stop::Read)?;
        if count == bytes.len() {
            Ok(())
        } else {
            Err(Stop::Damaged(Damage::Cut))
        }
    }

    pub(super) fn read_frame(&mut self, count: u32, sink: Sink<'_>) -> Result<(), Stop> {
        let Some(frame) = sink else {
            return self.skip(count);
        };
        frame.clear();
        let mut bytes = self.input.by_ref().take(u64::from(count));
        let read = bytes.read_to_end(frame).map_err(Stop::Read)?;
        if u64::try_from(read).is_ok_and(|read| read == u64::from(count)) {
            Ok(())
        } else {
            Err(Stop::Damaged(Damage::Cut))
        }
    }

    pub(super) fn skip(&mut self, count: u32) -> Result<(), Stop> {
        let mut rest = count as usize;
        while rest > 0 {
            let there = match self.input.fill_buf() {
                Ok([]) => return Err(Stop::Damaged(Damage::Cut)),
                Ok(bytes) => bytes.len().min(rest),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Read(error)),
            };
            self.input.consume(there);
            rest -= there;
        }
        Ok(())
    }

    /// Fills `bytes` as far as the input goes; how many were filled.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Fixed-width fields of a header. Offsets are constants within the arrays that headers are read
/// into; one beyond reads as 0.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Fields<'_> {
    pub(super) fn u16(&self, offset: usize) -> u16 {
        let bytes = self
            .bytes
            .get(offset..)
            .and_then(|rest| rest.first_chunk())
            .copied();
        let bytes = bytes.unwrap_or_default();
        if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    pub(super) fn u32(&self, offset: usize) -> u32 {
        let bytes = self
            .bytes
            .get(offset..)
            .and_then(|rest| rest.first_chunk())
            .copied();
        let bytes = bytes.unwrap_or_default();
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    /// The lower 16 bits of a field of 32.
    pub(super) fn u16_in_u32(&self, offset: usize) -> u16 {
        let [low, high, ..] = self.u32(offset).to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}
