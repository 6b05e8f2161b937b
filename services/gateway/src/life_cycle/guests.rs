//! Which guests the tree holds: a joining node must have none, since its tree is replaced.

use quorate_proto::config::v1::{Entry, EntryKind};

/// The guests of these entries, as `100 (n1)`, by path: `nodes/<node>/{qemu-server,lxc}/<vmid>.conf`.
#[must_use]
pub fn of(entries: &[Entry]) -> Vec<String> {
    entries.iter().filter(|entry| entry.kind() == EntryKind::File).filter_map(|e| guest(&e.path)).collect()
}

fn guest(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let ["nodes", node, "qemu-server" | "lxc", file] = parts[..] else { return None };
    let vmid = file.strip_suffix(".conf")?;
    vmid.bytes().all(|b| b.is_ascii_digit()).then(|| format!("{vmid} ({node})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry { path: path.into(), kind: EntryKind::File.into(), ..Entry::default() }
    }

    #[test]
    fn machines_and_containers_are_guests_and_nothing_else_is() {
        let entries = [
            entry("nodes/n1/qemu-server/100.conf"),
            entry("nodes/n2/lxc/101.conf"),
            entry("nodes/n1/qemu-server/readme.txt"),
            entry("nodes/n1/pve-ssl.pem"),
            entry("qemu-server/102.conf"),
        ];
        assert_eq!(of(&entries), ["100 (n1)", "101 (n2)"]);
    }
}
