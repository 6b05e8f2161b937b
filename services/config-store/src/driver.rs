//! The one task that owns the replica: it feeds it and carries out what it asks for.
//!
//! Inputs are calls, what the group delivers, the votes, batches that reached the disk, and time. A burst
//! of the group is handed in whole, so that the replica stores it as one batch.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use config_store_core::{
    Applied, BatchId, Change, ConfigPath, Envelope, Extensions, FileVersion, Handle, Input, Operation,
    OperationRequest, Output, Replica, Reply, RequestId, State, Tree,
};
use corosync_conf::{DEVICE_CREDENTIALS_PATH, RING_KEY_PATH};
use quorate_daemon::Health;
use quorate_proto::{config::v1 as proto, quorum::v1::QuorumStatus};
use quorate_types::RingId;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    aside::{self, Why},
    conf_guard::{self, COROSYNC_CONF},
    convert,
    error::Error,
    group::GroupInput,
    group_events,
    handle::{Command, Write},
    identity::{Identity, IdentitySource},
    local_conf::OfferedConf,
    metrics::StoreMetrics,
    opening::{self, Place},
    refusal,
    rocks::StoreError,
    status::{Notable, Status},
    store_thread::{StoreThread, Written},
    view::View,
    votes,
    watchers::Watchers,
};

/// Between two attempts to use a store that failed.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// Stands for "no batch at all" when the store fails while none is under way.
const NO_BATCH: BatchId = 0;

/// What the driver is made of.
pub(crate) struct Parts {
    pub(crate) store_path: PathBuf,
    pub(crate) identities: IdentitySource,
    /// The tree as readers see it.
    pub(crate) view: View,
    /// Where the cluster reads what happened to this node's tree and votes.
    pub(crate) status: Status,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) group: mpsc::Receiver<GroupInput>,
    pub(crate) quorum: mpsc::Receiver<Option<QuorumStatus>>,
    /// Wakes the group's task to leave and join anew.
    pub(crate) rejoin: Arc<Notify>,
    /// Follows the tree's corosync.conf.
    pub(crate) conf: watch::Sender<Option<OfferedConf>>,
    pub(crate) health: Health,
    pub(crate) metrics: StoreMetrics,
    pub(crate) shutdown: CancellationToken,
}

enum Waiting {
    /// With the size of the content that is written.
    Write(Option<u64>, oneshot::Sender<Result<(Applied, Option<proto::Entry>), Error>>),
    Transaction(oneshot::Sender<Result<(Applied, Vec<proto::Change>), Error>>),
    Barrier(oneshot::Sender<Result<(), Error>>),
}

impl Waiting {
    /// Whoever waits for the answer and is gone need not be told.
    fn fail(self, error: Error) {
        match self {
            Self::Write(_, answer) => drop(answer.send(Err(error))),
            Self::Transaction(answer) => drop(answer.send(Err(error))),
            Self::Barrier(answer) => drop(answer.send(Err(error))),
        }
    }
}

/// The replica and everything around it.
pub(crate) struct Driver {
    parts: Parts,
    replica: Replica,
    identity: Identity,
    store: StoreThread,
    written: mpsc::UnboundedReceiver<Written>,
    outgoing: Option<mpsc::UnboundedSender<Vec<Bytes>>>,
    multicasts: Vec<Bytes>,
    votes: Option<QuorumStatus>,
    waiting: BTreeMap<Handle, Waiting>,
    last_handle: Handle,
    watchers: Watchers,
    /// Spans of operations whose batch is not on disk yet.
    applying: Vec<Span>,
    ring: RingId,
    conflict_entries: u64,
    store_failure: Option<String>,
    store_retry: Option<Instant>,
    batch_started: Option<Instant>,
}

enum Turn {
    Command(Option<Command>),
    Group(Option<GroupInput>),
    Quorum(Option<Option<QuorumStatus>>),
    Written(Written),
    Deadline,
    Stop,
}

impl Driver {
    /// Opens the store and loads the replica. From a store that can only be read it becomes a replica that can only
    /// be read, until the store can be written again.
    pub(crate) fn open(parts: Parts) -> Result<Self, Error> {
        let identity = parts.identities.read()?;
        let place = Place { path: &parts.store_path, repair: parts.identities.has_peers() };
        let (opened, failure) = opening::open_or_read(place, &identity)?;
        tracing::info!(version = opened.replica.tree().version(), checksum = %opened.replica.tree().checksum(), standalone = identity.node.is_none(), "replica loaded");
        note_repair(&parts.status, opened.damaged.as_deref());
        parts.view.reset(opened.replica.tree().clone());
        let mut driver = Self {
            parts,
            identity,
            replica: opened.replica,
            store: opened.store,
            written: opened.written,
            conflict_entries: opened.conflict_entries,
            outgoing: None,
            multicasts: Vec::new(),
            votes: None,
            waiting: BTreeMap::new(),
            last_handle: 0,
            watchers: Watchers::default(),
            applying: Vec::new(),
            ring: RingId::default(),
            store_failure: None,
            store_retry: None,
            batch_started: None,
        };
        if let Some(error) = failure {
            driver.store_failed(Some(NO_BATCH), &error);
        }
        Ok(driver)
    }

    /// Runs until shutdown, then closes the store.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        self.drain().await;
        loop {
            match self.wait().await {
                Turn::Stop | Turn::Command(None) | Turn::Group(None) | Turn::Quorum(None) => break,
                Turn::Command(Some(command)) => self.command(command).await,
                Turn::Group(Some(input)) => self.group(input),
                Turn::Quorum(Some(status)) => self.quorum(status),
                Turn::Written(written) => self.written(written),
                Turn::Deadline => self.deadline().await,
            }
            self.drain().await;
            self.publish().await;
        }
        self.store.close().await;
        Ok(())
    }

    async fn wait(&mut self) -> Turn {
        let deadline = [self.replica.next_deadline(), self.store_retry].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = self.parts.shutdown.cancelled() => Turn::Stop,
            // No thread, no completions: while the store is closed there is nothing to wait for here.
            Some(written) = self.written.recv() => Turn::Written(written),
            status = self.parts.quorum.recv() => Turn::Quorum(status),
            input = self.parts.group.recv() => Turn::Group(input),
            () = until(deadline) => Turn::Deadline,
            command = self.parts.commands.recv() => Turn::Command(command),
        }
    }

    fn feed(&mut self, input: Input) {
        self.replica.handle_input(Instant::now(), input);
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Write { write, answer } => {
                let size = match &write.operation {
                    Operation::Put { content, .. } => Some(content.len() as u64),
                    _ => None,
                };
                self.write(write, Waiting::Write(size, answer));
            }
            Command::Transact { write, answer } => self.write(write, Waiting::Transaction(answer)),
            Command::Barrier { deadline, answer } => {
                let handle = self.next_handle(Waiting::Barrier(answer));
                self.feed(Input::Barrier { handle, id: RequestId(rand::random()), deadline });
            }
            Command::Watch { prefix, after, answer } => {
                let _ = answer.send(self.watchers.add(&self.replica, &self.parts.view.tree(), prefix, after));
            }
            Command::Versions { path, before, limit, answer } => {
                let _ = answer.send(self.versions(&path, before, limit));
            }
            Command::ReadStore { read } => self.store.read(read),
            Command::ConflictDropped { entries } => {
                self.conflict_entries = self.conflict_entries.saturating_sub(entries);
            }
            Command::Status { answer } => {
                let _ = answer.send(self.status());
            }
            Command::Reload { discard_tree, answer } => {
                let _ = answer.send(self.reload(discard_tree).await);
            }
        }
    }

    fn next_handle(&mut self, waiting: Waiting) -> Handle {
        self.last_handle += 1;
        self.waiting.insert(self.last_handle, waiting);
        self.last_handle
    }

    fn write(&mut self, write: Write, waiting: Waiting) {
        let tree = self.replica.tree();
        let name = self.parts.identities.name();
        if let Err(refusal) = conf_guard::check(&write.operation, tree, &self.identity, name) {
            return waiting.fail(Error::ConfRefused(refusal));
        }
        let mut extensions = Extensions::default();
        if !write.caller.is_empty() {
            extensions.push_caller(&write.caller).expect("a bounded name is the first extension");
        }
        let handle = self.next_handle(waiting);
        let request = OperationRequest {
            id: write.id,
            mtime: now_seconds(),
            trace: write.trace,
            extensions,
            operation: write.operation,
        };
        self.feed(Input::Request { handle, request, deadline: write.deadline });
    }

    fn group(&mut self, input: GroupInput) {
        match input {
            GroupInput::Joined(outgoing) => {
                self.multicasts.clear();
                self.outgoing = Some(outgoing);
            }
            GroupInput::Lost => {
                self.outgoing = None;
                self.feed(Input::GroupLost);
            }
            GroupInput::Batch(events) => {
                for event in events {
                    let Some(input) = group_events::happened(event).map(Input::from) else { continue };
                    if let Input::Members { ring, .. } = &input {
                        self.ring = *ring;
                    }
                    self.feed(input);
                }
                self.feed(Input::EndOfBatch);
            }
        }
    }

    fn quorum(&mut self, status: Option<QuorumStatus>) {
        let input = match status.as_ref().and_then(votes::view) {
            Some(view) => Input::Quorum(view),
            None => Input::QuorumLost,
        };
        self.parts
            .status
            .set_quorate(status.as_ref().is_some_and(|status| status.ring_present && status.quorate));
        // The last known votes say who is missing even when quorumd itself is gone.
        if status.is_some() {
            self.votes = status;
        }
        self.feed(input);
    }

    fn written(&mut self, (batch, result): Written) {
        if let Some(started) = self.batch_started.take() {
            self.parts.metrics.batch_written(started.elapsed());
        }
        self.applying.clear();
        match result {
            Ok(()) => self.feed(Input::Stored { batch }),
            Err(error) => self.store_failed(Some(batch), &error.into()),
        }
    }

    fn store_failed(&mut self, batch: Option<u64>, error: &Error) {
        let text = quorate_daemon::telemetry::chain(error);
        tracing::error!(error = text, retry = ?STORE_RETRY, "the store failed: this replica is read-only and leaves the group");
        self.store_failure = Some(text);
        self.store_retry = Some(Instant::now() + STORE_RETRY);
        if let Some(batch) = batch {
            self.feed(Input::StoreFailed { batch });
        }
        self.leave_group();
    }

    fn leave_group(&mut self) {
        self.outgoing = None;
        self.multicasts.clear();
        self.parts.rejoin.notify_one();
    }

    async fn deadline(&mut self) {
        if self.store_retry.is_some_and(|retry| retry <= Instant::now()) {
            self.store_retry = None;
            if let Err(error) = self.restart().await {
                self.store_failed(None, &error);
            }
        }
        self.feed(Input::Timer);
    }

    /// Loads the replica anew from its store, as the node that corosync.conf says.
    async fn restart(&mut self) -> Result<(), Error> {
        let identity = self.parts.identities.read()?;
        self.stop_store().await;
        self.install(identity)
    }

    /// Ends the store's thread, so that the store may be opened again.
    async fn stop_store(&mut self) {
        self.fail_waiting();
        let (batches, written) = mpsc::unbounded_channel();
        drop(batches);
        let ended = std::mem::replace(&mut self.store, StoreThread::ended());
        self.written = written;
        self.batch_started = None;
        ended.close().await;
    }

    fn install(&mut self, identity: Identity) -> Result<(), Error> {
        let place = Place { path: &self.parts.store_path, repair: self.parts.identities.has_peers() };
        let opened = opening::open(place, &identity)?;
        note_repair(&self.parts.status, opened.damaged.as_deref());
        self.replica = opened.replica;
        self.parts.view.reset(self.replica.tree().clone());
        self.store = opened.store;
        self.written = opened.written;
        self.conflict_entries = opened.conflict_entries;
        self.identity = identity;
        self.store_failure = None;
        self.watchers.reset(self.replica.tree().version());
        if let Some(view) = self.votes.as_ref().and_then(votes::view) {
            self.feed(Input::Quorum(view));
        }
        self.leave_group();
        Ok(())
    }

    /// Whoever waits on a replica that is given up cannot be told more than this.
    fn fail_waiting(&mut self) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            waiting.fail(Error::Stopped);
        }
    }

    async fn reload(&mut self, discard_tree: bool) -> Result<String, Error> {
        let identity = self.parts.identities.read()?;
        if !discard_tree && identity == self.identity {
            return Ok(String::new());
        }
        self.stop_store().await;
        let reloaded = self.reopen(discard_tree, identity);
        if let Err(error) = &reloaded {
            // The store is closed: without a word to the replica its next batch would be lost.
            self.store_failed(Some(NO_BATCH), error);
        }
        let backup = reloaded?.display().to_string();
        tracing::info!(standalone = self.identity.node.is_none(), backup, "replica reloaded");
        Ok(backup)
    }

    fn reopen(&mut self, discard_tree: bool, identity: Identity) -> Result<PathBuf, Error> {
        let backup = match discard_tree {
            true => aside::set_aside(&self.parts.store_path, Why::BeforeJoin)?,
            false => PathBuf::new(),
        };
        self.install(identity)?;
        Ok(backup)
    }

    /// Carries out everything the replica asks for.
    async fn drain(&mut self) {
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Multicast(message) => self.multicasts.push(message),
                Output::Store(batch) => {
                    self.batch_started = Some(Instant::now());
                    self.store.write(batch);
                }
                Output::Reply { handle, reply } => self.reply(handle, reply),
                Output::Performed { envelope, result, .. } => self.performed(&envelope, result.is_ok()),
                Output::Certain(steps) => self.parts.view.follow(steps),
                Output::Changed(changes) => self.changed(&changes),
                Output::WatchReset { version } => {
                    self.watchers.reset(version);
                    self.follow_conf();
                }
                Output::Adopted { from, version, changed, removed } => {
                    tracing::info!(
                        from,
                        version,
                        changed = changed.len(),
                        removed = removed.len(),
                        "tree taken over from the cluster"
                    );
                    self.parts.status.note(&Notable::TreeTakenOver { from, version });
                    self.follow_conf();
                }
                Output::StateChanged { to, .. } => {
                    if matches!(to, State::Local | State::Synced) {
                        aside::remembered(&self.parts.store_path);
                    }
                    self.parts.health.set(crate::SERVICE, matches!(to, State::Local | State::Synced)).await;
                    if to == State::Synced {
                        self.follow_conf();
                    }
                }
                Output::ConflictKept { paths, .. } => {
                    self.conflict_entries += paths.len() as u64;
                    tracing::warn!(
                        entries = paths.len(),
                        first = paths.first().map(ToString::to_string),
                        "what this replica wrote without the cluster was kept as a conflict copy"
                    );
                    self.parts.status.note(&Notable::ConflictKept { entries: paths.len() });
                }
                Output::DivergenceDetected { node, version } => {
                    tracing::error!(%node, version, "a replica differs at the same version; synchronising");
                }
            }
        }
        let multicasts = std::mem::take(&mut self.multicasts);
        if let Some(outgoing) = self.outgoing.as_ref().filter(|_| !multicasts.is_empty()) {
            // A stream that has ended is reported through its own input.
            let _ = outgoing.send(multicasts);
        }
    }

    fn reply(&mut self, handle: Handle, reply: Reply) {
        let Some(waiting) = self.waiting.remove(&handle) else { return };
        let reply = reply
            .map_err(|error| refusal::explain(error, self.votes.as_ref(), self.store_failure.as_deref()));
        match waiting {
            Waiting::Write(size, answer) => {
                // Not the entry as it is now: others may have written it since, and a caller who took their version for
                // its own would overwrite what it never saw.
                let tree = self.parts.view.tree();
                let entry = |applied: &Applied| {
                    let record = self.replica.log().get(applied.version)?;
                    convert::written(&record.change, size, tree.entry(applied.inode))
                };
                let _ = answer.send(reply.map(|applied| (applied.clone(), entry(&applied))));
            }
            Waiting::Transaction(answer) => {
                let _ = answer.send(reply.map(|applied| (applied.clone(), self.changes_of(&applied))));
            }
            Waiting::Barrier(answer) => drop(answer.send(reply.map(|_| ()))),
        }
    }

    /// What readers may know of the past: nothing that can still be lost.
    fn versions(&self, path: &ConfigPath, before: u64, limit: usize) -> Vec<FileVersion> {
        let before = before.min(self.parts.view.tree().version().saturating_add(1));
        self.replica.file_history().versions(path, before).take(limit).cloned().collect()
    }

    /// What a transaction changed, given its last version; nothing if it only checked.
    fn changes_of(&self, applied: &Applied) -> Vec<proto::Change> {
        let log = self.replica.log();
        let Some(last) = log.get(applied.version).filter(|_| applied.inode != 0) else { return Vec::new() };
        let versions = (log.first()..=applied.version).rev();
        let records =
            versions.map_while(|version| log.get(version)).take_while(|one| one.request == last.request);
        let tree = self.parts.view.tree();
        let mut changes: Vec<_> = records.map(|record| convert::change(&record.change, &tree)).collect();
        changes.reverse();
        changes
    }

    /// An apply span on every node, child of the caller's span, open until the batch is on disk.
    fn performed(&mut self, envelope: &Envelope, applied: bool) {
        self.parts.metrics.operation(envelope.operation.name(), applied);
        let Some(trace) = &envelope.trace else { return };
        let span = tracing::info_span!(
            "config.apply",
            otel.kind = "consumer",
            operation = envelope.operation.name(),
            path = %envelope.operation.path(),
            origin = envelope.origin,
            ring = %self.ring,
            version = self.replica.tree().version(),
            applied,
        );
        quorate_daemon::trace_context::set_remote_parent(&span, &convert::traceparent(trace));
        self.applying.push(span);
    }

    fn changed(&mut self, changes: &[Change]) {
        self.watchers.tell(changes, &self.parts.view.tree());
        let touches_conf =
            |path: &ConfigPath| [COROSYNC_CONF, DEVICE_CREDENTIALS_PATH].contains(&path.as_str());
        // Without quorum, too: it is certain, and may be what brings the quorum back.
        let of_the_cluster = matches!(self.replica.state(), State::Synced | State::NotQuorate);
        if of_the_cluster && changes.iter().any(|change| touches_conf(&change.path)) {
            self.offer_conf(&self.parts.view.tree());
        }
    }

    /// Offers the tree's corosync.conf to this node, once it is known to be the cluster's.
    fn follow_conf(&self) {
        if self.replica.state() == State::Synced {
            self.offer_conf(self.replica.tree());
        }
    }

    fn offer_conf(&self, tree: &Tree) {
        let path: ConfigPath = COROSYNC_CONF.parse().expect("a plain name is a path");
        let key: ConfigPath = RING_KEY_PATH.parse().expect("a plain path is one");
        let content = |path| tree.get(path).map(|entry| entry.content().clone());
        let device: ConfigPath = DEVICE_CREDENTIALS_PATH.parse().expect("a plain path is one");
        let offered = content(&path).map(|conf| {
            let (key, device) = (content(&key), content(&device));
            OfferedConf { conf, key, device }
        });
        self.parts.conf.send_if_modified(|known| {
            let changed = *known != offered;
            *known = offered;
            changed
        });
    }

    async fn publish(&mut self) {
        self.parts.metrics.publish(&self.replica);
        self.parts.view.set_writable(matches!(
            self.replica.state(),
            State::Local | State::Synchronising | State::Synced
        ));
        if self.replica.state() == State::Failed {
            self.parts.health.set(crate::SERVICE, false).await;
        }
    }

    fn status(&self) -> proto::GetStatusResponse {
        let (replica, tree) = (&self.replica, self.replica.tree());
        proto::GetStatusResponse {
            state: convert::state(replica.state()).into(),
            version: tree.version(),
            checksum: tree.checksum().to_string(),
            epoch: replica.epoch().seq,
            durable_version: replica.committed(),
            entries: tree.entry_count() as u64,
            content_bytes: tree.byte_count() as u64,
            oldest_version: replica.log().first(),
            ring: Some(self.ring.into()),
            members: replica.members().iter().map(|node| node.get()).collect(),
            conflict_copies: self.conflict_entries,
            reason: refusal::state_reason(replica, self.votes.as_ref(), self.store_failure.as_deref()),
            // Who answers knows.
            mount: String::new(),
            configuration_notes: Vec::new(),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        // The runtime's clock has a grain of a millisecond and would round what is due up to the next one.
        Some(deadline) if deadline <= Instant::now() => {}
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Writes into the cluster log that this node's store had to be given up.
fn note_repair(status: &Status, damaged: Option<&Path>) {
    if let Some(path) = damaged {
        status.note(&Notable::StoreDamaged { path: path.to_owned() });
    }
}

/// Whole UTC seconds by this node's clock.
fn now_seconds() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() as u32)
}

/// What [`Driver::open`] can fail with besides the store: kept apart so that `lib.rs` can tell a damaged
/// store from a bad configuration.
pub(crate) fn is_configuration(error: &Error) -> bool {
    matches!(error, Error::Conf { .. } | Error::Store(StoreError::Damaged { .. }))
}
