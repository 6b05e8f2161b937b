//! The messages between a node and its arbiter.
//!
//! Every message is a type and a list of fields; which fields a type has is in the table. Numbers are big endian.
//!
//! | type | name | fields |
//! |---:|---|---|
//! | 0, 1 | preinit, reply | cluster; whether TLS is possible, and a client certificate demanded |
//! | 2 | start TLS | |
//! | 3, 4 | init, reply | node, algorithm, heartbeat, tie breaker, ring; error code |
//! | 5 | server error | error code |
//! | 6, 7 | set option, reply | heartbeat, keep active partition |
//! | 8, 9 | echo request, reply | |
//! | 10, 11 | node list, reply | kind of list, nodes, ring or configuration version, quorate; vote |
//! | 12, 13 | ask for vote, reply | vote |
//! | 14, 15 | vote info, reply | vote, ring |
//! | 16, 17 | heuristics change, reply | heuristics; vote |

use bytes::{BufMut as _, Bytes, BytesMut};
use quorate_types::{NodeId, RingId};

use crate::{
    Algorithm, NodeState, TieBreaker,
    frame::HEADER_LEN,
    tlv::{self, Field},
};

/// Type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "the names are those of the table above")]
pub enum Kind {
    Preinit = 0,
    PreinitReply = 1,
    StartTls = 2,
    Init = 3,
    InitReply = 4,
    ServerError = 5,
    SetOption = 6,
    SetOptionReply = 7,
    EchoRequest = 8,
    EchoReply = 9,
    NodeList = 10,
    NodeListReply = 11,
    AskForVote = 12,
    AskForVoteReply = 13,
    VoteInfo = 14,
    VoteInfoReply = 15,
    HeuristicsChange = 16,
    HeuristicsChangeReply = 17,
}

impl Kind {
    /// All of them, by number.
    pub const ALL: [Self; 18] = [
        Self::Preinit,
        Self::PreinitReply,
        Self::StartTls,
        Self::Init,
        Self::InitReply,
        Self::ServerError,
        Self::SetOption,
        Self::SetOptionReply,
        Self::EchoRequest,
        Self::EchoReply,
        Self::NodeList,
        Self::NodeListReply,
        Self::AskForVote,
        Self::AskForVoteReply,
        Self::VoteInfo,
        Self::VoteInfoReply,
        Self::HeuristicsChange,
        Self::HeuristicsChangeReply,
    ];

    fn from_wire(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Whether an arbiter can encrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsSupport {
    /// It cannot.
    Unsupported,
    /// It can.
    Supported,
    /// It wants nothing else.
    Required,
}

/// What a list of nodes is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// The configured nodes, first time.
    InitialConfig,
    /// The configured nodes, changed.
    ChangedConfig,
    /// The members of the ring.
    Membership,
    /// All nodes with their states, and whether they are quorate.
    Quorum,
}

/// A vote as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// For this part.
    Ack,
    /// Not for this part.
    Nack,
    /// Not decided; a vote info follows.
    AskLater,
    /// Not decided; a vote info follows.
    WaitForReply,
    /// As before.
    NoChange,
}

/// Outcome of a node's own tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heuristics {
    /// There are none.
    Undefined,
    /// Passed.
    Pass,
    /// Failed.
    Fail,
}

/// Why an arbiter refuses. Unknown numbers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// All is well.
    pub const NONE: Self = Self(0);
    /// Another node of the cluster is connected with another tie breaker.
    pub const TIE_BREAKER_DIFFERS: Self = Self(15);
    /// Another node of the cluster is connected with another algorithm.
    pub const ALGORITHM_DIFFERS: Self = Self(16);
    /// A node with this id is connected already.
    pub const DUPLICATE_NODE_ID: Self = Self(17);

    /// In words that help.
    #[must_use]
    pub fn text(self) -> String {
        let text = match self.0 {
            0 => "no error",
            1 => "it needs a message type that this version does not know",
            2 => "it needs a field that this version does not know",
            3 => "it wants TLS (quorum.device.net.tls is off)",
            4 => "it does not know this type of message",
            5 => "the message was too long",
            6 | 11 => "a message came too early",
            7 => "a field is missing",
            8 => "a message was not expected",
            9 => "it could not read a message",
            10 => "an internal error of the arbiter; see its log",
            12 => "it does not know the algorithm of quorum.device.net.algorithm",
            13 => {
                "the heartbeat interval is out of its limits (1 s to 120 s by default); see quorum.device.timeout"
            }
            14 => "the algorithm does not know this message",
            15 => "other nodes of this cluster use another tie_breaker",
            16 => "other nodes of this cluster use another algorithm",
            17 => {
                "a node with this id is connected already: is its old connection not noticed as dead yet, \
                   or is there another cluster of this name?"
            }
            18 => "it refuses the list of configured nodes",
            19 => "it refuses the list of members",
            20 => "other nodes of this cluster have another keep_active_partition_tie_breaker",
            other => return format!("error {other}"),
        };
        text.to_owned()
    }
}

/// A node in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedNode {
    /// Its id.
    pub node: NodeId,
    /// Its state, in lists of kind [`ListKind::Quorum`].
    pub state: Option<NodeState>,
}

/// A message: its type, and the fields that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the table above")]
pub struct Message {
    pub kind: Kind,
    /// Given by who asks; the answer has the same.
    pub seq: Option<u32>,
    pub cluster: Option<String>,
    pub tls: Option<TlsSupport>,
    pub client_certificate: Option<bool>,
    /// Numbers of the message types that the sender knows.
    pub messages: Option<Vec<u16>>,
    /// Numbers of the fields that the sender knows.
    pub fields: Option<Vec<u16>>,
    pub error: Option<ErrorCode>,
    /// Longest message that the arbiter reads, in bytes.
    pub request_max: Option<u32>,
    /// Longest message that the arbiter sends, in bytes.
    pub reply_max: Option<u32>,
    pub node: Option<NodeId>,
    pub algorithms: Option<Vec<u16>>,
    pub algorithm: Option<Algorithm>,
    /// In milliseconds.
    pub heartbeat_ms: Option<u32>,
    pub ring: Option<RingId>,
    pub config_version: Option<u64>,
    pub list: Option<ListKind>,
    pub nodes: Vec<ListedNode>,
    pub vote: Option<Answer>,
    pub quorate: Option<bool>,
    pub tie_breaker: Option<TieBreaker>,
    pub heuristics: Option<Heuristics>,
    pub keep_active_partition: Option<bool>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No type has this number.
    #[error("no message has type {0}")]
    Kind(u16),
    /// The bytes end within a field.
    #[error("the message ends within a field")]
    Short,
    /// A field does not have the length of its type.
    #[error("field {field} has {length} bytes")]
    Length {
        /// Number of the field.
        field: u16,
        /// Its length.
        length: usize,
    },
    /// A field says what it cannot say.
    #[error("field {field} cannot be {value}")]
    Value {
        /// Number of the field.
        field: u16,
        /// What it says.
        value: u64,
    },
    /// A text is not UTF-8.
    #[error("field {field} is no text")]
    Text {
        /// Number of the field.
        field: u16,
    },
}

impl Message {
    /// A message without fields.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            seq: None,
            cluster: None,
            tls: None,
            client_certificate: None,
            messages: None,
            fields: None,
            error: None,
            request_max: None,
            reply_max: None,
            node: None,
            algorithms: None,
            algorithm: None,
            heartbeat_ms: None,
            ring: None,
            config_version: None,
            list: None,
            nodes: Vec::new(),
            vote: None,
            quorate: None,
            tie_breaker: None,
            heuristics: None,
            keep_active_partition: None,
        }
    }

    /// Reads a message. Fields that are not known are skipped; of a field that is repeated the last counts.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_wire(kind: u16, fields: &[u8]) -> Result<Self, DecodeError> {
        let mut message = Self::new(Kind::from_wire(kind).ok_or(DecodeError::Kind(kind))?);
        for field in tlv::fields(fields) {
            if let Some(field) = field? {
                message.put(field);
            }
        }
        Ok(message)
    }

    /// The bytes of a message, header included.
    #[must_use]
    pub fn to_wire(&self) -> Bytes {
        let mut fields = BytesMut::new();
        for field in self.list_fields() {
            field.write(&mut fields);
        }
        let mut bytes = BytesMut::with_capacity(HEADER_LEN + fields.len());
        bytes.put_u16(self.kind as u16);
        bytes.put_u32(u32::try_from(fields.len()).unwrap_or(u32::MAX));
        bytes.put(fields);
        bytes.freeze()
    }

    fn put(&mut self, field: Field) {
        match field {
            Field::Seq(seq) => self.seq = Some(seq),
            Field::Cluster(name) => self.cluster = Some(name),
            Field::Tls(tls) => self.tls = Some(tls),
            Field::ClientCertificate(is) => self.client_certificate = Some(is),
            Field::Messages(list) => self.messages = Some(list),
            Field::Fields(list) => self.fields = Some(list),
            Field::Error(code) => self.error = Some(code),
            Field::RequestMax(max) => self.request_max = Some(max),
            Field::ReplyMax(max) => self.reply_max = Some(max),
            Field::Node(node) => self.node = Some(node),
            Field::Algorithms(list) => self.algorithms = Some(list),
            Field::Algorithm(algorithm) => self.algorithm = Some(algorithm),
            Field::Heartbeat(interval) => self.heartbeat_ms = Some(interval),
            Field::Ring(ring) => self.ring = Some(ring),
            Field::ConfigVersion(version) => self.config_version = Some(version),
            Field::ListedNode(node) => self.nodes.push(node),
            Field::List(list) => self.list = Some(list),
            Field::Vote(vote) => self.vote = Some(vote),
            Field::Quorate(is) => self.quorate = Some(is),
            Field::TieBreaker(rule) => self.tie_breaker = Some(rule),
            Field::Heuristics(outcome) => self.heuristics = Some(outcome),
            Field::KeepActivePartition(is) => self.keep_active_partition = Some(is),
            // Only within a listed node.
            Field::State(_) => {}
        }
    }

    fn list_fields(&self) -> Vec<Field> {
        let single = [
            self.seq.map(Field::Seq),
            self.cluster.clone().map(Field::Cluster),
            self.tls.map(Field::Tls),
            self.client_certificate.map(Field::ClientCertificate),
            self.messages.clone().map(Field::Messages),
            self.fields.clone().map(Field::Fields),
            self.error.map(Field::Error),
            self.request_max.map(Field::RequestMax),
            self.reply_max.map(Field::ReplyMax),
            self.node.map(Field::Node),
            self.algorithms.clone().map(Field::Algorithms),
            self.algorithm.map(Field::Algorithm),
            self.heartbeat_ms.map(Field::Heartbeat),
            self.list.map(Field::List),
            self.ring.map(Field::Ring),
            self.config_version.map(Field::ConfigVersion),
            self.vote.map(Field::Vote),
            self.quorate.map(Field::Quorate),
            self.tie_breaker.map(Field::TieBreaker),
            self.heuristics.map(Field::Heuristics),
            self.keep_active_partition.map(Field::KeepActivePartition),
        ];
        single.into_iter().flatten().chain(self.nodes.iter().copied().map(Field::ListedNode)).collect()
    }
}
