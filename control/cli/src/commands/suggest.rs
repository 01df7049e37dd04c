//! `ringfence policy suggest`

use super::{Context, check_filter, read};
use crate::args::simulate::SuggestArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::print;
use api::endpoint;
use api::suggest::{SuggestRequest, Suggestion};
use std::path::Path;

impl Context {
    pub(super) async fn suggest(&self, args: SuggestArgs) -> Result<Exit, CliError> {
        check_filter(args.period.filter.as_deref())?;
        let extended = args.period.policy.as_deref();
        let request = SuggestRequest {
            // The capture is judged by this policy, which is then in force in the private appliance.
            text: extended.map(read).transpose()?,
            file_name: extended
                .map(|p| p.display().to_string())
                .unwrap_or_default(),
            since: args.period.since.clone(),
            until: args.period.until.clone(),
            filter: args.period.filter.clone(),
            name_prefix: args.name_prefix,
        };
        let path = endpoint::POLICY_SUGGEST;
        let Some(answer) = self
            .over::<Suggestion>(&args.period, path, &request)
            .await?
        else {
            return Ok(Exit::Interrupted);
        };
        if let Some(out) = &args.out {
            write(out, &answer.value.text)?;
        }
        let out = args.out.as_deref();
        self.print(&answer.json, || {
            print::suggest::suggestion(&answer.value, out)
        })
    }
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|source| CliError::Unwritable {
        path: path.to_owned(),
        source,
    })
}
