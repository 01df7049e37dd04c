//! Candidates: added, listed, removed, promoted; and their changed flows as they happen.

use super::peer::SocketPeer;
use super::{Answer, QueryOf, Refused, body, detached, plain, query};
use crate::app::App;
use crate::candidates::{ChangedBatch, Entry, Judging, WATCHERS_MAX};
use api::candidate::{
    Candidate, CandidateName, CandidateRequest, ChangedFlow, WatchFormat, WatchQuery,
};
use api::endpoint;
use api::error::{ApiError, ErrorCode};
use api::policy::ApplyResult;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::channel::{Channel, Sender};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Pieces that wait for a client.
const PIECES_MAX: usize = 8;

/// Paths of this file.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            endpoint::CANDIDATES,
            plain(|app| Ok(app.policy.candidates())).post(add),
        )
        .route(endpoint::CANDIDATES_REMOVE, post(remove))
        .route(endpoint::CANDIDATES_PROMOTE, post(promote))
        .route(endpoint::CANDIDATES_WATCH, get(watch))
}

type PeerOf = ConnectInfo<SocketPeer>;

async fn add(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): PeerOf,
    bytes: Bytes,
) -> Answer<Candidate> {
    let request: CandidateRequest = body(&bytes)?;
    let peer = peer.named();
    let work = move |app: Arc<App>| async move { app.policy.add_candidate(request, peer).await };
    Ok(Json(detached(app, work).await?))
}

async fn remove(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): PeerOf,
    bytes: Bytes,
) -> Answer<Candidate> {
    let request: CandidateName = body(&bytes)?;
    let peer = peer.named();
    let work = move |app: Arc<App>| async move { app.policy.remove_candidate(request, peer).await };
    Ok(Json(detached(app, work).await?))
}

async fn promote(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): PeerOf,
    bytes: Bytes,
) -> Answer<ApplyResult> {
    let request: CandidateName = body(&bytes)?;
    let peer = peer.named();
    let work =
        move |app: Arc<App>| async move { app.policy.promote_candidate(request, peer).await };
    Ok(Json(detached(app, work).await?))
}

async fn watch(
    State(app): State<Arc<App>>,
    asked: QueryOf<WatchQuery>,
) -> Result<Response, Refused> {
    let WatchQuery { name, format } = query(asked)?;
    let format = format.unwrap_or(WatchFormat::Ndjson);
    let judging = match app.policy.candidate(&name)? {
        Entry::Judging(judging) => judging,
        Entry::Broken(about) => {
            let error = about.error.unwrap_or_default();
            let message = format!("candidate {name} is not judged: {error}");
            return Err(ApiError::new(ErrorCode::Storage, message).into());
        }
    };
    let Some(batches) = judging.watch() else {
        let message = format!("{WATCHERS_MAX} watch {name} already; end one of them");
        return Err(ApiError::new(ErrorCode::Busy, message).into());
    };
    let (sender, body) = Channel::<Bytes, Infallible>::new(PIECES_MAX);
    tokio::spawn(follow(app, judging, batches, format, sender));
    let kind = match format {
        WatchFormat::Ndjson => "application/x-ndjson",
        WatchFormat::Tsv => "text/tab-separated-values; charset=utf-8",
    };
    Ok(([(header::CONTENT_TYPE, kind)], Body::new(body)).into_response())
}

/// Changed flows as they come, until the client hangs up, the candidate goes or this process stops.
async fn follow(
    app: Arc<App>,
    judging: Arc<Judging>,
    mut batches: mpsc::Receiver<ChangedBatch>,
    format: WatchFormat,
    mut sender: Sender<Bytes, Infallible>,
) {
    let head = match format {
        WatchFormat::Ndjson => String::new(),
        WatchFormat::Tsv => ChangedFlow::tsv_header() + "\n",
    };
    if !head.is_empty() && sender.send_data(head.into()).await.is_err() {
        return;
    }
    while let Some(batch) = batches.recv().await {
        let mut namer = app.namer();
        let mut piece = Vec::new();
        for changed in batch.iter() {
            let flow = judging.named(&mut namer, changed);
            match format {
                WatchFormat::Tsv => piece.extend_from_slice(flow.tsv_row().as_bytes()),
                WatchFormat::Ndjson => {
                    // Numbers, texts and lists of them: serialising cannot fail.
                    let written = serde_json::to_writer(&mut piece, &flow);
                    debug_assert!(written.is_ok(), "a flow is always JSON");
                }
            }
            piece.push(b'\n');
        }
        // Nobody is left to be told.
        if sender.send_data(piece.into()).await.is_err() {
            return;
        }
    }
}
