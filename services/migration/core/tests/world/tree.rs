//! The cluster's word: who owns the guest, and whether this migration may still change that.

use migration_core::{Input, Owner, Side, State, Written};

use super::{Mutation, World};

#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) record: Option<State>,
    pub(crate) owner: Side,
    /// The lock of this migration is in the configuration.
    pub(crate) locked: bool,
    /// The disks were complete when the owner changed.
    pub(crate) disks_complete: bool,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { record: Some(State::Preparing), owner: Side::Source, locked: true, disks_complete: true }
    }
}

impl World {
    fn answer(&mut self, incarnation: u32, input: Input) {
        self.later(super::LATENCY, super::Pending::Input(incarnation, input));
    }

    pub(super) fn apply_commit(&mut self, who: u32) {
        if self.mutation == Some(Mutation::CommitIsAssumed) {
            self.answer(who, Input::Commit(Written::Done));
        }
        if !self.source_quorate {
            return self.answer(who, Input::Commit(Written::Failed("no quorum".into())));
        }
        let open = self.tree.locked || self.mutation == Some(Mutation::VoidBindsNobody);
        if !open || self.tree.owner == Side::Target {
            return self.answer(who, Input::Commit(Written::Mismatch));
        }
        self.tree.owner = Side::Target;
        self.tree.disks_complete = self.plan.disks.is_empty()
            || !self.plan.online
            || self.a.as_ref().is_none_or(|a| a.jobs.is_empty() && a.copied);
        self.answer(who, Input::Commit(Written::Done));
    }

    pub(super) fn apply_void(&mut self, who: u32) {
        if !self.source_quorate {
            return self.answer(who, Input::Void(Written::Failed("no quorum".into())));
        }
        if !self.tree.locked || self.tree.owner == Side::Target {
            return self.answer(who, Input::Void(Written::Mismatch));
        }
        self.tree.locked = false;
        self.answer(who, Input::Void(Written::Done));
    }

    pub(super) fn answer_owner(&mut self, who: u32) {
        let owner = match (self.source_quorate, self.tree.owner, self.tree.locked) {
            (false, _, _) => Err("no quorum".to_owned()),
            (true, Side::Target, _) => Ok(Owner::Target),
            (true, Side::Source, true) => Ok(Owner::Source),
            (true, Side::Source, false) => Ok(Owner::SourceVoid),
        };
        self.answer(who, Input::Owner(owner));
    }
}
