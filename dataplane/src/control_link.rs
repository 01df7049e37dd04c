//! The main thread's side of the socket to the control process. No polling core touches it.
//!
//! One control process at a time. It connects, both say `Hello`, the region's descriptor goes
//! over, and from then on images come in and acknowledgements go out. When it goes away nothing
//! happens but that the next one is awaited.

use abi::link::{Decoder, Hello, LinkError, Message, Role, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the socket in the run directory.
pub const SOCKET_NAME: &str = "dataplane.sock";
/// Bytes read from the socket at a time.
const READ_BYTES: usize = 256 << 10;
/// Reads in one round, so that a fast sender cannot keep the main thread from its other work.
const READS_MAX: usize = 64;

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another dataplane answers there.
    #[error(
        "{path}: another ringfence-dataplane is running; stop it, or give this one another dataplane.run_dir"
    )]
    Running {
        /// The socket.
        path: PathBuf,
    },
    /// The directory or the socket cannot be made.
    #[error("{path}: {source}; dataplane.run_dir must be a directory that this user may write to")]
    Unusable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The listening socket and the conversation going on.
#[derive(Debug)]
pub struct ControlLink {
    path: PathBuf,
    listener: UnixListener,
    conversation: Option<Conversation>,
    region: OwnedFd,
    region_bytes: u64,
    hello: Hello,
}

#[derive(Debug)]
struct Conversation {
    stream: UnixStream,
    decoder: Decoder,
    outgoing: Vec<u8>,
    /// What a read fills; kept, because the main thread looks fifty times a second.
    incoming: Box<[u8]>,
    greeted: bool,
}

impl ControlLink {
    /// Opens the socket in `run_dir`. A socket that nobody answers on is a leftover and is replaced.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        run_dir: &Path,
        region: OwnedFd,
        region_bytes: u64,
        hello: Hello,
    ) -> Result<Self, OpenError> {
        let path = run_dir.join(SOCKET_NAME);
        let unusable = |source| OpenError::Unusable {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(run_dir).map_err(unusable)?;
        if path.exists() {
            if UnixStream::connect(&path).is_ok() {
                return Err(OpenError::Running { path });
            }
            std::fs::remove_file(&path).map_err(unusable)?;
        }
        let listener = UnixListener::bind(&path).map_err(unusable)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))
            .map_err(unusable)?;
        listener.set_nonblocking(true).map_err(unusable)?;
        Ok(Self {
            path,
            listener,
            conversation: None,
            region,
            region_bytes,
            hello,
        })
    }

    /// Whether a control process is connected and has said who it is.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.conversation.as_ref().is_some_and(|c| c.greeted)
    }

    /// Waits up to `patience` for something to happen and returns the whole messages that came.
    /// What breaks the protocol ends the conversation with a line on standard error.
    pub fn wait(&mut self, patience: Duration) -> Vec<Message> {
        self.wait_for_events(patience);
        self.accept();
        let mut messages = Vec::new();
        if let Some(mut conversation) = self.conversation.take() {
            match conversation.exchange(&self.hello, &mut messages) {
                Ok(()) => self.conversation = Some(conversation),
                Err(Ended::Closed) => {}
                Err(Ended::Protocol(error)) => eprintln!("control link: {error}"),
                Err(Ended::Socket(error)) => eprintln!("control link: {error}"),
            }
        }
        messages
    }

    /// Sends a message to the control process, if one is connected.
    pub fn send(&mut self, message: &Message) {
        if let Some(conversation) = &mut self.conversation
            && let Err(error) = conversation.send(message)
        {
            eprintln!("control link: {error}");
        }
    }

    /// Sends what is waiting, for at most `patience`.
    pub fn flush(&mut self, patience: Duration) {
        let Some(conversation) = &mut self.conversation else {
            return;
        };
        let _ = conversation.stream.set_nonblocking(false);
        let _ = conversation.stream.set_write_timeout(Some(patience));
        if let Err(error) = conversation.stream.write_all(&conversation.outgoing) {
            eprintln!("control link: the last words were not sent: {error}");
        }
        conversation.outgoing.clear();
    }

    fn wait_for_events(&self, patience: Duration) {
        let timeout = Timespec::try_from(patience).unwrap_or(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        if let Some(conversation) = &self.conversation {
            let writes = if conversation.outgoing.is_empty() {
                PollFlags::empty()
            } else {
                PollFlags::OUT
            };
            fds.push(PollFd::new(&conversation.stream, PollFlags::IN | writes));
        }
        // An interrupted wait is a wait: the caller looks at its stop flag next.
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        if self.conversation.is_some() {
            eprintln!(
                "control link: a second control process was turned away; one is connected already"
            );
            return;
        }
        match Conversation::open(stream, &self.hello, self.region.as_fd(), self.region_bytes) {
            Ok(conversation) => self.conversation = Some(conversation),
            Err(error) => eprintln!("control link: {error}"),
        }
    }
}

impl Drop for ControlLink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

enum Ended {
    Closed,
    Protocol(LinkError),
    Socket(io::Error),
}

impl Conversation {
    /// Greets, and sends the region's descriptor beside the first byte of its message.
    fn open(
        stream: UnixStream,
        hello: &Hello,
        region: BorrowedFd<'_>,
        region_bytes: u64,
    ) -> io::Result<Self> {
        let mut conversation = Self {
            stream,
            decoder: Decoder::new(),
            outgoing: Vec::new(),
            incoming: vec![0; READ_BYTES].into_boxed_slice(),
            greeted: false,
        };
        conversation
            .stream
            .set_write_timeout(Some(Duration::from_secs(1)))?;
        let mut bytes = Vec::new();
        encode(&Message::Hello(hello.clone()), &mut bytes).map_err(io::Error::other)?;
        conversation.stream.write_all(&bytes)?;
        bytes.clear();
        encode(
            &Message::Region {
                bytes: region_bytes,
            },
            &mut bytes,
        )
        .map_err(io::Error::other)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [region];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let sent = sendmsg(
            &conversation.stream,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        conversation
            .stream
            .write_all(bytes.get(sent..).unwrap_or_default())?;
        conversation.stream.set_nonblocking(true)?;
        Ok(conversation)
    }

    /// Reads what has come, writes what fits.
    fn exchange(&mut self, own: &Hello, messages: &mut Vec<Message>) -> Result<(), Ended> {
        let closed = self.read()?;
        loop {
            match self.decoder.next().map_err(Ended::Protocol)? {
                Some(Message::Hello(hello)) => {
                    // The decoder has refused any other abi epoch.
                    self.greeted = hello.role == Role::Control && hello.abi_epoch == own.abi_epoch;
                    messages.push(Message::Hello(hello));
                }
                Some(message) if self.greeted => messages.push(message),
                Some(_) => {
                    return Err(Ended::Socket(io::Error::other(
                        "a message came before Hello",
                    )));
                }
                None => break,
            }
        }
        self.write().map_err(Ended::Socket)?;
        if closed { Err(Ended::Closed) } else { Ok(()) }
    }

    fn read(&mut self) -> Result<bool, Ended> {
        for _ in 0..READS_MAX {
            match self.stream.read(&mut self.incoming) {
                Ok(0) => return Ok(true),
                Ok(count) => self
                    .decoder
                    .push(self.incoming.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(true),
                Err(error) => return Err(Ended::Socket(error)),
            }
        }
        Ok(false)
    }

    fn send(&mut self, message: &Message) -> io::Result<()> {
        encode(message, &mut self.outgoing).map_err(io::Error::other)?;
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(count) => {
                    self.outgoing.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
