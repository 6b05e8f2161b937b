//! An announcement survives being written; what is agreed is never more than what all members offer.

use membership_core::{
    feature::{Announcement, Features, LEVEL},
    service::ServiceMessage,
};
use quorate_types::{NodeId, RingId};

use crate::{feed::Feed, heap};

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(64 * 1024 + 8 * input.len(), || {
        if let Ok(announcement) = Announcement::from_wire(input) {
            assert_eq!(Announcement::from_wire(&announcement.to_wire()), Ok(announcement));
        }
        sequence(Feed(input));
    });
}

fn sequence(mut feed: Feed<'_>) {
    let ring = RingId { rep: 1, seq: 8 };
    let members: Vec<NodeId> = (1..=3).filter_map(|n| NodeId::new(n).ok()).collect();
    let mut features = Features::new(Some(LEVEL), true);
    features.start_sync(ring, &members);
    let mut is_active = false;
    while !feed.is_empty() {
        let op = feed.byte();
        match op % 16 {
            0 => {
                features.start_sync(ring, &members);
                is_active = false;
            }
            1 => {
                features.activate();
                is_active = true;
            }
            2 => drop(features.set_fast_detection(op & 16 == 0)),
            _ => {
                let from = feed.node(4);
                let payload = feed.piece();
                if let Ok(message) = ServiceMessage::from_wire(payload) {
                    let _ = features.accept(from, message.function, &message.bytes);
                }
            }
        }
        let (agreed, levels) = (features.agreed(), features.levels());
        assert!(levels.keys().all(|node| members.contains(node)));
        assert!(is_active || agreed == Default::default());
        if members.iter().any(|member| !levels.contains_key(member)) {
            assert_eq!((agreed.level, agreed.features), (0, 0), "a silent member agrees to nothing");
        }
        assert!(agreed.level == 0 || levels.values().all(|level| *level >= agreed.level));
    }
}
