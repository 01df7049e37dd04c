//! `GET /v1/flows`: written as it is read, so that a large answer needs no memory of its size.

use crate::app::{App, Namer};
use crate::questions::Selection;
use crate::recent::{Batch, Snapshot};
use api::error::{ApiError, ErrorCode};
use api::flow::FlowsFormat;
use api::{Flow, FlowsQuery};
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Pieces of an answer are about so long.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for a client.
const PIECES_MAX: usize = 8;

/// Writes flows in one format.
struct Writer {
    format: FlowsFormat,
    piece: Vec<u8>,
    any: bool,
}

impl Writer {
    fn new(format: FlowsFormat) -> Self {
        let mut piece = Vec::with_capacity(PIECE_BYTES * 2);
        match format {
            FlowsFormat::Json => piece.extend_from_slice(b"{\"flows\":["),
            FlowsFormat::Ndjson => {}
            FlowsFormat::Tsv => {
                piece.extend_from_slice(Flow::tsv_header().as_bytes());
                piece.push(b'\n');
            }
        }
        Self {
            format,
            piece,
            any: false,
        }
    }

    fn flow(&mut self, flow: &Flow) {
        match self.format {
            FlowsFormat::Tsv => self.piece.extend_from_slice(flow.tsv_row().as_bytes()),
            FlowsFormat::Json | FlowsFormat::Ndjson => {
                if self.any && self.format == FlowsFormat::Json {
                    self.piece.push(b',');
                }
                // Numbers, texts and lists of them: serialising cannot fail.
                let written = serde_json::to_writer(&mut self.piece, flow);
                debug_assert!(written.is_ok(), "a flow is always JSON");
            }
        }
        if self.format != FlowsFormat::Json {
            self.piece.push(b'\n');
        }
        self.any = true;
    }

    fn end(&mut self) {
        if self.format == FlowsFormat::Json {
            self.piece.extend_from_slice(b"]}\n");
        }
    }

    fn take(&mut self) -> Bytes {
        std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES * 2)).into()
    }
}

/// What is to be answered.
struct Job {
    app: Arc<App>,
    selection: Selection,
    snapshot: Snapshot,
    /// None: no flow of the past.
    limit: Option<u64>,
    format: FlowsFormat,
    sender: Sender<Bytes, Infallible>,
    follow: Option<mpsc::Receiver<Batch>>,
}

/// The answer; its body is written by tasks of their own.
pub(super) fn flows(app: Arc<App>, query: FlowsQuery) -> Result<Response, ApiError> {
    let selection = Selection::new(query.filter.as_deref(), query.since.as_deref(), query.after)?;
    let follow = query.follow.unwrap_or(false);
    let format = query.format.unwrap_or(if follow {
        FlowsFormat::Ndjson
    } else {
        FlowsFormat::Json
    });
    if follow && format == FlowsFormat::Json {
        let message = "follow has no end and json needs one: use format=ndjson or format=tsv";
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    }
    let (snapshot, receiver) = if follow {
        let (snapshot, receiver) = app
            .recent
            .follow()
            .map_err(|e| ApiError::new(ErrorCode::Busy, e.to_string()))?;
        (snapshot, Some(receiver))
    } else {
        (app.recent.snapshot(), None)
    };
    let default = if follow {
        None
    } else {
        Some(FlowsQuery::LIMIT_DEFAULT)
    };
    let (sender, body) = Channel::<Bytes, Infallible>::new(PIECES_MAX);
    let limit = query.limit.or(default);
    let job = Job {
        app,
        selection,
        snapshot,
        limit,
        format,
        sender,
        follow: receiver,
    };
    tokio::spawn(job.run());
    let kind = match format {
        FlowsFormat::Json => "application/json",
        FlowsFormat::Ndjson => "application/x-ndjson",
        FlowsFormat::Tsv => "text/tab-separated-values; charset=utf-8",
    };
    Ok(([(header::CONTENT_TYPE, kind)], Body::new(body)).into_response())
}

/// The client hung up.
struct Gone;

impl Job {
    async fn run(mut self) {
        let follow = self.follow.take();
        let handle = Handle::current();
        let past = tokio::task::spawn_blocking(move || {
            let written = self.past(&handle);
            (self, written)
        });
        // A client that hangs up ends the answer; nobody is left to be told.
        if let (Ok((job, Ok(writer))), Some(receiver)) = (past.await, follow) {
            let _ = job.follow(writer, receiver).await;
        }
    }

    /// Flows that are kept. Runs beside the event loop.
    fn past(&mut self, handle: &Handle) -> Result<Writer, Gone> {
        let mut writer = Writer::new(self.format);
        let mut namer = self.app.namer();
        let snapshot = std::mem::take(&mut self.snapshot);
        match self.limit {
            None => {}
            Some(0) => {
                for stored in snapshot.iter() {
                    if let Some(flow) = self.selection.select(&mut namer, stored) {
                        self.write(handle, &mut writer, &flow)?;
                    }
                }
            }
            Some(limit) => {
                for flow in self.selection.newest(&mut namer, &snapshot, limit) {
                    self.write(handle, &mut writer, &flow)?;
                }
            }
        }
        writer.end();
        let piece = writer.take();
        handle.block_on(self.send(piece))?;
        Ok(writer)
    }

    fn write(&mut self, handle: &Handle, writer: &mut Writer, flow: &Flow) -> Result<(), Gone> {
        writer.flow(flow);
        if writer.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        let piece = writer.take();
        handle.block_on(self.send(piece))
    }

    async fn send(&mut self, piece: Bytes) -> Result<(), Gone> {
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.send_data(piece).await.map_err(|_| Gone)
    }

    /// Flows as they come, until the client hangs up or this process stops.
    async fn follow(
        mut self,
        mut writer: Writer,
        mut receiver: mpsc::Receiver<Batch>,
    ) -> Result<(), Gone> {
        while let Some(batch) = receiver.recv().await {
            let mut namer: Namer = self.app.namer();
            for stored in batch.iter() {
                if let Some(flow) = self.selection.select(&mut namer, stored) {
                    writer.flow(&flow);
                }
            }
            let piece = writer.take();
            self.send(piece).await?;
        }
        Ok(())
    }
}
