//! One server, over HTTP.
//!
//! What comes of an insert is one of three: the server took it, nothing reached the server, or it is unknown. Only the
//! middle one may be sent elsewhere.

use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::time::Duration;

/// Why a server did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server cannot be reached: nothing was sent.
    NotSent(String),
    /// The server said no. What it had begun may be there.
    Refused(String),
    /// It was sent, and nobody said what came of it.
    Unknown(String),
}

impl Failure {
    pub(super) fn why(&self) -> &str {
        match self {
            Self::NotSent(why) | Self::Refused(why) | Self::Unknown(why) => why,
        }
    }

    /// Nothing can be there.
    pub(super) const fn is_not_sent(&self) -> bool {
        matches!(self, Self::NotSent(_))
    }
}

/// A setting of one request.
pub(super) type Setting<'a> = (&'a str, &'a str);

/// Rows for an insert, as the server reads them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    /// Columns and types: `a UInt8, b String`.
    pub(super) structure: &'a str,
    /// `RowBinary`.
    pub(super) bytes: &'a [u8],
}

/// One server.
#[derive(Clone)]
pub(super) struct Server {
    url: String,
    user: String,
    password: String,
    agent: ureq::Agent,
}

/// All but the password.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Bytes of a refusal that are read.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;

impl Server {
    pub(super) fn new(
        url: &str,
        user: &str,
        password: &str,
        connect: Duration,
        request: Duration,
    ) -> Self {
        // A kept connection may be closed by the server as a request leaves; then nobody knows whether it arrived. So
        // none is kept: a connection costs nothing beside a batch.
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(connect))
            .timeout_global(Some(request))
            .http_status_as_error(false)
            .max_idle_connections(0)
            .build()
            .into();
        Self {
            url: format!("{}/", url.trim_end_matches('/')),
            user: user.to_owned(),
            password: password.to_owned(),
            agent,
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn failure(&self, error: &ureq::Error) -> Failure {
        use ureq::{Error, Timeout};
        let why = format!("server {}: {error}", self.url);
        match error {
            Error::HostNotFound
            | Error::ConnectionFailed
            | Error::BadUri(_)
            | Error::Timeout(Timeout::Connect | Timeout::Resolve) => Failure::NotSent(why),
            Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                Failure::NotSent(why)
            }
            _ => Failure::Unknown(why),
        }
    }

    fn refusal(&self, status: u16, text: &str) -> Failure {
        // `Code: 193, e.displayText() = DB::Exception: Wrong password for user default, e.what() = DB::Exception`
        let code = text
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split(['.', ',']).next())
            .and_then(|code| code.trim().parse::<u32>().ok());
        let mend = match code {
            Some(192 | 193 | 194 | 516) => "; set user and password in the configuration",
            Some(497) => "; grant the user its database",
            _ => "",
        };
        let text = text.trim();
        Failure::Refused(format!(
            "server {} refuses ({status}): {text}{mend}",
            self.url
        ))
    }

    fn send(
        &self,
        settings: &[Setting<'_>],
        content_type: &str,
        body: &[u8],
    ) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let request = self
            .agent
            .post(&self.url)
            .query_pairs(settings.iter().copied())
            .header("X-ClickHouse-User", &self.user)
            .header("X-ClickHouse-Key", &self.password)
            .content_type(content_type);
        let mut answer = request.send(body).map_err(|e| self.failure(&e))?;
        let status = answer.status().as_u16();
        if status == 200 {
            return Ok(answer);
        }
        let mut text = String::new();
        let mut reader = answer.body_mut().as_reader().take(REFUSAL_BYTES_MAX);
        // What of the reason cannot be read is not told.
        let _ = reader.read_to_string(&mut text);
        Err(self.refusal(status, &text))
    }

    /// Answers with whatever the statement answers.
    pub(super) fn ask(&self, sql: &str, settings: &[Setting<'_>]) -> Result<String, Failure> {
        let mut whole = vec![("wait_end_of_query", "1")];
        whole.extend_from_slice(settings);
        let answer = self.send(&whole, "text/plain", sql.as_bytes())?;
        let mut text = String::new();
        let mut reader = answer.into_body().into_reader();
        match reader.read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(e) => Err(Failure::Unknown(format!("server {}: {e}", self.url))),
        }
    }

    /// Hands the rows of a `SELECT` to `each` as they come. Its first two rows are names and types of columns.
    pub(super) fn rows(
        &self,
        sql: &str,
        settings: &[Setting<'_>],
        each: &mut dyn FnMut(Vec<Option<String>>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let sql = format!("{sql} FORMAT TabSeparatedWithNamesAndTypes");
        let answer = self.send(settings, "text/plain", sql.as_bytes())?;
        let mut columns = None;
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line = line.map_err(|e| Failure::Unknown(format!("server {}: {e}", self.url)))?;
            let row: Vec<Option<String>> = line.split('\t').map(unescaped).collect();
            // An error after the first rows stands where the next row should.
            let is_error = line.starts_with("Code: ") && line.contains("DB::");
            if *columns.get_or_insert(row.len()) != row.len() || is_error {
                return Err(Failure::Refused(format!("server {}: {line}", self.url)));
            }
            if each(row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Runs an `INSERT INTO ... SELECT ... FROM rows`, where `rows` are those given. A server runs one statement of an
    /// id at a time and refuses a second.
    pub(super) fn insert(
        &self,
        sql: &str,
        query_id: &str,
        settings: &[Setting<'_>],
        rows: Option<Rows<'_>>,
    ) -> Result<(), Failure> {
        let mut all = vec![("query_id", query_id), ("wait_end_of_query", "1")];
        all.extend_from_slice(settings);
        let Some(rows) = rows else {
            return self.send(&all, "text/plain", sql.as_bytes()).map(drop);
        };
        all.extend([
            ("query", sql),
            ("rows_format", "RowBinary"),
            ("rows_structure", rows.structure),
        ]);
        let boundary = format!("ringfence-rows-{query_id}");
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"rows\"; filename=\"rows\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(rows.bytes);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let content_type = format!("multipart/form-data; boundary={boundary}");
        self.send(&all, &content_type, &body).map(drop)
    }
}

/// A value of a line: `\N` is missing, a backslash begins what would break the line.
fn unescaped(text: &str) -> Option<String> {
    if text == "\\N" {
        return None;
    }
    let mut whole = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            whole.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => whole.push('\n'),
            Some('t') => whole.push('\t'),
            Some('r') => whole.push('\r'),
            Some('b') => whole.push('\u{8}'),
            Some('f') => whole.push('\u{c}'),
            Some('0') => whole.push('\0'),
            Some(other) => whole.push(other),
            None => whole.push('\\'),
        }
    }
    Some(whole)
}

/// A text as a line of tab-separated values has it.
pub(super) fn escaped(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => whole.push_str("\\\\"),
            '\t' => whole.push_str("\\t"),
            '\n' => whole.push_str("\\n"),
            other => whole.push(other),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_lines_come_back_whole() {
        for text in ["", "a\tb\nc", "\\N", "it's \\ \"", "\u{1}é"] {
            assert_eq!(unescaped(&escaped(text)).as_deref(), Some(text));
        }
        assert_eq!(unescaped("\\N"), None);
    }

    #[test]
    fn a_refusal_says_what_to_set() {
        let time = Duration::from_secs(1);
        let server = Server::new("http://127.0.0.1:1", "default", "hidden", time, time);
        let text = "Code: 193, e.displayText() = DB::Exception: Wrong password for user default";
        let Failure::Refused(why) = server.refusal(401, text) else {
            unreachable!("a refusal is refused");
        };
        assert!(why.contains("Wrong password") && why.contains("set user and password"));
        assert!(!format!("{server:?}").contains("hidden"));
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_told_as_not_sent() {
        let time = Duration::from_secs(5);
        let server = Server::new("http://127.0.0.1:1", "default", "", time, time);
        let failure = server.ask("SELECT 1", &[]).unwrap_err();
        assert!(failure.is_not_sent(), "{failure:?}");
    }
}
