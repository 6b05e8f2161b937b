//! One entry of the cluster log: its limits, its identity, and its size as it is accounted.
//!
//! Source: pmxcfs specification, section 10.1.

use bytes::{BufMut, BytesMut};

use super::{StatusError, fnv};
use crate::wire::{Put, Reader, WireError};

/// Longest node, ident or tag in bytes: 255 with the zero byte that pmxcfs counts.
pub const LOG_FIELD_MAX: usize = 254;
/// Largest entry in bytes as it is accounted; a longer message is cut.
pub const LOG_ENTRY_MAX: usize = 4096;
/// Bytes of an entry besides its texts.
const FIXED: usize = 48;
/// Highest priority of syslog: debug.
const PRIORITY_MAX: u8 = 7;

/// What a caller wants to have in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDraft {
    /// Who caused it: a user such as `root@pam`.
    pub ident: String,
    /// Which program says it.
    pub tag: String,
    /// Its process id.
    pub pid: u32,
    /// Syslog's priority, 0 (emergency) to 7 (debug).
    pub priority: u32,
    /// What happened.
    pub message: String,
}

/// An entry of the cluster log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Counts the entries of the process that made it.
    pub uid: u32,
    /// When it was made, by its node's clock in whole UTC seconds.
    pub time: u32,
    /// Name of the node that made it.
    pub node: String,
    /// Who caused it.
    pub ident: String,
    /// Which program says it.
    pub tag: String,
    /// Its process id.
    pub pid: u32,
    /// Syslog's priority, 0 to 7.
    pub priority: u8,
    /// What happened.
    pub message: String,
}

/// The place of an entry in the log, and what tells it from all others: time, digest of the node's name, uid, and digest
/// of the rest. Two processes of a node that began within one second use the same uids; by the last part both their
/// entries are kept.
pub(super) type LogKey = (u32, u64, u32, u64);

impl LogEntry {
    /// An entry of `node`; a message that does not fit is cut.
    pub(super) fn new(node: &str, uid: u32, time: u32, draft: LogDraft) -> Result<Self, StatusError> {
        let priority = u8::try_from(draft.priority).ok().filter(|priority| *priority <= PRIORITY_MAX);
        let mut entry = Self {
            uid,
            time,
            node: node.to_owned(),
            ident: field("ident", draft.ident)?,
            tag: field("tag", draft.tag)?,
            pid: draft.pid,
            priority: priority.ok_or(StatusError::PriorityInvalid(draft.priority))?,
            message: draft.message,
        };
        let excess = entry.size().saturating_sub(LOG_ENTRY_MAX);
        if excess > 0 {
            let mut end = entry.message.len() - excess;
            while !entry.message.is_char_boundary(end) {
                end -= 1;
            }
            entry.message.truncate(end);
        }
        Ok(entry)
    }

    /// FNV-1a over the node's name and its zero byte.
    #[must_use]
    pub fn node_digest(&self) -> u64 {
        fnv::of_text(&self.node)
    }

    pub(super) fn key(&self) -> LogKey {
        let texts = [&self.ident, &self.tag, &self.message];
        let rest =
            texts.iter().fold(u64::from(self.pid), |digest, text| digest.rotate_left(1) ^ fnv::of_text(text));
        (self.time, self.node_digest(), self.uid, rest)
    }

    /// Bytes of the entry as pmxcfs packs it, the zero bytes of its texts included.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.node, &self.ident, &self.tag, &self.message];
        FIXED + texts.iter().map(|text| text.len() + 1).sum::<usize>()
    }

    /// Bytes that it takes in the buffer: entries begin at multiples of 8.
    pub(super) fn accounted(&self) -> usize {
        self.size().next_multiple_of(8)
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u32_le(self.uid);
        out.put_u32_le(self.time);
        out.put_u32_le(self.pid);
        out.put_u8(self.priority);
        for text in [&self.node, &self.ident, &self.tag, &self.message] {
            out.put_short(text.as_bytes());
        }
    }

    pub(super) fn read(body: &mut Reader) -> Result<Self, WireError> {
        let (uid, time, pid, priority) = (body.u32()?, body.u32()?, body.u32()?, body.u8()?);
        if priority > PRIORITY_MAX {
            return Err(WireError::Unknown { what: "priority", value: priority.into() });
        }
        let entry = Self {
            uid,
            time,
            node: read_field(body, "node")?,
            ident: read_field(body, "ident")?,
            tag: read_field(body, "tag")?,
            pid,
            priority,
            message: body.text("message")?,
        };
        match entry.size() {
            length if length > LOG_ENTRY_MAX => {
                Err(WireError::TooLong { what: "log entry", length, max: LOG_ENTRY_MAX })
            }
            _ => Ok(entry),
        }
    }
}

fn field(name: &'static str, text: String) -> Result<String, StatusError> {
    if text.len() > LOG_FIELD_MAX || text.contains(char::is_control) {
        return Err(StatusError::LogFieldInvalid { field: name });
    }
    Ok(text)
}

fn read_field(body: &mut Reader, what: &'static str) -> Result<String, WireError> {
    let text = body.text(what)?;
    if text.len() > LOG_FIELD_MAX {
        return Err(WireError::TooLong { what, length: text.len(), max: LOG_FIELD_MAX });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(message: String) -> LogDraft {
        LogDraft { ident: "root@pam".into(), tag: "pvedaemon".into(), pid: 7, priority: 6, message }
    }

    #[test]
    fn an_entry_is_accounted_as_pmxcfs_packs_it() {
        let entry = LogEntry::new("node1", 1, 2, draft("hello".into())).unwrap();
        // 48, then the four texts with their zero bytes: 6, 9, 10 and 6.
        assert_eq!(entry.size(), 48 + 6 + 9 + 10 + 6);
        assert_eq!(entry.accounted(), 80);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let entry = LogEntry::new("node1", 1, 2, draft("ä".repeat(4000))).unwrap();
        assert!(entry.size() == LOG_ENTRY_MAX || entry.size() == LOG_ENTRY_MAX - 1, "{}", entry.size());
        assert!(entry.message.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn what_cannot_be_logged_is_refused() {
        let mut long = draft(String::new());
        long.tag = "t".repeat(LOG_FIELD_MAX + 1);
        assert_eq!(LogEntry::new("n", 1, 1, long), Err(StatusError::LogFieldInvalid { field: "tag" }));
        let mut zero = draft(String::new());
        zero.ident = "root\0".into();
        assert_eq!(LogEntry::new("n", 1, 1, zero), Err(StatusError::LogFieldInvalid { field: "ident" }));
        let mut loud = draft(String::new());
        loud.priority = 8;
        assert_eq!(LogEntry::new("n", 1, 1, loud), Err(StatusError::PriorityInvalid(8)));
    }
}
