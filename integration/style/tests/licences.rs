//! What is built has licences that we allow, and comes from where we allow it: `deny.toml` without `cargo deny`.

use style_tests::licences::Rules;

#[test]
fn every_crate_of_the_lock_file_is_one_that_deny_toml_allows() {
    let rules = Rules::load().expect("deny.toml is understood");
    let packages = rules.locked().unwrap_or_else(|error| panic!("{error}"));
    assert!(packages.iter().any(|package| package.source.is_some()), "cargo names no crate from outside");
    let refused = rules.refused(&packages).expect("the allowed licences are licences");
    assert!(refused.is_empty(), "refused by deny.toml:\n  {}", refused.join("\n  "));
}
