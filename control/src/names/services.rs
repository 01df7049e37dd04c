//! Which service contains a port: the narrowest range that does.

use acl::{PolicyImage, PortRange, Service};
use std::sync::Arc;

/// Keys of one protocol.
const KEYS: usize = 1 << 16;
/// No service.
const NONE: u32 = u32::MAX;

/// Names by protocol and key.
#[derive(Debug, Default)]
pub(super) struct ServiceNames {
    names: Vec<Arc<str>>,
    /// For each protocol with a service: first key of each run, ascending, and the run's service.
    runs: Vec<(u8, Vec<(u16, u32)>)>,
}

impl ServiceNames {
    pub(super) fn new(image: &PolicyImage) -> Self {
        let mut services = Self::default();
        let mut ranges: Vec<(PortRange, u32)> = Vec::new();
        for service in image.services() {
            let name = u32::try_from(services.names.len()).unwrap_or(NONE);
            services.names.push(service.name.into());
            // A range over every protocol names nothing.
            let named = service.ports().filter(|range| range.proto.is_some());
            ranges.extend(named.map(|range| (range, name)));
        }
        ranges.sort_by_key(|(range, _)| (range.proto, range.high - range.low));
        for same in ranges.chunk_by(|(one, _), (other, _)| one.proto == other.proto) {
            let proto = same[0].0.proto.unwrap_or(0);
            services.runs.push((proto, runs(same)));
        }
        services
    }

    /// The service that contains a port.
    pub(super) fn of(&self, service: &Service) -> Option<&Arc<str>> {
        let (_, runs) = self
            .runs
            .iter()
            .find(|(proto, _)| *proto == service.proto)?;
        let key = service.key();
        let behind = runs.partition_point(|(first, _)| *first <= key);
        let (_, name) = runs.get(behind.checked_sub(1)?)?;
        self.names.get(usize::try_from(*name).ok()?)
    }
}

/// Runs of keys with the same service. Ranges come with the narrowest first, and a key that has a
/// service keeps it; each key is given one once, whatever the number of ranges.
fn runs(ranges: &[(PortRange, u32)]) -> Vec<(u16, u32)> {
    let mut name_of = vec![NONE; KEYS];
    // The first key from here on that has no service yet, shortened as it is followed.
    let mut free: Vec<usize> = (0..=KEYS).collect();
    for (range, name) in ranges {
        let mut key = next_free(&mut free, usize::from(range.low));
        while key <= usize::from(range.high) {
            name_of[key] = *name;
            free[key] = key + 1;
            key = next_free(&mut free, key);
        }
    }
    let mut runs = Vec::new();
    let mut before = NONE;
    for (key, name) in (0..=u16::MAX).zip(name_of) {
        if name != before {
            runs.push((key, name));
            before = name;
        }
    }
    runs
}

fn next_free(free: &mut [usize], from: usize) -> usize {
    let mut key = from;
    while free[key] != key {
        free[key] = free[free[key]];
        key = free[key];
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_name_each_key_as_the_first_range_that_contains_it(
            drawn in proptest::collection::vec((0_u16..200, 0_u16..60, any::<bool>()), 0..40),
        ) {
            let mut ranges: Vec<(PortRange, u32)> = (0..)
                .zip(drawn)
                .map(|(name, (low, width, top))| {
                    let low = if top { 65_300 + low } else { low };
                    let high = low.saturating_add(width);
                    (PortRange { proto: Some(6), low, high }, name)
                })
                .collect();
            ranges.sort_by_key(|(range, _)| range.high - range.low);
            let names: Vec<Arc<str>> = (0..ranges.len()).map(|n| n.to_string().into()).collect();
            let services = ServiceNames { names, runs: vec![(6, runs(&ranges))] };
            for key in (0..300).chain(65_200..=65_535) {
                let service = Service::port(6, key);
                let found = services.of(&service).map(|name| name.to_string());
                let first = ranges.iter().find(|(range, _)| range.covers(&service));
                prop_assert_eq!(found, first.map(|(_, name)| name.to_string()));
            }
            prop_assert!(services.of(&Service::port(17, 5)).is_none());
        }
    }
}
