//! The key-values of one node: this one's own, and what another node told of its own.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{NODE_BYTES_MAX, NODE_KEYS_MAX, message::ValueItem};

/// A value and how often it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    value: Bytes,
    /// How often it changed here since it came; 0 for a new key.
    version: u64,
    /// Its node's count of changes when it was set, and the process that set it.
    revision: u64,
    incarnation: u64,
    /// The repetition in which it was last named.
    snapshot: u64,
}

/// The key-values of one node.
#[derive(Debug, Default)]
pub(super) struct Values {
    held: BTreeMap<String, Held>,
    bytes: usize,
    /// The repetition under way or last completed: who repeats, and its number there.
    repeating: (u64, u64),
}

impl Values {
    pub(super) fn get(&self, key: &str) -> Option<&Bytes> {
        self.held.get(key).map(|held| &held.value)
    }

    pub(super) fn revision(&self, key: &str) -> Option<u64> {
        self.held.get(key).map(|held| held.revision)
    }

    /// All keys with how often they changed, by key.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.held.iter().map(|(key, held)| (key.as_str(), held.version))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.held.keys()
    }

    /// Whether a value of this size has room.
    pub(super) fn has_room(&self, key: &str, size: usize) -> bool {
        let (keys, bytes) = match self.held.get(key) {
            Some(held) => (self.held.len(), self.bytes - held.value.len()),
            None => (self.held.len() + 1, self.bytes + key.len()),
        };
        keys <= NODE_KEYS_MAX && bytes + size <= NODE_BYTES_MAX
    }

    /// Takes a value that process `incarnation` of the node set. Whether anything changed.
    pub(super) fn set(&mut self, incarnation: u64, item: ValueItem) -> bool {
        let Some(value) = item.value.filter(|value| !value.is_empty()) else { return self.remove(&item.key) };
        let snapshot = self.repeating.1;
        if let Some(held) = self.held.get_mut(&item.key)
            && (held.incarnation, held.revision) == (incarnation, item.revision)
        {
            held.snapshot = snapshot;
            return false;
        }
        if !self.has_room(&item.key, value.len()) {
            return false;
        }
        let version = self.held.get(&item.key).map_or(0, |held| held.version + 1);
        self.remove(&item.key);
        self.bytes += item.key.len() + value.len();
        self.held.insert(item.key, Held { value, version, revision: item.revision, incarnation, snapshot });
        true
    }

    fn remove(&mut self, key: &str) -> bool {
        let Some(held) = self.held.remove(key) else { return false };
        self.bytes -= key.len() + held.value.len();
        true
    }

    /// The node begins to repeat all of its values.
    pub(super) fn begin(&mut self, incarnation: u64, snapshot: u64) {
        self.repeating = (incarnation, snapshot);
    }

    /// The node has repeated all of its values: what this process of it had set before and did not name is gone. What
    /// a process before it had set stays until it is set anew, as with pmxcfs.
    pub(super) fn end(&mut self, incarnation: u64, snapshot: u64) {
        if self.repeating != (incarnation, snapshot) {
            return;
        }
        let gone = |held: &Held| held.incarnation == incarnation && held.snapshot != snapshot;
        let gone: Vec<String> =
            self.held.iter().filter(|(_, held)| gone(held)).map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| _ = self.remove(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, revision: u64, value: &'static str) -> ValueItem {
        let value = Some(Bytes::from_static(value.as_bytes()));
        ValueItem { key: key.into(), revision, value }
    }

    fn versions(values: &Values) -> Vec<(&str, u64)> {
        values.versions().collect()
    }

    #[test]
    fn a_new_key_starts_at_version_0_and_a_repetition_is_no_change() {
        let mut values = Values::default();
        assert!(values.set(1, item("a", 1, "x")));
        assert!(!values.set(1, item("a", 1, "x")));
        assert!(values.set(1, item("a", 2, "x")), "the same value, set again");
        assert!(values.set(1, item("b", 3, "y")));
        assert_eq!(versions(&values), [("a", 1), ("b", 0)]);
    }

    #[test]
    fn an_empty_value_removes_the_key() {
        let mut values = Values::default();
        values.set(1, item("a", 1, "x"));
        assert!(values.set(1, item("a", 2, "")));
        assert_eq!((values.get("a"), values.bytes), (None, 0));
    }

    #[test]
    fn a_repetition_removes_what_it_does_not_name_but_not_what_a_process_before_had_set() {
        let mut values = Values::default();
        values.set(7, item("of-the-process-before", 9, "x"));
        for (revision, key) in ["gone", "kept"].into_iter().enumerate() {
            values.set(8, item(key, revision as u64, "x"));
        }
        values.begin(8, 1);
        values.set(8, item("kept", 1, "x"));
        values.set(8, item("new", 2, "x"));
        values.end(8, 1);
        assert_eq!(versions(&values), [("kept", 0), ("new", 0), ("of-the-process-before", 0)]);
    }

    #[test]
    fn the_end_of_a_repetition_whose_beginning_was_missed_removes_nothing() {
        let mut values = Values::default();
        values.set(8, item("a", 1, "x"));
        values.end(8, 1);
        values.begin(8, 2);
        values.end(8, 1);
        values.end(9, 2);
        assert_eq!(versions(&values), [("a", 0)]);
    }

    #[test]
    fn a_node_has_bounded_keys_and_bytes() {
        let mut values = Values::default();
        for number in 0..=NODE_KEYS_MAX as u64 {
            values.set(1, ValueItem { key: format!("{number}"), revision: number, value: Some("x".into()) });
        }
        assert_eq!(values.held.len(), NODE_KEYS_MAX);
        assert!(values.has_room("0", 9), "what is there may change");
        assert!(!values.has_room("0", NODE_BYTES_MAX));
    }
}
