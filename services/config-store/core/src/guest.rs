//! Which paths are guest configurations: the rule that makes a VMID unique in the cluster.
//!
//! Source: pmxcfs specification, section 6.

use std::fmt;

use quorate_types::NodeName;

use crate::path::ConfigPath;

/// What kind of guest a configuration describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuestKind {
    /// A virtual machine, below `qemu-server/`.
    Qemu,
    /// A container, below `lxc/`.
    Lxc,
    /// A container of the legacy kind, below `openvz/`.
    Openvz,
}

impl fmt::Display for GuestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
            Self::Openvz => "openvz",
        })
    }
}

/// A path of the form `nodes/<node>/{qemu-server|lxc|openvz}/<vmid>.conf`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestConfig {
    /// The node that owns the guest.
    pub node: NodeName,
    /// What kind of guest it is.
    pub kind: GuestKind,
    /// Its number: decimal without leading zero.
    pub vmid: u32,
}

impl GuestConfig {
    /// The guest whose configuration `path` is, if it is one.
    #[must_use]
    pub fn of(path: &ConfigPath) -> Option<Self> {
        let mut names = path.names();
        if names.next()? != "nodes" {
            return None;
        }
        let node = names.next()?.parse().ok()?;
        let kind = match names.next()? {
            "qemu-server" => GuestKind::Qemu,
            "lxc" => GuestKind::Lxc,
            "openvz" => GuestKind::Openvz,
            _ => return None,
        };
        let vmid = vmid(names.next()?.strip_suffix(".conf")?)?;
        names.next().is_none().then_some(Self { node, kind, vmid })
    }
}

fn vmid(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(path: &str) -> Option<(String, GuestKind, u32)> {
        let guest = GuestConfig::of(&path.parse().unwrap())?;
        Some((guest.node.to_string(), guest.kind, guest.vmid))
    }

    #[test]
    fn guest_configs_are_recognised() {
        for (path, expected) in [
            ("nodes/hp1/qemu-server/100.conf", ("hp1", GuestKind::Qemu, 100)),
            ("nodes/a-b/lxc/4294967295.conf", ("a-b", GuestKind::Lxc, u32::MAX)),
            ("nodes/x/openvz/1.conf", ("x", GuestKind::Openvz, 1)),
        ] {
            let (node, kind, vmid) = expected;
            assert_eq!(guest(path), Some((node.to_owned(), kind, vmid)), "{path}");
        }
    }

    #[test]
    fn everything_else_is_an_ordinary_file() {
        for path in [
            "",
            "nodes",
            "nodes/hp1/qemu-server",
            "nodes/hp1/qemu-server/100.conf.tmp",
            "nodes/hp1/qemu-server/0100.conf",
            "nodes/hp1/qemu-server/0.conf",
            "nodes/hp1/qemu-server/+1.conf",
            "nodes/hp1/qemu-server/.conf",
            "nodes/hp1/qemu-server/4294967296.conf",
            "nodes/hp1/qemu-server/100.conf/x",
            "nodes/-hp1/qemu-server/100.conf",
            "nodes/hp1/qemu/100.conf",
            "node/hp1/qemu-server/100.conf",
        ] {
            assert_eq!(guest(path), None, "{path}");
        }
    }
}
