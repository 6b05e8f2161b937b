//! Brings a new corosync.conf of the tree into force on this node, together with the other members: the hands of
//! [`config_store_core::conf_change`].

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use config_store_core::{
    ConfigPath, Expect, Operation, RequestId,
    conf_change::{ConfChange, ConfId, ConfInput, ConfOutput, Word},
    status::CONF_WORD,
};
use prometheus_client::metrics::gauge::Gauge;
use quorate_daemon::{Metrics, Root, telemetry::chain};
use quorate_types::NodeName;
use tokio::{
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    commit::{Ask, Committer},
    conf_guard::COROSYNC_CONF,
    error::Error,
    local_conf::{ConfFile, OfferedConf, Readers, Unusable, install_credentials},
    status::{Notable, Status},
    view::View,
};

/// How long a ring may take to form with a new file, at least; more where the loss of a node is noticed late.
const BOUND: Duration = Duration::from_secs(10);
/// How many times the time in which the loss of a node is noticed.
const DETECTIONS: u32 = 4;
/// Between two looks at the local file, which an operator may edit, and between two attempts to write the tree.
const LOOK: Duration = Duration::from_secs(5);
/// How long a write of a file that is taken back may take.
const WRITE: Duration = Duration::from_secs(5);
/// Who writes, in the history of the file.
const CALLER: &str = "configd";

/// What is to be known of corosync.conf on this node, for whoever asks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfNotes(Arc<Mutex<Vec<String>>>);

impl ConfNotes {
    /// Sentences; none if all members use the same file and none is on its way.
    pub(crate) fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, notes: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = notes;
    }
}

/// What observers see of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfMetrics {
    differing: Gauge,
    waiting: Gauge,
    rolled_back: prometheus_client::metrics::counter::Counter,
}

impl ConfMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let new = Self::default();
        metrics.register(|registry| {
            registry.register("conf_members_differing", "Members that use another corosync.conf than this node while no change is on its way; anything but 0 can split the cluster", new.differing.clone());
            registry.register("conf_change_waits_for", "Members that have not stored the new corosync.conf yet; a lasting value above 0 names them in pvecm status", new.waiting.clone());
            registry.register("conf_changes_rolled_back", "Times that this node went back to the corosync.conf before because the ring did not form with the new one", new.rolled_back.clone());
        });
        new
    }
}

/// What the task is made of.
pub(crate) struct Parts {
    pub(crate) root: Root,
    pub(crate) name: NodeName,
    pub(crate) status: Status,
    pub(crate) view: View,
    pub(crate) committer: Committer,
    pub(crate) readers: Readers,
    pub(crate) notes: ConfNotes,
    pub(crate) metrics: ConfMetrics,
    pub(crate) shutdown: CancellationToken,
}

/// Follows the tree's corosync.conf until shutdown.
///
/// `contents` is the tree's file, once it is known to be the cluster's; `words` what members say, in the group's order.
pub(crate) async fn keep_in_force(
    parts: Parts,
    contents: watch::Receiver<Option<OfferedConf>>,
    words: mpsc::UnboundedReceiver<ConfInput>,
) {
    let change = ConfChange::new(BOUND);
    let task = Task { parts, change, offered: None, key: None, before: None, back: None, unusable: None };
    task.run(contents, words).await;
}

/// A file that goes into the tree in the place of one that is not used.
struct Back {
    instead_of: ConfId,
    file: ConfFile,
    reason: String,
}

struct Task {
    parts: Parts,
    change: ConfChange,
    /// What the tree has.
    offered: Option<ConfFile>,
    /// The ring's key that the tree has with it.
    key: Option<Bytes>,
    /// What was in force before the last change.
    before: Option<ConfFile>,
    back: Option<Back>,
    /// Why this node does not use what the tree has.
    unusable: Option<String>,
}

impl Task {
    async fn run(
        mut self,
        mut contents: watch::Receiver<Option<OfferedConf>>,
        mut words: mpsc::UnboundedReceiver<ConfInput>,
    ) {
        let shutdown = self.parts.shutdown.clone();
        let mut look = every(LOOK);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                word = words.recv() => match word {
                    Some(word) => self.feed(word),
                    None => return,
                },
                changed = contents.changed() => match changed {
                    Ok(()) => {
                        let content = contents.borrow_and_update().clone();
                        self.offer(content).await;
                    }
                    Err(_) => return,
                },
                () = until(self.change.next_deadline()) => self.feed(ConfInput::Timer),
                _ = look.tick() => {
                    self.look_at_local_file();
                    self.put_back().await;
                }
            }
            self.drain().await;
            self.tell();
        }
    }

    fn feed(&mut self, input: ConfInput) {
        let now = Instant::now();
        self.change.handle_input(now, ConfInput::Quorate(self.parts.status.is_quorate()));
        self.change.handle_input(now, input);
    }

    /// The local file may have been edited; it names this node's id.
    fn look_at_local_file(&mut self) -> Option<ConfFile> {
        let local = ConfFile::local(&self.parts.root);
        let me = local.as_ref().and_then(|file| file.conf.node_named(self.parts.name.as_str()));
        self.change.set_node(me.map(|node| node.id));
        let id = local.as_ref().map(|file| file.id);
        if id != self.change.local() || id.is_some() && self.change.waits_for().is_none() {
            self.feed(ConfInput::Local(id));
        }
        local
    }

    async fn offer(&mut self, content: Option<OfferedConf>) {
        let Some(OfferedConf { conf: content, key, device }) = content else { return };
        self.key = key;
        let local = self.look_at_local_file();
        self.unusable = None;
        let file = match ConfFile::parse(&content) {
            Ok(file) => file,
            Err(error) => return self.not_used(&error),
        };
        if file.conf.node_named(self.parts.name.as_str()).is_some()
            && let Err(error) = install_credentials(&self.parts.root, device.as_ref())
        {
            self.not_used(&error);
        }
        if let Some(local) = local.as_ref().filter(|local| local.id.version > file.id.version) {
            let (local, tree) = (local.id.version, file.id.version);
            tracing::error!(
                local,
                tree,
                "the local corosync.conf is newer than the cluster's: it is left alone"
            );
        } else if local.as_ref().is_some_and(|local| local.id == file.id) {
            self.parts.readers.reload_if_behind(file.id.version, &self.parts.shutdown).await;
        }
        let is_risky = local.is_some_and(|local| file.is_risky_after(&local));
        let nodes = file.conf.nodes.iter().map(|node| node.id).collect();
        let conf = file.id;
        self.offered = Some(file);
        self.feed(ConfInput::Offered { conf, nodes, is_risky });
    }

    fn not_used(&mut self, error: &Unusable) {
        let why = chain(error);
        tracing::error!(error = why, "corosync.conf of the tree is not used on this node");
        self.unusable = Some(why);
    }

    async fn drain(&mut self) {
        while let Some(output) = self.change.poll_output() {
            match output {
                ConfOutput::Prepare(conf) => self.prepare(conf).await,
                ConfOutput::Say(word) => self.say(&word),
                ConfOutput::Activate(conf) => self.activate(conf).await,
                ConfOutput::TakeBack { conf, reason } => {
                    // What differs by its version only has come back already: another try would end the same way.
                    let file = ConfFile::local(&self.parts.root).filter(|file| {
                        self.offered.as_ref().is_none_or(|offered| !offered.is_same_beside_version(file))
                    });
                    self.back = file.and_then(|file| Back::of(conf, &file, reason));
                    self.put_back().await;
                }
                ConfOutput::RollBack { conf, reason } => self.roll_back(conf, reason).await,
                ConfOutput::Confirmed(conf) => {
                    tracing::info!(
                        config_version = conf.version,
                        "the ring works with the new corosync.conf"
                    );
                }
            }
        }
    }

    fn say(&self, word: &Word) {
        if let Err(error) = self.parts.status.publish(CONF_WORD, Bytes::from(word.to_string())) {
            tracing::warn!(%error, "what this node says of corosync.conf is not told");
        }
    }

    async fn prepare(&mut self, conf: ConfId) {
        let Some(file) = self.offered.clone().filter(|file| file.id == conf) else { return };
        if let Some(ring) = self.parts.readers.ring().await {
            let worst = ring.detection_worst_case.and_then(|time| Duration::try_from(time).ok());
            self.change.set_bound(BOUND.max(worst.unwrap_or_default() * DETECTIONS));
        }
        let result = self.store(&file).await;
        if let Err(error) = &result {
            self.not_used(error);
        }
        self.feed(ConfInput::Prepared { conf, result: result.map_err(|error| chain(&error)) });
    }

    async fn store(&self, file: &ConfFile) -> Result<(), Unusable> {
        if file.conf.node_named(self.parts.name.as_str()).is_none() {
            return Err(Unusable::NotListed(self.parts.name.clone()));
        }
        let judged = self.parts.committer.ask_ring(file.text.clone(), Instant::now() + WRITE).await;
        judged.map_err(|error| match error {
            Error::ConfNotRunnable(why) => Unusable::NotRunnable(why),
            other => Unusable::NotRunnable(other.to_string()),
        })?;
        file.store(&self.parts.root, self.key.as_ref())
    }

    async fn activate(&mut self, conf: ConfId) {
        let before = ConfFile::local(&self.parts.root);
        match ConfFile::put_in_force(&self.parts.root) {
            Ok(()) => {
                tracing::info!(config_version = conf.version, "corosync.conf of this node replaced");
                self.before = before;
                self.parts.readers.reload(&self.parts.shutdown).await;
            }
            Err(error) => self.not_used(&error),
        }
    }

    /// All members do this alone: they may not hear each other.
    async fn roll_back(&mut self, conf: ConfId, reason: String) {
        tracing::error!(config_version = conf.version, reason, "the corosync.conf before comes back");
        self.parts.metrics.rolled_back.inc();
        let back = self.before.take().and_then(|file| Back::of(conf, &file, reason));
        let Some(back) = back else { return };
        let replaced = back.file.store(&self.parts.root, None);
        if let Err(error) = replaced.and_then(|()| ConfFile::put_in_force(&self.parts.root)) {
            return self.not_used(&error);
        }
        self.back = Some(back);
        self.look_at_local_file();
        self.parts.readers.reload(&self.parts.shutdown).await;
        self.put_back().await;
    }

    /// Writes what comes back into the tree, unless somebody has changed the file there; tried again until this node may
    /// write.
    async fn put_back(&mut self) {
        let Some(back) = &self.back else { return };
        let path: ConfigPath = COROSYNC_CONF.parse().expect("a plain name is a path");
        let present =
            self.parts.view.tree().get(&path).map(|entry| (entry.head().version, entry.content().clone()));
        let version = present.and_then(|(version, content)| {
            let is_it = ConfFile::parse(&content).is_ok_and(|file| file.id == back.instead_of);
            is_it.then_some(version)
        });
        let Some(version) = version else {
            self.back = None;
            return;
        };
        let operation = Operation::Put {
            path,
            expect: Expect::Version(version),
            content: Bytes::from(back.file.text.clone()),
        };
        let ask = Ask { id: RequestId(rand::random()), deadline: Instant::now() + WRITE, caller: CALLER };
        match self.parts.committer.commit(operation, ask).await {
            Ok(_) => {
                let (version, reason) = (back.instead_of.version, back.reason.clone());
                self.parts.status.note(&Notable::ConfTakenBack { version, reason });
                self.back = None;
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), retry = ?LOOK, "corosync.conf is not in the tree yet")
            }
        }
    }

    /// For whoever asks how things stand.
    fn tell(&self) {
        let waits = self.change.waits_for();
        let differing: Vec<_> = self.change.differing().collect();
        self.parts.metrics.differing.set(i64::try_from(differing.len()).unwrap_or(i64::MAX));
        let waiting = waits.as_ref().map_or(0, |(_, nodes)| nodes.len());
        self.parts.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let mut notes = Vec::new();
        if let Some((conf, nodes)) = waits {
            let names: Vec<String> = nodes.iter().map(|node| self.parts.status.name_of(*node)).collect();
            notes.push(format!(
                "corosync.conf of config_version {} waits for {}",
                conf.version,
                names.join(", ")
            ));
        }
        for (node, conf) in differing {
            let own = self.change.local().map_or(0, |local| local.version);
            notes.push(format!(
                "corosync.conf of {} (config_version {}) differs from this node's (config_version {own})",
                self.parts.status.name_of(node),
                conf.version,
            ));
        }
        if let Some(why) = &self.unusable {
            notes.push(format!("corosync.conf of the tree is not used on this node: {why}"));
        }
        self.parts.notes.set(notes);
    }
}

impl Back {
    fn of(instead_of: ConfId, file: &ConfFile, reason: String) -> Option<Self> {
        let file = file.with_version(instead_of.version.checked_add(1)?)?;
        Some(Self { instead_of, file, reason })
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
