//! From the first node to the verdict.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cluster_tests::{cli, replicas};
use playground::{Interrupts, Node};
use quorate_proto::config::v1::get_status_response::State;

use crate::{
    check::{self, Verdict, end::LAST_READER},
    client::{Client as _, GrpcClient},
    lab::Lab,
    linear::{Answer, Call},
    nemesis::Nemesis,
    record::{self, Called, Event, Recorder},
    workload::{self, Workload},
};

/// How long watchers may take to be told the last version.
const TOLD: Duration = Duration::from_secs(20);
/// How long the cluster may take to be one again after everything was mended. Longer than any of its own timeouts.
const HEALED: Duration = Duration::from_secs(180);
/// How often a read is tried at the end.
const READS: usize = 20;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Decides what goes wrong, and what clients want; not what the machine makes of it.
    pub seed: u64,
    /// Number of nodes, 3 or more.
    pub nodes: u8,
    /// For how long something goes wrong.
    pub lasts: Duration,
    /// Where everything is recorded.
    pub record: PathBuf,
    /// Whether some clients use the nodes' mounts.
    pub mounts: bool,
}

impl Run {
    /// Runs it, and judges it. The nodes are gone afterwards; if something is wrong, their logs stay.
    ///
    /// # Errors
    /// If it could not be run to its end: a node that does not come up again, a cluster that does not heal.
    pub async fn run(&self, say: impl Fn(&str)) -> anyhow::Result<Verdict> {
        let recorder = Recorder::create(&self.record)
            .with_context(|| format!("cannot create {}", self.record.display()))?;
        recorder.record(&Event::Begun { seed: self.seed, nodes: self.nodes });
        let mut lab = Lab::up(self.nodes).await?;
        let ended = self.run_in(&lab, &recorder, say).await;
        if ended.is_err() {
            lab.keep();
        }
        recorder.flush()?;
        ended?;
        let verdict = check::judge(&record::load(&self.record)?);
        if !verdict.problems.is_empty() {
            lab.keep();
        }
        Ok(verdict)
    }

    async fn run_in(&self, lab: &Lab, recorder: &Recorder, say: impl Fn(&str)) -> anyhow::Result<()> {
        cli::put(&lab.nodes()[0], &format!("{}/begun", workload::DIRECTORY), "").await;
        replicas::same(&lab.nodes().iter().collect::<Vec<_>>()).await;
        let mut workload = Workload::start(lab, recorder, self.seed, self.mounts)?;
        self.torment(lab, recorder, &say).await?;
        workload.stop().await;
        say("everything is mended");
        let version = healed(lab, recorder).await?;
        read_everything(lab, recorder).await;
        workload.stop_watching(version, TOLD).await;
        Ok(())
    }

    /// Lets things go wrong until time is over or somebody interrupts; in the end everything is mended.
    async fn torment(&self, lab: &Lab, recorder: &Recorder, say: impl Fn(&str)) -> anyhow::Result<()> {
        let mut nemesis = Nemesis::new(self.seed, self.nodes);
        let mut interrupts = Interrupts::receive()?;
        let until = Instant::now() + self.lasts;
        let mut interrupted = false;
        while Instant::now() < until && !interrupted {
            let step = nemesis.step();
            let mut struck = Vec::new();
            for fault in step.faults {
                let what = fault.to_string();
                note(recorder, &say, what.clone());
                struck.push((fault.strike(lab).await.context(what.clone())?, what));
            }
            interrupted |= passes(step.lasts, &mut interrupts).await;
            for (struck, what) in struck.into_iter().rev() {
                struck.mend(lab).await.with_context(|| format!("the end of: {what}"))?;
                note(recorder, &say, format!("the end of: {what}"));
            }
            interrupted |= passes(step.rest, &mut interrupts).await;
        }
        Ok(())
    }
}

/// Waits; true if it was interrupted.
async fn passes(time: Duration, interrupts: &mut Interrupts) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => false,
        _ = interrupts.next() => true,
    }
}

fn note(recorder: &Recorder, say: impl Fn(&str), what: String) {
    let at = recorder.now();
    say(&format!("{:8.3} s  {what}", at as f64 / 1e9));
    recorder.record(&Event::Fault { at, what });
}

/// Waits until all replicas are in sync at one version, and notes what they say. Their checksums are for the judge.
async fn healed(lab: &Lab, recorder: &Recorder) -> anyhow::Result<u64> {
    let deadline = Instant::now() + HEALED;
    loop {
        let mut seen = Vec::new();
        for node in lab.nodes() {
            seen.push((node, wait_status(node).await));
        }
        let versions: Vec<Option<u64>> = seen.iter().map(|(_, status)| version_in_sync(status)).collect();
        if let Some(version) = versions[0]
            && versions.iter().all(|other| *other == Some(version))
        {
            for (node, status) in seen {
                let checksum = status.map(|status| status.checksum).unwrap_or_default();
                let node = node.name().to_owned();
                recorder.record(&Event::Ended { node, version, checksum });
            }
            return Ok(version);
        }
        let told = seen.iter().map(|(node, status)| match status {
            Ok(status) => {
                format!("{} {:?} {} {}", node.name(), status.state(), status.version, status.reason)
            }
            Err(error) => error.clone(),
        });
        anyhow::ensure!(
            Instant::now() < deadline,
            "not healed after {HEALED:?}: {}",
            told.collect::<Vec<_>>().join("; ")
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

type Status = Result<quorate_proto::config::v1::GetStatusResponse, String>;

async fn wait_status(node: &Node) -> Status {
    replicas::status(node).await
}

fn version_in_sync(status: &Status) -> Option<u64> {
    let status = status.as_ref().ok()?;
    (status.state() == State::Synchronised).then_some(status.version)
}

/// Every file through every node, the newest.
async fn read_everything(lab: &Lab, recorder: &Recorder) {
    for node in lab.nodes() {
        let client = GrpcClient::new(node, "configd");
        for path in workload::paths() {
            let invoked = recorder.now();
            let mut answer = Answer::Unknown;
            for _ in 0..READS {
                answer = client.get(&path, true).await;
                if answer != Answer::Unknown {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let called = Called {
                id: recorder.number(),
                client: LAST_READER.to_owned(),
                node: node.name().to_owned(),
                path,
                invoked,
                returned: recorder.now(),
                call: Call::Get,
                answer,
                local: None,
            };
            recorder.record(&Event::Called(called));
        }
    }
}
