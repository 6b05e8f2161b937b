//! What the status stores say to each other in their process group.
//!
//! Every message starts with the same head as the tree's; little-endian:
//!
//! | field | size | meaning |
//! |---|---|---|
//! | format | 1 | 1 |
//! | kind | 1 | see [`StatusMessage`] |
//! | incarnation | 8 | of the sending process |
//! | serial | 8 | counts the sender's messages |
//!
//! A message of an unknown format or kind is skipped.

use bytes::{BufMut, Bytes, BytesMut};

use super::{KEY_MAX, VALUE_MAX, entry::LogEntry, rrd::RRD_VALUE_MAX};
use crate::wire::{Put, Reader, WireError};

pub(super) const FORMAT: u8 = 1;
/// Bytes after which a message of several items takes no more.
pub(super) const PIECE: usize = 64 * 1024;
/// Most items that a message can claim to have.
const ITEMS_MAX: usize = 1 << 20;

/// A key's value, or that it has none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueItem {
    /// The key.
    pub key: String,
    /// Counts the changes of its node: tells a repetition from a change.
    pub revision: u64,
    /// The value; `None`: removed.
    pub value: Option<Bytes>,
}

/// One message of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusMessage {
    /// The sender has seen a change of the group and repeats all of its values, up to [`StatusMessage::End`].
    Begin {
        /// Counts the sender's repetitions.
        snapshot: u64,
        /// Sum of the entries of its log: members with the same sum need not send theirs.
        log_sum: u64,
    },
    /// Values that changed, or are repeated.
    Values(Vec<ValueItem>),
    /// The repetition is complete: what it did not name the sender does not have.
    End {
        /// Which repetition.
        snapshot: u64,
    },
    /// New figures, by key.
    Figures(Vec<(String, Bytes)>),
    /// Entries that the sender has just made.
    Log(Vec<LogEntry>),
    /// A part of the sender's log.
    LogState(Vec<LogEntry>),
}

/// A message with who sent it as which process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedStatus {
    /// Incarnation of the sending process.
    pub incarnation: u64,
    /// Counts the sender's messages.
    pub serial: u64,
    /// The message.
    pub message: StatusMessage,
}

impl SignedStatus {
    /// The bytes for the group.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(FORMAT);
        out.put_u8(self.message.kind());
        out.put_u64_le(self.incarnation);
        out.put_u64_le(self.serial);
        self.message.encode_body(&mut out);
        out.freeze()
    }

    /// Reads a message of the group; `None` for one of a later version.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are no message.
    pub fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        let mut reader = Reader::new(bytes);
        let (format, kind) = (reader.u8()?, reader.u8()?);
        if format != FORMAT {
            return Ok(None);
        }
        let (incarnation, serial) = (reader.u64()?, reader.u64()?);
        let message = StatusMessage::decode_body(kind, reader)?;
        Ok(message.map(|message| Self { incarnation, serial, message }))
    }
}

impl StatusMessage {
    fn kind(&self) -> u8 {
        match self {
            Self::Begin { .. } => 1,
            Self::Values(_) => 2,
            Self::End { .. } => 3,
            Self::Figures(_) => 4,
            Self::Log(_) => 5,
            Self::LogState(_) => 6,
        }
    }

    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Self::Begin { snapshot, log_sum } => {
                out.put_u64_le(*snapshot);
                out.put_u64_le(*log_sum);
            }
            Self::End { snapshot } => out.put_u64_le(*snapshot),
            Self::Values(items) => {
                out.put_count(items.len());
                items.iter().for_each(|item| put_value(out, item));
            }
            Self::Figures(items) => {
                out.put_count(items.len());
                for (key, text) in items {
                    out.put_short(key.as_bytes());
                    out.put_long(text);
                }
            }
            Self::Log(entries) | Self::LogState(entries) => {
                out.put_count(entries.len());
                entries.iter().for_each(|entry| entry.put(out));
            }
        }
    }

    fn decode_body(kind: u8, mut body: Reader) -> Result<Option<Self>, WireError> {
        let message = match kind {
            1 => Self::Begin { snapshot: body.u64()?, log_sum: body.u64()? },
            2 => Self::Values(items(&mut body, 11, value)?),
            3 => Self::End { snapshot: body.u64()? },
            4 => Self::Figures(items(&mut body, 6, figures)?),
            5 => Self::Log(items(&mut body, 21, LogEntry::read)?),
            6 => Self::LogState(items(&mut body, 21, LogEntry::read)?),
            _ => return Ok(None),
        };
        body.finish()?;
        Ok(Some(message))
    }
}

fn items<T>(
    body: &mut Reader,
    least: usize,
    read: impl Fn(&mut Reader) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = body.count("items", least, ITEMS_MAX)?;
    (0..count).map(|_| read(body)).collect()
}

fn put_value(out: &mut BytesMut, item: &ValueItem) {
    out.put_short(item.key.as_bytes());
    out.put_u64_le(item.revision);
    out.put_u8(item.value.is_some().into());
    if let Some(value) = &item.value {
        out.put_long(value);
    }
}

fn value(body: &mut Reader) -> Result<ValueItem, WireError> {
    let (key, revision) = (key(body)?, body.u64()?);
    let present = body.flag("present")?;
    // A copy: a slice of the message would keep all of it.
    let value = present.then(|| body.long("value", VALUE_MAX).map(|value| Bytes::copy_from_slice(&value)));
    Ok(ValueItem { key, revision, value: value.transpose()? })
}

fn figures(body: &mut Reader) -> Result<(String, Bytes), WireError> {
    let key = key(body)?;
    let text = body.long("figures", RRD_VALUE_MAX)?;
    match super::rrd::check(&key, Bytes::copy_from_slice(&text)) {
        Ok(text) => Ok((key, text)),
        Err(_) => Err(WireError::NotText { what: "figures" }),
    }
}

fn key(body: &mut Reader) -> Result<String, WireError> {
    let key = body.text("key")?;
    match super::check_key(&key) {
        Ok(()) => Ok(key),
        Err(_) => Err(WireError::TooLong { what: "key", length: key.len(), max: KEY_MAX }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::status::entry::LogDraft;

    fn entry() -> impl Strategy<Value = LogEntry> {
        let texts = ("[a-z0-9.-]{1,20}", "[ -~]{0,30}", "[ -~]{0,30}", ".{0,60}");
        (any::<u32>(), any::<u32>(), any::<u32>(), 0u32..8, texts).prop_map(
            |(uid, time, pid, priority, (node, ident, tag, message))| {
                LogEntry::new(&node, uid, time, LogDraft { ident, tag, pid, priority, message }).unwrap()
            },
        )
    }

    fn messages() -> impl Strategy<Value = StatusMessage> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let item = ("[ -~]{1,30}", any::<u64>(), proptest::option::of(bytes))
            .prop_map(|(key, revision, value)| ValueItem { key, revision, value });
        let figures = ("[ -~]{1,30}", "[0-9U:]{0,40}").prop_map(|(key, text)| (key, Bytes::from(text)));
        let entries = || proptest::collection::vec(entry(), 0..4);
        prop_oneof![
            (any::<u64>(), any::<u64>())
                .prop_map(|(snapshot, log_sum)| StatusMessage::Begin { snapshot, log_sum }),
            proptest::collection::vec(item, 0..4).prop_map(StatusMessage::Values),
            any::<u64>().prop_map(|snapshot| StatusMessage::End { snapshot }),
            proptest::collection::vec(figures, 0..4).prop_map(StatusMessage::Figures),
            entries().prop_map(StatusMessage::Log),
            entries().prop_map(StatusMessage::LogState),
        ]
    }

    proptest! {
        #[test]
        fn every_message_is_read_back_as_written(message in messages(), incarnation: u64, serial: u64) {
            let signed = SignedStatus { incarnation, serial, message };
            prop_assert_eq!(SignedStatus::decode(signed.encode()), Ok(Some(signed)));
        }

        #[test]
        fn decoding_never_panics(kind in 0u8..9, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SignedStatus::decode(Bytes::from([vec![FORMAT, kind], bytes].concat()));
        }

        #[test]
        fn a_message_that_was_cut_is_refused_and_a_damaged_one_never_panics(
            message in messages(),
            at in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut bytes = SignedStatus { incarnation: 1, serial: 2, message }.encode().to_vec();
            let at = at.index(bytes.len());
            prop_assert!(SignedStatus::decode(Bytes::copy_from_slice(&bytes[..at])).is_err());
            bytes[at] ^= 1_u8 << bit;
            let _ = SignedStatus::decode(Bytes::from(bytes));
        }
    }

    #[test]
    fn what_a_later_version_sends_is_skipped() {
        let message = StatusMessage::End { snapshot: 1 };
        let mut bytes = SignedStatus { incarnation: 1, serial: 2, message }.encode().to_vec();
        bytes[1] = 99;
        assert_eq!(SignedStatus::decode(Bytes::copy_from_slice(&bytes)), Ok(None));
        bytes[0] = 2;
        assert_eq!(SignedStatus::decode(Bytes::from(bytes)), Ok(None));
    }

    #[test]
    fn lengths_beyond_the_limits_are_refused() {
        let item =
            ValueItem { key: "k".into(), revision: 1, value: Some(Bytes::from(vec![0; VALUE_MAX + 1])) };
        let message = StatusMessage::Values(vec![item]);
        let bytes = SignedStatus { incarnation: 1, serial: 2, message }.encode();
        assert!(matches!(SignedStatus::decode(bytes), Err(WireError::TooLong { what: "value", .. })));
    }
}
