//! The rules of votequorum, case by case: see `tests/data`. After every step no two parts are quorate.

mod support;

use support::table;

macro_rules! tables {
    ($($name:ident,)*) => {
        const TABLES: &[&str] = &[$(stringify!($name),)*];
        $(
            #[test]
            fn $name() {
                table::run(stringify!($name), include_str!(concat!("data/", stringify!($name), ".txt")));
            }
        )*
    };
}

tables! {
    majority,
    uneven_votes,
    two_node,
    wait_for_all,
    last_man_standing,
    auto_tie_breaker,
    expected_override,
    nodes_come_and_go,
    allow_downscale,
    tracking,
    restarts,
    quorum_device,
    messages,
}

#[test]
fn every_table_is_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let files =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for file in files.filter(|file| file.ends_with(".txt")) {
        assert!(TABLES.contains(&file.trim_end_matches(".txt")), "{file} is not in the list");
    }
}
