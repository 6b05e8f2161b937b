//! What happened, one line per event, and a hash over all of it.
//!
//! The hash is taken over the values and not over their text: a run without `--verbose` formats
//! nothing, and rewording a line does not change the hash. Two runs of one seed have one hash.

use std::{
    collections::VecDeque,
    fmt::Display,
    hash::{Hash, Hasher},
};

use quorate_types::NodeId;

use crate::event::SimTime;

/// A small deterministic hash (multiply and fold of up to sixteen bytes a time); not for adversaries.
#[derive(Debug, Clone, Copy)]
pub struct TraceHasher(u64);

impl Default for TraceHasher {
    fn default() -> Self {
        Self(0x5153_4d20_7472_6163)
    }
}

impl TraceHasher {
    fn fold(&mut self, word: u64) {
        self.fold_two(word, 0);
    }

    fn fold_two(&mut self, one: u64, two: u64) {
        let wide = u128::from(self.0 ^ one) * u128::from(two ^ 0x9e37_79b9_7f4a_7c15_u64);
        let (low, high) = (wide as u64, (wide >> 64) as u64);
        self.0 = low ^ high.rotate_left(23) ^ 0xa076_1d64_78bd_642f;
    }
}

impl Hasher for TraceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            let pair = u128::from_le_bytes(*pair);
            self.fold_two(pair as u64, (pair >> 64) as u64);
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let last = u128::from_le_bytes(last);
        self.fold_two(last as u64, (last >> 64) as u64);
        self.fold(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.fold(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.fold(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.fold(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.fold(value as u64);
    }
}

/// Hash of some bytes, as used for payloads.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = TraceHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

/// How many of the last lines are kept for the report of a failure.
const TAIL_LINES_MAX: usize = 400;

/// What becomes of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// Nothing is formatted; only the hash is taken.
    Off,
    /// The last 400 lines are kept.
    Tail,
    /// Every line is printed as it happens.
    Print,
}

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    hasher: TraceHasher,
    events: u64,
    lines: Lines,
    tail: VecDeque<String>,
}

impl Trace {
    /// An empty record.
    #[must_use]
    pub fn new(lines: Lines) -> Self {
        Self { hasher: TraceHasher::default(), events: 0, lines, tail: VecDeque::new() }
    }

    /// Adds one event; `node` is `None` for what concerns the whole cluster.
    pub fn note<T: Hash + Display>(&mut self, at: SimTime, node: Option<NodeId>, what: &T) {
        self.events += 1;
        self.hasher.fold(at.as_nanos() as u64);
        self.hasher.fold(node.map_or(0, |n| u64::from(n.get())));
        what.hash(&mut self.hasher);
        if self.lines != Lines::Off {
            self.write_line(at, node, what);
        }
    }

    /// Tells the reader something that is no event of its own; the hash does not depend on it.
    pub fn remark<T: Display>(
        &mut self,
        at: SimTime,
        node: Option<NodeId>,
        what: impl FnOnce() -> Option<T>,
    ) {
        if self.lines != Lines::Off
            && let Some(what) = what()
        {
            self.write_line(at, node, &what);
        }
    }

    /// Adds one event to the hash alone: for what would drown the reader, such as each token.
    pub fn note_quietly<T: Hash + ?Sized>(&mut self, at: SimTime, what: &T) {
        self.events += 1;
        self.hasher.fold(at.as_nanos() as u64);
        what.hash(&mut self.hasher);
    }

    /// Hash over all events so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    fn write_line(&mut self, at: SimTime, node: Option<NodeId>, what: &dyn Display) {
        let who = node.map_or_else(|| "  -".to_owned(), |n| format!("{n:>3}"));
        let line = format!("{:>12.6} {who}  {what}", at.as_secs_f64());
        if self.lines == Lines::Print {
            println!("{line}");
            return;
        }
        if self.tail.len() == TAIL_LINES_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(lines: Lines, words: &[&str]) -> Trace {
        let mut trace = Trace::new(lines);
        for (second, word) in words.iter().enumerate() {
            trace.note(SimTime::from_secs(second as u64), NodeId::new(1).ok(), word);
        }
        trace
    }

    #[test]
    fn the_hash_depends_on_every_event_and_on_their_order() {
        let hash = trace(Lines::Off, &["a", "b", "c"]).hash();
        assert_eq!(hash, trace(Lines::Tail, &["a", "b", "c"]).hash());
        assert_ne!(hash, trace(Lines::Off, &["a", "c", "b"]).hash());
        assert_ne!(hash, trace(Lines::Off, &["a", "b"]).hash());
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let words = vec!["w"; TAIL_LINES_MAX + 10];
        let trace = trace(Lines::Tail, &words);
        assert_eq!(trace.tail().count(), TAIL_LINES_MAX);
        assert_eq!(trace.events(), words.len() as u64);
    }
}
