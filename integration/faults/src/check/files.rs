//! What is certain of every write: its version, and whether anybody was told that it happened.

use std::collections::BTreeMap;

use crate::{
    linear::{Answer, Call, Value},
    record::Event,
};

/// A put or a delete that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The call.
    pub id: u64,
    /// The file.
    pub path: String,
    /// What it put; `None` for a deletion.
    pub value: Option<Value>,
}

/// All writes that were acknowledged, or seen by a linearizable read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    certain: BTreeMap<u64, Write>,
}

impl Files {
    /// From a record.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut certain = BTreeMap::new();
        for event in events {
            let Event::Called(called) = event else { continue };
            let (version, value) = match (called.call, called.answer) {
                (Call::Put { value, .. }, Answer::Done { version: Some(version) }) => (version, Some(value)),
                (Call::Delete { .. }, Answer::Done { version: Some(version) }) => (version, None),
                (Call::Get, Answer::Found { value, version: Some(version) }) if called.local.is_none() => {
                    (version, Some(value))
                }
                _ => continue,
            };
            let write = Write { id: called.id, path: called.path.clone(), value };
            certain.entry(version).or_insert(write);
        }
        Self { certain }
    }

    /// The write that made a version, if that is certain.
    #[must_use]
    pub fn at(&self, version: u64) -> Option<&Write> {
        self.certain.get(&version)
    }

    /// All of them, by version.
    pub fn between(&self, after: u64, last: u64) -> impl Iterator<Item = (u64, &Write)> {
        let range = if after < last { after + 1..last + 1 } else { 0..0 };
        self.certain.range(range).map(|(version, write)| (*version, write))
    }
}
