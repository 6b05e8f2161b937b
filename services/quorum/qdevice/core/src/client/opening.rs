//! From nothing to a connection whose other end knows this node: connect, preinit, TLS, init.

use std::time::{Duration, Instant};

use tracing::info;

use super::{Client, Joined, Phase, lease::Lease, verdict::Verdict};
use crate::{
    Encryption, Output,
    message::{ErrorCode, Kind, ListKind, Message, TlsSupport},
    tlv,
};

/// Number of the field that says whether the active partition is kept; older arbiters do not know it.
const KEEP_ACTIVE_PARTITION: u16 = 23;

/// What is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connection,
    PreinitReply,
    Tls,
    /// With when the request was sent.
    InitReply(Instant),
}

/// A connection that is being established.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    step: Step,
    pub(super) deadline: Instant,
}

impl Opening {
    pub(super) fn timed_out(&self, limit: Duration) -> String {
        let what = match self.step {
            Step::Connection => "no connection",
            Step::PreinitReply => "no answer",
            Step::Tls => "no encrypted connection",
            Step::InitReply(_) => "no answer to this node's request",
        };
        format!("{what} within {} s", limit.as_secs_f32())
    }
}

impl Client {
    /// Tries to connect; there is a ring.
    pub(super) fn open(&mut self, now: Instant) {
        let deadline = now + self.config.connect_timeout;
        self.reset(Phase::Opening(Opening { step: Step::Connection, deadline }));
        let (host, port) = (self.config.host.clone(), self.config.port);
        self.outputs.push_back(Output::Connect { host, port });
    }

    fn step(&mut self, step: Step) {
        if let Phase::Opening(opening) = &mut self.phase {
            opening.step = step;
        }
    }

    fn awaits(&self) -> Option<Step> {
        match &self.phase {
            Phase::Opening(opening) => Some(opening.step),
            _ => None,
        }
    }

    pub(super) fn introduce(&mut self, _now: Instant) {
        if self.awaits() == Some(Step::Connection) {
            self.step(Step::PreinitReply);
            let cluster = Some(self.config.cluster.clone());
            self.send(Message { cluster, ..Message::new(Kind::Preinit) });
        }
    }

    pub(super) fn secured(&mut self, now: Instant) {
        if self.awaits() == Some(Step::Tls) {
            self.encrypted = true;
            self.init(now);
        }
    }

    pub(super) fn handle_opening(&mut self, now: Instant, message: &Message) {
        match (self.awaits(), message.kind) {
            (Some(Step::PreinitReply), Kind::PreinitReply) => {
                self.choose_encryption(now, message.tls.unwrap_or(TlsSupport::Unsupported));
            }
            (Some(Step::InitReply(sent)), Kind::InitReply) => match message.error {
                Some(ErrorCode::NONE) | None => self.join(now, sent, message),
                Some(code) => self.fail(now, format!("the quorum device refuses: {}", code.text())),
            },
            (_, kind) => {
                self.fail(
                    now,
                    format!("what answers does not speak as a quorum device: {kind:?} came too early"),
                );
            }
        }
    }

    fn choose_encryption(&mut self, now: Instant, arbiter: TlsSupport) {
        match (self.config.encryption, arbiter) {
            (Encryption::Off, TlsSupport::Required) => self.fail(
                now,
                "the quorum device accepts encrypted connections only, but quorum.device.net.tls is off"
                    .to_owned(),
            ),
            (Encryption::Required, TlsSupport::Unsupported) => self.fail(
                now,
                "quorum.device.net.tls is required, but the quorum device does not offer encryption"
                    .to_owned(),
            ),
            (Encryption::Off, _) | (_, TlsSupport::Unsupported) => self.init(now),
            _ => {
                self.step(Step::Tls);
                self.send(Message::new(Kind::StartTls));
                self.outputs.push_back(Output::StartTls);
            }
        }
    }

    fn init(&mut self, now: Instant) {
        let Some(ring) = self.view.as_ref().map(|view| view.ring) else { return };
        self.step(Step::InitReply(now));
        let config = &self.config;
        let heartbeat = u32::try_from(config.heartbeat.as_millis()).unwrap_or(u32::MAX);
        let message = Message {
            messages: Some(Kind::ALL.iter().map(|kind| *kind as u16).collect()),
            fields: Some(tlv::KNOWN.to_vec()),
            node: Some(config.me),
            algorithm: Some(config.algorithm),
            heartbeat_ms: Some(heartbeat),
            tie_breaker: Some(config.tie_breaker),
            ring: Some(ring),
            ..Message::new(Kind::Init)
        };
        self.send(message);
    }

    /// The arbiter knows this node: it is told all that it must know to decide.
    fn join(&mut self, now: Instant, sent: Instant, reply: &Message) {
        info!(
            host = self.config.host,
            port = self.config.port,
            encrypted = self.encrypted,
            "connected to the quorum device"
        );
        self.failures = 0;
        self.error.clear();
        let lease = Lease::new(self.config.heartbeat, sent, now);
        self.phase = Phase::Joined(Joined { lease, verdict: Verdict::default() });
        if reply.fields.as_ref().is_some_and(|known| known.contains(&KEEP_ACTIVE_PARTITION)) {
            let keep_active_partition = Some(self.config.keep_active_partition);
            self.send(Message { keep_active_partition, ..Message::new(Kind::SetOption) });
        }
        self.say_vote();
        self.tell_config(ListKind::InitialConfig);
        self.tell_members();
        self.send_quorum();
    }
}
