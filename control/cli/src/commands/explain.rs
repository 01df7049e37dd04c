//! `ringfence explain`: hypothetical flows and flows that were seen.

use super::Context;
use crate::args::explain::ExplainArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::print;
use api::Explain;
use api::endpoint;
use api::explain::{ExplainQuery, FlowExplain, FlowExplainQuery};
use api::words::Action;

impl Context {
    pub(super) async fn explain(&self, args: ExplainArgs) -> Result<Exit, CliError> {
        if let Some(flow) = args.flow {
            let query = FlowExplainQuery {
                flow,
                since: args.since,
            };
            let path = endpoint::EXPLAIN_FLOW;
            let answer = self.client.get::<FlowExplain>(path, &query).await?;
            self.print(&answer.json, || {
                print::explain_flow(&answer.value, super::now())
            })?;
            return Ok(passes(answer.value.flow.verdict));
        }
        let query = ExplainQuery {
            src: args.src.unwrap_or_default(),
            dst: args.dst.unwrap_or_default(),
            service: args.service.unwrap_or_default(),
            at: args.at,
        };
        let path = endpoint::EXPLAIN;
        let answer = self.client.get::<Explain>(path, &query).await?;
        self.print(&answer.json, || print::explain(&answer.value, super::now()))?;
        Ok(passes(answer.value.verdict))
    }
}

const fn passes(verdict: Action) -> Exit {
    if verdict.permits() {
        Exit::Ok
    } else {
        Exit::No
    }
}
