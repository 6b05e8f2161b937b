//! Members of a group that the test plays: what one says, all hear in one order.

use super::*;

const BOUND: Duration = Duration::from_secs(10);

fn id(node: u32) -> NodeId {
    NodeId::new(node).expect("not 0")
}

fn ids(nodes: &[u32]) -> Vec<NodeId> {
    nodes.iter().map(|node| id(*node)).collect()
}

fn conf(version: u64) -> ConfId {
    ConfId::of(version, b"text")
}

/// Members that hear each other: what one says, all hear in one order.
struct Group {
    now: Instant,
    members: Vec<(NodeId, ConfChange)>,
    /// Said, and not delivered yet.
    words: VecDeque<(NodeId, Word)>,
    done: Vec<(u32, ConfOutput)>,
}

impl Group {
    /// These members use version 4.
    fn of(nodes: &[u32]) -> Self {
        let now = Instant::now();
        let member = |node: &u32| {
            let mut change = ConfChange::new(BOUND);
            change.set_node(Some(id(*node)));
            (id(*node), change)
        };
        let mut group =
            Self { now, members: nodes.iter().map(member).collect(), words: VecDeque::new(), done: vec![] };
        group.all(&ConfInput::Local(Some(conf(4))));
        group.all(&ConfInput::Quorate(true));
        group.all(&ConfInput::Members(ids(nodes)));
        group.deliver();
        group
    }

    fn all(&mut self, input: &ConfInput) {
        for node in 0..self.members.len() {
            self.feed(node, input.clone());
        }
    }

    fn feed(&mut self, at: usize, input: ConfInput) {
        let (node, change) = &mut self.members[at];
        change.handle_input(self.now, input);
        while let Some(output) = change.poll_output() {
            match output {
                ConfOutput::Say(word) => self.words.push_back((*node, word)),
                output => self.done.push((node.get(), output)),
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((node, word)) = self.words.pop_front() {
            self.all(&ConfInput::Said { node, word });
        }
    }

    fn offer(&mut self, version: u64, nodes: &[u32], is_risky: bool) {
        let nodes = ids(nodes).into_iter().collect();
        self.all(&ConfInput::Offered { conf: conf(version), nodes, is_risky });
    }

    fn prepared(&mut self, at: usize, version: u64, result: Result<(), &str>) {
        let result = result.map_err(str::to_owned);
        self.feed(at, ConfInput::Prepared { conf: conf(version), result });
    }

    fn activated(&self, version: u64) -> Vec<u32> {
        let is_it = |(_, output): &&(u32, ConfOutput)| *output == ConfOutput::Activate(conf(version));
        self.done.iter().filter(is_it).map(|(node, _)| *node).collect()
    }

    fn take(&mut self, wanted: fn(&ConfOutput) -> bool) -> Vec<(u32, ConfOutput)> {
        self.done.iter().filter(|(_, output)| wanted(output)).cloned().collect()
    }

    fn pass_the_bound(&mut self) {
        self.now += BOUND;
        self.all(&ConfInput::Timer);
    }
}

#[test]
fn nobody_uses_the_new_file_before_all_have_stored_it_and_then_all_do_at_one_place() {
    let mut group = Group::of(&[1, 2, 3]);
    group.offer(5, &[1, 2, 3], true);
    group.prepared(0, 5, Ok(()));
    group.prepared(2, 5, Ok(()));
    group.deliver();
    assert!(group.activated(5).is_empty());
    assert_eq!(group.members[0].1.waits_for(), Some((conf(5), ids(&[2]))));

    group.prepared(1, 5, Ok(()));
    assert!(group.activated(5).is_empty(), "its word is not delivered yet");
    let (node, word) = group.words.pop_front().expect("said");
    group.all(&ConfInput::Said { node, word });
    assert_eq!(group.activated(5), [1, 2, 3], "with the delivery of one message");
}

#[test]
fn who_is_off_or_not_listed_any_more_is_not_waited_for() {
    let mut group = Group::of(&[1, 2, 3]);
    group.offer(5, &[1, 2, 9], false);
    group.prepared(0, 5, Ok(()));
    group.prepared(1, 5, Ok(()));
    group.deliver();
    assert_eq!(group.activated(5), [1, 2]);
}

#[test]
fn a_member_that_leaves_is_not_waited_for_any_more() {
    let mut group = Group::of(&[1, 2, 3]);
    group.offer(5, &[1, 2, 3], false);
    group.prepared(0, 5, Ok(()));
    group.prepared(1, 5, Ok(()));
    group.deliver();
    group.members.pop();
    group.all(&ConfInput::Members(ids(&[1, 2])));
    assert_eq!(group.activated(5), [1, 2]);
}

#[test]
fn one_refusal_stops_the_change_and_the_lowest_member_takes_it_back_once() {
    let mut group = Group::of(&[1, 2, 3]);
    group.offer(5, &[1, 2, 3], true);
    group.prepared(0, 5, Ok(()));
    group.prepared(1, 5, Err("no such host"));
    group.prepared(2, 5, Ok(()));
    group.deliver();

    assert!(group.activated(5).is_empty());
    let reason = "node 2: no such host".to_owned();
    let taken_back = group.take(|output| matches!(output, ConfOutput::TakeBack { .. }));
    assert_eq!(taken_back, [(1, ConfOutput::TakeBack { conf: conf(5), reason })]);

    group.offer(6, &[1, 2, 3], false);
    (0..3).for_each(|at| group.prepared(at, 6, Ok(())));
    group.deliver();
    assert_eq!(group.activated(6), [1, 2, 3], "the next one goes its way");
}

#[test]
fn who_comes_when_it_is_decided_follows_without_the_others() {
    let mut group = Group::of(&[1, 2]);
    group.offer(5, &[1, 2, 3], false);
    (0..2).for_each(|at| group.prepared(at, 5, Ok(())));
    group.deliver();
    let mut late = ConfChange::new(BOUND);
    late.set_node(Some(id(3)));
    late.handle_input(group.now, ConfInput::Local(Some(conf(4))));
    group.members.push((id(3), late));
    group.all(&ConfInput::Members(ids(&[1, 2, 3])));
    let active = Word { conf: conf(5), phase: Phase::Active };
    group.feed(2, ConfInput::Said { node: id(1), word: active });
    let nodes = ids(&[1, 2, 3]).into_iter().collect();
    group.feed(2, ConfInput::Offered { conf: conf(5), nodes, is_risky: false });
    group.prepared(2, 5, Ok(()));
    assert_eq!(group.activated(5), [1, 2, 3]);
}

#[test]
fn a_ring_that_does_not_form_again_brings_the_old_file_back_on_all_sides() {
    let mut group = Group::of(&[1, 2, 3]);
    group.offer(5, &[1, 2, 3], true);
    (0..3).for_each(|at| group.prepared(at, 5, Ok(())));
    group.deliver();
    group.feed(0, ConfInput::Members(ids(&[1, 2])));
    group.feed(1, ConfInput::Members(ids(&[1, 2])));
    group.feed(2, ConfInput::Members(ids(&[3])));
    assert_eq!(group.members[0].1.next_deadline(), Some(group.now + BOUND));
    group.pass_the_bound();

    let back = group.take(|output| matches!(output, ConfOutput::RollBack { .. }));
    assert_eq!(back.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(matches!(&back[0].1, ConfOutput::RollBack { reason, .. } if reason.ends_with("without node 3")));
}

#[test]
fn votes_that_cost_the_quorum_bring_the_old_file_back_and_a_ring_that_works_is_confirmed() {
    for quorate in [false, true] {
        let mut group = Group::of(&[1, 2]);
        group.offer(5, &[1, 2], true);
        (0..2).for_each(|at| group.prepared(at, 5, Ok(())));
        group.deliver();
        group.all(&ConfInput::Quorate(quorate));
        group.pass_the_bound();
        assert_eq!(group.take(|output| matches!(output, ConfOutput::RollBack { .. })).is_empty(), quorate);
        assert_eq!(group.take(|output| matches!(output, ConfOutput::Confirmed(_))).is_empty(), !quorate);
    }
}

#[test]
fn an_old_file_changes_nothing_and_one_of_the_same_version_with_other_bytes_does() {
    let mut group = Group::of(&[1]);
    group.offer(3, &[1], false);
    group.offer(4, &[1], false);
    assert!(group.done.is_empty());
    let other = ConfId::of(4, b"other");
    group.all(&ConfInput::Offered { conf: other, nodes: ids(&[1]).into_iter().collect(), is_risky: false });
    assert_eq!(group.done, [(1, ConfOutput::Prepare(other))]);
}

#[test]
fn members_with_another_file_are_named() {
    let mut group = Group::of(&[1, 2]);
    let other = ConfId::of(4, b"edited by hand");
    group.feed(1, ConfInput::Local(Some(other)));
    group.deliver();
    assert_eq!(group.members[0].1.differing().collect::<Vec<_>>(), [(id(2), other)]);
}
