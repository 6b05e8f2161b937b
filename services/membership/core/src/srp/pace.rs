//! The pace of a ring: the timers that decide how soon a loss is noticed, as configured and fast.
//!
//! corosync's timers leave room for every network and every machine. A ring whose members have all agreed to it
//! (see [`feature`](crate::feature)) runs with timers derived from the configured ones:
//!
//! | timer | fast value | bounds |
//! |---|---|---|
//! | token | 0.3 of the configured one | at least 150 ms |
//! | consensus | 0.6 of the fast token | at least 4 configured join intervals |
//! | token retransmit | token / 5.2: 5 tries before the token counts as lost | at least 30 ms |
//! | hold | 0.8 of token retransmit - 10 ms | at least 14 ms |
//! | join | a sixth of the fast consensus | at least 30 ms |
//!
//! None is ever longer than the configured one. Eight tries are why a shorter token timeout raises no false alarm:
//! where one packet in a hundred is lost, four tries in a row fail a hundred million times as often.
//!
//! While a new ring forms, the members store its id one after another, and how long a disk takes for that does not
//! depend on what they have agreed to. So whoever waits for the commit token does so for the configured token timeout.
//!
//! The fast timers are in force while all nodes concerned are known to have agreed: the members of a ring; in
//! gather all nodes that take part, those that are silent too. A node that was away counts as unknown until the
//! next synchronisation: another program may have come back. With the first unknown node the configured timers
//! are in force again, so that a mixed ring has the patience that corosync expects of it.

use std::time::Duration;

use quorate_types::{NodeId, RingId};

use super::{Ring, State, params::Params, timer::Timer};

/// The fast token timeout in percent of the configured one.
const TOKEN_PERCENT: u32 = 30;
/// The fast consensus timeout in percent of the fast token timeout.
const CONSENSUS_PERCENT: u32 = 60;
/// Tries to send the token again within a fast token timeout, in tenths. As corosync's 4.2.
const RETRANSMITS_TENTHS: u32 = 52;
/// A consensus timeout has room for so many joins of a node that still keeps the configured interval.
const JOINS_PER_CONSENSUS: u32 = 4;
/// Fast joins are sent so often in a consensus timeout.
const FAST_JOINS_PER_CONSENSUS: u32 = 6;
/// Below this a token timeout would only measure the scheduler.
const TOKEN_MIN: Duration = Duration::from_millis(150);
/// Least value of the other timers, as corosync's. Source: Totem specification, section 2.
const TIMER_MIN: Duration = Duration::from_millis(30);
/// Least value of the hold timer, as corosync's.
const HOLD_MIN: Duration = Duration::from_millis(14);

/// The timers that depend on what the members of a ring have agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Without a token for this long it is lost.
    pub token: Duration,
    /// After this long without a token a warning is logged; `None` = off.
    pub token_warning: Option<Duration>,
    /// The token is sent again after this long without a later one.
    pub token_retransmit: Duration,
    /// The representative keeps the token of an idle ring for this long.
    pub hold: Duration,
    /// Between two join messages while gathering.
    pub join: Duration,
    /// Most random delay before a join message.
    pub send_join: Duration,
    /// For consensus while gathering.
    pub consensus: Duration,
    /// A shorter token timeout; `None` = off.
    pub heartbeat: Option<Duration>,
}

impl Pace {
    /// The timers as configured: those of corosync.
    #[must_use]
    pub fn configured(params: &Params) -> Self {
        Self {
            token: params.token,
            token_warning: params.token_warning,
            token_retransmit: params.token_retransmit,
            hold: params.hold,
            join: params.join,
            send_join: params.send_join,
            consensus: params.consensus,
            heartbeat: params.heartbeat,
        }
    }

    /// The fast timers that follow from the configured ones; these themselves where they are faster.
    #[must_use]
    pub fn fast(params: &Params) -> Self {
        let token = percent(params.token, TOKEN_PERCENT).max(TOKEN_MIN).min(params.token);
        let consensus = percent(token, CONSENSUS_PERCENT).max(params.join * JOINS_PER_CONSENSUS);
        let consensus = consensus.min(params.consensus);
        let retransmit = milliseconds(token * 10 / RETRANSMITS_TENTHS);
        let token_retransmit = retransmit.max(TIMER_MIN).min(params.token_retransmit);
        let hold = percent(token_retransmit, 80).saturating_sub(Duration::from_millis(10)).max(HOLD_MIN);
        let join = milliseconds(consensus / FAST_JOINS_PER_CONSENSUS).max(TIMER_MIN).min(params.join);
        let of_token = |timer: Duration| timer.mul_f64(token.as_secs_f64() / params.token.as_secs_f64());
        Self {
            token,
            token_warning: params.token_warning.map(of_token),
            token_retransmit,
            hold: hold.min(params.hold),
            join,
            send_join: params.send_join.min(join),
            consensus,
            heartbeat: params.heartbeat.filter(|timeout| *timeout < token),
        }
    }

    /// Longest time from the silent death of a member to the next regular configuration, in a quiet network:
    /// the token is missed, the dead node is waited for until consensus fails, and one token and one join may be
    /// lost while the new ring forms.
    #[must_use]
    pub fn detection_worst_case(&self) -> Duration {
        self.token + self.consensus + self.token_retransmit + self.join
    }
}

impl Ring {
    /// What the members of a ring have agreed to. Running timers of an operational ring begin again.
    pub(super) fn set_fast(&mut self, ring: RingId, on: bool) {
        let installed = match &self.state {
            State::Recovery(recovery) => recovery.old.ring_id,
            _ => self.order.ring_id,
        };
        if ring != installed {
            return;
        }
        if on {
            self.fast_members.clone_from(&self.members);
        } else {
            self.fast_members.clear();
        }
        let before = self.pace;
        self.keep_pace();
        if self.pace != before && matches!(self.state, State::Operational) {
            self.restart_token_timers();
        }
    }

    /// Those who did not come along into the ring that is installed are not known any more.
    pub(super) fn forget_fast_members(&mut self, came_along: impl Fn(&NodeId) -> bool) {
        self.fast_members.retain(came_along);
    }

    /// Chooses the timers for the present state and the nodes concerned; those that run keep their deadline.
    pub(super) fn keep_pace(&mut self) {
        let known = |node: &NodeId| self.fast_members.contains(node);
        let all_known = match &self.state {
            State::Stopped => false,
            State::Operational => self.members.iter().all(known),
            State::Gather(_) => self.proc_list.iter().all(known),
            State::Commit(commit) => commit.members().iter().all(known),
            State::Recovery(recovery) => {
                recovery.members.iter().all(|node| known(node) && recovery.came_along(*node))
            }
        };
        let pace = match all_known && self.params.fast_detection {
            true => Pace::fast(&self.params),
            false => Pace::configured(&self.params),
        };
        if std::mem::replace(&mut self.pace, pace) != pace && self.timers.is_set(Timer::Pause) {
            self.set_timer(Timer::Pause, pace.token / 5);
        }
    }
}

fn percent(timer: Duration, percent: u32) -> Duration {
    milliseconds(timer * percent / 100)
}

/// Whole milliseconds, as all configured timers are.
fn milliseconds(timer: Duration) -> Duration {
    Duration::from_millis(u64::try_from(timer.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::srp::TotemSettings;

    /// As `pvecm create` writes it.
    fn created(nodes: usize) -> Params {
        let settings =
            TotemSettings { token: Some(1000), token_coefficient: Some(125), ..TotemSettings::default() };
        Params::derive(&settings, nodes).unwrap()
    }

    fn in_ms(pace: Pace) -> [u128; 5] {
        [pace.token, pace.consensus, pace.token_retransmit, pace.hold, pace.join]
            .map(|timer| timer.as_millis())
    }

    #[test]
    fn a_created_cluster_notices_a_loss_within_a_second_at_3_nodes_and_three_at_32() {
        assert_eq!(in_ms(Pace::fast(&created(3))), [337, 202, 64, 41, 33]);
        assert_eq!(Pace::fast(&created(3)).detection_worst_case(), Duration::from_millis(636));
        assert_eq!(in_ms(Pace::fast(&created(32))), [1425, 855, 274, 209, 50]);
        assert_eq!(Pace::fast(&created(32)).detection_worst_case(), Duration::from_millis(2604));
    }

    #[test]
    fn the_configured_pace_is_that_of_corosync() {
        let pace = Pace::configured(&created(3));
        assert_eq!(in_ms(pace), [1125, 1350, 267, 203, 50]);
        assert_eq!(pace.detection_worst_case(), Duration::from_millis(2792));
    }

    #[test]
    fn short_timers_are_not_made_silly() {
        let settings = TotemSettings { token: Some(300), ..TotemSettings::default() };
        let params = Params::derive(&settings, 2).unwrap();
        assert_eq!(in_ms(Pace::fast(&params)), [150, 200, 30, 14, 33]);
    }

    #[test]
    fn warning_and_heartbeat_follow_the_token() {
        let settings = TotemSettings { heartbeat_failures_allowed: Some(1), ..TotemSettings::default() };
        let params = Params::derive(&settings, 2).unwrap();
        let pace = Pace::fast(&params);
        assert_eq!(pace.token_warning, Some(pace.token * 3 / 4));
        assert_eq!((pace.heartbeat, params.heartbeat), (params.heartbeat, Some(Duration::from_millis(764))));
    }

    proptest! {
        #[test]
        fn no_fast_timer_is_longer_than_the_configured_one_and_the_token_outlasts_hold_and_retransmit(
            token in 30..20_000_u32,
            join in 30..500_u32,
            nodes in 1..384_usize,
        ) {
            let settings = TotemSettings { token: Some(token), join: Some(join), ..TotemSettings::default() };
            if let Ok(params) = Params::derive(&settings, nodes) {
                let (fast, slow) = (Pace::fast(&params), Pace::configured(&params));
                prop_assert!(fast.token <= slow.token && fast.consensus <= slow.consensus);
                prop_assert!(fast.token_retransmit <= slow.token_retransmit && fast.hold <= slow.hold);
                prop_assert!(fast.join <= slow.join && fast.join <= fast.consensus);
                prop_assert!(fast.hold < fast.token_retransmit && fast.token_retransmit < fast.token);
            }
        }
    }
}
