//! Room on this node's disk: a cluster is neither made nor joined where its tree would not fit.
//!
//! A disk that fills up later is configd's business; but a join that fails for want of room half-way can neither be
//! completed nor taken back on this node.

use nix::sys::statvfs::statvfs;
use quorate_daemon::Root;

use crate::refusal::{Checks, Violation};

/// Free room that a node needs, in bytes: a tree that is new beside one that is set aside, and the store's log
/// (32 MiB).
const FREE_MIN: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

/// Notes it if there is not enough room below `var/lib/quorate`.
pub fn check(root: &Root, checks: &mut Checks) {
    let state = root.state_dir("");
    match statvfs(&state) {
        Ok(disk) => {
            let free = disk.blocks_available().saturating_mul(disk.fragment_size());
            judge(&state.display().to_string(), free, checks);
        }
        Err(error) => tracing::warn!(%error, path = %state.display(), "cannot ask for the free room"),
    }
}

fn judge(place: &str, free: u64, checks: &mut Checks) {
    if free >= FREE_MIN {
        return;
    }
    let (free, needed) = (free / MIB, FREE_MIN / MIB);
    checks.add(Violation {
        reason: "NO_SPACE",
        subject: place.to_owned(),
        description: format!("{place} has {free} MiB free, a node needs {needed} MiB; make room"),
        metadata: vec![("free_mib", free.to_string()), ("needed_mib", needed.to_string())],
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_refused_with_numbers() {
        let mut checks = Checks::default();
        judge("/var/lib/quorate", 3 * MIB + 5, &mut checks);
        let status = checks.finish("cannot join").unwrap_err();
        assert!(status.message().contains("has 3 MiB free, a node needs 64 MiB"), "{}", status.message());
    }

    #[test]
    fn enough_room_and_a_directory_that_is_not_there_are_no_failed_check() {
        let mut checks = Checks::default();
        judge("/var/lib/quorate", FREE_MIN, &mut checks);
        check(&Root::new("/nowhere"), &mut checks);
        assert!(checks.finish("cannot join").is_ok());
    }
}
