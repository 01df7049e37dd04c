//! The policy's life: confirm, revert, the log and whether it is whole.

use api::endpoint;
use api::life::{ConfirmRequest, Confirmed, LogVerification, RevertRequest, VerifyQuery};
use api::policy::PolicyLog;

use super::{Context, author};
use crate::args::life::{ConfirmArgs, LogArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::print;

impl Context {
    pub(super) async fn policy_confirm(&self, args: ConfirmArgs) -> Result<Exit, CliError> {
        let request = ConfirmRequest {
            revision: args.revision,
            author: author(),
            note: args.note,
        };
        let path = endpoint::POLICY_CONFIRM;
        let answer = self.client.post::<Confirmed>(path, &request).await?;
        self.print(&answer.json, || print::confirmed(&answer.value))
    }

    pub(super) async fn policy_revert(&self, note: String) -> Result<Exit, CliError> {
        let request = RevertRequest {
            author: author(),
            note,
        };
        self.change(endpoint::POLICY_REVERT, &request, "the policy before")
            .await
    }

    pub(super) async fn policy_log(&self, args: LogArgs) -> Result<Exit, CliError> {
        if !args.verify {
            return self
                .table::<PolicyLog>(endpoint::POLICY_LOG, print::policy_log)
                .await;
        }
        let query = VerifyQuery { head: args.head };
        let path = endpoint::POLICY_LOG_VERIFY;
        let answer = self.client.get::<LogVerification>(path, &query).await?;
        self.print(&answer.json, || print::verification(&answer.value))?;
        Ok(if answer.value.intact {
            Exit::Ok
        } else {
            Exit::No
        })
    }
}
