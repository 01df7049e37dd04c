//! Rewrites files that libpcap refuses and other readers do not.
//!
//! pcapng as pcap with nanoseconds: libpcap, and with it net_pcap, ends at an interface whose snapshot length differs from the
//! first one's, although such files are legal and common (several interfaces captured at once).
//! The frames are the same ones, in the same order, at the same times.
//!
//! pcap of an unknown minor number as 2.4: nothing after 2.4 was ever defined, so the rest of the
//! file is read as 2.4 or not at all.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::capture::{FRAME_BYTES_MAX, LINK_TYPE_ETHERNET, Order, PCAP_MINOR_LAST};
use super::pcapng::{
    BLOCK_ENHANCED_PACKET, BLOCK_INTERFACE, BLOCK_PACKET, BLOCK_SECTION, BLOCK_SIMPLE_PACKET,
};

/// Option of an interface: resolution of its time stamps (draft-ietf-opsawg-pcapng section 4.2).
const OPTION_TS_RESOLUTION: u16 = 9;
/// Option of an interface: seconds to add to its time stamps.
const OPTION_TS_OFFSET: u16 = 14;

/// How an interface counts time.
#[derive(Clone, Copy)]
struct Interface {
    units_per_s: u128,
    offset_s: i64,
    snapshot: u32,
}

impl Interface {
    /// Nanoseconds since the Unix epoch.
    fn ns(self, stamp: u64) -> i128 {
        let units = i128::try_from(self.units_per_s).unwrap_or(i128::MAX);
        i128::from(stamp) * 1_000_000_000 / units + i128::from(self.offset_s) * 1_000_000_000
    }
}

/// Copies the first `frames` frames of a file that a walk has found whole up to there.
///
/// # Errors
/// Reading or writing fails, or the file is not what the walk saw.
pub(super) fn rewrite(from: &Path, to: &Path, frames: u64) -> io::Result<()> {
    let mut source = BufReader::new(File::open(from)?);
    let mut sink = BufWriter::new(File::create(to)?);
    write_header(&mut sink)?;
    let mut order = Order::Little;
    let mut interfaces = Vec::new();
    let mut written = 0;
    while written < frames {
        let (kind, body) = read_block(&mut source, &mut order)?;
        match kind {
            BLOCK_SECTION => interfaces.clear(),
            BLOCK_INTERFACE => interfaces.push(interface(order, &body)?),
            BLOCK_ENHANCED_PACKET | BLOCK_PACKET | BLOCK_SIMPLE_PACKET => {
                write_frame(&mut sink, kind, order, &interfaces, &body)?;
                written += 1;
            }
            _ => {}
        }
    }
    sink.flush()
}

/// Copies a pcap file and says in the copy's header that it is of the last known number.
///
/// # Errors
/// Reading or writing fails.
pub(super) fn renumber(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = BufReader::new(File::open(from)?);
    let mut sink = BufWriter::new(File::create(to)?);
    let mut start = [0; 8];
    source.read_exact(&mut start)?;
    // The magic number 0xa1b2c3d4 or 0xa1b23c4d begins with its own first byte in big endian files.
    let minor = match start[0] {
        0xa1 => PCAP_MINOR_LAST.to_be_bytes(),
        _ => PCAP_MINOR_LAST.to_le_bytes(),
    };
    start[6..].copy_from_slice(&minor);
    sink.write_all(&start)?;
    io::copy(&mut source, &mut sink)?;
    sink.flush()
}

/// The pcap file header (draft-ietf-opsawg-pcap section 4), nanoseconds, little endian.
fn write_header(sink: &mut impl Write) -> io::Result<()> {
    sink.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
    sink.write_all(&2_u16.to_le_bytes())?;
    sink.write_all(&4_u16.to_le_bytes())?;
    sink.write_all(&[0; 8])?;
    sink.write_all(&FRAME_BYTES_MAX.to_le_bytes())?;
    sink.write_all(&u32::from(LINK_TYPE_ETHERNET).to_le_bytes())
}

/// Reads one block: its type and its body. A section header settles the byte order.
fn read_block(source: &mut impl Read, order: &mut Order) -> io::Result<(u32, Vec<u8>)> {
    let mut head = [0; 12];
    source.read_exact(&mut head)?;
    if head[..4] == BLOCK_SECTION.to_le_bytes() {
        *order = if head[8] == 0x4d {
            Order::Little
        } else {
            Order::Big
        };
    }
    let kind = order.u32(&head[0..4]);
    let body_bytes = order.u32(&head[4..8]).saturating_sub(12);
    // The last four bytes of the head are the first of the body, or the trailer of an empty one.
    let mut body = head[8..].to_vec();
    source.take(u64::from(body_bytes)).read_to_end(&mut body)?;
    if body.len() != 4 + body_bytes as usize {
        return Err(changed());
    }
    body.truncate(body_bytes as usize);
    Ok((kind, body))
}

fn changed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the file changed while it was read",
    )
}

/// `length` bytes at `at`.
fn part(body: &[u8], at: usize, length: usize) -> io::Result<&[u8]> {
    at.checked_add(length)
        .and_then(|end| body.get(at..end))
        .ok_or_else(changed)
}

fn interface(order: Order, body: &[u8]) -> io::Result<Interface> {
    let snapshot = match order.u32(part(body, 4, 4)?) {
        0 => FRAME_BYTES_MAX,
        stated => stated,
    };
    let mut found = Interface {
        units_per_s: 1_000_000,
        offset_s: 0,
        snapshot,
    };
    let mut options = body.get(8..).unwrap_or_default();
    while let [code_0, code_1, length_0, length_1, rest @ ..] = options {
        let code = order.u16(&[*code_0, *code_1]);
        let length = usize::from(order.u16(&[*length_0, *length_1]));
        let Some(value) = rest.get(..length) else {
            break;
        };
        match (code, value) {
            (0, _) => break,
            (OPTION_TS_RESOLUTION, [exponent]) => found.units_per_s = units_per_s(*exponent),
            (OPTION_TS_OFFSET, [_, _, _, _, _, _, _, _]) => {
                let (first, second) = (order.u32(&value[..4]), order.u32(&value[4..]));
                let (high, low) = match order {
                    Order::Little => (second, first),
                    Order::Big => (first, second),
                };
                found.offset_s = (i64::from(high) << 32) | i64::from(low);
            }
            _ => {}
        }
        options = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// Ten to the power of the exponent, or two where its first bit is set. 1 where that is too much.
fn units_per_s(exponent: u8) -> u128 {
    let power = u32::from(exponent & 0x7f);
    let base: u128 = if exponent & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(power)
        .filter(|units| i128::try_from(*units).is_ok())
        .unwrap_or(1)
}

fn write_frame(
    sink: &mut impl Write,
    kind: u32,
    order: Order,
    interfaces: &[Interface],
    body: &[u8],
) -> io::Result<()> {
    let (index, stamp, captured, on_wire, at) = if kind == BLOCK_SIMPLE_PACKET {
        let on_wire = order.u32(part(body, 0, 4)?);
        let snapshot = interfaces
            .first()
            .map_or(FRAME_BYTES_MAX, |first| first.snapshot);
        (0, 0, on_wire.min(snapshot), on_wire, 4)
    } else {
        let index = if kind == BLOCK_PACKET {
            u32::from(order.u16(part(body, 0, 2)?))
        } else {
            order.u32(part(body, 0, 4)?)
        };
        let (high, low) = (order.u32(part(body, 4, 4)?), order.u32(part(body, 8, 4)?));
        let stamp = (u64::from(high) << 32) | u64::from(low);
        (
            index,
            stamp,
            order.u32(part(body, 12, 4)?),
            order.u32(part(body, 16, 4)?),
            20,
        )
    };
    let interface = interfaces.get(index as usize).ok_or_else(changed)?;
    let ns = interface
        .ns(stamp)
        .clamp(0, i128::from(u32::MAX) * 1_000_000_000);
    let seconds = u32::try_from(ns / 1_000_000_000).unwrap_or(u32::MAX);
    let fraction_ns = u32::try_from(ns % 1_000_000_000).unwrap_or(0);
    for field in [seconds, fraction_ns, captured, on_wire] {
        sink.write_all(&field.to_le_bytes())?;
    }
    sink.write_all(part(body, at, captured as usize)?)
}

#[cfg(test)]
mod tests {
    use super::super::capture::{Refused, inspect};
    use super::*;

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &length, body, &length].concat()
    }

    fn fields(fields: &[u32]) -> Vec<u8> {
        fields
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect()
    }

    #[test]
    fn frames_of_interfaces_with_other_lengths_and_clocks_keep_order_bytes_and_times() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (
            directory.path().join("a.pcapng"),
            directory.path().join("b.pcap"),
        );
        // Interface 0 counts microseconds, interface 1 nanoseconds beginning 100 s later.
        let options = [
            9, 0, 1, 0, 9, 0, 0, 0, 14, 0, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0,
        ];
        let file = [
            block(
                BLOCK_SECTION,
                &fields(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]),
            ),
            block(BLOCK_INTERFACE, &fields(&[1, 65_535])),
            block(
                BLOCK_INTERFACE,
                &[fields(&[1, 96]), options.to_vec()].concat(),
            ),
            block(
                BLOCK_ENHANCED_PACKET,
                &fields(&[0, 0, 2_000_001, 4, 60, 0xaaaa_aaaa]),
            ),
            block(
                BLOCK_ENHANCED_PACKET,
                &fields(&[1, 0, 7, 4, 4, 0xbbbb_bbbb]),
            ),
            block(BLOCK_SIMPLE_PACKET, &fields(&[4, 0xcccc_cccc])),
        ];
        std::fs::write(&from, file.concat()).unwrap();
        let capture = inspect(&from).unwrap();
        assert_eq!(
            (capture.frames, capture.refused, &capture.cut),
            (3, Some(Refused::MixedSnapshots), &None)
        );
        rewrite(&from, &to, capture.frames).unwrap();
        let header = fields(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, FRAME_BYTES_MAX, 1]);
        let frames = [
            fields(&[2, 1_000, 4, 60, 0xaaaa_aaaa]),
            fields(&[100, 7, 4, 4, 0xbbbb_bbbb]),
            fields(&[0, 0, 4, 4, 0xcccc_cccc]),
        ];
        assert_eq!(
            std::fs::read(&to).unwrap(),
            [header, frames.concat()].concat()
        );
        assert_eq!(inspect(&to).unwrap().frames, 3);
    }

    #[test]
    fn a_pcap_file_of_an_unknown_minor_number_is_read_as_2_4() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (
            directory.path().join("a.pcap"),
            directory.path().join("b.pcap"),
        );
        let frame = fields(&[0, 0, 4, 4, 0xaaaa_aaaa]);
        let file = |minor: u32| {
            let header = fields(&[0xa1b2_c3d4, 2 | minor << 16, 0, 0, FRAME_BYTES_MAX, 1]);
            [header, frame.clone()].concat()
        };
        std::fs::write(&from, file(8224)).unwrap();
        assert_eq!(inspect(&from).unwrap().refused, Some(Refused::UnknownMinor));
        renumber(&from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), file(4));
        assert_eq!(inspect(&to).unwrap().refused, None);
    }
}
