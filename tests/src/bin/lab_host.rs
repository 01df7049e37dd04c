//! What runs on a host of the lab: numbered streams, counted at both ends, so that one lost packet
//! shows. `lab-host WHAT ADDRESS:PORT [SECONDS]`; each prints one line of JSON.
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
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(2);
/// A live stream that is not answered for so long has been cut.
const SILENCE: Duration = Duration::from_secs(3);

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let usage =
        "usage: lab-host echo-udp|echo-tcp|stream-udp|stream-tcp|ask-udp ADDRESS:PORT [SECONDS]";
    let address: SocketAddr = arguments
        .get(2)
        .and_then(|text| text.parse().ok())
        .expect(usage);
    let seconds = arguments
        .get(3)
        .and_then(|text| text.parse().ok())
        .unwrap_or(5);
    let length = Duration::from_secs(seconds);
    match arguments.get(1).map(String::as_str) {
        Some("echo-udp") => echo_udp(address),
        Some("echo-tcp") => echo_tcp(address),
        Some("stream-udp") => stream_udp(address, length),
        Some("stream-tcp") => stream_tcp(address, length),
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
        if buffer.get(..size) == Some(b"count") {
            socket.send_to(&echoed.to_be_bytes(), from)?;
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

fn stream_udp(address: SocketAddr, length: Duration) -> std::io::Result<()> {
    let socket = connected(address)?;
    let mut back = HashSet::new();
    let mut buffer = [0; 64];
    let begin = Instant::now();
    let (mut sent, mut longest, mut last) = (0_u64, Duration::ZERO, Instant::now());
    socket.set_nonblocking(true)?;
    while begin.elapsed() < length {
        // A datagram that the sender's own kernel refuses has not been sent.
        sent += u64::from(socket.send(&sent.to_be_bytes()).is_ok());
        std::thread::sleep(INTERVAL);
        while let Ok(8) = socket.recv(&mut buffer) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            back.insert(buffer[..8].to_vec());
        }
    }
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    while let Ok(8) = socket.recv(&mut buffer) {
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
    let mut buffer = [0; 8];
    socket.send(b"count").ok()?;
    socket.recv(&mut buffer).ok()?;
    Some(u64::from_be_bytes(buffer))
}

fn stream_tcp(address: SocketAddr, length: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, SILENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let begin = Instant::now();
    let (mut sent, mut echoed, mut end) = (0_u64, 0_u64, "done".to_owned());
    while begin.elapsed() < length {
        let mut buffer = [0; 8];
        let turn = stream.write_all(&sent.to_be_bytes()).and_then(|()| {
            sent += 1;
            stream.read_exact(&mut buffer)
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
        std::thread::sleep(INTERVAL);
    }
    let lasted = begin.elapsed().as_millis();
    println!(
        "{{\"sent\": {sent}, \"echoed\": {echoed}, \"end\": \"{end}\", \"lasted_ms\": {lasted}}}"
    );
    Ok(())
}

fn ask_udp(address: SocketAddr) -> std::io::Result<()> {
    let socket = connected(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
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

fn word(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "silence".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset".to_owned(),
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::HostUnreachable | ErrorKind::PermissionDenied => "prohibited".to_owned(),
        ErrorKind::UnexpectedEof => "closed".to_owned(),
        other => format!("{other}"),
    }
}
