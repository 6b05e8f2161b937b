//! What was written to an open file and not yet sent: parts in order, and perhaps a new end.
//!
//! Programs write a file in many small pieces. They are joined here, so that the cluster gets one operation for them and
//! no other node ever sees the file half written or empty.

use std::collections::BTreeMap;

use bytes::Bytes;
use config_store_core::FILE_MAX;

/// Parts that lie apart, after which they are sent: nobody writes configuration like that.
const EXTENTS_MAX: usize = 64;

/// The end of the file, when it was set: all bytes from `at` on are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tail {
    at: usize,
    bytes: Vec<u8>,
}

/// Writes that wait. Empty: nothing waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pending {
    /// Parts by offset: apart from each other, and before the tail.
    extents: BTreeMap<usize, Vec<u8>>,
    tail: Option<Tail>,
    /// The size of the file to whose end everything that waits was appended, if nothing else waits.
    appended_to: Option<usize>,
    /// The modification time that was set, whole UTC seconds.
    pub(super) mtime: Option<u32>,
}

/// One write as the cluster gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: usize,
    /// Whether the file ends behind it.
    pub(super) truncate: bool,
    pub(super) content: Bytes,
}

impl Pending {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.extents.is_empty() && self.tail.is_none() && self.mtime.is_none()
    }

    /// Whether so much waits that it must be sent before more is taken.
    pub(super) fn is_full(&self) -> bool {
        let tail = self.tail.as_ref().map_or(0, |tail| tail.bytes.len());
        let bytes: usize = self.extents.values().map(Vec::len).sum();
        bytes + tail >= FILE_MAX || self.extents.len() > EXTENTS_MAX
    }

    /// Bytes at the end of a file that has this size, with what waits, at present.
    pub(super) fn append(&mut self, size: usize, data: &[u8]) {
        let only_appended =
            self.appended_to.or((self.extents.is_empty() && self.tail.is_none()).then_some(size));
        self.write(size, data);
        self.appended_to = only_appended;
    }

    /// The file has another size than when it was appended to: another node was faster, and its bytes come first.
    pub(super) fn rebase(&mut self, size: usize) {
        let Some(before) = self.appended_to.filter(|before| *before != size) else { return };
        if let Some(bytes) = self.extents.remove(&before) {
            self.extents.insert(size, bytes);
        }
        self.appended_to = Some(size);
    }

    /// Bytes at an offset. The caller has checked that they lie within [`FILE_MAX`].
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.appended_to = None;
        let cut = self.tail.as_ref().map_or(usize::MAX, |tail| tail.at);
        let below = data.len().min(cut.saturating_sub(offset));
        let (extent, rest) = data.split_at(below);
        if !extent.is_empty() {
            self.write_extent(offset, extent);
        }
        if let Some(tail) = self.tail.as_mut().filter(|_| !rest.is_empty()) {
            let from = offset + below - tail.at;
            let to = from + rest.len();
            tail.bytes.resize(tail.bytes.len().max(to), 0);
            tail.bytes[from..to].copy_from_slice(rest);
        }
    }

    /// Joins the part with those that it touches.
    fn write_extent(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        let before = self.extents.range_mut(..=offset).next_back();
        let (at, mut bytes) = match before {
            Some((&at, bytes)) if at + bytes.len() >= offset => (at, std::mem::take(bytes)),
            _ => (offset, Vec::new()),
        };
        let from = offset - at;
        bytes.resize(bytes.len().max(from + data.len()), 0);
        bytes[from..from + data.len()].copy_from_slice(data);
        let touched: Vec<usize> = self.extents.range(offset + 1..=end).map(|(&next, _)| next).collect();
        for next in touched {
            let later = self.extents.remove(&next).unwrap_or_default();
            let known = at + bytes.len() - next;
            bytes.extend_from_slice(later.get(known..).unwrap_or_default());
        }
        self.extents.insert(at, bytes);
    }

    /// Sets the end of the file, as ftruncate does: what lies behind is gone, what was not there is zero.
    pub(super) fn set_size(&mut self, size: usize) {
        self.appended_to = None;
        if let Some(tail) = self.tail.as_mut().filter(|tail| tail.at <= size) {
            tail.bytes.resize(size - tail.at, 0);
            return;
        }
        self.extents.split_off(&size);
        if let Some((&at, bytes)) = self.extents.iter_mut().next_back() {
            bytes.truncate(size - at);
        }
        self.tail = Some(Tail { at: size, bytes: Vec::new() });
    }

    /// The size of a file of `base` bytes with what waits.
    pub(super) fn size_over(&self, base: usize) -> usize {
        match &self.tail {
            Some(tail) => tail.at + tail.bytes.len(),
            None => self.extents.iter().next_back().map_or(base, |(at, bytes)| base.max(at + bytes.len())),
        }
    }

    /// A file's content with what waits.
    pub(super) fn over(&self, base: &Bytes) -> Bytes {
        if self.extents.is_empty() && self.tail.is_none() {
            return base.clone();
        }
        let size = self.size_over(base.len());
        let kept = self.tail.as_ref().map_or(base.len(), |tail| tail.at.min(base.len()));
        let mut whole = base[..kept.min(size)].to_vec();
        whole.resize(size, 0);
        let tail = self.tail.iter().map(|tail| (tail.at, &tail.bytes));
        for (at, bytes) in self.extents.iter().map(|(at, bytes)| (*at, bytes)).chain(tail) {
            whole[at..at + bytes.len()].copy_from_slice(bytes);
        }
        whole.into()
    }

    /// The fewest writes that have the same effect, in the order in which they must be sent.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        let piece = |(&offset, bytes): (&usize, &Vec<u8>)| Piece {
            offset,
            truncate: false,
            content: Bytes::copy_from_slice(bytes),
        };
        let mut pieces: Vec<Piece> = self.extents.iter().map(piece).collect();
        let Some(tail) = &self.tail else { return pieces };
        match pieces.last_mut().filter(|last| last.offset + last.content.len() == tail.at) {
            Some(last) => {
                last.content = [&last.content[..], &tail.bytes].concat().into();
                last.truncate = true;
            }
            None => pieces.push(Piece {
                offset: tail.at,
                truncate: true,
                content: Bytes::copy_from_slice(&tail.bytes),
            }),
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(pending: &Pending) -> Vec<(usize, bool, String)> {
        let told = |piece: Piece| {
            (piece.offset, piece.truncate, String::from_utf8_lossy(&piece.content).into_owned())
        };
        pending.pieces().into_iter().map(told).collect()
    }

    #[test]
    fn a_file_that_was_emptied_and_written_is_one_write() {
        let mut pending = Pending::default();
        pending.set_size(0);
        pending.write(0, b"first\n");
        pending.write(6, b"second\n");
        assert_eq!(pieces(&pending), [(0, true, "first\nsecond\n".to_owned())]);
        assert_eq!(pending.over(&Bytes::from_static(b"a longer old content")), "first\nsecond\n");
    }

    #[test]
    fn neighbours_are_joined_and_what_lies_apart_is_not() {
        let mut pending = Pending::default();
        pending.write(4, b"b");
        pending.write(2, b"xx");
        pending.write(9, b"z");
        assert_eq!(pieces(&pending), [(2, false, "xxb".to_owned()), (9, false, "z".to_owned())]);
        pending.write(5, b"....");
        assert_eq!(pieces(&pending), [(2, false, "xxb....z".to_owned())]);
    }

    #[test]
    fn a_part_that_ends_where_the_file_was_cut_goes_with_the_rest() {
        let mut pending = Pending::default();
        pending.set_size(4);
        pending.write(2, b"abcdef");
        assert_eq!(pieces(&pending), [(2, true, "abcdef".to_owned())]);
    }

    #[test]
    fn a_file_that_only_grows_keeps_what_it_has() {
        let mut pending = Pending::default();
        pending.set_size(6);
        assert_eq!(pieces(&pending), [(6, true, String::new())]);
        assert_eq!(pending.over(&Bytes::from_static(b"abc")), "abc\0\0\0");
    }

    #[test]
    fn what_is_appended_comes_after_what_others_appended_meanwhile() {
        let mut pending = Pending::default();
        pending.append(3, b"one ");
        pending.append(7, b"two");
        pending.rebase(10);
        assert_eq!(pieces(&pending), [(10, false, "one two".to_owned())]);
        pending.write(0, b"x");
        pending.rebase(20);
        assert_eq!(pieces(&pending).len(), 2, "what was written elsewhere stays where it is");
        assert_eq!(pieces(&pending)[1].0, 10);
    }

    #[test]
    fn much_and_scattered_is_full() {
        let mut pending = Pending::default();
        assert!(pending.is_empty() && !pending.is_full());
        (0..=EXTENTS_MAX).for_each(|at| pending.write(at * 2, b"x"));
        assert!(pending.is_full());
        let mut pending = Pending::default();
        pending.write(0, &vec![1; FILE_MAX]);
        assert!(pending.is_full());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(usize, Vec<u8>),
        Cut(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0usize..40, proptest::collection::vec(1u8.., 0..12))
            .prop_map(|(at, data)| Step::Write(at, data));
        proptest::collection::vec(prop_oneof![3 => write, 1 => (0usize..50).prop_map(Step::Cut)], 0..12)
    }

    fn write(file: &mut Vec<u8>, at: usize, data: &[u8]) {
        if !data.is_empty() {
            file.resize(file.len().max(at + data.len()), 0);
            file[at..at + data.len()].copy_from_slice(data);
        }
    }

    proptest! {
        #[test]
        fn sent_and_read_are_what_was_written(
            base in proptest::collection::vec(any::<u8>(), 0..40), steps in steps()
        ) {
            let (mut file, mut pending) = (base.clone(), Pending::default());
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        pending.write(at, &data);
                        write(&mut file, at, &data);
                    }
                    Step::Cut(size) => {
                        pending.set_size(size);
                        file.resize(size, 0);
                    }
                }
                prop_assert_eq!(pending.size_over(base.len()), file.len());
            }
            prop_assert_eq!(&pending.over(&Bytes::from(base.clone()))[..], &file[..]);
            let mut sent = base;
            for piece in pending.pieces() {
                let end = piece.offset + piece.content.len();
                if piece.truncate {
                    sent.resize(end, 0);
                } else {
                    sent.resize(sent.len().max(end), 0);
                }
                sent[piece.offset..end].copy_from_slice(&piece.content);
            }
            prop_assert_eq!(sent, file);
        }
    }
}
