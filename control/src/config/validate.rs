//! Every value against its limits.

use super::{
    COLLECTORS_MAX, CollectorAddress, Config, ConfigError, ExportConfig, HistoryConfig,
    HistoryEngine, RECENT_MAX, Span, WatchConfig,
};
use std::path::Path;
use std::time::Duration;

pub(super) fn within<T: PartialOrd + std::fmt::Debug>(
    key: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), ConfigError> {
    if value >= min && value <= max {
        return Ok(());
    }
    let what = format!("{value:?} is not from {min:?} to {max:?}");
    Err(ConfigError::limit(key, what))
}

impl Config {
    /// Checks every value against its limits.
    ///
    /// # Errors
    /// The first value outside, with what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let d = |span: Span| span.0;
        let link = &self.dataplane;
        let ms = Duration::from_millis;
        within(
            "dataplane.reconnect_min",
            d(link.reconnect_min),
            ms(1),
            ms(60_000),
        )?;
        within(
            "dataplane.reconnect_max",
            d(link.reconnect_max),
            d(link.reconnect_min),
            ms(300_000),
        )?;
        within(
            "collector.sleep_max",
            d(self.collector.sleep_max),
            ms(1),
            ms(1000),
        )?;
        within(
            "collector.batch_records",
            self.collector.batch_records,
            1,
            65_536,
        )?;
        within("flows.recent_max", self.flows.recent_max, 1, RECENT_MAX)?;
        within("flows.followers_max", self.flows.followers_max, 1, 1024)?;
        within(
            "flows.follower_batches_max",
            self.flows.follower_batches_max,
            1,
            65_536,
        )?;
        within(
            "policy.adopt_timeout",
            d(self.policy.adopt_timeout),
            ms(100),
            ms(600_000),
        )?;
        self.inventory.validate()?;
        self.export.validate()?;
        self.history.validate()?;
        within("readiness.window_days", self.readiness.window_days, 1, 3650)?;
        within("readiness.days_min", self.readiness.days_min, 0, 3650)?;
        self.watch.validate()?;
        validate_socket("api.socket", &self.api_socket())?;
        validate_socket("dataplane.socket", &self.dataplane_socket())?;
        self.log
            .filter()
            .map(|_| ())
            .map_err(|what| ConfigError::limit("log.level", what))
    }

    /// Checks what depends on the machine: whether metrics can be served where they should be.
    pub(super) fn validate_here(&self) -> Result<(), ConfigError> {
        let Some(address) = self.metrics.listen.0 else {
            return Ok(());
        };
        match std::net::TcpListener::bind(address) {
            // Taken, most likely by the control process that runs with this configuration.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(()),
            Err(error) => {
                let what = format!(
                    "cannot listen at {address}: {error}; name an address of this machine, or off"
                );
                Err(ConfigError::limit("metrics.listen", what))
            }
            Ok(_) => Ok(()),
        }
    }
}

impl HistoryConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let ms = Duration::from_millis;
        let day = Duration::from_secs(86_400);
        within("history.flush", self.flush.0, ms(100), ms(3_600_000))?;
        let century = 36_525 * day;
        for (age, bytes, kept) in [
            (
                "history.flows.age_max",
                "history.flows.bytes_max",
                self.flows,
            ),
            (
                "history.conversations_5m.age_max",
                "history.conversations_5m.bytes_max",
                self.conversations_5m,
            ),
            (
                "history.conversations_1h.age_max",
                "history.conversations_1h.bytes_max",
                self.conversations_1h,
            ),
        ] {
            within(age, kept.age_max.0, ms(3_600_000), century)?;
            within(bytes, kept.bytes_max, 1 << 20, 1 << 60)?;
        }
        within(
            "history.query_bytes_max",
            self.query_bytes_max,
            16 << 20,
            1 << 40,
        )?;
        within(
            "history.memory_records_max",
            self.memory_records_max,
            1,
            RECENT_MAX,
        )?;
        within("history.maintain", self.maintain.0, ms(1000), day)?;
        within(
            "history.queue_records_max",
            self.queue_records_max,
            1024,
            16_777_216,
        )?;
        self.validate_clickhouse()
    }

    fn validate_clickhouse(&self) -> Result<(), ConfigError> {
        let wrong = |what: String| ConfigError::limit("history.clickhouse", what);
        match (self.engine, &self.clickhouse) {
            (HistoryEngine::ClickHouse, None) => Err(wrong(
                "the engine is clickhouse and no server is named; add [history.clickhouse] with servers = \
                 [\"http://HOST:8123\", ...]"
                    .to_owned(),
            )),
            (_, Some(clickhouse)) => clickhouse.validate().map_err(|e| wrong(e.to_string())),
            (_, None) => Ok(()),
        }
    }
}

impl WatchConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let s = Duration::from_secs;
        let day = s(86_400);
        within("watch.learning", self.learning.0, s(0), 366 * day)?;
        within("watch.forget", self.forget.0, s(3600), 3660 * day)?;
        within("watch.repeat", self.repeat.0, s(1), 7 * day)?;
        within("watch.chain_window", self.chain_window.0, s(1), 7 * day)?;
        within("watch.sweep_window", self.sweep_window.0, s(1), day)?;
        within("watch.edges_max", self.edges_max, 1024, 10_000_000)?;
        within("watch.findings_max", self.findings_max, 16, 100_000)?;
        let records = self.queue_records_max;
        within("watch.queue_records_max", records, 1024, 16_777_216)?;
        within("watch.chain_hops_max", self.chain_hops_max, 2, 64)?;
        let most = crate::watch::sweep::TARGETS_OF_ONE_MAX;
        within("watch.fan_out_min", self.fan_out_min, 2, most)?;
        within("watch.port_sweep_min", self.port_sweep_min, 2, most)?;
        within("watch.host_sweep_min", self.host_sweep_min, 2, most)?;
        within("watch.denied_min", self.denied_min, 2, 1_000_000)?;
        within("watch.denied_targets_min", self.denied_targets_min, 1, most)?;
        for service in &self.admin_services {
            let port = policy::Port::parse(service).map_err(|error| {
                let what = format!("{error}; {}", error.mend());
                ConfigError::limit("watch.admin_services", what)
            })?;
            if !matches!(port.proto, Some(6 | 17 | 132)) {
                let what =
                    format!("`{service}` has no port; write tcp/22, udp/3389, tcp/5985-5986");
                return Err(ConfigError::limit("watch.admin_services", what));
            }
        }
        Ok(())
    }
}

impl ExportConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let d = |span: Span| span.0;
        let (ms, day) = (Duration::from_millis, Duration::from_secs(86_400));
        within("export.flush", d(self.flush), ms(10), ms(60_000))?;
        within("export.refresh", d(self.refresh), ms(1000), day)?;
        // IPFIX tells both in seconds of 16 bits.
        let longest = Duration::from_secs(u64::from(u16::MAX));
        for (key, timeout) in [
            ("export.active_timeout", self.active_timeout),
            ("export.idle_timeout", self.idle_timeout),
        ] {
            within(key, d(timeout), ms(1), longest)?;
        }
        within(
            "export.queue_records_max",
            self.queue_records_max,
            1024,
            16_777_216,
        )?;
        within(
            "export.collectors",
            self.collectors.len(),
            0,
            COLLECTORS_MAX,
        )?;
        // The encoder has the last word about its own settings.
        ipfix::Session::new(
            self.settings(ipfix::Personality::Biflow),
            ipfix::Announcement::default(),
        )
        .map_err(|e| ConfigError::limit("export", e.to_string()))?;
        let without_port = |c: &&CollectorAddress| c.address.port() == 0;
        if let Some(collector) = self.collectors.iter().find(without_port) {
            let what = format!("{} has no port; write ADDRESS:PORT", collector.address);
            return Err(ConfigError::limit("export.collectors", what));
        }
        Ok(())
    }
}

/// Refuses a path that no Unix socket can have.
fn validate_socket(key: &'static str, path: &Path) -> Result<(), ConfigError> {
    match rustix::net::SocketAddrUnix::new(path) {
        Ok(_) => Ok(()),
        Err(_) => {
            let what = format!(
                "{} is too long for a Unix socket, which has at most 107 bytes",
                path.display()
            );
            Err(ConfigError::limit(key, what))
        }
    }
}
