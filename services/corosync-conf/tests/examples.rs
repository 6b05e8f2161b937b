//! Whole configurations: those of the documentation read as meant, a broken one reports all its mistakes.

use corosync_conf::{
    Cipher, ClusterConf, Hash, IpVersion, LinkMode, NewNode, Protection, Reason, TieBreaker, Transport, Tree,
};
use quorate_types::NodeId;

const SEED_140: &str = include_str!("data/seed-140.conf");
const SEED_148: &str = include_str!("data/seed-148.conf");
const SEED_165: &str = include_str!("data/seed-165.conf");
const TODAY: &str = include_str!("data/today-qdevice.conf");

/// A cluster of nodes with these votes, and these lines in its quorum section.
fn cluster(votes: &[u32], quorum: &str) -> String {
    let mut text =
        String::from("totem {\n cluster_name: demo\n config_version: 1\n secauth: on\n}\nnodelist {\n");
    for (votes, id) in votes.iter().zip(1..) {
        text += &format!(
            "node {{\n name: hp{id}\n nodeid: {id}\n ring0_addr: 10.0.0.{id}\n quorum_votes: {votes}\n}}\n"
        );
    }
    text + "}\nquorum {\n provider: corosync_votequorum\n" + quorum + "\n}\n"
}

fn reasons(text: &str) -> Vec<Reason> {
    match ClusterConf::parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.into_iter().map(|error| error.reason).collect(),
    }
}

#[test]
fn the_example_without_indentation_reads_as_meant() {
    let conf = ClusterConf::parse(SEED_140).unwrap();
    let names: Vec<_> = conf.nodes.iter().map(|node| node.name.as_str()).collect();

    assert_eq!(names, ["uno", "due", "tre"]);
    assert_eq!((conf.totem.cluster_name.as_str(), conf.totem.config_version), ("thomas-testcluster", 3));
    assert_eq!(conf.totem.interfaces[0].bindnetaddr.as_deref(), Some("192.168.30.50"));
    assert_eq!(conf.node_named("tre").unwrap().addresses[&0], "tre");
}

#[test]
fn the_example_with_new_addresses_differs_from_the_first_as_told() {
    let mut tree = Tree::parse(SEED_140).unwrap();
    for (name, id) in [("uno", 1), ("due", 2), ("tre", 3)] {
        let addresses = [(0, format!("10.10.10.{id}"))].into();
        let node = NewNode { name: name.parse().unwrap(), id: NodeId::new(id).unwrap(), votes: 1, addresses };
        tree.add_node(&node).unwrap();
    }
    tree.set("totem.interface.bindnetaddr", "10.10.10.1").unwrap();
    tree.bump_version().unwrap();

    assert_eq!(tree.canonical(), Tree::parse(SEED_148).unwrap().canonical());
}

#[test]
fn the_example_with_two_rings_reads_as_meant() {
    let conf = ClusterConf::parse(SEED_165).unwrap();

    assert_eq!((conf.totem.config_version, conf.totem.ip_version), (9, IpVersion::Ipv4));
    assert_eq!(conf.totem.interfaces[1].bindnetaddr.as_deref(), Some("10.10.20.1"));
    let second = conf.node_named("pvecm2").unwrap();
    assert_eq!(
        (second.id.get(), second.addresses[&0].as_str(), second.addresses[&1].as_str()),
        (2, "10.10.10.2", "10.10.20.2")
    );
    assert_eq!(conf.check_for_join(), Default::default());
}

#[test]
fn a_file_of_today_is_printed_as_it_was_read() {
    assert_eq!(Tree::parse(TODAY).unwrap().print(), TODAY);
    let conf = ClusterConf::parse(TODAY).unwrap();
    assert_eq!((conf.totem.transport, conf.totem.timing.token_coefficient), (Transport::Knet, Some(125)));
    assert_eq!(conf.totem.interfaces[0].knet_link_priority, Some(20));
    assert_eq!(conf.quorum.device.unwrap().votes, Some(1));
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_lines() {
    let errors = ClusterConf::parse(include_str!("data/many-mistakes.conf")).unwrap_err();
    assert_eq!(format!("{errors}\n"), include_str!("data/many-mistakes.expected"));
}

#[test]
fn an_empty_file_lacks_everything() {
    let errors = ClusterConf::parse("").unwrap_err();
    let keys: Vec<_> = errors.0.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["totem", "nodelist.node", "quorum.provider"]);
}

#[test]
fn expected_votes_are_the_sum_unless_they_are_set() {
    assert_eq!(ClusterConf::parse(&cluster(&[1, 2, 3], "")).unwrap().expected_votes(), 6);
    assert_eq!(ClusterConf::parse(&cluster(&[1, 2, 3], "expected_votes: 7")).unwrap().expected_votes(), 7);
    assert_eq!(reasons(&cluster(&[u32::MAX, 1], "")), [Reason::VotesOverflow]);
}

#[test]
fn a_node_that_joins_may_have_no_votes() {
    let conf = ClusterConf::parse(&cluster(&[1, 0], "last_man_standing: 1")).unwrap();
    assert_eq!((conf.nodes[1].votes, conf.expected_votes()), (0, 1));
}

#[test]
fn two_node_waits_for_all_unless_told_otherwise() {
    let implied = ClusterConf::parse(&cluster(&[1, 1], "two_node: 1")).unwrap();
    let told = ClusterConf::parse(&cluster(&[1, 1], "two_node: 1\nwait_for_all: 0")).unwrap();
    assert!(implied.quorum.wait_for_all && !told.quorum.wait_for_all);
}

#[test]
fn two_node_with_three_nodes_is_a_warning() {
    let conf = ClusterConf::parse(&cluster(&[1, 1, 1], "two_node: 1")).unwrap();
    assert_eq!(conf.warnings[0].reason, Reason::IgnoredWithNodes { nodes: 3 });
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    let conflict = |with| vec![Reason::Conflict { with }];
    assert_eq!(reasons(&cluster(&[1, 1], "two_node: 1\nauto_tie_breaker: 1")), conflict("auto_tie_breaker"));
    for option in ["two_node", "auto_tie_breaker", "last_man_standing", "allow_downscale"] {
        let quorum = format!("{option}: 1\ndevice {{\n model: net\n}}");
        assert_eq!(reasons(&cluster(&[1, 1], &quorum)), conflict("a quorum device"), "{option}");
    }
    let single = Reason::NeedsSingleVotes { node: "hp2".into(), votes: 2 };
    assert_eq!(reasons(&cluster(&[1, 2], "last_man_standing: 1")), [single]);
}

#[test]
fn a_tie_breaker_for_an_odd_number_of_votes_needs_wait_for_all() {
    assert_eq!(reasons(&cluster(&[1, 1, 1], "auto_tie_breaker: 1")), [Reason::OddTieBreaker { expected: 3 }]);
    assert!(reasons(&cluster(&[1, 1, 1], "auto_tie_breaker: 1\nwait_for_all: 1")).is_empty());
    assert!(reasons(&cluster(&[1, 1], "auto_tie_breaker: 1")).is_empty());
}

#[test]
fn tie_breaker_nodes_are_lowest_highest_or_a_list() {
    let node = |words: &str| {
        let quorum = format!("auto_tie_breaker: 1\nauto_tie_breaker_node: {words}");
        ClusterConf::parse(&cluster(&[1, 1], &quorum)).unwrap().quorum.auto_tie_breaker
    };
    let ids = [3, 1].map(|id| NodeId::new(id).unwrap()).to_vec();
    assert_eq!(node("lowest"), Some(TieBreaker::Lowest));
    assert_eq!(node("highest"), Some(TieBreaker::Highest));
    assert_eq!(node("3  1"), Some(TieBreaker::List(ids)));
}

#[test]
fn before_a_join_every_node_needs_every_link() {
    let text = cluster(&[1, 1], "").replace("ring0_addr: 10.0.0.2", "ring0_addr: 10.0.0.2\nring1_addr: hp2");
    let check = ClusterConf::parse(&text.replace("secauth: on", "secauth: off")).unwrap().check_for_join();

    let errors: Vec<_> = check.errors.into_iter().map(|error| error.reason).collect();
    assert_eq!(errors, [Reason::LinkWithoutAddress { node: "hp1".into(), link: 1 }]);
    let warnings: Vec<_> = check.warnings.into_iter().map(|warning| warning.reason).collect();
    assert_eq!(warnings, [Reason::Unprotected, Reason::HostName { value: "hp2".into() }]);
}

#[test]
fn with_interface_sections_they_say_which_links_there_are() {
    let text = SEED_165.replace("ringnumber: 1", "ringnumber: 2");
    let errors = ClusterConf::parse(&text).unwrap().check_for_join().errors;

    assert_eq!(errors.len(), 4);
    assert_eq!(errors[0].reason, Reason::LinkWithoutInterface { node: "pvecm1".into(), link: 1 });
    assert_eq!(errors[1].reason, Reason::LinkWithoutAddress { node: "pvecm1".into(), link: 2 });
}

#[test]
fn the_lowest_free_node_id_is_found() {
    let text = cluster(&[1, 1], "").replace("nodeid: 1", "nodeid: 3");
    assert_eq!(ClusterConf::parse(&text).unwrap().free_node_id().map(NodeId::get), Some(1));
}

#[test]
fn secauth_is_aes256_and_sha256_and_each_half_can_be_overridden() {
    let protection = |lines: &str| {
        let text = cluster(&[1], "").replace("secauth: on", lines);
        ClusterConf::parse(&text).map(|conf| conf.totem.protection)
    };
    assert_eq!(protection("secauth: on"), Ok(Protection::SECAUTH));
    assert_eq!(protection("secauth: off"), Ok(Protection::default()));
    let lighter = Protection { cipher: Cipher::Aes128, hash: Hash::Sha256 };
    assert_eq!(protection("secauth: on\n crypto_cipher: aes128"), Ok(lighter));
    let signed = Protection { cipher: Cipher::None, hash: Hash::Sha512 };
    assert_eq!(protection("crypto_hash: sha512"), Ok(signed));
    for bad in
        ["crypto_cipher: aes256", "crypto_cipher: rot13\n crypto_hash: md5", "secauth: on\n transport: udpu"]
    {
        assert_eq!(protection(bad).map_err(|errors| errors.0.len()), Err(1), "{bad}");
    }
}

#[test]
fn the_modes_of_older_files_are_those_of_links() {
    let mode = |line: &str| {
        let text = cluster(&[1], "").replace("secauth: on", line);
        ClusterConf::parse(&text).map(|conf| conf.totem.link_mode).ok()
    };
    assert_eq!(mode("link_mode: rr"), Some(LinkMode::RoundRobin));
    assert_eq!(mode("rrp_mode: active"), Some(LinkMode::Active));
    assert_eq!(mode("rrp_mode: none"), Some(LinkMode::Passive));
    assert_eq!(mode("rrp_mode: active\n link_mode: passive"), Some(LinkMode::Passive));
    assert_eq!(mode("link_mode: bogus"), None);
}

#[test]
fn several_links_need_knet() {
    let text = cluster(&[1], "").replace("10.0.0.1", "10.0.0.1\n ring1_addr: 10.0.1.1");
    assert_eq!(reasons(&text), []);
    let text = text.replace("secauth: on", "transport: udpu");
    assert_eq!(reasons(&text), [Reason::SingleLink { transport: Transport::Udpu }]);
}

#[test]
fn the_ring_runs_in_real_time_unless_the_file_says_no() {
    let text = cluster(&[1], "");
    assert!(ClusterConf::parse(&text).unwrap().sched_rr);
    let text = text + "system {\n sched_rr: no\n}\n";
    assert!(!ClusterConf::parse(&text).unwrap().sched_rr);
}
