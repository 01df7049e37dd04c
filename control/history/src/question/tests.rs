use super::*;
use api::filter::Filter;

fn selection(filter: &str) -> Selection {
    Selection {
        since_ns: 10,
        until_ns: 20,
        filter: Filter::parse(filter).unwrap_or_else(|e| panic!("{filter}: {e}")),
    }
}

fn conversations(dialect: &dyn Dialect, filter: &str) -> Result<String, HistoryError> {
    let sql = Question::Conversations.sql(dialect, "t", &selection(filter))?;
    let condition = sql.split_once(" AND first_ns < 20 AND ");
    Ok(condition.map_or(sql.clone(), |(_, condition)| condition.to_owned()))
}

#[track_caller]
fn check(filter: &str, datafusion: &str, clickhouse: &str) {
    let written = |dialect: &dyn Dialect| {
        conversations(dialect, filter).unwrap_or_else(|e| panic!("{filter}: {e}"))
    };
    assert_eq!(written(&DataFusion), datafusion, "{filter}");
    assert_eq!(written(&ClickHouse), clickhouse, "{filter}");
}

#[test]
fn filters_become_conditions() {
    check("", "1 = 1", "1 = 1");
    check("src host 10.0.0.1", "src = '10.0.0.1'", "src = '10.0.0.1'");
    check(
        "dst net 10.1.0.0/16",
        "starts_with(dst, '10.1.')",
        "position(dst, '10.1.') = 1",
    );
    check(
        "src net 10.0.0.0/30",
        "in_net(src, '10.0.0.0/30')",
        "(position(src, ':') = 0 AND IPv4StringToNum(src) >= 167772160 AND IPv4StringToNum(src) <= 167772163)",
    );
    check(
        "not (tcp or dst port 80-90)",
        "NOT ((proto = 6 OR (CASE WHEN proto IN (1, 58) THEN 0 ELSE port END) >= 80 AND (CASE WHEN proto IN (1, 58) \
         THEN 0 ELSE port END) <= 90))",
        "NOT ((proto = 6 OR (CASE WHEN proto IN (1, 58) THEN 0 ELSE port END) >= 80 AND (CASE WHEN proto IN (1, 58) \
         THEN 0 ELSE port END) <= 90))",
    );
    check(
        "src segment shop-*",
        "strpos(concat(',', src_segments, ','), ',shop-') > 0",
        "position(concat(',', src_segments, ','), ',shop-') > 0",
    );
    check("rule *", "rule != ''", "rule != ''");
    check(
        "bytes >= 1k and verdict deny",
        "(bytes_fwd + bytes_rev >= 1000 AND verdict = 'deny')",
        "(bytes_fwd + bytes_rev >= 1000 AND verdict = 'deny')",
    );
}

#[test]
fn a_name_cannot_leave_its_quotes() {
    check(
        r#"src workload "a' OR '\\""#,
        r"src_name = 'a'' OR ''\\'",
        r"src_name = 'a\' OR \'\\\\'",
    );
}

#[test]
fn what_conversations_do_not_keep_is_named_and_flows_keep_it() {
    for filter in ["src port 80", "tcp and vlan 10", "not end idle-timeout"] {
        let refused = conversations(&DataFusion, filter);
        assert!(
            matches!(refused, Err(HistoryError::NotKept { .. })),
            "{filter}: {refused:?}"
        );
        let flows = Question::Flows { limit: 1 }.sql(&DataFusion, "t", &selection(filter));
        assert!(flows.is_ok(), "{filter}: {flows:?}");
    }
}

#[test]
fn no_alias_hides_a_column() {
    // ClickHouse puts an alias in for the column of that name wherever it stands.
    let questions = [
        Question::Matrix,
        Question::Series { step_s: 300 },
        Question::FirstSeen,
        Question::RuleUse,
        Question::Coverage,
    ];
    for question in questions {
        let sql = question
            .sql(&ClickHouse, "t", &selection("bytes > 1"))
            .unwrap_or_else(|e| panic!("{question:?}: {e}"));
        for column in KEY_COLUMNS.iter().chain(SUM_COLUMNS) {
            let alias = format!(" AS {column},");
            assert!(!sql.contains(&alias), "{question:?}: {alias} in {sql}");
        }
    }
}
