//! Properties of guests, read from their configurations. Source: pmxcfs specification, section 11.

use std::collections::BTreeMap;

use config_store_core::Tree;

use crate::status::QueryError;

/// The lowest number of a guest that may be asked for.
const VMID_MIN: u32 = 100;
/// Most properties in one question.
const PROPERTIES_MAX: usize = 255;

/// What was found of one guest: its number, and the properties that it has.
pub(crate) type Found = (u32, BTreeMap<String, String>);

/// The properties of one guest, or of all for 0. Guests that have none of them are left out.
pub(crate) fn properties(tree: &Tree, vmid: u32, names: &[String]) -> Result<Vec<Found>, QueryError> {
    if (1..VMID_MIN).contains(&vmid) {
        return Err(QueryError::VmidInvalid { vmid });
    }
    let wrong = names.iter().find(|name| !is_name(name));
    if wrong.is_some() || names.is_empty() || names.len() > PROPERTIES_MAX {
        return Err(QueryError::PropertyInvalid { name: wrong.cloned().unwrap_or_default() });
    }
    if vmid == 0 {
        let all = tree.guests().iter();
        return Ok(all.filter_map(|(vmid, inode)| found(tree, *vmid, *inode, names)).collect());
    }
    let inode = tree.guests().get(&vmid).ok_or(QueryError::GuestUnknown { vmid })?;
    Ok(found(tree, vmid, *inode, names).into_iter().collect())
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains([':', '\n', '\0'])
}

fn found(tree: &Tree, vmid: u32, inode: u64, names: &[String]) -> Option<Found> {
    let properties = read(tree.entry(inode)?.content(), names);
    (!properties.is_empty()).then_some((vmid, properties))
}

/// Reads `name: value` lines of the current section, which ends where the first snapshot begins. The last line counts.
fn read(config: &[u8], names: &[String]) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for line in config.split(|byte| *byte == b'\n') {
        if line.first() == Some(&b'[') {
            break;
        }
        if !line.first().is_some_and(u8::is_ascii_lowercase) {
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if let Some(name) = names.iter().find(|wanted| wanted.as_bytes() == name) {
            let value = String::from_utf8_lossy(value.trim_ascii()).into_owned();
            properties.insert(name.clone(), value);
        }
    }
    properties
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use config_store_core::{ConfigPath, Expect, Operation};

    use super::*;

    fn tree(guests: &[(&str, &'static str)]) -> Tree {
        let mut tree = Tree::new();
        let path = |text: &str| text.parse::<ConfigPath>().expect("a path");
        for directory in ["nodes", "nodes/n1", "nodes/n1/qemu-server", "nodes/n1/lxc"] {
            tree.apply(0, 1, &Operation::Mkdir { path: path(directory) }).expect("made");
        }
        for (file, content) in guests {
            let path = path(&format!("nodes/n1/{file}"));
            let content = Bytes::from_static(content.as_bytes());
            tree.apply(0, 1, &Operation::Put { path, expect: Expect::Any, content }).expect("written");
        }
        tree
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn expected(properties: &[(&str, &str)]) -> BTreeMap<String, String> {
        properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_last_line_of_the_current_section_counts() {
        let config = "#lock: comment\nlock: create\nname:  web \t\r\nlock: migrate\nlocks: no\n[snap]\nlock: snapshot\n";
        let tree = tree(&[("qemu-server/100.conf", config), ("lxc/101.conf", "memory: 1\n")]);
        let found = properties(&tree, 0, &names(&["lock", "name"])).expect("allowed");
        assert_eq!(found, [(100, expected(&[("lock", "migrate"), ("name", "web")]))]);
        assert_eq!(properties(&tree, 101, &names(&["lock"])).expect("allowed"), []);
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let tree = tree(&[]);
        let ask = |vmid, names_: &[&str]| properties(&tree, vmid, &names(names_)).expect_err("refused");
        for vmid in [1, 99] {
            assert!(matches!(ask(vmid, &["lock"]), QueryError::VmidInvalid { .. }));
        }
        assert!(matches!(ask(100, &["lock"]), QueryError::GuestUnknown { vmid: 100 }));
        for name in ["", "Lock", "1", "a:b", "a\nb"] {
            assert!(matches!(ask(0, &[name]), QueryError::PropertyInvalid { .. }), "{name}");
        }
        assert!(matches!(ask(0, &[]), QueryError::PropertyInvalid { .. }));
    }
}
