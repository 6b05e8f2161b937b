//! The fields of messages: number (2 bytes), length (2 bytes), value; big endian.

use bytes::{Buf as _, BufMut as _, BytesMut};
use quorate_types::{NodeId, RingId};

use crate::{
    Algorithm, NodeState, TieBreaker,
    message::{Answer, DecodeError, ErrorCode, Heuristics, ListKind, ListedNode, TlsSupport},
};

const SEQ: u16 = 0;
const CLUSTER: u16 = 1;
const TLS: u16 = 2;
const CLIENT_CERTIFICATE: u16 = 3;
const MESSAGES: u16 = 4;
const FIELDS: u16 = 5;
const ERROR: u16 = 6;
const REQUEST_MAX: u16 = 7;
const REPLY_MAX: u16 = 8;
const NODE: u16 = 9;
const ALGORITHMS: u16 = 10;
const ALGORITHM: u16 = 11;
const HEARTBEAT: u16 = 12;
const RING: u16 = 13;
const CONFIG_VERSION: u16 = 14;
const STATE: u16 = 16;
const LISTED_NODE: u16 = 17;
const LIST: u16 = 18;
const VOTE: u16 = 19;
const QUORATE: u16 = 20;
const TIE_BREAKER: u16 = 21;
const HEURISTICS: u16 = 22;
const KEEP_ACTIVE_PARTITION: u16 = 23;

/// Fields that are known here; 15, a data centre, is never sent.
pub(crate) const KNOWN: [u16; 24] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];

/// A field with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Seq(u32),
    Cluster(String),
    Tls(TlsSupport),
    ClientCertificate(bool),
    Messages(Vec<u16>),
    Fields(Vec<u16>),
    Error(ErrorCode),
    RequestMax(u32),
    ReplyMax(u32),
    Node(NodeId),
    Algorithms(Vec<u16>),
    Algorithm(Algorithm),
    Heartbeat(u32),
    Ring(RingId),
    ConfigVersion(u64),
    State(NodeState),
    ListedNode(ListedNode),
    List(ListKind),
    Vote(Answer),
    Quorate(bool),
    TieBreaker(TieBreaker),
    Heuristics(Heuristics),
    KeepActivePartition(bool),
}

/// The fields in these bytes; `None` stands for one that is not known.
pub(crate) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<Option<Field>, DecodeError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = split(&mut bytes).and_then(|(number, value)| Field::read(number, value));
        if field.is_err() {
            bytes = &[];
        }
        Some(field)
    })
}

fn split<'a>(bytes: &mut &'a [u8]) -> Result<(u16, &'a [u8]), DecodeError> {
    if bytes.len() < 4 {
        return Err(DecodeError::Short);
    }
    let (number, length) = (bytes.get_u16(), usize::from(bytes.get_u16()));
    let (value, rest) = bytes.split_at_checked(length).ok_or(DecodeError::Short)?;
    *bytes = rest;
    Ok((number, value))
}

impl Field {
    fn read(number: u16, value: &[u8]) -> Result<Option<Self>, DecodeError> {
        let value = Value { number, bytes: value };
        Ok(Some(match number {
            SEQ => Self::Seq(value.u32()?),
            CLUSTER => Self::Cluster(value.text()?),
            TLS => Self::Tls(value.one_of(&TLS_SUPPORT)?),
            CLIENT_CERTIFICATE => Self::ClientCertificate(value.one_of(&SWITCH)?),
            MESSAGES => Self::Messages(value.numbers()?),
            FIELDS => Self::Fields(value.numbers()?),
            ERROR => Self::Error(ErrorCode(value.u16()?)),
            REQUEST_MAX => Self::RequestMax(value.u32()?),
            REPLY_MAX => Self::ReplyMax(value.u32()?),
            NODE => Self::Node(value.node(value.u32()?)?),
            ALGORITHMS => Self::Algorithms(value.numbers()?),
            ALGORITHM => Self::Algorithm(value.algorithm()?),
            HEARTBEAT => Self::Heartbeat(value.u32()?),
            RING => Self::Ring(value.ring()?),
            CONFIG_VERSION => Self::ConfigVersion(u64::from_be_bytes(value.array()?)),
            STATE => match value.u8()? {
                // Said of a node of which nothing is said.
                0 => return Ok(None),
                _ => Self::State(value.one_of(&STATES)?),
            },
            LISTED_NODE => Self::ListedNode(value.listed_node()?),
            LIST => Self::List(value.one_of(&LISTS)?),
            VOTE => Self::Vote(value.one_of(&ANSWERS)?),
            QUORATE => Self::Quorate(value.one_of(&SWITCH)?),
            TIE_BREAKER => Self::TieBreaker(value.tie_breaker()?),
            HEURISTICS => Self::Heuristics(value.one_of(&OUTCOMES)?),
            KEEP_ACTIVE_PARTITION => Self::KeepActivePartition(value.one_of(&SWITCH)?),
            _ => return Ok(None),
        }))
    }

    pub(crate) fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Seq(number) => put(out, SEQ, &number.to_be_bytes()),
            Self::Cluster(name) => put(out, CLUSTER, name.as_bytes()),
            Self::Tls(tls) => put(out, TLS, &number_of(&TLS_SUPPORT, tls)),
            Self::ClientCertificate(is) => put(out, CLIENT_CERTIFICATE, &number_of(&SWITCH, is)),
            Self::Messages(list) => put(out, MESSAGES, &be_bytes(list)),
            Self::Fields(list) => put(out, FIELDS, &be_bytes(list)),
            Self::Error(code) => put(out, ERROR, &code.0.to_be_bytes()),
            Self::RequestMax(max) => put(out, REQUEST_MAX, &max.to_be_bytes()),
            Self::ReplyMax(max) => put(out, REPLY_MAX, &max.to_be_bytes()),
            Self::Node(node) => put(out, NODE, &node.get().to_be_bytes()),
            Self::Algorithms(list) => put(out, ALGORITHMS, &be_bytes(list)),
            Self::Algorithm(algorithm) => put(out, ALGORITHM, &be_bytes(&[*algorithm as u16])),
            Self::Heartbeat(interval) => put(out, HEARTBEAT, &interval.to_be_bytes()),
            Self::Ring(ring) => {
                put(out, RING, &[&ring.rep.to_be_bytes()[..], &ring.seq.to_be_bytes()].concat());
            }
            Self::ConfigVersion(version) => put(out, CONFIG_VERSION, &version.to_be_bytes()),
            Self::State(state) => put(out, STATE, &number_of(&STATES, state)),
            Self::ListedNode(node) => write_node(out, *node),
            Self::List(list) => put(out, LIST, &number_of(&LISTS, list)),
            Self::Vote(answer) => put(out, VOTE, &number_of(&ANSWERS, answer)),
            Self::Quorate(is) => put(out, QUORATE, &number_of(&SWITCH, is)),
            Self::TieBreaker(rule) => put(out, TIE_BREAKER, &tie_breaker(*rule)),
            Self::Heuristics(outcome) => put(out, HEURISTICS, &number_of(&OUTCOMES, outcome)),
            Self::KeepActivePartition(is) => put(out, KEEP_ACTIVE_PARTITION, &number_of(&SWITCH, is)),
        }
    }
}

const SWITCH: [(u8, bool); 2] = [(0, false), (1, true)];
const TLS_SUPPORT: [(u8, TlsSupport); 3] =
    [(0, TlsSupport::Unsupported), (1, TlsSupport::Supported), (2, TlsSupport::Required)];
const STATES: [(u8, NodeState); 3] = [(1, NodeState::Member), (2, NodeState::Dead), (3, NodeState::Leaving)];
const LISTS: [(u8, ListKind); 4] = [
    (0, ListKind::InitialConfig),
    (1, ListKind::ChangedConfig),
    (2, ListKind::Membership),
    (3, ListKind::Quorum),
];
const ANSWERS: [(u8, Answer); 5] = [
    (1, Answer::Ack),
    (2, Answer::Nack),
    (3, Answer::AskLater),
    (4, Answer::WaitForReply),
    (5, Answer::NoChange),
];
const OUTCOMES: [(u8, Heuristics); 3] =
    [(0, Heuristics::Undefined), (1, Heuristics::Pass), (2, Heuristics::Fail)];

const BY_LOWEST: u8 = 1;
const BY_HIGHEST: u8 = 2;
const BY_NODE: u8 = 3;

fn put(out: &mut BytesMut, number: u16, value: &[u8]) {
    // No field comes near to 64 KiB; one that does is cut, not written with a wrong length.
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.put_u16(number);
    out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
    out.put_slice(value);
}

fn number_of<T: PartialEq>(table: &[(u8, T)], value: &T) -> [u8; 1] {
    let found = table.iter().find(|(_, named)| named == value);
    [found.expect("the tables have every value of their types").0]
}

fn be_bytes(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn tie_breaker(rule: TieBreaker) -> [u8; 5] {
    let (mode, node) = match rule {
        TieBreaker::Lowest => (BY_LOWEST, 0),
        TieBreaker::Highest => (BY_HIGHEST, 0),
        TieBreaker::Node(node) => (BY_NODE, node.get()),
    };
    let [a, b, c, d] = u32::to_be_bytes(node);
    [mode, a, b, c, d]
}

fn write_node(out: &mut BytesMut, listed: ListedNode) {
    let mut inner = BytesMut::new();
    Field::Node(listed.node).write(&mut inner);
    if let Some(state) = listed.state {
        Field::State(state).write(&mut inner);
    }
    put(out, LISTED_NODE, &inner);
}

struct Value<'a> {
    number: u16,
    bytes: &'a [u8],
}

impl Value<'_> {
    fn array<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        let length = DecodeError::Length { field: self.number, length: self.bytes.len() };
        self.bytes.try_into().map_err(|_| length)
    }

    fn u8(&self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    fn impossible(&self, value: u64) -> DecodeError {
        DecodeError::Value { field: self.number, value }
    }

    fn one_of<T: Copy>(&self, table: &[(u8, T)]) -> Result<T, DecodeError> {
        let number = self.u8()?;
        let found = table.iter().find(|(known, _)| *known == number);
        found.map(|(_, value)| *value).ok_or_else(|| self.impossible(number.into()))
    }

    fn text(&self) -> Result<String, DecodeError> {
        String::from_utf8(self.bytes.to_vec()).map_err(|_| DecodeError::Text { field: self.number })
    }

    fn numbers(&self) -> Result<Vec<u16>, DecodeError> {
        let (pairs, rest) = self.bytes.as_chunks::<2>();
        if rest.is_empty() {
            Ok(pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
        } else {
            Err(DecodeError::Length { field: self.number, length: self.bytes.len() })
        }
    }

    fn node(&self, id: u32) -> Result<NodeId, DecodeError> {
        NodeId::new(id).map_err(|_| self.impossible(id.into()))
    }

    fn ring(&self) -> Result<RingId, DecodeError> {
        let mut bytes: &[u8] = &self.array::<12>()?;
        Ok(RingId { rep: bytes.get_u32(), seq: bytes.get_u64() })
    }

    fn algorithm(&self) -> Result<Algorithm, DecodeError> {
        Ok(match self.u16()? {
            0 => Algorithm::Test,
            1 => Algorithm::Ffsplit,
            2 => Algorithm::TwoNodeLms,
            3 => Algorithm::Lms,
            other => return Err(self.impossible(other.into())),
        })
    }

    fn tie_breaker(&self) -> Result<TieBreaker, DecodeError> {
        let [mode, id @ ..] = self.array::<5>()?;
        Ok(match mode {
            BY_LOWEST => TieBreaker::Lowest,
            BY_HIGHEST => TieBreaker::Highest,
            BY_NODE => TieBreaker::Node(self.node(u32::from_be_bytes(id))?),
            other => return Err(self.impossible(other.into())),
        })
    }

    fn listed_node(&self) -> Result<ListedNode, DecodeError> {
        let (mut node, mut state) = (None, None);
        for field in fields_of_node(self.bytes) {
            match field? {
                Some(Field::Node(id)) => node = Some(id),
                Some(Field::State(is)) => state = Some(is),
                _ => {}
            }
        }
        let node = node.ok_or(DecodeError::Length { field: self.number, length: self.bytes.len() })?;
        Ok(ListedNode { node, state })
    }
}

/// As [`fields`], for the two that a listed node has: a node within a node is not followed.
fn fields_of_node(mut bytes: &[u8]) -> impl Iterator<Item = Result<Option<Field>, DecodeError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = split(&mut bytes).and_then(|(number, value)| match number {
            NODE | STATE => Field::read(number, value),
            _ => Ok(None),
        });
        if field.is_err() {
            bytes = &[];
        }
        Some(field)
    })
}
