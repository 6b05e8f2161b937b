//! Reading and writing our own binary formats: little-endian, every length checked before use.
//!
//! One reader for group messages, stored values and state transfers, so that "never panics on outside
//! bytes" is proved in one place. Byte strings are slices of the input, not copies.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_types::{NodeId, RingId};

use crate::{
    epoch::Epoch,
    path::{ConfigPath, PathError},
};

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("{wanted} bytes wanted, {left} left")]
    Truncated {
        /// Length of the field.
        wanted: usize,
        /// Bytes that remained.
        left: usize,
    },
    /// There are bytes after the last field.
    #[error("{left} bytes after the end")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// A field has a value that this version does not know.
    #[error("{what} has the unknown value {value}")]
    Unknown {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A length or count is above its bound.
    #[error("{what} has length {length}, at most {max} is allowed")]
    TooLong {
        /// The field.
        what: &'static str,
        /// What the bytes claim.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// A text field is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotText {
        /// The field.
        what: &'static str,
    },
    /// A path field is no valid path.
    #[error("bad path")]
    Path(#[source] PathError),
}

/// A cursor over received or stored bytes.
#[derive(Debug)]
pub(crate) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<Bytes, WireError> {
        if self.rest.len() < length {
            return Err(WireError::Truncated { wanted: length, left: self.rest.len() });
        }
        Ok(self.rest.split_to(length))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.bytes(1)?.get_u8())
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(self.bytes(2)?.get_u16_le())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(self.bytes(4)?.get_u32_le())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(self.bytes(8)?.get_u64_le())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes = self.bytes(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(WireError::Unknown { what, value: value.into() }),
        }
    }

    /// A byte string behind a 16-bit length.
    pub(crate) fn short(&mut self) -> Result<Bytes, WireError> {
        let length = self.u16()?;
        self.bytes(length.into())
    }

    /// A byte string behind a 32-bit length.
    pub(crate) fn long(&mut self, what: &'static str, max: usize) -> Result<Bytes, WireError> {
        let length = self.u32()? as usize;
        if length > max {
            return Err(WireError::TooLong { what, length, max });
        }
        self.bytes(length)
    }

    /// A 32-bit count of items that take at least `item` bytes each.
    pub(crate) fn count(&mut self, what: &'static str, item: usize, max: usize) -> Result<usize, WireError> {
        let length = self.u32()? as usize;
        if length > max {
            return Err(WireError::TooLong { what, length, max });
        }
        let wanted = length * item;
        if wanted > self.rest.len() {
            return Err(WireError::Truncated { wanted, left: self.rest.len() });
        }
        Ok(length)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<String, WireError> {
        String::from_utf8(self.short()?.to_vec()).map_err(|_| WireError::NotText { what })
    }

    pub(crate) fn path(&mut self) -> Result<ConfigPath, WireError> {
        self.text("path")?.parse().map_err(WireError::Path)
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, WireError> {
        NodeId::new(self.u32()?).map_err(|_| WireError::Unknown { what: "node id", value: 0 })
    }

    pub(crate) fn nodes(&mut self, max: usize) -> Result<Vec<NodeId>, WireError> {
        let count = self.count("node list", 4, max)?;
        (0..count).map(|_| self.node()).collect()
    }

    pub(crate) fn ring(&mut self) -> Result<RingId, WireError> {
        let rep = self.u32()?;
        Ok(RingId { rep, seq: self.u64()? })
    }

    pub(crate) fn epoch(&mut self) -> Result<Epoch, WireError> {
        let seq = self.u64()?;
        let rep = self.u32()?;
        Ok(Epoch { seq, rep, round: self.u32()? })
    }

    pub(crate) fn rest(self) -> Bytes {
        self.rest
    }

    pub(crate) fn finish(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(WireError::Trailing { left }),
        }
    }
}

/// The writing side of [`Reader`].
pub(crate) trait Put: BufMut {
    fn put_short(&mut self, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).expect("short fields are bounded by their types");
        self.put_u16_le(length);
        self.put_slice(bytes);
    }

    fn put_long(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("contents are bounded far below 4 GiB");
        self.put_u32_le(length);
        self.put_slice(bytes);
    }

    fn put_count(&mut self, count: usize) {
        self.put_u32_le(u32::try_from(count).expect("lists are bounded far below 2^32"));
    }

    fn put_path(&mut self, path: &ConfigPath) {
        self.put_short(path.as_str().as_bytes());
    }

    fn put_nodes(&mut self, nodes: &[NodeId]) {
        self.put_count(nodes.len());
        nodes.iter().for_each(|node| self.put_u32_le(node.get()));
    }

    fn put_ring(&mut self, ring: RingId) {
        self.put_u32_le(ring.rep);
        self.put_u64_le(ring.seq);
    }

    fn put_epoch(&mut self, epoch: Epoch) {
        self.put_u64_le(epoch.seq);
        self.put_u32_le(epoch.rep);
        self.put_u32_le(epoch.round);
    }
}

impl Put for BytesMut {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read_back() {
        let mut out = BytesMut::new();
        out.put_short(b"name");
        out.put_long(b"content");
        out.put_epoch(Epoch { seq: 12, rep: 3, round: 1 });
        out.put_ring(RingId { rep: 3, seq: 12 });

        let mut reader = Reader::new(out.freeze());

        assert_eq!(reader.short().unwrap(), "name");
        assert_eq!(reader.long("content", 7).unwrap(), "content");
        assert_eq!(reader.epoch().unwrap(), Epoch { seq: 12, rep: 3, round: 1 });
        assert_eq!(reader.ring().unwrap(), RingId { rep: 3, seq: 12 });
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_anything_is_allocated() {
        let mut out = BytesMut::new();
        out.put_u32_le(1_000_000);
        let mut reader = Reader::new(out.freeze());
        assert_eq!(
            reader.count("list", 8, 2_000_000),
            Err(WireError::Truncated { wanted: 8_000_000, left: 0 })
        );
    }

    #[test]
    fn node_zero_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0; 4]));
        assert_eq!(reader.node(), Err(WireError::Unknown { what: "node id", value: 0 }));
    }
}
