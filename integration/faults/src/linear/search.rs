//! Just-in-time linearization: all states in which the register may be, from one start or end of an operation to
//! the next.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{
    Effort, Flaw,
    prepare::{Content, Item, NEVER, Needs, Prepared},
};

/// More states than this at one moment are not followed.
const STATES_MAX: usize = 300_000;
/// Operations at one time: the bits of a state.
const SLOTS: usize = u128::BITS as usize;
/// Most operations named as a reason.
const REASONS_MAX: usize = 6;

/// The kinds of writes of unknown outcome that nobody saw and that may strike more than once; of those that leave the
/// same, the ones that need more come first.
const KINDS: [(Needs, Content); 5] = [
    (Needs::Absent, Content::Unseen),
    (Needs::Untold, Content::Unseen),
    (Needs::Anything, Content::Unseen),
    (Needs::Untold, Content::Absent),
    (Needs::Present, Content::Absent),
];

/// How many of each kind took effect.
type Used = [u32; KINDS.len()];

/// One state in which the register may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    content: Content,
    /// How many of the writes with versions took effect.
    ranks: u32,
    /// By slot: the operations under way that took effect.
    done: u128,
}

/// States, each with the fewest unseen writes that lead to it.
type States = HashMap<State, Vec<Used>>;

/// Adds a state unless it is there with fewer unseen writes.
fn add(states: &mut States, state: State, used: Used) -> bool {
    let known = states.entry(state).or_default();
    let covers = |one: &Used, other: &Used| one.iter().zip(other).all(|(one, other)| one <= other);
    if known.iter().any(|known| covers(known, &used)) {
        return false;
    }
    known.retain(|known| !covers(&used, known));
    known.push(used);
    true
}

/// What is known at one moment of the history.
struct Search<'a> {
    prepared: &'a Prepared,
    /// The operations under way, by slot.
    slots: Vec<Option<u32>>,
    /// How many unseen writes of each kind have begun.
    begun: Used,
    /// Unseen writes that need the value of one item: they can strike once, as that value never comes back.
    waiting: BTreeMap<u32, Vec<Content>>,
    states: States,
    /// By content: which item had to take effect when it was first left.
    left_for: HashMap<Content, u32>,
    effort: Effort,
}

/// Walks along the history.
pub(super) fn search(prepared: &Prepared) -> Result<Effort, Flaw> {
    let first = State { content: Content::Absent, ranks: 0, done: 0 };
    let mut search = Search {
        prepared,
        slots: Vec::new(),
        begun: Used::default(),
        waiting: BTreeMap::new(),
        states: HashMap::from([(first, vec![Used::default()])]),
        left_for: HashMap::new(),
        effort: Effort { operations: prepared.items.len(), states_max: 1 },
    };
    let items = (0..).zip(&prepared.items);
    let mut events: Vec<(u64, bool, u32)> = Vec::with_capacity(2 * prepared.items.len());
    for (index, item) in items {
        events.push((item.invoked, false, index));
        if item.returned != NEVER {
            events.push((item.returned, true, index));
        }
    }
    // What begins at the moment in which another ends is not after it.
    events.sort_unstable();
    for (_, ends, index) in events {
        if ends { search.end(index)? } else { search.begin(index)? }
    }
    Ok(search.effort)
}

impl Search<'_> {
    fn item(&self, index: u32) -> &Item {
        &self.prepared.items[index as usize]
    }

    fn begin(&mut self, index: u32) -> Result<(), Flaw> {
        let Item { id, returned, needs, leaves, .. } = *self.item(index);
        if returned == NEVER {
            if let Some(leaves) = leaves {
                self.begin_unseen(needs, leaves);
            }
            return Ok(());
        }
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if free >= SLOTS {
            return Err(Flaw::TooHard { operation: id, states: STATES_MAX });
        }
        self.slots.resize(self.slots.len().max(free + 1), None);
        self.slots[free] = Some(index);
        if leaves.is_none() {
            for (mut state, used) in std::mem::take(&mut self.states) {
                if self.prepared.meets(state.content, needs) {
                    state.done |= 1 << free;
                }
                self.states.insert(state, used);
            }
        }
        Ok(())
    }

    fn begin_unseen(&mut self, needs: Needs, leaves: Content) {
        match needs {
            Needs::Of(item) => self.waiting.entry(item).or_default().push(leaves),
            _ => {
                let kind = KINDS.iter().position(|kind| *kind == (needs, leaves));
                self.begun[kind.expect("every unseen write is of one of the kinds")] += 1;
            }
        }
    }

    /// The operation must have taken effect by now: states in which it has not go on until it has.
    fn end(&mut self, index: u32) -> Result<(), Flaw> {
        let slot = self.slots.iter().position(|slot| *slot == Some(index));
        let bit = 1 << slot.expect("what ends has begun and keeps its slot until then");
        let mut reached = States::new();
        let mut visited = States::new();
        let mut queue = VecDeque::new();
        for (state, all) in std::mem::take(&mut self.states) {
            for used in all {
                if add(&mut visited, state, used) {
                    queue.push_back((state, used));
                }
            }
        }
        let before: Vec<Content> = visited.keys().map(|state| state.content).collect();
        let before_ranks = visited.keys().map(|state| state.ranks).max().unwrap_or_default();
        while let Some((state, used)) = queue.pop_front() {
            if state.done & bit != 0 {
                add(&mut reached, State { done: state.done & !bit, ..state }, used);
                continue;
            }
            for (state, used) in self.steps(state, used, index) {
                if add(&mut visited, state, used) {
                    queue.push_back((state, used));
                }
            }
            if visited.len() > STATES_MAX {
                return Err(Flaw::TooHard { operation: self.item(index).id, states: STATES_MAX });
            }
        }
        if reached.is_empty() {
            return Err(self.explain(index, before, before_ranks));
        }
        self.effort.states_max = self.effort.states_max.max(reached.values().map(Vec::len).sum());
        self.states = reached;
        self.slots[bit.trailing_zeros() as usize] = None;
        Ok(())
    }

    /// Every change of the register that is possible now.
    fn steps(&mut self, state: State, used: Used, for_item: u32) -> Vec<(State, Used)> {
        let mut steps = Vec::new();
        for (slot, index) in self.slots.iter().enumerate() {
            let Some(index) = *index else { continue };
            let item = self.item(index);
            let Some(content) = item.leaves else { continue };
            let in_order = item.rank.is_none_or(|rank| rank == state.ranks);
            let is_new = state.done & (1 << slot) == 0;
            if is_new && in_order && self.prepared.meets(state.content, item.needs) {
                let ranks = state.ranks + u32::from(item.rank.is_some());
                steps.push((State { content, ranks, done: state.done | 1 << slot }, used));
            }
        }
        for content in [Content::Unseen, Content::Absent] {
            if content != state.content
                && let Some(kind) = self.unseen(state.content, content, used)
            {
                let mut used = used;
                used[kind] += 1;
                steps.push((State { content, ..state }, used));
            }
        }
        if let Content::Of(item) = state.content {
            let waiting = self.waiting.get(&item).into_iter().flatten();
            steps.extend(waiting.map(|content| (State { content: *content, ..state }, used)));
        }
        if !steps.is_empty() {
            self.left_for.entry(state.content).or_insert(for_item);
        }
        steps.into_iter().map(|(state, used)| (self.look(state), used)).collect()
    }

    /// The kind of unseen write that makes the register hold `to`: of those that are left the one that needs most, as
    /// the others can take its place whenever it could strike later.
    fn unseen(&self, from: Content, to: Content, used: Used) -> Option<usize> {
        KINDS.iter().enumerate().position(|(kind, (needs, leaves))| {
            used[kind] < self.begun[kind] && *leaves == to && self.prepared.meets(from, *needs)
        })
    }

    /// What changes nothing and agrees takes effect at once.
    fn look(&self, mut state: State) -> State {
        for (slot, index) in self.slots.iter().enumerate() {
            let Some(item) = index.map(|index| self.item(index)) else { continue };
            if item.leaves.is_none() && self.prepared.meets(state.content, item.needs) {
                state.done |= 1 << slot;
            }
        }
        state
    }

    /// Names what the operation contradicts.
    fn explain(&self, index: u32, before: Vec<Content>, ranks: u32) -> Flaw {
        let item = self.item(index);
        let mut because: Vec<u32> = Vec::new();
        if let Needs::Of(wanted) | Needs::PresentBut(wanted) = item.needs {
            because.push(wanted);
            because.extend(self.left_for.get(&Content::Of(wanted)));
        }
        if let Some(rank) = item.rank {
            because.extend(
                self.prepared.ranked[ranks as usize..].iter().take(rank.saturating_sub(ranks) as usize),
            );
        }
        for content in before {
            if let Content::Of(present) = content {
                because.push(present);
            }
        }
        if item.needs == Needs::Absent {
            because.extend(self.left_for.get(&Content::Absent));
        }
        let mut seen = vec![index];
        because.retain(|one| {
            !seen.contains(one) && {
                seen.push(*one);
                true
            }
        });
        because.truncate(REASONS_MAX);
        let because = because.into_iter().map(|index| self.item(index).id).collect();
        Flaw::NoOrder { operation: item.id, because }
    }
}
