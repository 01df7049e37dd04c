//! A collector of the tests' own: keeps every datagram, so that other people's decoders can read it.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(300);

/// A UDP socket on loopback and what came to it.
#[derive(Debug)]
pub struct Datagrams {
    port: u16,
    stop: Arc<AtomicBool>,
    receiver: Option<JoinHandle<Vec<Vec<u8>>>>,
}

impl Datagrams {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If loopback has no port left.
    #[must_use]
    pub fn listen() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("bound").port();
        socket.set_read_timeout(Some(QUIET)).expect("a time limit");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let receiver = std::thread::spawn(move || {
            let (mut kept, mut buffer) = (Vec::new(), vec![0; 65_536]);
            loop {
                // Asked before: what came until then is there to be fetched.
                let stops = stopped.load(Ordering::Relaxed);
                match socket.recv(&mut buffer) {
                    Ok(size) => kept.push(buffer[..size].to_vec()),
                    Err(_) if stops => return kept,
                    Err(_) => {}
                }
            }
        });
        Self {
            port,
            stop,
            receiver: Some(receiver),
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything that came, once nothing has come for a while.
    ///
    /// # Panics
    /// If the receiver has panicked.
    #[must_use]
    pub fn stop(mut self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.receiver
            .take()
            .expect("stopped once")
            .join()
            .expect("the receiver does not panic")
    }
}

/// Writes datagrams as a capture of raw IPv4 (link type 101), for decoders that read files.
///
/// # Panics
/// If the file cannot be written.
pub fn write_capture(datagrams: &[Vec<u8>], port: u16, path: &Path) {
    let mut file: Vec<u8> = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 101] {
        file.extend(word.to_le_bytes());
    }
    for payload in datagrams {
        let packet = packet(payload, port);
        let size = u32::try_from(packet.len()).expect("a datagram");
        for word in [1_700_000_000, 0, size, size] {
            file.extend(word.to_le_bytes());
        }
        file.extend(packet);
    }
    std::fs::write(path, file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// IPv4 and UDP headers without checksums, which no decoder is asked to judge.
fn packet(payload: &[u8], port: u16) -> Vec<u8> {
    let length = |headers: usize| {
        u16::try_from(payload.len() + headers)
            .expect("a datagram")
            .to_be_bytes()
    };
    let mut packet = vec![0x45, 0];
    packet.extend(length(28));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    packet.extend(port.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(length(8));
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}
