//! `--KEY VALUE`: the keys of a configuration, and the few options that stand among them.

use quorate_proto::guest::v1::ConfigEntry;

use crate::error::Error;

/// What stood behind a machine's number.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Entries {
    /// Keys to set.
    pub(super) set: Vec<ConfigEntry>,
    /// Keys to remove.
    pub(super) delete: Vec<String>,
    /// The configuration must have this digest.
    pub(super) digest: String,
    /// Start the machine afterwards.
    pub(super) start: bool,
    /// Although it is locked.
    pub(super) skip_lock: bool,
}

/// Reads the words; all mistakes at once.
pub(super) fn read(words: &[String]) -> Result<Entries, Error> {
    let mut entries = Entries::default();
    let mut mistakes = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            mistakes.push(format!("'{word}' belongs to no option; --KEY VALUE is expected"));
            continue;
        };
        let (key, attached) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (option, None),
        };
        match key {
            "start" => entries.start = flag(attached, &mut words),
            "skiplock" => entries.skip_lock = flag(attached, &mut words),
            _ => match attached.or_else(|| words.next().cloned()) {
                Some(value) => put(&mut entries, key, value),
                None => mistakes.push(format!("--{key} has no value")),
            },
        }
    }
    if mistakes.is_empty() { Ok(entries) } else { Err(Error::Parameters(mistakes)) }
}

fn flag(attached: Option<String>, words: &mut std::slice::Iter<'_, String>) -> bool {
    let next = words.as_slice().first().filter(|word| matches!(word.as_str(), "0" | "1")).cloned();
    if attached.is_none() && next.is_some() {
        words.next();
    }
    !matches!(attached.or(next).as_deref(), Some("0" | "no" | "off" | "false"))
}

fn put(entries: &mut Entries, key: &str, value: String) {
    match key {
        "delete" => {
            entries.delete.extend(value.split([',', ' ']).filter(|key| !key.is_empty()).map(str::to_owned))
        }
        "digest" => entries.digest = value,
        _ => entries.set.push(ConfigEntry { key: key.to_owned(), value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Result<Entries, Error> {
        read(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn keys_values_and_options_are_told_apart() {
        let read = words(&[
            "--memory",
            "512",
            "-name=web1",
            "--args",
            "-device x",
            "--start",
            "--skiplock",
            "0",
            "--delete",
            "a,b",
        ]);
        let read = read.unwrap();
        let set: Vec<(&str, &str)> =
            read.set.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
        assert_eq!(set, [("memory", "512"), ("name", "web1"), ("args", "-device x")]);
        assert_eq!(
            (read.start, read.skip_lock, read.delete),
            (true, false, vec!["a".to_owned(), "b".to_owned()])
        );
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let Err(Error::Parameters(mistakes)) = words(&["memory", "--name"]) else { panic!("refused") };
        assert_eq!(
            mistakes,
            ["'memory' belongs to no option; --KEY VALUE is expected", "--name has no value"]
        );
    }
}
