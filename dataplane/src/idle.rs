//! What a core does when nothing arrives: nothing, pause, or sleep.

use crate::config::Idle;
use std::time::Duration;

/// Empty rounds before the core begins to wait. At two or three million rounds a second this is a
/// silence of well under a millisecond.
const EMPTY_ROUNDS_BEFORE_WAIT: u32 = 1000;
/// Processor pauses in one wait of [`Idle::Pause`].
const PAUSES: u32 = 16;
/// Length of one sleep of [`Idle::Sleep`]. The kernel adds about 60 microseconds of its own.
const SLEEP: Duration = Duration::from_micros(50);

/// Counts empty rounds and waits when there were many.
#[derive(Debug)]
pub struct Backoff {
    idle: Idle,
    empty_rounds: u32,
}

impl Backoff {
    /// A core that has not been idle yet.
    #[must_use]
    pub fn new(idle: Idle) -> Self {
        Self {
            idle,
            empty_rounds: 0,
        }
    }

    /// Called once per round with whether a packet was received; says whether the core waited.
    #[inline]
    pub fn round(&mut self, received: bool) -> bool {
        if received {
            self.empty_rounds = 0;
            return false;
        }
        self.empty_rounds = self.empty_rounds.saturating_add(1);
        self.empty_rounds > EMPTY_ROUNDS_BEFORE_WAIT && self.wait()
    }

    #[cold]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where a polling core may sleep, by configuration"
    )]
    fn wait(&self) -> bool {
        match self.idle {
            Idle::None => false,
            Idle::Pause => {
                for _ in 0..PAUSES {
                    core::hint::spin_loop();
                }
                true
            }
            Idle::Sleep => {
                std::thread::sleep(SLEEP);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_waits_only_after_a_long_silence() {
        let mut backoff = Backoff::new(Idle::Pause);
        let waits = (0..EMPTY_ROUNDS_BEFORE_WAIT + 5)
            .filter(|_| backoff.round(false))
            .count();
        assert_eq!(waits, 5);
        assert!(!backoff.round(true));
        assert!(!backoff.round(false));
    }

    #[test]
    fn a_core_told_never_to_wait_never_waits() {
        let mut backoff = Backoff::new(Idle::None);
        assert!((0..5000).all(|_| !backoff.round(false)));
    }
}
