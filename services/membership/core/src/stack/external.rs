//! Services that run in other processes: their part in synchronisation, and their messages.
//!
//! A silent local process must not hold up the cluster: when its step comes, its messages are
//! awaited for at most [`EXTERNAL_SYNC_WAIT`], then the round goes on without them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use super::{
    io::{Output, ServiceEvent},
    replay::ReplayLog,
};
use crate::{
    pg::{Group, MESSAGE_MAX},
    service::{FEATURES, SERVICES_MAX, SYNCHRONISED, ServiceMessage, VOTEQUORUM},
};

/// How long a synchronisation waits for the messages of a local service.
pub const EXTERNAL_SYNC_WAIT: Duration = Duration::from_millis(500);

/// Messages of one answer at most; the rest is dropped.
const ANSWER_MESSAGES_MAX: usize = 64;

/// All attached services.
#[derive(Debug, Default)]
pub(super) struct Externals {
    attached: BTreeSet<u16>,
    round: Option<Round>,
    log: ReplayLog,
    timeouts: u64,
}

/// The last synchronisation that began and was not given up; it stays when it is complete.
#[derive(Debug)]
struct Round {
    ring: RingId,
    members: Vec<NodeId>,
    transitional: Vec<NodeId>,
    /// Services that this node announced for the round.
    announced: BTreeSet<u16>,
    answers: BTreeMap<u16, Vec<Bytes>>,
    /// The service whose step is due, and until when it may answer.
    awaited: Option<(u16, Instant)>,
    /// Services whose step is over.
    stepped: BTreeSet<u16>,
    activated: BTreeSet<u16>,
}

/// What to do with the answer of a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is kept for its step; `due` when that is now.
    Kept { due: bool },
    /// Its step is over, or the round is without it: send the messages as ordinary ones.
    Late(Vec<Bytes>),
    /// It is for another ring.
    Outdated,
}

/// What to do in the step of a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send these, then the barrier.
    Send(Vec<Bytes>),
    /// Its answer is awaited.
    Wait,
}

impl Externals {
    pub(super) fn attached(&self) -> &BTreeSet<u16> {
        &self.attached
    }

    /// Rounds that went on without the messages of a silent service.
    pub(super) fn timeouts(&self) -> u64 {
        self.timeouts
    }

    /// A service is there; it is told what it missed. False if it cannot be external.
    pub(super) fn attach(&mut self, service: u16, out: &mut VecDeque<Output>) -> bool {
        if !(VOTEQUORUM..SERVICES_MAX).contains(&service) || service == FEATURES {
            return false;
        }
        self.attached.insert(service);
        let Some(round) = &mut self.round else {
            return true;
        };
        round.answers.remove(&service);
        out.push_back(Output::Service { service, event: round.started() });
        for (from, message) in self.log.of_service(service) {
            out.push_back(Output::Service { service, event: ServiceEvent::Message { from, message } });
        }
        if round.activated.contains(&service) {
            let event = ServiceEvent::SyncActivated { ring: round.ring };
            out.push_back(Output::Service { service, event });
        }
        true
    }

    pub(super) fn detach(&mut self, service: u16) {
        self.attached.remove(&service);
    }

    /// A synchronisation begins; returns the services that this node synchronises.
    pub(super) fn start_sync(
        &mut self,
        ring: RingId,
        members: &[NodeId],
        transitional: &BTreeSet<NodeId>,
        out: &mut VecDeque<Output>,
    ) -> BTreeSet<u16> {
        self.log.clear();
        let announced: BTreeSet<u16> =
            SYNCHRONISED.into_iter().chain(self.attached.iter().copied()).collect();
        let round = Round {
            ring,
            members: members.to_vec(),
            transitional: transitional.iter().copied().collect(),
            announced: announced.clone(),
            answers: BTreeMap::new(),
            awaited: None,
            stepped: BTreeSet::new(),
            activated: BTreeSet::new(),
        };
        let events = self.attached.iter().map(|service| (*service, round.started()));
        out.extend(events.map(|(service, event)| Output::Service { service, event }));
        self.round = Some(round);
        announced
    }

    /// The synchronisation was given up.
    pub(super) fn abort_sync(&mut self, out: &mut VecDeque<Output>) {
        self.round = None;
        let event = ServiceEvent::SyncAborted;
        out.extend(self.attached.iter().map(|&service| Output::Service { service, event: event.clone() }));
    }

    /// A service tells what it has to say.
    pub(super) fn answer(&mut self, service: u16, ring: RingId, messages: Vec<Bytes>) -> Answer {
        let Some(round) = self.round.as_mut().filter(|round| round.ring == ring) else {
            return Answer::Outdated;
        };
        let mut messages: Vec<_> =
            messages.into_iter().filter(|message| is_sendable(service, message)).collect();
        messages.truncate(ANSWER_MESSAGES_MAX);
        if round.stepped.contains(&service) || !round.announced.contains(&service) {
            return Answer::Late(messages);
        }
        round.answers.insert(service, messages);
        Answer::Kept { due: round.awaited.is_some_and(|(awaited, _)| awaited == service) }
    }

    /// The step of a service is due; called again until it is over.
    pub(super) fn step(&mut self, service: u16, now: Instant) -> Step {
        let attached = self.attached.contains(&service);
        let Some(round) = &mut self.round else {
            return Step::Send(Vec::new());
        };
        let answer = round.answers.remove(&service);
        let deadline = match round.awaited {
            Some((awaited, deadline)) if awaited == service => deadline,
            _ => now + EXTERNAL_SYNC_WAIT,
        };
        if answer.is_none() && attached && now < deadline {
            round.awaited = Some((service, deadline));
            return Step::Wait;
        }
        if answer.is_none() && attached {
            self.timeouts += 1;
            tracing::warn!(service, ring = %round.ring, "service did not answer in time");
        }
        round.awaited = None;
        round.stepped.insert(service);
        Step::Send(answer.unwrap_or_default())
    }

    /// Until when the service whose step is due may answer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.round.as_ref()?.awaited.map(|(_, deadline)| deadline)
    }

    /// All members have finished this service.
    pub(super) fn activate(&mut self, service: u16, out: &mut VecDeque<Output>) {
        if let Some(round) = &mut self.round {
            round.activated.insert(service);
            if self.attached.contains(&service) {
                let event = ServiceEvent::SyncActivated { ring: round.ring };
                out.push_back(Output::Service { service, event });
            }
        }
    }

    /// A message came through the ring. False if it is for no external service known here.
    pub(super) fn deliver(
        &mut self,
        from: NodeId,
        message: ServiceMessage,
        out: &mut VecDeque<Output>,
    ) -> bool {
        let service = message.service;
        let is_attached = self.attached.contains(&service);
        if service != VOTEQUORUM && !is_attached {
            return false;
        }
        self.log.note(from, &message);
        if is_attached {
            let event = ServiceEvent::Message { from, message: message.bytes };
            out.push_back(Output::Service { service, event });
        }
        true
    }
}

impl Round {
    fn started(&self) -> ServiceEvent {
        ServiceEvent::SyncStarted {
            ring: self.ring,
            members: self.members.clone(),
            transitional: self.transitional.clone(),
        }
    }
}

/// Whether a message is one of this service, complete and not too long.
pub(super) fn is_sendable(service: u16, message: &Bytes) -> bool {
    let fits = message.len() + Group::Service.header().len() <= MESSAGE_MAX;
    let is_own = ServiceMessage::from_wire(message.clone())
        .is_ok_and(|read| read.service == service && read.bytes.len() == message.len());
    if !fits || !is_own {
        tracing::warn!(service, length = message.len(), "malformed message of a local service dropped");
    }
    fits && is_own
}

#[cfg(test)]
mod tests;
