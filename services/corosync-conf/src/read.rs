//! Values of sections as numbers, switches, words and names; what is wrong is collected, not returned.

use std::str::FromStr;

use crate::{ConfError, ConfErrors, Reason, Section, Tree, tree::Key};

/// Mistakes found so far.
#[derive(Default)]
pub(crate) struct Mistakes(Vec<ConfError>);

impl Mistakes {
    pub(crate) fn add(&mut self, line: u32, key: impl Into<String>, reason: Reason) {
        self.0.push(ConfError::new(line, key, reason));
    }

    /// The value, if nothing was wrong; else all mistakes by line, those without a line last.
    pub(crate) fn into_result<T>(mut self, value: Option<T>) -> Result<T, ConfErrors> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                self.0.sort_by_key(|mistake| mistake.line.wrapping_sub(1));
                Err(ConfErrors(self.0))
            }
        }
    }
}

/// One section, or all sections of a path taken together as corosync takes them.
pub(crate) struct Scope<'a> {
    path: String,
    sections: Vec<&'a Section>,
}

impl<'a> Scope<'a> {
    /// All sections at a path.
    pub(crate) fn all(tree: &'a Tree, path: &str) -> Self {
        Self { path: path.to_owned(), sections: tree.sections(path) }
    }

    /// One scope for each section at a path.
    pub(crate) fn each(tree: &'a Tree, path: &str) -> Vec<Self> {
        let one = |section| Self { path: path.to_owned(), sections: vec![section] };
        tree.sections(path).into_iter().map(one).collect()
    }

    pub(crate) fn is_there(&self) -> bool {
        !self.sections.is_empty()
    }

    /// Where the (last) section starts; 0 if there is none.
    pub(crate) fn line(&self) -> u32 {
        self.sections.last().map_or(0, |section| section.line)
    }

    /// The full path of a key in here.
    pub(crate) fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// The line of a key, or of the section if the key is not there.
    pub(crate) fn line_of(&self, key: &str) -> u32 {
        self.key(key).map_or(self.line(), |key| key.line)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.key(key).map(|key| key.value.as_str())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a Key> {
        self.sections.iter().flat_map(|section| section.keys())
    }

    /// A whole number of a range. The types of numbers here are those of corosync's key store.
    pub(crate) fn number<N: TryFrom<u64>>(
        &self,
        mistakes: &mut Mistakes,
        key: &str,
        (min, max): (u64, u64),
    ) -> Option<N> {
        let found = self.key(key)?;
        let number = found.value.parse().ok().filter(|number| (min..=max).contains(number));
        let number = number.and_then(|number| N::try_from(number).ok());
        if number.is_none() {
            let value = found.value.clone();
            mistakes.add(found.line, self.path(key), Reason::Number { value, min, max });
        }
        number
    }

    /// A number as most of corosync's: 32 bits.
    pub(crate) fn u32(&self, mistakes: &mut Mistakes, key: &str) -> Option<u32> {
        self.number(mistakes, key, (0, u32::MAX.into()))
    }

    /// 0 or 1.
    pub(crate) fn switch(&self, mistakes: &mut Mistakes, key: &str) -> Option<bool> {
        self.number(mistakes, key, (0, 1)).map(|number: u8| number == 1)
    }

    /// `yes` or `no`, `on` or `off`: the two pairs of words corosync takes for switches.
    pub(crate) fn word_switch(&self, mistakes: &mut Mistakes, key: &str) -> Option<bool> {
        let words = [("on", true), ("off", false), ("yes", true), ("no", false)];
        self.word(mistakes, key, "on, off, yes, no", &words)
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &self,
        mistakes: &mut Mistakes,
        key: &str,
        allowed: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let found = self.key(key)?;
        let meaning = words.iter().find(|(word, _)| *word == found.value).map(|(_, meaning)| *meaning);
        if meaning.is_none() {
            let value = found.value.clone();
            mistakes.add(found.line, self.path(key), Reason::Word { value, allowed });
        }
        meaning
    }

    /// A name with rules of its own.
    pub(crate) fn parsed<T: FromStr<Err: Into<Reason>>>(
        &self,
        mistakes: &mut Mistakes,
        key: &str,
    ) -> Option<T> {
        let found = self.key(key)?;
        match found.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                mistakes.add(found.line, self.path(key), error.into());
                None
            }
        }
    }

    /// Notes that a key must be there.
    pub(crate) fn require(&self, mistakes: &mut Mistakes, key: &str) {
        if self.key(key).is_none() {
            mistakes.add(self.line(), self.path(key), Reason::Missing);
        }
    }

    fn key(&self, key: &str) -> Option<&'a Key> {
        self.sections.iter().rev().find_map(|section| section.key(key))
    }
}
