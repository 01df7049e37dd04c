//! One conversation after another with the dataplane's socket.

use super::Dataplane;
use crate::clock::now_ns;
use crate::collector::Collector;
use abi::link::{Decoder, Hello, LinkError, Message, RefusalCode, Role, encode};
use abi::shm::RegionError;
use abi::{Region, RegionView};
use acl::PolicyImage;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

/// Every core has adopted an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// Cores.
    pub workers: u32,
    /// From the image's arrival until the cores were told, nanoseconds: it was checked and kept.
    pub preparation_ns: u64,
    /// From then to the last core's adoption, nanoseconds.
    pub adoption_ns: u64,
    /// Number of the link that told it, as [`Dataplane::links`] counts.
    pub link: u64,
}

/// Why an image was not adopted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No link.
    #[error(
        "the dataplane is not connected; start ringfence-dataplane, or see `ringfence status` for \
         why the link is down"
    )]
    NoDataplane,
    /// The link broke before the answer.
    #[error("the link broke before the dataplane answered; it is not known whether it adopted")]
    Disconnected,
    /// The dataplane refused it.
    #[error("the dataplane refused the policy ({}): {sentence}", code.name())]
    Refused {
        /// Why.
        code: RefusalCode,
        /// Why, for people.
        sentence: String,
    },
    /// Too large for a frame.
    #[error("the policy image cannot be sent: {0}")]
    Encode(LinkError),
}

/// What the link tells the policy service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link is up; this is what every core has adopted.
    InForce {
        /// Number of the link, as [`Dataplane::links`] counts.
        link: u64,
        /// Its epoch, 0 none.
        epoch: u64,
        /// SHA-256 of the image.
        image_hash: [u8; 32],
    },
    /// The image in force, as asked for.
    Image {
        /// Its epoch, 0 none.
        epoch: u64,
        /// The image.
        image: Vec<u8>,
    },
}

enum Command {
    Publish {
        image: Arc<PolicyImage>,
        reply: Reply,
    },
    RequestImage,
}

type Reply = oneshot::Sender<Result<Adoption, PublishError>>;

/// Sends to the dataplane.
#[derive(Clone, Debug)]
pub struct Link {
    commands: mpsc::Sender<Command>,
}

/// Commands that wait for the link.
const COMMANDS_MAX: usize = 16;
/// Bytes read from the socket at once.
const READ_BYTES: usize = 64 << 10;

/// How one conversation ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Region(#[from] RegionError),
    #[error("{0}")]
    Ring(#[from] abi::ring::ConsumerError),
    #[error("the dataplane closed the link")]
    Closed,
    #[error("the dataplane has stopped")]
    Shutdown,
    #[error("the peer said {what}; it is no ringfence dataplane of this release")]
    Unexpected { what: &'static str },
    #[error("this process is stopping")]
    Stopping,
}

impl Link {
    /// A link and the task that keeps it up until `stop` is true.
    #[must_use]
    pub fn start(
        dataplane: Arc<Dataplane>,
        events: mpsc::UnboundedSender<LinkEvent>,
        stop: watch::Receiver<bool>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let keeper = Keeper {
            dataplane,
            events,
            commands: receiver,
            stop,
        };
        (Self { commands }, tokio::spawn(keeper.run()))
    }

    /// Publishes an image and waits for the answer. Where the dataplane has adopted one over this
    /// conversation already, only what differs goes over.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(&self, image: Arc<PolicyImage>) -> Result<Adoption, PublishError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Publish { image, reply };
        self.commands
            .try_send(command)
            .map_err(|_| PublishError::NoDataplane)?;
        answer.await.unwrap_or(Err(PublishError::Disconnected))
    }

    /// Asks for the image in force; it comes as [`LinkEvent::Image`].
    pub fn request_image(&self) {
        // A link that breaks now tells what is in force when it is up again.
        let _ = self.commands.try_send(Command::RequestImage);
    }
}

/// How long after its start this process keeps quiet about a dataplane that is not there.
const START_PATIENCE: Duration = Duration::from_secs(5);

struct Keeper {
    dataplane: Arc<Dataplane>,
    events: mpsc::UnboundedSender<LinkEvent>,
    commands: mpsc::Receiver<Command>,
    stop: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(mut self) {
        let config = self.dataplane.config.clone();
        let mut wait = config.reconnect_min.0;
        let mut last_error = String::new();
        let began = std::time::Instant::now();
        loop {
            let mut talked = false;
            let ended = self.converse(&mut talked).await;
            if matches!(ended, Ended::Stopping) {
                return;
            }
            self.note_end(&ended);
            if talked {
                wait = config.reconnect_min.0;
            }
            let error = ended.to_string();
            // At a start both processes come up side by side: that one is late is no news yet.
            if error != last_error && (talked || began.elapsed() >= START_PATIENCE) {
                tracing::warn!(socket = %self.dataplane.socket.display(), %error,
                    "no link to the dataplane, trying on");
                last_error = error;
            }
            if self.pause(wait).await {
                return;
            }
            wait = (wait * 2).min(config.reconnect_max.0);
        }
    }

    fn note_end(&self, ended: &Ended) {
        let mut state = self.dataplane.state();
        state.connected = false;
        state.connected_ns = None;
        state.incompatible = match ended {
            Ended::Link(LinkError::Epoch { .. }) | Ended::Region(RegionError::Epoch { .. }) => true,
            // A dataplane that is not there says nothing about its release.
            _ => false,
        };
        state.error = Some(match ended {
            Ended::Io(source) => {
                format!("{}: {source}", self.dataplane.socket.display())
            }
            other => other.to_string(),
        });
        if matches!(ended, Ended::Shutdown) {
            state.note_end();
        } else if state.collector.is_some() {
            state.note_last_records();
        }
    }

    /// Waits; gives true where this process stops. Commands are answered meanwhile.
    async fn pause(&mut self, wait: Duration) -> bool {
        let sleep = tokio::time::sleep(wait);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return false,
                () = told_to_stop(&mut self.stop) => return true,
                command = self.commands.recv() => match command {
                    Some(Command::Publish { reply, .. }) => {
                        let _ = reply.send(Err(PublishError::NoDataplane));
                    }
                    Some(Command::RequestImage) => {}
                    None => return true,
                },
            }
        }
    }

    /// One conversation, from connect to its end.
    async fn converse(&mut self, talked: &mut bool) -> Ended {
        let stream = tokio::select! {
            stream = UnixStream::connect(&self.dataplane.socket) => match stream {
                Ok(stream) => stream,
                Err(error) => return error.into(),
            },
            () = told_to_stop(&mut self.stop) => return Ended::Stopping,
        };
        let mut talk = Talk {
            dataplane: Arc::clone(&self.dataplane),
            events: self.events.clone(),
            stream,
            decoder: Decoder::new(),
            descriptors: VecDeque::new(),
            hello: None,
            in_force_told: false,
            in_force: None,
            pending: VecDeque::new(),
        };
        let hello = Hello::new(Role::Control, std::process::id(), boot_id());
        if let Err(ended) = talk.send(&Message::Hello(hello)).await {
            return ended;
        }
        loop {
            let ready = talk.in_force_told;
            tokio::select! {
                received = talk.receive() => if let Err(ended) = received {
                    return ended;
                },
                command = self.commands.recv(), if ready => {
                    let done = match command {
                        Some(command) => talk.command(command).await,
                        None => Err(Ended::Stopping),
                    };
                    if let Err(ended) = done {
                        return ended;
                    }
                }
                () = told_to_stop(&mut self.stop) => return Ended::Stopping,
            }
            *talked |= talk.in_force_told;
        }
    }
}

/// Ends when `stop` is true, or nobody can say so any more.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Unique per start of this process: its id and the time.
fn boot_id() -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&now_ns().to_le_bytes());
    id[8..12].copy_from_slice(&std::process::id().to_le_bytes());
    id
}

/// One conversation.
struct Talk {
    dataplane: Arc<Dataplane>,
    events: mpsc::UnboundedSender<LinkEvent>,
    stream: UnixStream,
    decoder: Decoder,
    /// Received beside bytes, not yet used.
    descriptors: VecDeque<OwnedFd>,
    hello: Option<Hello>,
    in_force_told: bool,
    /// The image that every core adopted last over this conversation.
    in_force: Option<Arc<PolicyImage>>,
    /// Publications without an answer, oldest first: answers come in order.
    pending: VecDeque<Pending>,
}

/// A publication without an answer.
struct Pending {
    image: Arc<PolicyImage>,
    reply: Reply,
}

impl Talk {
    async fn send(&mut self, message: &Message) -> Result<(), Ended> {
        let mut bytes = Vec::new();
        encode(message, &mut bytes)?;
        Ok(self.stream.write_all(&bytes).await?)
    }

    async fn command(&mut self, command: Command) -> Result<(), Ended> {
        match command {
            Command::Publish { image, reply } => {
                // With another under way it is not known what this one will be laid over.
                let base = self.in_force.clone().filter(|_| self.pending.is_empty());
                self.publish(Pending { image, reply }, base).await
            }
            Command::RequestImage => self.send(&Message::RequestImage).await,
        }
    }

    /// Sends an image, as a change of `base` where there is one.
    async fn publish(
        &mut self,
        pending: Pending,
        base: Option<Arc<PolicyImage>>,
    ) -> Result<(), Ended> {
        let image = Arc::clone(&pending.image);
        // Both images are gone through: not on a thread that others wait for.
        let frame = tokio::task::spawn_blocking(move || frame(&image, base.as_deref()));
        match frame.await.map_err(|_| Ended::Stopping)? {
            Ok(frame) => {
                self.dataplane.note_publication(&frame);
                self.pending.push_back(pending);
                Ok(self.stream.write_all(&frame.bytes).await?)
            }
            Err(error) => {
                let _ = pending.reply.send(Err(PublishError::Encode(error)));
                Ok(())
            }
        }
    }

    /// Waits for bytes and acts on every whole message in them.
    async fn receive(&mut self) -> Result<(), Ended> {
        let mut buffer = vec![0; READ_BYTES];
        let (bytes, descriptor) = self
            .stream
            .async_io(Interest::READABLE, || {
                receive_with_descriptor(&self.stream, &mut buffer)
            })
            .await?;
        self.descriptors.extend(descriptor);
        if bytes == 0 {
            return Err(Ended::Closed);
        }
        self.decoder.push(buffer.get(..bytes).unwrap_or_default());
        while let Some(message) = self.decoder.next()? {
            self.act(message).await?;
        }
        Ok(())
    }

    async fn act(&mut self, message: Message) -> Result<(), Ended> {
        let Some(hello) = self.hello.clone() else {
            return match message {
                Message::Hello(hello) if hello.role == Role::Dataplane => {
                    self.hello = Some(hello);
                    Ok(())
                }
                _ => Err(Ended::Unexpected {
                    what: "something else before Hello",
                }),
            };
        };
        match message {
            Message::Region { bytes } => {
                let Some(descriptor) = self.descriptors.pop_front() else {
                    return Err(Ended::Unexpected {
                        what: "Region without its descriptor",
                    });
                };
                self.take_region(Region::open(descriptor)?, bytes, hello)
                    .await?;
            }
            Message::PolicyInForce { epoch, image_hash } => {
                self.in_force_told = true;
                tracing::info!(epoch, "linked to the dataplane");
                let link = self.dataplane.state().note_link();
                let _ = self.events.send(LinkEvent::InForce {
                    link,
                    epoch,
                    image_hash,
                });
            }
            Message::Adopted {
                workers,
                received_to_published_ns,
                published_to_adopted_ns,
                ..
            } => self.adopted(Adoption {
                workers,
                preparation_ns: received_to_published_ns,
                adoption_ns: published_to_adopted_ns,
                link: self.dataplane.links(),
            })?,
            Message::Refused { code, sentence, .. } => self.refused(code, sentence).await?,
            Message::Image { epoch, image } => {
                let _ = self.events.send(LinkEvent::Image { epoch, image });
            }
            Message::Shutdown => return Err(Ended::Shutdown),
            Message::Hello(_) => {
                return Err(Ended::Unexpected {
                    what: "Hello twice",
                });
            }
            Message::PublishImage { .. }
            | Message::PublishChange { .. }
            | Message::RequestImage => {
                return Err(Ended::Unexpected {
                    what: "what only control says",
                });
            }
        }
        Ok(())
    }

    fn adopted(&mut self, adoption: Adoption) -> Result<(), Ended> {
        let Pending { image, reply } = self.answered()?;
        self.in_force = Some(image);
        // Whoever asked may have stopped waiting.
        let _ = reply.send(Ok(adoption));
        Ok(())
    }

    /// Where it was the change of another image than the one in force, the whole one follows.
    async fn refused(&mut self, code: RefusalCode, sentence: String) -> Result<(), Ended> {
        let pending = self.answered()?;
        if code == RefusalCode::UnknownBase && self.in_force.take().is_some() {
            tracing::info!(%sentence, "publishing the whole image");
            return self.publish(pending, None).await;
        }
        let refused = PublishError::Refused { code, sentence };
        let _ = pending.reply.send(Err(refused));
        Ok(())
    }

    /// The publication that an answer is about.
    fn answered(&mut self) -> Result<Pending, Ended> {
        self.pending.pop_front().ok_or(Ended::Unexpected {
            what: "an answer to no question",
        })
    }

    /// Begins to read a region; one that is being read already goes on.
    async fn take_region(&self, region: RegionView, bytes: u64, hello: Hello) -> Result<(), Ended> {
        let header = region.header();
        if header.region_bytes != bytes || header.boot_id != hello.boot_id {
            return Err(Ended::Unexpected {
                what: "Region of another size or start",
            });
        }
        let dataplane = &self.dataplane;
        let same = {
            let mut state = dataplane.state();
            let known = state.region.as_ref().map(|r| r.header().boot_id);
            let alive = state
                .collector
                .as_ref()
                .is_some_and(|c| c.failed().is_none());
            let same = alive && known == Some(hello.boot_id);
            state.incompatible = false;
            state.error = None;
            state.connects += 1;
            state.connected_ns = Some(now_ns());
            state.hello = Some(hello);
            if same {
                state.end_seen_round = None;
            }
            same
        };
        if !same {
            self.replace_collector(region).await?;
        }
        let mut state = dataplane.state();
        let interfaces = state.read_ports();
        state.read_region();
        let started_ms = state.last_facts.map_or(0, |f| f.started_ns / 1_000_000);
        drop(state);
        dataplane.told.init_ms.store(started_ms, Ordering::Relaxed);
        *dataplane
            .told
            .interfaces
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = interfaces;
        Ok(())
    }

    async fn replace_collector(&self, region: RegionView) -> Result<(), Ended> {
        let dataplane = &self.dataplane;
        let retired = dataplane.state().retire_collector();
        if let Some(old) = retired {
            // What the old region still holds is collected before the new one is looked at.
            let ended = Arc::clone(&old);
            let _ = tokio::task::spawn_blocking(move || ended.end()).await;
            dataplane.state().count_past(&old);
        }
        let sinks = dataplane
            .sinks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        let Some(sinks) = sinks else {
            return Err(Ended::Stopping);
        };
        let collector = Collector::start(&region, &dataplane.collector_config, sinks)?;
        let mut state = dataplane.state();
        state.collector = Some(Arc::new(collector));
        state.region = Some(region);
        state.stopped = false;
        state.end_seen_round = None;
        state.last_cores.clear();
        state.last_facts = None;
        Ok(())
    }
}

/// The frame of a publication.
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    pub(super) is_change: bool,
}

/// The frame of an image, or of its change from `base`, whichever is smaller.
fn frame(image: &PolicyImage, base: Option<&PolicyImage>) -> Result<Frame, LinkError> {
    let epoch = image.epoch();
    let change = base.map(|base| image.change_from(base));
    let change = change.filter(|change| change.len() < image.byte_count());
    let is_change = change.is_some();
    let message = match change {
        Some(change) => Message::PublishChange { epoch, change },
        None => Message::PublishImage {
            epoch,
            image: image.bytes(),
        },
    };
    let mut bytes = Vec::new();
    encode(&message, &mut bytes)?;
    Ok(Frame { bytes, is_change })
}

/// Reads bytes and at most one descriptor that travels beside them.
fn receive_with_descriptor(
    stream: &UnixStream,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream.as_fd(),
        &mut [IoSliceMut::new(buffer)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.last();
        }
    }
    Ok((received.bytes, descriptor))
}
