//! Tree to text, in the layout of today's `pvecm`.
//!
//! Inside every section keys and inner sections stand in one sequence sorted by name; repeated `node`
//! sections are sorted by their name, repeated `interface` sections by their number as text; other
//! repeated ones keep their order. Two spaces per level, a blank line after each outermost section.
//! Source: pvecm specification, 3.2.

use crate::tree::{Entry, Key, Section, Tree};

pub(crate) fn print(tree: &Tree) -> String {
    let mut text = String::new();
    for entry in sorted(&tree.root).entries {
        print_entry(&mut text, &entry, 0);
        if matches!(entry, Entry::Section(_)) {
            text.push('\n');
        }
    }
    text
}

/// The section as it is printed: sorted, and without line numbers.
pub(crate) fn sorted(section: &Section) -> Section {
    let mut entries: Vec<Entry> = section
        .entries
        .iter()
        .map(|entry| match entry {
            Entry::Key(key) => Entry::Key(Key { line: 0, ..key.clone() }),
            Entry::Section(inner) => Entry::Section(sorted(inner)),
        })
        .collect();
    entries.sort_by(|a, b| place(a).cmp(&place(b)));
    Section { name: section.name.clone(), line: 0, entries }
}

/// What an entry is sorted by: its name, then what tells repeated sections apart.
fn place(entry: &Entry) -> (&str, &str) {
    match entry {
        Entry::Key(key) => (&key.key, ""),
        Entry::Section(section) => {
            let value = |a: &str, b: &str| section.value(a).or_else(|| section.value(b)).unwrap_or("");
            let which = match section.name.as_str() {
                "node" => value("name", "ring0_addr"),
                "interface" => value("linknumber", "ringnumber"),
                _ => "",
            };
            (&section.name, which)
        }
    }
}

fn print_entry(text: &mut String, entry: &Entry, depth: usize) {
    let indent = "  ".repeat(depth);
    match entry {
        Entry::Key(Key { key, value, .. }) => {
            text.push_str(&format!("{indent}{key}: {value}\n"));
        }
        Entry::Section(section) => {
            text.push_str(&format!("{indent}{} {{\n", section.name));
            for inner in &section.entries {
                print_entry(text, inner, depth + 1);
            }
            text.push_str(&format!("{indent}}}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Tree;

    #[test]
    fn keys_and_sections_stand_in_one_sorted_sequence() {
        let tree = Tree::parse(
            "totem {\n version: 2\n interface {\n linknumber: 10\n }\n interface {\n linknumber: 0\n }\n \
             cluster_name: x\n}\nlogging {\n debug: off\n}\n",
        )
        .unwrap();

        assert_eq!(
            tree.print(),
            "logging {\n  debug: off\n}\n\ntotem {\n  cluster_name: x\n  interface {\n    linknumber: 0\n  \
             }\n  interface {\n    linknumber: 10\n  }\n  version: 2\n}\n\n"
        );
    }
}
