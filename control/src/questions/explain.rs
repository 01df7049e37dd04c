//! Why a flow is, was or would be decided as it is: hypothetical, live, past.

use super::ends::ends_of;
use super::turning::turnings;
use super::{ICMPV6, OBSERVED_MAX, action_word, bad, mode_word, source_word};
use crate::app::App;
use crate::clock::now_ns;
use crate::flow::{StoredFlow, address, service};
use crate::history_questions::time_ns;
use crate::policy_service::{InForce, Past};
use api::error::{ApiError, ErrorCode};
use api::explain::{EndNamed, ExplainQuery, FlowExplain, FlowExplainQuery, RuleConsidered};
use api::filter::Filter;
use api::flow::FlowId;
use api::label::service_word;
use api::words;
use api::{Explain, Flow, Ts};
use std::net::IpAddr;

/// What is asked, as addresses and numbers.
struct Asked<'q> {
    query: &'q ExplainQuery,
    port: policy::Port,
    service: acl::Service,
    src: IpAddr,
    dst: IpAddr,
}

impl<'q> Asked<'q> {
    fn new(valid: &policy::ValidPolicy, query: &'q ExplainQuery) -> Result<Self, ApiError> {
        let port = port_of(valid, &query.service)?;
        let service = service_of(port);
        let (src, dst) = ends_of(valid, query, service.proto)?;
        Ok(Self {
            query,
            port,
            service,
            src,
            dst,
        })
    }

    /// What a policy says about it. Revision, time and flows are the caller's to fill in.
    fn explain(&self, in_force: &InForce) -> Explain {
        let asked = &self.service;
        let report = policy::explain(&in_force.compiled, self.src, self.dst, asked);
        let sentence = format!(
            "{} from {} to {}: {}, because {}",
            self.query.service,
            end_label(&report.src),
            end_label(&report.dst),
            report.enforced.action,
            report.enforced.reason
        );
        Explain {
            sentence: format!("{sentence}{}", passes_by_itself(asked)),
            src: end_named(&report.src),
            dst: end_named(&report.dst),
            proto: asked.proto,
            port: asked_port(asked),
            service: self.port.to_string(),
            services: services_of(&in_force.valid, asked),
            verdict: action_word(report.enforced.action),
            verdict_source: source_word(report.enforced.source),
            rule: report.enforced.rule.clone(),
            pending_verdict: action_word(report.pending.action),
            pending_source: source_word(report.pending.source),
            pending_rule: report.pending.rule.clone(),
            mode: mode_word(report.mode).unwrap_or(words::Mode::Observe),
            coverage: words::Coverage::from_word(report.coverage.name())
                .unwrap_or(words::Coverage::Uncovered),
            considered: report.matches.iter().map(considered).collect(),
            revision: String::new(),
            epoch: report.epoch,
            since: None,
            at: None,
            uncertain: None,
            observed: Vec::new(),
            turnings: Vec::new(),
            now: None,
            now_unknown: None,
        }
    }
}

fn split<T>(asked: Result<T, ApiError>) -> (Option<T>, Option<String>) {
    match asked {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error.message)),
    }
}

/// The service of a flow by its numbers, as the policy language writes it.
fn numbers(flow: &Flow) -> String {
    let port = flow.icmp_type.map_or(flow.dport, |t| u16::from(t) << 8);
    match (flow.proto, flow.icmp_type, flow.icmp_code) {
        // A type alone is asked about with code 0.
        (1, Some(kind), Some(code)) if code > 0 => format!("icmp/{kind}/{code}"),
        (ICMPV6, Some(kind), Some(code)) if code > 0 => format!("icmpv6/{kind}/{code}"),
        (proto, ..) => service_word(proto, port),
    }
}

impl App {
    /// `GET /v1/explain`.
    ///
    /// # Errors
    /// Bad request, or the policy meant is not known here.
    pub fn explain(&self, query: &ExplainQuery) -> Result<Explain, ApiError> {
        if let Some(at) = &query.at {
            let at_ns = time_ns("at", at, now_ns())?;
            let past = self.policy.in_force_at(at_ns)?;
            let mut explain = self.explain_past(&past, query)?;
            explain.at = Some(Ts(at_ns));
            // Of the same addresses: the names may be those of others by now.
            let (now, now_unknown) = split(self.explain(&ExplainQuery {
                src: explain.src.address.to_string(),
                dst: explain.dst.address.to_string(),
                service: explain.service.clone(),
                at: None,
            }));
            explain.now = now.map(Box::new);
            explain.now_unknown = now_unknown;
            return Ok(explain);
        }
        let show = self.policy.show();
        let Some(in_force) = self.policy.in_force() else {
            if show.epoch == 0 {
                return self.explain_nothing(query);
            }
            let message = "the text of the policy is damaged or not known here; `ringfence doctor` \
                           says what is enforced, `ringfence policy apply FILE` applies it again";
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        let asked = Asked::new(&in_force.valid, query)?;
        let mut explain = asked.explain(&in_force);
        explain.revision = show.revision;
        explain.since = show.adopted_ts;
        explain.observed = self.observed(asked.src, asked.dst, &asked.service);
        explain.turnings = turnings(&in_force, (asked.src, asked.dst), asked.service);
        Ok(explain)
    }

    /// What the policy of another time says.
    fn explain_past(&self, past: &Past, query: &ExplainQuery) -> Result<Explain, ApiError> {
        let asked = Asked::new(&past.in_force.valid, query)?;
        let mut explain = asked.explain(&past.in_force);
        explain.revision = past.in_force.valid.revision.to_string();
        explain.since = Some(past.since);
        explain.uncertain = past.uncertain.clone();
        explain.observed = self.observed(asked.src, asked.dst, &asked.service);
        Ok(explain)
    }

    /// What becomes of a flow while no policy was ever applied.
    fn explain_nothing(&self, query: &ExplainQuery) -> Result<Explain, ApiError> {
        let none = policy::load("[policy]\nname = \"none\"\n", "none", crate::clock::today());
        let Ok(none) = none else {
            return Err(ApiError::new(
                ErrorCode::Internal,
                "an empty policy is none",
            ));
        };
        let Asked {
            port,
            service,
            src,
            dst,
            ..
        } = Asked::new(&none, query)?;
        let without = abi::VerdictSource::NoPolicy.byte();
        let told = self.recent.snapshot();
        let told = told
            .iter()
            .rev()
            .find(|stored| stored.record.enforced_source == without);
        let seen = told.and_then(|stored| abi::Action::from_byte(stored.record.enforced));
        let verdict = action_word(seen.unwrap_or(abi::Action::Allow));
        let why = match seen {
            Some(_) => "as the dataplane's exceptions.no_policy said of the last flow",
            None => {
                "unless the dataplane's exceptions.no_policy says \"drop\": no flow was seen yet \
                 that tells"
            }
        };
        let end = |address| EndNamed {
            address,
            name: None,
            segments: Vec::new(),
            mode: None,
        };
        Ok(Explain {
            sentence: format!(
                "{} from {src} to {dst}: {verdict}, because no policy is in force, {why}",
                query.service
            ),
            src: end(src),
            dst: end(dst),
            proto: service.proto,
            port: asked_port(&service),
            service: port.to_string(),
            services: Vec::new(),
            verdict,
            verdict_source: words::VerdictSource::NoPolicy,
            rule: None,
            pending_verdict: verdict,
            pending_source: words::VerdictSource::NoPolicy,
            pending_rule: None,
            mode: words::Mode::Observe,
            coverage: words::Coverage::Uncovered,
            considered: Vec::new(),
            revision: String::new(),
            epoch: 0,
            since: None,
            at: None,
            uncertain: None,
            observed: self.observed(src, dst, &service),
            turnings: Vec::new(),
            now: None,
            now_unknown: None,
        })
    }

    /// `GET /v1/explain/flow`.
    ///
    /// # Errors
    /// No such flow, or bad request.
    pub fn explain_flow(&self, query: &FlowExplainQuery) -> Result<FlowExplain, ApiError> {
        let id: FlowId = serde_json::from_value(query.flow.clone().into()).map_err(|_| {
            let what = format!("`{}` is no id of a flow", query.flow);
            bad(
                "flow",
                what,
                "write the 16 hexadecimal digits of flow_id in `ringfence flows --json`",
            )
        })?;
        let records = self.records_of(id, query.since.as_deref())?;
        let Some(newest) = records.last() else {
            let hint = match query.since {
                None => "; give --since to look in history",
                Some(_) => "",
            };
            let message =
                format!("no flow {id} is among recent flows or what was asked of history{hint}");
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        let same = |flow: &&Flow| (flow.verdict, &flow.rule) == (newest.verdict, &newest.rule);
        let since = records
            .iter()
            .rev()
            .take_while(same)
            .last()
            .unwrap_or(newest);
        let asked = ExplainQuery {
            src: newest.src.to_string(),
            dst: newest.dst.to_string(),
            service: numbers(newest),
            at: None,
        };
        let past = self.policy.in_force_of(newest.epoch);
        let then = past.and_then(|past| self.explain_past(&past, &asked));
        let now = self.explain(&asked);
        let (then, then_unknown) = split(then);
        let (now, now_unknown) = split(now);
        Ok(FlowExplain {
            records: records.len() as u64,
            first_ts: records
                .iter()
                .map(|flow| flow.first_ts)
                .min()
                .unwrap_or_default(),
            verdict_since: since.first_ts,
            ended: newest.kind == words::Kind::End,
            then,
            then_unknown,
            now,
            now_unknown,
            flow: newest.clone(),
        })
    }

    /// Every record of a flow that is kept, oldest first: of recent flows, and of history from
    /// `since` on.
    fn records_of(&self, id: FlowId, since: Option<&str>) -> Result<Vec<Flow>, ApiError> {
        let mut namer = self.namer();
        let snapshot = self.recent.snapshot();
        let recent = snapshot
            .iter()
            .filter(|stored| stored.record.flow_id == id.0);
        let mut records: Vec<Flow> = recent.map(|stored| namer.flow(stored)).collect();
        if let Some(since) = since {
            let of = history::Selection {
                since_ns: time_ns("since", since, now_ns())?,
                until_ns: u64::MAX,
                filter: Filter::parse("").map_err(super::bad_filter)?,
            };
            let kept = crate::history_questions::told(self.history.flows(&of, 0))?;
            records.extend(kept.into_iter().filter(|flow| flow.flow_id == id));
        }
        records.sort_by_key(|flow| (flow.first_ns, flow.last_ns, flow.seq));
        // A record is in both until it has left recent flows.
        records.dedup_by_key(|flow| (flow.first_ns, flow.last_ns));
        Ok(records)
    }

    fn observed(&self, src: IpAddr, dst: IpAddr, asked: &acl::Service) -> Vec<Flow> {
        let mut namer = self.namer();
        let meant = |stored: &&StoredFlow| {
            let r = &stored.record;
            address(r.src) == src
                && address(r.dst) == dst
                && r.proto == asked.proto
                && service(r).key() == asked.key()
        };
        let snapshot = self.recent.snapshot();
        let newest = snapshot.iter().rev().filter(meant).take(OBSERVED_MAX);
        newest.map(|stored| namer.flow(stored)).collect()
    }
}

fn end_named(end: &policy::EndReport) -> EndNamed {
    // The built-in segments have no mode, here as in the list of segments.
    let built_in = |name: &String| abi::image::BUILT_IN_SEGMENTS.contains(&name.as_str());
    let has_mode = !end.segments.iter().all(built_in);
    EndNamed {
        address: end.address,
        name: end.workload.clone(),
        segments: end.segments.clone(),
        mode: mode_word(end.mode).filter(|_| has_mode),
    }
}

fn end_label(end: &policy::EndReport) -> String {
    let name = end
        .workload
        .clone()
        .unwrap_or_else(|| end.address.to_string());
    format!("{name} ({})", end.segments.join(", "))
}

fn considered(report: &policy::RuleReport) -> RuleConsidered {
    RuleConsidered {
        rule: report.rule.name.clone(),
        tier: report.rule.tier.name().to_owned(),
        action: action_word(report.rule.action),
        why: if report.enforced == report.pending {
            report.enforced.clone()
        } else {
            format!(
                "{}; were every test enforced: {}",
                report.enforced, report.pending
            )
        },
    }
}

/// Names of the services that contain what was asked for.
fn services_of(valid: &policy::ValidPolicy, asked: &acl::Service) -> Vec<String> {
    let covers = |s: &&policy::Service| {
        s.ports.iter().any(|p| {
            p.proto.is_some_and(|proto| proto == asked.proto)
                && (p.low..=p.high).contains(&asked.key())
        })
    };
    valid
        .services
        .iter()
        .filter(covers)
        .map(|s| s.name.clone())
        .collect()
}

/// What is asked about: one port, or the first of a service. Of a range its first; of ICMP every
/// code of a type, where no code was given.
fn port_of(valid: &policy::ValidPolicy, text: &str) -> Result<policy::Port, ApiError> {
    let named = valid
        .services
        .iter()
        .find(|s| s.name == text)
        .and_then(|s| s.ports.first());
    let mut port = match named {
        Some(port) => *port,
        None => policy::Port::parse(text).map_err(|e| bad("service", e.to_string(), &e.mend()))?,
    };
    let Some(proto) = port.proto else {
        let what = format!("`{text}` is every service");
        return Err(bad("service", what, "name one, such as tcp/443"));
    };
    let every_code = port.low | 0x00ff;
    port.high = if crate::flow::is_icmp(proto) && port.high >= every_code {
        every_code
    } else {
        port.low
    };
    Ok(port)
}

/// The first packet that a port stands for.
fn service_of(port: policy::Port) -> acl::Service {
    let proto = port.proto.unwrap_or_default();
    if crate::flow::is_icmp(proto) {
        let [icmp_type, icmp_code] = port.low.to_be_bytes();
        acl::Service::icmp(proto, icmp_type, icmp_code)
    } else {
        acl::Service::port(proto, port.low)
    }
}

/// What the dataplane does before it asks the policy: types of router and neighbour discovery and
/// of multicast listener discovery (RFC 4861, RFC 2710, RFC 3810).
fn passes_by_itself(asked: &acl::Service) -> &'static str {
    let discovery = asked.proto == ICMPV6 && matches!(asked_port(asked), 130..=137 | 143);
    if discovery {
        "; passes whatever the policy says: neighbour discovery, while the dataplane's \
         pass.neighbor_discovery is \"allow\""
    } else {
        ""
    }
}

/// Port of the responder, or ICMP type.
fn asked_port(asked: &acl::Service) -> u16 {
    let key = asked.key();
    if crate::flow::is_icmp(asked.proto) {
        key >> 8
    } else {
        key
    }
}
