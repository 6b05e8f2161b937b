//! Any text is read or refused without a panic, and what was read survives being written.

use corosync_conf::{ClusterConf, Tree};
use proptest::prelude::*;

/// Lines that are often, but not always, part of a configuration.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-c]{1,2}[ ]?: ?[a-z #:}.]{0,8}",
        2 => "(node|interface|totem|nodelist|quorum|x) \\{",
        3 => Just("}".to_owned()),
        1 => "(name|nodeid|linknumber|token|config_version|ring0_addr|quorum_votes|two_node): [a-z0-9.]{1,4}",
        1 => "[ \\t]*#.{0,6}",
        1 => "\\PC{0,10}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        _ = ClusterConf::parse(&text);
    }

    #[test]
    fn what_is_printed_reads_as_the_same_tree(lines in prop::collection::vec(line(), 0..40)) {
        // Drop lines that are refused, until the rest is a configuration.
        let mut lines = lines;
        let tree = loop {
            match Tree::parse(&lines.join("\n")) {
                Ok(tree) => break tree,
                Err(error) => _ = lines.remove(error.line as usize - 1),
            }
        };
        _ = ClusterConf::from_tree(&tree);

        let printed = tree.print();
        let again = Tree::parse(&printed).expect("what is printed can be read");

        prop_assert_eq!(again.canonical(), tree.canonical());
        prop_assert_eq!(again.print(), printed);
    }

    #[test]
    fn what_set_takes_is_read_back(value in "[a #{}:\\n\\r\\t\u{a0}-\u{ff}]{0,6}") {
        let mut tree = Tree::default();
        if tree.set("a.b", &value).is_ok() {
            let again = Tree::parse(&tree.print()).expect("what is printed can be read");
            prop_assert_eq!(again.value("a.b"), Some(value.as_str()));
        }
    }
}
