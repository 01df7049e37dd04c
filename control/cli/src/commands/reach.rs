//! `ringfence policy diff`, `blast` and `analyze`: what a policy lets reach what.

use std::path::Path;

use api::endpoint;
use api::reach::{
    Analysis, AnalyzeRequest, BlastRadius, BlastRequest, DiffRequest, PolicyDiff, PolicySource,
    View,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, read};
use crate::args::reach::{AnalyzeArgs, BlastArgs, DiffArgs};
use crate::client::Answer;
use crate::error::CliError;
use crate::exit::Exit;
use crate::{offline, print};

/// Shortest beginning of a revision that names one.
const REVISION_DIGITS_MIN: usize = 4;

/// What a word names: a file that is there, else a revision.
fn source(word: &str) -> Result<PolicySource, CliError> {
    let path = Path::new(word);
    let digits = |word: &str| {
        word.len() >= REVISION_DIGITS_MIN && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let kept = ["in-force", "previous"].contains(&word);
    if kept || (digits(word) && !path.exists()) {
        return Ok(PolicySource {
            revision: Some(word.to_owned()),
            ..PolicySource::default()
        });
    }
    Ok(PolicySource {
        text: Some(read(path)?),
        file_name: word.to_owned(),
        revision: None,
    })
}

fn view(enforced: bool) -> View {
    if enforced {
        View::Enforced
    } else {
        View::Intended
    }
}

/// The name of a policy, as a person gave it.
fn named(source: &PolicySource) -> &str {
    source.revision.as_deref().unwrap_or(&source.file_name)
}

impl Context {
    /// Asks control; where none answers and the question is about files only, the program alone.
    async fn ask_about<Q: Serialize, T: DeserializeOwned>(
        &self,
        (path, word): (&str, &str),
        question: &Q,
        sources: &[&PolicySource],
    ) -> Result<Answer<T>, CliError> {
        let files_only = sources.iter().all(|source| source.text.is_some());
        match self.client.post::<T>(path, question).await {
            Err(error) if error.is_not_connected() && files_only => {
                offline::ask(word, question).await
            }
            asked => Ok(asked?),
        }
    }

    pub(super) async fn policy_diff(&self, args: DiffArgs) -> Result<Exit, CliError> {
        let (old, new) = match &args.second {
            Some(second) => (source(&args.first)?, source(second)?),
            None => (PolicySource::in_force(), source(&args.first)?),
        };
        let request = DiffRequest {
            old,
            new,
            view: view(args.enforced),
        };
        let sources = [&request.old, &request.new];
        let answer: Answer<PolicyDiff> = self
            .ask_about((endpoint::POLICY_DIFF, "diff"), &request, &sources)
            .await?;
        let diff = &answer.value;
        if !self.json {
            self.output.error_page(&print::broken(&diff.newly_broken));
        }
        let names = (named(&request.old), named(&request.new));
        self.print(&answer.json, || print::policy_diff(names, diff))?;
        let same = diff.reach.is_empty() && diff.newly_broken.is_empty();
        Ok(if same { Exit::Ok } else { Exit::No })
    }

    pub(super) async fn policy_blast(&self, args: BlastArgs) -> Result<Exit, CliError> {
        let draft = args
            .draft
            .as_ref()
            .map(|path| source(&path.display().to_string()));
        let request = BlastRequest {
            policy: source(&args.policy)?,
            draft: draft.transpose()?,
            segment: args.segment,
            hops: Some(args.hops),
            view: view(args.enforced),
        };
        let sources: Vec<_> = [Some(&request.policy), request.draft.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        let answer: Answer<BlastRadius> = self
            .ask_about((endpoint::POLICY_BLAST, "blast"), &request, &sources)
            .await?;
        self.print(&answer.json, || print::blast(&answer.value))
    }

    pub(super) async fn policy_analyze(&self, args: AnalyzeArgs) -> Result<Exit, CliError> {
        let request = AnalyzeRequest {
            policy: source(&args.policy)?,
            since: args.since,
        };
        let answer: Answer<Analysis> = self
            .ask_about(
                (endpoint::POLICY_ANALYZE, "analyze"),
                &request,
                &[&request.policy],
            )
            .await?;
        self.print(&answer.json, || print::analysis(&answer.value))
    }
}
