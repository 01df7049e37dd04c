//! Asks DNS servers: one question, one answer, both judged here.
//!
//! `simple-dns` reads and writes messages; asking takes a socket, a number and a deadline. A whole
//! resolver (hickory) was weighed and left out: it brings a cache, which
//! [`Names`](super::dns::Names) has to be, and turns on features of crates under everything else.
//!
//! Each question goes out of a port of its own (RFC 5452), by UDP and again by TCP where the answer
//! was cut (RFC 7766), to one server after the other.

use super::dns::Answer;
use crate::config::DnsConfig;
use rustix::rand::{GetRandomFlags, getrandom};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, SimpleDnsError, TYPE};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Where the servers of this machine are written.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Port of DNS servers.
const DNS_PORT: u16 = 53;
/// Addresses of one answer that are taken.
const ADDRESSES_MAX: usize = 256;
/// Names that one answer may lead through.
const ALIASES_MAX: usize = 16;
/// Bytes of a UDP message that are read.
const UDP_BYTES_MAX: usize = 4096;
/// Times that every server is asked.
const ROUNDS: usize = 2;

/// Why a server's answer is none.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{server} did not answer within {timeout:?}")]
    Timeout {
        server: SocketAddr,
        timeout: Duration,
    },
    #[error("{server}: {source}")]
    Io {
        server: SocketAddr,
        source: io::Error,
    },
    #[error("{server} answers what cannot be read: {source}")]
    Unreadable {
        server: SocketAddr,
        source: SimpleDnsError,
    },
    #[error("{server} answers {rcode:?}")]
    Code { server: SocketAddr, rcode: RCODE },
    #[error("there is no DNS server: set inventory.dns.servers, or mend {RESOLV_CONF}")]
    NoServer,
    #[error("`{name}` cannot be asked: {source}")]
    Name {
        name: String,
        source: SimpleDnsError,
    },
}

/// What a server knows of one name and family.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    addresses: Vec<(IpAddr, u32)>,
    /// There is no such name.
    missing: bool,
}

/// Asks the servers of the configuration, or of this machine.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    servers: Arc<[SocketAddr]>,
    timeout: Duration,
}

impl Asker {
    /// Opens nothing yet.
    pub(super) fn new(config: &DnsConfig) -> Self {
        let servers = if config.servers.is_empty() {
            let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
            servers_of(&text)
        } else {
            config.servers.clone()
        };
        Self {
            servers: servers.into(),
            timeout: config.timeout.0,
        }
    }

    /// Asks for both families.
    pub(super) async fn ask(&self, name: &str) -> Answer {
        let (a, aaaa) = tokio::join!(self.family(name, TYPE::A), self.family(name, TYPE::AAAA));
        let mut answer = Answer::default();
        let mut missing = false;
        for (family, found) in [("A", a), ("AAAA", aaaa)] {
            match found {
                Ok(found) => {
                    answer.addresses.extend(found.addresses);
                    missing |= found.missing;
                }
                Err(error) => answer.failed = Some(format!("{family}: {error}")),
            }
        }
        if answer.addresses.is_empty() && answer.failed.is_none() {
            let what = if missing {
                "no such name"
            } else {
                "the name has no address"
            };
            answer.failed = Some(format!("{what}; what it stood for is kept"));
        }
        answer
    }

    /// The first answer of any server.
    async fn family(&self, name: &str, family: TYPE) -> Result<Found, AskError> {
        let mut last = AskError::NoServer;
        for server in self
            .servers
            .iter()
            .cycle()
            .take(self.servers.len() * ROUNDS)
        {
            match self.ask_one(*server, name, family).await {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_one(&self, server: SocketAddr, name: &str, of: TYPE) -> Result<Found, AskError> {
        let id = random_id();
        let cannot = |source| AskError::Name {
            name: name.to_owned(),
            source,
        };
        let question = question(id, name, of).map_err(cannot)?;
        let within = self.timeout;
        let late = |_| AskError::Timeout {
            server,
            timeout: within,
        };
        let failed = |source| AskError::Io { server, source };
        let by_udp = timeout(within, udp(server, &question, id, name, of)).await;
        let mut bytes = by_udp.map_err(late)?.map_err(failed)?;
        if Packet::parse(&bytes).is_ok_and(|p| p.has_flags(PacketFlag::TRUNCATION)) {
            let by_tcp = timeout(within, tcp(server, &question)).await;
            bytes = by_tcp.map_err(late)?.map_err(failed)?;
        }
        let unreadable = |source| AskError::Unreadable { server, source };
        let packet = Packet::parse(&bytes).map_err(unreadable)?;
        match packet.rcode() {
            RCODE::NoError => {}
            RCODE::NameError => {
                return Ok(Found {
                    missing: true,
                    ..Found::default()
                });
            }
            rcode => return Err(AskError::Code { server, rcode }),
        }
        Ok(Found {
            addresses: addresses(&packet, name),
            missing: false,
        })
    }
}

/// A number that nobody can guess.
fn random_id() -> u16 {
    let mut bytes = [0; 2];
    // The kernel's source never fails once the machine is up; the port is random besides.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

fn question(id: u16, name: &str, of: TYPE) -> Result<Vec<u8>, SimpleDnsError> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name)?;
    packet
        .questions
        .push(Question::new(name, of.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec()
}

/// Whether a message answers the question. Anything else is not looked at further.
fn answers(bytes: &[u8], id: u16, name: &str, of: TYPE) -> bool {
    let Ok(packet) = Packet::parse(bytes) else {
        // What the server itself cannot write is told as unreadable, where the number is right.
        return bytes.first_chunk() == Some(&id.to_be_bytes());
    };
    packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && packet
            .questions
            .first()
            .is_some_and(|question| question.qtype == of.into() && lower(&question.qname) == name)
}

async fn udp(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &str,
    of: TYPE,
) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // The kernel then drops what comes from elsewhere.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let bytes = socket.recv(&mut buffer).await?;
        let message = buffer.get(..bytes).unwrap_or_default();
        if answers(message, id, name, of) {
            return Ok(message.to_vec());
        }
    }
}

async fn tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    // RFC 1035 section 4.2.2: two bytes of length before the message.
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// A name as names are compared.
fn lower(name: &Name<'_>) -> String {
    name.to_string().to_ascii_lowercase()
}

/// The addresses of a name, or of what it is an alias of, each with the shortest time to live on
/// the way there.
fn addresses(packet: &Packet<'_>, name: &str) -> Vec<(IpAddr, u32)> {
    let (mut name, mut ttl_s) = (name.to_owned(), u32::MAX);
    for _ in 0..ALIASES_MAX {
        let alias = packet
            .answers
            .iter()
            .find_map(|record| match &record.rdata {
                RData::CNAME(of) if lower(&record.name) == name => Some((lower(&of.0), record.ttl)),
                _ => None,
            });
        let Some((of, ttl)) = alias else {
            break;
        };
        (name, ttl_s) = (of, ttl_s.min(ttl));
    }
    let own = packet
        .answers
        .iter()
        .filter(|record| lower(&record.name) == name);
    own.filter_map(|record| {
        let address = match &record.rdata {
            RData::A(a) => IpAddr::V4(a.address.into()),
            // IPv4 in IPv6 clothes is nobody's address.
            RData::AAAA(a) => match Ipv6Addr::from(a.address) {
                v6 if v6.to_ipv4_mapped().is_some() => return None,
                v6 => IpAddr::V6(v6),
            },
            _ => return None,
        };
        Some((address, ttl_s.min(record.ttl)))
    })
    .take(ADDRESSES_MAX)
    .collect()
}

/// The `nameserver` lines of a resolv.conf, at most [`crate::config::DNS_SERVERS_MAX`].
fn servers_of(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver");
        address.and(words.next())?.parse::<IpAddr>().ok()
    });
    lines
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .take(crate::config::DNS_SERVERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer as a server writes it: `name type data` each, 300 s but for aliases.
    fn reply(question: &str, records: &[(&str, RData<'static>, u32)]) -> Vec<u8> {
        let mut packet = Packet::new_reply(7);
        let name = Name::new(question).unwrap().into_owned();
        let asked = Question::new(name, TYPE::A.into(), CLASS::IN.into(), false);
        packet.questions.push(asked);
        for (name, rdata, ttl) in records {
            let name = Name::new(name).unwrap();
            let record = simple_dns::ResourceRecord::new(name, CLASS::IN, *ttl, rdata.clone());
            packet.answers.push(record);
        }
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn a(last: u8) -> RData<'static> {
        RData::A(Ipv4Addr::new(10, 0, 0, last).into())
    }

    fn alias(of: &'static str) -> RData<'static> {
        RData::CNAME(simple_dns::rdata::CNAME(Name::new(of).unwrap()))
    }

    #[test]
    fn aliases_are_followed_and_the_shortest_time_to_live_counts() {
        let records = [
            ("B.example", alias("c.example"), 9),
            ("a.example", alias("b.example"), 100),
            ("c.example", a(1), 50),
            ("c.example", a(2), 5),
            ("other.example", a(3), 50),
        ];
        let bytes = reply("A.example", &records);
        assert!(answers(&bytes, 7, "a.example", TYPE::A));
        let found = addresses(&Packet::parse(&bytes).unwrap(), "a.example");
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        assert_eq!(found, [(ip(1), 9), (ip(2), 5)]);
        let circle = [("a.example", alias("a.example"), 9)];
        let bytes = reply("a.example", &circle);
        assert_eq!(addresses(&Packet::parse(&bytes).unwrap(), "a.example"), []);
    }

    #[test]
    fn what_was_not_asked_is_no_answer() {
        let bytes = reply("a.example", &[("a.example", a(1), 5)]);
        assert!(!answers(&bytes, 8, "a.example", TYPE::A), "another number");
        assert!(!answers(&bytes, 7, "b.example", TYPE::A), "another name");
        assert!(
            !answers(&bytes, 7, "a.example", TYPE::AAAA),
            "another family"
        );
        let question = question(7, "a.example", TYPE::A).unwrap();
        assert!(!answers(&question, 7, "a.example", TYPE::A), "a question");
        for length in 0..bytes.len() {
            let _ = Packet::parse(&bytes[..length]).map(|p| addresses(&p, "a.example"));
        }
    }

    #[test]
    fn servers_are_read_from_resolv_conf() {
        let text = "# nameserver 192.0.2.9\nsearch example.org\nnameserver 192.0.2.1\n\
                    nameserver\t2001:db8::53 \nnameserver nonsense\noptions ndots:2\n";
        let found: Vec<String> = servers_of(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::53]:53"]);
    }
}
