//! Inventories, lists, past names and flows that were seen, by the command: what is asked, what is
//! printed, how it ends. `UPDATE_GOLDEN=1` writes the golden files anew.

#![forbid(unsafe_code)]

mod fixtures;

use api::error::ErrorDetail;
use api::explain::FlowExplain;
use api::history::{Membership, Rows};
use api::inventory::{DnsAddress, DnsName, ImportResult, Inventory, InventoryFile, Overridden};
use api::{ApiError, ErrorCode, Ts, endpoint};
use cli::print;
use fixtures::NOON;
use fixtures::server::Server;

#[track_caller]
fn check(name: &str, found: &str) {
    let path = fixtures::golden_path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).expect("golden files can be written");
    }
    assert_eq!(found, fixtures::golden(name), "{name}");
}

fn ago(seconds: u64) -> Ts {
    Ts(NOON.0 - seconds * 1_000_000_000)
}

fn inventory() -> Inventory {
    let address = |text: &str, kept_for_flows| DnsAddress {
        address: text.parse().expect("an address"),
        until_ts: Ts(NOON.0 + 12_000_000_000),
        kept_for_flows,
    };
    Inventory {
        files: vec![InventoryFile {
            file: "/etc/ringfence/workloads.csv".into(),
            workloads: 120,
            good_ts: Some(ago(185)),
            ..InventoryFile::default()
        }],
        names: vec![DnsName {
            name: "db.example.internal".into(),
            addresses: vec![address("10.0.2.30", true), address("10.0.2.31", false)],
            next_ts: Ts(NOON.0 + 12_000_000_000),
            answers: 3_000,
            ..DnsName::default()
        }],
        workloads: 119,
        overridden: vec![Overridden {
            workload: "web-1".into(),
            file: "/etc/ringfence/workloads.csv".into(),
            line: 7,
        }],
        waiting: None,
        moves: 4,
        moved_ts: Some(ago(60)),
    }
}

fn with_errors() -> Inventory {
    let mut inventory = inventory();
    inventory.files[0].errors = vec![ErrorDetail {
        file: "/etc/ringfence/workloads.csv".into(),
        line: 12,
        column: 7,
        what: "workload `web-9`: `10.0.1.300` is neither an address nor a prefix".into(),
        mend: "write an address (10.0.1.10, 2001:db8::10) or a prefix (10.0.1.0/24)".into(),
    }];
    inventory.names[0].error = Some("A: 192.0.2.53:53 did not answer within 3s".into());
    inventory.names[0].failures = 2;
    inventory
}

#[test]
fn an_inventory_tells_its_files_its_names_and_what_is_wrong() {
    let page = |inventory: &Inventory| print::inventory(inventory, NOON).render(false);
    check("inventory", &page(&inventory()));
    check("inventory-errors", &page(&with_errors()));
    check("inventory-none", &page(&Inventory::default()));
    let server = Server::start();
    server.json("GET", endpoint::INVENTORY, &inventory());
    assert_eq!(server.run(&["workload", "inventory"]).code, Some(0));
    server.json("GET", endpoint::INVENTORY, &with_errors());
    assert_eq!(server.run(&["workload", "inventory"]).code, Some(1));
}

#[test]
fn a_list_tells_what_it_changes_and_where_it_is_wrong() {
    let result = ImportResult {
        added: vec!["web-9".into()],
        changed: vec!["web-1".into(), "web-2".into()],
        removed: Vec::new(),
        same: 117,
        applied: None,
    };
    let page = print::imported("assets.csv", &result, true).render(false);
    check("workload-import", &page);
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("assets.csv");
    std::fs::write(&file, "name,addresses\nweb-9,10.0.1.59\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    server.json("POST", endpoint::WORKLOADS_IMPORT, &result);
    let ended = server.run(&["workload", "import", file, "--replace", "--dry-run"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let body = server.asked().remove(0).2;
    for said in ["\"replace\":true", "\"dry_run\":true", "web-9,10.0.1.59"] {
        assert!(body.contains(said), "{body}");
    }
    let error = ApiError {
        code: ErrorCode::InvalidPolicy,
        message: "assets.csv is not valid: 1 error".into(),
        details: with_errors().files[0].errors.clone(),
    };
    server.refuse("POST", endpoint::WORKLOADS_IMPORT, error);
    let ended = server.run(&["workload", "import", file]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("workloads.csv:12:7: error: workload `web-9`"),
        "{ended:?}"
    );
}

#[test]
fn names_are_told_as_they_were() {
    let name = |prefix: &str, role: &str, from, until_ts| Membership {
        from_ts: from,
        until_ts,
        prefix: prefix.into(),
        workload: "web-1".into(),
        labels: [("role".to_owned(), role.to_owned())].into(),
        segments: vec![format!("shop-{role}").as_str().into(), "unmanaged".into()],
        revision: fixtures::REVISION.into(),
    };
    let names = vec![
        name("10.0.1.10", "web", ago(86_400), Some(ago(185))),
        name("10.0.1.10", "db", ago(185), None),
    ];
    check("workload-history", &print::names(&names).render(false));
    let server = Server::start();
    let rows = Rows {
        rows: names,
        cut: false,
    };
    server.json("GET", endpoint::HISTORY_NAMES, &rows);
    let ended = server.run(&["workload", "history", "web-1", "--since", "2d"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let asked = server.asked().remove(0).1;
    assert!(
        asked.contains("workload=web-1") && asked.contains("since=2d"),
        "{asked}"
    );
}

#[test]
fn a_flow_that_was_seen_is_explained_then_and_now() {
    let flow = fixtures::flows().flows.remove(0);
    let explained = FlowExplain {
        records: 3,
        first_ts: ago(600),
        verdict_since: ago(185),
        ended: false,
        then: Some(api::Explain {
            turnings: Vec::new(),
            ..fixtures::explain()
        }),
        then_unknown: None,
        now: Some(fixtures::explain_denied()),
        now_unknown: None,
        flow: flow.clone(),
    };
    check(
        "explain-flow",
        &print::explain_flow(&explained, NOON).render(false),
    );
    let server = Server::start();
    server.json("GET", endpoint::EXPLAIN_FLOW, &explained);
    let id = flow.flow_id.to_string();
    let ended = server.run(&["explain", "--flow", &id, "--since", "7d"]);
    assert_eq!(ended.code, Some(0), "what happened to it: {ended:?}");
    let asked = server.asked().remove(0).1;
    assert!(
        asked.contains(&format!("flow={id}")) && asked.contains("since=7d"),
        "{asked}"
    );
    assert_eq!(server.run(&["explain", "web-1", "db-1"]).code, Some(2));
    assert_eq!(
        server.run(&["explain", "--flow", &id, "web-1"]).code,
        Some(2)
    );
    let at = server.run(&["explain", "web-1", "db-1", "tcp/5432", "--at", "2h"]);
    assert_eq!(at.code, Some(0), "{at:?}");
    assert!(server.asked().remove(0).1.contains("at=2h"));
}
