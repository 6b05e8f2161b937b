//! Takes an input apart: numbers, and pieces with their length in front.

use bytes::Bytes;
use quorate_types::NodeId;

/// The rest of an input. When it is used up, numbers are 0 and pieces empty.
pub struct Feed<'a>(pub &'a [u8]);

impl<'a> Feed<'a> {
    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next four bytes.
    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) | u32::from(self.short()) << 16
    }

    /// Eight bytes.
    pub fn long(&mut self) -> u64 {
        u64::from(self.word()) | u64::from(self.word()) << 32
    }

    /// A piece: its length in two bytes, cut where the input ends.
    pub fn piece(&mut self) -> Bytes {
        let length = usize::from(self.short()).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        Bytes::copy_from_slice(piece)
    }

    /// One of a few nodes, 1 to `most`.
    pub fn node(&mut self, most: u8) -> NodeId {
        NodeId::new(u32::from(self.byte() % most) + 1).expect("not 0")
    }
}

/// A piece as [`Feed::piece`] takes it.
pub fn put_piece(out: &mut Vec<u8>, piece: &[u8]) {
    let length = u16::try_from(piece.len()).expect("pieces are datagrams");
    out.extend(length.to_le_bytes());
    out.extend(piece);
}
