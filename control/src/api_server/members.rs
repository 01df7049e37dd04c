//! Lists of workloads, and flows that were seen.

use super::peer::SocketPeer;
use super::{Answer, QueryOf, aside, body, detached, query};
use crate::app::App;
use api::explain::{FlowExplain, FlowExplainQuery};
use api::inventory::{ImportRequest, ImportResult};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use std::sync::Arc;

pub(super) async fn import(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketPeer>,
    bytes: Bytes,
) -> Answer<ImportResult> {
    let request: ImportRequest = body(&bytes)?;
    let work = move |app: Arc<App>| async move { app.policy.import(request, peer.named()).await };
    Ok(Json(detached(app, work).await?))
}

pub(super) async fn explain_flow(
    State(app): State<Arc<App>>,
    asked: QueryOf<FlowExplainQuery>,
) -> Answer<FlowExplain> {
    let asked = query(asked)?;
    Ok(Json(aside(app, move |app| app.explain_flow(&asked)).await?))
}
