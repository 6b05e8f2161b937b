//! The configuration as written: sections and keys with the line each stands on, nothing interpreted.

use crate::{ConfError, Reason, parse, print};

/// A configuration as sections and keys. Keeps what it does not know; comments are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// The outermost level: a section without a name, on line 0.
    pub root: Section,
}

/// A section: a name and what its braces hold, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// The word before the brace.
    pub name: String,
    /// Line of the opening brace, from 1; 0 for the root and for sections added by an edit.
    pub line: u32,
    /// Keys and inner sections.
    pub entries: Vec<Entry>,
}

/// One line or one inner section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `key: value`
    Key(Key),
    /// `name { .. }`
    Section(Section),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The word before the first colon.
    pub key: String,
    /// The text after it, without spaces at its ends; may hold spaces inside.
    pub value: String,
    /// Its line, from 1; 0 for keys added by an edit.
    pub line: u32,
}

impl Tree {
    /// Reads a configuration.
    ///
    /// # Errors
    /// The first line that does not follow the grammar (see the crate's documentation).
    pub fn parse(text: &str) -> Result<Self, ConfError> {
        parse::parse(text)
    }

    /// The configuration as text, in the layout that today's `pvecm` writes: keys and sections sorted,
    /// two spaces of indentation, a blank line after each outermost section.
    #[must_use]
    pub fn print(&self) -> String {
        print::print(self)
    }

    /// The same configuration as it comes back from its own print: sorted, without line numbers. Two
    /// trees mean the same when their canonical forms are equal.
    #[must_use]
    pub fn canonical(&self) -> Self {
        Self { root: print::sorted(&self.root) }
    }

    /// All sections at a path such as `nodelist.node`, in the order of the text.
    #[must_use]
    pub fn sections(&self, path: &str) -> Vec<&Section> {
        path.split('.').fold(vec![&self.root], |level, name| {
            level.iter().flat_map(|section| section.sections(name)).collect()
        })
    }

    /// The value at a path such as `totem.cluster_name`; the last one if it is there more than once.
    #[must_use]
    pub fn value(&self, path: &str) -> Option<&str> {
        let (sections, key) = match path.rsplit_once('.') {
            Some((section, key)) => (self.sections(section), key),
            None => (vec![&self.root], path),
        };
        sections.iter().rev().find_map(|section| section.value(key))
    }
}

impl std::str::FromStr for Tree {
    type Err = ConfError;

    fn from_str(text: &str) -> Result<Self, ConfError> {
        Self::parse(text)
    }
}

impl std::fmt::Display for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.print())
    }
}

impl Section {
    /// An empty section, to be added by an edit.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), line: 0, entries: Vec::new() }
    }

    /// The inner sections of this name.
    pub fn sections<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a Section> + use<'a, 'n> {
        self.entries.iter().filter_map(move |entry| match entry {
            Entry::Section(section) if section.name == name => Some(section),
            _ => None,
        })
    }

    /// The keys, without those of inner sections.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Key> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Key(key) => Some(key),
            Entry::Section(_) => None,
        })
    }

    /// The key of this name; the last one if it is there more than once, as corosync has it.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys().rev().find(|key| key.key == name)
    }

    /// The value of the key of this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.key(name).map(|key| key.value.as_str())
    }

    /// Sets a key to a value, in place of all earlier ones of that name.
    ///
    /// # Errors
    /// [`Reason::KeyCharacters`], [`Reason::NoValue`] or [`Reason::UnwritableValue`] if the text could not
    /// be read back; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfError> {
        let wrong = |reason| Err(ConfError::new(0, name, reason));
        if !parse::is_key(name) {
            return wrong(Reason::KeyCharacters);
        }
        if value.is_empty() {
            return wrong(Reason::NoValue);
        }
        if !parse::is_value(value) {
            return wrong(Reason::UnwritableValue { value: value.to_owned() });
        }
        let line = self.key(name).map_or(0, |key| key.line);
        self.remove(name);
        self.entries.push(Entry::Key(Key { key: name.to_owned(), value: value.to_owned(), line }));
        Ok(())
    }

    /// Removes all keys of this name; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !matches!(entry, Entry::Key(key) if key.key == name));
        self.entries.len() < before
    }

    /// The first inner section of this name, added if there is none.
    pub fn section_mut(&mut self, name: &str) -> &mut Section {
        let is_it = |entry: &Entry| matches!(entry, Entry::Section(section) if section.name == name);
        let position = self.entries.iter().position(is_it).unwrap_or_else(|| {
            self.entries.push(Entry::Section(Section::new(name)));
            self.entries.len() - 1
        });
        match &mut self.entries[position] {
            Entry::Section(section) => section,
            Entry::Key(_) => unreachable!("the position was chosen among sections"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_given_twice_counts_with_its_last_value() {
        let tree = Tree::parse("totem {\n token: 1\n token: 2\n}\ntotem {\n join: 3\n}\n").unwrap();
        assert_eq!(tree.value("totem.token"), Some("2"));
        assert_eq!(tree.value("totem.join"), Some("3"));
        assert_eq!(tree.sections("totem").len(), 2);
    }

    #[test]
    fn set_refuses_what_could_not_be_read_back() {
        let mut section = Section::new("totem");
        assert!(matches!(section.set("a b", "1"), Err(ConfError { reason: Reason::KeyCharacters, .. })));
        assert!(matches!(section.set("a", ""), Err(ConfError { reason: Reason::NoValue, .. })));
        for value in ["a\nb", " a", "a {", "a #b", "#a"] {
            let result = section.set("a", value);
            assert!(
                matches!(result, Err(ConfError { reason: Reason::UnwritableValue { .. }, .. })),
                "{value}"
            );
        }
        assert!(section.set("a", "b: c#d }").is_ok());
    }
}
