//! Answers about findings.

use super::cut::{CutDraft, CutError, Ground, judged};
use crate::app::App;
use crate::clock::{now_ns, today};
use crate::foresight::Draft;
use crate::history_questions::time_ns;
use crate::quarantine::suspect;
use api::Ts;
use api::error::{ApiError, ErrorCode};
use api::watch::{
    BaselineEdges, BaselineQuery, Finding, FindingQuery, FindingReport, FindingSaid, FindingState,
    FindingStateRequest, Findings, Hop, KnownEdge, QuarantineOffer, WatchDraft, WatchQuery,
    WatchState,
};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Findings, and edges, of an answer where the question says nothing.
const LIMIT_DEFAULT: u64 = 100;
/// Bytes of a note and of its author.
const NOTE_BYTES_MAX: usize = 4096;
/// Longest wait of an answer for records that were collected before it was asked.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

fn no_finding(id: u64) -> ApiError {
    let message = format!("there is no finding {id}; `ringfence watch list` shows them");
    ApiError::new(ErrorCode::NotFound, message)
}

/// At most the newest `limit` (0 all), and whether there were more.
fn newest<T>(mut rows: Vec<T>, limit: Option<u64>) -> (Vec<T>, bool) {
    let limit = usize::try_from(limit.unwrap_or(LIMIT_DEFAULT)).unwrap_or(usize::MAX);
    let surplus = rows.len().saturating_sub(limit);
    if limit == 0 || surplus == 0 {
        return (rows, false);
    }
    rows.drain(..surplus);
    (rows, true)
}

/// Which findings are meant.
#[derive(Clone, Debug)]
pub struct Wanted {
    query: WatchQuery,
    since_ns: u64,
}

impl Wanted {
    /// What a query asks for.
    ///
    /// # Errors
    /// Its time is none.
    pub fn new(query: WatchQuery) -> Result<Self, ApiError> {
        let since = query.since.as_deref();
        let since_ns = since.map_or(Ok(0), |text| time_ns("since", text, now_ns()))?;
        Ok(Self { query, since_ns })
    }

    /// Whether a finding is one of them.
    #[must_use]
    pub fn is_met(&self, finding: &Finding) -> bool {
        let query = &self.query;
        finding.last_ts.0 >= self.since_ns
            && query.kind.is_none_or(|kind| finding.kind == kind)
            && query.severity.is_none_or(|least| finding.severity >= least)
            && (query.open != Some(true) || finding.state == FindingState::Open)
            && (query.learning == Some(true) || !finding.learning)
    }
}

impl App {
    /// How the watch is doing.
    #[must_use]
    pub fn watch_state(&self) -> WatchState {
        let (config, counters) = (&self.config.watch, self.watch.counters());
        let detector = self.watch.detector();
        let (since, now) = (detector.baseline.since_ns(), detector.now_ns());
        let open = |f: &&Finding| f.state == FindingState::Open && !f.learning;
        WatchState {
            enabled: config.enabled,
            learning: detector.is_learning(now),
            since: since.map(Ts),
            watched_s: now.saturating_sub(since.unwrap_or(now)) / 1_000_000_000,
            learning_s: config.learning.0.as_secs(),
            edges: detector.baseline.len() as u64,
            edges_max: config.edges_max as u64,
            edges_out: detector.baseline.out(),
            findings: detector.findings.all().len() as u64,
            open: detector.findings.all().filter(open).count() as u64,
            findings_out: detector.findings.counts().out,
            records: detector.records(),
            waiting: counters.waiting.load(Ordering::Acquire) as u64,
            shed: counters.shed.load(Ordering::Relaxed),
            error: self.watch.error(),
        }
    }

    /// `GET /v1/watch`.
    ///
    /// # Errors
    /// Bad request.
    pub fn findings(&self, query: WatchQuery) -> Result<Findings, ApiError> {
        let limit = query.limit;
        let wanted = Wanted::new(query)?;
        self.watch.settle(SETTLE_LIMIT);
        let found: Vec<Finding> = {
            let detector = self.watch.detector();
            let all = detector.findings.all();
            all.filter(|finding| wanted.is_met(finding))
                .cloned()
                .collect()
        };
        let (findings, cut) = newest(found, limit);
        Ok(Findings {
            state: self.watch_state(),
            findings,
            cut,
        })
    }

    pub(crate) fn finding(&self, id: u64) -> Result<Finding, ApiError> {
        let detector = self.watch.detector();
        detector
            .findings
            .get(id)
            .cloned()
            .ok_or_else(|| no_finding(id))
    }

    /// Cuts a finding, or isolates an end, under the policy in force.
    fn cut_of(&self, finding: &Finding, quarantine: Option<&str>) -> Result<CutDraft, ApiError> {
        let Some(in_force) = self.policy.in_force() else {
            let message = "no policy whose text is known is in force: apply one first, with \
                           `ringfence policy apply FILE`";
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        let known: Vec<_> = {
            let detector = self.watch.detector();
            let edges = detector.baseline.edges();
            edges
                .map(|(key, known)| (key.clone(), known.clone()))
                .collect()
        };
        let ground = Ground {
            compiled: &in_force.compiled,
            text: in_force.text(),
            inventory: &in_force.members.inventory,
            known: &known,
            today: today(),
        };
        let made = match quarantine {
            Some(name) => ground.quarantine(finding, name),
            None => ground.cut(finding),
        };
        let mut made = made.map_err(|error| {
            let code = match &error {
                CutError::AlreadyDenied { .. } | CutError::NoSuchEnd { .. } => ErrorCode::NotFound,
                CutError::Draft { .. } => ErrorCode::InvalidPolicy,
            };
            ApiError::new(code, error.to_string())
        })?;
        let own = |hop: &Hop| (hop.src.address, hop.dst.address, hop.proto, hop.port);
        made.cut.foresight = self.foresee(&Draft {
            from: &in_force,
            text: &made.text,
            since: None,
            filter: String::new(),
            but: finding.hops.iter().map(own).collect(),
        });
        Ok(made)
    }

    /// `GET /v1/watch/finding`.
    ///
    /// # Errors
    /// There is no such finding.
    pub fn finding_report(&self, query: &FindingQuery) -> Result<FindingReport, ApiError> {
        let finding = self.finding(query.id)?;
        let in_force = self.policy.in_force();
        let judged = in_force.map_or_else(Vec::new, |f| judged(&f.compiled, &finding.hops));
        let (cut, no_cut) = match self.cut_of(&finding, query.quarantine.as_deref()) {
            Ok(draft) => (Some(draft.cut), None),
            Err(error) => (None, Some(error.message)),
        };
        let (quarantine, no_quarantine) = match self.quarantine_offer(&finding) {
            Ok(offer) => (Some(offer), None),
            Err(error) => (None, Some(error.message)),
        };
        let next = next_steps(&finding, quarantine.as_ref(), cut.is_some());
        Ok(FindingReport {
            finding,
            judged,
            cut,
            no_cut,
            quarantine,
            no_quarantine,
            next,
        })
    }

    /// `GET /v1/watch/draft`.
    ///
    /// # Errors
    /// There is no such finding, no policy, or nothing to cut.
    pub fn watch_draft(&self, query: &FindingQuery) -> Result<WatchDraft, ApiError> {
        let finding = self.finding(query.id)?;
        let CutDraft { cut, text } = self.cut_of(&finding, query.quarantine.as_deref())?;
        Ok(WatchDraft {
            id: finding.id,
            base: self.policy.show().revision,
            text,
            cut,
        })
    }

    /// `POST /v1/watch/state`.
    ///
    /// # Errors
    /// There is no such finding, the words are too long, or the disk refuses.
    pub fn say_finding(&self, request: FindingStateRequest) -> Result<Finding, ApiError> {
        for (what, text) in [("author", &request.author), ("note", &request.note)] {
            if text.len() > NOTE_BYTES_MAX {
                let message = format!("{what} has {} bytes, at most {NOTE_BYTES_MAX}", text.len());
                return Err(ApiError::new(ErrorCode::BadRequest, message));
            }
        }
        let said = FindingSaid {
            ts: Ts(now_ns()),
            author: request.author,
            state: request.state,
            note: request.note,
        };
        let told = self.watch.say(request.id, said);
        let storage = |e: super::WatchFileError| ApiError::new(ErrorCode::Storage, e.to_string());
        told.map_err(storage)?.ok_or_else(|| no_finding(request.id))
    }

    /// `GET /v1/watch/baseline`.
    ///
    /// # Errors
    /// None today.
    pub fn watch_baseline(&self, query: &BaselineQuery) -> Result<BaselineEdges, ApiError> {
        self.watch.settle(SETTLE_LIMIT);
        let mut edges: Vec<KnownEdge> = {
            let detector = self.watch.detector();
            let told = |(key, known): (&super::edge::EdgeKey, &super::baseline::Known)| KnownEdge {
                src: key.src.to_string(),
                dst: key.dst.to_string(),
                service: key.service(),
                first_ts: Ts(known.first_ns),
                last_ts: Ts(known.last_ns),
                answered: known.answered,
                administrative: detector.is_administrative(key),
            };
            detector.baseline.edges().map(told).collect()
        };
        if let Some(name) = query.workload.as_deref() {
            edges.retain(|edge| edge.src == name || edge.dst == name);
        }
        let key = |e: &KnownEdge| (e.last_ts, e.src.clone(), e.dst.clone(), e.service.clone());
        edges.sort_by_cached_key(key);
        let (mut edges, cut) = newest(edges, query.limit);
        edges.reverse();
        Ok(BaselineEdges {
            state: self.watch_state(),
            edges,
            cut,
        })
    }
}

/// Commands to go on with.
fn next_steps(finding: &Finding, offer: Option<&QuarantineOffer>, has_cut: bool) -> Vec<String> {
    let id = finding.id;
    let command = |offer: Option<&QuarantineOffer>| offer.map(|offer| offer.command.clone());
    let (held, new) = match offer {
        Some(offer) if offer.held_until_ts.is_some() => (Some(offer), None),
        offer => (None, offer),
    };
    let mut next: Vec<String> = command(new).into_iter().collect();
    if has_cut {
        next.push(format!("ringfence watch draft {id} > draft.toml"));
        next.push("ringfence policy check draft.toml".to_owned());
        next.push(format!(
            "ringfence policy apply draft.toml -m 'finding {id}'"
        ));
    }
    let end = suspect(finding);
    if offer.is_none() {
        next.push(format!(
            "ringfence watch draft {id} --quarantine {end} > draft.toml"
        ));
    }
    next.push(format!("ringfence history talkers {end} --since 1d"));
    if finding.state == FindingState::Open {
        next.push(format!("ringfence watch ack {id} -m 'who looks at it'"));
    }
    next.extend(command(held));
    next
}
