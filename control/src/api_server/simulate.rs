//! Answers that take long: NDJSON, progress while the work goes on, the answer as its last line.

use super::{Refused, aside, body};
use crate::app::App;
use crate::simulate::Told;
use api::endpoint;
use api::error::ApiError;
use api::simulate::{Line, Progress, SimulateRequest};
use api::suggest::SuggestRequest;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Lines that wait for a client.
const LINES_MAX: usize = 4;

/// `/v1/policy/simulate` and `/v1/policy/suggest`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(endpoint::POLICY_SIMULATE, post(simulate))
        .route(endpoint::POLICY_SUGGEST, post(suggest))
}

async fn simulate(State(app): State<Arc<App>>, bytes: Bytes) -> Result<Response, Refused> {
    let request: SimulateRequest = body(&bytes)?;
    let prepared = aside(Arc::clone(&app), move |app| app.prepare_simulation(request)).await?;
    Ok(long(move |tell| app.simulate(&prepared, tell)))
}

async fn suggest(State(app): State<Arc<App>>, bytes: Bytes) -> Result<Response, Refused> {
    let request: SuggestRequest = body(&bytes)?;
    let extended = aside(Arc::clone(&app), move |app| app.prepare_suggestion(request)).await?;
    Ok(long(move |tell| app.suggest(&extended, tell)))
}

/// Runs `work` on a thread of its own and writes what it tells. It ends where the client hangs up: then telling
/// breaks.
pub(super) fn long<T, W>(work: W) -> Response
where
    T: Serialize,
    W: FnOnce(Told<'_>) -> Result<T, ApiError> + Send + 'static,
{
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(LINES_MAX);
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut tell =
            |progress: Progress| send(&handle, &mut sender, &Line::<T>::Progress { progress });
        let line = match work(&mut tell) {
            Ok(done) => Line::Done(done),
            Err(error) => Line::Failed { error },
        };
        // A client that has gone is told nothing.
        let _ = send(&handle, &mut sender, &line);
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::new(body)).into_response()
}

fn send<T: Serialize>(
    handle: &Handle,
    sender: &mut Sender<Bytes, Infallible>,
    line: &Line<T>,
) -> ControlFlow<()> {
    // Numbers, texts and lists of them: serialising cannot fail.
    let Ok(mut text) = serde_json::to_vec(line) else {
        return ControlFlow::Break(());
    };
    text.push(b'\n');
    match handle.block_on(sender.send_data(text.into())) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}
