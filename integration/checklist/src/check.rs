//! Whether what the table names is there.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    LINES,
    markdown::{commands, sections},
    proof::Proof,
    rust::{Found, find_test},
    table::Table,
};

/// Where the pages lie whose commands are run, and the test that runs them.
const HANDBOOK: &str = "docs/handbook/";

/// All that is wrong with the table, one line each: numbers that are missing or doubled, proofs that are not there, more
/// open rows than its head allows. Files are looked for below `top`.
#[must_use]
pub fn check(table: &Table, top: &Path) -> Vec<String> {
    let mut wrong = numbers(table);
    let mut files = Files { top, texts: BTreeMap::new() };
    for row in &table.rows {
        let faults = row.proofs.iter().filter_map(|proof| {
            let fault = files.fault(proof)?;
            Some(format!("row {}: {proof}: {fault}", row.number))
        });
        wrong.extend(faults);
    }
    let open = table.open().len();
    if open > table.open_max {
        wrong
            .push(format!("{open} rows are open, and the head allows {}: prove one of them", table.open_max));
    }
    wrong
}

fn numbers(table: &Table) -> Vec<String> {
    let count = |number: u16| table.rows.iter().filter(|row| row.number == number).count();
    let known = 1..=LINES;
    let counted = known.clone().map(|number| (number, count(number))).filter(|(_, count)| *count != 1);
    let wrong = counted.map(|(number, count)| format!("row {number} is there {count} times"));
    let strange = table.rows.iter().filter(|row| !known.contains(&row.number));
    wrong.chain(strange.map(|row| format!("row {}: the document has {LINES} lines", row.number))).collect()
}

/// The files that proofs name, each read once.
struct Files<'a> {
    top: &'a Path,
    texts: BTreeMap<String, Option<String>>,
}

impl Files<'_> {
    fn text(&mut self, file: &str) -> Option<&str> {
        let read = || fs::read_to_string(self.top.join(file)).ok();
        self.texts.entry(file.to_owned()).or_insert_with(read).as_deref()
    }

    /// Why this proves nothing; `None` if it does, or says itself that it does not.
    fn fault(&mut self, proof: &Proof) -> Option<String> {
        match proof {
            Proof::Open { .. } => None,
            Proof::Test { file, name } => match self.text(file).map(|text| find_test(text, name)) {
                None => Some("no such file".to_owned()),
                Some(Found::Missing) => Some("no such function".to_owned()),
                Some(Found::NoTest) => Some("the function is no test".to_owned()),
                Some(Found::Ignored) => Some("the test is ignored".to_owned()),
                Some(Found::Test) => None,
            },
            Proof::Doc { file, heading, words } => {
                let section = match self.section(file, heading) {
                    Ok(section) => even(&section),
                    Err(fault) => return Some(fault),
                };
                let missing = words.iter().find(|words| !section.contains(&even(words)))?;
                Some(format!("the section does not say \"{missing}\""))
            }
            Proof::Step { file, words } => {
                let Some(script) = self.text(file) else { return Some("no such file".to_owned()) };
                let mut steps = script.lines().filter(|line| line.starts_with("step \""));
                let is_there = steps.any(|step| step.contains(words.as_str()));
                (!is_there).then(|| "the script has no such step".to_owned())
            }
            Proof::Run { file, heading, command } => {
                if !file.starts_with(HANDBOOK) {
                    return Some(format!("only the commands of {HANDBOOK} are run"));
                }
                let section = match self.section(file, heading) {
                    Ok(section) => section,
                    Err(fault) => return Some(fault),
                };
                let is_there = commands(&section).iter().any(|found| found.starts_with(command.as_str()));
                (!is_there).then(|| "no console block with this command".to_owned())
            }
        }
    }

    fn section(&mut self, file: &str, heading: &str) -> Result<String, String> {
        let text = self.text(file).ok_or("no such file")?;
        if heading.is_empty() {
            return Ok(text.to_owned());
        }
        let section = sections(text).into_iter().find(|section| section.anchor == heading);
        section.map(|section| section.text).ok_or_else(|| "no such heading".to_owned())
    }
}

/// Words one blank apart, in lower case: line breaks and capitals do not matter.
fn even(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(proof: &str) -> Vec<String> {
        let page = format!("Open: 0\n| 1 | B | a | {proof} |\n");
        let table = Table::read(&page).expect("a table");
        let found = check(&table, &style_tests::top());
        found
            .into_iter()
            .filter(|fault| fault.starts_with("row 1:") || fault.contains("head allows"))
            .collect()
    }

    #[test]
    fn what_is_there_proves_and_what_is_not_is_named() {
        let here = "integration/checklist/src/check.rs";
        let name = "what_is_there_proves_and_what_is_not_is_named";
        assert_eq!(faults(&format!("test {here} {name}")), [""; 0]);
        assert!(faults(&format!("test {here} no_such_test"))[0].contains("no such function"));
        assert!(faults(&format!("test {here} faults"))[0].contains("no test"));
        assert!(faults("test nowhere.rs a")[0].contains("no such file"));
        assert_eq!(faults("doc docs/glossary.md#glossary \"the field's  OWN words\""), [""; 0]);
        assert!(faults("doc docs/glossary.md#glossary \"not said there\"")[0].contains("does not say"));
        assert!(faults("doc docs/glossary.md#nowhere \"a\"")[0].contains("no such heading"));
        assert!(faults("run docs/testing.md \"cargo\"")[0].contains("only the commands"));
        let script = "integration/systemd/inside.sh";
        assert_eq!(faults(&format!("step {script} \"systemctl restart corosync\"")), [""; 0]);
        assert!(faults(&format!("step {script} \"set -eu\""))[0].contains("no such step"));
        assert!(faults("open \"all of it\"")[0].contains("the head allows 0"));
    }

    #[test]
    fn every_number_is_there_once() {
        let page =
            "Open: 9\n| 2 | B | a | open \"a\" |\n| 2 | B | a | open \"a\" |\n| 900 | B | a | open \"a\" |\n";
        let table = Table::read(page).expect("a table");
        let wrong = check(&table, &style_tests::top());
        assert_eq!(wrong.iter().filter(|fault| fault.contains("0 times")).count(), usize::from(LINES) - 1);
        assert!(wrong.iter().any(|fault| fault == "row 2 is there 2 times"), "{wrong:?}");
        assert!(wrong.iter().any(|fault| fault.starts_with("row 900:")), "{wrong:?}");
    }
}
