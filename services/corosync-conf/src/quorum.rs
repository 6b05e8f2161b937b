//! The `quorum` section: the options of votequorum.

use quorate_types::NodeId;

use crate::{
    Device, Reason, Tree, device,
    read::{Mistakes, Scope},
};

/// The only quorum provider there is.
const PROVIDER: &str = "corosync_votequorum";

/// `auto_tie_breaker_node`: which half of an even split stays quorate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TieBreaker {
    /// The half with the lowest node id. The default.
    #[default]
    Lowest,
    /// The half with the highest node id.
    Highest,
    /// The half with the first of these nodes; a later one counts when the earlier were not there.
    List(Vec<NodeId>),
}

/// The `quorum` section. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quorum {
    /// `expected_votes`, default the sum of the nodelist's votes.
    pub expected_votes: Option<u32>,
    /// `two_node`, default off: one vote of two is a quorum.
    pub two_node: bool,
    /// `wait_for_all`, default off, with `two_node` on: quorate only after all were seen once.
    pub wait_for_all: bool,
    /// `last_man_standing`, default off: expected votes follow the votes present.
    pub last_man_standing: bool,
    /// `last_man_standing_window`, default 10000: time until they do.
    pub last_man_standing_window: u32,
    /// `auto_tie_breaker` with `auto_tie_breaker_node`, default off.
    pub auto_tie_breaker: Option<TieBreaker>,
    /// `allow_downscale`, default off: a clean leave lowers expected votes.
    pub allow_downscale: bool,
    /// `expected_votes_tracking`, default off, with `allow_downscale` on: the highest expected votes are
    /// stored and count after a restart.
    pub expected_votes_tracking: bool,
    /// The `device` section.
    pub device: Option<Device>,
}

/// Default of `last_man_standing_window` in milliseconds. Source: votequorum(5).
const LAST_MAN_STANDING_WINDOW: u32 = 10_000;

pub(crate) fn read(tree: &Tree, quorum: &Scope<'_>, mistakes: &mut Mistakes) -> Quorum {
    quorum.require(mistakes, "provider");
    quorum.word(mistakes, "provider", PROVIDER, &[(PROVIDER, ())]);
    let mut switch = |key| quorum.switch(mistakes, key);
    let two_node = switch("two_node").unwrap_or(false);
    let wait_for_all = switch("wait_for_all").unwrap_or(two_node);
    let last_man_standing = switch("last_man_standing").unwrap_or(false);
    let allow_downscale = switch("allow_downscale").unwrap_or(false);
    let tracking = switch("expected_votes_tracking").unwrap_or(false);
    let window = quorum.u32(mistakes, "last_man_standing_window");
    Quorum {
        expected_votes: quorum.number(mistakes, "expected_votes", (1, u32::MAX.into())),
        two_node,
        wait_for_all,
        last_man_standing,
        last_man_standing_window: window.unwrap_or(LAST_MAN_STANDING_WINDOW),
        auto_tie_breaker: read_tie_breaker(quorum, mistakes),
        allow_downscale,
        expected_votes_tracking: tracking || allow_downscale,
        device: device::read(tree, mistakes),
    }
}

fn read_tie_breaker(quorum: &Scope<'_>, mistakes: &mut Mistakes) -> Option<TieBreaker> {
    const KEY: &str = "auto_tie_breaker_node";
    let is_on = quorum.switch(mistakes, "auto_tie_breaker").unwrap_or(false);
    let node = match quorum.text(KEY) {
        None | Some("lowest") => TieBreaker::Lowest,
        Some("highest") => TieBreaker::Highest,
        Some(list) => {
            let ids = list.split_whitespace().map(|id| NodeId::new(id.parse().ok()?).ok());
            let ids: Option<Vec<NodeId>> = ids.collect();
            if ids.is_none() {
                let allowed = "lowest, highest, a list of node ids";
                let word = Reason::Word { value: list.to_owned(), allowed };
                mistakes.add(quorum.line_of(KEY), quorum.path(KEY), word);
            }
            TieBreaker::List(ids.unwrap_or_default())
        }
    };
    is_on.then_some(node)
}
