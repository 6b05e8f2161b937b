//! A machine's configuration file.
//!
//! Lines of `key: value`; before them `#` lines, which are the description; after them sections: `[PENDING]` holds what
//! takes effect at the next start, others (snapshots, `[special:...]`) are kept as they are. So is every line that is not
//! understood, and every key that is not known: somebody else's tools may know it.
//!
//! Printing sorts: description, keys, lines that were not understood, pending changes, the other sections.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Key of a pending removal.
const DELETE: &str = "delete";
/// Key under which the description is set and shown.
pub const DESCRIPTION: &str = "description";

/// Why a text is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A section stands twice.
    #[error("line {line}: the section [{section}] stands twice")]
    SectionTwice {
        /// The line, from 1.
        line: usize,
        /// The section.
        section: String,
    },
    /// It is no text.
    #[error("it is no UTF-8")]
    NoText,
}

/// A machine's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmConfig {
    description: String,
    values: BTreeMap<String, String>,
    not_understood: Vec<String>,
    pending: BTreeMap<String, String>,
    pending_delete: BTreeSet<String>,
    sections: Vec<Section>,
}

/// A section that is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    name: String,
    lines: Vec<String>,
}

/// Where the next line belongs.
enum Place {
    Current,
    Pending,
    Section,
}

impl VmConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::NoText)?;
        let mut config = Self::default();
        let mut place = Place::Current;
        let mut pending_seen = false;
        for (index, line) in text.lines().enumerate() {
            if let Some(name) = section(line) {
                let twice = || ConfigError::SectionTwice { line: index + 1, section: name.to_owned() };
                place = if name.eq_ignore_ascii_case("pending") {
                    if std::mem::replace(&mut pending_seen, true) {
                        return Err(twice());
                    }
                    Place::Pending
                } else {
                    if config.sections.iter().any(|section| section.name == name) {
                        return Err(twice());
                    }
                    config.sections.push(Section { name: name.to_owned(), lines: Vec::new() });
                    Place::Section
                };
                continue;
            }
            config.add(&place, line);
        }
        Ok(config)
    }

    fn add(&mut self, place: &Place, line: &str) {
        let line = line.trim_end();
        if let Place::Section = place {
            let section = self.sections.last_mut().expect("the place is a section after one was begun");
            return section.lines.push(line.to_owned());
        }
        if line.trim().is_empty() {
            return;
        }
        let is_pending = matches!(place, Place::Pending);
        match (line.strip_prefix('#'), entry(line)) {
            (Some(text), _) if !is_pending => {
                if !self.description.is_empty() {
                    self.description.push('\n');
                }
                self.description.push_str(&decode(text));
            }
            (None, Some((key, value))) if is_pending && key == DELETE => {
                let keys = value.split(',').map(str::trim).filter(|key| is_key(key)).map(str::to_owned);
                self.pending_delete.extend(keys);
            }
            (None, Some((key, value))) => {
                let values = if is_pending { &mut self.pending } else { &mut self.values };
                values.insert(key.to_owned(), value.to_owned());
            }
            _ if !is_pending => self.not_understood.push(line.to_owned()),
            _ => {}
        }
    }

    /// A value that is in effect.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        if key == DESCRIPTION {
            return Some(self.description.as_str()).filter(|text| !text.is_empty());
        }
        self.values.get(key).map(String::as_str)
    }

    /// A value as a number; the default if it is absent or none.
    #[must_use]
    pub fn number(&self, key: &str, default: u64) -> u64 {
        self.get(key).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// A value as a boolean; false if it is absent or none.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(crate::property::boolean).unwrap_or(false)
    }

    /// The lock; `None` if there is none.
    #[must_use]
    pub fn lock(&self) -> Option<&str> {
        self.get("lock").filter(|lock| !lock.is_empty())
    }

    /// What is in effect, by key, with the description.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, String> {
        let mut entries = self.values.clone();
        if !self.description.is_empty() {
            entries.insert(DESCRIPTION.to_owned(), self.description.clone());
        }
        entries
    }

    /// Keys and values that are in effect, without the description.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Sets a value at once; a pending change of it is forgotten.
    pub fn set(&mut self, key: &str, value: &str) {
        self.forget_pending(key);
        if key == DESCRIPTION {
            value.trim_matches(['\n', '\r', ' ']).clone_into(&mut self.description);
        } else {
            self.values.insert(key.to_owned(), value.trim().to_owned());
        }
    }

    /// Removes a value at once; a pending change of it is forgotten.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        self.forget_pending(key);
        if key == DESCRIPTION {
            return Some(std::mem::take(&mut self.description)).filter(|text| !text.is_empty());
        }
        self.values.remove(key)
    }

    /// Sets a value from the next start on.
    pub fn set_pending(&mut self, key: &str, value: &str) {
        self.forget_pending(key);
        if self.get(key) != Some(value.trim()) {
            self.pending.insert(key.to_owned(), value.trim().to_owned());
        }
    }

    /// Removes a value from the next start on.
    pub fn remove_pending(&mut self, key: &str) {
        self.forget_pending(key);
        if self.get(key).is_some() {
            self.pending_delete.insert(key.to_owned());
        }
    }

    fn forget_pending(&mut self, key: &str) {
        self.pending.remove(key);
        self.pending_delete.remove(key);
    }

    /// Keys whose change waits for the next start.
    #[must_use]
    pub fn pending_keys(&self) -> Vec<String> {
        self.pending.keys().cloned().chain(self.pending_delete.iter().cloned()).collect()
    }

    /// Puts pending changes into effect; says whether there were any.
    pub fn apply_pending(&mut self) -> bool {
        let any = !self.pending.is_empty() || !self.pending_delete.is_empty();
        for key in std::mem::take(&mut self.pending_delete) {
            self.remove(&key);
        }
        for (key, value) in std::mem::take(&mut self.pending) {
            self.set(&key, &value);
        }
        any
    }

    /// Names of the snapshots and other sections that are kept.
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|section| section.name.as_str())
    }
}

impl fmt::Display for VmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.description.is_empty() {
            for line in self.description.split('\n') {
                writeln!(f, "#{}", encode(line))?;
            }
        }
        for (key, value) in &self.values {
            writeln!(f, "{key}: {value}")?;
        }
        for line in &self.not_understood {
            writeln!(f, "{line}")?;
        }
        if !self.pending.is_empty() || !self.pending_delete.is_empty() {
            writeln!(f, "\n[PENDING]")?;
            if !self.pending_delete.is_empty() {
                let keys: Vec<&str> = self.pending_delete.iter().map(String::as_str).collect();
                writeln!(f, "{DELETE}: {}", keys.join(","))?;
            }
            for (key, value) in &self.pending {
                writeln!(f, "{key}: {value}")?;
            }
        }
        for Section { name, lines } in &self.sections {
            writeln!(f, "\n[{name}]")?;
            let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
            lines[..end].iter().try_for_each(|line| writeln!(f, "{line}"))?;
        }
        Ok(())
    }
}

/// The name of a section, if the line begins one.
fn section(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':');
    (begins && bytes.all(goes_on)).then_some(name)
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let value = value.trim();
    (is_key(key) && !value.is_empty()).then_some((key, value))
}

/// Whether this is the name of a key: small letters, `_` and `-`, then digits.
#[must_use]
pub fn is_key(text: &str) -> bool {
    let name = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    begins && name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
}

/// A line of a description as it stands in the file: all but printable ASCII, `%`, `:`, and blanks at the end, which editors
/// and readers drop, as `%XX`.
fn encode(line: &str) -> String {
    let mut out = String::new();
    let inner = line.trim_end_matches([' ', '\t']).len();
    for (index, byte) in line.bytes().enumerate() {
        let is_blank_at_end = index >= inner;
        let is_plain =
            matches!(byte, b'\t' | b' '..=b'~') && !matches!(byte, b'%' | b':') && !is_blank_at_end;
        if is_plain { out.push(byte.into()) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

fn decode(line: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = line.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let code =
            rest.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match code
            .filter(|digits| !digits.starts_with('+'))
            .and_then(|code| u8::from_str_radix(code, 16).ok())
        {
            Some(byte) => {
                out.push(byte);
                bytes = &rest[2..];
            }
            None => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "#web server%3A one\nmemory: 2048\nname: web1\nsomething-new: x,y=z\nvirtio0: local:100/vm-100-disk-0.raw\n\
        \n[PENDING]\ndelete: cores\nmemory: 4096\n\n[before]\nmemory: 512\nsnaptime: 1\n";

    fn parse(text: &str) -> VmConfig {
        VmConfig::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_file_is_read_and_printed_as_it_was_with_keys_that_nobody_knows() {
        let config = parse(FILE);
        assert_eq!(config.get("description"), Some("web server: one"));
        assert_eq!(config.get("something-new"), Some("x,y=z"));
        assert_eq!(config.number("memory", 0), 2048);
        assert_eq!(config.pending_keys(), ["memory", "cores"]);
        assert_eq!(config.section_names().collect::<Vec<_>>(), ["before"]);
        assert_eq!(config.to_string(), FILE);
    }

    #[test]
    fn lines_that_are_not_understood_stay() {
        let config = parse("Memory: 3\nmemory: 16\nnot a line\n[bad section\n");
        assert_eq!(config.to_string(), "memory: 16\nMemory: 3\nnot a line\n[bad section\n");
    }

    #[test]
    fn pending_changes_take_effect_together() {
        let mut config = parse("cores: 2\nmemory: 16\n");
        config.set_pending("memory", "32");
        config.remove_pending("cores");
        config.set_pending("name", "a");
        assert_eq!((config.get("memory"), config.get("name")), (Some("16"), None));
        assert!(config.apply_pending());
        assert_eq!(config.to_string(), "memory: 32\nname: a\n");
        assert!(!config.apply_pending());
    }

    #[test]
    fn a_change_that_is_none_does_not_wait() {
        let mut config = parse("memory: 16\n");
        config.set_pending("memory", "32");
        config.set_pending("memory", "16");
        config.remove_pending("cores");
        assert_eq!(config.pending_keys(), [""; 0]);
    }

    #[test]
    fn a_section_that_stands_twice_is_refused_with_its_line() {
        let twice = |text: &str| VmConfig::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(twice("[a]\n[a]\n"), "line 2: the section [a] stands twice");
        assert_eq!(twice("[PENDING]\n[pending]\n"), "line 2: the section [pending] stands twice");
        assert_eq!(VmConfig::parse(&[0xff]), Err(ConfigError::NoText));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(text in "(#?[a-z%: \\[\\]PENDIG0-9,=é\t.-]{0,12}\n){0,12}") {
            if let Ok(config) = VmConfig::parse(text.as_bytes()) {
                let printed = config.to_string();
                let again = VmConfig::parse(printed.as_bytes()).unwrap();
                prop_assert_eq!(again.to_string(), printed);
                prop_assert_eq!(again, config);
            }
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = VmConfig::parse(&bytes);
        }

        #[test]
        fn a_description_survives(text in "[ -~é%:\n]{0,40}") {
            let mut config = VmConfig::default();
            config.set(DESCRIPTION, &text);
            let again = VmConfig::parse(config.to_string().as_bytes()).unwrap();
            prop_assert_eq!(again.entries(), config.entries());
        }
    }
}
