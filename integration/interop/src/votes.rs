//! What a node says of votes, in one form, whoever is asked.

use std::collections::BTreeMap;

use anyhow::Context as _;
use quorate_proto::quorum::v1::{QuorumStatus, quorum_node::State};

/// The votes as one node counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Votes {
    /// The ring: representative and sequence.
    pub ring: (u32, u64),
    /// Whether the node may act.
    pub quorate: bool,
    /// Expected votes of the node.
    pub expected: u32,
    /// Highest expected votes of all members.
    pub highest: u32,
    /// Votes of the members.
    pub total: u32,
    /// Votes needed.
    pub quorum: u32,
    /// Votes of each member.
    pub members: BTreeMap<u32, u32>,
}

impl Votes {
    /// Reads what `corosync-quorumtool -s` prints.
    ///
    /// # Errors
    /// The field that is missing: the tool prints an error instead while corosync starts.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).with_context(|| format!("no field '{name}' in:\n{text}"))
        };
        let number = |name: &str| -> anyhow::Result<u32> {
            let value = field(name)?;
            // "2 Activity blocked"
            value.split(' ').next().unwrap_or(value).parse().with_context(|| format!("{name}: {value}"))
        };
        let (representative, sequence) =
            field("Ring ID")?.split_once('.').context("a ring id has two parts")?;
        let table = text.lines().skip_while(|line| !line.trim_start().starts_with("Nodeid")).skip(1);
        let members = table.filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        });
        Ok(Self {
            ring: (u32::from_str_radix(representative, 16)?, u64::from_str_radix(sequence, 16)?),
            quorate: field("Quorate")? == "Yes",
            expected: number("Expected votes")?,
            highest: number("Highest expected")?,
            total: number("Total votes")?,
            quorum: number("Quorum")?,
            members: members.collect(),
        })
    }

    /// What `QuorumService` answers.
    #[must_use]
    pub fn of(status: &QuorumStatus) -> Self {
        let ring = status.ring.unwrap_or_default();
        let members = status.nodes.iter().filter(|node| node.state() == State::Member);
        Self {
            ring: (ring.rep, ring.seq),
            quorate: status.quorate,
            expected: status.expected_votes,
            highest: status.highest_expected,
            total: status.total_votes,
            quorum: status.quorum,
            members: members.map(|node| (node.node_id, node.votes)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PRINTED: &str = "\
Quorum information
------------------
Date:             Thu Jan  1 00:00:00 1970
Quorum provider:  corosync_votequorum
Nodes:            2
Node ID:          11
Ring ID:          a.1f
Quorate:          No

Votequorum information
----------------------
Expected votes:   5
Highest expected: 5
Total votes:      2
Quorum:           3 Activity blocked
Flags:            

Membership information
----------------------
    Nodeid      Votes Name
        10          1 node10
        11          1 node11 (local)
";

    #[test]
    fn what_the_tool_prints_is_read() {
        let expected = Votes {
            ring: (10, 31),
            quorate: false,
            expected: 5,
            highest: 5,
            total: 2,
            quorum: 3,
            members: BTreeMap::from([(10, 1), (11, 1)]),
        };
        assert_eq!(Votes::parse(PRINTED).unwrap(), expected);
    }

    #[test]
    fn an_error_of_the_tool_names_the_missing_field() {
        let error = Votes::parse("Cannot initialize CMAP service\n").unwrap_err().to_string();
        assert!(error.contains("no field 'Ring ID'"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            let _ = Votes::parse(&text);
            let _ = Votes::parse(&format!("Ring ID: {text}\nQuorum:{text}\n"));
        }
    }
}
