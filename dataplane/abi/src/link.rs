//! Messages between the two processes on their Unix stream socket: bytes in, messages out. The
//! socket, and the descriptor that travels beside [`Message::Region`], stay with the caller.
//!
//! A frame is a header of [`FRAME_HEADER_BYTES`] and a payload; numbers are little-endian. There is
//! no checksum: the bytes never leave the machine, and an image carries its own.
//!
//! # Conversation
//!
//! | who | sends | when |
//! |---|---|---|
//! | both | `Hello` | first, at once; any other first message is an error of the peer |
//! | dataplane | `Region` + memfd (SCM_RIGHTS) | after control's `Hello` |
//! | dataplane | `PolicyInForce` | after `Region`, so that a returning control learns where it stands |
//! | control | `PublishImage` | a policy is to be adopted |
//! | control | `PublishChange` | the same, where the image that the dataplane adopted last came over this conversation |
//! | dataplane | `Adopted` or `Refused` | once per `PublishImage` and `PublishChange`, in order; `Refused` with `UnknownBase` asks for the whole image |
//! | control | `RequestImage`; dataplane answers `Image` | control lost the image in force |
//! | either | `Shutdown` | orderly end; the dataplane takes it as "stop", control as "the dataplane stops" |
//!
//! The header and the first four bytes of `Hello` (its abi epoch) never change, so that any two
//! releases can tell each other that they do not match.

use crate::{ABI_EPOCH, byte_enum};

/// First four bytes of each frame: `RFL1`.
pub const FRAME_MAGIC: [u8; 4] = *b"RFL1";
/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 16;
/// Largest payload that carries an image, in bytes: 1 GiB.
pub const IMAGE_FRAME_BYTES_MAX: usize = 1 << 30;
/// Largest other payload in bytes: 64 KiB.
pub const FRAME_BYTES_MAX: usize = 64 << 10;
/// Longest sentence of [`Message::Refused`] in bytes; the encoder cuts at a character.
pub const SENTENCE_BYTES_MAX: usize = 4_096;
/// Longest package version of [`Hello`] in bytes; the encoder cuts at a character.
pub const PACKAGE_VERSION_BYTES_MAX: usize = 64;

byte_enum! {
    /// Which process speaks.
    pub enum Role {
        /// `ringfence-dataplane`.
        Dataplane = 1 => "dataplane",
        /// `ringfence-control`.
        Control = 2 => "control",
    }
}

byte_enum! {
    /// Why the dataplane did not adopt an image. The policy in force stays.
    pub enum RefusalCode {
        /// The image is cut, its checksum is wrong, or an offset leads outside.
        MalformedImage = 1 => "malformed-image",
        /// The image was compiled for another abi epoch.
        AbiEpoch = 2 => "abi-epoch",
        /// The image's epoch is not above the one in force.
        StaleEpoch = 3 => "stale-epoch",
        /// The image needs more than a configured limit.
        LimitExceeded = 4 => "limit-exceeded",
        /// Memory for the image could not be had.
        OutOfMemory = 5 => "out-of-memory",
        /// The image could not be kept on disk for the next start.
        NotKept = 6 => "not-kept",
        /// Not every worker adopted the image in time.
        NotAdopted = 7 => "not-adopted",
        /// The dataplane is stopping.
        Stopping = 8 => "stopping",
        /// The image that was changed is not the one in force: publish the whole one.
        UnknownBase = 9 => "unknown-base",
    }
}

/// First message of each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`ABI_EPOCH`] of the sender.
    pub abi_epoch: u32,
    /// Which process it is.
    pub role: Role,
    /// Its process id.
    pub process_id: u32,
    /// Unique per start of the sender.
    pub boot_id: [u8; 16],
    /// Its package version, for people.
    pub package_version: String,
}

impl Hello {
    /// The greeting of this build.
    #[must_use]
    pub fn new(role: Role, process_id: u32, boot_id: [u8; 16]) -> Self {
        let package_version = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            abi_epoch: ABI_EPOCH,
            role,
            process_id,
            boot_id,
            package_version,
        }
    }
}

/// All that the two processes tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// First message of each side.
    Hello(Hello),
    /// The shared region; its descriptor travels beside the first byte of this frame.
    Region {
        /// Bytes of the region, which control compares with the descriptor's size.
        bytes: u64,
    },
    /// A policy image to adopt.
    PublishImage {
        /// Policy epoch of the image.
        epoch: u64,
        /// The image.
        image: Vec<u8>,
    },
    /// What a policy image to adopt has that the one in force has not.
    PublishChange {
        /// Policy epoch of the image.
        epoch: u64,
        /// The change, see [`change`](crate::image::change).
        change: Vec<u8>,
    },
    /// Every worker has adopted the image.
    Adopted {
        /// Policy epoch of the image.
        epoch: u64,
        /// Workers that adopted it.
        workers: u32,
        /// From the last byte of it received until the workers were told: the image was
        /// checked and kept for the next start.
        received_to_published_ns: u64,
        /// From then to the last worker's adoption.
        published_to_adopted_ns: u64,
    },
    /// The image was not adopted; the policy in force stays.
    Refused {
        /// Policy epoch of the image, 0 where not even that could be read.
        epoch: u64,
        /// Why.
        code: RefusalCode,
        /// Why, for people: what, where, what to do.
        sentence: String,
    },
    /// What every worker has adopted.
    PolicyInForce {
        /// Its policy epoch, 0 none.
        epoch: u64,
        /// SHA-256 of the image, zero where none.
        image_hash: [u8; 32],
    },
    /// Asks for the image in force.
    RequestImage,
    /// The image in force; empty with epoch 0 where none is.
    Image {
        /// Its policy epoch.
        epoch: u64,
        /// The image.
        image: Vec<u8>,
    },
    /// The sender ends the conversation in order.
    Shutdown,
}

const KIND_HELLO: u16 = 1;
const KIND_REGION: u16 = 2;
const KIND_PUBLISH_IMAGE: u16 = 3;
const KIND_ADOPTED: u16 = 4;
const KIND_REFUSED: u16 = 5;
const KIND_POLICY_IN_FORCE: u16 = 6;
const KIND_REQUEST_IMAGE: u16 = 7;
const KIND_IMAGE: u16 = 8;
const KIND_SHUTDOWN: u16 = 9;
const KIND_PUBLISH_CHANGE: u16 = 10;

/// Largest payload of a frame type, `None` where the contract has no such type.
const fn payload_bytes_max(kind: u16) -> Option<usize> {
    match kind {
        KIND_PUBLISH_IMAGE | KIND_IMAGE | KIND_PUBLISH_CHANGE => Some(IMAGE_FRAME_BYTES_MAX),
        KIND_HELLO..=KIND_SHUTDOWN => Some(FRAME_BYTES_MAX),
        _ => None,
    }
}

/// What is wrong with the bytes of the link. The connection cannot be used any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The frame does not begin with [`FRAME_MAGIC`].
    #[error(
        "the peer sent {found:02x?} where a frame begins with {FRAME_MAGIC:02x?}; it is not a \
         ringfence process, close the connection"
    )]
    Magic {
        /// Bytes found.
        found: [u8; 4],
    },
    /// A frame type that this build does not know.
    #[error(
        "the peer sent a frame of unknown type {kind}; restart both processes from one release"
    )]
    UnknownType {
        /// Type found.
        kind: u16,
    },
    /// A frame longer than its type may be.
    #[error("a frame of type {kind} has {bytes} bytes, at most {bytes_max} are allowed")]
    Oversize {
        /// Type of the frame.
        kind: u16,
        /// Its payload in bytes.
        bytes: usize,
        /// Most allowed.
        bytes_max: usize,
    },
    /// The peer speaks another contract.
    #[error(
        "the {peer} process has abi epoch {theirs}, this process has {ours}; restart both \
         processes from one release"
    )]
    Epoch {
        /// What the peer says it is, "other" where even that cannot be read.
        peer: &'static str,
        /// Its epoch.
        theirs: u32,
        /// [`ABI_EPOCH`].
        ours: u32,
    },
    /// A payload that does not hold what its type promises.
    #[error("a frame of type {kind} with {bytes} bytes is malformed: {what}")]
    Malformed {
        /// Type of the frame.
        kind: u16,
        /// Its payload in bytes.
        bytes: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// Appends the frame of `message` to `out`.
///
/// # Errors
/// [`LinkError::Oversize`] where an image is larger than [`IMAGE_FRAME_BYTES_MAX`] less its epoch;
/// `out` is then as it was.
pub fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), LinkError> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    let kind = encode_payload(message, out);
    let bytes = out.len() - start - FRAME_HEADER_BYTES;
    let bytes_max = payload_bytes_max(kind).unwrap_or(0);
    let length = match u32::try_from(bytes) {
        Ok(length) if bytes <= bytes_max => length,
        _ => {
            out.truncate(start);
            return Err(LinkError::Oversize {
                kind,
                bytes,
                bytes_max,
            });
        }
    };
    let header = &mut out[start..start + FRAME_HEADER_BYTES];
    header[0..4].copy_from_slice(&FRAME_MAGIC);
    header[4..6].copy_from_slice(&kind.to_le_bytes());
    header[8..12].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn encode_payload(message: &Message, out: &mut Vec<u8>) -> u16 {
    match message {
        Message::Hello(hello) => {
            out.extend_from_slice(&hello.abi_epoch.to_le_bytes());
            out.extend_from_slice(&[hello.role.byte(), 0, 0, 0]);
            out.extend_from_slice(&hello.process_id.to_le_bytes());
            out.extend_from_slice(&hello.boot_id);
            put_text(&hello.package_version, PACKAGE_VERSION_BYTES_MAX, out);
            KIND_HELLO
        }
        Message::Region { bytes } => {
            out.extend_from_slice(&bytes.to_le_bytes());
            KIND_REGION
        }
        Message::PublishImage { epoch, image } => {
            put_image(*epoch, image, out);
            KIND_PUBLISH_IMAGE
        }
        Message::PublishChange { epoch, change } => {
            put_image(*epoch, change, out);
            KIND_PUBLISH_CHANGE
        }
        Message::Adopted {
            epoch,
            workers,
            received_to_published_ns,
            published_to_adopted_ns,
        } => {
            out.extend_from_slice(&epoch.to_le_bytes());
            out.extend_from_slice(&received_to_published_ns.to_le_bytes());
            out.extend_from_slice(&published_to_adopted_ns.to_le_bytes());
            out.extend_from_slice(&workers.to_le_bytes());
            KIND_ADOPTED
        }
        Message::Refused {
            epoch,
            code,
            sentence,
        } => {
            out.extend_from_slice(&epoch.to_le_bytes());
            out.extend_from_slice(&[code.byte(), 0, 0, 0]);
            put_text(sentence, SENTENCE_BYTES_MAX, out);
            KIND_REFUSED
        }
        Message::PolicyInForce { epoch, image_hash } => {
            out.extend_from_slice(&epoch.to_le_bytes());
            out.extend_from_slice(image_hash);
            KIND_POLICY_IN_FORCE
        }
        Message::RequestImage => KIND_REQUEST_IMAGE,
        Message::Image { epoch, image } => {
            put_image(*epoch, image, out);
            KIND_IMAGE
        }
        Message::Shutdown => KIND_SHUTDOWN,
    }
}

fn put_image(epoch: u64, image: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(image);
}

/// The rest of the payload is the text, cut at a character where longer than `bytes_max`.
fn put_text(text: &str, bytes_max: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&text.as_bytes()[..text.floor_char_boundary(bytes_max)]);
}

/// Takes the payload apart, field by field.
struct Payload<'a> {
    kind: u16,
    whole: usize,
    rest: &'a [u8],
}

impl<'a> Payload<'a> {
    fn malformed(&self, what: &'static str) -> LinkError {
        LinkError::Malformed {
            kind: self.kind,
            bytes: self.whole,
            what,
        }
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], LinkError> {
        match self.rest.split_first_chunk() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => Err(self.malformed("it ends inside a field")),
        }
    }

    fn u32(&mut self) -> Result<u32, LinkError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, LinkError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A code and its three zero bytes.
    fn code<T>(
        &mut self,
        from_byte: fn(u8) -> Option<T>,
        what: &'static str,
    ) -> Result<T, LinkError> {
        let [byte, zeros @ ..]: [u8; 4] = self.array()?;
        if zeros != [0; 3] {
            return Err(self.malformed("reserved bytes are not zero"));
        }
        from_byte(byte).ok_or_else(|| self.malformed(what))
    }

    fn text(&mut self, bytes_max: usize) -> Result<String, LinkError> {
        let text = core::mem::take(&mut self.rest);
        if text.len() > bytes_max {
            return Err(self.malformed("its text is too long"));
        }
        match core::str::from_utf8(text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.malformed("its text is not UTF-8")),
        }
    }

    fn image(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.rest).to_vec()
    }

    fn hello(&mut self) -> Result<Message, LinkError> {
        let abi_epoch = self.u32()?;
        if abi_epoch != ABI_EPOCH {
            let role = self.rest.first().and_then(|byte| Role::from_byte(*byte));
            let peer = role.map_or("other", Role::name);
            return Err(LinkError::Epoch {
                peer,
                theirs: abi_epoch,
                ours: ABI_EPOCH,
            });
        }
        Ok(Message::Hello(Hello {
            abi_epoch,
            role: self.code(Role::from_byte, "its role is unknown")?,
            process_id: self.u32()?,
            boot_id: self.array()?,
            package_version: self.text(PACKAGE_VERSION_BYTES_MAX)?,
        }))
    }

    fn message(mut self) -> Result<Message, LinkError> {
        let message = match self.kind {
            KIND_HELLO => self.hello()?,
            KIND_REGION => Message::Region { bytes: self.u64()? },
            KIND_PUBLISH_IMAGE => Message::PublishImage {
                epoch: self.u64()?,
                image: self.image(),
            },
            KIND_PUBLISH_CHANGE => Message::PublishChange {
                epoch: self.u64()?,
                change: self.image(),
            },
            KIND_ADOPTED => {
                let epoch = self.u64()?;
                let received_to_published_ns = self.u64()?;
                let published_to_adopted_ns = self.u64()?;
                Message::Adopted {
                    epoch,
                    workers: self.u32()?,
                    received_to_published_ns,
                    published_to_adopted_ns,
                }
            }
            KIND_REFUSED => Message::Refused {
                epoch: self.u64()?,
                code: self.code(RefusalCode::from_byte, "its code is unknown")?,
                sentence: self.text(SENTENCE_BYTES_MAX)?,
            },
            KIND_POLICY_IN_FORCE => Message::PolicyInForce {
                epoch: self.u64()?,
                image_hash: self.array()?,
            },
            KIND_REQUEST_IMAGE => Message::RequestImage,
            KIND_IMAGE => Message::Image {
                epoch: self.u64()?,
                image: self.image(),
            },
            KIND_SHUTDOWN => Message::Shutdown,
            kind => return Err(LinkError::UnknownType { kind }),
        };
        if self.rest.is_empty() {
            Ok(message)
        } else {
            Err(self.malformed("it goes on after its last field"))
        }
    }
}

/// Takes bytes as they come, in any pieces, and gives messages.
///
/// Memory: what has been pushed and not yet taken, at most one frame if [`next`](Self::next) is
/// called until it gives `None` after each push. A frame's announced length reserves nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Bytes of `bytes` already taken.
    taken: usize,
    /// The first error; the stream has no frame boundary to go on from, so it stays.
    failed: Option<LinkError>,
}

impl Decoder {
    /// Nothing received yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what the socket gave.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The next whole message, `None` where more bytes are needed.
    ///
    /// # Errors
    /// [`LinkError`]; it is returned again for ever after, and the connection must be closed.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is not an iterator: `None` is not the end"
    )]
    pub fn next(&mut self) -> Result<Option<Message>, LinkError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.take();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.bytes = Vec::new();
            self.taken = 0;
        }
        result
    }

    fn take(&mut self) -> Result<Option<Message>, LinkError> {
        let waiting = &self.bytes[self.taken..];
        let Some((header, rest)) = waiting.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            // A wrong magic is told as soon as it can be, so that a stranger does not hang the link.
            let known = waiting.len().min(FRAME_MAGIC.len());
            return if waiting[..known] == FRAME_MAGIC[..known] {
                Ok(None)
            } else {
                let mut found = [0; 4];
                found[..known].copy_from_slice(&waiting[..known]);
                Err(LinkError::Magic { found })
            };
        };
        let (kind, length) = check_header(header)?;
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let message = Payload {
            kind,
            whole: length,
            rest: payload,
        }
        .message()?;
        self.taken += FRAME_HEADER_BYTES + length;
        if self.taken == self.bytes.len() {
            // Gives the memory of a large image back, keeps that of ordinary frames.
            self.bytes.clear();
            self.bytes.shrink_to(FRAME_BYTES_MAX);
            self.taken = 0;
        }
        Ok(Some(message))
    }
}

fn check_header(header: &[u8; FRAME_HEADER_BYTES]) -> Result<(u16, usize), LinkError> {
    let [
        m0,
        m1,
        m2,
        m3,
        k0,
        k1,
        r0,
        r1,
        l0,
        l1,
        l2,
        l3,
        reserved @ ..,
    ] = *header;
    let found = [m0, m1, m2, m3];
    if found != FRAME_MAGIC {
        return Err(LinkError::Magic { found });
    }
    let kind = u16::from_le_bytes([k0, k1]);
    let bytes_max = payload_bytes_max(kind).ok_or(LinkError::UnknownType { kind })?;
    let bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if bytes > bytes_max {
        return Err(LinkError::Oversize {
            kind,
            bytes,
            bytes_max,
        });
    }
    if [r0, r1] != [0; 2] || reserved != [0; 4] {
        let what = "reserved bytes of its header are not zero";
        return Err(LinkError::Malformed { kind, bytes, what });
    }
    Ok((kind, bytes))
}
