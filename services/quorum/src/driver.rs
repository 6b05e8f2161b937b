//! The one task that owns the core: it feeds it, carries out what it wants, and publishes its state.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{future, stream::Stream};
use quorate_daemon::{Daemon, Health, telemetry::chain};
use quorate_proto::quorum::v1::{QuorumStatus, quorum_service_server::SERVICE_NAME};
use quorum_core::{Input, NodeState, NodeVotes, Output, Status, Votequorum};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::{
    board::{Board, Ring},
    config::{self, ConfigError, Role},
    device::{Device, Event, Said, device_status},
    error::Error,
    membership::{Attachment, LinkEvent, RingEvent},
    metrics::QuorumMetrics,
    overridden::Overridden,
    publish::Published,
    tracking::{TrackingError, TrackingFile},
};

/// Commands that may wait for the driver. An operator types them one at a time.
const COMMANDS_MAX: usize = 16;

/// How long the ring may take to deliver an override of the expected votes: several times the longest
/// formation of a ring with the default timers.
const OVERRIDE_DEADLINE: Duration = Duration::from_secs(10);

/// What is asked of the driver.
enum Command {
    SetExpected { votes: u32, lifetime: Option<Duration>, answer: oneshot::Sender<Result<(), Error>> },
    Reload { role: Role, answer: oneshot::Sender<()> },
}

/// The receiving end of the handle's commands.
pub(crate) struct Commands(mpsc::Receiver<Command>);

/// Asks the driver; what the gRPC service holds.
#[derive(Clone)]
pub(crate) struct QuorumHandle {
    daemon: Daemon,
    commands: mpsc::Sender<Command>,
    published: Arc<Published>,
}

impl QuorumHandle {
    /// The present state.
    pub(crate) fn status(&self) -> QuorumStatus {
        self.published.current()
    }

    /// The present state, then each change.
    pub(crate) fn watch(&self) -> impl Stream<Item = QuorumStatus> + Send + use<> {
        self.published.watch()
    }

    /// Overrides the expected votes on all members, for a time if one is given; returns the state in which that is in
    /// force.
    pub(crate) async fn set_expected(
        &self,
        votes: u32,
        lifetime: Option<Duration>,
    ) -> Result<QuorumStatus, Error> {
        let mut states = std::pin::pin!(self.watch());
        let (answer, accepted) = oneshot::channel();
        self.send(Command::SetExpected { votes, lifetime, answer }).await?;
        accepted.await.map_err(|_| Error::Stopping)??;
        let in_force = async {
            while let Some(status) = states.next().await {
                if status.ring_present && status.expected_votes == votes {
                    return Some(status);
                }
            }
            None
        };
        let in_force = tokio::time::timeout(OVERRIDE_DEADLINE, in_force).await;
        in_force.ok().flatten().ok_or(Error::OutcomeUnknown { given: votes })
    }

    /// Reads corosync.conf again; returns the `config_version` in force, 0 if in no cluster. Mistakes leave
    /// the old configuration in force.
    pub(crate) async fn reload(&self) -> Result<u64, Error> {
        let role = read_again(&self.daemon).await?;
        let version = role.config_version();
        let (answer, applied) = oneshot::channel();
        self.send(Command::Reload { role, answer }).await?;
        applied.await.map_err(|_| Error::Stopping)?;
        Ok(version)
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Stopping)
    }
}

/// Why a driver cannot start. Starting again will not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// corosync.conf cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `ev_tracking` cannot be used.
    #[error(transparent)]
    Tracking(#[from] TrackingError),
}

/// Owns the core.
pub(crate) struct Driver {
    daemon: Daemon,
    role: Role,
    /// There is one exactly if this is a node of a cluster.
    engine: Option<Votequorum>,
    attachment: Option<Attachment>,
    /// There is one if corosync.conf names a device that is supported.
    device: Option<Device>,
    ring: Ring,
    board: Board,
    tracking_file: TrackingFile,
    /// What the file holds.
    tracked: Option<u32>,
    /// Whoever waits for the core's word on expected votes.
    asked: Option<oneshot::Sender<Result<(), Error>>>,
    /// The operator's override that was asked for here.
    overridden: Option<Overridden>,
    /// The core has just taken an override.
    accepted: bool,
    published: Arc<Published>,
    metrics: QuorumMetrics,
    serving: bool,
}

impl Driver {
    /// Reads corosync.conf and `ev_tracking`; nothing runs yet.
    pub(crate) fn new(daemon: &Daemon) -> Result<Self, StartError> {
        let role = config::load(daemon)?;
        let tracking_file = TrackingFile::new(&daemon.state_dir());
        let tracked = tracking_file.load()?;
        let engine = engine_of(&role, tracked);
        let device = Device::of(&role, &daemon.root);
        let ring = Ring::Absent("membershipd was not reached yet".to_owned());
        let now = SystemTime::now();
        let mut board = Board::new(now);
        let status = board.status(&role, &ring, engine.as_ref().map(Votequorum::status).as_ref(), now);
        let metrics = daemon.metrics.register(QuorumMetrics::register);
        metrics.copy(&status, &status);
        Ok(Self {
            daemon: daemon.clone(),
            role,
            engine,
            attachment: None,
            device,
            ring,
            board,
            tracking_file,
            tracked,
            asked: None,
            overridden: None,
            accepted: false,
            published: Arc::new(Published::new(status)),
            metrics,
            serving: false,
        })
    }

    /// The handle that asks this driver.
    pub(crate) fn handle(&self) -> (QuorumHandle, Commands) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let published = self.published.clone();
        (QuorumHandle { daemon: self.daemon.clone(), commands, published }, Commands(receiver))
    }

    /// Drives the core until shutdown, or until the link or the handle is gone.
    pub(crate) async fn run(
        mut self,
        mut link: mpsc::Receiver<LinkEvent>,
        Commands(mut commands): Commands,
        health: Health,
        shutdown: CancellationToken,
    ) {
        loop {
            let deadline = self.next_deadline();
            let expiry = self.overridden.as_ref().and_then(Overridden::ends);
            tokio::select! {
                event = link.recv() => match event {
                    Some(event) => self.handle_link(event).await,
                    None => return,
                },
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command).await,
                    None => return,
                },
                event = device_event(&mut self.device) => self.handle_device(event),
                () = until(deadline) => self.tick().await,
                () = until(expiry) => self.end_override().await,
                () = shutdown.cancelled() => break,
            }
            self.publish(&health).await;
            self.talk_to_device(&health).await;
        }
        self.feed(Input::Leave).await;
    }

    async fn handle_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Attached(attachment) => {
                tracing::info!("attached to membershipd");
                self.metrics.attached();
                self.attachment = Some(attachment);
                self.ring = Ring::Absent("membershipd has no ring yet".to_owned());
            }
            // What a link that was given up still had to say is of the past.
            LinkEvent::Ring(_) if self.attachment.is_none() => {}
            LinkEvent::Ring(events) => {
                for event in events {
                    self.handle_ring(event).await;
                }
            }
            LinkEvent::Members(departures) => self.board.departed(&departures),
            LinkEvent::Lost(reason) => self.lose_ring(reason).await,
        }
    }

    async fn handle_ring(&mut self, event: RingEvent) {
        match event {
            RingEvent::SyncStarted { ring, members, transitional } => {
                // Until the members have exchanged their votes, the state of the ring before counts.
                if self.ring != Ring::Synchronised {
                    self.ring = Ring::Synchronising;
                }
                let device = qdevice_core::Input::Ring { ring, members: members.clone() };
                self.feed(Input::SyncStarted { ring, members, transitional }).await;
                self.tell_device(device);
            }
            RingEvent::Message { from, message } => self.feed(Input::Message { from, message }).await,
            RingEvent::SyncActivated { ring } => {
                self.ring = Ring::Synchronised;
                self.feed(Input::SyncActivated { ring }).await;
            }
            RingEvent::SyncAborted => self.feed(Input::SyncAborted).await,
            RingEvent::RingDown { reason } => {
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                self.ring = Ring::Absent(format!("this node has left the ring{why}"));
                self.feed(Input::RingLost).await;
                self.tell_device(qdevice_core::Input::RingLost);
            }
            RingEvent::ConfigurationReloaded => match read_again(&self.daemon).await {
                Ok(role @ Role::Node(_)) => self.reload(role).await,
                Ok(Role::NoCluster | Role::NotListed) => {
                    tracing::warn!("there is no corosync.conf to reload")
                }
                Err(err) => tracing::error!(error = chain(&err), "corosync.conf is not applied"),
            },
        }
    }

    async fn handle_command(&mut self, command: Command) {
        match command {
            Command::SetExpected { votes, lifetime, answer } => {
                tracing::info!(votes, ?lifetime, "an operator overrides the expected votes");
                self.asked = Some(answer);
                let before = self.overridden.replace(Overridden::new(votes, lifetime));
                self.feed(Input::SetExpected { expected: votes }).await;
                if !std::mem::take(&mut self.accepted) {
                    self.overridden = before;
                }
                if let Some(answer) = self.asked.take() {
                    let reason = self.published.current().reason;
                    let _ = answer.send(Err(Error::NoRing { reason }));
                }
            }
            Command::Reload { role, answer } => {
                self.reload(role).await;
                let _ = answer.send(());
            }
        }
    }

    /// The override has expired: what corosync.conf says counts again, on all members.
    async fn end_override(&mut self) {
        self.overridden = None;
        if let Role::Node(cluster) = &self.role {
            let config = cluster.quorum_config();
            tracing::warn!(
                expected_votes = config.expected_votes,
                "the override of the expected votes has expired"
            );
            self.feed(Input::Reconfigure(config)).await;
        }
    }

    /// Puts another configuration in force. A node that came into a cluster, or left it, needs a new link:
    /// membershipd tells a new engine all about the present ring.
    async fn reload(&mut self, role: Role) {
        tracing::info!(config_version = role.config_version(), "configuration");
        let same_node = role.node_id().is_some() && role.node_id() == self.role.node_id();
        // The new configuration says what to expect.
        self.overridden = None;
        self.role = role;
        match (&self.role, same_node) {
            (Role::Node(cluster), true) => {
                let quorum_config = cluster.quorum_config();
                let is_new = match (&mut self.device, Device::of(&self.role, &self.daemon.root)) {
                    (Some(device), Some(_)) => {
                        device.reconfigure(cluster);
                        false
                    }
                    (present, device) => {
                        *present = device;
                        true
                    }
                };
                self.feed(Input::Reconfigure(quorum_config)).await;
                if is_new {
                    self.show_ring_to_device();
                }
            }
            _ => {
                self.device = Device::of(&self.role, &self.daemon.root);
                self.engine = engine_of(&self.role, self.tracked);
                self.lose_ring("the configuration was changed".to_owned()).await;
            }
        }
    }

    async fn lose_ring(&mut self, reason: String) {
        self.attachment = None;
        self.ring = Ring::Absent(reason);
        self.feed(Input::RingLost).await;
        self.tell_device(qdevice_core::Input::RingLost);
    }

    /// When the engine or the device wants to be woken.
    fn next_deadline(&self) -> Option<Instant> {
        let engine = self.engine.as_ref().and_then(Votequorum::next_deadline);
        let device = self.device.as_ref().and_then(Device::next_deadline);
        engine.into_iter().chain(device).min()
    }

    async fn tick(&mut self) {
        self.feed(Input::Timer).await;
        self.tell_device(qdevice_core::Input::Timer);
    }

    fn handle_device(&mut self, event: Event) {
        if let Some(device) = &mut self.device {
            device.handle_event(event);
        }
    }

    fn tell_device(&mut self, input: qdevice_core::Input) {
        if let Some(device) = &mut self.device {
            device.handle(input);
        }
    }

    /// Tells the device that was just configured in which ring this node is.
    fn show_ring_to_device(&mut self) {
        let Some(Status { ring: Some(ring), nodes, .. }) = self.engine.as_ref().map(Votequorum::status)
        else {
            return;
        };
        let is_member = |node: &&NodeVotes| node.state != NodeState::Dead;
        let members = nodes.iter().filter(is_member).map(|node| node.node).collect();
        self.tell_device(qdevice_core::Input::Ring { ring, members });
    }

    /// Carries out what the device's client wants. What the arbiter says is in force, and published, before the
    /// arbiter hears that this node knows it.
    async fn talk_to_device(&mut self, health: &Health) {
        if let Some(status) = self.engine.as_ref().map(Votequorum::status)
            && self.ring == Ring::Synchronised
        {
            let nodes = status.nodes.iter().map(|node| (node.node, state_for_device(node.state))).collect();
            self.tell_device(qdevice_core::Input::Quorum { quorate: status.quorate, nodes });
        }
        while let Some(Said { ring, vote }) = self.device.as_mut().and_then(Device::carry_out) {
            self.feed(Input::Device { ring, vote }).await;
            self.publish(health).await;
        }
    }

    /// One input, then all outputs.
    async fn feed(&mut self, input: Input) {
        let Some(engine) = &mut self.engine else { return };
        engine.handle_input(Instant::now(), input);
        while let Some(output) = self.engine.as_mut().and_then(Votequorum::poll_output) {
            self.carry_out(output).await;
        }
    }

    async fn carry_out(&mut self, output: Output) {
        let sent = match output {
            Output::SyncMessages { ring, messages } => {
                self.attachment.as_ref().map(|link| link.sync_messages(ring, messages))
            }
            Output::Multicast(message) => self.attachment.as_ref().map(|link| link.multicast(message)),
            Output::StoreExpectedTracking(votes) => return self.store_tracked(votes).await,
            Output::ExpectedAccepted { .. } => {
                self.accepted = true;
                return self.answer(Ok(()));
            }
            Output::ExpectedRefused(refusal) => return self.answer(Err(Error::Refused(refusal))),
            // The state is published once all outputs are carried out.
            Output::Changed(_) => return,
        };
        if let Some(Err(err)) = sent {
            tracing::warn!(error = chain(&err), "giving up the link to membershipd");
            self.attachment = None;
        }
    }

    fn answer(&mut self, answer: Result<(), Error>) {
        if let Some(asked) = self.asked.take() {
            let _ = asked.send(answer);
        }
    }

    /// A number that cannot be stored is missed only after a restart: that is no reason to stop voting.
    async fn store_tracked(&mut self, votes: u32) {
        self.tracked = Some(votes);
        let file = self.tracking_file.clone();
        let stored = tokio::task::spawn_blocking(move || file.store(votes)).await;
        if let Ok(Err(err)) = stored {
            tracing::error!(error = chain(&err), votes, "expected votes are not tracked over a restart");
        }
    }

    async fn publish(&mut self, health: &Health) {
        let count = self.engine.as_ref().map(Votequorum::status);
        let mut status = self.board.status(&self.role, &self.ring, count.as_ref(), SystemTime::now());
        status.expected_override = Overridden::follow(&mut self.overridden, &status);
        status.device = device_status(&self.role, self.device.as_ref(), count.as_ref());
        let before = self.published.current();
        self.metrics.copy(&before, &status);
        if before.quorate && !status.quorate {
            tracing::warn!(reason = status.reason, "quorum lost");
        } else if before.reason != status.reason && !status.quorate {
            tracing::info!(reason = status.reason, "not quorate");
        }
        let serving = status.ring_present;
        self.published.publish(status);
        if serving != self.serving {
            self.serving = serving;
            health.set(SERVICE_NAME, serving).await;
        }
    }
}

/// What happens on the connection to the arbiter; never, without a device.
async fn device_event(device: &mut Option<Device>) -> Event {
    match device {
        Some(device) => device.next_event().await,
        None => future::pending().await,
    }
}

/// What corosync.conf says now.
async fn read_again(daemon: &Daemon) -> Result<Role, Error> {
    let daemon = daemon.clone();
    let read = tokio::task::spawn_blocking(move || config::reload(&daemon));
    Ok(read.await.map_err(|_| Error::Stopping)??)
}

const fn state_for_device(state: NodeState) -> qdevice_core::NodeState {
    match state {
        NodeState::Member => qdevice_core::NodeState::Member,
        NodeState::Dead => qdevice_core::NodeState::Dead,
        NodeState::Leaving => qdevice_core::NodeState::Leaving,
    }
}

fn engine_of(role: &Role, tracked: Option<u32>) -> Option<Votequorum> {
    match role {
        Role::Node(cluster) => Some(Votequorum::new(cluster.me, cluster.quorum_config(), tracked)),
        Role::NoCluster | Role::NotListed => None,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        // The runtime's clock has a grain of a millisecond and would round what is due up to the next one.
        Some(deadline) if deadline <= Instant::now() => {}
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => future::pending().await,
    }
}
