//! The ring's thread: one task that owns the stack and the socket, and waits for nobody.
//!
//! It runs on a thread and a runtime of its own, so that neither a busy RPC nor a slow client ever
//! delays the token. Each turn takes what is waiting (datagrams, a deadline, commands, messages),
//! feeds it to the stack and carries out the outputs. Clients receive one batch per turn; one that
//! does not read loses its stream, not the ring its pace.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use membership_core::stack::{Input, LeaveReason};
use nix::sys::resource::Resource;
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue,
    ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::{Notify, broadcast, mpsc, watch};

use crate::{
    active::ActiveRing,
    clients::Clients,
    config::RingConfig,
    error::Error,
    handle::{COMMANDS_MAX, Command, MULTICASTS_MAX, Multicast, RingHandle},
    transport::Transport,
    view::{ConfigurationEvent, RingSnapshot, RingView},
};

/// Datagrams taken in one turn before the deadline and the clients are looked at again.
const DATAGRAMS_PER_TURN: usize = 256;
/// Between two attempts to bring up a ring that failed.
const RING_RETRY: Duration = Duration::from_secs(5);
/// Between two snapshots for the metrics.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// Real-time priority (SCHED_RR, 1 to 99) of the ring's thread: before everything ordinary, behind the kernel's own threads
/// at 50, which bring the packets.
const RING_PRIORITY: u8 = 10;
/// Configurations that a watcher may lag behind.
const CONFIGURATIONS_KEPT: usize = 256;

/// Starts the ring's thread. The ring itself comes up with [`RingHandle::configure`].
///
/// # Errors
/// [`Error::Thread`] if the operating system refuses a thread.
pub fn start(state_dir: PathBuf) -> Result<(RingHandle, std::thread::JoinHandle<()>), Error> {
    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    let (multicasts, multicast_queue) = mpsc::channel(MULTICASTS_MAX);
    let (view, view_receiver) = watch::channel(RingView::default());
    let (configurations, _) = broadcast::channel(CONFIGURATIONS_KEPT);
    let (snapshots, published) = watch::channel(None);
    let reload_wanted = Arc::new(Notify::new());
    let handle = RingHandle {
        commands,
        multicasts,
        view: view_receiver,
        configurations: configurations.clone(),
        published,
        reload_wanted: Arc::clone(&reload_wanted),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    let thread = std::thread::Builder::new()
        .name("ring".to_owned())
        .spawn(move || {
            lock_memory();
            let driver = Driver {
                state_dir,
                commands: command_queue,
                multicasts: multicast_queue,
                publisher: Publisher { view, configurations, reload_wanted },
                snapshots,
                snapshot_due: Instant::now(),
                clients: Clients::default(),
                ring: None,
                down_reason: NO_CLUSTER.to_owned(),
                failed: None,
                in_real_time: false,
            };
            runtime.block_on(driver.run());
        })
        .map_err(Error::Thread)?;
    Ok((handle, thread))
}

/// Lets this thread, the ring's, run before all ordinary ones, or like any other again. Needs CAP_SYS_NICE or
/// `ulimit -r`; without it the ring works as well, only less predictably. As corosync does, which takes the highest
/// priority there is.
fn schedule(real_time: bool) {
    let (policy, priority) = if real_time {
        let priority =
            ThreadPriorityValue::try_from(RING_PRIORITY).expect("real-time priorities go up to 99");
        let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
        (policy, ThreadPriority::Crossplatform(priority))
    } else {
        (ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other), ThreadPriority::Min)
    };
    match set_thread_priority_and_policy(thread_native_id(), priority, policy) {
        Ok(()) => tracing::info!(real_time, "scheduling of the ring's thread"),
        Err(error) => tracing::info!(%error, "the ring's thread runs like any other"),
    }
}

/// Memory that is never paged out keeps the token going under memory pressure; where that is permitted.
fn lock_memory() {
    let unlimited = nix::sys::resource::getrlimit(Resource::RLIMIT_MEMLOCK)
        .is_ok_and(|(soft, _)| soft == nix::sys::resource::RLIM_INFINITY);
    if unlimited {
        use nix::sys::mman::{MlockAllFlags, mlockall};
        match mlockall(MlockAllFlags::MCL_CURRENT) {
            Ok(()) => tracing::info!("memory is locked"),
            Err(error) => tracing::info!(%error, "memory is not locked"),
        }
    }
}

/// Tells the rest of the daemon about configurations, and what the ring wants of it.
pub(crate) struct Publisher {
    view: watch::Sender<RingView>,
    configurations: broadcast::Sender<ConfigurationEvent>,
    reload_wanted: Arc<Notify>,
}

impl Publisher {
    /// Publishes a change; the view is changed first, so that whoever sees the event sees its view.
    pub(crate) fn publish(&self, event: ConfigurationEvent) {
        self.view.send_modify(|view| match &event {
            ConfigurationEvent::Transitional { .. } => view.synchronised = false,
            ConfigurationEvent::Regular { ring, members, .. } => {
                *view = RingView { up: true, ring: *ring, members: members.clone(), synchronised: false };
            }
            ConfigurationEvent::Synchronised { .. } => view.synchronised = true,
            ConfigurationEvent::Down => *view = RingView { ring: view.ring, ..RingView::default() },
        });
        // Nobody watching is no error.
        let _ = self.configurations.send(event);
    }

    /// Another member wants all nodes to read corosync.conf again. The ring's thread reads no such file.
    pub(crate) fn want_reload(&self) {
        self.reload_wanted.notify_one();
    }

    fn view(&self) -> RingView {
        self.view.borrow().clone()
    }
}

struct Driver {
    state_dir: PathBuf,
    commands: mpsc::Receiver<Command>,
    multicasts: mpsc::Receiver<Multicast>,
    publisher: Publisher,
    snapshots: watch::Sender<Option<Arc<RingSnapshot>>>,
    snapshot_due: Instant,
    clients: Clients,
    ring: Option<ActiveRing>,
    /// Why there is no ring; says nothing while there is one.
    down_reason: String,
    /// A ring that failed, and comes up again when the cause is gone.
    failed: Option<Failed>,
    /// How this thread was asked to be scheduled.
    in_real_time: bool,
}

/// A ring that could not go on.
struct Failed {
    config: Arc<RingConfig>,
    retry: Instant,
}

/// Why a node without corosync.conf has no ring.
const NO_CLUSTER: &str = "it is not part of a cluster";

/// What ended a wait.
enum Turn {
    Command(Option<Command>),
    Multicast(Option<Multicast>),
    Datagrams,
    Deadline,
    Retry,
}

impl Driver {
    async fn run(mut self) {
        loop {
            let turn = self.wait().await;
            let now = Instant::now();
            match turn {
                Turn::Command(None | Some(Command::Stop)) => break,
                Turn::Command(Some(command)) => self.handle_command(now, command),
                Turn::Multicast(Some(multicast)) => self.handle_multicasts(now, multicast),
                Turn::Multicast(None) => {}
                Turn::Datagrams => {
                    if let Some(ring) = &mut self.ring {
                        ring.receive(now, DATAGRAMS_PER_TURN, &mut self.clients, &self.publisher);
                    }
                }
                Turn::Deadline => {
                    if let Some(ring) = &mut self.ring {
                        ring.handle_deadline(now, &mut self.clients, &self.publisher);
                    }
                }
                Turn::Retry => self.retry(now),
            }
            self.finish_turn();
            self.publish_snapshot(now);
        }
        self.take_down("the daemon stops");
    }

    async fn wait(&mut self) -> Turn {
        let deadline = self.ring.as_ref().and_then(ActiveRing::next_deadline);
        let sending = self.ring.as_ref().is_some_and(ActiveRing::takes_messages);
        let retry = self.failed.as_ref().map(|failed| failed.retry);
        let transport = self.ring.as_ref().map(ActiveRing::transport);
        tokio::select! {
            biased;
            () = readable(transport) => Turn::Datagrams,
            () = until(deadline) => Turn::Deadline,
            () = until(retry) => Turn::Retry,
            command = self.commands.recv() => Turn::Command(command),
            Some(multicast) = self.multicasts.recv(), if sending => Turn::Multicast(Some(multicast)),
        }
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Configure { config, answer } => {
                let result = self.configure(now, config.map(|config| *config));
                let _ = answer.send(result);
            }
            Command::ConfigureInPlace { config, answer } => {
                let _ = answer.send(self.configure_in_place(now, *config));
            }
            Command::Snapshot { answer } => {
                let _ = answer.send(self.snapshot(now));
            }
            Command::LeaveRing { answer } => {
                self.take_down("it has left the ring");
                let _ = answer.send(());
            }
            Command::Join { group, pid, delivery, events, answer } => {
                let result = if self.ring.is_some() {
                    let client = self.clients.add_member(events);
                    self.feed(now, Input::GroupJoin { client, pid, group, delivery });
                    Ok(client)
                } else {
                    Err(Error::NoRing(self.down_reason.clone().into()))
                };
                let _ = answer.send(result);
            }
            Command::LeaveGroup { client, reason } => {
                self.clients.remove_member(client);
                self.feed(now, Input::GroupLeave { client, reason });
            }
            Command::Attach { service, events, answer } => {
                let attachment = self.clients.attach(service, events);
                match self.ring {
                    Some(_) => self.feed(now, Input::ServiceAttach { service }),
                    None => self.clients.ring_down_to(service, &self.down_reason),
                }
                let _ = answer.send(attachment);
            }
            Command::Detach { service, attachment } => {
                if self.clients.detach(service, attachment) {
                    self.feed(now, Input::ServiceDetach { service });
                }
            }
            Command::SyncMessages { service, attachment, ring, messages } => {
                if self.clients.is_attached(service, attachment) {
                    self.feed(now, Input::SyncMessages { service, ring, messages });
                }
            }
            Command::ServiceMulticast { service, attachment, message } => {
                if self.clients.is_attached(service, attachment) {
                    self.feed(now, Input::ServiceMulticast { service, message });
                }
            }
            Command::Stop => unreachable!("the loop ends on Stop before it comes here"),
        }
    }

    /// Gives the ring an input; without a ring there is nothing to do.
    fn feed(&mut self, now: Instant, input: Input) {
        if let Some(ring) = &mut self.ring {
            ring.feed(now, input, &mut self.clients, &self.publisher);
        }
    }

    /// All that waits goes into the ring's queue at once, so that it leaves with one visit of the token.
    fn handle_multicasts(&mut self, now: Instant, first: Multicast) {
        self.handle_multicast(now, first);
        while self.ring.as_ref().is_some_and(ActiveRing::takes_messages)
            && let Ok(multicast) = self.multicasts.try_recv()
        {
            self.handle_multicast(now, multicast);
        }
    }

    fn handle_multicast(&mut self, now: Instant, multicast: Multicast) {
        let client = multicast.client;
        for payload in multicast.payloads {
            if self.clients.is_member(client) {
                self.feed(now, Input::GroupMulticast { client, payload });
            }
        }
    }

    /// Brings the ring to `config`. On an error the ring is as it was before; one that had to go for the new one is
    /// tried again.
    fn configure(&mut self, now: Instant, config: Option<RingConfig>) -> Result<Vec<String>, Error> {
        let Some(config) = config else {
            self.take_down(NO_CLUSTER);
            return Ok(Vec::new());
        };
        if std::mem::replace(&mut self.in_real_time, config.real_time) != config.real_time {
            schedule(config.real_time);
        }
        if let Some(ring) = &mut self.ring
            && ring.config().fits_in_place(&config)
        {
            return ring.reconfigure(now, config, &mut self.clients, &self.publisher);
        }
        let replaced = self.ring.is_some();
        if replaced {
            self.take_down("its identity changed");
        }
        let config = Arc::new(config);
        let brought_up = self.bring_up(now, Arc::clone(&config));
        if let Err(error) = &brought_up
            && (replaced || self.failed.is_some())
        {
            self.try_again(now, config, error);
        }
        brought_up.map(|()| Vec::new())
    }

    /// Does what can be done while the ring runs, or nothing: another member asks for it, and must not be able to take
    /// this node out of its ring.
    fn configure_in_place(&mut self, now: Instant, config: RingConfig) -> Result<bool, Error> {
        let Some(ring) = &mut self.ring else { return Ok(false) };
        if !ring.config().fits_in_place(&config) {
            return Ok(false);
        }
        let config_version = config.config_version;
        ring.reconfigure(now, config, &mut self.clients, &self.publisher)?;
        self.clients.configuration_reloaded(config_version);
        Ok(true)
    }

    fn bring_up(&mut self, now: Instant, config: Arc<RingConfig>) -> Result<(), Error> {
        let mut ring = ActiveRing::bring_up(now, &self.state_dir, config)?;
        ring.start(now, self.clients.attached(), &mut self.clients, &self.publisher)?;
        self.ring = Some(ring);
        self.failed = None;
        Ok(())
    }

    /// Tries to bring up a ring that failed; while it cannot, nothing is sent, so that the others are not disturbed.
    fn retry(&mut self, now: Instant) {
        let Some(Failed { config, .. }) = self.failed.take() else { return };
        match self.bring_up(now, Arc::clone(&config)) {
            Ok(()) => tracing::info!("the ring comes up again"),
            Err(error) => self.try_again(now, config, &error),
        }
    }

    fn try_again(&mut self, now: Instant, config: Arc<RingConfig>, error: &Error) {
        let why = quorate_daemon::telemetry::chain(error);
        tracing::warn!(error = why, again_in = ?RING_RETRY, "the ring stays down");
        self.down_reason = format!("{why}; this is tried again every {} s", RING_RETRY.as_secs());
        self.failed = Some(Failed { config, retry: now + RING_RETRY });
    }

    /// A ring that cannot store its id, or was told to die, does not go on.
    fn finish_turn(&mut self) {
        self.clients.flush();
        for client in self.clients.take_lost() {
            self.feed(Instant::now(), Input::GroupLeave { client, reason: LeaveReason::ProcessDown });
        }
        if let Some(failure) = self.ring.as_mut().and_then(ActiveRing::take_failure) {
            let why = quorate_daemon::telemetry::chain(&failure);
            tracing::error!(error = why, "the ring stops");
            let config = self.ring.as_ref().map(|ring| Arc::clone(ring.config()));
            self.take_down(&why);
            // A node that was told to leave stays away; a disk may have room again.
            if let (Some(config), Error::RingId { .. }) = (config, &failure) {
                self.try_again(Instant::now(), config, &failure);
            }
        }
    }

    /// For the metrics; an idle ring still turns several times a second.
    fn publish_snapshot(&mut self, now: Instant) {
        if now >= self.snapshot_due {
            self.snapshot_due = now + SNAPSHOT_INTERVAL;
            self.snapshots.send_replace(Some(Arc::new(self.snapshot(now))));
        }
    }

    fn snapshot(&self, now: Instant) -> RingSnapshot {
        let down_reason = if self.ring.is_some() { String::new() } else { self.down_reason.clone() };
        let up = self.ring.as_ref().map(|ring| ring.snapshot(now));
        RingSnapshot { view: self.publisher.view(), up, down_reason }
    }

    fn take_down(&mut self, why: &str) {
        self.failed = None;
        self.down_reason = why.to_owned();
        if let Some(mut ring) = self.ring.take() {
            tracing::info!(why, "leaving the ring");
            ring.leave(Instant::now());
            self.clients.ring_down(why);
            self.publisher.publish(ConfigurationEvent::Down);
        }
    }
}

async fn readable(transport: Option<&Transport>) {
    match transport {
        Some(transport) => {
            if let Err(error) = transport.readable().await {
                log_runtime_end(&error);
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

fn log_runtime_end(error: &io::Error) {
    tracing::debug!(%error, "the runtime is shutting down");
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        // The runtime's clock has a grain of a millisecond and would round what is due up to the next one.
        Some(deadline) if deadline <= Instant::now() => {}
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
