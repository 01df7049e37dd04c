//! Questions about history.

use super::{Answer, QueryOf, aside, body, plain, query};
use crate::app::App;
use api::endpoint;
use api::error::ApiError;
use api::history::{HistoryQuery, SqlRequest, Table};
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;

/// A `GET` with the parameters that every question of history has.
fn asked<T, F>(answer: F) -> MethodRouter<Arc<App>>
where
    T: Serialize + Send + 'static,
    F: Fn(&App, &HistoryQuery) -> Result<T, ApiError> + Copy + Send + Sync + 'static,
{
    get(
        move |State(app): State<Arc<App>>, asked: QueryOf<HistoryQuery>| async move {
            let asked = query(asked)?;
            let value = aside(app, move |app| answer(app, &asked)).await?;
            Answer::Ok(Json(value))
        },
    )
}

/// Every path below `/v1/history`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(endpoint::HISTORY, plain(|app| Ok(app.history_state())))
        .route(endpoint::HISTORY_FLOWS, asked(App::history_flows))
        .route(
            endpoint::HISTORY_CONVERSATIONS,
            asked(App::history_conversations),
        )
        .route(endpoint::HISTORY_MATRIX, asked(App::history_matrix))
        .route(endpoint::HISTORY_SERIES, asked(App::history_series))
        .route(endpoint::HISTORY_TOP, asked(App::history_top))
        .route(endpoint::HISTORY_FIRST_SEEN, asked(App::history_first_seen))
        .route(endpoint::HISTORY_RULES, asked(App::history_rules))
        .route(endpoint::HISTORY_COVERAGE, asked(App::history_coverage))
        .route(endpoint::HISTORY_TALKERS, asked(App::history_talkers))
        .route(endpoint::HISTORY_NAMES, asked(App::history_names))
        .route(endpoint::HISTORY_SQL, post(sql))
}

async fn sql(State(app): State<Arc<App>>, bytes: Bytes) -> Answer<Table> {
    let SqlRequest { sql } = body(&bytes)?;
    Ok(Json(aside(app, move |app| app.history_sql(&sql)).await?))
}
