//! The one task between the status store and its group.

use std::{net::IpAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use config_store_core::{
    conf_change::ConfInput,
    status::{NODE_IP, StatusInput, StatusOutput},
};
use quorate_types::NodeId;
use tokio::sync::{
    Notify,
    broadcast::{Receiver, error::RecvError},
    mpsc,
};
use tokio_util::sync::CancellationToken;

use super::Status;
use crate::{
    conf_guard::COROSYNC_CONF, group::GroupInput, group_events, identity::IdentitySource, view::Notice,
};

/// Keeps the status store in its group until shutdown. `rejoin` makes the group's task leave and join anew.
pub(crate) async fn keep_running(
    status: Status,
    identities: IdentitySource,
    mut group: mpsc::Receiver<GroupInput>,
    rejoin: Arc<Notify>,
    conf: mpsc::UnboundedSender<ConfInput>,
    shutdown: CancellationToken,
) {
    let mut notices = status.0.view.subscribe();
    let mut task = Task { status, identities, node: None, outgoing: None, rejoin, conf };
    // The group's task has not joined yet: what this says is no reason to join anew.
    task.identify();
    task.look_around();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            input = group.recv() => match input {
                Some(input) => task.group(input),
                None => return,
            },
            () = task.status.0.outgoing.notified() => {}
            changed = conf_may_have_changed(&mut notices) => match changed {
                true => task.look_around(),
                false => return,
            },
        }
        task.send();
    }
}

/// Waits until corosync.conf, and with it the nodes, may be another; `false` when the tree is gone.
async fn conf_may_have_changed(notices: &mut Receiver<Notice>) -> bool {
    loop {
        match notices.recv().await {
            Ok(Notice::Touched(touches)) => {
                let mut places = touches.iter().flat_map(|touch| [&touch.before, &touch.after]).flatten();
                if places.any(|place| place.name.as_ref() == COROSYNC_CONF) {
                    return true;
                }
            }
            Ok(Notice::Reset) | Err(RecvError::Lagged(_)) => return true,
            Ok(Notice::Writable(_)) => {}
            Err(RecvError::Closed) => return false,
        }
    }
}

struct Task {
    status: Status,
    identities: IdentitySource,
    node: Option<NodeId>,
    outgoing: Option<mpsc::UnboundedSender<Vec<Bytes>>>,
    rejoin: Arc<Notify>,
    /// What concerns changes of corosync.conf, in the group's order: a few words for each change.
    conf: mpsc::UnboundedSender<ConfInput>,
}

impl Task {
    fn group(&mut self, input: GroupInput) {
        match input {
            GroupInput::Joined(outgoing) => {
                self.identify();
                self.outgoing = Some(outgoing);
            }
            GroupInput::Lost => {
                self.outgoing = None;
                self.feed(StatusInput::Lost);
            }
            GroupInput::Batch(events) => {
                events
                    .into_iter()
                    .filter_map(group_events::happened)
                    .for_each(|happened| self.feed(happened.into()));
            }
        }
    }

    fn feed(&self, input: StatusInput) {
        self.status.change().handle_input(Instant::now(), input);
    }

    /// Which node this is, and which others there are, may be known anew.
    fn look_around(&mut self) {
        if self.identify() {
            self.outgoing = None;
            self.feed(StatusInput::Lost);
            self.rejoin.notify_one();
        }
        let address = {
            let index = self.status.index();
            let Some(cluster) = index.cluster() else { return };
            let nodes: Vec<NodeId> = cluster.nodes().iter().map(|node| node.id).collect();
            self.status.change().keep_only(&nodes);
            cluster
                .named(self.identities.name().as_str())
                .and_then(|node| node.addresses.values().next().cloned())
        };
        if let Some(address) = address {
            tokio::spawn(tell_address(self.status.clone(), address));
        }
    }

    /// Whether this node is another one than before. A corosync.conf that cannot be read changes nothing: the driver
    /// says what is wrong with it.
    fn identify(&mut self) -> bool {
        let Ok(identity) = self.identities.read() else { return false };
        let changed = std::mem::replace(&mut self.node, identity.node) != identity.node;
        self.status.change().set_node(identity.node);
        changed
    }

    /// Carries out what the store asks for.
    fn send(&self) {
        let mut multicasts = Vec::new();
        loop {
            // Not in the condition of the loop: the lock would be held in its body.
            let output = self.status.change().poll_output();
            match output {
                Some(StatusOutput::Multicast(message)) => multicasts.push(message),
                Some(StatusOutput::MembersChanged { before, now }) => {
                    tracing::info!(online = now.len(), before = before.len(), "status group");
                    self.status.note_members(self.node, &before, &now);
                    let _ = self.conf.send(ConfInput::Members(now));
                }
                Some(StatusOutput::ConfWord { node, value }) => self.conf_word(node, value.as_ref()),
                None => break,
            }
        }
        if let Some(outgoing) = self.outgoing.as_ref().filter(|_| !multicasts.is_empty()) {
            // A stream that has ended is reported through its own input.
            let _ = outgoing.send(multicasts);
        }
    }
}

impl Task {
    /// Hands on what a member says of corosync.conf; who follows it and has ended is ending as well.
    fn conf_word(&self, node: NodeId, value: Option<&Bytes>) {
        let Some(value) = value else { return };
        match String::from_utf8_lossy(value).parse() {
            Ok(word) => _ = self.conf.send(ConfInput::Said { node, word }),
            Err(error) => tracing::warn!(%node, %error, "a word on corosync.conf cannot be read"),
        }
    }
}

/// Publishes this node's address on the first link, if it can be resolved and is not known already.
async fn tell_address(status: Status, address: String) {
    let ip = match address.parse::<IpAddr>() {
        Ok(ip) => Some(ip),
        Err(_) => match tokio::net::lookup_host((address.as_str(), 0)).await {
            Ok(mut found) => found.next().map(|found| found.ip()),
            Err(error) => {
                tracing::warn!(address, %error, "this node's address cannot be resolved");
                None
            }
        },
    };
    let Some(ip) = ip.map(|ip| Bytes::from(ip.to_string())) else { return };
    if status.fetch(NODE_IP, "").ok().as_ref() != Some(&ip)
        && let Err(error) = status.publish(NODE_IP, ip)
    {
        tracing::warn!(%error, "this node's address is not told");
    }
}
