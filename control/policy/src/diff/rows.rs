//! Pairs of ends with the same stroke, put together into few rectangles of initiators by responders.

use std::collections::BTreeMap;

/// Initiators by stroke and the responders that it holds for.
#[derive(Default)]
pub(super) struct Rectangles {
    parts: BTreeMap<(u32, Vec<u32>), Vec<u32>>,
}

impl Rectangles {
    /// The strokes of one initiator with the responders of each.
    pub(super) fn add(&mut self, src: u32, row: BTreeMap<u32, Vec<u32>>) {
        for (stroke, responders) in row {
            self.parts
                .entry((stroke, responders))
                .or_default()
                .push(src);
        }
    }

    /// Delta, initiators and responders. Every pair that was added is in exactly one of them.
    pub(super) fn into_parts(self) -> impl Iterator<Item = (u32, Vec<u32>, Vec<u32>)> {
        let part = |((stroke, responders), initiators)| (stroke, initiators, responders);
        self.parts.into_iter().map(part)
    }
}
