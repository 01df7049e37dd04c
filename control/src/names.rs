//! Names: what the policy images of the last epochs call identities, addresses, rules and services.
//!
//! A record tells numbers that mean something in the image of its epoch only. The registry keeps
//! the dictionaries of the last [`EPOCHS_MAX`] epochs; what is older is named by the newest one and
//! marked.

mod services;

use self::services::ServiceNames;
use abi::image::{RuleMode, Tier};
use abi::{FlowRecord, Mode};
use acl::{PolicyImage, Prefix, Service};
use api::words::NamedBy;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, RwLock};

/// Epochs whose names are kept.
pub const EPOCHS_MAX: usize = 32;

/// Names of one policy image.
#[derive(Debug)]
pub struct Dictionary {
    /// The image, also for explain.
    pub image: Arc<PolicyImage>,
    /// Names of segments, by their index in the image.
    pub segments: Vec<Arc<str>>,
    identities: Vec<IdentityNames>,
    rules: Arc<ById<RuleNames>>,
    hosts: HashMap<Host, Arc<str>, BuildHasherDefault<HostHasher>>,
    prefixes: Vec<(Prefix, Arc<str>)>,
    services: ServiceNames,
}

/// A set of segments.
#[derive(Clone, Debug)]
pub struct IdentityNames {
    /// Their names.
    pub segments: Arc<[Arc<str>]>,
    /// Their names, comma separated.
    pub joined: Arc<str>,
    /// The same set has the same id in every revision: a hash of the names.
    pub id: u32,
    /// The strictest of them.
    pub mode: Mode,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct RuleNames {
    /// Name.
    pub name: Arc<str>,
    /// Tier.
    pub tier: Tier,
    /// What it asks for.
    pub action: abi::Action,
    /// Its own mode.
    pub mode: RuleMode,
}

fn rule_names(rule: acl::Rule<'_>) -> (u64, RuleNames) {
    let names = RuleNames {
        name: rule.name.into(),
        tier: rule.tier,
        action: rule.action,
        mode: rule.mode,
    };
    (rule.id, names)
}

/// An address as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Host(u128);

impl std::hash::Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.0);
    }
}

/// Hash of a workload's address. Only the policy's author chooses what stands in the map, and
/// records only ask, so that speed counts and a key does not.
#[derive(Clone, Copy, Debug, Default)]
struct HostHasher(u64);

impl Hasher for HostHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn write_u128(&mut self, address: u128) {
        // Both halves of a product of the halves: every bit of the address reaches every other.
        let half = |shift: u32| u64::try_from((address >> shift) & u128::from(u64::MAX));
        let [low, high] = [half(0), half(64)].map(|half| u128::from(half.unwrap_or(0) ^ self.0));
        let product = (low ^ 0x9e37_79b9_7f4a_7c15) * (high ^ 0xe703_7ed1_a0b4_28db);
        let folded = (product ^ (product >> 64)) & u128::from(u64::MAX);
        self.0 = u64::try_from(folded).unwrap_or(0);
    }
}

/// A map by rule id. Ids are hashes of names already.
pub type ById<T> = HashMap<u64, T, BuildHasherDefault<IdHasher>>;

/// Takes an id for its own hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only ids are ever hashed, by `write_u64`; anything else is still told apart.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}

/// FNV-1a 32 of a name, never 0: the id of a set of segments in IPFIX and in the API.
#[must_use]
pub fn segment_id(name: &str) -> u32 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.max(1)
}

impl Dictionary {
    /// Reads every name out of an image.
    ///
    /// # Unbounded
    /// Proportional to the image; called once for each epoch.
    #[must_use]
    pub fn new(image: Arc<PolicyImage>) -> Self {
        Self::after(image, None)
    }

    /// The same; the names of rules are taken from the dictionary `before` where they are the same.
    #[must_use]
    pub fn after(image: Arc<PolicyImage>, before: Option<&Self>) -> Self {
        let segments: Vec<Arc<str>> = image.segments().map(|s| s.name.into()).collect();
        let identities = (0..image.identity_count())
            .map(|identity| {
                let names: Arc<[Arc<str>]> = image
                    .segments_of(identity)
                    .filter_map(|s| segments.get(usize::try_from(s).ok()?).cloned())
                    // `any` is every address's segment and says nothing.
                    .filter(|name| &**name != abi::image::BUILT_IN_SEGMENTS[0])
                    .collect();
                let joined = names.join(",");
                IdentityNames {
                    id: segment_id(&joined),
                    joined: joined.into(),
                    segments: names,
                    mode: image.mode_of(identity),
                }
            })
            .collect();
        let rules = match before.filter(|before| before.image.has_rules_of(&image)) {
            Some(before) => Arc::clone(&before.rules),
            None => Arc::new(image.rules().map(rule_names).collect()),
        };
        let (mut hosts, mut prefixes) = (HashMap::default(), Vec::new());
        for workload in image.workloads() {
            let name: Arc<str> = workload.name.into();
            for prefix in workload.prefixes() {
                if prefix.length == 128 {
                    hosts.insert(Host(u128::from_be_bytes(prefix.address)), Arc::clone(&name));
                } else {
                    prefixes.push((prefix, Arc::clone(&name)));
                }
            }
        }
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.length));
        Self {
            segments,
            identities,
            rules,
            hosts,
            prefixes,
            services: ServiceNames::new(&image),
            image,
        }
    }

    /// Epoch of the image.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.image.epoch()
    }

    /// First 64 bits of the revision, as IPFIX tells it.
    #[must_use]
    pub fn revision_number(&self) -> u64 {
        self.image
            .revision()
            .first_chunk::<8>()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Names in all: identities and rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.identities.len() + self.rules.len()
    }

    /// Whether there is no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of every identity.
    pub fn identities(&self) -> impl Iterator<Item = &IdentityNames> {
        self.identities.iter()
    }

    /// Every rule's id.
    pub fn rule_ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.rules.keys().copied()
    }

    /// Names of an identity.
    #[must_use]
    pub fn identity(&self, identity: u32) -> Option<&IdentityNames> {
        self.identities.get(usize::try_from(identity).ok()?)
    }

    /// The workload that has an address.
    #[must_use]
    pub fn workload(&self, address: &[u8; 16]) -> Option<&Arc<str>> {
        self.hosts
            .get(&Host(u128::from_be_bytes(*address)))
            .or_else(|| {
                self.prefixes
                    .iter()
                    .find(|(prefix, _)| prefix.covers(address))
                    .map(|(_, name)| name)
            })
    }

    /// The service that contains a port.
    #[must_use]
    pub fn service(&self, service: &Service) -> Option<&Arc<str>> {
        self.services.of(service)
    }

    /// A rule by its stable id.
    #[must_use]
    pub fn rule(&self, id: u64) -> Option<&RuleNames> {
        self.rules.get(&id)
    }
}

/// The dictionary that names a record, and how well.
#[derive(Clone, Debug)]
pub struct Naming {
    /// None where no policy is known.
    pub dictionary: Option<Arc<Dictionary>>,
    /// By which policy.
    pub by: NamedBy,
}

impl Naming {
    /// Names of the two ends' identities: from the record where the dictionary is that of its
    /// epoch, else by address.
    #[must_use]
    pub fn identities(&self, record: &FlowRecord) -> [Option<&IdentityNames>; 2] {
        let Some(dictionary) = self.dictionary.as_deref() else {
            return [None, None];
        };
        let (src, dst) = if self.by == NamedBy::Epoch {
            (record.src_identity, record.dst_identity)
        } else {
            (
                dictionary.image.identity(&record.src),
                dictionary.image.identity(&record.dst),
            )
        };
        [dictionary.identity(src), dictionary.identity(dst)]
    }

    /// Name of a rule by its stable id.
    #[must_use]
    pub fn rule(&self, id: u64) -> Option<&Arc<str>> {
        let rule = self.dictionary.as_deref()?.rule(id)?;
        Some(&rule.name)
    }
}

/// Dictionaries by epoch.
#[derive(Debug, Default)]
pub struct Registry {
    epochs: RwLock<BTreeMap<u64, Arc<Dictionary>>>,
}

/// A copy of the registry, for many records in a row.
#[derive(Clone, Debug, Default)]
pub struct Names {
    epochs: BTreeMap<u64, Arc<Dictionary>>,
}

impl Registry {
    /// Adds an epoch; the lowest makes room.
    pub fn insert(&self, dictionary: Arc<Dictionary>) {
        let mut epochs = self
            .epochs
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        epochs.insert(dictionary.epoch(), dictionary);
        while epochs.len() > EPOCHS_MAX {
            epochs.pop_first();
        }
    }

    /// Removes an epoch that was never adopted.
    pub fn remove(&self, epoch: u64) {
        self.epochs
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(&epoch);
    }

    /// A copy.
    #[must_use]
    pub fn names(&self) -> Names {
        let epochs = self
            .epochs
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Names {
            epochs: epochs.clone(),
        }
    }
}

impl Names {
    /// Who names a record of this epoch.
    #[must_use]
    pub fn naming(&self, epoch: u64) -> Naming {
        if let Some(dictionary) = self.epochs.get(&epoch) {
            return Naming {
                dictionary: Some(Arc::clone(dictionary)),
                by: NamedBy::Epoch,
            };
        }
        match self.epochs.last_key_value() {
            Some((_, newest)) => Naming {
                dictionary: Some(Arc::clone(newest)),
                by: NamedBy::Reresolved,
            },
            None => Naming {
                dictionary: None,
                by: NamedBy::None,
            },
        }
    }

    /// The newest dictionary.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<Dictionary>> {
        self.epochs
            .last_key_value()
            .map(|(_, dictionary)| dictionary)
    }
}
