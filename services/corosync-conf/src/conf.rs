//! The configuration as the daemons use it: complete, checked, all mistakes reported at once.

use quorate_types::NodeId;

use crate::{
    ConfError, ConfErrors, Node, Quorum, Reason, Totem, Tree, check, nodelist, quorum,
    read::{Mistakes, Scope},
    totem,
};

/// A checked configuration. What it does not know stays in the [`Tree`] it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConf {
    /// The `totem` section: the cluster's name and how its ring runs.
    pub totem: Totem,
    /// The nodes by id, never empty.
    pub nodes: Vec<Node>,
    /// The `quorum` section.
    pub quorum: Quorum,
    /// `system.sched_rr`, default yes: the ring runs in real time.
    pub sched_rr: bool,
    /// What is legal but surely not meant, for example an option that has no effect.
    pub warnings: Vec<ConfError>,
}

impl ClusterConf {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// The first line that breaks the grammar, or else all mistakes.
    pub fn parse(text: &str) -> Result<Self, ConfErrors> {
        Self::from_tree(&Tree::parse(text)?)
    }

    /// Checks a configuration.
    ///
    /// # Errors
    /// All mistakes.
    pub fn from_tree(tree: &Tree) -> Result<Self, ConfErrors> {
        let mut mistakes = Mistakes::default();
        let totem = totem::read(tree, &mut mistakes);
        let nodes = nodelist::read(tree, &mut mistakes);
        let quorum_scope = Scope::all(tree, "quorum");
        let quorum = quorum::read(tree, &quorum_scope, &mut mistakes);
        let votes = nodes.iter().try_fold(0u32, |sum, node| sum.checked_add(node.votes));
        if votes.is_none() {
            mistakes.add(0, "nodelist.node.quorum_votes", Reason::VotesOverflow);
        }
        let expected = quorum.expected_votes.or(votes).unwrap_or(0);
        check::options(&quorum, &quorum_scope, &nodes, expected, &mut mistakes);
        if let Some(totem) = &totem {
            check::links(totem, &nodes, &mut mistakes);
        }
        let sched_rr = Scope::all(tree, "system").word_switch(&mut mistakes, "sched_rr").unwrap_or(true);
        let warnings = check::warnings(&quorum, &quorum_scope, &nodes);
        mistakes.into_result(totem.map(|totem| Self { totem, nodes, quorum, sched_rr, warnings }))
    }

    /// The node with this id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The node with this name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name.as_str() == name)
    }

    /// Votes that the cluster expects: `quorum.expected_votes`, or the sum over the nodelist and those of the
    /// quorum device.
    #[must_use]
    pub fn expected_votes(&self) -> u32 {
        let sum = || self.node_votes().saturating_add(self.device_votes().unwrap_or(0));
        self.quorum.expected_votes.unwrap_or_else(sum)
    }

    /// Votes of the quorum device, if there is one: `quorum.device.votes`, or one less than the nodes have.
    /// Source: corosync-qdevice(8).
    #[must_use]
    pub fn device_votes(&self) -> Option<u32> {
        let device = self.quorum.device.as_ref()?;
        Some(device.votes.unwrap_or_else(|| self.node_votes().saturating_sub(1)))
    }

    fn node_votes(&self) -> u32 {
        self.nodes.iter().map(|node| node.votes).sum()
    }

    /// The lowest node id that no node has.
    #[must_use]
    pub fn free_node_id(&self) -> Option<NodeId> {
        (1..=u32::MAX).filter_map(|id| NodeId::new(id).ok()).find(|id| self.node(*id).is_none())
    }
}
