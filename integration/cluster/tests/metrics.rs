//! A node's page of metrics has exactly the names that `docs/operations/observability.md` tells, and shows a write and
//! the loss of nodes.

use std::{collections::BTreeSet, fs, path::Path};

use cluster_tests::{Lab, cli, metrics::Page, wait};
use playground::Node;

/// Documented, but on a page only while it is so.
const ONLY_WHEN_IT_HAPPENS: [&str; 1] = ["gateway_removed_node_transmitting"];

async fn page(node: &Node) -> Page {
    wait::until("the page of metrics", async || Page::of(node).await).await
}

/// Waits until samples of a page have these values.
async fn shows(node: &Node, expected: &[(&str, f64)]) {
    wait::until(&format!("{} shows {expected:?}", node.name()), async || {
        let page = Page::of(node).await?;
        let seen: Vec<_> = expected.iter().map(|(sample, _)| page.value(sample)).collect();
        let is_equal = expected.iter().zip(&seen).all(|((_, wanted), seen)| *seen == Some(*wanted));
        if is_equal { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// The names of the first column of the documentation's table, braces expanded, labels cut.
fn documented() -> BTreeSet<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text =
        fs::read_to_string(here.join("../../docs/operations/observability.md")).expect("the page is there");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    // The table of alerts has its own test.
    let rows = rows.filter(|cell| !cell.starts_with("Quorate"));
    let names = rows.flat_map(|cell| cell.split(", ").map(|name| name.trim_matches('`').to_owned()));
    names
        .flat_map(|name| {
            expanded(name.strip_suffix('}').map_or(&*name, |name| &name[..name.rfind('{').unwrap_or(0)]))
        })
        .collect()
}

/// `a_{b,c}_d` is `a_b_d` and `a_c_d`.
fn expanded(name: &str) -> Vec<String> {
    let Some((head, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let (alternatives, tail) = rest.split_once('}').expect("a brace is closed");
    let one = |alternative: &str| expanded(&format!("{head}{alternative}{tail}"));
    alternatives.split(',').flat_map(one).collect()
}

/// The family of a sample: what the documentation names.
fn family(sample: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix)).unwrap_or(sample)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_the_documented_names_and_no_others() {
    let lab = Lab::cluster(3).await;
    let page = page(lab.node(1)).await;
    let seen: BTreeSet<String> = page.names().map(|sample| family(sample).to_owned()).collect();
    let mut documented = documented();
    documented.retain(|name| !ONLY_WHEN_IT_HAPPENS.contains(&name.as_str()));
    assert!(documented.len() > 20, "the table was read: {documented:?}");
    documented.insert("quorate_daemon_up".to_owned());

    let missing: Vec<_> = documented.difference(&seen).collect();
    let untold: Vec<_> = seen.difference(&documented).collect();
    assert!(
        missing.is_empty() && untold.is_empty(),
        "documented, not there: {missing:?}; not documented: {untold:?}"
    );
    for daemon in ["membershipd", "quorumd", "configd", "gatewayd"] {
        let up = format!("quorate_daemon_up{{daemon=\"{daemon}\"}}");
        assert_eq!(page.value(&up), Some(1.0), "{daemon}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_counted_on_every_node_and_its_call_on_the_one_that_was_asked() {
    const PUTS: &str = "store_operations_total{daemon=\"configd\",operation=\"put\",applied=\"yes\"}";
    const VERSION: &str = "store_version{daemon=\"configd\"}";
    let lab = Lab::cluster(3).await;
    let mut before = Vec::new();
    for node in lab.all() {
        before.push(page(node).await);
    }

    cli::done(lab.node(2), &["cfg", "put", "counted", "/etc/hostname"]).await;

    for (node, before) in lab.all().into_iter().zip(&before) {
        // Creating and joining writes in transactions: there may have been no put before.
        let one_more = |sample| (sample, before.value(sample).unwrap_or(0.0) + 1.0);
        shows(node, &[one_more(PUTS), one_more(VERSION), ("store_writable{daemon=\"configd\"}", 1.0)]).await;
        let calls = ["rpc_server_call_duration_seconds_count", "daemon=\"configd\"", "ConfigService/Put"];
        let asked = page(node).await.sum(&calls) - before.sum(&calls);
        assert_eq!(asked, if node.name() == "hp2" { 1.0 } else { 0.0 }, "{}", node.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_one_node_and_of_two_is_shown() {
    const SEQUENCE: &str = "membership_ring_sequence{daemon=\"membershipd\"}";
    let lab = Lab::cluster(3).await;
    let first = lab.node(1);
    let before = page(first).await;

    lab.node(3).kill(None).await.expect("the node runs");
    let one_lost = [
        ("membership_ring_members{daemon=\"membershipd\"}", 2.0),
        ("quorum_members{daemon=\"quorumd\"}", 2.0),
        ("quorum_votes_total{daemon=\"quorumd\"}", 2.0),
        ("quorum_votes_needed{daemon=\"quorumd\"}", 2.0),
        ("quorum_quorate{daemon=\"quorumd\"}", 1.0),
        ("store_writable{daemon=\"configd\"}", 1.0),
    ];
    shows(first, &one_lost).await;
    let then = page(first).await;
    assert!(then.value(SEQUENCE) > before.value(SEQUENCE), "a new ring has a higher sequence");

    lab.node(2).kill(None).await.expect("the node runs");
    let two_lost = [
        ("membership_ring_members{daemon=\"membershipd\"}", 1.0),
        ("quorum_votes_total{daemon=\"quorumd\"}", 1.0),
        ("quorum_votes_expected{daemon=\"quorumd\"}", 3.0),
        ("quorum_quorate{daemon=\"quorumd\"}", 0.0),
        ("store_writable{daemon=\"configd\"}", 0.0),
    ];
    shows(first, &two_lost).await;
    const CHANGES: &str = "quorum_changes_total{daemon=\"quorumd\"}";
    let lost = page(first).await.value(CHANGES).zip(then.value(CHANGES)).map(|(now, then)| now - then);
    assert_eq!(lost, Some(1.0), "quorum was lost once");
}
