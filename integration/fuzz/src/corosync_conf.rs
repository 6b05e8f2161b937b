//! Any text is read or refused; what was read is printed so that it reads as the same.

use corosync_conf::{ClusterConf, Tree};

use crate::heap;

/// See the module.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    heap::within(256 * 1024 + 2048 * input.len(), || {
        let whole = ClusterConf::parse(text);
        let Ok(tree) = Tree::parse(text) else {
            assert!(whole.is_err());
            return;
        };
        let printed = tree.print();
        let again = Tree::parse(&printed).expect("what is printed can be read");
        assert_eq!(again.canonical(), tree.canonical());
        assert_eq!(again.print(), printed);
        assert_eq!(ClusterConf::from_tree(&again).is_ok(), whole.is_ok());
    });
}
