//! Findings.

use super::{Answer, QueryOf, Refused, aside, body, query};
use crate::app::App;
use crate::watch::answers::Wanted;
use api::endpoint;
use api::watch::{
    BaselineEdges, BaselineQuery, Finding, FindingQuery, FindingReport, FindingStateRequest,
    Findings, WatchDraft, WatchQuery,
};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::channel::{Channel, Sender};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch::Receiver;

/// Pieces of an answer that wait for a follower.
const PIECES_MAX: usize = 64;

/// Every path below `/v1/watch`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(endpoint::WATCH, get(findings))
        .route(endpoint::WATCH_FOLLOW, get(follow))
        .route(endpoint::WATCH_FINDING, get(finding))
        .route(endpoint::WATCH_STATE, post(say))
        .route(endpoint::WATCH_DRAFT, get(draft))
        .route(endpoint::WATCH_BASELINE, get(baseline))
}

async fn findings(State(app): State<Arc<App>>, asked: QueryOf<WatchQuery>) -> Answer<Findings> {
    let asked = query(asked)?;
    Ok(Json(aside(app, move |app| app.findings(asked)).await?))
}

async fn finding(
    State(app): State<Arc<App>>,
    asked: QueryOf<FindingQuery>,
) -> Answer<FindingReport> {
    let asked = query(asked)?;
    let work = move |app: &App| app.finding_report(&asked);
    Ok(Json(aside(app, work).await?))
}

async fn draft(State(app): State<Arc<App>>, asked: QueryOf<FindingQuery>) -> Answer<WatchDraft> {
    let asked = query(asked)?;
    Ok(Json(aside(app, move |app| app.watch_draft(&asked)).await?))
}

async fn baseline(
    State(app): State<Arc<App>>,
    asked: QueryOf<BaselineQuery>,
) -> Answer<BaselineEdges> {
    let asked = query(asked)?;
    let work = move |app: &App| app.watch_baseline(&asked);
    Ok(Json(aside(app, work).await?))
}

async fn say(State(app): State<Arc<App>>, bytes: Bytes) -> Answer<Finding> {
    let request: FindingStateRequest = body(&bytes)?;
    let work = move |app: &App| app.say_finding(request);
    Ok(Json(aside(app, work).await?))
}

/// Findings as they change, until the client hangs up or this process ends. A slow client gets the last state of each,
/// and misses none.
async fn follow(
    State(app): State<Arc<App>>,
    asked: QueryOf<WatchQuery>,
) -> Result<Response, Refused> {
    let wanted = Wanted::new(query(asked)?)?;
    let (sender, body) = Channel::<Bytes, Infallible>::new(PIECES_MAX);
    // Before the answer begins: whoever has its head misses nothing that comes after.
    let changes = app.watch.changes();
    let told = app.watch.detector().findings.change();
    tokio::spawn(tell(app, wanted, sender, changes, told));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(body)).into_response())
}

async fn tell(
    app: Arc<App>,
    wanted: Wanted,
    mut sender: Sender<Bytes, Infallible>,
    mut changes: Receiver<u64>,
    mut told: u64,
) {
    loop {
        let mut changed: Vec<Finding> = {
            let detector = app.watch.detector();
            let all = detector.findings.all();
            let new = all.filter(|f| f.change > told && wanted.is_met(f));
            new.cloned().collect()
        };
        changed.sort_by_key(|finding| finding.change);
        for finding in changed {
            told = told.max(finding.change);
            // Numbers, texts and lists of them: serialising cannot fail.
            let mut line = serde_json::to_vec(&finding).unwrap_or_default();
            line.push(b'\n');
            if sender.send_data(line.into()).await.is_err() {
                return;
            }
        }
        if changes.changed().await.is_err() || *changes.borrow() == u64::MAX {
            return;
        }
    }
}
