//! The conversation with the dataplane.

use abi::link::{Decoder, Hello, Message, Role, encode};
use abi::shm::{Region, RegionView};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A link over which the region has come.
pub(crate) struct Link {
    stream: UnixStream,
    decoder: Decoder,
    /// Rings and counters.
    pub(crate) view: RegionView,
}

/// Says hello and maps the region.
///
/// # Errors
/// A sentence.
pub(crate) fn connect(path: &Path) -> Result<Link, String> {
    let mut stream =
        UnixStream::connect(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut bytes = Vec::new();
    let hello = Hello::new(Role::Control, std::process::id(), [1; 16]);
    encode(&Message::Hello(hello), &mut bytes).map_err(|error| error.to_string())?;
    stream
        .write_all(&bytes)
        .map_err(|error| error.to_string())?;
    let mut decoder = Decoder::new();
    let mut descriptor = None;
    loop {
        receive(&stream, &mut decoder, &mut descriptor)?;
        while let Some(message) = decoder.next().map_err(|error| error.to_string())? {
            if let Message::Region { .. } = message
                && let Some(fd) = descriptor.take()
            {
                let view = Region::open(fd).map_err(|error| error.to_string())?;
                return Ok(Link {
                    stream,
                    decoder,
                    view,
                });
            }
        }
    }
}

fn receive(
    stream: &UnixStream,
    decoder: &mut Decoder,
    descriptor: &mut Option<OwnedFd>,
) -> Result<(), String> {
    let mut buffer = [0_u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|error| error.to_string())?;
    if received.bytes == 0 {
        return Err("the dataplane closed the link".into());
    }
    decoder.push(&buffer[..received.bytes]);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            *descriptor = fds.next().or(descriptor.take());
        }
    }
    Ok(())
}

impl Link {
    /// Publishes an image and waits until every core has adopted it; returns the nanoseconds that
    /// this took by the dataplane's own clock.
    ///
    /// # Errors
    /// A sentence: refused, or the link is gone.
    pub(crate) fn publish(&mut self, epoch: u64, image: Vec<u8>) -> Result<u64, String> {
        let mut bytes = Vec::new();
        encode(&Message::PublishImage { epoch, image }, &mut bytes)
            .map_err(|error| error.to_string())?;
        self.publish_encoded(&bytes)
    }

    /// The same with a frame that is encoded already.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub(crate) fn publish_encoded(&mut self, bytes: &[u8]) -> Result<u64, String> {
        self.stream
            .write_all(bytes)
            .map_err(|error| error.to_string())?;
        let mut buffer = [0_u8; 4096];
        loop {
            let count = self
                .stream
                .read(&mut buffer)
                .map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the dataplane closed the link".into());
            }
            self.decoder.push(&buffer[..count]);
            while let Some(message) = self.decoder.next().map_err(|error| error.to_string())? {
                match message {
                    Message::Adopted {
                        published_to_adopted_ns,
                        ..
                    } => return Ok(published_to_adopted_ns),
                    Message::Refused { sentence, .. } => {
                        return Err(format!("the policy was refused: {sentence}"));
                    }
                    _ => {}
                }
            }
        }
    }
}
