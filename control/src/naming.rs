//! Names as they were: what the policy in force calls addresses goes to history at each adoption.

use crate::app::App;
use crate::clock::now_ns;
use crate::policy_service::InForce;
use api::Ts;
use api::history::Membership;
use history::History;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Wait before names are noted again that history did not take.
const RETRY: Duration = Duration::from_secs(5);

/// Notes the names of every policy that is adopted, and those in force at the start, until it is
/// stopped. Of policies that follow each other faster than history writes, the last is noted.
pub async fn note(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut adoptions = app.policy.adoptions();
    loop {
        let (_, adopted_ns) = *adoptions.borrow_and_update();
        let at_ns = if adopted_ns == 0 {
            now_ns()
        } else {
            adopted_ns
        };
        let noted = match app.policy.in_force() {
            Some(in_force) => note_one(Arc::clone(&app.history), in_force, at_ns).await,
            None => true,
        };
        let retry = if noted { Duration::MAX } else { RETRY };
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(retry) => {}
            changed = adoptions.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn note_one(history: Arc<dyn History>, in_force: InForce, at_ns: u64) -> bool {
    let work = move || history.note_names(at_ns, &memberships(&in_force, at_ns));
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the names of the policy in force are not in history yet");
            false
        }
        Err(error) => {
            tracing::error!(%error, "names could not be noted");
            false
        }
    }
}

/// Every workload's prefixes, each with the labels of the workload and the segments of the prefix's
/// first address.
#[must_use]
pub fn memberships(in_force: &InForce, at_ns: u64) -> Vec<Membership> {
    let image = &in_force.compiled.image;
    let names: Vec<Arc<str>> = image
        .segments()
        .map(|segment| segment.name.into())
        .collect();
    let revision: Arc<str> = in_force.valid.revision.to_string().into();
    // `any` is every address's segment and says nothing.
    let says_something = |name: &Arc<str>| **name != *abi::image::BUILT_IN_SEGMENTS[0];
    let segments_of = |address| {
        let identity = image.identity(&crate::flow::address_bytes(address));
        let of = image.segments_of(identity);
        of.filter_map(|index| names.get(usize::try_from(index).ok()?).cloned())
            .filter(says_something)
            .collect()
    };
    let mut found = Vec::new();
    for workload in in_force.valid.workloads.iter() {
        let name: Arc<str> = workload.name.as_str().into();
        found.extend(workload.addresses.iter().map(|net| Membership {
            from_ts: Ts(at_ns),
            until_ts: None,
            prefix: if net.prefix_len() == net.max_prefix_len() {
                net.addr().to_string()
            } else {
                net.to_string()
            },
            workload: Arc::clone(&name),
            labels: workload.labels.clone(),
            segments: segments_of(net.addr()),
            revision: Arc::clone(&revision),
        }));
    }
    found
}
