//! The whole of one node's membership: the ring, and on it packing, synchronisation, process
//! groups and the services of other processes.
//!
//! One input, then drain all outputs, in order. The ring's outputs are handled strictly in their
//! order, because a message means something else before a configuration change than after it.
//!
//! - `io`: inputs, outputs and events; `status`: what it looks like
//! - `sending`: what is staged, and when it goes into the ring
//! - `round`: configuration changes and synchronisation
//! - `clients`: local clients of groups, safe delivery
//! - `external`, `replay`: services in other processes
//!
//! ```
//! use std::time::Instant;
//! use membership_core::{feature, srp::Params, stack::{Input, Output, Stack, StackConfig}};
//! use quorate_types::NodeId;
//!
//! let me = NodeId::new(1)?;
//! let members = [me].into();
//! let config = StackConfig {
//!     me,
//!     members,
//!     params: Params::default(),
//!     config_version: 1,
//!     feature_level: Some(feature::LEVEL),
//!     seed: 7,
//! };
//! let mut stack = Stack::new(config);
//! let mut now = Instant::now();
//! let mut input = Input::Start { stored_ring_seq: 0 };
//! let members = 'run: loop {
//!     stack.handle_input(now, input);
//!     input = Input::Timer;
//!     while let Some(output) = stack.poll_output() {
//!         match output {
//!             Output::StoreRingSeq(ring_seq) => input = Input::Stored { ring_seq },
//!             Output::SyncCompleted { members, .. } => break 'run members,
//!             _ => {} // a driver sends, tells clients, ...
//!         }
//!     }
//!     if matches!(input, Input::Timer) {
//!         now = stack.next_deadline().expect("a started stack has timers");
//!     }
//! };
//! assert_eq!(members, [me]);
//! # Ok::<(), quorate_types::NodeIdError>(())
//! ```
//!
//! Source: totem specification, sections 5.3 to 6; corosync services, section 2.

mod clients;
mod external;
mod io;
mod replay;
mod round;
mod sending;
mod status;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use quorate_types::NodeId;

pub use clients::CLIENTS_MAX;
use clients::{Clients, Position};
pub use external::EXTERNAL_SYNC_WAIT;
use external::Externals;
pub use io::{
    ClientId, ConfigurationKind, GroupEvent, Input, LeaveReason, Output, RefuseReason, ServiceEvent,
    StackConfig,
};
use sending::Outbox;
pub use sending::{BACKLOG_MAX, GROUP_PAYLOAD_MAX};
pub use status::{StackStats, StackStatus, SyncProgress};

use crate::{
    cfg::{self, CfgMessage},
    cmap::{self, Cmap},
    cpg::{ChangeReason, Cpg, CpgMessage, GroupName, ProcessTable},
    feature::Features,
    pg::{Assembler, Group},
    service::{CFG, CMAP, CPG, FEATURES, ServiceMessage},
    srp::{self, Delivery, Guarantee, Phase, Ring, RingProgress, Stats},
    sync::{Progress, Sync},
};

/// Offset of the packet type in a datagram, and the type of the token.
const DATAGRAM_TYPE: usize = 3;
const TYPE_ORF_TOKEN: u8 = 0;

/// The membership of one node.
#[derive(Debug)]
pub struct Stack {
    me: NodeId,
    configured: BTreeSet<NodeId>,
    ring: Ring,
    /// Outputs of the ring that are not handled yet.
    from_ring: VecDeque<srp::Output>,
    outputs: VecDeque<Output>,
    outbox: Outbox,
    assembler: Assembler,
    /// From a regular configuration change to the end of its synchronisation, and before the first.
    waiting: bool,
    sync: Sync,
    /// Members of the last transitional configuration.
    transitional: BTreeSet<NodeId>,
    members: Vec<NodeId>,
    cmap: Cmap,
    features: Features,
    cpg: Cpg,
    clients: Clients,
    externals: Externals,
    stats: StackStats,
}

impl Stack {
    /// A silent node; [`Input::Start`] makes it look for others.
    #[must_use]
    pub fn new(config: StackConfig) -> Self {
        let StackConfig { me, members, params, config_version, feature_level, seed } = config;
        Self {
            me,
            configured: members,
            outbox: Outbox::new(&params),
            features: Features::new(feature_level, params.fast_detection),
            ring: Ring::new(me, params, seed),
            from_ring: VecDeque::new(),
            outputs: VecDeque::new(),
            assembler: Assembler::default(),
            waiting: true,
            sync: Sync::default(),
            transitional: BTreeSet::new(),
            members: Vec::new(),
            cmap: Cmap::new(config_version),
            cpg: Cpg::new(me),
            clients: Clients::new(me),
            externals: Externals::default(),
            stats: StackStats::default(),
        }
    }

    /// What happened. `now` is the only clock that the stack has.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Start { stored_ring_seq } => {
                self.ring_input(now, srp::Input::Start { stored_ring_seq });
            }
            Input::Datagram(datagram) => self.handle_datagram(now, datagram),
            Input::Timer => self.handle_timer(now),
            Input::Stored { ring_seq } => self.ring_input(now, srp::Input::Stored { ring_seq }),
            Input::Reconfigure { members, params, config_version } => {
                self.configured = members;
                self.outbox.set_params(&params);
                if let Some(announcement) = self.features.set_fast_detection(params.fast_detection) {
                    self.stage(Phase::Normal, announcement, Bytes::new(), Guarantee::Agreed);
                }
                self.ring_input(now, srp::Input::SetParams(params));
                if self.cmap.set_version(config_version) {
                    let announcement = self.cmap.announcement(cmap::Reason::NewConfigVersion);
                    self.stage(Phase::Normal, announcement, Bytes::new(), Guarantee::Agreed);
                }
            }
            Input::Leave => self.ring_input(now, srp::Input::Leave),
            Input::ServiceAttach { service } => {
                if !self.externals.attach(service, &mut self.outputs) {
                    tracing::warn!(service, "no external service has this number");
                }
            }
            Input::ServiceDetach { service } => {
                self.externals.detach(service);
                self.step_if_awaited(now);
            }
            Input::ServiceMulticast { service, message } => self.service_multicast(service, message),
            Input::SyncMessages { service, ring, messages } => {
                self.handle_sync_messages(now, service, ring, messages);
            }
            Input::ReloadConfig => {
                let message = CfgMessage::reload_config(self.me);
                self.stage(Phase::Normal, message, Bytes::new(), Guarantee::Safe);
            }
            Input::CryptoReconfig { phase } => {
                let message = cfg::crypto_reconfig(phase);
                self.stage(Phase::Normal, message, Bytes::new(), Guarantee::Safe);
            }
            Input::KillNode { node, reason } => {
                let message = CfgMessage::kill_node(node, &reason);
                self.stage(Phase::Normal, message, Bytes::new(), Guarantee::Safe);
            }
            request => self.handle_group_request(request),
        }
        self.announce_staged(now);
        self.update_flow();
    }

    /// What must be done. Call until it returns `None`, then wait for the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.ring.next_deadline(), self.externals.deadline()].into_iter().flatten().min()
    }

    /// Who is in which group.
    #[must_use]
    pub fn groups(&self) -> &ProcessTable {
        self.cpg.table()
    }

    /// What the stack looks like now.
    #[must_use]
    pub fn status(&self) -> StackStatus {
        let progress = self.sync.progress();
        StackStatus {
            me: self.me,
            configured: self.configured.clone(),
            ring: self.ring.status(),
            sync: progress.map(|(service, missing)| SyncProgress { service, missing }),
            synchronised: !self.waiting,
            config_versions: self.cmap.peers().clone(),
            features: self.features.agreed(),
            feature_levels: self.features.levels(),
            attached_services: self.externals.attached().clone(),
            clients: self.clients.len(),
            backlog_bytes: self.outbox.backlog_bytes(&self.ring),
        }
    }

    /// How far the messages of the ring have come; cheap enough to be asked after every input.
    #[must_use]
    pub fn progress(&self) -> RingProgress {
        self.ring.progress()
    }

    /// Counters of the layers above the ring.
    #[must_use]
    pub fn stats(&self) -> StackStats {
        StackStats {
            assembler: self.assembler.stats(),
            sync: self.sync.stats(),
            cpg: self.cpg.stats(),
            features_out_of_place: self.features.out_of_place(),
            external_timeouts: self.externals.timeouts(),
            ..self.stats
        }
    }

    /// Counters of the ring.
    #[must_use]
    pub fn ring_stats(&self) -> &Stats {
        self.ring.stats()
    }

    fn handle_datagram(&mut self, now: Instant, datagram: Bytes) {
        if datagram.get(DATAGRAM_TYPE) == Some(&TYPE_ORF_TOKEN) {
            self.flush(now);
        }
        self.ring_input(now, srp::Input::Datagram(datagram));
    }

    fn handle_timer(&mut self, now: Instant) {
        if self.ring.next_deadline().is_some_and(|deadline| deadline <= now) {
            if self.ring.has_token() {
                self.flush(now);
            }
            self.ring_input(now, srp::Input::Timer);
        }
        if self.externals.deadline().is_some_and(|deadline| deadline <= now) {
            self.step(now);
        }
    }

    fn ring_input(&mut self, now: Instant, input: srp::Input) {
        self.ring.handle_input(now, input);
        self.drain_ring(now);
    }

    /// Handles what the ring puts out, in order, and what that makes it put out.
    fn drain_ring(&mut self, now: Instant) {
        loop {
            self.from_ring.extend(std::iter::from_fn(|| self.ring.poll_output()));
            let Some(output) = self.from_ring.pop_front() else {
                return;
            };
            self.handle_ring_output(now, output);
        }
    }

    fn handle_ring_output(&mut self, now: Instant, output: srp::Output) {
        match output {
            srp::Output::Send { to, packet } => self.outputs.push_back(Output::Send { to, packet }),
            srp::Output::StoreRingSeq(seq) => self.outputs.push_back(Output::StoreRingSeq(seq)),
            srp::Output::StateChanged { from, to, reason } => {
                self.outputs.push_back(Output::StateChanged { from, to, reason });
            }
            srp::Output::Deliver(delivery) => self.deliver(now, &delivery),
            srp::Output::Configuration(change) => self.change_configuration(change),
            srp::Output::SafeUpTo { ring, seq } => {
                self.clients.safe_up_to(Position { ring, seq }, &mut self.outputs);
            }
            srp::Output::TokenSent => self.step(now),
        }
    }

    fn deliver(&mut self, now: Instant, delivery: &Delivery) {
        let phase = if self.waiting { Phase::Transitional } else { Phase::Normal };
        let at = Position { ring: delivery.ring, seq: delivery.seq };
        for assembled in self.assembler.accept(delivery.origin, phase, &delivery.payload) {
            match Group::split(assembled.message) {
                Some((Group::Sync, message)) => {
                    let progress = self.sync.accept(delivery.origin, &message);
                    if let Progress::Activate { service, last } = progress {
                        self.activate(now, at, service, last);
                    }
                }
                Some((Group::Service, message)) => {
                    self.dispatch(now, at, delivery.origin, message, assembled.spans_change);
                }
                None => self.stats.unknown += 1,
            }
        }
    }

    fn dispatch(&mut self, now: Instant, at: Position, from: NodeId, message: Bytes, spans_change: bool) {
        let Ok(message) = ServiceMessage::from_wire(message) else {
            self.stats.malformed += 1;
            return;
        };
        match message.service {
            CMAP => {
                let noted = self.cmap.accept(from, &message.bytes);
                self.stats.malformed += u64::from(noted.is_err());
            }
            CFG => self.administer(from, &message),
            CPG => {
                if let Some(event) = self.cpg.accept(from, &message, spans_change) {
                    self.clients.deliver(at, event, &mut self.outputs);
                }
            }
            FEATURES if self.features.takes_part() => self.note_features(now, at, from, &message),
            _ => {
                let known = self.externals.deliver(from, message, &mut self.outputs);
                self.stats.unknown += u64::from(!known);
            }
        }
    }

    fn administer(&mut self, from: NodeId, message: &ServiceMessage) {
        match CfgMessage::from_wire(message.function, &message.bytes) {
            Ok(CfgMessage::KillNode { node, reason }) if node == self.me.get() => {
                self.outputs.push_back(Output::Killed { by: from, reason });
            }
            Ok(CfgMessage::ReloadConfig { .. }) => {
                self.outputs.push_back(Output::ReloadRequested { by: from });
            }
            Ok(CfgMessage::CryptoReconfig { phase }) => {
                if from == self.me {
                    self.outputs.push_back(Output::CryptoPhase { phase });
                }
            }
            Ok(other) => tracing::info!(%from, message = ?other, "administration of another node"),
            Err(_) => self.stats.malformed += 1,
        }
    }

    fn handle_group_request(&mut self, request: Input) {
        let (client, result) = match request {
            Input::GroupJoin { client, pid, group, delivery } => {
                (client, self.group_join(client, pid, group, delivery))
            }
            Input::GroupMulticast { client, payload } => (client, self.group_multicast(client, payload)),
            Input::GroupLeave { client, reason } => (client, self.group_leave(client, reason)),
            _ => return,
        };
        if let Err(reason) = result {
            self.stats.refused += 1;
            self.outputs.push_back(Output::GroupRefused { client, reason });
        }
    }

    fn group_join(
        &mut self,
        client: ClientId,
        pid: u32,
        group: GroupName,
        delivery: Guarantee,
    ) -> Result<(), RefuseReason> {
        let message = CpgMessage::proc_join(&group, pid);
        self.clients.join(client, pid, group, delivery)?;
        self.stage(Phase::Normal, message, Bytes::new(), Guarantee::Agreed);
        Ok(())
    }

    fn group_leave(&mut self, client: ClientId, reason: LeaveReason) -> Result<(), RefuseReason> {
        if let Some((pid, group)) = self.clients.leave(client, reason) {
            let reason = match reason {
                LeaveReason::Leave => ChangeReason::Leave,
                LeaveReason::ProcessDown => ChangeReason::ProcessDown,
            };
            let message = CpgMessage::proc_leave(&group, pid, reason);
            self.stage(Phase::Normal, message, Bytes::new(), Guarantee::Agreed);
        }
        Ok(())
    }
}
