//! A ring that is up: the stack, its transport, its ring id file, and what is remembered of each node.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use membership_core::{
    feature,
    srp::{
        ConfigurationChange,
        message::{Packet, decode},
    },
    stack::{Input, Output, Stack, StackConfig, StackStatus},
    strangers::Stranger,
};
use quorate_types::NodeId;

use crate::{
    clients::Clients,
    config::RingConfig,
    counters,
    driver::Publisher,
    error::Error,
    ring_id_file::RingIdFile,
    transport::Transport,
    view::{ConfigurationEvent, MemberView, StrangerView, UpSnapshot},
};

/// What is remembered of a node that was seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    online: bool,
    since: SystemTime,
    left_cleanly: bool,
}

/// A ring that is up.
pub(crate) struct ActiveRing {
    config: Arc<RingConfig>,
    stack: Stack,
    transport: Transport,
    ring_id_file: RingIdFile,
    /// False while the send queue is nearly full.
    flow_open: bool,
    failure: Option<Error>,
    seen: BTreeMap<NodeId, Seen>,
    said_good_bye: BTreeSet<NodeId>,
    installed: Option<SystemTime>,
    /// A new key is loaded; until then its use waits for the others to have it, too.
    key_change: Option<Instant>,
}

/// How long the use of a new key waits for members that do not say which configuration they have, as corosync says
/// it only when a ring forms.
const KEY_CHANGE_WAIT: Duration = Duration::from_secs(5);

impl ActiveRing {
    /// Opens the sockets and the ring id file; nothing is sent yet.
    pub(crate) fn bring_up(now: Instant, state_dir: &Path, config: Arc<RingConfig>) -> Result<Self, Error> {
        let transport = Transport::open(now, &config)?;
        let ring_id_file = RingIdFile::new(state_dir, config.me);
        let stack = Stack::new(StackConfig {
            me: config.me,
            members: config.member_ids(),
            params: config.params.clone(),
            config_version: config.config_version,
            feature_level: Some(feature::LEVEL),
            seed: seed(config.me),
        });
        tracing::info!(
            node = %config.me,
            address = %config.local_address(),
            transport = config.transport.name(),
            protected = config.transport.is_protected(),
            nodes = config.members.len(),
            config_version = config.config_version,
            token = ?config.params.token,
            "bringing up the ring"
        );
        Ok(Self {
            config,
            stack,
            transport,
            ring_id_file,
            flow_open: true,
            failure: None,
            seen: BTreeMap::new(),
            said_good_bye: BTreeSet::new(),
            installed: None,
            key_change: None,
        })
    }

    /// Reads the ring id and begins to look for the other members.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        attached: Vec<u16>,
        clients: &mut Clients,
        publisher: &Publisher,
    ) -> Result<(), Error> {
        let stored_ring_seq = self.ring_id_file.load().map_err(|source| self.ring_id_error(source))?;
        // A disk that takes no ring id is found out now, before the others form a ring with this node in vain.
        self.ring_id_file.store(stored_ring_seq).map_err(|source| self.ring_id_error(source))?;
        for service in attached {
            self.feed(now, Input::ServiceAttach { service }, clients, publisher);
        }
        self.feed(now, Input::Start { stored_ring_seq }, clients, publisher);
        Ok(())
    }

    fn ring_id_error(&self, source: std::io::Error) -> Error {
        Error::RingId { path: self.ring_id_file.path().to_owned(), source }
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> &Arc<RingConfig> {
        &self.config
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.stack.next_deadline(), self.transport.next_deadline(), self.key_change]
            .into_iter()
            .flatten()
            .min()
    }

    /// Something is due: at the ring, at its links, or at both.
    pub(crate) fn handle_deadline(&mut self, now: Instant, clients: &mut Clients, publisher: &Publisher) {
        if self.transport.next_deadline().is_some_and(|due| due <= now) {
            self.transport.handle_timer(now);
        }
        if self.stack.next_deadline().is_some_and(|due| due <= now) {
            self.feed(now, Input::Timer, clients, publisher);
        }
        self.advance_key_change(now, clients, publisher);
    }

    /// Uses the new key once every member of the ring has it: whoever had it not would hear nobody.
    fn advance_key_change(&mut self, now: Instant, clients: &mut Clients, publisher: &Publisher) {
        let Some(until) = self.key_change else { return };
        let status = self.stack.status();
        let version = self.config.config_version;
        let has_it = |node: &NodeId| {
            *node == self.config.me
                || status.config_versions.get(node).copied().flatten().is_some_and(|theirs| theirs >= version)
        };
        let everybody = status.ring.members.iter().all(has_it);
        if everybody || until <= now {
            if !everybody {
                tracing::warn!(
                    config_version = version,
                    "not every member says that it has the new key; it is used now"
                );
            }
            self.key_change = None;
            self.feed(now, Input::CryptoReconfig { phase: 1 }, clients, publisher);
        }
    }

    /// Whether messages of group members may be taken now.
    pub(crate) fn takes_messages(&self) -> bool {
        self.flow_open
    }

    /// Applies another node list, timers or version; names the settings that need a restart.
    pub(crate) fn reconfigure(
        &mut self,
        now: Instant,
        config: RingConfig,
        clients: &mut Clients,
        publisher: &Publisher,
    ) -> Result<Vec<String>, Error> {
        if self.transport.reconfigure(now, &config)? {
            self.key_change = Some(now + KEY_CHANGE_WAIT);
        }
        self.config = Arc::new(config);
        tracing::info!(
            config_version = self.config.config_version,
            nodes = self.config.members.len(),
            "configuration applied"
        );
        let input = Input::Reconfigure {
            members: self.config.member_ids(),
            params: self.config.params.clone(),
            config_version: self.config.config_version,
        };
        self.feed(now, input, clients, publisher);
        Ok(Vec::new())
    }

    /// Takes up to `max` waiting datagrams.
    pub(crate) fn receive(&mut self, now: Instant, max: usize, clients: &mut Clients, publisher: &Publisher) {
        for _ in 0..max {
            let Some((from, datagram)) = self.transport.receive(now) else { break };
            if is_leave(&datagram) {
                self.said_good_bye.insert(from);
            }
            self.feed(now, Input::Datagram(datagram), clients, publisher);
        }
        self.advance_key_change(now, clients, publisher);
    }

    /// Says good-bye to the other members.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.stack.handle_input(now, Input::Leave);
        while let Some(output) = self.stack.poll_output() {
            if let Output::Send { to, packet } = output {
                self.transport.send(now, to, packet);
            }
        }
    }

    /// Why the ring cannot go on, if so.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Gives the stack one input and carries out all outputs, in order.
    pub(crate) fn feed(&mut self, now: Instant, input: Input, clients: &mut Clients, publisher: &Publisher) {
        self.stack.handle_input(now, input);
        while let Some(output) = self.stack.poll_output() {
            match output {
                Output::Send { to, packet } => self.transport.send(now, to, packet),
                Output::StoreRingSeq(sequence) => self.store_ring_seq(now, sequence),
                // The core has logged it.
                Output::StateChanged { .. } => {}
                // A link must be given up before the token is.
                Output::FeaturesAgreed { .. } => {
                    let token = self.stack.status().ring.pace.token;
                    self.transport.set_token_timeout(now, &self.config, token);
                }
                Output::Configuration(change) => self.configuration(change, publisher),
                Output::SyncCompleted { ring, members } => {
                    tracing::info!(%ring, members = members.len(), "ring synchronised");
                    publisher.publish(ConfigurationEvent::Synchronised { ring, members });
                }
                Output::Group { client, event } => clients.group_event(client, event),
                Output::Flow { open } => self.flow_open = open,
                Output::GroupRefused { client, reason } => clients.refused(client, reason.to_string()),
                Output::Service { service, event } => clients.service_event(service, event),
                Output::Killed { by, reason } => {
                    tracing::error!(%by, reason, "another member told this node to leave");
                    self.failure =
                        Some(Error::NoRing("another member of the cluster told this node to leave".into()));
                }
                Output::CryptoPhase { phase } => {
                    self.transport.crypto_phase(now, phase);
                    if phase == 1 {
                        self.stack.handle_input(now, Input::CryptoReconfig { phase: 2 });
                    }
                }
                Output::ReloadRequested { by } => {
                    tracing::info!(%by, "a member has all nodes read corosync.conf again");
                    publisher.want_reload();
                }
            }
        }
    }

    fn store_ring_seq(&mut self, now: Instant, sequence: u64) {
        match self.ring_id_file.store(sequence) {
            Ok(()) => self.stack.handle_input(now, Input::Stored { ring_seq: sequence }),
            // Going on would risk a ring id that is used twice.
            Err(source) => self.failure = Some(self.ring_id_error(source)),
        }
    }

    fn configuration(&mut self, change: ConfigurationChange, publisher: &Publisher) {
        let now = SystemTime::now();
        match change {
            ConfigurationChange::Transitional { ring, members, left } => {
                for &node in &left {
                    let left_cleanly = self.said_good_bye.contains(&node);
                    self.seen.insert(node, Seen { online: false, since: now, left_cleanly });
                }
                publisher.publish(ConfigurationEvent::Transitional { ring, members, left });
            }
            ConfigurationChange::Regular { ring, members, joined } => {
                tracing::info!(%ring, members = ?members.iter().map(|node| node.get()).collect::<Vec<_>>(), "regular configuration");
                self.said_good_bye.clear();
                self.installed = Some(now);
                for &node in &members {
                    let seen = self.seen.entry(node).or_insert(Seen {
                        online: false,
                        since: now,
                        left_cleanly: false,
                    });
                    if !seen.online {
                        *seen = Seen { online: true, since: now, left_cleanly: false };
                    }
                }
                publisher.publish(ConfigurationEvent::Regular { ring, members, joined });
            }
        }
    }

    pub(crate) fn snapshot(&self, now: Instant) -> UpSnapshot {
        let status = self.stack.status();
        let mut dropped = counters::dropped(self.stack.ring_stats());
        for (reason, count) in self.transport.dropped() {
            *dropped.entry(reason.to_owned()).or_default() += count;
        }
        UpSnapshot {
            cluster_name: self.config.cluster_name.to_string(),
            config_version: self.config.config_version,
            transport: self.config.transport.name(),
            secure: self.config.transport.is_protected(),
            me: self.config.me,
            state: status.ring.state,
            installed: self.installed,
            token_timeout: status.ring.pace.token,
            detection_worst_case: status.ring.pace.detection_worst_case(),
            feature_level: status.features.level,
            fast_detection: status.features.has_fast_detection(),
            members: self.config.members.iter().map(|member| self.member_view(member, &status)).collect(),
            links: self.transport.links(now, status.ring.pace.token),
            token_rotation_max: self.stack.ring_stats().token_rotation_max,
            backlog: self.stack.ring_stats().backlog,
            counters: counters::counters(self.stack.ring_stats()),
            dropped,
            strangers: self.strangers(now),
        }
    }

    fn strangers(&self, now: Instant) -> Vec<StrangerView> {
        let view = |(address, it): (_, Stranger)| {
            let silence = now.saturating_duration_since(it.last);
            StrangerView { address, packets: it.packets, silence }
        };
        self.transport.strangers().iter().map(view).collect()
    }

    fn member_view(&self, member: &crate::config::MemberConfig, status: &StackStatus) -> MemberView {
        let seen = self.seen.get(&member.node);
        MemberView {
            node: member.node,
            name: member.name.clone(),
            addresses: member.addresses.values().map(ToString::to_string).collect(),
            online: seen.is_some_and(|seen| seen.online),
            since: seen.map(|seen| seen.since),
            left_cleanly: seen.is_some_and(|seen| seen.left_cleanly),
            config_version: status.config_versions.get(&member.node).copied().flatten().unwrap_or_default(),
            feature_level: status.feature_levels.get(&member.node).copied().unwrap_or_default(),
        }
    }
}

/// Whether a datagram says good-bye: only for display, so a forged one does no harm.
fn is_leave(datagram: &Bytes) -> bool {
    matches!(decode(datagram), Ok(Packet::MembJoin(join)) if join.is_leave())
}

/// Different for each node and start: the ring's random join delays must not coincide.
fn seed(me: NodeId) -> u64 {
    let nanoseconds =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    u64::from(me.get()) << 32 | u64::from(nanoseconds)
}
