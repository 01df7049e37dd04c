//! The public API over a Unix socket, and the metrics over HTTP.

mod candidates;
mod history;
mod life;
mod members;
mod peer;
mod reach;
mod segments;
mod simulate;
mod socket;
mod stream;
mod watch;

pub use peer::SocketPeer;
pub use socket::{SocketError, SocketPath};

use crate::app::App;
use crate::metrics::Metrics;
use crate::policy_service::POLICY_BYTES_MAX;
use api::endpoint;
use api::error::{ApiError, ErrorBody, ErrorCode};
use api::explain::ExplainQuery;
use api::policy::{CheckRequest, RevisionQuery};
use api::{FlowsQuery, TopQuery};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// An answer that is an error.
#[derive(Debug)]
struct Refused(ApiError);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(ErrorBody { error: self.0 })).into_response()
    }
}

type Answer<T> = Result<Json<T>, Refused>;
type QueryOf<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

fn query<T>(query: QueryOf<T>) -> Result<T, Refused> {
    match query {
        Ok(Query(value)) => Ok(value),
        Err(rejection) => Err(ApiError::new(ErrorCode::BadRequest, rejection.body_text()).into()),
    }
}

fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(bytes).map_err(|e| {
        let message = format!("the body is not what this path takes: {e}");
        ApiError::new(ErrorCode::BadRequest, message).into()
    })
}

/// Runs what takes long beside the event loop.
async fn aside<T, F>(app: Arc<App>, work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
{
    tokio::task::spawn_blocking(move || work(&app))
        .await
        .unwrap_or_else(|e| Err(ApiError::new(ErrorCode::Internal, e.to_string())))
}

/// A `GET` without parameters.
fn plain<T, F>(read: F) -> axum::routing::MethodRouter<Arc<App>>
where
    T: Serialize + Send + 'static,
    F: Fn(&App) -> Result<T, ApiError> + Clone + Send + Sync + 'static,
{
    get(move |State(app): State<Arc<App>>| {
        let read = read.clone();
        async move {
            let value = aside(app, move |app| read(app)).await?;
            Answer::Ok(Json(value))
        }
    })
}

/// Every endpoint of [`endpoint::ALL`].
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(endpoint::STATUS, plain(|app| Ok(app.status())))
        .route(endpoint::FLOWS, get(flows))
        .route(endpoint::TOP, get(top))
        .route(endpoint::PORTS, plain(|app| Ok(app.ports())))
        .route(endpoint::STAGES, plain(|app| Ok(app.stages())))
        .route(endpoint::DROPS, plain(|app| Ok(app.drops())))
        .route(endpoint::SEGMENTS, plain(|app| Ok(app.segments())))
        .route(
            endpoint::WORKLOADS,
            plain(|app| Ok(app.workloads())).post(life::workload_set),
        )
        .route(endpoint::WORKLOADS_IMPORT, post(members::import))
        .route(endpoint::INVENTORY, plain(|app| Ok(app.inventory())))
        .route(endpoint::POLICY, plain(|app| Ok(app.policy.show())))
        .route(endpoint::POLICY_CHECK, post(policy_check))
        .route(endpoint::POLICY_LOG, plain(|app| app.policy.history()))
        .route(endpoint::POLICY_REVISION, get(policy_revision))
        .route(endpoint::RULES, plain(|app| Ok(app.rules())))
        .route(endpoint::EXPLAIN, get(explain))
        .route(endpoint::EXPLAIN_FLOW, get(members::explain_flow))
        .route(endpoint::ACCOUNTING, plain(|app| Ok(app.accounting())))
        .route(endpoint::DOCTOR, plain(|app| Ok(app.doctor())))
        .merge(history::routes())
        .merge(life::routes())
        .merge(segments::routes())
        .merge(reach::routes())
        .merge(watch::routes())
        .merge(simulate::routes())
        .merge(candidates::routes())
        .method_not_allowed_fallback(async || {
            let message = "this path has another method; see api/src/endpoint.rs";
            Refused(ApiError::new(ErrorCode::MethodNotAllowed, message))
        })
        .fallback(async || {
            Refused(ApiError::new(
                ErrorCode::NotFound,
                "there is no such path under /v1",
            ))
        })
        // JSON escapes can make a text six times as long.
        .layer(DefaultBodyLimit::max(POLICY_BYTES_MAX * 2))
        .with_state(app)
}

/// `GET /metrics`, the only path.
pub fn metrics_router(app: Arc<App>) -> Router {
    let metrics = Arc::new(Metrics::new());
    Router::new().route(
        "/metrics",
        get(move || {
            let (app, metrics) = (Arc::clone(&app), Arc::clone(&metrics));
            async move {
                let text = aside(app, move |app| Ok(metrics.render(app))).await;
                let kind = [(
                    header::CONTENT_TYPE,
                    "text/plain; version=0.0.4; charset=utf-8",
                )];
                text.map(|text| (kind, text)).map_err(Refused)
            }
        }),
    )
}

async fn flows(
    State(app): State<Arc<App>>,
    asked: QueryOf<FlowsQuery>,
) -> Result<Response, Refused> {
    Ok(stream::flows(app, query(asked)?)?)
}

async fn top(State(app): State<Arc<App>>, asked: QueryOf<TopQuery>) -> Answer<api::Top> {
    let asked = query(asked)?;
    Ok(Json(aside(app, move |app| app.top(&asked)).await?))
}

async fn explain(
    State(app): State<Arc<App>>,
    asked: QueryOf<ExplainQuery>,
) -> Answer<api::Explain> {
    let asked = query(asked)?;
    Ok(Json(aside(app, move |app| app.explain(&asked)).await?))
}

async fn policy_check(
    State(app): State<Arc<App>>,
    bytes: Bytes,
) -> Answer<api::policy::CheckResult> {
    let CheckRequest { text, file_name } = body(&bytes)?;
    Ok(Json(app.policy.check(text, file_name).await?))
}

/// Goes on to its end where the client hangs up: a change of policy is never left half done.
async fn detached<T, F, W>(app: Arc<App>, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ApiError>> + Send + 'static,
    W: FnOnce(Arc<App>) -> F,
{
    tokio::spawn(work(app))
        .await
        .unwrap_or_else(|e| Err(ApiError::new(ErrorCode::Internal, e.to_string())))
}

async fn policy_revision(
    State(app): State<Arc<App>>,
    asked: QueryOf<RevisionQuery>,
) -> Answer<api::policy::Revision> {
    let asked = query(asked)?;
    Ok(Json(
        aside(app, move |app| app.policy.revision(&asked.revision)).await?,
    ))
}
