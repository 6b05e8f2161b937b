//! What is to be moved, where, and how.

use std::{fmt, str::FromStr, time::Duration};

use quorate_types::NodeName;

/// Longest id of a migration.
const ID_MAX: usize = 64;

/// Names one migration for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MigrationId(String);

/// The text is no id of a migration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a migration's id has 1 to {ID_MAX} characters of a-z, 0-9 and '-'")]
pub struct MigrationIdError;

impl MigrationId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MigrationId {
    type Err = MigrationIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = (1..=ID_MAX).contains(&text.len()) && text.bytes().all(allowed);
        good.then(|| Self(text.to_owned())).ok_or(MigrationIdError)
    }
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A disk that only the source has: its content travels, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The configuration's key, such as `virtio0`.
    pub key: String,
    /// Name of the disk in the block graph of the source's QEMU. Known once the guest is locked.
    pub source_node: String,
    /// The same on the target. Known once the target is prepared.
    pub target_node: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which migration.
    pub id: MigrationId,
    /// Which guest.
    pub vmid: u32,
    /// Where it is.
    pub source: NodeName,
    /// Where it goes.
    pub target: NodeName,
    /// It runs, and goes on running.
    pub online: bool,
    /// It was paused by its operator and stays so.
    pub paused: bool,
    /// Disks that are copied: while the guest runs if it is online, else as files.
    pub disks: Vec<Disk>,
    /// Bytes per second for memory, and for each disk; `None`: as fast as it goes.
    pub speed: Option<u64>,
    /// How long the guest may be stopped: raised step by step up to `downtime_max` if the memory changes too fast.
    pub downtime: Duration,
    /// The longest stop that is accepted: a guest that needs a longer one is not moved.
    pub downtime_max: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_plain() {
        assert!("m-0a1".parse::<MigrationId>().is_ok());
        for bad in ["", "A", "a/b", "a b", &"a".repeat(65)] {
            assert_eq!(bad.parse::<MigrationId>(), Err(MigrationIdError), "{bad}");
        }
    }
}
