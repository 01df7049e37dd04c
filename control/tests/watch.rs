//! The watch for unexpected paths, from ring to API, against a dataplane that is played over the real contract.

#[expect(dead_code, reason = "each file of tests uses a part of these")]
mod support;

use abi::FlowRecord;
use api::error::ErrorBody;
use api::policy::ApplyRequest;
use api::quarantine::{QuarantineRequest, QuarantineResult};
use api::watch::{
    BaselineEdges, Finding, FindingKind, FindingReport, FindingSeverity, FindingState,
    FindingStateRequest, Findings, WatchDraft,
};
use api::words::{Action, VerdictSource};
use control::config::{Config, HistoryEngine, Span};
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::{Box, TestDataplane, record};

const S: u64 = 1_000_000_000;
/// Longest wait for anything; nothing takes a tenth of it.
const WAIT: Duration = Duration::from_secs(20);
/// Room for a whole story, however slowly it is collected.
const RING_RECORDS: u32 = 1024;

/// An application of three tiers and an administrator: everything between them passes by default.
const POLICY: &str = r#"
[[workload]]
name = "laptop-1"
addresses = ["10.0.0.5"]
labels = { role = "staff" }

[[workload]]
name = "web-1"
addresses = ["10.0.1.10"]
labels = { role = "web" }

[[workload]]
name = "web-2"
addresses = ["10.0.1.11"]
labels = { role = "web" }

[[workload]]
name = "db-1"
addresses = ["10.0.2.20"]
labels = { role = "db" }

[[segment]]
name = "staff"
select = "role=staff"
mode = "observe"

[[segment]]
name = "web"
select = "role=web"
mode = "observe"

[[segment]]
name = "db"
select = "role=db"
mode = "observe"

[[service]]
name = "postgres"
ports = ["tcp/5432"]

[[service]]
name = "ssh"
ports = ["tcp/22"]

[[rule]]
name = "web-to-db"
from = ["web"]
to = ["db"]
services = ["postgres"]
action = "allow"

[[rule]]
name = "staff-to-web"
from = ["staff"]
to = ["web"]
services = []
action = "allow"
"#;

const LAPTOP: [u8; 4] = [10, 0, 0, 5];
const WEB: [u8; 4] = [10, 0, 1, 10];
const WEB_2: [u8; 4] = [10, 0, 1, 11];
const DB: [u8; 4] = [10, 0, 2, 20];

/// Watches with a baseline of two hours, so that a test needs no week.
fn watching(adjust: impl FnOnce(&mut Config)) -> (Box, TestDataplane) {
    let control = Box::new(|config| {
        config.watch.learning = Span::s(7200);
        adjust(config);
    });
    let dataplane = TestDataplane::with_region(&control.config, RING_RECORDS);
    control.client.wait_running();
    (control, dataplane)
}

/// When stories begin: three hours ago, so that history of the last two hours has a part of them.
fn begin_ns() -> u64 {
    static BEGIN: OnceLock<u64> = OnceLock::new();
    *BEGIN.get_or_init(|| control::clock::now_ns() - 3 * 3600 * S)
}

/// An answered flow `at_s` seconds after the beginning.
fn flow(image: &acl::PolicyImage, at_s: u64, ends: [[u8; 4]; 2], port: u16, id: u16) -> FlowRecord {
    let mut r = record(Some(image), id);
    let bytes = |end: [u8; 4]| Ipv4Addr::from(end).to_ipv6_mapped().octets();
    (r.src, r.dst, r.dport) = (bytes(ends[0]), bytes(ends[1]), port);
    r.first_ns = begin_ns() + at_s * S + u64::from(id);
    r.last_ns = r.first_ns + S;
    r.begins = 1;
    let decision = image.evaluate(&r.src, &r.dst, &acl::Service::port(6, port));
    (r.enforced, r.enforced_source) = (decision.enforced.byte(), decision.enforced_source.byte());
    (r.rule_id, r.coverage) = (decision.rule_id, decision.coverage.byte());
    (r.src_identity, r.dst_identity) = (decision.src_identity, decision.dst_identity);
    r
}

/// A day of work, then somebody walks from the laptop over the web server into the database.
fn story(image: &acl::PolicyImage) -> Vec<FlowRecord> {
    let mut story = Vec::new();
    for minute in 0..120_u64 {
        story.push(flow(image, minute * 60, [LAPTOP, WEB], 443, 1));
        story.push(flow(image, minute * 60 + 1, [WEB, DB], 5432, 2));
        story.push(flow(image, minute * 60 + 2, [WEB_2, DB], 5432, 3));
    }
    story.push(flow(image, 7300, [LAPTOP, WEB], 22, 4));
    story.push(flow(image, 7400, [WEB, DB], 22, 5));
    for port in 1..=60 {
        let mut probe = flow(image, 7500, [WEB, WEB_2], port, 100 + port);
        (probe.packets_rev, probe.bytes_rev) = (0, 0);
        story.push(probe);
    }
    story
}

fn play(adjust: impl FnOnce(&mut Config)) -> (Box, TestDataplane, Findings) {
    let (control, mut dataplane) = watching(adjust);
    control.client.apply(POLICY).unwrap();
    let image = dataplane.image();
    let story = story(&image);
    for record in &story {
        assert!(dataplane.push(0, record));
    }
    control.collected(story.len() as u64);
    let findings = settled(&control, story.len() as u64);
    (control, dataplane, findings)
}

/// Findings, once so many records were looked at.
fn settled(control: &Box, records: u64) -> Findings {
    loop {
        let findings: Findings = control.client.get("/v1/watch");
        assert_eq!(findings.state.shed, 0);
        if findings.state.records >= records {
            return findings;
        }
    }
}

fn of_kind(findings: &Findings, kind: FindingKind) -> &Finding {
    let mut found = findings.findings.iter().filter(|f| f.kind == kind);
    let first = found.next();
    first.unwrap_or_else(|| panic!("no {kind} in {findings:?}"))
}

#[test]
fn a_walk_over_two_hosts_is_found_explained_and_cut() {
    let (control, _dataplane, findings) = play(|_| {});
    assert!(!findings.state.learning);
    let chain = of_kind(&findings, FindingKind::Chain);
    assert_eq!(chain.severity, FindingSeverity::High);
    assert_eq!(
        chain.sentence,
        "laptop-1 -> web-1 (ssh) -> db-1 (ssh): 2 hops in a row over novel administrative edges"
    );
    let sweep = of_kind(&findings, FindingKind::PortSweep);
    assert_eq!(sweep.sentence, "web-1 tried 60 ports of web-2 within 5m");
    assert_eq!(findings.findings.len(), 4, "{findings:?}");

    let client = &control.client;
    let path = format!("/v1/watch/finding?id={}", chain.id);
    let report: FindingReport = client.get(&path);
    let verdicts: Vec<_> = report
        .judged
        .iter()
        .map(|j| (j.verdict, j.source))
        .collect();
    assert_eq!(
        verdicts,
        [
            (Action::Allow, VerdictSource::Rule),
            (Action::Allow, VerdictSource::Default)
        ]
    );
    let cut = report.cut.unwrap();
    assert!(cut.holds, "{cut:?}");
    assert_eq!((cut.denies.len(), cut.also_denied), (1, 0), "{cut:?}");
    assert_eq!(
        (&*cut.denies[0].from[0], &*cut.denies[0].to[0]),
        ("web", "db")
    );
    assert_eq!(cut.denies[0].service, "tcp/22");
    assert!(cut.asked_edges >= 3, "{cut:?}");
}

#[test]
fn a_draft_ends_the_path_and_nothing_usual() {
    let (control, _dataplane, findings) = play(|_| {});
    let chain = of_kind(&findings, FindingKind::Chain);
    let client = &control.client;
    let draft: WatchDraft = client.get(&format!("/v1/watch/draft?id={}", chain.id));
    let request = ApplyRequest {
        text: draft.text,
        file_name: "draft.toml".to_owned(),
        author: "mira".to_owned(),
        ..ApplyRequest::default()
    };
    let body = serde_json::to_string(&request).unwrap();
    let (status, answer) = client.ask("POST", "/v1/policy/apply", &body);
    assert_eq!(status, 200, "{answer}");
    let explain: api::Explain = client.get("/v1/explain?src=web-1&dst=db-1&service=tcp/22");
    assert_eq!(explain.verdict, Action::Deny, "{}", explain.sentence);
    let usual: api::Explain = client.get("/v1/explain?src=web-1&dst=db-1&service=tcp/5432");
    assert_eq!(usual.verdict, Action::Allow);
    let path = format!("/v1/watch/finding?id={}", chain.id);
    let report: FindingReport = client.get(&path);
    assert!(report.no_cut.unwrap().contains("already denies"));

    let quarantine = format!("/v1/watch/draft?id={}&quarantine=web-1", chain.id);
    let draft: WatchDraft = client.get(&quarantine);
    assert!(
        draft.text.contains("addresses = [\"10.0.1.10\"]"),
        "{}",
        draft.text
    );
    assert!(
        draft.cut.also_denied > 0,
        "web-1 has work to do: {:?}",
        draft.cut
    );
}

/// The report of a finding, once history has all of the story.
fn reported(control: &Box, id: u64) -> FindingReport {
    let begun = Instant::now();
    loop {
        let report: FindingReport = control.client.get(&format!("/v1/watch/finding?id={id}"));
        let cut = report.cut.as_ref().expect("a cut");
        assert_eq!(cut.foresight.unknown, None);
        if cut.foresight.seen.flows >= 3 * 120 + 2 + 60 {
            return report;
        }
        assert!(begun.elapsed() < WAIT, "{cut:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_finding_is_held_against_history_and_answered_by_a_quarantine_in_one_command() {
    let (control, _dataplane, findings) = play(|_| {});
    let chain = of_kind(&findings, FindingKind::Chain);
    let client = &control.client;
    let report = reported(&control, chain.id);
    let cut = report.cut.unwrap().foresight;
    assert_eq!((cut.cut.flows, cut.uncertain.flows), (0, 0), "{cut:?}");
    // Who was reached first and went on: all its work of the day would end.
    let offer = report.quarantine.unwrap();
    assert_eq!(offer.workload, "web-1");
    assert_eq!(offer.addresses, ["10.0.1.10"]);
    assert_eq!(offer.foresight.cut.flows, 120 + 120 + 2 + 60);
    assert_eq!(report.next[0], offer.command);
    assert_eq!(
        offer.command,
        format!("ringfence watch quarantine {}", chain.id)
    );
    let isolated: WatchDraft =
        client.get(&format!("/v1/watch/draft?id={}&quarantine=web-1", chain.id));
    assert_eq!(
        isolated.cut.foresight.cut.flows,
        120 + 120 + 60,
        "but its own hops"
    );

    let request = QuarantineRequest {
        finding: Some(chain.id),
        for_s: 3600,
        author: "mira".to_owned(),
        ..QuarantineRequest::default()
    };
    let dry = QuarantineRequest {
        dry_run: true,
        ..request.clone()
    };
    let dry: QuarantineResult = client.post(api::endpoint::QUARANTINE, &dry).unwrap();
    assert_eq!(dry.held.workload, "web-1");
    let open: Findings = client.get("/v1/watch?open=true&kind=chain");
    assert_eq!(open.findings.len(), 1, "a dry run does nothing");
    let held: QuarantineResult = client.post(api::endpoint::QUARANTINE, &request).unwrap();
    assert!(held.applied.is_some());
    assert_eq!(held.foresight.cut, offer.foresight.cut);
    assert_eq!(held.held.note, format!("finding {}", chain.id));
    let explain: api::Explain = client.get("/v1/explain?src=web-1&dst=db-1&service=tcp/22");
    assert_eq!(explain.rule.as_deref(), Some("quarantine:web-1:out"));
    let told: Findings = client.get("/v1/watch?kind=chain");
    let finding = &told.findings[0];
    assert_eq!(finding.state, FindingState::Acknowledged);
    let said = &finding.said[0];
    assert_eq!(said.author, "mira");
    assert!(
        said.note.starts_with("web-1 is in quarantine until "),
        "{}",
        said.note
    );
    // It is not offered again.
    let report: FindingReport = client.get(&format!("/v1/watch/finding?id={}", chain.id));
    let offer = report.quarantine.unwrap();
    assert_eq!(offer.held_until_ts, Some(held.held.until_ts));
    assert_eq!(report.next.last(), Some(&offer.command));
    assert_eq!(offer.command, "ringfence quarantine lift web-1");
    let nobody = QuarantineRequest {
        finding: Some(4711),
        ..request
    };
    let refused: Result<QuarantineResult, _> = client.post(api::endpoint::QUARANTINE, &nobody);
    assert_eq!(refused.unwrap_err().0, 404);
}

/// The baseline comes out of history, and without history out of the file of the watch.
#[test]
fn what_was_found_said_and_learned_survives_a_restart_of_control() {
    for engine in [HistoryEngine::Embedded, HistoryEngine::Off] {
        survives_a_restart(engine);
    }
}

fn survives_a_restart(engine: HistoryEngine) {
    let (mut control, _dataplane, findings) = play(|config| config.history.engine = engine);
    let chain = of_kind(&findings, FindingKind::Chain);
    let client = control.client.clone();
    let said = FindingStateRequest {
        id: chain.id,
        state: FindingState::Acknowledged,
        author: "mira".to_owned(),
        note: "looking".to_owned(),
    };
    let body = serde_json::to_string(&said).unwrap();
    let (status, _) = client.ask("POST", "/v1/watch/state", &body);
    assert_eq!(status, 200);
    let open: Findings = client.get("/v1/watch?open=true&kind=chain");
    assert!(open.findings.is_empty());

    control.stop();
    control.start();
    let begun = Instant::now();
    let after: Findings = control.client.get("/v1/watch?kind=chain");
    assert_eq!(after.findings[0].said[0].note, "looking");
    assert_eq!(after.findings[0].state, FindingState::Acknowledged);
    // It is read beside the answers.
    let path = "/v1/watch/baseline?workload=db-1&limit=0";
    loop {
        let baseline: BaselineEdges = control.client.get(path);
        let mut edges = baseline.edges.iter();
        if edges.any(|e| e.src == "web-2" && e.service == "tcp/5432") {
            break;
        }
        assert!(begun.elapsed() < WAIT, "{engine:?}: {baseline:?}");
    }
}

#[test]
fn the_same_flows_in_batches_of_any_size_give_the_same_findings() {
    let told = |findings: Findings| -> Vec<(u64, String, FindingSeverity, u64)> {
        let findings = findings.findings.into_iter();
        findings
            .map(|f| (f.id, f.sentence, f.severity, f.evidence.packets))
            .collect()
    };
    let [one, few, many] = [1, 7, 4096].map(|records| {
        let (_control, _dataplane, findings) =
            play(|config| config.collector.batch_records = records);
        told(findings)
    });
    assert_eq!(one, many);
    assert_eq!(few, many);
}

#[test]
fn followers_are_told_findings_as_they_come() {
    let (control, mut dataplane) = watching(|_| {});
    control.client.apply(POLICY).unwrap();
    let image = dataplane.image();
    let stream = control
        .client
        .open("GET", "/v1/watch/follow?severity=high", "");
    let mut lines = BufReader::new(stream).lines();
    // The end of the head: the server follows from here on.
    assert!(
        lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.is_empty())
    );
    for record in story(&image) {
        assert!(dataplane.push(0, &record));
    }
    let line = lines.next().unwrap().unwrap();
    let finding: Finding = serde_json::from_str(&line).unwrap();
    assert_eq!(finding.kind, FindingKind::Chain);
    assert_eq!(finding.hops.len(), 2);
}

#[test]
fn what_is_wrong_with_a_question_is_said() {
    let (control, _dataplane) = watching(|_| {});
    for (path, status, word) in [
        ("/v1/watch?since=yesterday", 400, "30d"),
        ("/v1/watch?kind=worm", 400, "new-edge"),
        ("/v1/watch/finding?id=7", 404, "watch list"),
        ("/v1/watch/draft?id=7", 404, "watch list"),
    ] {
        let (answered, body) = control.client.ask("GET", path, "");
        assert_eq!(answered, status, "{path}: {body}");
        let _: ErrorBody = serde_json::from_str(&body).unwrap();
        assert!(body.contains(word), "{path}: {body}");
    }
}
