//! From what callers saw to what the search needs: whose value was read, which unknown writes did happen, and the
//! order of versions. What contradicts itself is found here, without any search.

use std::collections::HashMap;

use super::{Answer, Call, Expect, Flaw, Operation, Time, Value};

/// The end of an operation that never has to take effect.
pub(super) const NEVER: Time = Time::MAX;

/// What the register holds: the value of the write with this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Content {
    /// Nothing.
    Absent,
    /// The value of this item.
    Of(u32),
    /// The value of a write that nobody saw.
    Unseen,
}

/// What an operation needs to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Needs {
    /// Nothing in particular.
    Anything,
    /// An absent register.
    Absent,
    /// Any value.
    Present,
    /// The value of this item.
    Of(u32),
    /// Any value but that of this item.
    PresentBut(u32),
    /// A value whose version was never told.
    Untold,
}

/// An operation for the search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: u64,
    pub(super) invoked: Time,
    /// [`NEVER`] if it may as well not take effect.
    pub(super) returned: Time,
    pub(super) needs: Needs,
    /// What the register holds afterwards; `None` if it stays as it is.
    pub(super) leaves: Option<Content>,
    /// Its place among all writes with a known version.
    pub(super) rank: Option<u32>,
}

/// A history for the search.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) items: Vec<Item>,
    /// The items that have ranks, in their order.
    pub(super) ranked: Vec<u32>,
    /// The version of an item, if it was told.
    pub(super) versions: Vec<Option<u64>>,
}

impl Prepared {
    /// Whether an operation may take effect on a register.
    pub(super) fn meets(&self, content: Content, needs: Needs) -> bool {
        match needs {
            Needs::Anything => true,
            Needs::Absent => content == Content::Absent,
            Needs::Present => content != Content::Absent,
            Needs::Of(item) => content == Content::Of(item),
            Needs::PresentBut(item) => content != Content::Absent && content != Content::Of(item),
            Needs::Untold => match content {
                Content::Absent => false,
                Content::Of(item) => self.versions[item as usize].is_none(),
                Content::Unseen => true,
            },
        }
    }
}

/// Looks at every operation once.
pub(super) fn prepare(history: &[Operation]) -> Result<Prepared, Flaw> {
    let history: Vec<&Operation> = {
        let mut sorted: Vec<&Operation> = history.iter().collect();
        sorted.sort_by_key(|operation| operation.invoked);
        sorted
    };
    let seen = Seen::of(&history)?;
    let mut prepared = Prepared { versions: seen.versions.clone(), ..Prepared::default() };
    for (index, operation) in history.iter().enumerate() {
        let index = u32::try_from(index).expect("a history has fewer than 2^32 operations");
        let mut item = item(&seen, index, operation)?;
        if let Some(end) = seen.ends.get(&index) {
            item.returned = item.returned.min(*end);
        }
        prepared.items.push(item);
    }
    rank(&mut prepared)?;
    Ok(prepared)
}

/// Who wrote what, and who saw it.
#[derive(Default)]
struct Seen {
    writers: HashMap<Value, u32>,
    versions: Vec<Option<u64>>,
    /// By version: the put that made it.
    made: HashMap<u64, u32>,
    /// By put that somebody read: the end of the first read.
    ends: HashMap<u32, Time>,
}

impl Seen {
    fn of(history: &[&Operation]) -> Result<Self, Flaw> {
        let mut seen = Self { versions: vec![None; history.len()], ..Self::default() };
        for (index, operation) in (0..).zip(history) {
            if let Call::Put { value, .. } = operation.call
                && let Some(first) = seen.writers.insert(value, index)
            {
                let first = history[first as usize].id;
                return Err(Flaw::SameValue { first, second: operation.id });
            }
            if let Answer::Done { version: Some(version) } = operation.answer {
                seen.versions[index as usize] = Some(version);
            }
        }
        for operation in history {
            seen.read(history, operation)?;
        }
        for (index, operation) in (0..).zip(history) {
            if let (Call::Put { .. }, Some(version)) = (operation.call, seen.versions[index as usize]) {
                seen.made.insert(version, index);
            }
        }
        Ok(seen)
    }

    fn read(&mut self, history: &[&Operation], operation: &Operation) -> Result<(), Flaw> {
        let Answer::Found { value, version } = operation.answer else { return Ok(()) };
        let id = operation.id;
        let Some(index) = self.writers.get(&value).copied() else {
            return Err(Flaw::NeverWritten { operation: id, value });
        };
        let write = history[index as usize];
        if !matches!(write.answer, Answer::Done { .. } | Answer::Unknown) {
            return Err(Flaw::WasRefused { operation: id, writer: write.id });
        }
        if operation.returned < write.invoked {
            return Err(Flaw::FromTheFuture { operation: id, writer: write.id });
        }
        let end = self.ends.entry(index).or_insert(operation.returned);
        *end = operation.returned.min(*end);
        let known = &mut self.versions[index as usize];
        match (*known, version) {
            (Some(known), Some(version)) if known != version => {
                return Err(Flaw::SeveralVersions { writer: write.id, version: known, operation: id });
            }
            (None, Some(version)) => *known = Some(version),
            _ => {}
        }
        Ok(())
    }

    /// The value of a version must be there.
    fn holding(&self, version: u64) -> Needs {
        self.made.get(&version).map_or(Needs::Untold, |index| Needs::Of(*index))
    }

    /// Another value must be there.
    fn holding_another(&self, version: u64) -> Needs {
        self.made.get(&version).map_or(Needs::Present, |index| Needs::PresentBut(*index))
    }
}

fn item(seen: &Seen, index: u32, operation: &Operation) -> Result<Item, Flaw> {
    let Operation { id, invoked, returned, call, answer } = *operation;
    let meaningless = Flaw::Meaningless { operation: id };
    if returned < invoked && !matches!(answer, Answer::Unknown | Answer::Refused) {
        return Err(meaningless);
    }
    let look = |needs| Item { id, invoked, returned, needs, leaves: None, rank: None };
    let nothing = Item { returned: NEVER, ..look(Needs::Anything) };
    let (expect, content) = match (call, answer) {
        (_, Answer::Refused) | (Call::Get, Answer::Unknown) => return Ok(nothing),
        (Call::Get, Answer::Found { value, .. }) => return Ok(look(Needs::Of(seen.writers[&value]))),
        (Call::Get, Answer::Missing) => return Ok(look(Needs::Absent)),
        (Call::Get, _) | (_, Answer::Found { .. }) => return Err(meaningless),
        (Call::Put { expect, .. }, _) => (expect, Content::Of(index)),
        (Call::Delete { expect }, _) => (expect, Content::Absent),
    };
    let is_delete = content == Content::Absent;
    let needs = match (answer, expect) {
        (_, Expect::Absent) if is_delete => return Err(meaningless),
        (Answer::Missing, Expect::Any) if is_delete => return Ok(look(Needs::Absent)),
        (Answer::Missing, Expect::Version(_)) => return Ok(look(Needs::Absent)),
        (Answer::Unexpected, Expect::Absent) => return Ok(look(Needs::Present)),
        (Answer::Unexpected, Expect::Version(version)) => {
            return Ok(look(seen.holding_another(version)));
        }
        (Answer::Missing | Answer::Unexpected, _) => return Err(meaningless),
        (_, Expect::Any) if is_delete => Needs::Present,
        (_, Expect::Any) => Needs::Anything,
        (_, Expect::Absent) => Needs::Absent,
        (_, Expect::Version(version)) => seen.holding(version),
    };
    let unseen = answer == Answer::Unknown && !seen.ends.contains_key(&index);
    let leaves = if unseen && !is_delete { Content::Unseen } else { content };
    let returned = if answer == Answer::Unknown { NEVER } else { returned };
    Ok(Item { returned, leaves: Some(leaves), ..look(needs) })
}

/// Orders the writes by their versions, which must differ.
fn rank(prepared: &mut Prepared) -> Result<(), Flaw> {
    let mut known: Vec<(u64, u32)> = Vec::new();
    for (index, item) in (0..).zip(&prepared.items) {
        if let (Some(_), Some(version)) = (item.leaves, prepared.versions[index as usize]) {
            known.push((version, index));
        }
    }
    known.sort_unstable();
    for pair in known.windows(2) {
        if let [(version, first), (other, second)] = pair
            && version == other
        {
            let id = |index: &u32| prepared.items[*index as usize].id;
            return Err(Flaw::SameVersion { first: id(first), second: id(second), version: *version });
        }
    }
    for (rank, (_, index)) in (0..).zip(&known) {
        prepared.items[*index as usize].rank = Some(rank);
    }
    prepared.ranked = known.into_iter().map(|(_, index)| index).collect();
    Ok(())
}
