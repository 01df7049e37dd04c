//! Answers about where the cycles of cores go.

use crate::app::App;
use abi::{CoreCounters, Stage};
use api::Stages;
use api::stages::{StageCost, WorkerStages};

impl App {
    /// `GET /v1/stages`.
    #[must_use]
    pub fn stages(&self) -> Stages {
        let view = self.dataplane.view();
        let mut sum = CoreCounters::new();
        for core in &view.cores {
            sum.stage_rounds += core.stage_rounds;
            for stage in Stage::ALL {
                let index = stage.index();
                sum.stage_cycles[index] += core.stage_cycles[index];
                sum.stage_packets[index] += core.stage_packets[index];
            }
        }
        let workers = (0_u32..).zip(&view.cores);
        Stages {
            tsc_hz: view.facts.map_or(0, |facts| facts.tsc_hz),
            workers: workers
                .map(|(worker, core)| worker_stages(Some(worker), core))
                .collect(),
            total: worker_stages(None, &sum),
        }
    }
}

fn worker_stages(worker: Option<u32>, core: &CoreCounters) -> WorkerStages {
    let stages = Stage::ALL.iter().map(|stage| StageCost {
        stage: stage.name().to_owned(),
        cycles: core.stage_cycles[stage.index()],
        packets: core.stage_packets[stage.index()],
    });
    WorkerStages {
        worker,
        rounds: core.stage_rounds,
        stages: stages.collect(),
    }
}
