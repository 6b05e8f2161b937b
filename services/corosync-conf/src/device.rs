//! The section `quorum.device`: an arbiter outside of the cluster. Source: corosync-qdevice(8).

use quorate_types::NodeId;

use crate::{
    Reason, Tree,
    read::{Mistakes, Scope},
};

/// Where the tree keeps what the nodes show to the arbiter, in PEM: the certificate of the arbiter's CA, the
/// certificate that it signed for the cluster, and that one's private key.
pub const DEVICE_CREDENTIALS_PATH: &str = "priv/qdevice.pem";

/// `quorum.device`. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// `model`, as `net`.
    pub model: Option<String>,
    /// `votes` of the device; by default one less than all nodes have.
    pub votes: Option<u32>,
    /// `timeout`, default 10000: from it follow the times of the connection to the arbiter.
    pub timeout: u32,
    /// `net`, if the model is `net` and there is a `net.host`.
    pub net: Option<DeviceNet>,
    /// Whether `heuristics.mode` is other than off.
    pub has_heuristics: bool,
}

/// `quorum.device.net`: the arbiter is a `corosync-qnetd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNet {
    /// `host`: its name or address.
    pub host: String,
    /// `port`, default 5403.
    pub port: u16,
    /// `tls`, default on.
    pub tls: DeviceTls,
    /// `algorithm`, default ffsplit.
    pub algorithm: DeviceAlgorithm,
    /// `tie_breaker`, default lowest.
    pub tie_breaker: DeviceTieBreaker,
    /// `keep_active_partition_tie_breaker`, default on.
    pub keep_active_partition: bool,
    /// `connect_timeout`, default 0.8 times `timeout`.
    pub connect_timeout: Option<u32>,
}

/// `quorum.device.net.tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceTls {
    /// `off`
    Off,
    /// `on`: if the arbiter can.
    #[default]
    On,
    /// `required`
    Required,
}

/// `quorum.device.net.algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceAlgorithm {
    /// `test`
    Test,
    /// `ffsplit`
    #[default]
    Ffsplit,
    /// `2nodelms`
    TwoNodeLms,
    /// `lms`
    Lms,
}

impl DeviceAlgorithm {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Ffsplit => "ffsplit",
            Self::TwoNodeLms => "2nodelms",
            Self::Lms => "lms",
        }
    }
}

/// `quorum.device.net.tie_breaker`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceTieBreaker {
    /// `lowest`
    #[default]
    Lowest,
    /// `highest`
    Highest,
    /// A node id.
    Node(NodeId),
}

/// Default of `timeout` in milliseconds. Source: corosync-qdevice(8).
const TIMEOUT: u32 = 10_000;
/// Limits of `timeout` in milliseconds: what an arbiter accepts by default as a heartbeat, which is 0.8 of it.
const TIMEOUT_LIMITS: (u64, u64) = (1_250, 150_000);
/// Port of an arbiter.
const PORT: u16 = 5403;

pub(crate) fn read(tree: &Tree, mistakes: &mut Mistakes) -> Option<Device> {
    let device = Scope::all(tree, "quorum.device");
    let votes = device.u32(mistakes, "votes");
    let timeout = device.number(mistakes, "timeout", TIMEOUT_LIMITS).unwrap_or(TIMEOUT);
    let mode = Scope::all(tree, "quorum.device.heuristics").text("mode").unwrap_or("off");
    let net = read_net(tree, mistakes);
    device.is_there().then(|| {
        let model = device.text("model").map(str::to_owned);
        let net = net.filter(|_| model.as_deref() == Some("net"));
        Device { model, votes, timeout, net, has_heuristics: mode != "off" }
    })
}

fn read_net(tree: &Tree, mistakes: &mut Mistakes) -> Option<DeviceNet> {
    let net = Scope::all(tree, "quorum.device.net");
    let tls = [("off", DeviceTls::Off), ("on", DeviceTls::On), ("required", DeviceTls::Required)];
    let tls = net.word(mistakes, "tls", "on, off, required", &tls).unwrap_or_default();
    let algorithms =
        [DeviceAlgorithm::Test, DeviceAlgorithm::Ffsplit, DeviceAlgorithm::TwoNodeLms, DeviceAlgorithm::Lms];
    let algorithms = algorithms.map(|algorithm| (algorithm.as_str(), algorithm));
    let algorithm = net.word(mistakes, "algorithm", "ffsplit, lms, 2nodelms, test", &algorithms);
    let keep_active = net.word_switch(mistakes, "keep_active_partition_tie_breaker");
    let port = net.number(mistakes, "port", (1, u16::MAX.into())).unwrap_or(PORT);
    let connect_timeout = net.u32(mistakes, "connect_timeout");
    let tie_breaker = read_tie_breaker(&net, mistakes);
    Some(DeviceNet {
        host: net.text("host")?.to_owned(),
        port,
        tls,
        algorithm: algorithm.unwrap_or_default(),
        tie_breaker,
        keep_active_partition: keep_active.unwrap_or(true),
        connect_timeout,
    })
}

fn read_tie_breaker(net: &Scope<'_>, mistakes: &mut Mistakes) -> DeviceTieBreaker {
    const KEY: &str = "tie_breaker";
    match net.text(KEY) {
        None | Some("lowest") => DeviceTieBreaker::Lowest,
        Some("highest") => DeviceTieBreaker::Highest,
        Some(word) => match word.parse().ok().and_then(|id| NodeId::new(id).ok()) {
            Some(node) => DeviceTieBreaker::Node(node),
            None => {
                let reason = Reason::Word { value: word.to_owned(), allowed: "lowest, highest, a node id" };
                mistakes.add(net.line_of(KEY), net.path(KEY), reason);
                DeviceTieBreaker::Lowest
            }
        },
    }
}
