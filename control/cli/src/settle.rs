//! What a change of policy did to the flows that were live: judged again, changed, ended.
//!
//! A flow is judged again at its next packet, so the counters are watched for a moment and what has
//! not had a packet by then is told as well.

use std::time::{Duration, Instant};

use api::status::TrafficStatus;
use api::{Status, endpoint};

use crate::client::Client;

/// How long flows are given to have a packet.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// How often the counters are looked at; cores commit theirs ten times a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What became of the flows that were live at a change of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Flows in the caches at the change.
    pub live: u64,
    /// Flows judged again since.
    pub rejudged: u64,
    /// Of those, flows whose verdict became another.
    pub changed: u64,
    /// Of those, flows that were ended because their rule says `on_change = "kill"`.
    pub killed: u64,
    /// Packets that passed under a verdict that the change had superseded: in the time between the
    /// publication and the last core's adoption.
    pub superseded_packets: u64,
    /// How long was waited.
    pub waited: Duration,
}

/// The counters before the change; none where control does not tell, and then nothing is said.
pub(crate) async fn counters(client: &Client) -> Option<TrafficStatus> {
    let status = client.get::<Status>(endpoint::STATUS, &()).await.ok()?;
    Some(status.value.traffic)
}

/// Waits until every flow that was live has been judged again, or its time is over.
pub(crate) async fn settle(client: &Client, before: &TrafficStatus) -> Option<Settled> {
    let start = Instant::now();
    loop {
        let settled = settled(before, &counters(client).await?, start.elapsed());
        if settled.rejudged >= settled.live || settled.waited >= SETTLE_TIME {
            return Some(settled);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn settled(before: &TrafficStatus, after: &TrafficStatus, waited: Duration) -> Settled {
    // The dataplane may have started anew in between: then it counts from 0.
    let since = |of: fn(&TrafficStatus) -> u64| of(after).saturating_sub(of(before));
    let rejudged = since(|t| t.flows_rejudged);
    Settled {
        // More where flows began between the look and the change.
        live: before.flows_cached.max(rejudged),
        rejudged,
        changed: since(|t| t.flows_verdict_changed),
        killed: since(|t| t.flows_ended_forced),
        superseded_packets: since(|t| t.superseded_packets),
        waited,
    }
}
