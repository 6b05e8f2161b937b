//! What the cluster's tree keeps of a migration: `migrations/VMID.json`, one file for each guest on its way.

use serde::{Deserialize, Serialize};

/// How far a migration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The guest is locked, the target gets ready; offline, the disks are copied.
    Preparing,
    /// The disks are copied while the guest runs.
    Mirroring,
    /// The memory is copied while the guest runs.
    Precopy,
    /// The guest is stopped; the rest is copied, and then the owner changes.
    Switching,
    /// The target owns the guest.
    Committed,
    /// It does not take place; what was done is undone.
    Aborting,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Mirroring => "mirroring",
            Self::Precopy => "precopy",
            Self::Switching => "switching",
            Self::Committed => "committed",
            Self::Aborting => "aborting",
        }
    }
}

/// A migration as every node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// The guest.
    pub vmid: u32,
    /// Where it is.
    pub source: String,
    /// Where it goes.
    pub target: String,
    /// How far it has come.
    pub state: State,
    /// The guest runs meanwhile.
    pub online: bool,
    /// The guest was paused when it began.
    #[serde(default)]
    pub paused: bool,
    /// Disks that are copied: keys of the configuration.
    #[serde(default)]
    pub disks: Vec<String>,
    /// Volumes that get another name: the source's, and the target's.
    #[serde(default)]
    pub volumes: std::collections::BTreeMap<String, String>,
    /// Volumes of the source that are deleted once the guest runs on the target.
    #[serde(default)]
    pub free_volumes: Vec<String>,
    /// When it began: seconds since 1970, by the source's clock.
    pub started: u64,
    /// Context of the trace that it belongs to; empty if there is none.
    #[serde(default)]
    pub traceparent: String,
}

/// The file holds no migration.
#[derive(Debug, thiserror::Error)]
#[error("the record of a migration cannot be read")]
pub struct RecordError(#[from] serde_json::Error);

impl Record {
    /// Where it lies in the tree.
    #[must_use]
    pub fn path(vmid: u32) -> String {
        format!("migrations/{vmid}.json")
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`RecordError`] if it is none.
    pub fn parse(content: &[u8]) -> Result<Self, RecordError> {
        Ok(serde_json::from_slice(content)?)
    }

    /// The file's content.
    ///
    /// # Panics
    /// Never: all keys are text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("all keys are text");
        text.push(b'\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        Record {
            id: "m1".into(),
            vmid: 100,
            source: "hp1".into(),
            target: "hp2".into(),
            state: State::Switching,
            online: true,
            paused: false,
            disks: vec!["virtio0".into()],
            volumes: [("local:a".to_owned(), "local:b".to_owned())].into(),
            free_volumes: vec!["local:a".into()],
            started: 1,
            traceparent: String::new(),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(Record::parse(&record().encode()).unwrap(), record());
    }

    #[test]
    fn states_are_ordered_as_they_follow_each_other() {
        use State::{Committed, Mirroring, Precopy, Preparing, Switching};
        let way = [Preparing, Mirroring, Precopy, Switching, Committed];
        assert!(way.windows(2).all(|pair| pair[0] < pair[1]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(&bytes);
        }
    }
}
