//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng) that matter for frames.

use std::io::BufRead;

use super::reader::{CaptureReader, Layout, Sink, Step, Stop, snapshot_bytes};
use super::{Damage, FRAME_BYTES_MAX, FrameRecord, LinkType, NANOS_PER_SECOND, PortStop};

// Block types, section 4, and option codes, sections 3.5 and 4.2.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const OPTION_END: u16 = 0;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

/// libpcap's limit of a block.
const BLOCK_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Type of a block and its length, twice.
const BLOCK_FRAMING_BYTES: u32 = 12;
/// Interfaces that one section may describe here.
const INTERFACES_MAX: usize = 65_536;

/// One interface that frames were captured on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interface {
    link_type: LinkType,
    snapshot_bytes: u32,
    resolution: Resolution,
    /// Seconds to add to each timestamp.
    offset_seconds: i64,
}

/// Units of a timestamp in a second.
#[derive(Clone, Copy, Debug)]
enum Resolution {
    PowerOfTen(u8),
    PowerOfTwo(u8),
}

fn bad_length<T>(bytes: u32) -> Result<T, Stop> {
    Err(Stop::Damaged(Damage::Length { bytes }))
}

fn checked_block_length(total: u32, least: u32) -> Result<u32, Stop> {
    if total < least || !total.is_multiple_of(4) || total > BLOCK_BYTES_MAX {
        return bad_length(total);
    }
    Ok(total)
}

impl<R: BufRead> CaptureReader<R> {
    /// One block.
    pub(super) fn next_in_pcapng(&mut self, sink: Sink<'_>) -> Result<Step, Stop> {
        let mut kind = [0; 4];
        match self.source.fill(&mut kind).map_err(Stop::Read)? {
            0 => return Ok(Step::End),
            4 => {}
            _ => return Err(Stop::Damaged(Damage::Cut)),
        }
        let kind = self.source.fields(&kind).u32(0);
        if kind == SECTION_HEADER {
            let big_endian = self.source.big_endian;
            self.read_section_header()?;
            if self.source.big_endian != big_endian {
                self.port_stop.get_or_insert(PortStop::ByteOrder);
            }
            return Ok(Step::Other);
        }
        let total = checked_block_length(self.source.read_u32()?, BLOCK_FRAMING_BYTES)?;
        let body_bytes = total - BLOCK_FRAMING_BYTES;
        let step = match kind {
            INTERFACE_DESCRIPTION => self.read_interface(body_bytes).map(|()| Step::Other),
            ENHANCED_PACKET | OBSOLETE_PACKET => self.read_packet(kind, body_bytes, sink),
            SIMPLE_PACKET => self.read_simple_packet(body_bytes, sink),
            _ => self.source.skip(body_bytes).map(|()| Step::Other),
        }?;
        self.read_trailer(total)?;
        Ok(step)
    }

    /// A section header behind its type: it says the byte order of what follows it, and begins
    /// the numbers of interfaces anew.
    pub(super) fn read_section_header(&mut self) -> Result<(), Stop> {
        /// Type, length, byte order, version, section length, and the length again.
        const LEAST: u32 = 28;
        let mut head = [0; 8];
        self.source.read_exactly(&mut head)?;
        self.source.big_endian = match head {
            [_, _, _, _, 0x4d, 0x3c, 0x2b, 0x1a] => false,
            [_, _, _, _, 0x1a, 0x2b, 0x3c, 0x4d] => true,
            _ => return Err(Stop::Damaged(Damage::Cut)),
        };
        let total = checked_block_length(self.source.fields(&head).u32(0), LEAST)?;
        self.source.skip(total - 16)?;
        self.read_trailer(total)?;
        self.layout = Layout::PcapNg(Vec::new());
        Ok(())
    }

    fn read_trailer(&mut self, total: u32) -> Result<(), Stop> {
        let trailer = self.source.read_u32()?;
        if trailer == total {
            Ok(())
        } else {
            bad_length(trailer)
        }
    }

    fn read_interface(&mut self, body_bytes: u32) -> Result<(), Stop> {
        let Some(options) = body_bytes.checked_sub(8) else {
            return bad_length(body_bytes);
        };
        let mut head = [0; 8];
        self.source.read_exactly(&mut head)?;
        let fields = self.source.fields(&head);
        let mut interface = Interface {
            link_type: LinkType(fields.u16(0)),
            snapshot_bytes: snapshot_bytes(fields.u32(4)),
            resolution: Resolution::PowerOfTen(6),
            offset_seconds: 0,
        };
        self.read_interface_options(options, &mut interface)?;
        let own = (interface.link_type, interface.snapshot_bytes);
        let first = *self.first.get_or_insert(own);
        if own.0 != first.0 {
            self.port_stop.get_or_insert(PortStop::LinkType(own.0));
        } else if own.1 != first.1 {
            self.port_stop
                .get_or_insert(PortStop::SnapshotLength(own.1));
        }
        if let Layout::PcapNg(interfaces) = &mut self.layout {
            if interfaces.len() >= INTERFACES_MAX {
                return Err(Stop::Damaged(Damage::TooManyInterfaces));
            }
            interfaces.push(interface);
        }
        Ok(())
    }

    fn read_interface_options(
        &mut self,
        mut left: u32,
        interface: &mut Interface,
    ) -> Result<(), Stop> {
        while left >= 4 {
            let mut head = [0; 4];
            self.source.read_exactly(&mut head)?;
            left -= 4;
            let fields = self.source.fields(&head);
            let (code, length) = (fields.u16(0), u32::from(fields.u16(2)));
            let padded = length.next_multiple_of(4);
            if padded > left {
                return bad_length(length);
            }
            left -= padded;
            match (code, length) {
                (OPTION_END, _) => break,
                (OPTION_RESOLUTION, 1) => {
                    let mut value = [0; 4];
                    self.source.read_exactly(&mut value)?;
                    interface.resolution = Resolution::from_option(value[0]);
                }
                (OPTION_OFFSET, 8) => {
                    let mut value = [0; 8];
                    self.source.read_exactly(&mut value)?;
                    interface.offset_seconds = if self.source.big_endian {
                        i64::from_be_bytes(value)
                    } else {
                        i64::from_le_bytes(value)
                    };
                }
                _ => self.source.skip(padded)?,
            }
        }
        self.source.skip(left)
    }

    fn read_packet(&mut self, kind: u32, body_bytes: u32, sink: Sink<'_>) -> Result<Step, Stop> {
        let Some(rest) = body_bytes.checked_sub(20) else {
            return bad_length(body_bytes);
        };
        let mut head = [0; 20];
        self.source.read_exactly(&mut head)?;
        let fields = self.source.fields(&head);
        let number = if kind == OBSOLETE_PACKET {
            u32::from(fields.u16(0))
        } else {
            fields.u32(0)
        };
        let units = u64::from(fields.u32(4)) << 32 | u64::from(fields.u32(8));
        let (captured_bytes, wire_bytes) = (fields.u32(12), fields.u32(16));
        let interface = self.interface(number)?;
        if captured_bytes > rest || captured_bytes > FRAME_BYTES_MAX {
            return bad_length(captured_bytes);
        }
        self.source.read_frame(captured_bytes, sink)?;
        self.source.skip(rest - captured_bytes)?;
        let (timestamp_ns, link_type) = (interface.nanoseconds(units), interface.link_type);
        Ok(Step::Frame(FrameRecord {
            timestamp_ns,
            captured_bytes,
            wire_bytes,
            link_type,
        }))
    }

    fn read_simple_packet(&mut self, body_bytes: u32, sink: Sink<'_>) -> Result<Step, Stop> {
        let Some(rest) = body_bytes.checked_sub(4) else {
            return bad_length(body_bytes);
        };
        let wire_bytes = self.source.read_u32()?;
        let Interface {
            link_type,
            snapshot_bytes,
            ..
        } = self.interface(0)?;
        let captured_bytes = wire_bytes.min(snapshot_bytes);
        if captured_bytes > rest {
            return bad_length(captured_bytes);
        }
        self.source.read_frame(captured_bytes, sink)?;
        self.source.skip(rest - captured_bytes)?;
        Ok(Step::Frame(FrameRecord {
            timestamp_ns: 0,
            captured_bytes,
            wire_bytes,
            link_type,
        }))
    }

    fn interface(&self, number: u32) -> Result<Interface, Stop> {
        let known = match &self.layout {
            Layout::PcapNg(interfaces) => usize::try_from(number)
                .ok()
                .and_then(|index| interfaces.get(index)),
            Layout::Pcap { .. } => None,
        };
        known
            .copied()
            .ok_or(Stop::Damaged(Damage::UnknownInterface {
                interface: number,
            }))
    }
}

impl Resolution {
    /// The value of option `if_tsresol`: the highest bit chooses the base.
    fn from_option(value: u8) -> Resolution {
        let power = value & 0x7f;
        if value & 0x80 == 0 {
            Resolution::PowerOfTen(power)
        } else {
            Resolution::PowerOfTwo(power)
        }
    }
}

impl Interface {
    /// A timestamp in this interface's units as nanoseconds since 1970. One that cannot be told
    /// in them is 0 or the largest that can.
    fn nanoseconds(&self, units: u64) -> u64 {
        let scaled = u128::from(units) * u128::from(NANOS_PER_SECOND);
        let nanoseconds = match self.resolution {
            Resolution::PowerOfTen(power) => 10_u128
                .checked_pow(u32::from(power))
                .map_or(0, |per_second| scaled / per_second),
            Resolution::PowerOfTwo(power) => scaled.checked_shr(u32::from(power)).unwrap_or(0),
        };
        let offset = i128::from(self.offset_seconds) * i128::from(NANOS_PER_SECOND);
        let shifted = i128::try_from(nanoseconds)
            .unwrap_or(i128::MAX)
            .saturating_add(offset);
        u64::try_from(shifted.max(0)).unwrap_or(u64::MAX)
    }
}
