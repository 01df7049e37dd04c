//! Changes of policy and what becomes of them: apply, confirm, revert, roll back, the log.

use super::peer::SocketPeer;
use super::{Answer, QueryOf, aside, body, detached, query};
use crate::app::App;
use crate::policy_service::{Change, Terms};
use api::endpoint;
use api::life::{ConfirmRequest, Confirmed, LogVerification, RevertRequest, VerifyQuery};
use api::policy::{ApplyRequest, ApplyResult, PolicyChange, RollbackRequest, WorkloadRequest};
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::Arc;

/// Paths of this file.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(endpoint::POLICY_APPLY, post(apply))
        .route(endpoint::POLICY_ROLLBACK, post(rollback))
        .route(endpoint::POLICY_CONFIRM, post(confirm))
        .route(endpoint::POLICY_REVERT, post(revert))
        .route(endpoint::POLICY_LOG_VERIFY, get(verify_log))
}

type PeerOf = ConnectInfo<SocketPeer>;

async fn apply(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): PeerOf,
    bytes: Bytes,
) -> Answer<ApplyResult> {
    let ApplyRequest {
        text,
        file_name,
        author,
        note,
        confirm_s,
        if_revision,
        break_invariants,
    } = body(&bytes)?;
    let change = Change {
        kind: Some(PolicyChange::Apply),
        file_name,
        author,
        note,
        peer: peer.named(),
        breaks: break_invariants,
    };
    let terms = Terms {
        confirm_s,
        if_revision,
    };
    let work = move |app: Arc<App>| async move { app.policy.apply(text, change, &terms).await };
    Ok(Json(detached(app, work).await?))
}

/// Changes one workload.
pub(super) async fn workload_set(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): PeerOf,
    bytes: Bytes,
) -> Answer<ApplyResult> {
    let request: WorkloadRequest = body(&bytes)?;
    let peer = peer.named();
    let work = move |app: Arc<App>| async move { app.policy.set_workload(request, peer).await };
    Ok(Json(detached(app, work).await?))
}

async fn rollback(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): PeerOf,
    bytes: Bytes,
) -> Answer<ApplyResult> {
    let RollbackRequest {
        revision,
        author,
        note,
    } = body(&bytes)?;
    let change = Change {
        kind: Some(PolicyChange::Rollback),
        // Named once it is found.
        file_name: String::new(),
        author,
        note,
        peer: peer.named(),
        breaks: Vec::new(),
    };
    let work = move |app: Arc<App>| async move { app.policy.rollback(&revision, change).await };
    Ok(Json(detached(app, work).await?))
}

async fn confirm(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): PeerOf,
    bytes: Bytes,
) -> Answer<Confirmed> {
    let request: ConfirmRequest = body(&bytes)?;
    let peer = peer.named();
    let work = move |app: Arc<App>| async move { app.policy.confirm(request, peer).await };
    Ok(Json(detached(app, work).await?))
}

async fn revert(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): PeerOf,
    bytes: Bytes,
) -> Answer<ApplyResult> {
    let request: RevertRequest = body(&bytes)?;
    let peer = peer.named();
    let work = move |app: Arc<App>| async move { app.policy.revert(request, peer).await };
    Ok(Json(detached(app, work).await?))
}

async fn verify_log(
    State(app): State<Arc<App>>,
    asked: QueryOf<VerifyQuery>,
) -> Answer<LogVerification> {
    let VerifyQuery { head } = query(asked)?;
    let verified = aside(app, move |app| app.policy.verify_log(head.as_deref())).await;
    Ok(Json(verified?))
}
