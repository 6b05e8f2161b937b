//! Flow control: how many messages a node may send on one token visit.
//!
//! Every member adds its own contribution to the token's counters exactly once and takes it out on
//! the next visit. Source: Totem specification 3.4; Totem paper, section on flow control.

use super::{message::OrfToken, params::Params};

/// This node's contribution to the counters in the token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// Messages sent on the last visit (my_trc).
    sent: u32,
    /// Backlog on the last visit (my_pbl).
    previous_backlog: u32,
    /// Backlog on this visit (my_cbl).
    current_backlog: u32,
}

impl Flow {
    /// How many messages may be sent now, retransmissions included. `backlog` is the length of
    /// the queue that would be sent from.
    pub(super) fn allowed(&mut self, token: &OrfToken, backlog: u32, params: &Params) -> u32 {
        self.current_backlog = backlog;
        let mut allowed = params.max_messages.min(params.window_size.wrapping_sub(token.fcc));
        let ring_backlog = token.backlog.wrapping_add(backlog).wrapping_sub(self.previous_backlog);
        if ring_backlog != 0 {
            let share = u64::from(params.window_size) * u64::from(self.previous_backlog);
            let fair = u32::try_from(share / u64::from(ring_backlog)).unwrap_or(u32::MAX);
            if fair > 0 {
                allowed = allowed.min(fair);
            }
        }
        allowed
    }

    /// Enters what was sent into the token, in place of this node's last contribution.
    pub(super) fn settle(&mut self, token: &mut OrfToken, sent: u32) {
        token.fcc = token.fcc.wrapping_add(sent).wrapping_sub(self.sent);
        token.backlog = token.backlog.wrapping_add(self.current_backlog).wrapping_sub(self.previous_backlog);
        self.sent = sent;
        self.previous_backlog = self.current_backlog;
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::{NodeId, RingId};

    use super::*;

    fn token(backlog: u32, fcc: u32) -> OrfToken {
        OrfToken {
            nodeid: NodeId::new(1).unwrap(),
            target_nodeid: 0,
            seq: 0,
            token_seq: 0,
            aru: 0,
            aru_addr: 0,
            ring_id: RingId::default(),
            backlog,
            fcc,
            retrans_flg: 0,
            rtr: Vec::new(),
        }
    }

    #[test]
    fn idle_ring_allows_a_full_visit() {
        assert_eq!(Flow::default().allowed(&token(0, 0), 100, &Params::default()), 17);
    }

    #[test]
    fn window_of_the_ring_limits_the_last_of_a_rotation() {
        assert_eq!(Flow::default().allowed(&token(0, 45), 100, &Params::default()), 5);
        assert_eq!(Flow::default().allowed(&token(0, 50), 100, &Params::default()), 0);
    }

    #[test]
    fn each_node_gets_its_share_of_the_window_by_backlog() {
        let mut flow = Flow::default();
        let mut token = token(0, 0);
        flow.allowed(&token, 10, &Params::default());
        flow.settle(&mut token, 0);

        token.backlog += 90;

        assert_eq!(flow.allowed(&token, 10, &Params::default()), 50 * 10 / 100);
    }

    #[test]
    fn contribution_is_taken_out_on_the_next_visit() {
        let mut flow = Flow::default();
        let mut token = token(7, 3);

        flow.allowed(&token, 5, &Params::default());
        flow.settle(&mut token, 4);
        assert_eq!((token.backlog, token.fcc), (12, 7));
        flow.allowed(&token, 0, &Params::default());
        flow.settle(&mut token, 0);

        assert_eq!((token.backlog, token.fcc), (7, 3));
    }
}
