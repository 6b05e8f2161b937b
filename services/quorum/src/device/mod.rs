//! The quorum device of this node: the client that talks to the arbiter, and its connection.
//!
//! | file | holds |
//! |---|---|
//! | `connection.rs` | one connection to the arbiter: bytes in, bytes out, TLS on demand |
//! | `tls.rs` | the certificates, and whom to trust |
//! | `view.rs` | what the API shows |

mod connection;
mod tls;
mod view;

use std::time::{Duration, Instant};

use quorate_daemon::Root;
use quorate_types::RingId;
use quorum_core::DeviceVote;

use crate::config::{Cluster, Role};
use connection::Connection;
pub(crate) use connection::Event;
pub(crate) use view::{column, device_status};

/// The device, if one is configured.
#[derive(Debug)]
pub(crate) struct Device {
    client: qdevice_core::Client,
    connection: Option<Connection>,
    root: Root,
}

/// What the driver must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) ring: RingId,
    pub(crate) vote: DeviceVote,
}

impl Device {
    /// The device that corosync.conf names.
    pub(crate) fn of(role: &Role, root: &Root) -> Option<Self> {
        let Role::Node(cluster) = role else { return None };
        let client = qdevice_core::Client::new(config(cluster)?);
        Some(Self { client, connection: None, root: root.clone() })
    }

    /// Applies another corosync.conf to a device that stays.
    pub(crate) fn reconfigure(&mut self, cluster: &Cluster) {
        if let Some(config) = config(cluster) {
            self.handle(qdevice_core::Input::Reconfigure(config));
        }
    }

    pub(crate) fn handle(&mut self, input: qdevice_core::Input) {
        self.client.handle_input(Instant::now(), input);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.client.next_deadline()
    }

    /// The next thing that happens on the connection; never, without one.
    pub(crate) async fn next_event(&mut self) -> Event {
        match &mut self.connection {
            Some(connection) => connection.next_event().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn handle_event(&mut self, event: Event) {
        let input = match event {
            Event::Connected => qdevice_core::Input::Connected,
            Event::Secured => qdevice_core::Input::Secured,
            Event::Received(bytes) => qdevice_core::Input::Received(bytes),
            Event::Closed(reason) => {
                self.connection = None;
                qdevice_core::Input::Closed { reason }
            }
        };
        self.handle(input);
    }

    /// Carries out what the client wants, up to what it says about the vote: that must be in force before the rest.
    pub(crate) fn carry_out(&mut self) -> Option<Said> {
        while let Some(output) = self.client.poll_output() {
            match output {
                qdevice_core::Output::Vote { ring, vote } => return Some(Said { ring, vote: vote_of(vote) }),
                qdevice_core::Output::Connect { host, port } => {
                    self.connection = Some(Connection::open(host, port, self.root.clone()));
                }
                qdevice_core::Output::StartTls => self.command(connection::Command::StartTls),
                qdevice_core::Output::Send(bytes) => self.command(connection::Command::Send(bytes)),
                qdevice_core::Output::Close => self.connection = None,
            }
        }
        None
    }

    fn command(&mut self, command: connection::Command) {
        let is_taken = self.connection.as_ref().is_some_and(|connection| connection.command(command));
        if !is_taken && self.connection.take().is_some() {
            let reason = "the quorum device does not read what is sent to it".to_owned();
            self.handle(qdevice_core::Input::Closed { reason });
        }
    }
}

const fn vote_of(vote: qdevice_core::Vote) -> DeviceVote {
    match vote {
        qdevice_core::Vote::Unreachable => DeviceVote::Unreachable,
        qdevice_core::Vote::Undecided => DeviceVote::Undecided,
        qdevice_core::Vote::Granted => DeviceVote::Granted,
        qdevice_core::Vote::Refused => DeviceVote::Refused,
    }
}

/// What the client needs to know; `None` without a device of model net.
fn config(cluster: &Cluster) -> Option<qdevice_core::Config> {
    let conf = &cluster.conf;
    let device = conf.quorum.device.as_ref()?;
    let net = device.net.as_ref()?;
    // Source: corosync-qdevice(8), `connect_timeout`; observed for the heartbeat.
    let most = Duration::from_millis(u64::from(device.timeout) * 4 / 5);
    let connect_timeout = net.connect_timeout.map_or(most, |timeout| Duration::from_millis(timeout.into()));
    Some(qdevice_core::Config {
        cluster: conf.totem.cluster_name.to_string(),
        me: cluster.me,
        host: net.host.clone(),
        port: net.port,
        encryption: match net.tls {
            corosync_conf::DeviceTls::Off => qdevice_core::Encryption::Off,
            corosync_conf::DeviceTls::On => qdevice_core::Encryption::On,
            corosync_conf::DeviceTls::Required => qdevice_core::Encryption::Required,
        },
        algorithm: match net.algorithm {
            corosync_conf::DeviceAlgorithm::Test => qdevice_core::Algorithm::Test,
            corosync_conf::DeviceAlgorithm::Ffsplit => qdevice_core::Algorithm::Ffsplit,
            corosync_conf::DeviceAlgorithm::TwoNodeLms => qdevice_core::Algorithm::TwoNodeLms,
            corosync_conf::DeviceAlgorithm::Lms => qdevice_core::Algorithm::Lms,
        },
        tie_breaker: match net.tie_breaker {
            corosync_conf::DeviceTieBreaker::Lowest => qdevice_core::TieBreaker::Lowest,
            corosync_conf::DeviceTieBreaker::Highest => qdevice_core::TieBreaker::Highest,
            corosync_conf::DeviceTieBreaker::Node(node) => qdevice_core::TieBreaker::Node(node),
        },
        keep_active_partition: net.keep_active_partition,
        heartbeat: most,
        connect_timeout,
        nodes: conf.nodes.iter().map(|node| node.id).collect(),
        config_version: conf.totem.config_version,
    })
}
