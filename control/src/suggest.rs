//! `ringfence policy suggest`: rules for what history has seen and no rule covers.

use crate::app::App;
use crate::clock::{now_ns, today};
use crate::history_questions::{selection, told};
use crate::simulate::{Pasts, Told, observe, period, read_history, seed, word};
use api::Ts;
use api::error::{ApiError, ErrorCode};
use api::history::HistoryQuery;
use api::label::service_word;
use api::suggest as told_as;
use api::suggest::SuggestRequest;
use api::words;
use history::Selection;
use policy::suggest::{
    Evidence, Lack, LeftOut, LeftOutWhy, Manner, NewSegment, SuggestedRule, Suggester, Suggestion,
    Watched,
};
use policy::{CompiledPolicy, ValidPolicy};
use std::time::Instant;

/// What is extended where there is no policy yet.
const NO_POLICY: &str = "[policy]\nname = \"suggested\"\n";

/// A policy that can be extended.
#[derive(Debug)]
pub struct Extended {
    request: SuggestRequest,
    text: String,
    is_new: bool,
    valid: ValidPolicy,
    compiled: CompiledPolicy,
    of: Selection,
    pasts: Pasts,
}

impl App {
    /// Reads and compiles what is to be extended. Takes long for a large policy.
    ///
    /// # Errors
    /// The policy is not valid, or the period or filter is not understood.
    pub fn prepare_suggestion(&self, request: SuggestRequest) -> Result<Extended, ApiError> {
        let query = HistoryQuery {
            since: request.since.clone(),
            until: request.until.clone(),
            filter: request.filter.clone(),
            ..HistoryQuery::default()
        };
        let of = selection(&query, now_ns())?;
        let pasts = Pasts::new(&told(self.history.names(0, u64::MAX))?);
        let (text, file_name) = match &request.text {
            Some(text) => (text.clone(), request.file_name.clone()),
            None => {
                let shown = self.policy.show();
                (shown.text, shown.file_name)
            }
        };
        let is_new = text.trim().is_empty();
        let (text, file_name) = if is_new {
            (NO_POLICY.to_owned(), "suggested.toml".to_owned())
        } else {
            (text, file_name)
        };
        let (valid, compiled) = self.policy.draft(&text, &file_name, false)?;
        Ok(Extended {
            request: SuggestRequest {
                file_name,
                ..request
            },
            text,
            is_new,
            valid,
            compiled,
            of,
            pasts,
        })
    }

    /// `POST /v1/policy/suggest`.
    ///
    /// # Errors
    /// History does not answer, nobody waits any more, or the policy's text cannot be extended.
    pub fn suggest(
        &self,
        extended: &Extended,
        tell: Told<'_>,
    ) -> Result<told_as::Suggestion, ApiError> {
        let began = Instant::now();
        let mut suggester = Suggester::new(&extended.valid, &extended.compiled, seed());
        read_history(self, &extended.of, tell, |conversation| {
            observe(&extended.pasts, &conversation, |seen| suggester.push(seen));
        })?;
        let manner = Manner {
            name_prefix: extended.request.name_prefix.clone(),
        };
        let found = suggester
            .finish(&extended.text, today(), &manner)
            .map_err(|error| ApiError::new(ErrorCode::InvalidPolicy, error.to_string()))?;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let watched = &found.watched;
        let period = period(
            &self.history_state(),
            &extended.of,
            watched.first_ns,
            watched.last_ns,
        );
        Ok(answer(extended, found, period, took_ms))
    }
}

fn answer(
    extended: &Extended,
    found: Suggestion,
    period: api::simulate::Period,
    took_ms: u64,
) -> told_as::Suggestion {
    let revision = if extended.is_new {
        String::new()
    } else {
        extended.valid.revision.to_string()
    };
    told_as::Suggestion {
        file_name: extended.request.file_name.clone(),
        revision,
        period,
        watched: watched(&found.watched),
        flows: found.flows,
        covered_flows: found.covered_flows,
        beyond: found.beyond,
        segments: found.segments.into_iter().map(segment).collect(),
        services: found
            .services
            .into_iter()
            .map(|service| told_as::NewService {
                name: service.name,
                ports: service.ports,
            })
            .collect(),
        rules: found.rules.into_iter().map(rule).collect(),
        left_out: found.left_out.iter().map(left_out).collect(),
        text: found.text,
        took_ms,
    }
}

fn evidence(evidence: &Evidence) -> told_as::Evidence {
    told_as::Evidence {
        flows: evidence.flows,
        sure_flows: evidence.sure_flows,
        packets: evidence.packets,
        bytes: evidence.bytes,
        first_ts: Ts(evidence.first_ns),
        last_ts: Ts(evidence.last_ns),
        sources: evidence.sources as u64,
        destinations: evidence.destinations as u64,
    }
}

fn segment(segment: NewSegment) -> told_as::NewSegment {
    told_as::NewSegment {
        mode: word!(words::Mode, segment.mode),
        seen: segment.seen as u64,
        name: segment.name,
        select: segment.select,
        addresses: segment.addresses,
        why: segment.why,
    }
}

fn rule(rule: SuggestedRule) -> told_as::SuggestedRule {
    told_as::SuggestedRule {
        evidence: evidence(&rule.evidence),
        name: rule.name,
        from: rule.from,
        to: rule.to,
        service: rule.service,
    }
}

fn left_out(left: &LeftOut) -> told_as::LeftOut {
    let (example_dst, proto, port) = left.example;
    told_as::LeftOut {
        why: match left.why {
            LeftOutWhy::Scan => told_as::LeftOutWhy::Scan,
            LeftOutWhy::Unanswered => told_as::LeftOutWhy::Unanswered,
            LeftOutWhy::Outside => told_as::LeftOutWhy::Outside,
        },
        src: left.src,
        asked: left.asked as u64,
        example_dst,
        example_service: service_word(proto, port),
        evidence: evidence(&left.evidence),
    }
}

fn watched(watched: &Watched) -> told_as::Watched {
    let lack = |lack: &Lack| match lack {
        Lack::Days => told_as::Lack::Days,
        Lack::Weekdays => told_as::Lack::Weekdays,
        Lack::Hours => told_as::Lack::Hours,
        Lack::StillLearning => told_as::Lack::StillLearning,
    };
    told_as::Watched {
        length_s: watched.last_ns.saturating_sub(watched.first_ns) / 1_000_000_000,
        hours: watched.hours,
        weekdays: watched.weekdays,
        edges: watched.edges,
        new_edges: watched.new_edges,
        lacks: watched.lacks.iter().map(lack).collect(),
    }
}
