//! L2TP version 2 data messages, RFC 2661 section 3.1.

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::parse::{Next, Walk};

/// Flags and version; length, tunnel and session, sequence numbers and offset as flagged; PPP.
pub(super) fn l2tp(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const CONTROL: u16 = 0x8000;
    const VERSION: u16 = 0x000f;
    let Some(flags) = bytes.take::<2>() else {
        return Next::Done;
    };
    let flags = u16::from_be_bytes(*flags);
    if flags & CONTROL != 0 || flags & VERSION != 2 {
        return Next::Done;
    }
    match header(flags, bytes) {
        Some(id) => {
            walk.cross(TunnelKind::L2tp, id);
            Next::Ppp
        }
        None => Next::Done,
    }
}

/// What follows the flags; answers tunnel and session id.
fn header(flags: u16, bytes: &mut Bytes<'_>) -> Option<u32> {
    const LENGTH: u16 = 0x4000;
    const SEQUENCE: u16 = 0x0800;
    const OFFSET: u16 = 0x0200;
    if flags & LENGTH != 0 {
        let length = u16::from_be_bytes(*bytes.take::<2>()?);
        bytes.limit(usize::from(length).checked_sub(4)?);
    }
    let id = u32::from_be_bytes(*bytes.take::<4>()?);
    if flags & SEQUENCE != 0 {
        bytes.skip(4)?;
    }
    if flags & OFFSET != 0 {
        let padding = u16::from_be_bytes(*bytes.take::<2>()?);
        bytes.skip(usize::from(padding))?;
    }
    Some(id)
}
