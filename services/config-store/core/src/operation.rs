//! Operations: what a write does to the tree, and how it travels and is identified.
//!
//! An [`Envelope`] is one operation with who asked, when, and in which trace. It is encoded once, by its
//! originator; every replica keeps and hashes those very bytes, so what a newer version put into the
//! extension area survives an older one.
//!
//! | field | size | meaning |
//! |---|---|---|
//! | format | 1 | 1 |
//! | kind | 1 | which operation |
//! | request | 16 | id of the request, for retries |
//! | origin | 4 | node id of the originator, 0 stand-alone |
//! | mtime | 4 | the originator's clock, whole UTC seconds |
//! | trace | 2 + n | W3C trace context, empty or at least 25 bytes; more is skipped |
//! | extensions | 2 + n | (tag 2, length 2, bytes)*; unknown tags are skipped |
//! | body | 2 + n | the fields of the kind; more is skipped |
//!
//! The content of a file travels behind this head, or in parts (`message.rs`). Little-endian.

use std::{fmt, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    path::ConfigPath,
    transaction::Transaction,
    wire::{Put, Reader, WireError},
};

const FORMAT: u8 = 1;
/// Kind of a transaction, whose operations are its content.
const TRANSACTION: u8 = 9;
/// Extension: who asked for it, as text (such as `root@unix:4711/0`).
pub const CALLER_TAG: u16 = 1;
/// Longest name of a caller in bytes; what is longer is cut.
pub const CALLER_MAX: usize = 255;

/// Identifies a request across retries, nodes and restarts: 16 bytes from the client or its daemon.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// W3C trace context: in which trace a write happens, and under which span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Trace id.
    pub trace_id: [u8; 16],
    /// Id of the span that created the operation.
    pub span_id: [u8; 8],
    /// Trace flags; bit 0 is "sampled".
    pub flags: u8,
}

/// What an entry must be like for the operation to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// Anything.
    #[default]
    Any,
    /// There is no such entry.
    Absent,
    /// There is such an entry.
    Present,
    /// The entry's last change was this version.
    Version(u64),
    /// The file's content has this SHA-256.
    Digest([u8; 32]),
}

/// One change of the tree. Parent directories must exist; names are never resolved through links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Makes an empty file; refused if the name exists.
    Create {
        /// The new file.
        path: ConfigPath,
    },
    /// Writes a whole file, making it if need be.
    Put {
        /// The file.
        path: ConfigPath,
        /// What must hold before.
        expect: Expect,
        /// Its new content.
        content: Bytes,
    },
    /// Writes part of an existing file; a gap is filled with zeros.
    Write {
        /// The file.
        path: ConfigPath,
        /// Where to write, in bytes.
        offset: u32,
        /// Whether the file ends after what was written.
        truncate: bool,
        /// What to write.
        content: Bytes,
    },
    /// Makes an empty directory; refused if the name exists.
    Mkdir {
        /// The new directory.
        path: ConfigPath,
    },
    /// Moves a file, replacing a file of the target's name, or an empty directory.
    Rename {
        /// The entry.
        from: ConfigPath,
        /// Its new path.
        to: ConfigPath,
        /// What must hold of `from`.
        expect: Expect,
        /// Refuse if `to` exists.
        no_replace: bool,
    },
    /// Removes a file or an empty directory.
    Delete {
        /// The entry.
        path: ConfigPath,
        /// What must hold before.
        expect: Expect,
    },
    /// Sets the modification time. Refreshes a lock if the path is a lock directory.
    SetMtime {
        /// The entry.
        path: ConfigPath,
        /// Whole UTC seconds.
        mtime: u32,
    },
    /// Changes nothing, and is refused unless the entry is as expected: for transactions.
    Check {
        /// The entry.
        path: ConfigPath,
        /// What must hold.
        expect: Expect,
    },
    /// Several operations that happen together or not at all.
    Transaction(Transaction),
}

impl Operation {
    /// The path that is changed; for a rename the source, for a transaction that of its first operation.
    #[must_use]
    pub fn path(&self) -> &ConfigPath {
        match self {
            Self::Transaction(transaction) => transaction.operations()[0].path(),
            Self::Create { path }
            | Self::Put { path, .. }
            | Self::Write { path, .. }
            | Self::Mkdir { path }
            | Self::Rename { from: path, .. }
            | Self::Delete { path, .. }
            | Self::SetMtime { path, .. }
            | Self::Check { path, .. } => path,
        }
    }

    /// The word for logs and spans.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Put { .. } => "put",
            Self::Write { .. } => "write",
            Self::Mkdir { .. } => "mkdir",
            Self::Rename { .. } => "rename",
            Self::Delete { .. } => "delete",
            Self::SetMtime { .. } => "mtime",
            Self::Check { .. } => "check",
            Self::Transaction(_) => "transaction",
        }
    }

    /// The operations that it is made of: those of a transaction, or itself.
    #[must_use]
    pub fn each(&self) -> &[Self] {
        match self {
            Self::Transaction(transaction) => transaction.operations(),
            single => std::slice::from_ref(single),
        }
    }

    /// The bytes that travel behind its head: those of a file, all of a transaction; empty for most kinds.
    #[must_use]
    pub fn content(&self) -> Bytes {
        match self {
            Self::Put { content, .. } | Self::Write { content, .. } => content.clone(),
            Self::Transaction(transaction) => transaction.encoded().clone(),
            _ => Bytes::new(),
        }
    }

    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Create { .. } => 1,
            Self::Put { .. } => 2,
            Self::Write { .. } => 3,
            Self::Mkdir { .. } => 4,
            Self::Rename { .. } => 5,
            Self::Delete { .. } => 6,
            Self::SetMtime { .. } => 7,
            Self::Check { .. } => 8,
            Self::Transaction(_) => TRANSACTION,
        }
    }

    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        if matches!(self, Self::Transaction(_)) {
            return;
        }
        out.put_path(self.path());
        match self {
            Self::Create { .. } | Self::Mkdir { .. } | Self::Transaction(_) => {}
            Self::Put { expect, .. } | Self::Delete { expect, .. } | Self::Check { expect, .. } => {
                put_expect(out, *expect);
            }
            Self::Write { offset, truncate, .. } => {
                out.put_u32_le(*offset);
                out.put_u8((*truncate).into());
            }
            Self::Rename { to, expect, no_replace, .. } => {
                out.put_path(to);
                put_expect(out, *expect);
                out.put_u8((*no_replace).into());
            }
            Self::SetMtime { mtime, .. } => out.put_u32_le(*mtime),
        }
    }

    /// An operation of any kind but a transaction.
    pub(crate) fn decode_body(kind: u8, body: Bytes, content: Bytes) -> Result<Self, WireError> {
        let mut body = Reader::new(body);
        let path = body.path()?;
        Ok(match kind {
            1 => Self::Create { path },
            2 => Self::Put { path, expect: expect(&mut body)?, content },
            3 => Self::Write { path, offset: body.u32()?, truncate: body.flag("truncate")?, content },
            4 => Self::Mkdir { path },
            5 => Self::Rename {
                from: path,
                to: body.path()?,
                expect: expect(&mut body)?,
                no_replace: body.flag("no_replace")?,
            },
            6 => Self::Delete { path, expect: expect(&mut body)? },
            7 => Self::SetMtime { path, mtime: body.u32()? },
            8 => Self::Check { path, expect: expect(&mut body)? },
            kind => return Err(WireError::Unknown { what: "operation kind", value: kind.into() }),
        })
    }
}

fn put_expect(out: &mut BytesMut, expect: Expect) {
    match expect {
        Expect::Any => out.put_u8(0),
        Expect::Absent => out.put_u8(1),
        Expect::Present => out.put_u8(2),
        Expect::Version(version) => {
            out.put_u8(3);
            out.put_u64_le(version);
        }
        Expect::Digest(digest) => {
            out.put_u8(4);
            out.put_slice(&digest);
        }
    }
}

fn expect(body: &mut Reader) -> Result<Expect, WireError> {
    Ok(match body.u8()? {
        0 => Expect::Any,
        1 => Expect::Absent,
        2 => Expect::Present,
        3 => Expect::Version(body.u64()?),
        4 => Expect::Digest(body.array()?),
        value => return Err(WireError::Unknown { what: "expectation", value: value.into() }),
    })
}

/// Values that later versions add to an envelope: (tag, bytes), unknown tags carried along untouched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions(Bytes);

impl Extensions {
    /// Adds a value.
    ///
    /// # Errors
    /// [`WireError::TooLong`] when the area would exceed 65535 bytes; nothing is added then.
    pub fn push(&mut self, tag: u16, value: &[u8]) -> Result<(), WireError> {
        let length = self.0.len() + 4 + value.len();
        if length > usize::from(u16::MAX) {
            return Err(WireError::TooLong { what: "extensions", length, max: u16::MAX.into() });
        }
        let mut area = BytesMut::from(&self.0[..]);
        area.put_u16_le(tag);
        area.put_short(value);
        self.0 = area.freeze();
        Ok(())
    }

    /// Adds who asks, cut to [`CALLER_MAX`] bytes.
    ///
    /// # Errors
    /// As [`Extensions::push`].
    pub fn push_caller(&mut self, caller: &str) -> Result<(), WireError> {
        self.push(CALLER_TAG, &caller.as_bytes()[..caller.floor_char_boundary(CALLER_MAX)])
    }

    /// Who asked, if that is known.
    #[must_use]
    pub fn caller(&self) -> Option<Arc<str>> {
        let value = self.get(CALLER_TAG)?;
        let text = String::from_utf8_lossy(&value[..value.len().min(CALLER_MAX)]);
        Some(Arc::from(&text[..text.floor_char_boundary(CALLER_MAX)]))
    }

    /// The first value of this tag.
    #[must_use]
    pub fn get(&self, tag: u16) -> Option<Bytes> {
        let mut area = Reader::new(self.0.clone());
        loop {
            let found = area.u16().ok()?;
            let value = area.short().ok()?;
            if found == tag {
                return Some(value);
            }
        }
    }
}

/// An operation as it travels and as it is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Id of the request, for retries.
    pub request: RequestId,
    /// Node id of the originator, 0 stand-alone. Becomes the entry's writer.
    pub origin: u32,
    /// The originator's clock in whole UTC seconds. Becomes the entry's mtime.
    pub mtime: u32,
    /// In which trace this happens.
    pub trace: Option<TraceContext>,
    /// What later versions add.
    pub extensions: Extensions,
    /// What to do.
    pub operation: Operation,
}

impl Envelope {
    /// The bytes before the content.
    #[must_use]
    pub fn encode_head(&self) -> Bytes {
        let mut body = BytesMut::new();
        self.operation.encode_body(&mut body);
        let mut out = BytesMut::with_capacity(64 + body.len() + self.extensions.0.len());
        out.put_u8(FORMAT);
        out.put_u8(self.operation.kind());
        out.put_slice(&self.request.0);
        out.put_u32_le(self.origin);
        out.put_u32_le(self.mtime);
        let mut trace = BytesMut::new();
        if let Some(context) = &self.trace {
            trace.put_slice(&context.trace_id);
            trace.put_slice(&context.span_id);
            trace.put_u8(context.flags);
        }
        out.put_short(&trace);
        out.put_short(&self.extensions.0);
        out.put_short(&body);
        out.freeze()
    }

    /// Reads a head and joins it with its content.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are no operation that this version knows.
    pub fn decode(head: Bytes, content: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(head);
        let format = reader.u8()?;
        if format != FORMAT {
            return Err(WireError::Unknown { what: "operation format", value: format.into() });
        }
        let kind = reader.u8()?;
        let request = RequestId(reader.array()?);
        let origin = reader.u32()?;
        let mtime = reader.u32()?;
        let trace = trace_context(reader.short()?)?;
        let extensions = Extensions(reader.short()?);
        let body = reader.short()?;
        let operation = match kind {
            TRANSACTION => Operation::Transaction(Transaction::decode(content)?),
            kind => Operation::decode_body(kind, body, content)?,
        };
        reader.finish()?;
        Ok(Self { request, origin, mtime, trace, extensions, operation })
    }
}

fn trace_context(bytes: Bytes) -> Result<Option<TraceContext>, WireError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes);
    let trace_id = reader.array()?;
    let span_id = reader.array()?;
    Ok(Some(TraceContext { trace_id, span_id, flags: reader.u8()? }))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope(operation: Operation) -> Envelope {
        Envelope {
            request: RequestId([7; 16]),
            origin: 3,
            mtime: 1_700_000_000,
            trace: Some(TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 }),
            extensions: Extensions::default(),
            operation,
        }
    }

    fn expects() -> impl Strategy<Value = Expect> {
        prop_oneof![
            Just(Expect::Any),
            Just(Expect::Absent),
            Just(Expect::Present),
            any::<u64>().prop_map(Expect::Version),
            any::<[u8; 32]>().prop_map(Expect::Digest),
        ]
    }

    /// Any operation but a transaction.
    pub(crate) fn operations() -> impl Strategy<Value = Operation> {
        let path = "[a-z]{1,8}(/[a-z0-9.]{3,8}){0,3}".prop_map(|path| path.parse::<ConfigPath>());
        let path = path.prop_filter_map("valid paths", Result::ok).boxed();
        let content = proptest::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
        prop_oneof![
            path.clone().prop_map(|path| Operation::Create { path }),
            (path.clone(), expects(), content.clone()).prop_map(|(path, expect, content)| Operation::Put {
                path,
                expect,
                content
            }),
            (path.clone(), any::<u32>(), any::<bool>(), content).prop_map(
                |(path, offset, truncate, content)| Operation::Write { path, offset, truncate, content }
            ),
            path.clone().prop_map(|path| Operation::Mkdir { path }),
            (path.clone(), path.clone(), expects(), any::<bool>()).prop_map(
                |(from, to, expect, no_replace)| Operation::Rename { from, to, expect, no_replace }
            ),
            (path.clone(), expects()).prop_map(|(path, expect)| Operation::Delete { path, expect }),
            (path.clone(), any::<u32>()).prop_map(|(path, mtime)| Operation::SetMtime { path, mtime }),
            (path, expects()).prop_map(|(path, expect)| Operation::Check { path, expect }),
        ]
    }

    proptest! {
        #[test]
        fn every_operation_is_read_back_as_written(operation in operations()) {
            let sent = envelope(operation);
            let read = Envelope::decode(sent.encode_head(), sent.operation.content());
            prop_assert_eq!(read, Ok(sent));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Envelope::decode(Bytes::from(bytes), Bytes::new());
        }

        #[test]
        fn a_damaged_operation_never_panics(operation in operations(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = envelope(operation).encode_head().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let _ = Envelope::decode(Bytes::from(bytes), Bytes::new());
        }
    }

    #[test]
    fn unknown_extensions_and_longer_fields_are_skipped_by_length() {
        let mut sent = envelope(Operation::Mkdir { path: "priv/lock/x".parse().unwrap() });
        sent.extensions.push(99, b"from the future").unwrap();
        sent.extensions.push(7, b"known").unwrap();

        let read = Envelope::decode(sent.encode_head(), Bytes::new()).unwrap();

        assert_eq!(read.extensions.get(7), Some(Bytes::from_static(b"known")));
        assert_eq!(read.extensions.get(8), None);
        assert_eq!(read.encode_head(), sent.encode_head());
    }

    #[test]
    fn the_caller_is_text_of_a_bounded_length() {
        let mut extensions = Extensions::default();
        assert_eq!(extensions.caller(), None);
        extensions.push_caller(&"ä".repeat(200)).unwrap();
        assert_eq!(extensions.caller().unwrap().len(), 254);
        let mut damaged = Extensions::default();
        damaged.push(CALLER_TAG, &[0xff; 300]).unwrap();
        assert!(damaged.caller().unwrap().len() <= CALLER_MAX);
    }

    #[test]
    fn a_trace_context_of_a_later_version_is_longer_and_still_read() {
        let context = [vec![1; 16], vec![2; 8], vec![1], vec![9; 5]].concat();
        let read = trace_context(Bytes::from(context)).unwrap();
        assert_eq!(read, Some(TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 }));
        assert!(trace_context(Bytes::from_static(&[1; 24])).is_err());
    }

    #[test]
    fn an_unknown_kind_is_named() {
        let mut bytes = envelope(Operation::Mkdir { path: "a".parse().unwrap() }).encode_head().to_vec();
        bytes[1] = 200;
        assert_eq!(
            Envelope::decode(Bytes::from(bytes), Bytes::new()),
            Err(WireError::Unknown { what: "operation kind", value: 200 })
        );
    }
}
