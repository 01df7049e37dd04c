//! How far segments have come, and moving them; workloads that are held.

use super::peer::SocketPeer;
use super::{Answer, QueryOf, aside, body, detached, plain, query};
use crate::app::App;
use api::endpoint;
use api::policy::ApplyResult;
use api::quarantine::{LiftRequest, QuarantineRequest, QuarantineResult};
use api::readiness::{ModeRequest, Readiness, ReadinessQuery};
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::Arc;

/// Paths of this file.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(endpoint::SEGMENTS_READINESS, get(readiness))
        .route(endpoint::SEGMENTS_MODE, post(mode))
        .route(
            endpoint::QUARANTINE,
            plain(|app| Ok(app.policy.quarantines())).post(quarantine),
        )
        .route(endpoint::QUARANTINE_LIFT, post(lift))
}

async fn readiness(
    State(app): State<Arc<App>>,
    asked: QueryOf<ReadinessQuery>,
) -> Answer<Readiness> {
    let ReadinessQuery { segment } = query(asked)?;
    let judged = aside(app, move |app| app.readiness(segment.as_deref()));
    Ok(Json(judged.await?))
}

async fn mode(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketPeer>,
    bytes: Bytes,
) -> Answer<ApplyResult> {
    let request: ModeRequest = body(&bytes)?;
    let peer = peer.named();
    let work = move |app: Arc<App>| async move { app.set_mode(request, peer).await };
    Ok(Json(detached(app, work).await?))
}

async fn quarantine(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketPeer>,
    bytes: Bytes,
) -> Answer<QuarantineResult> {
    let request: QuarantineRequest = body(&bytes)?;
    let peer = peer.named();
    let work = move |app: Arc<App>| async move { app.quarantine(request, peer).await };
    Ok(Json(detached(app, work).await?))
}

async fn lift(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketPeer>,
    bytes: Bytes,
) -> Answer<ApplyResult> {
    let request: LiftRequest = body(&bytes)?;
    let peer = peer.named();
    let work = move |app: Arc<App>| async move { app.policy.lift(request, peer).await };
    Ok(Json(detached(app, work).await?))
}
