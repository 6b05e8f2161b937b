//! Changes of a configuration: nodes come and go, votes change, the version grows.
//!
//! An edit changes what it names and leaves everything else, known or not. None of them raises the
//! version by itself: that is [`Tree::bump_version`], once per change that is written.

use std::collections::BTreeMap;

use quorate_types::{NodeId, NodeName};

use crate::{
    ConfError, Reason, Tree,
    parse::is_key,
    tree::{Entry, Section},
};

/// A node to be added to the nodelist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// Its name.
    pub name: NodeName,
    /// Its id, not used by another node.
    pub id: NodeId,
    /// Its votes. 0 is written as 0: a missing line would mean 1.
    pub votes: u32,
    /// Its address per link, 0 to 7.
    pub addresses: BTreeMap<u8, String>,
}

impl Tree {
    /// Adds a node, or replaces the node of the same name. Whether ids and addresses are unique is for
    /// [`crate::ClusterConf`] to say, which reads the result.
    ///
    /// # Errors
    /// An address that cannot be written as a value; nothing is changed then.
    pub fn add_node(&mut self, node: &NewNode) -> Result<(), ConfError> {
        let mut section = Section::new("node");
        section.set("name", node.name.as_str())?;
        section.set("nodeid", &node.id.to_string())?;
        section.set("quorum_votes", &node.votes.to_string())?;
        for (link, address) in &node.addresses {
            section.set(&format!("ring{link}_addr"), address)?;
        }
        let nodelist = self.root.section_mut("nodelist");
        nodelist.entries.retain(|entry| !is_node(entry, node.name.as_str()));
        nodelist.entries.push(Entry::Section(section));
        Ok(())
    }

    /// Adds the interface section of a link, which says that the link is there, after those that are.
    ///
    /// # Errors
    /// None in practice: numbers can be written.
    pub fn add_interface(&mut self, link: u8, priority: Option<u8>) -> Result<(), ConfError> {
        let mut section = Section::new("interface");
        section.set("linknumber", &link.to_string())?;
        if let Some(priority) = priority {
            section.set("knet_link_priority", &priority.to_string())?;
        }
        self.root.section_mut("totem").entries.push(Entry::Section(section));
        Ok(())
    }

    /// Removes the node of this name.
    ///
    /// # Errors
    /// [`Reason::NoSuchNode`]; nothing is changed then.
    pub fn remove_node(&mut self, name: &str) -> Result<(), ConfError> {
        let mut removed = false;
        for entry in &mut self.root.entries {
            let Entry::Section(section) = entry else { continue };
            if section.name == "nodelist" {
                let before = section.entries.len();
                section.entries.retain(|entry| !is_node(entry, name));
                removed |= section.entries.len() < before;
            }
        }
        if removed { Ok(()) } else { Err(no_such_node(name)) }
    }

    /// Gives the node of this name another number of votes.
    ///
    /// # Errors
    /// [`Reason::NoSuchNode`]; nothing is changed then.
    pub fn set_votes(&mut self, name: &str, votes: u32) -> Result<(), ConfError> {
        for entry in &mut self.root.entries {
            let Entry::Section(nodelist) = entry else { continue };
            if nodelist.name != "nodelist" {
                continue;
            }
            let node = nodelist.entries.iter_mut().find(|entry| is_node(entry, name));
            if let Some(Entry::Section(node)) = node {
                return node.set("quorum_votes", &votes.to_string());
            }
        }
        Err(no_such_node(name))
    }

    /// Raises `totem.config_version` by one and returns the new version. Every change that is written
    /// needs it: daemons apply a configuration only when its version is higher than theirs.
    ///
    /// # Errors
    /// The version is missing or no number; nothing is changed then.
    pub fn bump_version(&mut self) -> Result<u64, ConfError> {
        const KEY: &str = "totem.config_version";
        let old = self.value(KEY).ok_or_else(|| ConfError::new(0, KEY, Reason::Missing))?;
        let number = Reason::Number { value: old.to_owned(), min: 0, max: u64::MAX };
        let old: u64 = old.parse().map_err(|_| ConfError::new(0, KEY, number))?;
        let new = old.checked_add(1).ok_or_else(|| ConfError::new(0, KEY, Reason::VersionOverflow))?;
        self.set(KEY, &new.to_string())?;
        Ok(new)
    }

    /// Sets the key at a path such as `quorum.two_node`; sections on the way are added if missing. Where
    /// a section is repeated, the first one gets the key and the others lose it.
    ///
    /// # Errors
    /// A key, section name or value that could not be read back; nothing is changed then.
    pub fn set(&mut self, path: &str, value: &str) -> Result<(), ConfError> {
        let mut names: Vec<&str> = path.split('.').collect();
        let key = names.pop().unwrap_or_default();
        if !names.iter().all(|name| is_key(name)) {
            return Err(ConfError::new(0, path, Reason::SectionName));
        }
        Section::default().set(key, value).map_err(|error| ConfError { key: path.to_owned(), ..error })?;
        unset(&mut self.root, &names, key);
        names.iter().fold(&mut self.root, |section, name| section.section_mut(name)).set(key, value)
    }

    /// Removes the key at a path such as `totem.token`, wherever it is repeated; says whether it was there.
    pub fn unset(&mut self, path: &str) -> bool {
        let mut names: Vec<&str> = path.split('.').collect();
        let key = names.pop().unwrap_or_default();
        unset(&mut self.root, &names, key)
    }

    /// Removes the sections at a path such as `quorum.device`, with all that is in them; says whether there was one.
    pub fn remove_section(&mut self, path: &str) -> bool {
        let names: Vec<&str> = path.split('.').collect();
        remove_section(&mut self.root, &names)
    }
}

fn remove_section(section: &mut Section, names: &[&str]) -> bool {
    let Some((name, inner_names)) = names.split_first() else { return false };
    let before = section.entries.len();
    if inner_names.is_empty() {
        section.entries.retain(|entry| !matches!(entry, Entry::Section(inner) if inner.name == *name));
        return section.entries.len() < before;
    }
    let mut removed = false;
    for entry in &mut section.entries {
        if let Entry::Section(inner) = entry
            && inner.name == *name
        {
            removed |= remove_section(inner, inner_names);
        }
    }
    removed
}

fn unset(section: &mut Section, names: &[&str], key: &str) -> bool {
    let Some((name, inner_names)) = names.split_first() else { return section.remove(key) };
    let mut removed = false;
    for entry in &mut section.entries {
        if let Entry::Section(inner) = entry
            && inner.name == *name
        {
            removed |= unset(inner, inner_names, key);
        }
    }
    removed
}

/// A node answers to its `name`, or without one to its first address.
fn is_node(entry: &Entry, name: &str) -> bool {
    let Entry::Section(section) = entry else { return false };
    let own = section.value("name").or_else(|| section.value("ring0_addr"));
    section.name == "node" && own == Some(name)
}

fn no_such_node(name: &str) -> ConfError {
    ConfError::new(0, "nodelist.node", Reason::NoSuchNode { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "totem {\n config_version: 3\n}\nnodelist {\n node {\n name: a\n nodeid: 1\n \
                        colour: red\n ring0_addr: 10.0.0.1\n }\n node {\n nodeid: 2\n ring0_addr: b\n }\n}\n";

    fn node(name: &str, id: u32, votes: u32) -> NewNode {
        let addresses = BTreeMap::from([(0, format!("10.0.0.{id}"))]);
        NewNode { name: name.parse().unwrap(), id: NodeId::new(id).unwrap(), votes, addresses }
    }

    #[test]
    fn an_added_node_is_written_with_its_votes_even_if_they_are_none() {
        let mut tree = Tree::parse(TEXT).unwrap();
        tree.add_node(&node("c", 3, 0)).unwrap();

        let added = tree.sections("nodelist.node")[2];
        assert_eq!(added.value("quorum_votes"), Some("0"));
        assert_eq!(added.value("ring0_addr"), Some("10.0.0.3"));
    }

    #[test]
    fn adding_a_known_name_replaces_the_node() {
        let mut tree = Tree::parse(TEXT).unwrap();
        tree.add_node(&node("a", 9, 1)).unwrap();

        assert_eq!(tree.sections("nodelist.node").len(), 2);
        assert_eq!(tree.sections("nodelist.node")[1].value("nodeid"), Some("9"));
    }

    #[test]
    fn votes_change_and_unknown_keys_stay() {
        let mut tree = Tree::parse(TEXT).unwrap();
        tree.set_votes("a", 2).unwrap();

        let changed = tree.sections("nodelist.node")[0];
        assert_eq!((changed.value("quorum_votes"), changed.value("colour")), (Some("2"), Some("red")));
    }

    #[test]
    fn a_node_without_name_is_found_by_its_address() {
        let mut tree = Tree::parse(TEXT).unwrap();
        tree.remove_node("b").unwrap();

        assert_eq!(tree.sections("nodelist.node").len(), 1);
        assert_eq!(tree.remove_node("b").unwrap_err().reason, Reason::NoSuchNode { name: "b".into() });
        assert_eq!(tree.set_votes("b", 1).unwrap_err().reason, Reason::NoSuchNode { name: "b".into() });
    }

    #[test]
    fn the_version_grows_by_one_and_never_wraps() {
        let mut tree = Tree::parse(TEXT).unwrap();
        assert_eq!(tree.bump_version(), Ok(4));
        assert_eq!(tree.value("totem.config_version"), Some("4"));

        tree.set("totem.config_version", &u64::MAX.to_string()).unwrap();
        assert_eq!(tree.bump_version().unwrap_err().reason, Reason::VersionOverflow);
        tree.unset("totem.config_version");
        assert_eq!(tree.bump_version().unwrap_err().reason, Reason::Missing);
    }

    #[test]
    fn a_section_goes_with_all_that_is_in_it() {
        let mut tree = Tree::parse("quorum {\n a: 1\n device {\n net {\n b: 2\n }\n }\n}\n").unwrap();
        assert!(tree.remove_section("quorum.device"));
        assert!(!tree.remove_section("quorum.device"));
        assert_eq!((tree.value("quorum.a"), tree.value("quorum.device.net.b")), (Some("1"), None));
    }

    #[test]
    fn a_set_value_wins_over_repeated_sections() {
        let mut tree = Tree::parse("totem {\n token: 1\n}\ntotem {\n token: 2\n}\n").unwrap();
        tree.set("totem.token", "3").unwrap();
        tree.set("quorum.two_node", "1").unwrap();

        assert_eq!((tree.value("totem.token"), tree.value("quorum.two_node")), (Some("3"), Some("1")));
        assert!(tree.set("a b.c", "1").is_err() && tree.set("a.b", "{").is_err());
        assert!(tree.unset("totem.token") && tree.value("totem.token").is_none());
    }
}
