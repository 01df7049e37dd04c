//! What runs on a host of the lab: numbered streams, counted at both ends, so that one lost packet
//! shows. `lab-host WHAT ADDRESS:PORT [SECONDS|until:FILE]`; each prints one line of JSON. A stream lasts so many
//! seconds, or until the file is there; then it is one of several, slower, and its log says how far it is.
//!
//! - `echo-udp`, `echo-tcp`: send back what comes, until killed. `echo-udp` answers the word `count`
//!   with the number of datagrams it has echoed.
//! - `stream-udp`: a numbered datagram every 2 ms; sent, echoed, missing, counted at the other end.
//! - `stream-tcp`: a numbered message every 2 ms over one connection; sent, echoed, how it ended.
//! - `ask-udp`: one datagram; how it was answered.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(2);
/// Where several run beside each other.
const INTERVAL_OF_SEVERAL: Duration = Duration::from_millis(5);
/// Messages between two lines that say how far a stream is.
const TOLD_EVERY: u64 = 50;
/// A live stream that is not answered for so long has been cut.
const SILENCE: Duration = Duration::from_secs(3);
/// What a machine may take for a handshake beside other work.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);
/// Beginning of the answer to the word `count`, which no echo has.
const COUNT: &[u8] = b"count";

/// How long a stream lasts.
enum Length {
    For(Duration),
    UntilThereIs(PathBuf),
}

impl Length {
    fn parse(text: Option<&String>) -> Option<Self> {
        match text.map(String::as_str) {
            None => Some(Self::For(Duration::from_secs(5))),
            Some(text) => match text.strip_prefix("until:") {
                Some(file) => Some(Self::UntilThereIs(file.into())),
                None => text.parse().ok().map(Duration::from_secs).map(Self::For),
            },
        }
    }

    fn is_over(&self, begin: Instant) -> bool {
        match self {
            Self::For(length) => begin.elapsed() >= *length,
            Self::UntilThereIs(file) => file.exists(),
        }
    }

    fn interval(&self) -> Duration {
        match self {
            Self::For(_) => INTERVAL,
            Self::UntilThereIs(_) => INTERVAL_OF_SEVERAL,
        }
    }

    /// Whether a stream that stands still may yet go on: nobody knows before its end is told.
    fn may_go_on(&self) -> bool {
        matches!(self, Self::UntilThereIs(file) if !file.exists())
    }

    fn connected_within(&self) -> Duration {
        match self {
            Self::For(_) => SILENCE,
            Self::UntilThereIs(_) => CONNECTED_WITHIN,
        }
    }

    /// Says how far a stream is, to those who cannot know when it ends.
    fn tell(&self, sent: u64, echoed: u64) {
        if matches!(self, Self::UntilThereIs(_)) && sent.is_multiple_of(TOLD_EVERY) {
            println!("{{\"sent\": {sent}, \"echoed\": {echoed}}}");
        }
    }
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let usage = "usage: lab-host echo-udp|echo-tcp|stream-udp|stream-tcp|ask-udp ADDRESS:PORT \
                 [SECONDS|until:FILE]";
    let address: SocketAddr = arguments
        .get(2)
        .and_then(|text| text.parse().ok())
        .expect(usage);
    let length = Length::parse(arguments.get(3)).expect(usage);
    match arguments.get(1).map(String::as_str) {
        Some("echo-udp") => echo_udp(address),
        Some("echo-tcp") => echo_tcp(address),
        Some("stream-udp") => stream_udp(address, &length),
        Some("stream-tcp") => stream_tcp(address, &length),
        Some("ask-udp") => ask_udp(address),
        _ => panic!("{usage}"),
    }
}

fn echo_udp(address: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    let mut buffer = [0; 2048];
    let mut echoed = 0_u64;
    loop {
        let (size, from) = socket.recv_from(&mut buffer)?;
        if buffer.get(..size) == Some(COUNT) {
            socket.send_to(&[COUNT, &echoed.to_be_bytes()].concat(), from)?;
        } else {
            echoed += 1;
            socket.send_to(&buffer[..size], from)?;
        }
    }
}

fn echo_tcp(address: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    loop {
        let (mut stream, _) = listener.accept()?;
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(size) = stream.read(&mut buffer) {
                if size == 0 || stream.write_all(&buffer[..size]).is_err() {
                    break;
                }
            }
        });
    }
}

fn stream_udp(address: SocketAddr, length: &Length) -> std::io::Result<()> {
    let socket = connected(address)?;
    let mut back = HashSet::new();
    let mut buffer = [0; 64];
    let begin = Instant::now();
    let (mut sent, mut longest, mut last) = (0_u64, Duration::ZERO, Instant::now());
    socket.set_nonblocking(true)?;
    while !length.is_over(begin) {
        // A datagram that the sender's own kernel refuses has not been sent.
        sent += u64::from(socket.send(&sent.to_be_bytes()).is_ok());
        std::thread::sleep(length.interval());
        while let Ok(8) = socket.recv(&mut buffer) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            back.insert(buffer[..8].to_vec());
        }
        length.tell(sent, back.len() as u64);
    }
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(SILENCE))?;
    while (back.len() as u64) < sent {
        let Ok(8) = socket.recv(&mut buffer) else {
            break;
        };
        back.insert(buffer[..8].to_vec());
    }
    let counted = (0..5)
        .find_map(|_| count_there(&socket))
        .map_or("null".to_owned(), |count| count.to_string());
    println!(
        "{{\"sent\": {sent}, \"echoed\": {}, \"counted_there\": {counted}, \"longest_gap_ms\": {}}}",
        back.len(),
        longest.as_millis()
    );
    Ok(())
}

fn count_there(socket: &UdpSocket) -> Option<u64> {
    let mut buffer = [0; 64];
    socket.send(COUNT).ok()?;
    loop {
        let size = socket.recv(&mut buffer).ok()?;
        // An echo may be late.
        let count = buffer.get(..size)?.strip_prefix(COUNT);
        if let Some(count) = count.and_then(|count| count.try_into().ok()) {
            return Some(u64::from_be_bytes(count));
        }
    }
}

fn stream_tcp(address: SocketAddr, length: &Length) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, length.connected_within())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let begin = Instant::now();
    let (mut sent, mut echoed, mut end) = (0_u64, 0_u64, "done".to_owned());
    while !length.is_over(begin) {
        let mut buffer = [0; 8];
        let turn = stream.write_all(&sent.to_be_bytes()).and_then(|()| {
            sent += 1;
            read_echo(&mut stream, &mut buffer, length)
        });
        if let Err(error) = turn {
            end = word(&error);
            break;
        }
        assert_eq!(
            u64::from_be_bytes(buffer),
            echoed,
            "an echo is out of order"
        );
        echoed += 1;
        length.tell(sent, echoed);
        std::thread::sleep(length.interval());
    }
    let lasted = begin.elapsed().as_millis();
    println!(
        "{{\"sent\": {sent}, \"echoed\": {echoed}, \"end\": \"{end}\", \"lasted_ms\": {lasted}}}"
    );
    Ok(())
}

fn read_echo(stream: &mut TcpStream, echo: &mut [u8], length: &Length) -> std::io::Result<()> {
    let mut filled = 0;
    while filled < echo.len() {
        match stream.read(&mut echo[filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(size) => filled += size,
            Err(error) if is_silence(&error) && length.may_go_on() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn ask_udp(address: SocketAddr) -> std::io::Result<()> {
    let socket = connected(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let begin = Instant::now();
    let answer = socket
        .send(b"question")
        .and_then(|_| socket.recv(&mut [0; 64]));
    let end = answer.map_or_else(|error| word(&error), |_| "answered".to_owned());
    println!(
        "{{\"end\": \"{end}\", \"lasted_ms\": {}}}",
        begin.elapsed().as_millis()
    );
    Ok(())
}

fn connected(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    })?;
    socket.connect(address)?;
    Ok(socket)
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn word(error: &std::io::Error) -> String {
    match error.kind() {
        _ if is_silence(error) => "silence".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset".to_owned(),
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::HostUnreachable | ErrorKind::PermissionDenied => "prohibited".to_owned(),
        ErrorKind::UnexpectedEof => "closed".to_owned(),
        other => format!("{other}"),
    }
}
