//! The lease of a guest: the file `priv/lease/VMID`, by which it runs on one node only.
//!
//! It is written, in one step with a look at the configuration, before a guest's process is started, and removed after
//! the process is known to be dead. Whoever finds another node's lease does not start the guest, whatever the
//! configuration says: it may have been moved while the guest ran on a node that could not be asked.

use crate::vmid::Vmid;

/// Who may run a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Name of the node.
    pub node: String,
    /// Since when, in seconds since 1970, by that node's clock.
    pub since: u64,
}

/// Why a text is no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no lease: lines 'node: NAME' and 'since: SECONDS' are expected")]
pub struct LeaseError;

/// The directory of all leases in the tree.
pub const DIRECTORY: &str = "priv/lease";

/// Where a guest's lease is.
#[must_use]
pub fn path(vmid: Vmid) -> String {
    format!("{DIRECTORY}/{vmid}")
}

impl Lease {
    /// Reads the file.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LeaseError> {
        let text = std::str::from_utf8(bytes).map_err(|_| LeaseError)?;
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
        };
        let node = value("node").filter(|node| !node.is_empty()).ok_or(LeaseError)?;
        let since = value("since").and_then(|since| since.parse().ok()).ok_or(LeaseError)?;
        Ok(Self { node: node.to_owned(), since })
    }

    /// The file's text.
    #[must_use]
    pub fn print(&self) -> String {
        format!("node: {}\nsince: {}\n", self.node, self.since)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_lease_is_read_as_it_was_written(node in "[a-z][a-z0-9-]{0,20}", since in any::<u64>()) {
            let lease = Lease { node, since };
            prop_assert_eq!(Lease::parse(lease.print().as_bytes()), Ok(lease));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Lease::parse(&bytes);
        }
    }

    #[test]
    fn half_a_lease_is_none() {
        for bad in ["", "node: \nsince: 1\n", "node: hp1\n", "node: hp1\nsince: now\n"] {
            assert_eq!(Lease::parse(bad.as_bytes()), Err(LeaseError), "{bad}");
        }
    }
}
