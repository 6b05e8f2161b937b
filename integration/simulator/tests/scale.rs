//! Large rings: they form, and lose a node, within bounds. `simulate`'s sibling `scale` has the figures.

use std::time::Duration;

use simulator::scale::{Times, measure, setup};

/// What every large ring keeps to: a formation without a timeout, and the loss of a node noticed and survived within
/// what the timers allow.
fn assert_bounds(nodes: u32, formation_max: Duration) {
    let setup = setup(nodes, None);
    let (token, consensus) = (setup.params.token, setup.params.consensus);
    let Times { formation, detection, recovery, rotation, .. } = measure(setup).expect("no violation");
    assert!(formation < formation_max, "formation: {formation:?}");
    assert!(detection <= token + token / 10, "detection: {detection:?}");
    assert!(recovery < token + 2 * consensus, "new ring: {recovery:?}");
    assert!(rotation < Duration::from_micros(200) * nodes, "rotation: {rotation:?}");
}

#[test]
fn sixty_four_nodes_form_one_ring_without_a_timeout_and_survive_the_loss_of_one() {
    assert_bounds(64, Duration::from_secs(1));
}

/// Half a minute of CPU time in an optimised build.
#[test]
#[ignore = "takes long; run by hand with -- --ignored"]
fn a_hundred_and_twenty_eight_nodes_form_one_ring_without_a_timeout_and_survive_the_loss_of_one() {
    assert_bounds(128, Duration::from_secs(2));
}
