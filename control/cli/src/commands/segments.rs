//! Segments on their way to enforcement, and workloads that are held.

use std::time::Duration;

use api::endpoint;
use api::policy::Segments;
use api::quarantine::{LiftRequest, QuarantineRequest, QuarantineResult, Quarantines};
use api::readiness::{ModeRequest, Readiness, ReadinessQuery};

use super::{Context, author, now};
use crate::args::segments::{
    QuarantineArgs, QuarantineCommand, QuarantineTerms, SegmentsArgs, SegmentsCommand,
};
use crate::error::CliError;
use crate::exit::Exit;
use crate::print;
use crate::settle;

impl Context {
    pub(super) async fn segments(&self, args: SegmentsArgs) -> Result<Exit, CliError> {
        match args.command {
            None => {
                self.table::<Segments>(endpoint::SEGMENTS, print::segments)
                    .await
            }
            Some(SegmentsCommand::Readiness { segment }) => self.readiness(segment).await,
            Some(SegmentsCommand::Promote {
                segment,
                to,
                force,
                confirm,
                note,
            }) => {
                let request = ModeRequest {
                    segment,
                    to,
                    force,
                    confirm_s: confirm.map(|time| time.as_secs()),
                    author: author(),
                    note,
                    ..ModeRequest::default()
                };
                self.change_mode(&request).await
            }
            Some(SegmentsCommand::Demote { segment, to, note }) => {
                let request = ModeRequest {
                    segment,
                    demote: true,
                    to,
                    author: author(),
                    note,
                    ..ModeRequest::default()
                };
                self.change_mode(&request).await
            }
        }
    }

    async fn change_mode(&self, request: &ModeRequest) -> Result<Exit, CliError> {
        let what = format!("the policy with segment {} moved", request.segment);
        self.change(endpoint::SEGMENTS_MODE, request, &what).await
    }

    async fn readiness(&self, segment: Option<String>) -> Result<Exit, CliError> {
        let one = segment.is_some();
        let query = ReadinessQuery { segment };
        let path = endpoint::SEGMENTS_READINESS;
        let answer = self.client.get::<Readiness>(path, &query).await?;
        self.print(&answer.json, || match &answer.value.segments[..] {
            [segment] if one => print::segment_readiness(segment, now()),
            segments => print::readiness(segments, now()),
        })?;
        let missing = answer.value.segments.iter().any(|s| !s.lacking.is_empty());
        Ok(if one && missing { Exit::No } else { Exit::Ok })
    }

    pub(super) async fn quarantine(&self, args: QuarantineArgs) -> Result<Exit, CliError> {
        match args.command {
            Some(QuarantineCommand::List) => {
                let print = |list: &Quarantines| print::quarantines(list, now());
                return self.table(endpoint::QUARANTINE, print).await;
            }
            Some(QuarantineCommand::Lift { workload, note }) => {
                let what = format!("the policy without the quarantine of {workload}");
                let request = LiftRequest {
                    workload,
                    author: author(),
                    note,
                };
                return self
                    .change(endpoint::QUARANTINE_LIFT, &request, &what)
                    .await;
            }
            None => {}
        }
        // clap has seen to it that both are there.
        let (workload, time) = (
            args.workload.unwrap_or_default(),
            args.time.unwrap_or_default(),
        );
        self.hold(workload, None, time, args.terms).await
    }

    /// Holds a workload, or prints the draft that would; `workload` empty: the one that the finding
    /// offers.
    pub(super) async fn hold(
        &self,
        workload: String,
        finding: Option<u64>,
        time: Duration,
        terms: QuarantineTerms,
    ) -> Result<Exit, CliError> {
        let request = QuarantineRequest {
            workload,
            finding,
            for_s: time.as_secs(),
            allow: terms.allow,
            to: terms.to,
            dry_run: terms.dry_run,
            since: terms.since,
            author: author(),
            note: terms.note,
        };
        let before = settle::counters(&self.client).await;
        let path = endpoint::QUARANTINE;
        let answer = self.client.post::<QuarantineResult>(path, &request).await?;
        let result = &answer.value;
        if request.dry_run && !self.json {
            self.output.error_page(&print::quarantine_foresight(result));
        }
        self.print(&answer.json, || print::quarantined(result))?;
        if let (Some(before), Some(_), false) = (before, &result.applied, self.json)
            && let Some(settled) = settle::settle(&self.client, &before).await
        {
            self.output.page(&print::settled(&settled))?;
        }
        Ok(Exit::Ok)
    }
}
