//! Announcements, and what a ring makes of them.

use proptest::prelude::*;

use super::*;

const RING: RingId = RingId { rep: 1, seq: 9 };

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn announced(level: u32, fast: bool) -> Bytes {
    Announcement { ring: RING, offer: Offer::new(level, fast) }.to_wire()
}

/// Nodes 1 and 2 in a synchronisation.
fn started() -> Features {
    let mut features = Features::new(Some(LEVEL), true);
    features.start_sync(RING, &[node(1), node(2)]);
    features
}

#[test]
fn an_announcement_travels_and_what_follows_it_is_skipped() {
    let sent = Announcement { ring: RING, offer: Offer { level: 7, level_min: 2, features: 5 } };
    assert_eq!(sent.to_wire().len(), SIZE);
    let longer: Vec<u8> = sent.to_wire().iter().copied().chain([1, 2, 3]).collect();
    assert_eq!(Announcement::from_wire(&longer), Ok(sent));
}

#[test]
fn the_bytes_of_an_announcement_are_fixed() {
    let sent = Announcement { ring: RING, offer: Offer { level: 1, level_min: 0, features: 1 } };
    let mut expected = [0; SIZE];
    expected[2] = 40; // service 40, function 0
    expected[8] = 56; // size
    expected[16..20].copy_from_slice(b"QLVL");
    expected[20] = 1; // layout
    expected[24] = 1; // ring: representative
    expected[28] = 9; // ring: sequence
    expected[40] = 1; // level
    expected[48] = 1; // fast detection
    assert_eq!(sent.to_wire(), expected[..]);
}

#[test]
fn the_ring_has_the_lowest_level_and_the_features_of_all() {
    let mut features = started();
    features.accept(node(1), 0, &announced(1, true)).unwrap();
    features.accept(node(2), 0, &announced(3, true)).unwrap();
    assert_eq!(features.agreed(), Agreed::default(), "not before the barrier");
    let agreed = features.activate();
    assert_eq!((agreed.level, agreed.has_fast_detection()), (1, true));
    assert_eq!(features.levels(), BTreeMap::from([(node(1), 1), (node(2), 3)]));
}

#[test]
fn one_member_that_announces_nothing_makes_it_level_0() {
    let mut features = started();
    features.accept(node(1), 0, &announced(1, true)).unwrap();
    assert_eq!(features.activate(), Agreed::default());
}

#[test]
fn one_member_that_switches_it_off_switches_it_off_for_all_and_on_again() {
    let mut features = started();
    features.accept(node(1), 0, &announced(1, true)).unwrap();
    features.accept(node(2), 0, &announced(1, true)).unwrap();
    assert!(features.activate().has_fast_detection());
    // when node 2 reads another configuration
    let off = features.accept(node(2), 0, &announced(1, false)).unwrap();
    assert_eq!(off.map(Agreed::has_fast_detection), Some(false));
    assert_eq!(features.accept(node(2), 0, &announced(1, false)), Ok(None));
    let on = features.accept(node(2), 0, &announced(1, true)).unwrap();
    assert_eq!(on.map(Agreed::has_fast_detection), Some(true));
}

#[test]
fn an_offer_is_announced_again_only_when_it_changes() {
    let mut features = started();
    assert_eq!(features.set_fast_detection(true), None);
    assert_eq!(features.set_fast_detection(false), Some(announced(LEVEL, false)));
    assert_eq!(Features::new(None, true).set_fast_detection(false), None);
}

#[test]
fn malformed_announcements_those_of_another_ring_and_of_strangers_have_no_effect() {
    let mut features = started();
    let other = Announcement { ring: RingId { rep: 1, seq: 5 }, offer: Offer::new(9, true) }.to_wire();
    let mut no_magic = announced(1, true).to_vec();
    no_magic[16] ^= 1;
    let contradiction = Announcement { ring: RING, offer: Offer { level: 1, level_min: 2, features: 0 } };
    for (from, function, bytes) in [
        (2, 1, &announced(1, true)[..]),
        (2, 0, &no_magic),
        (2, 0, &contradiction.to_wire()),
        (2, 0, &announced(1, true)[..SIZE - 1]),
    ] {
        assert!(features.accept(node(from), function, bytes).is_err(), "{from} {function} {bytes:?}");
    }
    assert_eq!(features.accept(node(2), 0, &other), Ok(None));
    assert_eq!(features.accept(node(3), 0, &announced(1, true)), Ok(None));
    assert_eq!(features.out_of_place(), 2);
    features.accept(node(1), 0, &announced(1, true)).unwrap();
    assert_eq!(features.activate(), Agreed::default());
}

#[test]
fn a_new_ring_begins_with_nothing() {
    let mut features = started();
    features.accept(node(1), 0, &announced(1, true)).unwrap();
    features.accept(node(2), 0, &announced(1, true)).unwrap();
    features.activate();
    features.start_sync(RingId { rep: 1, seq: 13 }, &[node(1)]);
    assert_eq!((features.agreed(), features.levels().len()), (Agreed::default(), 0));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Announcement::from_wire(&bytes);
        let mut shaped = announced(1, true).to_vec();
        let cut = bytes.len().min(SIZE - 24);
        shaped[24..24 + cut].copy_from_slice(&bytes[..cut]);
        let _ = started().accept(node(2), 0, &shaped);
    }
}
