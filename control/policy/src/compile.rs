//! Compiles a valid policy into the image that the dataplane evaluates.
//!
//! Addresses with the same segments are one *identity*; identities that no rule tells apart, as
//! initiator or as responder, are one *class*; rules with the same ends are one *group*; pairs of
//! classes with the same groups are one *cell*. Work and size grow with what differs, not with
//! rules times addresses.

mod classes;
mod groups;
mod identities;
mod interner;
mod lookup;
mod pairs;
mod raw;
mod row_sets;
mod service_classes;

use crate::dictionary::{Dictionary, RuleEntries};
use crate::validate::{Rule, Segment, Service, ValidPolicy};
use abi::Mode;
use abi::image::{Facts, ImageWriter, NONE, SealError};
use acl::{ImageError, PolicyImage};
use classes::Classes;
use groups::Groups;
use interner::Interner;
use jiff::civil::Date;
use pairs::{Meet, Pairs};
use service_classes::ServiceClasses;
use std::sync::{Arc, OnceLock};

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
    /// Only memberships had changed, and the tables of rules were kept.
    pub tables_kept: bool,
    policy: ValidPolicy,
    rule_entries: Arc<OnceLock<RuleEntries>>,
    today: Date,
    dictionary: OnceLock<Dictionary>,
}

impl CompiledPolicy {
    /// Policy epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.image.epoch()
    }

    /// The policy that this is the image of.
    #[must_use]
    pub fn policy(&self) -> &ValidPolicy {
        &self.policy
    }

    /// The day it was compiled for, which decides what has expired.
    #[must_use]
    pub fn today(&self) -> Date {
        self.today
    }

    /// Names of rules, segments, workloads and identities of this image. Gathered when they are
    /// first asked for: what is published does not wait for it.
    pub fn dictionary(&self) -> &Dictionary {
        self.dictionary.get_or_init(|| {
            let entries = || RuleEntries::new(&self.policy, self.today);
            let rules = self.rule_entries.get_or_init(entries);
            Dictionary::new(&self.policy, &self.image, rules)
        })
    }
}

/// Compiles a policy. `epoch` must be larger than any published before; `today` decides which rules
/// have expired (compile again on [`PolicyImage::next_expiry_day`]).
///
/// The image is checked by the code that the dataplane runs before it is returned. The same policy
/// gives the same bytes.
///
/// # Errors
/// [`CompileError`] names the limit that was reached.
pub fn compile(
    policy: &ValidPolicy,
    epoch: u64,
    today: Date,
) -> Result<CompiledPolicy, CompileError> {
    Compiler::new().compile(policy, epoch, today)
}

/// Classes without an identity that a table may carry beside those with one, as a part of those:
/// beyond, tables are made anew.
const UNUSED_CLASSES_DIVISOR: usize = 8;
/// Classes without an identity that a table may always carry.
const UNUSED_CLASSES_MIN: usize = 64;

/// Compiles policies one after the other and remembers the tables of the last.
///
/// Where rules, services, and names and modes of segments are the same as before, only memberships
/// can have changed: who has which address, which label selects whom. Then the tables of rules are
/// kept, and only classes that have not been there before are worked out. Such an image decides,
/// names and explains exactly as the one that [`compile`] makes of the same policy, and its bytes are
/// the same but for the order of classes, and with it of pairs, row sets and verdict rows: they stand
/// in the order in which they have come. Classes that no identity has any more stay in the tables
/// until they are an eighth of all; then everything is made anew.
#[derive(Debug, Default)]
pub struct Compiler {
    tables: Option<Box<Tables>>,
}

impl Compiler {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Compiles as [`compile`] does, from what is remembered where that fits.
    ///
    /// # Errors
    /// As [`compile`]; what was remembered is then forgotten.
    pub fn compile(
        &mut self,
        policy: &ValidPolicy,
        epoch: u64,
        today: Date,
    ) -> Result<CompiledPolicy, CompileError> {
        if epoch == 0 {
            return Err(CompileError::EpochZero);
        }
        let remembered = self
            .tables
            .take()
            .filter(|tables| tables.fit(policy, today));
        if let Some(mut tables) = remembered
            && let Ok(Some(mut compiled)) = tables.image(policy, epoch)
        {
            compiled.tables_kept = true;
            self.tables = Some(tables);
            return Ok(compiled);
        }
        let mut tables = Box::new(Tables::new(policy, today)?);
        let compiled = tables.image(policy, epoch)?;
        self.tables = Some(tables);
        compiled.ok_or(CompileError::Pairs {
            sources: 0,
            destinations: 0,
        })
    }
}

/// What a policy's rules come to, whoever the members of its segments are; and what has been worked
/// out about members so far.
#[derive(Debug)]
struct Tables {
    today: Date,
    compiled_day: u32,
    rules: Arc<[Rule]>,
    services: Arc<[Service]>,
    /// Names and modes of segments.
    segments: Vec<(String, Mode)>,
    service_classes: ServiceClasses,
    classes: Classes,
    groups: Groups,
    pairs: Pairs,
    raw: raw::Fixed,
    /// Shared by the dictionaries of every image with these rules.
    rule_entries: Arc<OnceLock<RuleEntries>>,
}

impl Tables {
    fn new(policy: &ValidPolicy, today: Date) -> Result<Self, CompileError> {
        let compiled_day = day_number(today).ok_or(CompileError::Date { today })?;
        let service_classes = service_classes::classes(policy, today)?;
        let classes = Classes::new(policy, today);
        let groups = groups::groups(policy, &classes, &service_classes, today);
        let pairs = Pairs::new(&policy.rules, &groups, &service_classes);
        let segment = |segment: &Segment| (segment.name.clone(), segment.mode);
        Ok(Self {
            today,
            compiled_day,
            rules: Arc::clone(&policy.rules),
            services: Arc::clone(&policy.services),
            segments: policy.segments.iter().map(segment).collect(),
            service_classes,
            classes,
            groups,
            pairs,
            raw: raw::Fixed::new(policy, today),
            rule_entries: Arc::default(),
        })
    }

    /// Whether a policy differs from the one these tables were made of in nothing but memberships.
    fn fit(&self, policy: &ValidPolicy, today: Date) -> bool {
        let segments = policy.segments.iter().map(|s| (s.name.as_str(), s.mode));
        self.today == today
            && segments.eq(self
                .segments
                .iter()
                .map(|(name, mode)| (name.as_str(), *mode)))
            && (Arc::ptr_eq(&self.services, &policy.services) || self.services == policy.services)
            && (Arc::ptr_eq(&self.rules, &policy.rules) || self.rules == policy.rules)
    }

    /// The image of a policy that fits; none where the tables have become too wasteful.
    fn image(
        &mut self,
        policy: &ValidPolicy,
        epoch: u64,
    ) -> Result<Option<CompiledPolicy>, CompileError> {
        let ids = identities::identities(policy);
        self.classes.place(&ids);
        if self.classes.wasteful() {
            return Ok(None);
        }
        let meet = Meet {
            rules: &self.rules,
            groups: &self.groups,
            classes: &self.classes,
        };
        self.pairs.extend(&meet)?;
        let mut writer = ImageWriter::new();
        let v6_default_identity = lookup::write(&ids, &mut writer);
        self.service_classes.write(&mut writer);
        self.pairs.write(&mut writer);
        self.raw.write(policy, &ids, &self.classes, &mut writer);
        let bytes = writer.seal(&Facts {
            epoch,
            revision: policy.revision.0,
            source_classes: index(self.classes.source.count()),
            destination_classes: index(self.classes.destination.count()),
            service_classes: index(self.service_classes.count()),
            v6_default_identity,
            compiled_day: self.compiled_day,
            next_expiry_day: next_expiry_day(policy, self.today),
        })?;
        let image = Arc::new(PolicyImage::check(bytes)?);
        Ok(Some(CompiledPolicy {
            image,
            tables_kept: false,
            policy: policy.clone(),
            rule_entries: Arc::clone(&self.rule_entries),
            today: self.today,
            dictionary: OnceLock::new(),
        }))
    }
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
