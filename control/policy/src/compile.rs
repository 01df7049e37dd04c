//! Compiles a valid policy into the image that the dataplane evaluates.
//!
//! Addresses with the same segments are one *identity*; identities that no rule tells apart, as
//! initiator or as responder, are one *class*; rules with the same ends are one *group*; pairs of
//! classes with the same groups are one *cell*. Work and size grow with what differs, not with
//! rules times addresses.

mod classes;
mod groups;
mod identities;
mod lookup;
mod pairs;
mod raw;
mod row_sets;
mod service_classes;

use crate::dictionary::Dictionary;
use crate::validate::ValidPolicy;
use abi::image::{Facts, IdentityRow, ImageWriter, NONE, SealError, Section};
use acl::{ImageError, PolicyImage};
use core::hash::{BuildHasherDefault, Hasher};
use jiff::civil::Date;
use std::collections::HashMap;
use std::sync::Arc;
use zerocopy::little_endian::U32;

/// Why a valid policy could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Epoch 0 means "no policy" everywhere.
    #[error("epoch 0 means no policy: number policies from 1")]
    EpochZero,
    /// A date that images cannot carry.
    #[error("{today} is before 1970: mend the clock")]
    Date {
        /// As given.
        today: Date,
    },
    /// The rules' services overlap in more ways than a core's tables can tell apart.
    #[error(
        "services fall into {classes} classes, the limit is 65536: use fewer or simpler services"
    )]
    ServiceClasses {
        /// Classes needed.
        classes: usize,
    },
    /// More pairs of classes than an image may hold.
    #[error(
        "{sources} classes of initiators by {destinations} of responders are too many for an image: use fewer segments in rules, or fewer overlapping ones"
    )]
    Pairs {
        /// Source classes.
        sources: usize,
        /// Destination classes.
        destinations: usize,
    },
    /// The image is too large.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The image that was written does not pass its own check: a defect of this program.
    #[error("the compiled image fails its own check, which is a defect of this program: {0}")]
    Check(#[from] ImageError),
}

/// A compiled policy: what is published, and the names for what comes back.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    /// The image, checked. `image.bytes()` is what is published.
    pub image: Arc<PolicyImage>,
    /// Names of rules, segments, workloads and identities of this image.
    pub dictionary: Dictionary,
}

impl CompiledPolicy {
    /// Policy epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.image.epoch()
    }
}

/// Compiles a policy. `epoch` must be larger than any published before; `today` decides which rules
/// have expired (compile again on [`PolicyImage::next_expiry_day`]).
///
/// The image is checked by the code that the dataplane runs before it is returned.
///
/// # Errors
/// [`CompileError`] names the limit that was reached.
pub fn compile(
    policy: &ValidPolicy,
    epoch: u64,
    today: Date,
) -> Result<CompiledPolicy, CompileError> {
    if epoch == 0 {
        return Err(CompileError::EpochZero);
    }
    let compiled_day = day_number(today).ok_or(CompileError::Date { today })?;
    let mut writer = ImageWriter::new();
    let mut lists = raw::Lists::default();
    let ids = identities::identities(policy);
    let v6_default_identity = lookup::write(&ids, &mut writer);
    let services = service_classes::classes(policy, today)?;
    services.write(&mut writer);
    let classes = classes::classes(policy, &ids, today);
    let groups = groups::groups(policy, &classes, &services, today);
    pairs::write(policy, &classes, &groups, &services, &mut writer)?;
    let rows: Vec<IdentityRow> = ids
        .sets
        .iter()
        .enumerate()
        .map(|(at, set)| {
            let (segments_first, segments_count) = lists.add(set);
            IdentityRow {
                source_class: U32::new(classes.source.of_identity[at]),
                destination_class: U32::new(classes.destination.of_identity[at]),
                segments_first,
                segments_count,
                mode: ids.modes[at].byte(),
                reserved: [0; 7],
            }
        })
        .collect();
    writer.put(Section::Identities, &rows);
    raw::write(policy, today, lists, &mut writer);
    let bytes = writer.seal(&Facts {
        epoch,
        revision: policy.revision.0,
        source_classes: index(classes.source.count()),
        destination_classes: index(classes.destination.count()),
        service_classes: index(services.count()),
        v6_default_identity,
        compiled_day,
        next_expiry_day: next_expiry_day(policy, today),
    })?;
    let image = Arc::new(PolicyImage::check(bytes)?);
    let dictionary = Dictionary::new(policy, &image, today);
    Ok(CompiledPolicy { image, dictionary })
}

/// Days since 1970-01-01.
fn day_number(date: Date) -> Option<u32> {
    u32::try_from((date - Date::constant(1970, 1, 1)).get_days()).ok()
}

/// The day after the nearest last day.
fn next_expiry_day(policy: &ValidPolicy, today: Date) -> u32 {
    policy
        .rules
        .iter()
        .filter_map(|rule| rule.expires)
        .filter(|last| *last >= today)
        .min()
        .and_then(|last| last.tomorrow().ok())
        .and_then(day_number)
        .unwrap_or(NONE)
}

/// An index or count in an image. The limits keep every one of them far below 2^32.
fn index(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(NONE)
}

/// Gives equal things one number, in the order in which they come.
#[derive(Debug)]
pub(crate) struct Interner<K> {
    of: HashMap<K, u32, BuildHasherDefault<FoldHasher>>,
}

impl<K: Eq + core::hash::Hash> Interner<K> {
    pub(crate) fn new() -> Self {
        Self {
            of: HashMap::default(),
        }
    }

    /// The number of `key`, and whether it is new.
    pub(crate) fn number(&mut self, key: K) -> (u32, bool) {
        let next = index(self.of.len());
        let number = *self.of.entry(key).or_insert(next);
        (number, number == next)
    }

    pub(crate) fn count(&self) -> usize {
        self.of.len()
    }
}

impl<T: Clone + Eq + core::hash::Hash> Interner<Vec<T>> {
    /// The number of a list, which is copied only where it is new.
    pub(crate) fn number_of(&mut self, list: &[T]) -> (u32, bool) {
        match self.of.get(list) {
            Some(number) => (*number, false),
            None => self.number(list.to_vec()),
        }
    }
}

/// Hash of numbers and lists of numbers that this compiler made itself. Nobody chooses them to
/// collide, so that speed counts and a key does not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FoldHasher(u64);

impl FoldHasher {
    fn fold(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for FoldHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_ne_bytes(*word));
        }
        for byte in rest {
            self.fold(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }
}
