//! `.vmlist`: all guests and where they are. Source: pmxcfs specification, section 4.3.

use std::fmt::Write as _;

use super::json;

/// One guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestLine {
    pub(crate) vmid: u32,
    pub(crate) node: String,
    /// `qemu`, `lxc` or `openvz`.
    pub(crate) kind: String,
    /// Changes whenever its configuration does.
    pub(crate) version: u64,
}

/// The text.
pub(crate) fn vmlist(version: u64, guests: &[GuestLine]) -> String {
    if guests.is_empty() {
        return format!("{{\n\"version\": {version}\n\n}}\n");
    }
    let mut text = format!("{{\n\"version\": {version},\n\"ids\": {{\n");
    for (number, guest) in guests.iter().enumerate() {
        let separator = if number == 0 { "" } else { ",\n" };
        let _ = write!(
            text,
            "{separator}\"{}\": {{ \"node\": {}, \"type\": \"{}\", \"version\": {} }}",
            guest.vmid,
            json::string(&guest.node),
            guest.kind,
            guest.version
        );
    }
    text.push_str("}\n\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_laid_out_as_pmxcfs_does_it() {
        let guest = |vmid, node: &str, kind: &str, version| GuestLine {
            vmid,
            node: node.into(),
            kind: kind.into(),
            version,
        };
        let text = vmlist(9, &[guest(100, "node1", "qemu", 17), guest(101, "node2", "lxc", 12)]);
        assert_eq!(
            text,
            r#"{
"version": 9,
"ids": {
"100": { "node": "node1", "type": "qemu", "version": 17 },
"101": { "node": "node2", "type": "lxc", "version": 12 }}

}
"#
        );
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn without_guests_there_is_only_the_version() {
        assert_eq!(vmlist(1, &[]), "{\n\"version\": 1\n\n}\n");
    }
}
