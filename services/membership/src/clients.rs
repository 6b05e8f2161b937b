//! Who listens to the ring: members of process groups and attached engines.
//!
//! Events are collected during a turn of the ring and handed over as one batch at its end.

use std::collections::BTreeMap;

use membership_core::stack::{ClientId, GroupEvent, ServiceEvent as StackServiceEvent};
use tokio::sync::mpsc::error::TrySendError;

use crate::{
    error::Error,
    handle::{EVENT_BATCHES_MAX, EventSender, ServiceEvent},
};

#[derive(Debug)]
struct Listener<T> {
    events: EventSender<T>,
    batch: Vec<T>,
}

impl<T: Send + 'static> Listener<T> {
    fn new(events: EventSender<T>) -> Self {
        Self { events, batch: Vec::new() }
    }

    /// Hands the batch over; false if the listener is gone or too slow.
    fn flush(&mut self) -> bool {
        if self.batch.is_empty() {
            return !self.events.is_closed();
        }
        match self.events.try_send(Ok(std::mem::take(&mut self.batch))) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                tracing::warn!(batches = EVENT_BATCHES_MAX, "a reader is too slow and loses its stream");
                end(&self.events, Error::SlowReader(EVENT_BATCHES_MAX));
                false
            }
        }
    }
}

/// Ends a stream with an error once its reader has taken what waits before it.
fn end<T: Send + 'static>(events: &EventSender<T>, error: Error) {
    if let Err(TrySendError::Full(error)) = events.try_send(Err(error)) {
        let events = events.clone();
        tokio::spawn(async move {
            let _ = events.send(error).await;
        });
    }
}

#[derive(Debug)]
struct Attachment {
    number: u64,
    listener: Listener<ServiceEvent>,
}

/// All listeners.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    next_client: ClientId,
    next_attachment: u64,
    members: BTreeMap<ClientId, Listener<GroupEvent>>,
    services: BTreeMap<u16, Attachment>,
    lost: Vec<ClientId>,
}

impl Clients {
    pub(crate) fn add_member(&mut self, events: EventSender<GroupEvent>) -> ClientId {
        self.next_client += 1;
        self.members.insert(self.next_client, Listener::new(events));
        self.next_client
    }

    pub(crate) fn remove_member(&mut self, client: ClientId) {
        self.members.remove(&client);
    }

    pub(crate) fn is_member(&self, client: ClientId) -> bool {
        self.members.contains_key(&client)
    }

    pub(crate) fn group_event(&mut self, client: ClientId, event: GroupEvent) {
        if let Some(listener) = self.members.get_mut(&client) {
            listener.batch.push(event);
        }
    }

    /// Ends the stream of a member whose message was refused.
    pub(crate) fn refused(&mut self, client: ClientId, reason: String) {
        if let Some(mut listener) = self.members.remove(&client) {
            listener.flush();
            end(&listener.events, Error::Refused(reason));
            self.lost.push(client);
        }
    }

    pub(crate) fn attach(&mut self, service: u16, events: EventSender<ServiceEvent>) -> u64 {
        self.next_attachment += 1;
        let attachment = Attachment { number: self.next_attachment, listener: Listener::new(events) };
        if let Some(before) = self.services.insert(service, attachment) {
            end(&before.listener.events, Error::Replaced(service));
        }
        self.next_attachment
    }

    /// True if this attachment was the present one.
    pub(crate) fn detach(&mut self, service: u16, attachment: u64) -> bool {
        let present = self.is_attached(service, attachment);
        if present {
            self.services.remove(&service);
        }
        present
    }

    pub(crate) fn is_attached(&self, service: u16, attachment: u64) -> bool {
        self.services.get(&service).is_some_and(|present| present.number == attachment)
    }

    pub(crate) fn attached(&self) -> Vec<u16> {
        self.services.keys().copied().collect()
    }

    pub(crate) fn service_event(&mut self, service: u16, event: StackServiceEvent) {
        if let Some(attachment) = self.services.get_mut(&service) {
            attachment.listener.batch.push(ServiceEvent::Stack(event));
        }
    }

    pub(crate) fn ring_down_to(&mut self, service: u16, why: &str) {
        if let Some(attachment) = self.services.get_mut(&service) {
            attachment.listener.batch.push(ServiceEvent::RingDown(why.to_owned()));
            attachment.listener.flush();
        }
    }

    /// Tells all attached engines that the ring has another configuration.
    pub(crate) fn configuration_reloaded(&mut self, config_version: u64) {
        for attachment in self.services.values_mut() {
            attachment.listener.batch.push(ServiceEvent::ConfigurationReloaded { config_version });
        }
    }

    /// Hands every batch over; whoever is gone or too slow is listed for [`Self::take_lost`].
    pub(crate) fn flush(&mut self) {
        let lost = &mut self.lost;
        self.members.retain(|&client, listener| {
            let alive = listener.flush();
            if !alive {
                lost.push(client);
            }
            alive
        });
        for attachment in self.services.values_mut() {
            attachment.listener.flush();
        }
    }

    pub(crate) fn take_lost(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.lost)
    }

    /// Group members lose their streams; attached engines stay and are told.
    pub(crate) fn ring_down(&mut self, why: &str) {
        for (_, mut listener) in std::mem::take(&mut self.members) {
            listener.flush();
            end(&listener.events, Error::NoRing(why.to_owned().into()));
        }
        self.lost.clear();
        for service in self.attached() {
            self.ring_down_to(service, why);
        }
    }
}
