//! Asks the control process: HTTP/1.1 over its Unix socket, one connection a question.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{ErrorBody, ErrorCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::error::ClientError;

/// Longest wait for a connection and for the head of an answer. Applying a policy waits for every
/// worker, and control gives up on that by itself well before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A control process, by its socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// An answer: what it means, and the bytes as they came.
#[derive(Debug)]
pub struct Answer<T> {
    /// The API value.
    pub value: T,
    /// The API's own JSON.
    pub json: Bytes,
}

/// An answer that is read line by line.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    /// Bytes that came and are not yet given out, from `start` on.
    pending: Vec<u8>,
    start: usize,
    socket: PathBuf,
    path: String,
}

impl Client {
    /// The control process that listens at `socket`. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks an endpoint with a query.
    ///
    /// # Errors
    /// Nobody listens, no answer in time, or the answer is a refusal.
    pub async fn get<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        query: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        let path = with_query(endpoint, query);
        let response = self.send(Method::GET, &path, Bytes::new()).await?;
        self.whole(response, &path).await
    }

    /// Asks an endpoint with a JSON body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        body: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        let body = self.json(endpoint, body)?;
        let response = self.send(Method::POST, endpoint, body).await?;
        self.whole(response, endpoint).await
    }

    /// Asks an endpoint whose answer is read line by line, as it comes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn lines(
        &self,
        endpoint: &str,
        query: &impl Serialize,
    ) -> Result<Lines, ClientError> {
        let path = with_query(endpoint, query);
        let response = self.send(Method::GET, &path, Bytes::new()).await?;
        self.lines_of(response, path).await
    }

    /// Asks an endpoint with a JSON body, whose answer is read line by line, as it comes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_lines(
        &self,
        endpoint: &str,
        body: &impl Serialize,
    ) -> Result<Lines, ClientError> {
        let body = self.json(endpoint, body)?;
        let response = self.send(Method::POST, endpoint, body).await?;
        self.lines_of(response, endpoint.to_owned()).await
    }

    fn json(&self, endpoint: &str, body: &impl Serialize) -> Result<Bytes, ClientError> {
        let json = serde_json::to_vec(body)
            .map_err(|error| self.not_understood(endpoint, &error.to_string()))?;
        Ok(json.into())
    }

    async fn lines_of(
        &self,
        response: Response<Incoming>,
        path: String,
    ) -> Result<Lines, ClientError> {
        if response.status() != StatusCode::OK {
            return Err(
                match self.whole::<serde_json::Value>(response, &path).await {
                    Err(refused) => refused,
                    Ok(_) => self.not_understood(&path, "no stream of lines"),
                },
            );
        }
        Ok(Lines {
            body: response.into_body(),
            pending: Vec::new(),
            start: 0,
            socket: self.socket.clone(),
            path,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let silent = |_| ClientError::Silent {
            socket: self.socket.clone(),
            path: path.to_owned(),
            seconds: ANSWER_TIMEOUT.as_secs(),
        };
        let broken = |error: hyper::Error| self.broken_off(path, &error);
        let stream = tokio::time::timeout(ANSWER_TIMEOUT, UnixStream::connect(&self.socket))
            .await
            .map_err(silent)?
            .map_err(|source| self.connect_error(source))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Its errors come out of `send_request` and out of the body as well.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "ringfence")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.not_understood(path, &error.to_string()))?;
        tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request))
            .await
            .map_err(silent)?
            .map_err(broken)
    }

    async fn whole<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
        path: &str,
    ) -> Result<Answer<T>, ClientError> {
        let status = response.status();
        let body = response.into_body().collect();
        let json = tokio::time::timeout(ANSWER_TIMEOUT, body)
            .await
            .map_err(|_| ClientError::Silent {
                socket: self.socket.clone(),
                path: path.to_owned(),
                seconds: ANSWER_TIMEOUT.as_secs(),
            })?
            .map_err(|error| self.broken_off(path, &error))?
            .to_bytes();
        if status != StatusCode::OK {
            return Err(match serde_json::from_slice::<ErrorBody>(&json) {
                Ok(body) => ClientError::Refused(body.error),
                Err(error) => self.not_understood(path, &format!("HTTP status {status}, {error}")),
            });
        }
        match serde_json::from_slice(&json) {
            Ok(value) => Ok(Answer { value, json }),
            Err(error) => Err(self.not_understood(path, &error.to_string())),
        }
    }

    fn connect_error(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { socket }
            }
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { socket },
            _ => ClientError::Socket { socket, source },
        }
    }

    fn broken_off(&self, path: &str, error: &hyper::Error) -> ClientError {
        ClientError::BrokenOff {
            socket: self.socket.clone(),
            path: path.to_owned(),
            message: error.to_string(),
        }
    }

    fn not_understood(&self, path: &str, message: &str) -> ClientError {
        ClientError::NotUnderstood {
            path: path.to_owned(),
            message: message.to_owned(),
        }
    }
}

impl Lines {
    /// The next line without its end, or `None` at the end of the answer.
    ///
    /// # Errors
    /// The connection broke in the middle.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            let waiting = &self.pending[self.start..];
            if let Some(length) = waiting.iter().position(|byte| *byte == b'\n') {
                let line = waiting[..length].to_vec();
                self.start += length + 1;
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.pending.drain(..self.start);
            self.start = 0;
            match self.body.frame().await {
                None if self.pending.is_empty() => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.pending))),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.pending.extend_from_slice(bytes);
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::BrokenOff {
                        socket: self.socket.clone(),
                        path: self.path.clone(),
                        message: error.to_string(),
                    });
                }
            }
        }
    }
}

/// Whether an error says that the dataplane is not there (yet).
#[must_use]
pub fn is_no_dataplane(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(refused) if refused.code == ErrorCode::NoDataplane)
}

/// An endpoint with its query string. `query` is a flat struct; what is null is left out.
fn with_query(endpoint: &str, query: &impl Serialize) -> String {
    let mut path = endpoint.to_owned();
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) {
        for (name, value) in fields {
            let text = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&name);
            path.push('=');
            percent_encode(&mut path, &text);
        }
    }
    path
}

/// RFC 3986 section 2.1: everything but unreserved characters is written as `%XX`.
fn percent_encode(into: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::FlowsQuery;

    #[test]
    fn a_query_is_percent_encoded_and_leaves_out_what_is_not_asked() {
        let query = FlowsQuery {
            filter: Some("src 10.0.0.0/8 & bytes > 1k".into()),
            limit: Some(5),
            follow: Some(true),
            ..FlowsQuery::default()
        };
        let path = with_query(api::endpoint::FLOWS, &query);
        let mut parts: Vec<&str> = path.split(['?', '&']).collect();
        parts.sort_unstable();
        assert_eq!(
            parts,
            [
                "/v1/flows",
                "filter=src%2010.0.0.0%2F8%20%26%20bytes%20%3E%201k",
                "follow=true",
                "limit=5"
            ]
        );
        assert_eq!(with_query(api::endpoint::STATUS, &()), "/v1/status");
    }
}
