//! Publishes two images in turn, at a pace, until told to stop: as the control process does, what
//! each has that the one in force has not.

use super::Publishing;
use super::link::Link;
use crate::rules::{Change, Image};
use abi::link::{Message, encode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What goes over in turn.
pub(super) struct Turns {
    /// To the first image, to the second.
    changes: [Change; 2],
    image_bytes: usize,
}

impl Turns {
    /// Compares two images, which takes a while.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn new([first, second]: &[Image; 2]) -> Result<Self, String> {
        Ok(Self {
            changes: [first.change_from(second)?, second.change_from(first)?],
            image_bytes: first.len(),
        })
    }
}

/// Publishes until `stop`; the pace is kept by the clock, and a publication that takes longer than
/// its turn is followed by the next at once.
///
/// # Errors
/// A sentence: an image was refused, or the link is gone.
pub(super) fn publish(
    mut link: Link,
    turns: &Turns,
    per_second: f64,
    stop: &AtomicBool,
) -> Result<Publishing, String> {
    let mut publishing = Publishing {
        image_bytes: turns.image_bytes,
        change_bytes: turns.changes[1].len(),
        ..Publishing::default()
    };
    let turn = Duration::from_secs_f64(1.0 / per_second);
    let mut next = Instant::now() + turn;
    // Under 1 the subject has started, with the first image.
    for epoch in 2_u64.. {
        // Stamped and encoded before its turn: neither is part of a publication.
        let mut frame = Vec::new();
        let change = turns.changes[((epoch - 1) % 2) as usize].stamped(epoch);
        encode(&Message::PublishChange { epoch, change }, &mut frame)
            .map_err(|error| error.to_string())?;
        while Instant::now() < next {
            if stop.load(Ordering::Relaxed) {
                return Ok(publishing);
            }
            std::thread::sleep((next - Instant::now()).min(Duration::from_millis(20)));
        }
        next += turn;
        let began = Instant::now();
        let adopted_ns = link.publish_encoded(&frame)?;
        publishing
            .round_trip_ns
            .push(began.elapsed().as_nanos() as u64);
        publishing.adopted_ns.push(adopted_ns);
        publishing.published += 1;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(publishing)
}
