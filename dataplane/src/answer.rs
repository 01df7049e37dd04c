//! Answers to rejected packets: TCP RST and ICMP administratively prohibited.
//!
//! An answer is made from the packet it answers and looks as if the packet's receiver had sent it:
//! the appliance has no address of its own. Never answered are RSTs, ICMP errors, later fragments,
//! multicast and broadcast (RFC 1122 section 3.2.2, RFC 4443 section 2.4), and packets inside
//! tunnels, MPLS or PPPoE.

use packet::{Headers, IpHeader, Tcp, Transport, VLAN_TAGS_MAX};

/// Longest answer: Ethernet with four VLAN tags, and an ICMPv6 error of the minimum IPv6 MTU.
pub const ANSWER_BYTES_MAX: usize = 14 + 4 * 4 + 1280;

/// Bytes of an IPv4 packet quoted in an ICMP error: the whole error fits into 576 bytes
/// (RFC 1812 section 4.3.2.3).
const QUOTE_IPV4_BYTES_MAX: usize = 576 - 20 - 8;
/// Bytes of an IPv6 packet quoted in an ICMPv6 error: the whole error fits into the minimum MTU
/// (RFC 4443 section 2.4).
const QUOTE_IPV6_BYTES_MAX: usize = 1280 - 40 - 8;

const HOP_LIMIT: u8 = 64;
const PROTO_ICMP: u8 = 1;
const PROTO_TCP: u8 = 6;
const PROTO_ICMPV6: u8 = 58;

/// Room for one answer.
#[derive(Debug)]
pub struct Answer {
    bytes: [u8; ANSWER_BYTES_MAX],
    length: usize,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            bytes: [0; ANSWER_BYTES_MAX],
            length: 0,
        }
    }
}

/// To whom a TCP RST goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Back to where the packet came from.
    Sender,
    /// On to where it was going.
    Receiver,
}

impl Answer {
    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Makes the answer that a rejected packet's sender gets. `None` where none may be sent.
    #[must_use]
    pub fn reject(&mut self, frame: &[u8], headers: &Headers) -> Option<&[u8]> {
        match headers.transport {
            Transport::Tcp(tcp) => self.reset(frame, headers, tcp, To::Sender),
            _ => self.prohibited(frame, headers),
        }
    }

    /// Makes a TCP RST for the flow of `frame`.
    #[must_use]
    pub fn reset(&mut self, frame: &[u8], headers: &Headers, tcp: Tcp, to: To) -> Option<&[u8]> {
        let ip = answerable(headers)?;
        if tcp.flags & Tcp::RST != 0 {
            return None;
        }
        self.start(frame, headers, ip, to)?;
        self.ip_header(ip, PROTO_TCP, 20, to)?;
        let (sport, dport) = match to {
            To::Sender => (ip.dst_port, ip.src_port),
            To::Receiver => (ip.src_port, ip.dst_port),
        };
        let (seq, ack, flags) = reset_numbers(tcp, to);
        let mut segment = [0_u8; 20];
        put(&mut segment, 0, &sport.to_be_bytes())?;
        put(&mut segment, 2, &dport.to_be_bytes())?;
        put(&mut segment, 4, &seq.to_be_bytes())?;
        put(&mut segment, 8, &ack.to_be_bytes())?;
        put(&mut segment, 12, &[5 << 4, flags.to_be_bytes()[1]])?;
        let sum = pseudo_header_sum(ip, PROTO_TCP, segment.len());
        let checksum = checksum(&segment, sum);
        put(&mut segment, 16, &checksum.to_be_bytes())?;
        self.append(&segment)?;
        Some(self.bytes())
    }

    /// ICMP type 3 code 13 (RFC 1812 section 5.2.7.1) or ICMPv6 type 1 code 1 (RFC 4443 section 3.1).
    fn prohibited(&mut self, frame: &[u8], headers: &Headers) -> Option<&[u8]> {
        let ip = answerable(headers)?;
        let is_error = match headers.transport {
            Transport::Icmp(icmp) => !matches!(icmp.kind, 0 | 8 | 13..=18),
            Transport::Icmpv6(icmp) => icmp.kind < 128 || matches!(icmp.kind, 133..=137),
            _ => false,
        };
        if is_error {
            return None;
        }
        let (proto, kind, code, quote_max) = match ip.version {
            4 => (PROTO_ICMP, 3, 13, QUOTE_IPV4_BYTES_MAX),
            _ => (PROTO_ICMPV6, 1, 1, QUOTE_IPV6_BYTES_MAX),
        };
        let l3 = ip.l3_offset as usize;
        let quoted = frame.get(l3..)?;
        let quoted = quoted.get(..quoted.len().min(ip.ip_bytes as usize).min(quote_max))?;
        self.start(frame, headers, ip, To::Sender)?;
        self.ip_header(ip, proto, 8 + quoted.len(), To::Sender)?;
        let at = self.length;
        self.append(&[kind, code, 0, 0, 0, 0, 0, 0])?;
        self.append(quoted)?;
        let pseudo = if ip.version == 4 {
            0
        } else {
            pseudo_header_sum(ip, proto, 8 + quoted.len())
        };
        let checksum = checksum(self.bytes.get(at..self.length)?, pseudo);
        put(&mut self.bytes, at + 2, &checksum.to_be_bytes())?;
        Some(self.bytes())
    }

    /// Copies the link layer header of `frame`, turned round where the answer goes back.
    fn start(&mut self, frame: &[u8], headers: &Headers, ip: &IpHeader, to: To) -> Option<()> {
        self.length = 0;
        self.append(frame.get(..ip.l3_offset as usize)?)?;
        if to == To::Sender {
            put(&mut self.bytes, 0, &headers.link.source)?;
            put(&mut self.bytes, 6, &headers.link.destination)?;
        }
        Some(())
    }

    /// Appends an IP header for `payload_bytes` of `proto`, addressed like `ip` or the other way round.
    fn ip_header(&mut self, ip: &IpHeader, proto: u8, payload_bytes: usize, to: To) -> Option<()> {
        let (src, dst) = match to {
            To::Sender => (&ip.dst, &ip.src),
            To::Receiver => (&ip.src, &ip.dst),
        };
        if ip.version == 4 {
            let total = u16::try_from(20 + payload_bytes).ok()?;
            let mut header = [
                0x45, 0, 0, 0, 0, 0, 0x40, 0, HOP_LIMIT, proto, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ];
            put(&mut header, 2, &total.to_be_bytes())?;
            put(&mut header, 12, src.get(12..)?)?;
            put(&mut header, 16, dst.get(12..)?)?;
            let checksum = checksum(&header, 0);
            put(&mut header, 10, &checksum.to_be_bytes())?;
            self.append(&header)
        } else {
            let payload = u16::try_from(payload_bytes).ok()?.to_be_bytes();
            self.append(&[0x60, 0, 0, 0, payload[0], payload[1], proto, HOP_LIMIT])?;
            self.append(src)?;
            self.append(dst)
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Option<()> {
        put(&mut self.bytes, self.length, bytes)?;
        self.length += bytes.len();
        Some(())
    }
}

/// The packet's IP header, if a packet of this kind may be answered at all.
fn answerable(headers: &Headers) -> Option<&IpHeader> {
    let ip = headers.outer.as_ref()?;
    let link = &headers.link;
    let plain = headers.inner.is_none()
        && link.mpls_label_count == 0
        && !link.pppoe
        && ip.l3_offset == 14 + 4 * u32::from(link.vlan_count())
        && usize::from(link.vlan_count()) <= VLAN_TAGS_MAX;
    let to_one = link.destination[0] & 1 == 0
        && is_unicast(&ip.dst, ip.version)
        && is_unicast(&ip.src, ip.version);
    (plain && to_one && !ip.is_later_fragment() && headers.malformed.is_none()).then_some(ip)
}

fn is_unicast(address: &[u8; 16], version: u8) -> bool {
    if version == 4 {
        address[12] < 224 && address[12..] != [0, 0, 0, 0]
    } else {
        address[0] != 0xff && *address != [0; 16]
    }
}

/// Sequence number, acknowledgment number and flags of a RST, RFC 9293 section 3.10.7.1.
fn reset_numbers(tcp: Tcp, to: To) -> (u32, u32, u16) {
    if to == To::Receiver {
        return (tcp.seq, tcp.ack, Tcp::RST | (tcp.flags & Tcp::ACK));
    }
    if tcp.flags & Tcp::ACK != 0 {
        return (tcp.ack, 0, Tcp::RST);
    }
    let control = u32::from(tcp.flags & Tcp::SYN != 0) + u32::from(tcp.flags & Tcp::FIN != 0);
    (
        0,
        tcp.seq
            .wrapping_add(tcp.payload_bytes)
            .wrapping_add(control),
        Tcp::RST | Tcp::ACK,
    )
}

/// Sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1); the same both ways.
fn pseudo_header_sum(ip: &IpHeader, proto: u8, length: usize) -> u32 {
    let from = if ip.version == 4 { 12 } else { 0 };
    let addresses = |address: &[u8; 16]| words_sum(address.get(from..).unwrap_or_default());
    addresses(&ip.src) + addresses(&ip.dst) + u32::from(proto) + u32::try_from(length).unwrap_or(0)
}

fn words_sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(2);
    let last = words
        .remainder()
        .first()
        .map_or(0, |byte| u32::from(*byte) << 8);
    words.fold(last, |sum, word| match word {
        [high, low] => sum + (u32::from(*high) << 8 | u32::from(*low)),
        _ => sum,
    })
}

/// Internet checksum, RFC 1071, of bytes whose checksum field is zero.
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start + words_sum(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    to.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::{ParseOptions, parse};

    fn headers_of(frame: &[u8]) -> Headers {
        let mut headers = Headers::new();
        parse(
            frame,
            u32::try_from(frame.len()).unwrap(),
            &ParseOptions::default(),
            &mut headers,
        );
        headers
    }

    /// Ethernet, VLAN 7, IPv4 10.0.0.1 -> 10.0.0.2, then `payload` of `proto`.
    fn ipv4(proto: u8, payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 7, 8, 0];
        frame.extend([
            0x45, 0, total[0], total[1], 0, 1, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend(payload);
        frame
    }

    fn tcp(flags: u8) -> Vec<u8> {
        vec![
            0x9c, 0x40, 0, 80, 0, 0, 0, 100, 0, 0, 0, 9, 0x50, flags, 1, 0, 0, 0, 0, 0,
        ]
    }

    #[test]
    fn a_rejected_syn_is_answered_by_a_reset_that_acknowledges_it() {
        let frame = ipv4(6, &tcp(0x02));
        let mut answer = Answer::default();
        let bytes = answer
            .reject(&frame, &headers_of(&frame))
            .expect("a reset")
            .to_vec();
        assert_eq!(
            bytes[..18],
            [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0]
        );
        let back = headers_of(&bytes);
        let ip = back.outer.expect("an IP header");
        assert_eq!(
            (ip.src[15], ip.dst[15], ip.src_port, ip.dst_port),
            (2, 1, 80, 40_000)
        );
        let Transport::Tcp(reset) = back.transport else {
            panic!("not TCP: {:?}", back.transport)
        };
        assert_eq!(
            (reset.seq, reset.ack, reset.flags),
            (0, 101, Tcp::RST | Tcp::ACK)
        );
        assert_eq!(
            checksum(&bytes[18..38], 0),
            0,
            "the IPv4 header sums up to zero"
        );
        assert_eq!(
            checksum(&bytes[38..], pseudo_header_sum(&ip, 6, 20)),
            0,
            "so does the segment"
        );
    }

    #[test]
    fn a_live_flow_is_reset_towards_both_ends_with_numbers_they_accept() {
        let frame = ipv4(6, &tcp(0x10));
        let headers = headers_of(&frame);
        let Transport::Tcp(segment) = headers.transport else {
            panic!("not TCP")
        };
        assert_eq!(reset_numbers(segment, To::Sender), (9, 0, Tcp::RST));
        assert_eq!(
            reset_numbers(segment, To::Receiver),
            (100, 9, Tcp::RST | Tcp::ACK)
        );
        let mut answer = Answer::default();
        let on = answer
            .reset(&frame, &headers, segment, To::Receiver)
            .expect("a reset")
            .to_vec();
        assert_eq!(on[..12], frame[..12], "it goes the packet's own way");
    }

    #[test]
    fn rejected_udp_is_answered_by_icmp_prohibited_that_quotes_it() {
        let frame = ipv4(17, &[0x9c, 0x40, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
        let mut answer = Answer::default();
        let bytes = answer
            .reject(&frame, &headers_of(&frame))
            .expect("an error")
            .to_vec();
        assert_eq!(bytes[38..40], [3, 13]);
        assert_eq!(bytes[46..], frame[18..]);
        assert_eq!(checksum(&bytes[38..], 0), 0);
        let back = headers_of(&bytes);
        assert_eq!(
            back.quoted.map(|q| (q.src_port, q.dst_port)),
            Some((40_000, 53))
        );
    }

    #[test]
    fn rejected_udp_over_ipv6_is_answered_with_a_valid_checksum() {
        let mut frame = vec![
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 12, 17, 64,
        ];
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        frame.extend([0x9c, 0x40, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
        let headers = headers_of(&frame);
        let mut answer = Answer::default();
        let bytes = answer.reject(&frame, &headers).expect("an error").to_vec();
        assert_eq!(bytes[54..56], [1, 1]);
        let ip = headers_of(&bytes).outer.expect("IPv6");
        assert_eq!(
            checksum(&bytes[54..], pseudo_header_sum(&ip, 58, bytes.len() - 54)),
            0
        );
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let mut answer = Answer::default();
        let reset = ipv4(6, &tcp(0x04));
        assert!(
            answer.reject(&reset, &headers_of(&reset)).is_none(),
            "a reset"
        );
        let error = ipv4(1, &[3, 1, 0, 0, 0, 0, 0, 0]);
        assert!(
            answer.reject(&error, &headers_of(&error)).is_none(),
            "an ICMP error"
        );
        let mut fragment = ipv4(17, &[1, 2, 3, 4, 5, 6, 7, 8]);
        fragment[25] = 1;
        assert!(
            answer.reject(&fragment, &headers_of(&fragment)).is_none(),
            "a later fragment"
        );
        let mut group = ipv4(17, &[0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
        group[34] = 224;
        assert!(
            answer.reject(&group, &headers_of(&group)).is_none(),
            "multicast"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_frame_makes_it_panic_and_every_answer_parses(bytes in proptest::collection::vec(0_u8.., 0..200), proto in proptest::sample::select(vec![1_u8, 6, 17, 58, 132])) {
            let frame = ipv4(proto, &bytes);
            let headers = headers_of(&frame);
            let mut answer = Answer::default();
            if let Some(reply) = answer.reject(&frame, &headers) {
                let reply = reply.to_vec();
                proptest::prop_assert!(headers_of(&reply).malformed.is_none());
            }
        }
    }
}
