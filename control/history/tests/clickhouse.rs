//! The distributed engine, over two real servers on loopback: it keeps the promises of history, and what happens to its
//! servers changes no answer.
#![forbid(unsafe_code)]

#[path = "clickhouse/servers.rs"]
mod servers;
mod suite;

use api::Filter;
use api::flow::Flow;
use history::{
    ClickHouseConfig, ClickHouseHistory, History, HistoryError, MemoryHistory, Selection,
};
use servers::{PASSWORD, Pair, USER, free_port};
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use suite::{FlowBuilder, HOUR_NS, MINUTE_NS, Place, START_NS};

const DAY_NS: u64 = 24 * HOUR_NS;

/// Servers that the tests of this file share while one of them runs.
static SHARED: Mutex<Weak<Pair>> = Mutex::new(Weak::new());
/// Numbers of databases.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A database of its own at the shared servers.
struct Database {
    pair: Arc<Pair>,
    name: String,
    spool: tempfile::TempDir,
}

fn config(urls: Vec<String>, database: &str) -> ClickHouseConfig {
    ClickHouseConfig {
        servers: urls,
        database: database.to_owned(),
        user: USER.to_owned(),
        password: Some(PASSWORD.to_owned()),
        batch_rows_max: 50,
        flows_age_days: 36_500,
        conversations_5m_age_days: 36_500,
        conversations_1h_age_days: 36_500,
        ..ClickHouseConfig::default()
    }
}

fn make() -> Option<Database> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let pair = match shared.upgrade() {
        Some(pair) => pair,
        None => Arc::new(Pair::started()?),
    };
    *shared = Arc::downgrade(&pair);
    Some(Database {
        pair,
        name: format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        spool: tempfile::tempdir().expect("a temporary directory"),
    })
}

impl Database {
    fn config(&self) -> ClickHouseConfig {
        config(self.pair.urls(), &self.name)
    }
}

impl Place for Database {
    fn open(&self) -> Arc<dyn History> {
        Arc::new(open(self.config(), self.spool.path()))
    }
}

suite::suite_of!(make);
suite::twin_of!(make);

fn open(config: ClickHouseConfig, spool: &Path) -> ClickHouseHistory {
    ClickHouseHistory::open(config, spool).expect("the configuration is good")
}

fn everything() -> Selection {
    Selection {
        since_ns: 0,
        until_ns: u64::MAX,
        filter: Filter::parse("").expect("everything"),
    }
}

fn flows(seqs: std::ops::Range<u64>) -> Vec<Flow> {
    seqs.map(|seq| {
        let first_ns = seq * MINUTE_NS / 3;
        let flow = FlowBuilder::new(seq).at(first_ns, first_ns + MINUTE_NS);
        if seq % 7 == 0 {
            flow.denied().done()
        } else {
            flow.done()
        }
    })
    .collect()
}

/// The engine has these records, each once, and its sums are theirs.
#[track_caller]
fn assert_holds(history: &dyn History, flows: &[Flow]) {
    let twin = MemoryHistory::new(NonZeroUsize::MAX);
    twin.append(flows).expect("memory takes rows");
    let of = everything();
    let seqs = |history: &dyn History| -> Vec<u64> {
        let flows = history.flows(&of, 0).expect("flows");
        flows.iter().map(|f| f.seq).collect()
    };
    assert_eq!(seqs(history), seqs(&twin));
    assert_eq!(
        history.coverage(&of).expect("sums"),
        twin.coverage(&of).expect("sums")
    );
    assert_eq!(
        history.series(&of, 3600).expect("points"),
        twin.series(&of, 3600).expect("points")
    );
}

/// Flushes until nothing waits for a server.
fn drain(history: &ClickHouseHistory) {
    for _ in 0..200 {
        history.flush().expect("what was taken is safe");
        if history.state().spooled == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("rows still wait: {:?}", history.state());
}

/// Appends and flushes in small parts, calling `meanwhile` with the number of each part.
fn fill(history: &ClickHouseHistory, parts: u64, mut meanwhile: impl FnMut(u64)) -> Vec<Flow> {
    let mut all = Vec::new();
    for part in 0..parts {
        meanwhile(part);
        let some = flows(part * 20 + 1..part * 20 + 21);
        history.append(&some).expect("rows are taken");
        history.flush().expect("rows are made safe");
        all.extend(some);
    }
    all
}

#[test]
fn a_server_that_is_killed_and_started_again_costs_no_row_and_doubles_none() {
    let Some(mut pair) = Pair::started() else {
        return;
    };
    let spool = tempfile::tempdir().expect("a temporary directory");
    let history = open(config(pair.urls(), "history"), spool.path());
    let all = fill(&history, 24, |part| match part {
        8 => pair.servers[1].kill(),
        12 => pair.servers[0].kill(),
        14 => pair.servers[0].start(),
        18 => pair.servers[1].start(),
        _ => {}
    });
    drain(&history);
    assert_holds(&history, &all);
    assert_eq!(history.state().error, None);
}

#[test]
fn a_server_that_is_killed_while_it_inserts_has_each_row_once_afterwards() {
    let Some(mut pair) = Pair::started() else {
        return;
    };
    let spool = tempfile::tempdir().expect("a temporary directory");
    let history = Arc::new(open(config(pair.urls(), "history"), spool.path()));
    history.flush().expect("nothing is safe at once");
    let filled = std::thread::scope(|scope| {
        let filling = scope.spawn(|| fill(&history, 40, |_| {}));
        // Wherever the filling is.
        for index in [0, 1, 0, 1] {
            pair.servers[index].kill();
            pair.servers[index].start();
        }
        filling.join().expect("all rows were taken")
    });
    drain(&history);
    assert_holds(&*history, &filled);
}

#[test]
fn what_a_server_that_stands_still_has_in_its_sockets_is_not_taken_twice() {
    let Some(pair) = Pair::started() else { return };
    let spool = tempfile::tempdir().expect("a temporary directory");
    let config = ClickHouseConfig {
        request_timeout_ms: 700,
        ..config(pair.urls(), "history")
    };
    let history = open(config, spool.path());
    let mut waited = 0;
    let all = fill(&history, 10, |part| match part {
        3 => pair.servers[1].stop(),
        7 => {
            waited = history.state().spooled;
            pair.servers[1].go_on();
        }
        _ => {}
    });
    assert!(waited > 0, "rows waited for the server that stood still");
    drain(&history);
    drop(history);
    // What an engine opened anew with the patience of every day reads, when all is settled.
    let config = self::config(pair.urls(), "history");
    assert_holds(&open(config, spool.path()), &all);
}

#[test]
fn rows_that_wait_outlive_the_process_and_a_full_spool_refuses_and_counts() {
    let Some(mut pair) = Pair::prepared() else {
        return;
    };
    let spool = tempfile::tempdir().expect("a temporary directory");
    let config = ClickHouseConfig {
        spool_bytes_max: 60_000,
        ..config(pair.urls(), "history")
    };
    let mut taken = Vec::new();
    {
        let history = open(config.clone(), spool.path());
        let mut refused = 0;
        for part in 0..20 {
            let some = flows(part * 50 + 1..part * 50 + 51);
            match history.append(&some) {
                Ok(()) => taken.extend(some),
                Err(e) => {
                    refused += 50;
                    assert!(
                        e.to_string().contains("spool of 60000 bytes is full"),
                        "{e}"
                    );
                }
            }
        }
        let state = history.state();
        assert!(refused > 0 && state.shed == refused, "{state:?}");
        assert_eq!(state.appended, u64::try_from(taken.len()).expect("a count"));
        assert!(state.spooled > 0 && state.error.is_some(), "{state:?}");
        let asked = history
            .flows(&everything(), 0)
            .expect_err("no server is there");
        assert!(asked.to_string().contains("127.0.0.1"), "{asked}");
        pair.servers.iter_mut().for_each(servers::Server::start);
        // What did not fit into the spool is still in memory, and goes now.
        drain(&history);
        assert_eq!(history.state().unflushed, 0);
        pair.servers.iter_mut().for_each(servers::Server::kill);
        let more = flows(2001..2011);
        history.append(&more).expect("rows are taken");
        history.flush().expect("they wait on the disk");
        assert_eq!(history.state().spooled, 10);
        taken.extend(more);
    }
    pair.servers.iter_mut().for_each(servers::Server::start);
    assert_holds(&open(config, spool.path()), &taken);
}

/// Answers every request with one text, as long as the test runs.
fn something_else(text: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut some = [0; 4096];
            let _ = stream.read(&mut some);
            let length = text.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
            );
        }
    });
    format!("http://127.0.0.1:{port}")
}

#[test]
fn what_is_wrong_with_a_server_is_said_and_rows_are_taken_all_the_same() {
    let Some(database) = make() else { return };
    let wrong = ClickHouseConfig {
        password: Some("wrong".to_owned()),
        ..database.config()
    };
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let lonely = ClickHouseConfig {
        servers: database.pair.urls()[..1].to_vec(),
        ..database.config()
    };
    let cases = [
        (wrong, "set user and password"),
        (
            config(vec![something_else("17.12.1\n")], "t"),
            "release 17.12.1 is too old; 18.16",
        ),
        (
            config(vec![something_else("hello\n")], "t"),
            "no release of ClickHouse",
        ),
        (config(vec![nobody], "t"), "127.0.0.1"),
        (
            lonely,
            "cluster `ringfence` has 2 servers and the configuration 1",
        ),
    ];
    for (config, why) in cases {
        let spool = tempfile::tempdir().expect("a temporary directory");
        let history = open(config, spool.path());
        history.append(&flows(1..4)).expect("rows are taken");
        history.flush().expect("they are safe on the disk");
        let state = history.state();
        assert_eq!(state.spooled, 3, "{why}");
        assert!(
            state.error.as_deref().is_some_and(|e| e.contains(why)),
            "{why}: {state:?}"
        );
        let asked = history.matrix(&everything()).expect_err(why).to_string();
        assert!(asked.contains(why), "{why}: {asked}");
    }
    let odd = ClickHouseConfig::default();
    let refused = ClickHouseHistory::open(odd, database.spool.path()).expect_err("no server");
    assert!(
        refused.to_string().contains("no server; set servers"),
        "{refused}"
    );
}

#[test]
fn old_conversations_are_told_by_the_hour_and_old_rows_go() {
    let Some(database) = make() else { return };
    let config = ClickHouseConfig {
        flows_age_days: 2,
        conversations_5m_age_days: 3,
        conversations_1h_age_days: 10,
        ..database.config()
    };
    let history = open(config, database.spool.path());
    let day = |day: u64, seq: u64| {
        let at_ns = day * DAY_NS + seq * 10 * MINUTE_NS;
        FlowBuilder::new(seq)
            .at(at_ns, at_ns)
            .bytes(1 << seq)
            .done()
    };
    let rows: Vec<Flow> = [(0, 1), (0, 2), (5, 3), (5, 4), (11, 5), (12, 6)]
        .map(|(d, s)| day(d, s))
        .into();
    history.append(&rows).expect("rows are taken");
    let now_ns = START_NS + 12 * DAY_NS;
    let told = || -> Vec<(u32, u64)> {
        let mut told = Vec::new();
        history
            .conversations(&everything(), &mut |c| {
                told.push((c.interval_s, c.sums.bytes()));
                std::ops::ControlFlow::Continue(())
            })
            .expect("conversations");
        told.sort_unstable();
        told
    };
    assert_eq!(
        told(),
        [
            (300, 2),
            (300, 4),
            (300, 8),
            (300, 16),
            (300, 32),
            (300, 64)
        ]
    );
    history.maintain(now_ns).expect("done");
    // The day of the 10 days and more is gone; days before the 3 are told by the hour: 22:30 and 22:40 together.
    assert_eq!(told(), [(300, 32), (300, 64), (3600, 24)]);
    history.maintain(now_ns).expect("done");
    assert_eq!(told(), [(300, 32), (300, 64), (3600, 24)]);
    let late = [day(5, 3)];
    history.append(&late).expect("a late row is taken");
    assert_eq!(told(), [(300, 32), (300, 64), (3600, 32)]);
    history.maintain(now_ns).expect("done");
    let tiers = history.state().tiers;
    let rows: Vec<(&str, u64)> = tiers.iter().map(|t| (t.name.as_str(), t.rows)).collect();
    assert_eq!(rows[..2], [("flows", 2), ("conversations-5m", 2)]);
    assert_eq!(
        tiers[0].oldest_ts.map(|t| t.0),
        Some(START_NS + 11 * DAY_NS + 50 * MINUTE_NS)
    );
    let by_sql = history
        .sql("SELECT sum(bytes_fwd) FROM conversations WHERE interval_s = 3600")
        .expect("the view has both");
    assert_eq!(by_sql.rows, [[Some("32".to_owned())]]);
}

#[test]
fn several_appliances_write_into_one_cluster_and_each_may_ask_for_its_own() {
    let Some(database) = make() else { return };
    let appliance = |name: &str, own_rows_only| {
        let config = ClickHouseConfig {
            appliance: name.to_owned(),
            own_rows_only,
            ..database.config()
        };
        open(config, &database.spool.path().join(name))
    };
    let (east, west) = (appliance("east", false), appliance("west", true));
    let (of_east, of_west) = (flows(1..30), flows(30..50));
    east.append(&of_east).expect("rows are taken");
    west.append(&of_west).expect("rows are taken");
    west.flush().expect("rows are made safe");
    assert_holds(&west, &of_west);
    let both: Vec<Flow> = of_east.into_iter().chain(of_west).collect();
    assert_holds(&east, &both);
}

#[test]
fn sql_reads_the_tables_of_history_and_nothing_else() {
    let Some(database) = make() else { return };
    let history = database.open();
    history.append(&flows(1..8)).expect("rows are taken");
    let table = history
        .sql("SELECT verdict, count() AS n, sum(pkts_fwd) FROM flows GROUP BY verdict ORDER BY n DESC;")
        .expect("an answer");
    assert_eq!(table.columns, ["verdict", "n", "sum(pkts_fwd)"]);
    let row = |texts: [&str; 3]| texts.map(|t| Some(t.to_owned())).to_vec();
    assert_eq!(
        table.rows,
        [row(["allow", "6", "12"]), row(["deny", "1", "2"])]
    );
    assert!(!table.cut);
    let many = history.sql(
        "SELECT a.src FROM flows AS a ANY LEFT JOIN (SELECT src FROM conversations) USING src",
    );
    assert!(many.is_ok(), "{many:?}");
    for text in [
        "DROP TABLE flows",
        "SELECT * FROM system.parts",
        "SELECT nonsense FROM flows",
    ] {
        assert!(
            matches!(history.sql(text), Err(HistoryError::Sql { .. })),
            "{text}"
        );
    }
}
