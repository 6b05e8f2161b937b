//! The table is complete, and every proof that it names is there.

use std::fs;

use checklist::{Table, check};

fn table() -> Table {
    let path = style_tests::top().join("integration/checklist/table.md");
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Table::read(&page).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_line_of_the_document_is_proven_or_counted_as_open() {
    let table = table();
    let wrong = check(&table, &style_tests::top());
    assert!(wrong.is_empty(), "the table is wrong:\n  {}", wrong.join("\n  "));
    for row in table.open() {
        println!("open: {} {}", row.number, row.asks);
    }
}
