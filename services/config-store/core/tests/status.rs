//! Status stores in a group that is cut, merged and restarted: whatever was lost on the way, members of one group end
//! up knowing the same.

#![allow(clippy::unwrap_used, reason = "a test program: what is not there fails it")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use config_store_core::status::{LogDraft, LogEntry, StatusInput, StatusOutput, StatusStore, VALUE_MAX};
use quorate_types::NodeId;

fn id(number: u32) -> NodeId {
    NodeId::new(number).unwrap()
}

/// Choices that repeat with the seed (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Nodes in groups: each group has one order of messages, which all of its members see up to their own place.
struct World {
    now: Instant,
    chance: Chance,
    stores: BTreeMap<u32, StatusStore>,
    groups: Vec<Group>,
    incarnations: u64,
    sent_bytes: usize,
}

struct Group {
    members: BTreeSet<u32>,
    order: VecDeque<(NodeId, Bytes)>,
}

impl World {
    fn new(seed: u64, nodes: u32) -> Self {
        let mut world = Self {
            now: Instant::now(),
            chance: Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            stores: BTreeMap::new(),
            groups: Vec::new(),
            incarnations: 0,
            sent_bytes: 0,
        };
        for node in 1..=nodes {
            world.start(node);
        }
        world
    }

    fn start(&mut self, node: u32) {
        self.incarnations += 1;
        let mut store = StatusStore::new(&format!("n{node}"), self.incarnations);
        store.set_node(Some(id(node)));
        self.stores.insert(node, store);
    }

    fn publish(&mut self, node: u32, key: &str, value: &str) {
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.stores.get_mut(&node).unwrap().publish(self.now, key, value).unwrap();
        self.collect(node);
    }

    fn log(&mut self, node: u32, time: u32, message: &str) {
        let draft =
            LogDraft { ident: "root".into(), tag: "t".into(), pid: 1, priority: 6, message: message.into() };
        self.stores.get_mut(&node).unwrap().append(time, draft).unwrap();
        self.collect(node);
    }

    fn input(&mut self, node: u32, input: StatusInput) {
        self.stores.get_mut(&node).unwrap().handle_input(self.now, input);
        self.collect(node);
    }

    /// What a node sends goes to the end of its group's order, or nowhere.
    fn collect(&mut self, node: u32) {
        while let Some(output) = self.stores.get_mut(&node).unwrap().poll_output() {
            let StatusOutput::Multicast(bytes) = output else { continue };
            self.sent_bytes += bytes.len();
            if let Some(group) = self.groups.iter_mut().find(|group| group.members.contains(&node)) {
                group.order.push_back((id(node), bytes));
            }
        }
    }

    /// Cuts the nodes into new groups. Of what was on the way in the old ones, some reaches some members, with holes.
    fn regroup(&mut self, parts: &[&[u32]]) {
        let old = std::mem::take(&mut self.groups);
        for group in old {
            for node in &group.members {
                self.input(*node, StatusInput::Transitional);
            }
            for (from, payload) in group.order {
                for node in &group.members {
                    if self.chance.below(2) == 0 && self.stores.contains_key(node) {
                        self.input(*node, StatusInput::Message { from, payload: payload.clone() });
                    }
                }
            }
        }
        self.groups = parts
            .iter()
            .map(|part| Group { members: part.iter().copied().collect(), order: VecDeque::new() })
            .collect();
        for part in parts {
            let members: Vec<NodeId> = part.iter().map(|node| id(*node)).collect();
            for node in *part {
                self.input(*node, StatusInput::Members(members.clone()));
            }
        }
    }

    /// Delivers up to `count` messages of each group to all of its members.
    fn deliver(&mut self, count: usize) {
        for index in 0..self.groups.len() {
            for _ in 0..count {
                let Some((from, payload)) = self.groups[index].order.pop_front() else { break };
                for node in self.groups[index].members.clone() {
                    self.input(node, StatusInput::Message { from, payload: payload.clone() });
                }
            }
        }
    }

    fn settle(&mut self) {
        while self.groups.iter().any(|group| !group.order.is_empty()) {
            self.deliver(1);
        }
    }

    fn value(&self, at: u32, of: u32, key: &str) -> Option<String> {
        let value = self.stores[&at].value(Some(id(of)), key)?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    fn messages(&self, at: u32) -> Vec<&str> {
        self.stores[&at].log().newest_first().map(|entry: &LogEntry| entry.message.as_str()).collect()
    }

    fn versions(&self, at: u32, of: u32) -> Vec<(String, u64)> {
        let versions = self.stores[&at].versions(Some(id(of)));
        versions.map(|(key, version)| (key.to_owned(), version)).collect()
    }

    fn check_equal(&self, nodes: &[u32]) {
        let first = self.messages(nodes[0]);
        for at in nodes {
            assert_eq!(self.messages(*at), first, "log of {at}");
            for of in nodes {
                for (key, _) in self.versions(*of, *of) {
                    assert_eq!(
                        self.value(*at, *of, &key),
                        self.value(*of, *of, &key),
                        "{key} of {of} at {at}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_value_reaches_all_members_and_an_empty_one_removes_it() {
    let mut world = World::new(1, 3);
    world.regroup(&[&[1, 2, 3]]);
    world.publish(2, "kv/version", "8.2");
    world.settle();
    assert_eq!(world.value(1, 2, "kv/version").as_deref(), Some("8.2"));
    world.publish(2, "kv/version", "8.3");
    world.publish(1, "rrd/pve2-node/n1", "1:2:U");
    world.settle();
    assert_eq!(world.versions(3, 2), [("kv/version".to_owned(), 1)]);
    assert_eq!(world.stores[&3].figures(world.now).count(), 1);
    world.publish(2, "kv/version", "");
    world.settle();
    assert_eq!((world.value(1, 2, "kv/version"), world.versions(3, 2)), (None, vec![]));
}

#[test]
fn a_merge_of_partitions_brings_values_and_logs_of_both_sides_together() {
    let mut world = World::new(2, 4);
    world.regroup(&[&[1, 2], &[3, 4]]);
    world.publish(1, "a", "left");
    world.publish(4, "b", "right");
    world.log(1, 10, "one");
    world.log(3, 11, "two");
    world.log(2, 12, "three");
    world.settle();
    assert_eq!(world.messages(2), ["three", "one"]);
    assert_eq!(world.messages(4), ["two"]);

    world.regroup(&[&[1, 2, 3, 4]]);
    world.settle();

    world.check_equal(&[1, 2, 3, 4]);
    assert_eq!(world.messages(4), ["three", "two", "one"]);
    assert_eq!(world.value(4, 1, "a").as_deref(), Some("left"));
}

#[test]
fn a_change_of_the_group_alone_changes_no_version() {
    let mut world = World::new(3, 3);
    world.regroup(&[&[1, 2, 3]]);
    world.publish(1, "a", "x");
    world.settle();
    for part in [&[1, 2][..], &[1, 2, 3]] {
        world.regroup(&[part]);
        world.settle();
    }
    assert_eq!(world.versions(3, 1), [("a".to_owned(), 0)]);
    assert_eq!(world.versions(1, 1), [("a".to_owned(), 0)]);
}

#[test]
fn what_a_node_removed_while_it_was_away_is_removed_everywhere_when_it_is_back() {
    let mut world = World::new(4, 2);
    world.regroup(&[&[1, 2]]);
    world.publish(1, "gone", "x");
    world.publish(1, "kept", "x");
    world.settle();
    world.regroup(&[&[1], &[2]]);
    world.publish(1, "gone", "");
    world.regroup(&[&[1, 2]]);
    world.settle();
    assert_eq!(world.versions(2, 1), [("kept".to_owned(), 0)]);
}

#[test]
fn a_node_that_was_restarted_gets_the_log_back_and_the_others_keep_what_it_had_said() {
    let mut world = World::new(5, 3);
    world.regroup(&[&[1, 2, 3]]);
    world.publish(3, "tasklist", "[]");
    world.publish(1, "nodeip", "10.0.0.1");
    world.log(3, 10, "before");
    world.settle();

    world.regroup(&[&[1, 2]]);
    world.start(3);
    world.log(3, 10, "after");
    world.regroup(&[&[1, 2, 3]]);
    world.settle();

    assert_eq!(world.value(3, 3, "tasklist"), None);
    assert_eq!(world.value(1, 3, "tasklist").as_deref(), Some("[]"));
    assert_eq!(world.stores[&3].address(id(1)), Some("10.0.0.1"));
    // Both entries are the first of their process, in the same second.
    world.check_equal(&[1, 2, 3]);
    assert_eq!(world.messages(3).len(), 2);
    world.log(3, 10, "later");
    world.settle();
    assert_eq!(world.messages(1)[0], "later", "after that the count goes on");
}

#[test]
fn equal_logs_are_not_sent_again() {
    let mut world = World::new(6, 3);
    world.regroup(&[&[1, 2, 3]]);
    for number in 0..500 {
        world.log(1, 10 + number, &"m".repeat(100));
    }
    world.settle();
    let before = world.sent_bytes;
    world.regroup(&[&[1, 2]]);
    world.settle();
    assert!(world.sent_bytes - before < 1000, "{} bytes", world.sent_bytes - before);

    world.regroup(&[&[1, 2, 3]]);
    world.settle();
    assert!(world.sent_bytes - before < 2000, "{} bytes", world.sent_bytes - before);
}

#[test]
fn a_newcomer_gets_the_log_from_one_member() {
    let mut world = World::new(7, 3);
    world.regroup(&[&[1, 2]]);
    for number in 0..500 {
        world.log(1, 10 + number, &"m".repeat(100));
    }
    world.settle();
    let before = world.sent_bytes;
    world.regroup(&[&[1, 2, 3]]);
    world.settle();
    world.check_equal(&[1, 2, 3]);
    let sent = world.sent_bytes - before;
    assert!((60_000..90_000).contains(&sent), "{sent} bytes");
}

#[test]
fn much_that_waits_goes_out_in_bounded_steps() {
    let mut world = World::new(8, 2);
    for number in 0..100 {
        world.publish(1, &format!("k{number}"), &"v".repeat(VALUE_MAX));
    }
    world.regroup(&[&[1, 2]]);
    let on_the_way: usize = world.groups[0].order.iter().map(|(_, payload)| payload.len()).sum();
    assert!(on_the_way < 512 * 1024, "{on_the_way} bytes");
    world.settle();
    assert_eq!(world.versions(2, 1).len(), 100);
    world.check_equal(&[1, 2]);
}

#[test]
fn a_store_outside_the_group_knows_its_own_and_is_online_nowhere() {
    let mut world = World::new(9, 1);
    world.publish(1, "a", "x");
    world.log(1, 5, "alone");
    assert_eq!(world.value(1, 1, "a").as_deref(), Some("x"));
    assert!(world.stores[&1].members().is_empty());
    assert_eq!((world.sent_bytes, world.messages(1)), (0, vec!["alone"]));
    world.regroup(&[&[1]]);
    assert_eq!(world.stores[&1].members(), [id(1)]);
    world.input(1, StatusInput::Lost);
    assert!(world.stores[&1].members().is_empty());
}

/// Random publications, log entries, restarts and partitions; then everything heals.
fn run(seed: u64) {
    const PARTS: [&[&[u32]]; 6] = [
        &[&[1, 2, 3, 4]],
        &[&[1, 2], &[3, 4]],
        &[&[1], &[2, 3, 4]],
        &[&[4, 2], &[1]],
        &[&[1, 2, 3]],
        &[&[3, 4, 1]],
    ];
    let mut world = World::new(seed, 4);
    world.regroup(PARTS[0]);
    let mut time = 1000;
    for step in 0..200 {
        let node = 1 + world.chance.below(4) as u32;
        let key = format!("k{}", world.chance.below(6));
        time += world.chance.below(2) as u32;
        match world.chance.below(12) {
            0..=3 => world.publish(node, &key, &format!("{step}")),
            4 => world.publish(node, &key, ""),
            5..=7 => world.log(node, time, &format!("{step}")),
            8 => {
                let parts = PARTS[world.chance.below(6) as usize];
                world.regroup(parts);
            }
            9 if world.chance.below(4) == 0 => {
                let others: Vec<u32> = (1..=4).filter(|other| *other != node).collect();
                world.regroup(&[&others]);
                world.start(node);
            }
            _ => {
                let count = world.chance.below(9) as usize;
                world.deliver(count);
            }
        }
    }
    world.regroup(PARTS[0]);
    world.settle();
    world.check_equal(&[1, 2, 3, 4]);
}

#[test]
fn after_any_history_of_losses_and_partitions_a_whole_group_knows_the_same() {
    for seed in 1..=200 {
        run(seed);
    }
}
