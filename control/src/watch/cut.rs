//! What would end it: the smallest set of edges whose denial breaks every path of a finding, judged by the code that
//! enforces, and the policy text that denies them.

use super::baseline::Known;
use super::edge::{EdgeKey, ICMP, ICMPV6};
use crate::flow::address_bytes;
use abi::image::BUILT_IN_SEGMENTS;
use acl::{PolicyImage, Service};
use api::foresight::Foresight;
use api::watch::{Cut, CutDeny, Finding, FindingKind, Hop, HopJudged, WatchEnd};
use api::words;
use policy::{CompiledPolicy, Inventory, Loader};
use std::fmt::Write as _;
use std::net::IpAddr;

/// Paths of a chain that are looked at.
const PATHS_MAX: usize = 256;
/// Edges that a cut may have; a path that needs more is cut at its beginning.
const CUT_MAX: usize = 3;
/// Edges of the baseline that a cut would deny too, as far as they are named.
const ALSO_DENIED_SHOWN_MAX: usize = 8;

/// Why there is no cut, or no draft.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// The policy in force already stops it.
    #[error("the policy in force already denies it: {what}")]
    AlreadyDenied {
        /// What it denies.
        what: String,
    },
    /// The text in force cannot take the tables of the cut.
    #[error("the policy in force with the cut is no valid policy: {why}; write the rule by hand")]
    Draft {
        /// The first error.
        why: String,
    },
    /// The policy has no end of that name.
    #[error("no workload is named {name}, and it is no address")]
    NoSuchEnd {
        /// As given.
        name: String,
    },
}

/// One denial: ends and a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    from: Side,
    to: Side,
    service: Option<(u8, u16)>,
    instead: String,
}

/// One side of a denial.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    Any,
    Segment(String),
    Addresses(String, Vec<String>),
}

impl Side {
    fn told(&self) -> Vec<String> {
        match self {
            Self::Any => vec!["any".to_owned()],
            Self::Segment(name) => vec![name.clone()],
            Self::Addresses(_, addresses) => addresses.clone(),
        }
    }
}

/// The policy in force, and what is usual under it.
pub struct Ground<'a> {
    /// The policy.
    pub compiled: &'a CompiledPolicy,
    /// Its text.
    pub text: &'a str,
    /// What stands beside the text.
    pub inventory: &'a Inventory,
    /// Edges of the baseline.
    pub known: &'a [(EdgeKey, Known)],
    /// Decides which rules have expired.
    pub today: jiff::civil::Date,
}

/// A cut and the policy that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutDraft {
    /// What is denied, and what else that denies.
    pub cut: Cut,
    /// The policy in force and the cut.
    pub text: String,
}

fn service(proto: u8, port: u16) -> Service {
    if matches!(proto, ICMP | ICMPV6) {
        let [icmp_type, icmp_code] = port.to_be_bytes();
        Service::icmp(proto, icmp_type, icmp_code)
    } else {
        Service::port(proto, port)
    }
}

fn passes(image: &PolicyImage, src: IpAddr, dst: IpAddr, proto: u8, port: u16) -> bool {
    let (src, dst) = (address_bytes(src), address_bytes(dst));
    let decision = image.evaluate(&src, &dst, &service(proto, port));
    words::Action::from_word(decision.enforced.name()).is_some_and(words::Action::permits)
}

fn hop_passes(image: &PolicyImage, hop: &Hop) -> bool {
    passes(image, hop.src.address, hop.dst.address, hop.proto, hop.port)
}

/// What the policy says about each hop now.
#[must_use]
pub fn judged(compiled: &CompiledPolicy, hops: &[Hop]) -> Vec<HopJudged> {
    let judge = |hop: &Hop| {
        let asked = service(hop.proto, hop.port);
        let report = policy::explain(compiled, hop.src.address, hop.dst.address, &asked);
        let enforced = &report.enforced;
        HopJudged {
            hop: hop.label(),
            verdict: words::Action::from_word(enforced.action.name())
                .unwrap_or(words::Action::Deny),
            source: words::VerdictSource::from_word(enforced.source.name())
                .unwrap_or(words::VerdictSource::Default),
            rule: enforced.rule.clone(),
            why: enforced.reason.clone(),
        }
    };
    hops.iter().map(judge).collect()
}

impl Ground<'_> {
    /// The cut of a finding and its draft.
    ///
    /// # Errors
    /// [`CutError`].
    pub fn cut(&self, finding: &Finding) -> Result<CutDraft, CutError> {
        let denials = match finding.kind {
            FindingKind::Chain | FindingKind::NewEdge => self.hop_denials(&finding.hops)?,
            FindingKind::HostSweep
            | FindingKind::PortSweep
            | FindingKind::FanOut
            | FindingKind::DeniedBurst => self.quarantine_denials(&finding.src, finding.id),
        };
        self.draft(finding, "cut", &denials)
    }

    /// A draft that isolates one end.
    ///
    /// # Errors
    /// [`CutError`].
    pub fn quarantine(&self, finding: &Finding, name: &str) -> Result<CutDraft, CutError> {
        let ends = finding.hops.iter().flat_map(|hop| [&hop.src, &hop.dst]);
        let mut ends = ends.chain([&finding.src]).chain(&finding.dst);
        let meant = |end: &&WatchEnd| end.label() == name || end.address.to_string() == name;
        let end = match ends.find(meant) {
            Some(end) => end.clone(),
            None => self.end_named(name)?,
        };
        self.draft(
            finding,
            "quarantine",
            &self.quarantine_denials(&end, finding.id),
        )
    }

    fn end_named(&self, name: &str) -> Result<WatchEnd, CutError> {
        let none = || CutError::NoSuchEnd {
            name: name.to_owned(),
        };
        let mut workloads = self.compiled.image.workloads();
        let workload = workloads.find(|w| w.name == name);
        let address = match &workload {
            Some(workload) => workload
                .prefixes()
                .next()
                .map(|prefix| crate::flow::address(prefix.address)),
            None => name.parse().ok(),
        };
        Ok(WatchEnd {
            address: address.ok_or_else(none)?,
            name: workload.map(|w| w.name.into()),
            segments: [].into(),
        })
    }

    fn quarantine_denials(&self, end: &WatchEnd, id: u64) -> Vec<Denial> {
        let side = self.side_of(end, id, "host");
        let label = end.label();
        let denial = |from: Side, to: Side| Denial {
            from,
            to,
            service: None,
            instead: format!(
                "isolate {label} by hand: take its labels from it, `ringfence workload set {label}`"
            ),
        };
        vec![denial(side.clone(), Side::Any), denial(Side::Any, side)]
    }

    fn hop_denials(&self, hops: &[Hop]) -> Result<Vec<Denial>, CutError> {
        let image = &self.compiled.image;
        let passing: Vec<bool> = hops.iter().map(|hop| hop_passes(image, hop)).collect();
        let paths = paths_of(hops);
        let live: Vec<Vec<usize>> = paths
            .into_iter()
            .filter(|path| path.iter().all(|at| passing[*at]))
            .collect();
        if live.is_empty() {
            let denied = hops.iter().zip(&passing).filter(|(_, passes)| !**passes);
            let what: Vec<String> = denied.map(|(hop, _)| hop.label()).collect();
            return Err(CutError::AlreadyDenied {
                what: what.join(", "),
            });
        }
        let mut options: Vec<Option<(u64, Denial)>> = Vec::with_capacity(hops.len());
        for (at, hop) in hops.iter().enumerate() {
            options.push(passing[at].then(|| self.option(hop, hops, at)));
        }
        let costs: Vec<Option<u64>> = options
            .iter()
            .map(|option| option.as_ref().map(|(cost, _)| *cost))
            .collect();
        let chosen = smallest_cut(&live, &costs);
        Ok(chosen
            .into_iter()
            .filter_map(|at| options[at].take().map(|(_, denial)| denial))
            .collect())
    }

    /// How one hop would be denied: segment from segment where nothing usual goes that way, else host from host.
    fn option(&self, hop: &Hop, hops: &[Hop], at: usize) -> (u64, Denial) {
        let segments = self.segment_of(&hop.src).zip(self.segment_of(&hop.dst));
        let service = Some((hop.proto, hop.port));
        let instead = self.instead(hop, segments.as_ref());
        if let Some((from, to)) = segments {
            let denial = Denial {
                from: Side::Segment(from.clone()),
                to: Side::Segment(to.clone()),
                service,
                instead: instead.clone(),
            };
            if from != to && self.usual_between(&from, &to, hop, hops) == 0 {
                return (0, denial);
            }
        }
        let end = |end: &WatchEnd, role: &str| self.side_of(end, at as u64, role);
        let denial = Denial {
            from: end(&hop.src, "from"),
            to: end(&hop.dst, "to"),
            service,
            instead,
        };
        (1, denial)
    }

    /// The rule to narrow, or the pair that no rule speaks about.
    fn instead(&self, hop: &Hop, segments: Option<&(String, String)>) -> String {
        let judged = judged(self.compiled, std::slice::from_ref(hop));
        let rule = judged.first().and_then(|judged| judged.rule.clone());
        match (rule, segments) {
            (Some(rule), _) => format!("narrow rule {rule}: it allows {}", hop.label()),
            (None, Some((from, to))) => {
                format!("no rule allows it: it ends by itself when {from} or {to} is in enforce")
            }
            (None, None) => "no rule allows it: put its ends into segments in enforce".to_owned(),
        }
    }

    /// The segment of an end that has the fewest members, built-in ones left out.
    fn segment_of(&self, end: &WatchEnd) -> Option<String> {
        let image = &self.compiled.image;
        let identity = image.identity(&address_bytes(end.address));
        let named = image.segments_of(identity).filter_map(|at| {
            let name = self.compiled.dictionary().segment_name(at).to_owned();
            let members = image.segment(at)?.prefixes().count();
            (!BUILT_IN_SEGMENTS.contains(&name.as_str())).then_some((members, name))
        });
        named.min().map(|(_, name)| name)
    }

    /// Edges of the baseline between two segments about a hop's service, but for the finding's own.
    fn usual_between(&self, from: &str, to: &str, hop: &Hop, hops: &[Hop]) -> u64 {
        let image = &self.compiled.image;
        let is_in = |address: IpAddr, segment: &str| {
            let identity = image.identity(&address_bytes(address));
            let dictionary = self.compiled.dictionary();
            let mut segments = image.segments_of(identity);
            segments.any(|at| dictionary.segment_name(at) == segment)
        };
        let usual = self.known.iter().filter(|(key, known)| {
            key.proto == hop.proto
                && key.port == hop.port
                && known.answered
                && !is_of(hops, key, known)
                && is_in(known.src, from)
                && is_in(known.dst, to)
        });
        usual.count() as u64
    }

    /// An end as a side of its own: every address of its workload.
    fn side_of(&self, end: &WatchEnd, number: u64, role: &str) -> Side {
        let image = &self.compiled.image;
        let mut workloads = image.workloads();
        let workload = end
            .name
            .as_ref()
            .and_then(|name| workloads.find(|w| *w.name == **name));
        let addresses = match workload {
            Some(workload) => workload.prefixes().map(prefix_text).collect(),
            None => vec![end.address.to_string()],
        };
        Side::Addresses(format!("{role}-{number}"), addresses)
    }

    /// The text with the cut, judged by the code that enforces.
    fn draft(
        &self,
        finding: &Finding,
        purpose: &str,
        denials: &[Denial],
    ) -> Result<CutDraft, CutError> {
        let prefix = unused_prefix(self.text, finding.id, purpose);
        let text = with_denials(self.text, finding, denials, &prefix, &self.compiled.image);
        let refused = |why: String| CutError::Draft { why };
        let valid = Loader::new()
            .load_with(&text, self.inventory, "draft", self.today)
            .map_err(|errors| refused(errors.to_string()))?;
        let epoch = self.compiled.epoch() + 1;
        let draft = policy::compile(&valid, epoch, self.today)
            .map_err(|error| refused(error.to_string()))?;
        let (before, after) = (&self.compiled.image, &draft.image);
        let mut also: Vec<String> = Vec::new();
        let usual = self
            .known
            .iter()
            .filter(|(key, known)| known.answered && !is_of(&finding.hops, key, known));
        let mut asked = 0;
        for (key, known) in usual {
            asked += 1;
            let judge = |image| passes(image, known.src, known.dst, key.proto, key.port);
            if judge(before) && !judge(after) {
                also.push(format!("{} -> {} {}", key.src, key.dst, key.service()));
            }
        }
        also.sort();
        let live = paths_of(&finding.hops);
        let holds = live
            .iter()
            .all(|path| path.iter().any(|at| !hop_passes(after, &finding.hops[*at])));
        let told = |denial: &Denial| CutDeny {
            from: denial.from.told(),
            to: denial.to.told(),
            service: denial.service.map_or_else(
                || "any".to_owned(),
                |(proto, port)| api::label::service_word(proto, port),
            ),
            instead: denial.instead.clone(),
        };
        let cut = Cut {
            denies: denials.iter().map(told).collect(),
            also_denied: also.len() as u64,
            also_denied_edges: also.into_iter().take(ALSO_DENIED_SHOWN_MAX).collect(),
            asked_edges: asked,
            holds,
            // For whoever can ask history.
            foresight: Foresight::default(),
        };
        Ok(CutDraft { cut, text })
    }
}

fn prefix_text(prefix: acl::Prefix) -> String {
    let address = crate::flow::address(prefix.address);
    match (prefix.length, address) {
        (128, _) => address.to_string(),
        (length, IpAddr::V4(_)) => format!("{address}/{}", length.saturating_sub(96)),
        (length, IpAddr::V6(_)) => format!("{address}/{length}"),
    }
}

/// Whether an edge of the baseline is one of the finding's hops.
fn is_of(hops: &[Hop], key: &EdgeKey, known: &Known) -> bool {
    hops.iter().any(|hop| {
        hop.proto == key.proto
            && hop.port == key.port
            && hop.src.address == known.src
            && hop.dst.address == known.dst
    })
}

/// Paths from a first hop to a last, of hops in order of time; one hop is a path where it stands alone.
fn paths_of(hops: &[Hop]) -> Vec<Vec<usize>> {
    let leads = |from: &Hop, to: &Hop| {
        from.dst.label() == to.src.label()
            && from.src.label() != to.dst.label()
            && from.first_ts <= to.first_ts
    };
    let next = |at: usize| -> Vec<usize> {
        let after = (0..hops.len()).filter(|to| *to != at && leads(&hops[at], &hops[*to]));
        after.collect()
    };
    let is_first = |at: &usize| !hops.iter().any(|hop| leads(hop, &hops[*at]));
    let mut paths = Vec::new();
    let mut open: Vec<Vec<usize>> = (0..hops.len())
        .filter(is_first)
        .map(|at| vec![at])
        .collect();
    while let Some(path) = open.pop() {
        let last = path[path.len() - 1];
        let further: Vec<usize> = next(last)
            .into_iter()
            .filter(|to| !path.contains(to))
            .collect();
        if further.is_empty() || paths.len() + open.len() >= PATHS_MAX {
            paths.push(path);
            continue;
        }
        for to in further {
            open.push([path.as_slice(), &[to]].concat());
        }
    }
    paths
}

/// The fewest hops of which every path has one; of equal ones the cheapest, then the latest. Beyond [`CUT_MAX`] the
/// first hop of each path.
fn smallest_cut(paths: &[Vec<usize>], costs: &[Option<u64>]) -> Vec<usize> {
    let hops: Vec<usize> = (0..costs.len()).filter(|at| costs[*at].is_some()).collect();
    let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..CUT_MAX {
        let longer = sets.iter().flat_map(|set| {
            let above = set.last().map_or(0, |last| last + 1);
            let next = hops.iter().filter(move |at| **at >= above);
            next.map(|at| [set.as_slice(), &[*at]].concat())
        });
        sets = longer.collect();
        let breaks = |set: &&Vec<usize>| {
            let mut paths = paths.iter();
            paths.all(|path| path.iter().any(|at| set.contains(at)))
        };
        let cost = |set: &Vec<usize>| set.iter().filter_map(|at| costs[*at]).sum::<u64>();
        let by = |set: &&Vec<usize>| (cost(set), std::cmp::Reverse((*set).clone()));
        if let Some(best) = sets.iter().filter(breaks).min_by_key(by) {
            return best.clone();
        }
    }
    let mut firsts: Vec<usize> = paths
        .iter()
        .filter_map(|path| path.first().copied())
        .collect();
    firsts.sort_unstable();
    firsts.dedup();
    firsts
}

/// Begins the names of what a draft adds: no table that an earlier draft left there has such a name.
fn unused_prefix(text: &str, id: u64, purpose: &str) -> String {
    let begins = |prefix: &String| text.contains(&format!("\"{prefix}-"));
    let mut prefix = format!("watch-{id}-{purpose}");
    let mut number = 1;
    while begins(&prefix) {
        number += 1;
        prefix = format!("watch-{id}-{purpose}{number}");
    }
    prefix
}

/// The text and, at its end, the tables of the denials.
fn with_denials(
    text: &str,
    finding: &Finding,
    denials: &[Denial],
    prefix: &str,
    image: &PolicyImage,
) -> String {
    let id = finding.id;
    let mut out = text.trim_end().to_owned();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "\n\n# ringfence watch, finding {id}: {}\n",
        finding.sentence
    );
    let mut made: Vec<(String, String)> = Vec::new();
    for (number, denial) in (1..).zip(denials) {
        let side = |side: &Side, made: &mut Vec<(String, String)>, out: &mut String| match side {
            Side::Any => "any".to_owned(),
            Side::Segment(name) => name.clone(),
            Side::Addresses(role, addresses) => {
                let key = format!("{role} {}", addresses.join(" "));
                if let Some((_, name)) = made.iter().find(|(known, _)| *known == key) {
                    return name.clone();
                }
                let name = format!("{prefix}-{role}");
                let _ = write!(
                    out,
                    "\n[[segment]]\nname = \"{name}\"\naddresses = [{}]\nmode = \"observe\"\n",
                    quoted(addresses)
                );
                made.push((key, name.clone()));
                name
            }
        };
        let from = side(&denial.from, &mut made, &mut out);
        let to = side(&denial.to, &mut made, &mut out);
        let services = denial.service.map(|(proto, port)| {
            let ports = api::label::service_word(proto, port);
            let known = image.services().find(|entry| {
                let mut ports = entry.ports();
                let only = ports.next().filter(|_| ports.next().is_none());
                only.is_some_and(|p| p.low == p.high && p.covers(&service(proto, port)))
            });
            if let Some(entry) = known {
                return entry.name.to_owned();
            }
            let name = format!("{prefix}-{}", ports.replace('/', "-"));
            if !made.iter().any(|(known, _)| *known == name) {
                let _ = write!(
                    out,
                    "\n[[service]]\nname = \"{name}\"\nports = [\"{ports}\"]\n"
                );
                made.push((name.clone(), name.clone()));
            }
            name
        });
        let _ = write!(
            out,
            "\n[[rule]]\nname = \"{prefix}-{number}\"\ntier = \"guardrail\"\nfrom = [\"{from}\"]\nto = [\"{to}\"]\n"
        );
        if let Some(service) = services {
            let _ = writeln!(out, "services = [\"{service}\"]");
        }
        out.push_str("action = \"deny\"\nmode = \"enforce\"\non_change = \"kill\"\n");
    }
    out
}

fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    texts.join(", ")
}
