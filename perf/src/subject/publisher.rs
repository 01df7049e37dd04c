//! Publishes two images in turn, at a pace, until told to stop.

use super::Publishing;
use super::link::Link;
use crate::rules::Image;
use abi::link::{Message, encode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Publishes until `stop`; the pace is kept by the clock, and a publication that takes longer than
/// its turn is followed by the next at once.
///
/// # Errors
/// A sentence: an image was refused, or the link is gone.
pub(super) fn publish(
    mut link: Link,
    images: &[Image; 2],
    per_second: f64,
    stop: &AtomicBool,
) -> Result<Publishing, String> {
    let mut publishing = Publishing {
        image_bytes: images[0].len(),
        ..Publishing::default()
    };
    let turn = Duration::from_secs_f64(1.0 / per_second);
    let mut next = Instant::now() + turn;
    // 1 is the epoch under which the subject started.
    for epoch in 2_u64.. {
        // Stamped and encoded before its turn: neither is part of a publication.
        let mut frame = Vec::new();
        let image = images[(epoch % 2) as usize].stamped(epoch);
        encode(&Message::PublishImage { epoch, image }, &mut frame)
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
