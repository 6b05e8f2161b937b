//! Packets that are longer than a link carries: cut into pieces, put together again.
//!
//! All pieces of a packet but the last have one size, which its sender chooses anew for every packet:
//! a receiver learns it from any piece that is not the last. What one sender can make us keep is
//! bounded: [`BUFFERS`] packets of at most [`PACKET_MAX`] bytes.
//!
//! Source: knet specification, section 4.

use bytes::{Bytes, BytesMut};

use super::window::Window;

/// The longest packet in bytes.
pub(super) const PACKET_MAX: usize = 65_536;
/// Most pieces of one packet.
pub(super) const FRAGMENTS_MAX: usize = 255;
/// Packets of one sender that may be incomplete at a time.
pub(super) const BUFFERS: usize = 32;
/// A packet that is this far behind a new one is given up.
const STALE: u16 = 33;

/// How many pieces of `size` bytes a packet takes; `None` if it is too long.
#[must_use]
pub(super) fn count(length: usize, size: usize) -> Option<u8> {
    let count = length.div_ceil(size.max(1)).max(1);
    u8::try_from(count).ok().filter(|_| count <= FRAGMENTS_MAX && length <= PACKET_MAX)
}

/// A piece of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    /// The packet's sequence number.
    pub(super) seq: u16,
    /// Which piece, from 1.
    pub(super) number: u8,
    /// How many there are, at least 2.
    pub(super) count: u8,
    /// Its bytes.
    pub(super) piece: Bytes,
}

/// What became of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was kept; others are missing.
    Kept,
    /// It was the last one missing: the packet.
    Complete(Bytes),
    /// It was there before, or belongs to a packet that was given up.
    Duplicate,
    /// It does not fit the others of its packet.
    Bad,
}

/// The incomplete packets of one sender.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    buffers: Vec<Buffer>,
    /// Counts fragments: the order in which buffers were used.
    clock: u64,
    given_up: u64,
}

#[derive(Debug)]
struct Buffer {
    seq: u16,
    count: u8,
    used: u64,
    /// A bit per piece that is there.
    have: [u64; 4],
    missing: u8,
    /// Size of all pieces but the last, once known.
    size: Option<usize>,
    /// The packet as far as it is known, without the last piece.
    bytes: BytesMut,
    last: Option<Bytes>,
}

impl Reassembly {
    /// Takes a fragment whose number is not a duplicate in `window`.
    pub(super) fn take(&mut self, window: &mut Window, fragment: &Fragment) -> Taken {
        let Fragment { seq, number, count, .. } = *fragment;
        if count < 2 || number == 0 || number > count || fragment.piece.is_empty() {
            return Taken::Bad;
        }
        self.clock += 1;
        let index = match self.buffers.iter().position(|buffer| buffer.seq == seq) {
            Some(index) => index,
            None if !window.begin(seq) => return Taken::Duplicate,
            None => self.new_buffer(seq, count),
        };
        let buffer = &mut self.buffers[index];
        buffer.used = self.clock;
        match buffer.put(fragment) {
            Taken::Kept if buffer.missing == 0 => Taken::Complete(self.buffers.swap_remove(index).finish()),
            taken => taken,
        }
    }

    /// Forgets everything that is incomplete.
    pub(super) fn clear(&mut self) {
        self.given_up += self.buffers.len() as u64;
        self.buffers.clear();
    }

    /// Packets of which some fragments came and others did not.
    #[must_use]
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Bytes that are kept for incomplete packets.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        let last = |buffer: &Buffer| buffer.last.as_ref().map_or(0, Bytes::len);
        self.buffers.iter().map(|buffer| buffer.bytes.capacity() + last(buffer)).sum()
    }

    fn new_buffer(&mut self, seq: u16, count: u8) -> usize {
        let before = self.buffers.len();
        self.buffers.retain(|buffer| !(STALE..1 << 15).contains(&seq.wrapping_sub(buffer.seq)));
        if self.buffers.len() == BUFFERS
            && let Some(oldest) = (0..BUFFERS).min_by_key(|index| self.buffers[*index].used)
        {
            self.buffers.swap_remove(oldest);
        }
        self.given_up += (before - self.buffers.len()) as u64;
        self.buffers.push(Buffer {
            seq,
            count,
            used: self.clock,
            have: [0; 4],
            missing: count,
            size: None,
            bytes: BytesMut::new(),
            last: None,
        });
        self.buffers.len() - 1
    }
}

impl Buffer {
    fn put(&mut self, fragment: &Fragment) -> Taken {
        let (word, bit) = (usize::from(fragment.number) / 64, 1 << (fragment.number % 64));
        if fragment.count != self.count {
            return Taken::Bad;
        }
        if self.have[word] & bit != 0 {
            return Taken::Duplicate;
        }
        let fits = if fragment.number == self.count {
            self.put_last(&fragment.piece)
        } else {
            self.put_inner(fragment)
        };
        if !fits {
            return Taken::Bad;
        }
        self.have[word] |= bit;
        self.missing -= 1;
        Taken::Kept
    }

    fn put_last(&mut self, piece: &Bytes) -> bool {
        let fits = self.size.is_none_or(|size| self.fits(size, piece.len()));
        if fits {
            // A copy: a slice would keep the whole datagram.
            self.last = Some(Bytes::copy_from_slice(piece));
        }
        fits
    }

    fn put_inner(&mut self, fragment: &Fragment) -> bool {
        let piece = &fragment.piece;
        let size = self.size.unwrap_or(piece.len());
        if piece.len() != size || !self.fits(size, self.last.as_ref().map_or(1, Bytes::len)) {
            return false;
        }
        if self.size.is_none() {
            self.size = Some(size);
            self.bytes.reserve(size * usize::from(self.count));
        }
        let start = size * (usize::from(fragment.number) - 1);
        if self.bytes.len() == start {
            self.bytes.extend_from_slice(piece);
            return true;
        }
        if self.bytes.len() < start + size {
            self.bytes.resize(start + size, 0);
        }
        self.bytes[start..start + size].copy_from_slice(piece);
        true
    }

    /// Whether the packet would keep its limit and its last piece be no longer than the others.
    fn fits(&self, size: usize, last: usize) -> bool {
        last <= size && size * (usize::from(self.count) - 1) + last <= PACKET_MAX
    }

    fn finish(mut self) -> Bytes {
        let last = self.last.take().unwrap_or_default();
        self.bytes.extend_from_slice(&last);
        self.bytes.freeze()
    }
}

#[cfg(test)]
mod tests;
