//! What can be wrong with a configuration: the place (line and key) and the reason.

use std::fmt;

use quorate_types::NameError;

/// One mistake in a configuration: where it is and why it is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}{reason}", place = Place { line: *.line, key })]
pub struct ConfError {
    /// Line of the text, from 1. 0 when the mistake is that something is not there.
    pub line: u32,
    /// Path of the key or section, as `totem.token` or `nodelist.node.quorum_votes`. Empty when the
    /// line as a whole is the mistake.
    pub key: String,
    /// Why it is a mistake.
    pub reason: Reason,
}

impl ConfError {
    pub(crate) fn new(line: u32, key: impl Into<String>, reason: Reason) -> Self {
        Self { line, key: key.into(), reason }
    }
}

/// Why something in a configuration is a mistake, or not possible to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The line has neither a brace nor a colon.
    #[error("'{line}' opens no section, closes none, and is no 'key: value'")]
    NotALine {
        /// Its beginning, without what cannot be shown.
        line: String,
    },
    /// An opening brace without a name before it.
    #[error("a section needs one name before its '{{'")]
    SectionName,
    /// Something follows an opening brace.
    #[error("nothing may follow '{{' on its line")]
    AfterOpening,
    /// Something stands beside a closing brace.
    #[error("a closing '}}' needs a line of its own")]
    BesideClosing,
    /// A closing brace outside of any section.
    #[error("'}}' closes nothing")]
    UnexpectedClosing,
    /// The text ends inside a section.
    #[error("the section is never closed")]
    NeverClosed,
    /// More sections inside each other than any configuration has.
    #[error("sections are nested deeper than {max}")]
    TooDeep {
        /// The deepest nesting accepted.
        max: usize,
    },
    /// A key with characters that corosync does not store.
    #[error("a key holds letters, digits and '_', '-', '.', '/' only")]
    KeyCharacters,
    /// A key without a value.
    #[error("has no value")]
    NoValue,
    /// A value that the text form cannot carry: a line break, a brace that opens, a comment sign.
    #[error("'{value}' cannot be written as a value")]
    UnwritableValue {
        /// What was given.
        value: String,
    },
    /// A required key or section is not there.
    #[error("is missing")]
    Missing,
    /// Not a whole number of the range.
    #[error("'{value}' is no whole number from {min} to {max}")]
    Number {
        /// What was given.
        value: String,
        /// The least accepted.
        min: u64,
        /// The most accepted.
        max: u64,
    },
    /// Not one of the words that the key takes.
    #[error("'{value}' is none of {allowed}")]
    Word {
        /// What was given.
        value: String,
        /// The words, separated by commas.
        allowed: &'static str,
    },
    /// A name that breaks the rules for names.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A cluster name that corosync could not use.
    #[error("'{value}' is no single word of printable ASCII characters")]
    ClusterName {
        /// What was given.
        value: String,
    },
    /// Neither an IP address nor a host name.
    #[error("'{value}' is neither an IP address nor a host name")]
    Address {
        /// What was given.
        value: String,
    },
    /// A value that must be unique was used before.
    #[error("'{value}' is used already on line {first_line}")]
    Duplicate {
        /// The value.
        value: String,
        /// Where it was used first.
        first_line: u32,
    },
    /// Two options that exclude each other.
    #[error("cannot be used together with {with}")]
    Conflict {
        /// The other option.
        with: &'static str,
    },
    /// Last man standing with a node of more than one vote.
    #[error("needs nodes of one vote each, but {node} has {votes}")]
    NeedsSingleVotes {
        /// The node's name.
        node: String,
        /// Its votes.
        votes: u32,
    },
    /// A tie breaker where no tie is possible.
    #[error("an odd number of expected votes ({expected}) needs wait_for_all: 1")]
    OddTieBreaker {
        /// Expected votes of the cluster.
        expected: u32,
    },
    /// An option that has no effect with this many nodes.
    #[error("is ignored with {nodes} nodes")]
    IgnoredWithNodes {
        /// How many nodes the nodelist has.
        nodes: usize,
    },
    /// The sum of votes does not fit its number.
    #[error("the votes of all nodes add up to more than {}", u32::MAX)]
    VotesOverflow,
    /// A node has an address for a link that has no interface section.
    #[error("node {node} has an address for link {link}, which has no interface section")]
    LinkWithoutInterface {
        /// The node's name.
        node: String,
        /// The link's number.
        link: u8,
    },
    /// A node lacks an address for a link.
    #[error("node {node} has no address for link {link}")]
    LinkWithoutAddress {
        /// The node's name.
        node: String,
        /// The link's number.
        link: u8,
    },
    /// More than one link on a transport that has one.
    #[error("the transport {transport} has one link, ring0_addr; several need knet")]
    SingleLink {
        /// The transport.
        transport: crate::Transport,
    },
    /// A link by host name: it depends on a resolver when the cluster starts.
    #[error("'{value}' is a host name; its IP address is safer")]
    HostName {
        /// The host name.
        value: String,
    },
    /// Packets are neither encrypted nor signed.
    #[error("packets are not protected: neither secauth: on nor a crypto_cipher is set")]
    Unprotected,
    /// No node of that name.
    #[error("there is no node '{name}'")]
    NoSuchNode {
        /// The name asked for.
        name: String,
    },
    /// The version can not grow any more.
    #[error("cannot grow beyond {}", u64::MAX)]
    VersionOverflow,
}

/// All mistakes of one configuration, in the order of their lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfErrors(pub Vec<ConfError>);

impl fmt::Display for ConfErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, mistake) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfErrors {}

impl From<ConfError> for ConfErrors {
    fn from(mistake: ConfError) -> Self {
        Self(vec![mistake])
    }
}

/// "line 7: totem.token: ", without what is not known.
struct Place<'a> {
    line: u32,
    key: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_names_line_and_key_as_far_as_they_are_known() {
        let number = Reason::Number { value: "x".into(), min: 0, max: 9 };
        let known = ConfError::new(7, "totem.token", number);
        let absent = ConfError::new(0, "totem", Reason::Missing);

        assert_eq!(known.to_string(), "line 7: totem.token: 'x' is no whole number from 0 to 9");
        assert_eq!(absent.to_string(), "totem: is missing");
        assert_eq!(
            ConfErrors(vec![absent.clone(), absent]).to_string(),
            "totem: is missing\ntotem: is missing"
        );
    }
}
