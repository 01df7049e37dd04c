//! Questions about what a policy lets reach what.

use super::{Refused, aside, body};
use crate::app::App;
use api::endpoint;
use api::error::ApiError;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{MethodRouter, post};
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

fn asked<Q, T>(answer: fn(&App, &Q) -> Result<T, ApiError>) -> MethodRouter<Arc<App>>
where
    Q: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
{
    post(
        move |State(app): State<Arc<App>>, bytes: Bytes| async move {
            let question: Q = body(&bytes)?;
            let value = aside(app, move |app| answer(app, &question)).await?;
            Ok::<_, Refused>(Json(value))
        },
    )
}

/// `diff`, `blast` and `analyze` below `/v1/policy`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(endpoint::POLICY_DIFF, asked(App::policy_diff))
        .route(endpoint::POLICY_BLAST, asked(App::policy_blast))
        .route(endpoint::POLICY_ANALYZE, asked(App::policy_analyze))
}
