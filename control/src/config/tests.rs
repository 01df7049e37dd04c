//! What is refused, and how it is told.

use super::*;

fn load_text(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.toml");
    std::fs::write(&path, text).unwrap();
    load(&path, true, &figment::value::Dict::new(), Depth::Machine)
}

#[test]
fn a_dumped_configuration_is_read_back_as_itself() {
    let mut config = Config::default();
    config
        .export
        .collectors
        .push("192.0.2.1:4739,uniflow,500".parse().unwrap());
    config.metrics.listen = Listen(None);
    let text = toml::to_string(&config).unwrap();
    assert_eq!(load_text(&text).unwrap(), config);
}

#[test]
fn an_unknown_key_is_refused_with_file_and_key() {
    let error = load_text("[flows]\nrecent = 5\n").unwrap_err().to_string();
    assert!(
        error.contains("control.toml") && error.contains("recent"),
        "{error}"
    );
}

#[test]
fn a_wrong_value_is_refused_with_file_and_key() {
    let error = load_text("[collector]\nsleep_max = \"soon\"\n")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("key collector.sleep_max") && error.contains("`soon`"),
        "{error}"
    );
    let error = load_text("[flows]\nrecent_max = 0\n")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("configuration, file /")
            && error.ends_with("/control.toml, key flows.recent_max: 0 is not from 1 to 50000000"),
        "{error}"
    );
    let error = load_text("[export]\nmessage_bytes_max = 9\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("must be from 576"), "{error}");
}

#[test]
fn what_no_process_could_use_is_refused_with_file_and_key() {
    for (text, key, what) in [
        (
            "[log]\nlevel = \"infoo\"",
            "log.level",
            "`infoo` is no level; write off, error",
        ),
        (
            "[log]\nlevel = \"info,control=loud\"",
            "log.level",
            "is no log filter",
        ),
        ("[log]\nlevel = \"\"", "log.level", "`` is no level"),
        (
            "[export]\nidle_timeout = \"0s\"",
            "export.idle_timeout",
            "0ns is not from 1ms to 65535s",
        ),
        // RFC 5737: no machine has this address.
        (
            "[metrics]\nlisten = \"192.0.2.1:9464\"",
            "metrics.listen",
            "cannot listen at 192.0.2.1:9464: ",
        ),
        (
            "[metrics]\nlisten = \"9464\"",
            "metrics.listen",
            "`9464` is neither off nor",
        ),
        (
            "[[export.collectors]]\naddress = \"192.0.2.1:0\"",
            "export.collectors",
            "192.0.2.1:0 has no port",
        ),
        (
            &format!("[control]\nrun_dir = \"/{}\"", "x".repeat(100)),
            "api.socket",
            "too long for a Unix socket",
        ),
        ("[metric]\nlisten = \"off\"", "metric", "unknown field"),
    ] {
        let error = load_text(text).unwrap_err().to_string();
        let place = error.contains("control.toml") || key == "api.socket";
        let named = error.contains(&format!(", key {key}: "));
        assert!(place && named && error.contains(what), "{text}: {error}");
    }
    for level in ["info", "WARN", "control::exporter=debug,info", "off"] {
        let text = format!("[log]\nlevel = \"{level}\"\n[metrics]\nlisten = \"off\"\n");
        assert_eq!(load_text(&text).unwrap().log.level, level);
    }
}

#[test]
fn an_address_that_is_taken_is_not_the_fault_of_the_configuration() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!("[metrics]\nlisten = \"{address}\"\n");
    assert_eq!(load_text(&text).unwrap().metrics.listen.0, Some(address));
}

#[test]
fn a_named_file_that_is_missing_is_an_error_and_the_default_one_is_not() {
    let missing = Path::new("/nonexistent/control.toml");
    let none = figment::value::Dict::new();
    assert!(
        load(missing, true, &none, Depth::Values)
            .unwrap_err()
            .to_string()
            .contains("/nonexistent/")
    );
    assert_eq!(
        load(missing, false, &none, Depth::Values).unwrap(),
        Config::default()
    );
}

#[test]
fn the_distributed_engine_needs_servers_and_what_is_wrong_with_them_is_told() {
    let refused = |text: &str| load_text(text).unwrap_err().to_string();
    let error = refused("[history]\nengine = \"clickhouse\"\n");
    assert!(error.contains("key history.clickhouse"), "{error}");
    assert!(error.contains("no server is named"), "{error}");
    let servers =
        "[history]\nengine = \"clickhouse\"\n[history.clickhouse]\nservers = [\"ftp://a\"]\n";
    assert!(refused(servers).contains("`ftp://a` is no URL of HTTP"));
    let config = load_text(&servers.replace("ftp://a", "http://a:8123")).unwrap();
    assert_eq!(config.history.engine, HistoryEngine::ClickHouse);
}
