//! Where the cycles of a core go.

use serde::{Deserialize, Serialize};

/// Answer to `GET /v1/stages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// Cycles of the dataplane's time stamp counter in a second; 0 where it has not told.
    pub tsc_hz: u64,
    /// One row a worker (core).
    pub workers: Vec<WorkerStages>,
    /// Their sum; `worker` is none.
    pub total: WorkerStages,
}

/// The stages of one core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStages {
    /// Worker; none in the total.
    pub worker: Option<u32>,
    /// Rounds that were measured and had a packet; 0 where nothing is measured.
    pub rounds: u64,
    /// In the order of a round.
    pub stages: Vec<StageCost>,
}

/// What one stage cost in the rounds that were measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCost {
    /// `receive`, `read`, `look-up`, `classify`, `decide`, `transmit`, `sweep` or `export`.
    pub stage: String,
    /// Cycles.
    pub cycles: u64,
    /// Packets that went through it.
    pub packets: u64,
}

impl WorkerStages {
    /// Packets received in the rounds that were measured.
    #[must_use]
    pub fn packets(&self) -> u64 {
        let receive = self.stages.iter().find(|cost| cost.stage == "receive");
        receive.map_or(0, |cost| cost.packets)
    }

    /// Cycles of all stages.
    #[must_use]
    pub fn cycles(&self) -> u64 {
        self.stages.iter().map(|cost| cost.cycles).sum()
    }
}
