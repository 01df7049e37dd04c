//! The question and the step as the API asks for them.

use super::{judge, lacking};
use crate::app::App;
use crate::clock::now_ns;
use crate::history_questions::told;
use api::error::{ApiError, ErrorCode};
use api::life::Peer;
use api::policy::ApplyResult;
use api::readiness::{ModeRequest, Readiness};
use std::sync::Arc;

impl App {
    /// `GET /v1/segments/readiness`. Takes long for a large policy and much history.
    ///
    /// # Errors
    /// There is no policy, no such segment, or history does not answer.
    pub fn readiness(&self, segment: Option<&str>) -> Result<Readiness, ApiError> {
        self.judged(segment).map(|(_, readiness)| readiness)
    }

    /// The same with the revision that it is about.
    fn judged(&self, segment: Option<&str>) -> Result<(String, Readiness), ApiError> {
        let question = self.policy.readiness_question(segment)?;
        let thresholds = self.config.readiness.thresholds();
        let history = &*self.history;
        let image = &question.enforced.image;
        let segments = told(judge(
            history,
            image,
            &question.asked,
            &thresholds,
            now_ns(),
        ))?;
        let readiness = Readiness {
            thresholds,
            segments,
        };
        Ok((question.revision, readiness))
    }

    /// `POST /v1/segments/mode`: one step on where nothing is missing, or somebody says why it is to go
    /// on all the same; one step back always.
    ///
    /// # Errors
    /// Not ready, or as applying a policy.
    pub async fn set_mode(
        self: &Arc<Self>,
        request: ModeRequest,
        peer: Option<Peer>,
    ) -> Result<ApplyResult, ApiError> {
        let (_, to) = self.policy.step(&request)?;
        let judged = if request.demote {
            None
        } else {
            let (app, segment) = (Arc::clone(self), request.segment.clone());
            let judged = tokio::task::spawn_blocking(move || app.judged(Some(&segment)));
            let judged = judged
                .await
                .unwrap_or_else(|e| Err(ApiError::new(ErrorCode::Internal, e.to_string())));
            match judged {
                Ok((revision, readiness)) => {
                    let mut lacks = Vec::new();
                    for mut segment in readiness.segments {
                        segment.next = Some(to);
                        lacks.extend(lacking(&segment, &readiness.thresholds, now_ns()));
                    }
                    Some((revision, lacks))
                }
                // Without history nothing is known; whoever forces it takes that on.
                Err(_) if request.force.is_some() => None,
                Err(error) => return Err(error),
            }
        };
        self.policy.set_mode(request, peer, judged).await
    }
}
