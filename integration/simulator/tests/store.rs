//! The replicated tree: what a write promises, in whole clusters.

use std::time::Duration;

use simulator::{
    disk::DiskSpeed,
    fault::{Daemon, Fault},
    history::Outcome,
    scenario::Scenario,
};

const SECOND: Duration = Duration::from_secs(1);

fn is_acknowledged(scenario: &Scenario, write: u64) -> bool {
    matches!(scenario.outcome(write), Some(Outcome::Acknowledged { .. }))
}

#[test]
fn a_write_is_acknowledged_and_reaches_every_replica() {
    // given
    let mut scenario = Scenario::formed(3);
    // when
    let write = scenario.write(2);
    scenario.pass(SECOND);
    // then
    assert!(is_acknowledged(&scenario, write));
    assert!(scenario.now().hold_the_same(&[1, 2, 3]));
    scenario.ends_well();
}

#[test]
fn a_minority_refuses_writes_and_linearizable_reads() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.partition(&[&[1, 2], &[3]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 2]) && now.share_a_ring(&[3]));
    scenario.pass(5 * SECOND);
    // when
    let (refused, read) = (scenario.write(3), scenario.read(3));
    let accepted = scenario.write(1);
    scenario.pass(5 * SECOND);
    // then
    assert_eq!(scenario.outcome(refused), Some(Outcome::Refused));
    assert_eq!(scenario.answer(read), Some(None));
    assert!(is_acknowledged(&scenario, accepted));
    scenario.ends_well();
}

#[test]
fn an_acknowledged_write_survives_the_power_loss_of_any_minority() {
    for victims in [[1, 2], [1, 3], [2, 4], [4, 5], [3, 5]] {
        // given
        let mut scenario = Scenario::formed(5);
        let write = scenario.write(victims[0]);
        scenario.pass(SECOND / 10);
        assert!(is_acknowledged(&scenario, write));
        // when
        victims.into_iter().for_each(|id| scenario.crash(id));
        scenario.pass(20 * SECOND);
        victims.into_iter().for_each(|id| scenario.boot(id));
        // then
        scenario.expect(30 * SECOND, "together again", |now| now.all_writable());
        scenario.ends_well();
    }
}

#[test]
fn an_acknowledged_write_survives_the_power_loss_of_all() {
    // given
    let mut scenario = Scenario::formed(3);
    let writes: Vec<_> = (0..20).map(|count| scenario.write(1 + count % 3)).collect();
    scenario.pass(SECOND);
    assert!(writes.iter().all(|write| is_acknowledged(&scenario, *write)));
    // when
    (1..=3).for_each(|id| scenario.crash(id));
    scenario.pass(5 * SECOND);
    (1..=3).for_each(|id| scenario.boot(id));
    // then
    scenario.expect(30 * SECOND, "together again", |now| now.all_writable());
    scenario.ends_well();
}

#[test]
fn a_write_that_only_the_crashed_originator_had_is_not_missed_by_anyone() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.block(&[1], &[2, 3]);
    let write = scenario.write(1);
    scenario.pass(Duration::from_millis(300));
    assert_eq!(scenario.outcome(write), None, "two disks do not have it");
    // when
    scenario.crash(1);
    scenario.expect(30 * SECOND, "the others go on", |now| now.share_a_ring(&[2, 3]) && now.is_writable(2));
    let other = scenario.write(2);
    scenario.pass(SECOND);
    scenario.join_again();
    scenario.boot(1);
    // then
    scenario.expect(30 * SECOND, "together again", |now| now.all_writable());
    assert!(is_acknowledged(&scenario, other));
    assert!(scenario.now().hold_the_same(&[1, 2, 3]));
    scenario.ends_well();
}

#[test]
fn slow_disks_of_a_minority_do_not_delay_acknowledgements() {
    // given
    let mut scenario = Scenario::formed(3);
    let stalled = DiskSpeed { min: 5 * SECOND, max: 6 * SECOND };
    scenario.fault(Fault::Disk(3.try_into().unwrap(), stalled));
    // when
    let write = scenario.write(1);
    scenario.pass(SECOND);
    // then
    assert!(is_acknowledged(&scenario, write));
    scenario.ends_well();
}

#[test]
fn slow_disks_of_a_majority_delay_acknowledgements() {
    // given
    let mut scenario = Scenario::formed(3);
    let stalled = DiskSpeed { min: 5 * SECOND, max: 6 * SECOND };
    [2, 3].into_iter().for_each(|id| scenario.fault(Fault::Disk(id.try_into().unwrap(), stalled)));
    // when
    let write = scenario.write(1);
    scenario.pass(4 * SECOND);
    // then
    assert_eq!(scenario.outcome(write), None);
    scenario.pass(5 * SECOND);
    assert!(is_acknowledged(&scenario, write));
    scenario.ends_well();
}

/// Scenario 25.
#[test]
fn without_the_membership_daemon_the_store_is_read_only_at_once() {
    // given
    let mut scenario = Scenario::formed(3);
    // when
    scenario.kill(1, Daemon::Membership);
    // then
    scenario.expect(SECOND / 10, "read-only", |now| !now.is_writable(1));
    let write = scenario.write(1);
    scenario.pass(SECOND);
    assert_eq!(scenario.outcome(write), Some(Outcome::Refused));
    scenario.start(1, Daemon::Membership);
    scenario.expect(30 * SECOND, "writable again", |now| now.all_writable());
    scenario.ends_well();
}

#[test]
fn without_the_quorum_daemon_nothing_is_written_at_that_node() {
    // given
    let mut scenario = Scenario::formed(3);
    // when
    scenario.kill(1, Daemon::Quorum);
    scenario.pass(SECOND / 10);
    // then
    assert!(!scenario.now().is_writable(1));
    let write = scenario.write(2);
    scenario.pass(5 * SECOND);
    assert!(is_acknowledged(&scenario, write), "the others go on");
    scenario.start(1, Daemon::Quorum);
    scenario.expect(30 * SECOND, "writable again", |now| now.all_writable());
    scenario.ends_well();
}

/// etcd issue 20418: who was paused must not serve what is history.
#[test]
fn a_paused_node_that_resumes_serves_no_stale_linearizable_read() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.pause(3);
    scenario.expect(15 * SECOND, "the others go on", |now| now.share_a_ring(&[1, 2]) && now.is_writable(1));
    let writes: Vec<_> = (0..5).map(|_| scenario.write(1)).collect();
    scenario.pass(SECOND);
    assert!(writes.iter().all(|write| is_acknowledged(&scenario, *write)));
    // when
    let read = scenario.read(3);
    scenario.resume(3);
    scenario.pass(40 * SECOND);
    // then: it failed, or it is fresh, which the store's checker judges
    assert!(scenario.answer(read).is_some());
    scenario.ends_well();
}

#[test]
fn a_write_that_is_repeated_at_another_node_happens_once() {
    // given
    let mut scenario = Scenario::formed(3);
    let write = scenario.write(1);
    scenario.pass(Duration::from_millis(3));
    // when
    scenario.crash(1);
    scenario.expect(30 * SECOND, "the others go on", |now| now.share_a_ring(&[2, 3]) && now.is_writable(2));
    scenario.write_again(2, write, 1);
    scenario.write_again(3, write, 2);
    scenario.pass(SECOND);
    // then
    assert!(is_acknowledged(&scenario, write));
    scenario.ends_well();
}

#[test]
fn a_replica_whose_disk_refuses_a_write_is_loaded_again_and_catches_up() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.fault(Fault::WriteError(2.try_into().unwrap()));
    // when
    let write = scenario.write(1);
    scenario.pass(SECOND / 10);
    // then
    assert!(is_acknowledged(&scenario, write));
    scenario
        .expect(30 * SECOND, "it has caught up", |now| now.all_writable() && now.hold_the_same(&[1, 2, 3]));
    scenario.ends_well();
}

#[test]
fn two_halves_that_both_wrote_before_the_split_agree_after_it() {
    // given: each side has writes under way that the other does not get
    let mut scenario = Scenario::formed(4);
    scenario.partition(&[&[1, 2], &[3, 4]]);
    let writes: Vec<_> = (0..8).map(|count| scenario.write(1 + count % 4)).collect();
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 2]) && now.share_a_ring(&[3, 4]));
    assert!(writes.iter().all(|write| !is_acknowledged(&scenario, *write)));
    // when
    scenario.join_again();
    // then
    scenario.expect(30 * SECOND, "together again", |now| now.all_writable());
    scenario.pass(10 * SECOND);
    assert!(scenario.now().hold_the_same(&[1, 2, 3, 4]));
    scenario.ends_well();
}

/// Promise 4 of the architecture: what a minority wrote last is not acknowledged and does not win, however
/// much of it there is.
#[test]
fn a_node_that_wrote_much_alone_does_not_win_over_the_majority_that_wrote_little() {
    // given: 1 hears the others, but they do not hear it; it orders its writes for itself
    let mut scenario = Scenario::formed(3);
    scenario.pass(SECOND);
    scenario.block(&[1], &[2, 3]);
    let lost: Vec<_> = (0..20).map(|_| scenario.write(1)).collect();
    scenario.pass(SECOND);
    assert!(scenario.now().version(1) > scenario.now().version(2), "1 is ahead");
    assert!(lost.iter().all(|write| scenario.outcome(*write).is_none()), "and nobody was told so");
    // when
    scenario.block(&[2, 3], &[1]);
    scenario.expect(30 * SECOND, "the others go on", |now| now.share_a_ring(&[2, 3]) && now.is_writable(2));
    let write = scenario.write(2);
    scenario.pass(SECOND);
    assert!(is_acknowledged(&scenario, write));
    assert!(scenario.now().version(1) > scenario.now().version(2), "1 is still ahead");
    scenario.crash(1);
    scenario.join_again();
    scenario.boot(1);
    // then
    scenario.expect(30 * SECOND, "together again", |now| now.all_writable());
    assert!(scenario.now().hold_the_same(&[1, 2, 3]));
    scenario.ends_well();
}

fn wipe(scenario: &mut Scenario, id: u32) {
    scenario.crash(id);
    scenario.fault(Fault::WipeStore(id.try_into().expect("nodes are counted from 1")));
}

#[test]
fn a_node_with_a_new_disk_gets_everything_from_the_others() {
    // given
    let mut scenario = Scenario::formed(3);
    let writes: Vec<_> = (0..30).map(|count| scenario.write(1 + count % 3)).collect();
    scenario.pass(SECOND);
    assert!(writes.iter().all(|write| is_acknowledged(&scenario, *write)));
    // when
    wipe(&mut scenario, 2);
    scenario.expect(30 * SECOND, "the others go on", |now| now.share_a_ring(&[1, 3]) && now.is_writable(1));
    let meanwhile = scenario.write(1);
    scenario.pass(SECOND);
    scenario.boot(2);
    // then
    scenario.expect(30 * SECOND, "together again", |now| now.all_writable());
    assert!(is_acknowledged(&scenario, meanwhile));
    assert!(scenario.now().hold_the_same(&[1, 2, 3]));
    scenario.ends_well();
}

/// One disk after the other is replaced, each only when the one before is in sync: in the end no disk is left that was
/// there when the first write was acknowledged.
#[test]
fn a_rolling_replacement_of_all_disks_loses_nothing() {
    let mut scenario = Scenario::formed(3);
    for id in 1..=3 {
        // given
        let before: Vec<_> = (1..=3).map(|id| scenario.write(id)).collect();
        scenario.pass(SECOND);
        assert!(before.iter().all(|write| is_acknowledged(&scenario, *write)));
        // when
        wipe(&mut scenario, id);
        scenario.pass(10 * SECOND);
        let other = 1 + id % 3;
        let meanwhile = scenario.write(other);
        scenario.pass(2 * SECOND);
        assert!(is_acknowledged(&scenario, meanwhile), "the others go on without {id}");
        scenario.boot(id);
        // then
        scenario
            .expect(30 * SECOND, "together again", |now| now.all_writable() && now.hold_the_same(&[1, 2, 3]));
    }
    scenario.ends_well();
}

/// A write is on two of three disks; one of the two forgets it, and the other one is away. The node with the new disk and the
/// one that never had the write are a majority, and yet must not go on without the only copy.
#[test]
fn a_disk_that_forgets_does_not_help_to_lose_what_only_one_other_has() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.partition(&[&[1, 2], &[3]]);
    scenario.expect(30 * SECOND, "apart", |now| now.share_a_ring(&[1, 2]) && now.is_writable(1));
    let write = scenario.write(1);
    scenario.pass(SECOND);
    assert!(is_acknowledged(&scenario, write));
    // when
    scenario.crash(2);
    wipe(&mut scenario, 1);
    scenario.join_again();
    scenario.boot(1);
    scenario.expect(30 * SECOND, "a majority without the write", |now| now.share_a_ring(&[1, 3]));
    let refused = scenario.write(3);
    scenario.pass(30 * SECOND);
    assert!(!is_acknowledged(&scenario, refused) && !scenario.now().is_writable(1));
    scenario.boot(2);
    // then
    scenario.expect(30 * SECOND, "together again", |now| now.all_writable() && now.hold_the_same(&[1, 2, 3]));
    scenario.ends_well();
}

/// etcd issue 20418 again, this time with one daemon that stands still while its ring goes on without noticing.
#[test]
fn a_store_that_stood_still_serves_no_stale_linearizable_read_when_it_goes_on() {
    // given
    let mut scenario = Scenario::formed(3);
    scenario.fault(Fault::Pause(3.try_into().unwrap(), Daemon::Config));
    let read = scenario.read(3);
    let writes: Vec<_> = (0..5).map(|_| scenario.write(1)).collect();
    scenario.pass(SECOND);
    assert!(writes.iter().all(|write| is_acknowledged(&scenario, *write)));
    // when
    let late = scenario.read(3);
    scenario.fault(Fault::Resume(3.try_into().unwrap(), Daemon::Config));
    scenario.pass(40 * SECOND);
    // then: the store's checker has judged what they saw
    assert!(scenario.answer(read).is_some() && scenario.answer(late).is_some());
    scenario.ends_well();
}
