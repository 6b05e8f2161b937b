//! The way into the ring's thread: a handle with async methods that hides the channels.
//!
//! Two bounded queues lead in. Commands are always read; messages to be multicast are read only
//! while the ring's send queue has room, so a fast sender waits on its own stream.

use std::sync::Arc;

use bytes::Bytes;
use membership_core::{
    cpg::GroupName,
    srp::Guarantee,
    stack::{ClientId, LeaveReason},
};
use quorate_types::RingId;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

use crate::{
    config::RingConfig,
    error::Error,
    view::{ConfigurationEvent, RingSnapshot, RingView},
};

/// Commands that may wait: one per RPC in progress, so hundreds mean a stuck ring, not load.
pub(crate) const COMMANDS_MAX: usize = 256;
/// Batches of messages that may wait for room in the ring, all group members together.
pub(crate) const MULTICASTS_MAX: usize = 64;
/// Batches of events that may wait for a slow reader before its stream is ended.
pub(crate) const EVENT_BATCHES_MAX: usize = 4096;

/// What a group member or an attached engine receives: batches, then at most one error.
pub(crate) type Events<T> = mpsc::Receiver<Result<Vec<T>, Error>>;
pub(crate) type EventSender<T> = mpsc::Sender<Result<Vec<T>, Error>>;

/// What the ring's thread is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Configure {
        config: Option<Box<RingConfig>>,
        answer: oneshot::Sender<Result<Vec<String>, Error>>,
    },
    ConfigureInPlace {
        config: Box<RingConfig>,
        answer: oneshot::Sender<Result<bool, Error>>,
    },
    Snapshot {
        answer: oneshot::Sender<RingSnapshot>,
    },
    Join {
        group: GroupName,
        pid: u32,
        delivery: Guarantee,
        events: EventSender<membership_core::stack::GroupEvent>,
        answer: oneshot::Sender<Result<ClientId, Error>>,
    },
    LeaveGroup {
        client: ClientId,
        reason: LeaveReason,
    },
    Attach {
        service: u16,
        events: EventSender<ServiceEvent>,
        answer: oneshot::Sender<u64>,
    },
    Detach {
        service: u16,
        attachment: u64,
    },
    SyncMessages {
        service: u16,
        attachment: u64,
        ring: RingId,
        messages: Vec<Bytes>,
    },
    ServiceMulticast {
        service: u16,
        attachment: u64,
        message: Bytes,
    },
    LeaveRing {
        answer: oneshot::Sender<()>,
    },
    Stop,
}

/// What an attached engine is told: the stack's events, that there is no ring, and that another member had the ring
/// read its configuration again.
#[derive(Debug)]
pub(crate) enum ServiceEvent {
    Stack(membership_core::stack::ServiceEvent),
    /// With the reason.
    RingDown(String),
    ConfigurationReloaded {
        config_version: u64,
    },
}

/// Messages of one group member, in order.
#[derive(Debug)]
pub(crate) struct Multicast {
    pub(crate) client: ClientId,
    pub(crate) payloads: Vec<Bytes>,
}

/// The ring as the rest of the daemon sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RingHandle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) multicasts: mpsc::Sender<Multicast>,
    pub(crate) view: watch::Receiver<RingView>,
    pub(crate) configurations: broadcast::Sender<ConfigurationEvent>,
    pub(crate) published: watch::Receiver<Option<Arc<RingSnapshot>>>,
    pub(crate) reload_wanted: Arc<Notify>,
}

impl RingHandle {
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(make(answer)).await.map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)
    }

    async fn tell(&self, command: Command) {
        // A ring that has stopped has forgotten every client already.
        let _ = self.commands.send(command).await;
    }

    /// Brings the ring up, down (`None`) or to other settings; names what needs a restart.
    ///
    /// # Errors
    /// [`Error::Bind`], [`Error::RingId`], [`Error::Stopped`].
    pub async fn configure(&self, config: Option<RingConfig>) -> Result<Vec<String>, Error> {
        self.ask(|answer| Command::Configure { config: config.map(Box::new), answer }).await?
    }

    /// Brings a ring that is up to settings that need neither new sockets nor another identity, and tells attached
    /// engines; false, and nothing done, if there is no such ring.
    ///
    /// # Errors
    /// [`Error::Links`], [`Error::Crypto`], [`Error::Stopped`].
    pub(crate) async fn configure_in_place(&self, config: RingConfig) -> Result<bool, Error> {
        self.ask(|answer| Command::ConfigureInPlace { config: Box::new(config), answer }).await?
    }

    /// Waits until a member asks all nodes to read corosync.conf again. Requests that come meanwhile are one.
    pub(crate) async fn reload_wanted(&self) {
        self.reload_wanted.notified().await;
    }

    /// Everything that the ring can tell of itself.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn snapshot(&self) -> Result<RingSnapshot, Error> {
        self.ask(|answer| Command::Snapshot { answer }).await
    }

    /// The present configuration, and each one after it.
    #[must_use]
    pub fn configurations(&self) -> (RingView, broadcast::Receiver<ConfigurationEvent>) {
        let receiver = self.configurations.subscribe();
        (self.view.borrow().clone(), receiver)
    }

    /// A receiver that sees every change of the ring's view.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<RingView> {
        self.view.clone()
    }

    /// A snapshot that is at most about a second old while the ring turns.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Option<Arc<RingSnapshot>>> {
        self.published.clone()
    }

    pub(crate) async fn join(
        &self,
        group: GroupName,
        pid: u32,
        delivery: Guarantee,
    ) -> Result<(ClientId, Events<membership_core::stack::GroupEvent>), Error> {
        let (events, receiver) = mpsc::channel(EVENT_BATCHES_MAX);
        let client = self.ask(|answer| Command::Join { group, pid, delivery, events, answer }).await??;
        Ok((client, receiver))
    }

    pub(crate) async fn multicast(&self, client: ClientId, payloads: Vec<Bytes>) -> Result<(), Error> {
        self.multicasts.send(Multicast { client, payloads }).await.map_err(|_| Error::Stopped)
    }

    pub(crate) async fn leave_group(&self, client: ClientId, reason: LeaveReason) {
        self.tell(Command::LeaveGroup { client, reason }).await;
    }

    pub(crate) async fn attach(&self, service: u16) -> Result<(u64, Events<ServiceEvent>), Error> {
        let (events, receiver) = mpsc::channel(EVENT_BATCHES_MAX);
        let attachment = self.ask(|answer| Command::Attach { service, events, answer }).await?;
        Ok((attachment, receiver))
    }

    pub(crate) async fn detach(&self, service: u16, attachment: u64) {
        self.tell(Command::Detach { service, attachment }).await;
    }

    pub(crate) async fn sync_messages(
        &self,
        service: u16,
        attachment: u64,
        ring: RingId,
        messages: Vec<Bytes>,
    ) {
        self.tell(Command::SyncMessages { service, attachment, ring, messages }).await;
    }

    pub(crate) async fn service_multicast(&self, service: u16, attachment: u64, message: Bytes) {
        self.tell(Command::ServiceMulticast { service, attachment, message }).await;
    }

    /// Leaves the ring with a leave message, so that the others need not wait.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn leave_ring(&self) -> Result<(), Error> {
        self.ask(|answer| Command::LeaveRing { answer }).await
    }

    /// Leaves the ring and ends its thread.
    pub async fn stop(&self) {
        self.tell(Command::Stop).await;
    }
}
