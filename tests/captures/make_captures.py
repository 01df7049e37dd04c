#!/usr/bin/env python3
"""make_captures.py - writes the repository's own captures and their truth.

    make_captures.py [--check]        --check writes nothing and fails if a file would change

Plain Python, no packet library. Each frame is *built* from a description, and the truth is computed from
that description, never by reading the bytes again: whoever parses the capture is checked against what was
meant. For a capture X there are, with the columns `src dst proto sport dport pkts_fwd bytes_fwd pkts_rev
bytes_rev`:

    X.flows.tsv         keyed on the outermost IP header
    X.flows.inner.tsv   keyed on the innermost one, where a frame has more than one
    X.flows.vlan.tsv    the outermost with the VLAN stack in the key, where that changes the rows
    X.flows.frag.tsv    non-first fragments credited to the first fragment that came before them

Rules: both directions are one row; `fwd` is from the sender of the first frame; ICMP and ICMPv6, and non-first
fragments, have ports 0; bytes are what the IP header claims (IPv4 total length, IPv6 payload length + 40);
no timeouts, one row per key; frames without a readable IP header belong to no row.
"""
import ipaddress
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
COLUMNS = "src dst proto sport dport pkts_fwd bytes_fwd pkts_rev bytes_rev".split()
ICMP, TCP, UDP, GRE, ESP, AH, ICMPV6, SCTP, IPIP, IP6, UDPLITE = 1, 6, 17, 47, 50, 51, 58, 132, 4, 41, 136
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ETH_IP, ETH_IP6, ETH_ARP = 0x0800, 0x86DD, 0x0806


def checksum(data):
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Part:
    """Bytes from some header to the end of the packet, and the IP headers that are in them, outermost first."""

    def __init__(self, data, headers=(), vlans=(), ethertype=None):
        self.data, self.headers, self.vlans, self.ethertype = data, list(headers), list(vlans), ethertype


class Upper:
    """What an IP header carries: protocol number, bytes, ports, and the IP headers inside."""

    def __init__(self, proto, data, sport=0, dport=0, headers=()):
        self.proto, self.data, self.sport, self.dport, self.headers = proto, data, sport, dport, list(headers)


# ---- above IP ----

def tcp(sport, dport, seq, ack, flags, payload=b"", options=b""):
    offset = (20 + len(options)) // 4 << 4
    return Upper(TCP, struct.pack("!HHIIBBHHH", sport, dport, seq, ack, offset, flags, 65535, 0, 0)
                 + options + payload, sport, dport)


def udp(sport, dport, payload=b"", proto=UDP, headers=()):
    return Upper(proto, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload, sport, dport, headers)


def icmp(kind, code, rest, proto=ICMP):
    head = struct.pack("!BBH", kind, code, 0) + rest
    return Upper(proto, struct.pack("!BBH", kind, code, checksum(head)) + rest)


def echo(kind, ident, seq, proto=ICMP):
    return icmp(kind, 0, struct.pack("!HH", ident, seq) + b"ringfence" * 4, proto)


def sctp(sport, dport, tag, chunk):
    return Upper(SCTP, struct.pack("!HHII", sport, dport, tag, 0) + chunk, sport, dport)


def carries(proto, part):
    """IP in IP, or GRE in front of it: the headers inside are reached."""
    return Upper(proto, part.data, 0, 0, part.headers)


def gre(part, protocol, key=None):
    head = struct.pack("!HH", 0x2000 if key is not None else 0, protocol)
    return Upper(GRE, head + (struct.pack("!I", key) if key is not None else b"") + part.data, 0, 0, part.headers)


def vxlan(sport, vni, frame):
    return udp(sport, 4789, struct.pack("!II", 0x08000000, vni << 8) + frame.data, headers=frame.headers)


def geneve(sport, vni, frame, options=b""):
    head = struct.pack("!BBHI", len(options) // 4, 0, 0x6558, vni << 8)
    return udp(sport, 6081, head + options + frame.data, headers=frame.headers)


def gtpu(teid, part, extension=b""):
    flags = 0x34 if extension else 0x30
    optional = struct.pack("!HBB", 0, 0, 0x85) + extension if extension else b""
    head = struct.pack("!BBHI", flags, 255, len(optional) + len(part.data), teid)
    return udp(2152, 2152, head + optional + part.data, headers=part.headers)


# ---- IP ----

def header(version, src, dst, upper, size, ident=None, offset=0, more=False, proto=None):
    """What the truth needs to know of one IP header."""
    proto = upper.proto if proto is None else proto
    ports = (upper.sport, upper.dport) if offset == 0 else (0, 0)
    return {"v": version, "src": src, "dst": dst, "proto": proto, "ports": ports, "bytes": size,
            "ident": ident, "offset": offset, "more": more}


def ip4(src, dst, upper, ident=0, offset=0, more=False, data=None, options=b"", ttl=64):
    body = upper.data if data is None else data
    words = 5 + len(options) // 4
    total = words * 4 + len(body)
    flags = (0x2000 if more else 0) | offset // 8
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, total, ident, flags, ttl, upper.proto, 0)
    head += ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed + options
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    own = header(4, src, dst, upper, total, ident, offset, more)
    return Part(head + body, [own] + ([] if offset else upper.headers), ethertype=ETH_IP)


def ip6(src, dst, upper, extensions=(), data=None, fragment=None, final=None):
    """extensions: (number, bytes after the next-header byte). fragment: (ident, offset, more)."""
    body = upper.data if data is None else data
    chain = [(number, rest) for number, rest in extensions]
    if fragment:
        ident, offset, more = fragment
        chain.append((44, b"\0" + struct.pack("!HI", offset | int(more), ident)))
    numbers = [number for number, _ in chain] + [upper.proto if final is None else final]
    packed = b"".join(bytes([numbers[i + 1]]) + rest for i, (_, rest) in enumerate(chain))
    size = len(packed) + len(body)
    head = struct.pack("!IHBB", 6 << 28, size, numbers[0], 64)
    head += ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
    ident, offset, more = fragment or (None, 0, False)
    own = header(6, src, dst, upper, size + 40, ident, offset, more)
    return Part(head + packed + body, [own] + ([] if offset else upper.headers), ethertype=ETH_IP6)


def fragments4(src, dst, upper, ident, sizes):
    """The fragments of one IPv4 datagram, in order; sizes are multiples of 8, the rest goes last."""
    out, offset = [], 0
    for size in sizes + [len(upper.data) - sum(sizes)]:
        last = offset + size == len(upper.data)
        out.append(ip4(src, dst, upper, ident, offset, not last, upper.data[offset:offset + size]))
        offset += size
    return out


def fragments6(src, dst, upper, ident, sizes):
    out, offset = [], 0
    for size in sizes + [len(upper.data) - sum(sizes)]:
        last = offset + size == len(upper.data)
        data = upper.data[offset:offset + size]
        out.append(ip6(src, dst, upper, data=data, fragment=(ident, offset, not last)))
        offset += size
    return out


# ---- below IP ----

def ether(part, tags=(), pad=True, ethertype=None):
    """tags: (ethertype of the tag, VLAN id), outermost first."""
    data = struct.pack("!H", part.ethertype if ethertype is None else ethertype)
    for kind, vlan in reversed(tags):
        data = struct.pack("!HH", kind, vlan) + data
    frame = bytes.fromhex("020000000002020000000001") + data + part.data
    frame += b"\0" * (60 - len(frame) if pad and len(frame) < 60 else 0)
    return Part(frame, part.headers, [(kind, vlan) for kind, vlan in tags])


def mpls(part, labels, control_word=b""):
    stack = b""
    for i, label in enumerate(labels):
        stack += struct.pack("!I", label << 12 | (0x100 if i == len(labels) - 1 else 0) | 64)
    return ether(Part(stack + control_word + part.data, part.headers), ethertype=0x8847)


def pppoe(part, protocol):
    body = struct.pack("!H", protocol) + part.data
    return ether(Part(struct.pack("!BBHH", 0x11, 0, 7, len(body)) + body, part.headers), ethertype=0x8864)


def raw(ethertype, data):
    return ether(Part(data, ethertype=ethertype))


# ---- the truth ----

class Table:
    def __init__(self):
        self.rows = {}

    def add(self, head, ports, extra=()):
        key = (head["src"], head["dst"], head["proto"], ports[0], ports[1]) + extra
        back = (head["dst"], head["src"], head["proto"], ports[1], ports[0]) + extra
        side = 0
        if key not in self.rows and back in self.rows:
            key, side = back, 2
        row = self.rows.setdefault(key, [0, 0, 0, 0])
        row[side] += 1
        row[side + 1] += head["bytes"]

    def text(self):
        lines = ["\t".join(COLUMNS)]
        for key, counts in self.rows.items():
            lines.append("\t".join(str(cell) for cell in list(key[:5]) + counts))
        return "\n".join(lines) + "\n"


def truth(frames):
    """{suffix: text} for a list of Part."""
    outer, inner, vlan, credited = Table(), Table(), Table(), Table()
    first, tunnelled, fragmented = {}, False, False
    for frame in frames:
        if not frame.headers:
            continue
        head = frame.headers[0]
        outer.add(head, head["ports"])
        vlan.add(head, head["ports"], (tuple(frame.vlans),))
        inner.add(frame.headers[-1], frame.headers[-1]["ports"])
        tunnelled |= len(frame.headers) > 1
        key = (head["src"], head["dst"], head["proto"], head["ident"])
        fragmented |= bool(head["offset"] or head["more"])
        if head["more"] and head["offset"] == 0:
            first[key] = head["ports"]
        credited.add(head, first.get(key, (0, 0)) if head["offset"] else head["ports"])
    files = {".flows.tsv": outer.text()}
    if tunnelled:
        files[".flows.inner.tsv"] = inner.text()
    if len(vlan.rows) != len(outer.rows):
        files[".flows.vlan.tsv"] = vlan.text()
    if fragmented:
        files[".flows.frag.tsv"] = credited.text()
    return files


def pcap(frames, nanoseconds=False, gap_us=1000, linktype=1):
    magic, unit = (0xA1B23C4D, 1000) if nanoseconds else (0xA1B2C3D4, 1)
    out = struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 262144, linktype)
    for i, frame in enumerate(frames):
        now = i * gap_us
        out += struct.pack("<IIII", 1_700_000_000 + now // 1_000_000, now % 1_000_000 * unit,
                           len(frame.data), len(frame.data)) + frame.data
    return out


# ---- the captures ----

A4, B4, C4, A6, B6 = "192.0.2.10", "192.0.2.20", "198.51.100.7", "2001:db8::a", "2001:db8::b"


def conversation(a, b, sport, dport, request, answer, ip=ip4, reset=False):
    """A whole TCP connection: handshake, a request, an answer in segments, FIN both ways or RST."""
    def from_a(*args, **kw):
        return ip(a, b, tcp(sport, dport, *args, **kw))

    def from_b(*args, **kw):
        return ip(b, a, tcp(dport, sport, *args, **kw))

    mss = struct.pack("!BBH", 2, 4, 1460)
    out = [from_a(1000, 0, SYN, options=mss), from_b(5000, 1001, SYN | ACK, options=mss), from_a(1001, 5001, ACK)]
    out.append(from_a(1001, 5001, PSH | ACK, request))
    ack, seq = 1001 + len(request), 5001
    for at in range(0, len(answer), 1400):
        part = answer[at:at + 1400]
        out.append(from_b(seq, ack, ACK, part))
        seq += len(part)
        out.append(from_a(ack, seq, ACK))
    if reset:
        return out + [from_b(seq, ack, RST | ACK)]
    return out + [from_b(seq, ack, FIN | ACK), from_a(ack, seq + 1, FIN | ACK), from_b(seq + 1, ack + 1, ACK)]


def plain():
    arp = bytes.fromhex("0001080006040001020000000001c000020a000000000000c0000214")
    out = [raw(ETH_ARP, arp)]
    out += map(ether, conversation(A4, B4, 40001, 80, b"GET / HTTP/1.1\r\n\r\n", b"x" * 5000))
    out += map(ether, conversation(A4, B4, 40002, 5432, b"startup", b"no", reset=True))
    out.append(ether(ip4(A4, C4, udp(40003, 53, b"query" * 5))))
    out.append(ether(ip4(C4, A4, udp(53, 40003, b"answer" * 20))))
    for seq in range(3):
        out += [ether(ip4(A4, B4, echo(8, 7, seq))), ether(ip4(B4, A4, echo(0, 7, seq)))]
    refused = ip4(A4, C4, udp(40004, 9, b"nobody listens"))
    out += [ether(refused), ether(ip4(C4, A4, icmp(3, 3, bytes(4) + refused.data[:28])))]
    out.append(ether(ip4(A4, B4, tcp(40005, 22, 1, 0, SYN), options=b"\x94\x04\0\0")))
    out.append(ether(ip4(A4, B4, udp(0, 0, b"port 0 is a port"))))
    out.append(ether(ip4(A4, "224.0.0.251", udp(5353, 5353, b"multicast"))))
    out.append(ether(ip4("0.0.0.0", "255.255.255.255", udp(68, 67, b"discover"))))
    out.append(ether(ip4(A4, A4, udp(7, 7, b"to itself"))))
    return out


def ipv6():
    def pad(size):
        return bytes([0, 1, size - 4]) + bytes(size - 4)       # PadN fills the rest of the first 8 bytes

    hop, dest = (0, pad(8)), (60, pad(8))
    routing = (43, bytes([2, 0, 0, 0, 0, 0, 0]) + ipaddress.ip_address("2001:db8::c").packed)
    out = list(map(ether, conversation(A6, B6, 50001, 443, b"hello", b"y" * 3000, ip=ip6)))
    out.append(ether(ip6(A6, B6, udp(50002, 53, b"q"), [hop])))
    out.append(ether(ip6(B6, A6, udp(53, 50002, b"r" * 30), [dest])))
    out.append(ether(ip6(A6, B6, udp(50003, 514, b"log"), [hop, dest, routing, dest])))
    out.append(ether(ip6(A6, B6, udp(50004, 514, b"atomic"), fragment=(9, 0, False))))
    out += [ether(ip6(A6, B6, echo(128, 1, 1, ICMPV6))), ether(ip6(B6, A6, echo(129, 1, 1, ICMPV6)))]
    out.append(ether(ip6("fe80::1", "ff02::1:ff00:b", icmp(135, 0, bytes(4) + ipaddress.ip_address(B6).packed,
                                                        ICMPV6))))
    out.append(ether(ip6(A6, B6, Upper(ESP, struct.pack("!II", 77, 1) + bytes(32)))))
    out.append(ether(ip6(A6, B6, Upper(59, b""))))
    return out


def vlan():
    def hello(tags, back=False):
        ends = (B4, A4, udp(2000, 1000, b"pong")) if back else (A4, B4, udp(1000, 2000, b"ping"))
        return ether(ip4(*ends), tags)

    c10, c20, s100 = (0x8100, 10), (0x8100, 20), (0x88A8, 100)
    out = [hello(()), hello((c10,)), hello((c10,), True), hello((c20,)), hello((s100, c10)), hello((s100, c10), True),
           hello((c10, c20)), hello((), True)]
    out.append(ether(ip6(A6, B6, udp(1000, 2000, b"six")), (c10,)))
    out.append(ether(Part(bytes(28)), (c10,), ethertype=ETH_ARP))
    return out


def link_layers():
    inside = ip4(A4, B4, tcp(4000, 22, 1, 0, SYN))
    back = ip4(B4, A4, tcp(22, 4000, 1, 2, SYN | ACK))
    out = [mpls(inside, [16]), mpls(back, [17, 18, 19]), mpls(ip6(A6, B6, udp(1, 2, b"mpls")), [16])]
    out += [pppoe(ip4(A4, C4, udp(4001, 123, bytes(48))), 0x0021), pppoe(ip6(A6, B6, udp(4002, 123, bytes(48))), 0x57)]
    out.append(pppoe(Part(bytes.fromhex("0101000a0506aabbccdd")), 0xC021))
    out.append(raw(0x88CC, bytes.fromhex("0207040200000000010402050102060200780000")))
    return out


def tunnels():
    deep4 = ip4("10.0.0.1", "10.0.0.2", tcp(7001, 80, 1, 0, SYN))
    back4 = ip4("10.0.0.2", "10.0.0.1", tcp(80, 7001, 9, 2, SYN | ACK))
    deep6 = ip6("fd00::1", "fd00::2", udp(7002, 53, b"inside"))
    out = []
    for a, b, part in ((A4, B4, deep4), (B4, A4, back4)):
        out += [ether(ip4(a, b, carries(IPIP, part))), ether(ip4(a, b, gre(part, ETH_IP)))]
        out += [ether(ip4(a, b, gre(part, ETH_IP, key=99))), ether(ip4(a, b, vxlan(33333, 42, ether(part))))]
        out.append(ether(ip4(a, b, geneve(33334, 43, ether(part, pad=False), struct.pack("!HBBI", 0x102, 1, 1, 5)))))
        out.append(ether(ip4(a, b, gtpu(0xCAFE, part))))
        out.append(ether(ip4(a, b, gtpu(0xCAFE, part, bytes([1, 0x10, 9, 0])))))
    out += [ether(ip4(A4, B4, carries(IP6, deep6))), ether(ip6(A6, B6, carries(IPIP, deep4)))]
    out += [ether(ip6(A6, B6, carries(IP6, deep6))), ether(ip6(A6, B6, vxlan(33335, 44, ether(deep6))))]
    nested = ip4(C4, A4, vxlan(33336, 45, ether(ip4(A4, B4, gre(deep4, ETH_IP)))))
    out.append(ether(nested))
    out.append(ether(ip4(A4, B4, udp(9999, 4790, b"\xff" * 20))))
    return out


def fragments():
    body = bytes(range(256)) * 8
    out = list(map(ether, fragments4(A4, B4, udp(6001, 6002, body), 1, [1000, 800])))
    out += map(ether, reversed(fragments4(A4, B4, udp(6003, 6004, body), 2, [1000, 800])))
    one = fragments4(A4, B4, udp(6005, 6006, body), 3, [1000, 800])
    two = fragments4(A4, B4, udp(6007, 6008, body), 4, [1200, 600])
    out += [ether(part) for pair in zip(one, two) for part in pair]
    out += map(ether, fragments4(B4, A4, udp(6006, 6005, body), 3, [1024]))
    out += map(ether, fragments6(A6, B6, udp(6009, 6010, body), 77, [1200, 800]))
    out += map(ether, reversed(fragments6(A6, B6, udp(6011, 6012, body), 78, [1200, 800])))
    out += map(ether, fragments4(A4, B4, echo(8, 1, 1), 5, [16]))
    out.append(ether(ip4(A4, B4, Upper(UDP, b""), 99, 1480, False, b"an orphan")))
    return out


def transports():
    init = bytes.fromhex("01000014") + struct.pack("!IIHHI", 5, 65535, 1, 1, 9)
    out = [ether(ip4(A4, B4, sctp(5001, 36412, 0, init))), ether(ip4(B4, A4, sctp(36412, 5001, 5, b"\x02" + init[1:])))]
    out.append(ether(ip6(A6, B6, sctp(5002, 36412, 0, init))))
    out.append(ether(ip4(A4, B4, udp(5003, 5004, b"light", proto=UDPLITE))))
    out.append(ether(ip4(A4, B4, Upper(ESP, struct.pack("!II", 1, 1) + bytes(40)))))
    out.append(ether(ip4(A4, "224.0.0.1", Upper(2, bytes.fromhex("1164ee9b00000000")))))
    out.append(ether(ip4(A4, B4, Upper(99, b"any private protocol"))))
    out.append(ether(ip4(A4, B4, Upper(AH, bytes([TCP, 4, 0, 0]) + bytes(20) + tcp(1, 2, 3, 4, ACK).data))))
    return out


def jumbo():
    out = list(map(ether, conversation(A4, B4, 8001, 2049, b"read", b"")[:3]))
    for i in range(4):
        out.append(ether(ip4(B4, A4, tcp(2049, 8001, 1 + i * 8948, 1, ACK, bytes(8948)))))
    out.append(ether(ip4(A4, B4, tcp(8001, 2049, 1, 1 + 4 * 8948, ACK))))
    return out


def unreadable():
    """Good flows between frames that have no readable IP header: those belong to no row."""
    good = ip4(A4, B4, udp(9001, 9002, b"good"))
    out = [ether(good)]
    for size in (0, 1, 11, 19):
        out.append(ether(Part(good.data[:size], ethertype=ETH_IP), pad=False))
    six = ip6(A6, B6, udp(9003, 9004, b"good"))
    for size in (0, 7, 39):
        out.append(ether(Part(six.data[:size], ethertype=ETH_IP6), pad=False))
    out += [ether(six), ether(ip4(B4, A4, udp(9002, 9001, b"good")))]
    out += [Part(ether(good).data[:size]) for size in (1, 6, 13)]
    out.append(ether(Part(b"", ethertype=0x8100), pad=False))
    out.append(ether(Part(bytes.fromhex("00000040"), ethertype=0x8847), pad=False))
    return out


def damaged():
    """Every kind of frame cut at every length, and with its bytes turned over. No truth: nothing may crash or hang,
    and every frame must be accounted for."""
    def cut(frame):
        return [Part(frame.data[:size]) for size in range(1, min(len(frame.data), 110))]

    kinds = [plain()[1], ipv6()[len(ipv6()) - 7], vlan()[4], link_layers()[1], tunnels()[3], tunnels()[4], tunnels()[6],
             fragments()[0], fragments()[14], transports()[0]]
    out = []
    for frame in kinds:
        out += cut(frame)
        for at in range(12, min(len(frame.data), 90)):
            turned = bytearray(frame.data)
            turned[at] ^= 0xFF
            out.append(Part(bytes(turned)))
    return out


def story():
    """What the demo shows, for a machine without network namespaces: the hosts of tests/demo/policy-enforce.toml."""
    client, web, back, db, attacker = "10.77.1.5", "10.77.1.10", "10.77.2.10", "10.77.2.20", "10.77.1.66"
    out = []
    for i in range(3):
        out += conversation(client, web, 41000 + i, 80, b"GET /index.html HTTP/1.1\r\n\r\n", b"<html>" * 500)
        out += conversation(back, db, 42000 + i, 5432, b"select", b"row" * 300)
    for port in range(1, 201):
        out.append(ip4(attacker, web, tcp(43000, port, 7, 0, SYN)))
        if port != 80:
            out.append(ip4(web, attacker, tcp(port, 43000, 0, 8, RST | ACK)))
    out += conversation("10.77.2.66", db, 44000, 5432, b"select", b"secret" * 50)
    return list(map(ether, out))


CAPTURES = {
    "plain.pcap": (plain, {}), "ipv6.pcap": (ipv6, {}), "vlan.pcap": (vlan, {}),
    "link-layers.pcap": (link_layers, {}), "tunnels.pcap": (tunnels, {}), "fragments.pcap": (fragments, {}),
    "transports.pcap": (transports, {"nanoseconds": True}), "jumbo.pcap": (jumbo, {}),
    "unreadable.pcap": (unreadable, {}), "damaged.pcap": (damaged, {}), "story.pcap": (story, {"gap_us": 5000}),
}
WITHOUT_TRUTH = {"damaged.pcap"}


def files():
    for name, (build, how) in CAPTURES.items():
        frames = build()
        yield name, pcap(frames, **how)
        if name not in WITHOUT_TRUTH:
            for suffix, text in truth(frames).items():
                yield name + suffix, text.encode()
    whole = pcap(plain())
    yield "bad/empty.pcap", b""
    yield "bad/header-only.pcap", whole[:24]
    yield "bad/cut-in-header.pcap", whole[:13]
    yield "bad/cut-in-frame.pcap", whole[:-7]
    yield "bad/not-a-capture.pcap", b"#!/bin/sh\necho this is not a capture\n"
    yield "bad/not-ethernet.pcap", pcap(plain()[:1], linktype=105)
    yield "bad/length-lies.pcap", whole[:24] + struct.pack("<IIII", 1, 0, 0x7FFFFFFF, 0x7FFFFFFF) + bytes(60)


def main():
    check, wrong = "--check" in sys.argv[1:], []
    os.makedirs(os.path.join(HERE, "bad"), exist_ok=True)
    for name, content in files():
        path = os.path.join(HERE, name)
        old = open(path, "rb").read() if os.path.exists(path) else None
        if old != content:
            wrong.append(name)
            if not check:
                with open(path, "wb") as out:
                    out.write(content)
    for name in wrong:
        print("%s %s" % ("differs:" if check else "wrote", name))
    return 1 if check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
