//! The language of the tables in `tests/data`; its words are explained in `tests/data/README.md`.

use std::{collections::BTreeMap, time::Duration};

use quorate_types::RingId;
use quorum_core::{
    DeviceConfig, DeviceVote, ExpectedRefusal, Input, NodeState, QuorumConfig, Status, TieBreaker,
    message::{NodeFlags, NodeInfo, Parameter, Reconfigure},
};

use super::cluster::{Cluster, id};

/// One case of a table while it runs.
#[derive(Default)]
struct Case {
    cluster: Cluster,
    votes: Vec<(u32, u32)>,
    options: Vec<(String, String)>,
    /// Set by a case that shows where two primaries are possible.
    two_primaries_allowed: bool,
    two_primaries_seen: bool,
    /// Ring of made-up events, per node.
    scripted: BTreeMap<u32, RingId>,
}

/// Runs all cases of a table. Panics with the line of the first expectation that is not met.
pub(crate) fn run(name: &str, text: &str) {
    let mut case = None::<Case>;
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, &mut case) {
            ("", _) => {}
            ("case", _) => {
                if let Some(earlier) = case.replace(Case::default()) {
                    earlier.finish(name, number);
                }
            }
            (_, Some(case)) => {
                if let Err(reason) = case.step(word, rest.trim()) {
                    panic!("{name}:{number}: {line}\n{reason}");
                }
            }
            _ => panic!("{name}:{number}: a table starts with 'case'"),
        }
    }
    case.expect("a table has cases").finish(name, text.lines().count());
}

impl Case {
    fn step(&mut self, word: &str, rest: &str) -> Result<(), String> {
        let nodes = || numbers(rest);
        match word {
            "cluster" => self.votes = rest.split_whitespace().map(node_and_votes).collect(),
            "options" => self.options = pairs(rest),
            "start" => {
                for node in nodes() {
                    if !self.cluster.nodes.contains_key(&node) {
                        self.cluster.configure(node, self.config(node));
                    }
                    self.cluster.start(node);
                }
            }
            "reload" => {
                for node in nodes() {
                    self.cluster.configure(node, self.config(node));
                }
            }
            "ring" => rest.split('|').for_each(|group| self.cluster.form_ring(&numbers(group))),
            "abort" => self.cluster.abort_ring(&nodes()),
            "kill" => nodes().into_iter().for_each(|node| self.cluster.kill(node)),
            "leave" => nodes().into_iter().for_each(|node| self.cluster.leave(node)),
            "restart-engine" => nodes().into_iter().for_each(|node| self.cluster.restart_engine(node)),
            "ring-lost" => nodes().into_iter().for_each(|node| self.cluster.lose_ring(node)),
            "cancel-wait" => self.cluster.cancel_wait(number(rest)),
            "after" => self.cluster.wait(duration(rest)),
            "expected" => return self.set_expected(rest),
            "device" => self.device(rest),
            "allow-two-primaries" => self.two_primaries_allowed = true,
            "expect" => return self.expect(rest),
            "sync" | "info" | "change" | "activate" => self.scripted(word, rest),
            _ => return Err("no such word".to_owned()),
        }
        self.check_primaries()
    }

    fn check_primaries(&mut self) -> Result<(), String> {
        match self.cluster.two_primaries() {
            Some((a, b)) if !self.two_primaries_allowed && !self.cluster.overridden => {
                Err(format!("nodes {a} and {b} are quorate without each other"))
            }
            seen => {
                self.two_primaries_seen |= seen.is_some();
                Ok(())
            }
        }
    }

    fn finish(&self, name: &str, line: usize) {
        let is_as_said = self.two_primaries_allowed == self.two_primaries_seen || self.cluster.overridden;
        assert!(is_as_said, "{name}: the case before line {line} never shows the two primaries it allows");
    }

    fn config(&self, node: u32) -> QuorumConfig {
        let own = self.votes.iter().find(|(id, _)| *id == node).map_or(1, |(_, votes)| *votes);
        let sum: u32 = self.votes.iter().map(|(_, votes)| votes).sum();
        let option =
            |name: &str| self.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let device = option("device").map_or(0, number);
        let is_on = |name: &str| option(name).is_some_and(|value| value != "no");
        let window = option("last_man_standing")
            .filter(|value| value.starts_with(|first: char| first.is_ascii_digit()));
        QuorumConfig {
            votes: own,
            expected_votes: option("expected_votes").map_or(sum + device, number),
            nodes: self.votes.len(),
            two_node: is_on("two_node"),
            wait_for_all: option("wait_for_all").map_or(is_on("two_node"), |value| value != "no"),
            last_man_standing: is_on("last_man_standing"),
            last_man_standing_window: window.map_or(QuorumConfig::LAST_MAN_STANDING_WINDOW, duration),
            auto_tie_breaker: option("auto_tie_breaker").map(|value| match value {
                "lowest" | "yes" => TieBreaker::Lowest,
                "highest" => TieBreaker::Highest,
                list => TieBreaker::List(numbers(list).into_iter().map(id).collect()),
            }),
            allow_downscale: is_on("allow_downscale"),
            expected_votes_tracking: is_on("tracking") || is_on("allow_downscale"),
            device: option("device").map(|votes| DeviceConfig { votes: number(votes) }),
        }
    }

    /// `expected 1 2`, or `expected 1 2 refused=below-present`.
    fn set_expected(&mut self, rest: &str) -> Result<(), String> {
        let mut words = rest.split_whitespace();
        let node = words.next().map_or(0, number);
        let expected = words.next().map_or(0, number);
        let refusal = self.cluster.set_expected(node, expected).err().map(|refusal| match refusal {
            ExpectedRefusal::Zero => "refused=zero",
            ExpectedRefusal::BelowPresent { .. } => "refused=below-present",
            ExpectedRefusal::QuorumWouldBeLost { .. } => "refused=quorum-lost",
            ExpectedRefusal::NotSynchronised => "refused=not-synchronised",
        });
        if refusal == words.next() { Ok(()) } else { Err(format!("the answer was {refusal:?}")) }
    }

    /// `device 1,2 granted`, for the ring that each node is in.
    fn device(&mut self, rest: &str) {
        let (nodes, vote) = rest.split_once(' ').expect("device says what?");
        let vote = match vote {
            "unreachable" => DeviceVote::Unreachable,
            "undecided" => DeviceVote::Undecided,
            "granted" => DeviceVote::Granted,
            "refused" => DeviceVote::Refused,
            _ => panic!("no device says {vote}"),
        };
        numbers(nodes).into_iter().for_each(|node| self.cluster.device(node, vote));
    }

    /// `expect 1,2 quorate=yes quorum=2 total=3`
    fn expect(&self, rest: &str) -> Result<(), String> {
        let (nodes, wanted) = rest.split_once(' ').ok_or("expect what?")?;
        for node in numbers(nodes) {
            let engine = self.cluster.nodes.get(&node).and_then(|node| node.engine.as_ref());
            let status = engine.ok_or(format!("node {node} is not up"))?.status();
            for (key, value) in pairs(wanted) {
                let actual = field(&status, &key)?;
                if actual != value {
                    return Err(format!("node {node}: {key} is {actual}\n{status:#?}"));
                }
            }
        }
        Ok(())
    }

    /// Made-up events of one node, the others are only spoken of.
    fn scripted(&mut self, word: &str, rest: &str) {
        let (node, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let node = number(node);
        let options = pairs(rest);
        let value = |name: &str| options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let count = |name: &str| value(name).map_or(0, number);
        if word == "sync" {
            let seq = self.scripted.get(&node).map_or(4, |ring| ring.seq + 4);
            self.scripted.insert(node, RingId { rep: 1, seq });
        }
        let ring = self.scripted[&node];
        let input = match word {
            "sync" => {
                let members = numbers(value("members").unwrap_or_default()).into_iter().map(id).collect();
                Input::SyncStarted { ring, members, transitional: Vec::new() }
            }
            "activate" => Input::SyncActivated { ring },
            "info" => {
                let flags = node_flags(value("flags").unwrap_or_default());
                let (node, votes) = (value("about").map_or(count("from"), number), count("votes"));
                let message = NodeInfo { node, votes, expected_votes: count("expected"), flags }.to_wire();
                Input::Message { from: id(count("from")), message }
            }
            _ => {
                let (parameter, value) = match value("expected") {
                    Some(expected) => (Parameter::ExpectedVotes, number(expected)),
                    None => (Parameter::NodeVotes, count("votes")),
                };
                let message = Reconfigure { node: count("about"), value, parameter }.to_wire();
                Input::Message { from: id(count("from")), message }
            }
        };
        self.cluster.input(node, input);
    }
}

fn field(status: &Status, key: &str) -> Result<String, String> {
    let yes_no = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let of_node = |node: &str| {
        let node = number(node);
        status.nodes.iter().find(|votes| votes.node.get() == node).ok_or(format!("node {node} is not known"))
    };
    Ok(match key.split_once('.').unwrap_or((key, "")) {
        ("quorate", _) => yes_no(status.quorate),
        ("waiting", _) => yes_no(status.waiting_for_all),
        ("ring", _) => yes_no(status.ring.is_some()),
        ("quorum", _) => status.quorum.to_string(),
        ("total", _) => status.total_votes.to_string(),
        ("expected", "") => status.expected_votes.to_string(),
        ("highest", _) => status.highest_expected.to_string(),
        ("flags", _) if status.flags.names().is_empty() => "-".to_owned(),
        ("flags", _) => status.flags.names().join(","),
        ("votes", node) => of_node(node)?.votes.to_string(),
        ("expected", node) => of_node(node)?.expected_votes.to_string(),
        ("state", node) => match of_node(node)?.state {
            NodeState::Member => "member".to_owned(),
            NodeState::Dead => "dead".to_owned(),
            NodeState::Leaving => "leaving".to_owned(),
        },
        _ => return Err(format!("nothing is called {key}")),
    })
}

/// `a=1 b c=2`; a lone word is `yes`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |word: &str| {
        let (key, value) = word.split_once('=').unwrap_or((word, "yes"));
        (key.to_owned(), value.to_owned())
    };
    text.split_whitespace().map(pair).collect()
}

/// `2:3` is node 2 with 3 votes, `2` is node 2 with one.
fn node_and_votes(word: &str) -> (u32, u32) {
    let (node, votes) = word.split_once(':').unwrap_or((word, "1"));
    (number(node), number(votes))
}

fn numbers(text: &str) -> Vec<u32> {
    text.split(',').map(number).collect()
}

fn number(text: &str) -> u32 {
    text.trim().parse().unwrap_or_else(|_| panic!("'{text}' is no number"))
}

fn duration(text: &str) -> Duration {
    Duration::from_secs(number(text.trim_end_matches('s')).into())
}

fn node_flags(letters: &str) -> NodeFlags {
    letters.chars().fold(NodeFlags::default(), |flags, letter| {
        let flag = match letter {
            'q' => NodeFlags::QUORATE,
            'l' => NodeFlags::LEAVING,
            'w' => NodeFlags::WAIT_FOR_ALL,
            'f' => NodeFlags::FIRST,
            _ => panic!("no flag is called {letter}"),
        };
        flags.with(flag, true)
    })
}
