//! One link with a clock that the test moves.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn link(start: Instant) -> Link {
    let remote = SocketAddr::from(([10, 0, 0, 2], 5405));
    Link::new(start, remote, LinkSettings::default(), MtuPolicy::Discover(Duration::from_secs(30)))
}

/// A link that came up at `start`, twenty seconds old.
fn up(start: Instant) -> Link {
    let mut link = link(start - Duration::from_secs(20));
    for _ in 0..3 {
        link.take_pong(start, MS);
    }
    assert!(link.is_up());
    link
}

#[test]
fn the_third_good_pong_brings_a_link_up() {
    let start = Instant::now();
    let mut link = link(start);

    assert_eq!(link.take_pong(start, MS), Some(false));
    assert_eq!(link.take_pong(start, MS), Some(false));
    assert!(!link.is_usable());
    assert_eq!(link.take_pong(start, MS), Some(true));
    assert!(link.is_usable());
    assert_eq!(link.mtu(), Some(536));
}

#[test]
fn a_pong_that_is_too_late_does_not_count() {
    let start = Instant::now();
    let mut link = link(start);
    for _ in 0..9 {
        assert_eq!(link.take_pong(start, 1501 * MS), None);
    }
    assert!(!link.is_up());
}

#[test]
fn pings_go_out_once_per_interval() {
    let start = Instant::now();
    let mut link = link(start);

    assert!(link.take_ping_due(start));
    assert!(!link.take_ping_due(start + 749 * MS));
    assert!(link.take_ping_due(start + 750 * MS));
    assert_eq!(link.deadline(start + 750 * MS), start + 1500 * MS);
}

#[test]
fn silence_for_the_timeout_takes_an_old_link_down() {
    let start = Instant::now();
    let mut link = up(start);

    assert!(!link.take_silence(start + 1501 * MS));
    assert!(link.take_silence(start + 1502 * MS));
    assert!(!link.is_up() && !link.take_silence(start + 9000 * MS));
    assert_eq!((link.stats.up_count, link.stats.down_count), (1, 1));
    // and three pongs are needed again
    let pongs = [0; 3].map(|_| link.take_pong(start + 2000 * MS, MS));
    assert_eq!(pongs, [Some(false), Some(false), Some(true)]);
}

#[test]
fn a_new_link_is_given_ten_times_as_long() {
    let start = Instant::now();
    let mut link = link(start);
    for _ in 0..3 {
        link.take_pong(start, MS);
    }
    assert_eq!(link.adjusted_timeout(start), 15_002 * MS);
    assert_eq!(link.adjusted_timeout(start + 8500 * MS), 3002 * MS);
    assert_eq!(link.adjusted_timeout(start + 60_000 * MS), 1502 * MS);
    // 7 seconds after the last pong the backoff is 3: 4.5 seconds
    assert!(!link.take_silence(start + 5900 * MS));
    assert!(link.take_silence(start + 7000 * MS));
}

#[test]
fn the_deadline_never_misses_the_end_of_a_link() {
    let start = Instant::now();
    let mut link = link(start);
    for _ in 0..3 {
        link.take_pong(start, MS);
    }
    let mut now = start;
    while !link.take_silence(now) {
        let next = link.deadline(now);
        link.take_ping_due(next);
        assert!(next >= now && next <= start + 7000 * MS);
        now = next;
    }
    assert!(now > start + 5000 * MS);
}

#[test]
fn a_discovery_without_any_reply_makes_the_link_unusable_and_a_later_one_usable() {
    let start = Instant::now();
    let mut link = up(start);
    assert_eq!(link.begin_discovery(start), Some(65_535));
    let mut now = start;
    while link.is_usable() {
        now += 100 * MS;
        link.take_pong(now, MS);
        link.take_probe_due(now);
        assert!(now < start + Duration::from_secs(40));
    }
    assert!(now > start + Duration::from_secs(20));
    assert_eq!((link.is_up(), link.mtu()), (true, None));
    // when the next one finds something
    now += Duration::from_secs(30);
    assert_eq!(link.take_probe_due(now), Some(65_535));
    assert_eq!(link.take_probe_refused(now, Some(1500)), Some(1500));
    assert_eq!(link.take_probe_reply(now, 1500), Ok(None));
    assert_eq!((link.is_usable(), link.mtu()), (true, Some(1500)));
    assert_eq!(link.take_probe_reply(now, 1500), Err(()));
}

#[test]
fn a_path_that_carries_less_than_before_is_noticed_at_the_next_discovery() {
    let start = Instant::now();
    let mut link = up(start);
    link.begin_discovery(start);
    link.take_probe_refused(start, Some(1500));
    assert_eq!(link.take_probe_reply(start, 1500), Ok(None));
    let mut now = start + Duration::from_secs(30);
    assert_eq!(link.take_probe_due(now), Some(65_535));
    assert_eq!(link.take_probe_refused(now, Some(1500)), Some(1500));
    // one lost probe is no change
    now += 1600 * MS;
    assert_eq!(link.take_probe_due(now), Some(1500));
    assert_eq!(link.mtu(), Some(1500));
    // two are
    now += 1600 * MS;
    assert!(link.take_probe_due(now).is_some());
    assert_eq!(link.mtu(), Some(536));
}

#[test]
fn data_that_the_kernel_refuses_lowers_the_mtu_at_once() {
    let start = Instant::now();
    let mut link = up(start);
    link.begin_discovery(start);
    link.take_probe_refused(start, Some(9000));
    assert_eq!(link.take_probe_reply(start, 9000), Ok(None));

    assert_eq!(link.take_data_refused(start, Some(1500)), Some(65_535));
    assert_eq!(link.mtu(), Some(1500));
    link.take_data_refused(start, None);
    assert_eq!(link.mtu(), Some(536));
}

#[test]
fn a_fixed_mtu_is_not_searched_for() {
    let start = Instant::now();
    let mut link = up(start);
    link.set_policy(MtuPolicy::Fixed(1200));

    assert_eq!((link.mtu(), link.begin_discovery(start)), (Some(1200), None));
    link.set_policy(MtuPolicy::Discover(Duration::from_secs(30)));
    assert_eq!((link.mtu(), link.begin_discovery(start)), (Some(536), Some(65_535)));
}
