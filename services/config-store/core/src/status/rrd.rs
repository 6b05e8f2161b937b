//! The newest figures of nodes, guests and storages, whoever told them. Source: pmxcfs specification, section 4.5.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::StatusError;

/// Longest figures of one key in bytes, without the zero byte that pmxcfs counts.
pub const RRD_VALUE_MAX: usize = 4094;
/// How long figures are shown after they came.
pub const RRD_LIFETIME: Duration = Duration::from_secs(300);
/// Most keys: figures of more are not kept.
const KEYS_MAX: usize = 65_536;
/// Between two searches for figures that are too old.
const SWEEP: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Figures {
    came: Instant,
    text: Bytes,
}

/// All figures that are not too old.
#[derive(Debug, Default)]
pub(super) struct RrdTable {
    keys: BTreeMap<String, Figures>,
    swept: Option<Instant>,
}

/// Figures without the zero byte that clients of pmxcfs send with them.
pub(super) fn check(key: &str, mut figures: Bytes) -> Result<Bytes, StatusError> {
    if figures.last() == Some(&0) {
        figures.truncate(figures.len() - 1);
    }
    if figures.len() > RRD_VALUE_MAX {
        return Err(StatusError::FiguresTooLarge { key: key.to_owned(), size: figures.len() });
    }
    match std::str::from_utf8(&figures) {
        Ok(text) if !text.contains(char::is_control) => Ok(figures),
        _ => Err(StatusError::FiguresInvalid { key: key.to_owned() }),
    }
}

impl RrdTable {
    /// Keeps figures; without any, the key is forgotten.
    pub(super) fn insert(&mut self, now: Instant, key: &str, text: Bytes) {
        self.sweep(now);
        if text.is_empty() {
            self.keys.remove(key);
        } else if let Some(known) = self.keys.get_mut(key) {
            *known = Figures { came: now, text };
        } else if self.keys.len() < KEYS_MAX {
            self.keys.insert(key.to_owned(), Figures { came: now, text });
        }
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP) {
            self.keys.retain(|_, figures| figures.is_live(now));
            self.swept = Some(now);
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Bytes> {
        self.keys.get(key).map(|figures| &figures.text)
    }

    /// The live ones, by key.
    pub(super) fn live(&self, now: Instant) -> impl Iterator<Item = (&str, &Bytes)> {
        let live = self.keys.iter().filter(move |(_, figures)| figures.is_live(now));
        live.map(|(key, figures)| (key.as_str(), &figures.text))
    }
}

impl Figures {
    fn is_live(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.came) < RRD_LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_vanish_after_five_minutes() {
        let start = Instant::now();
        let mut table = RrdTable::default();
        table.insert(start, "pve2-node/a", Bytes::from_static(b"1:2"));
        table.insert(start + Duration::from_secs(200), "pve2-node/b", Bytes::from_static(b"3"));
        let live = |now| table.live(now).map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
        assert_eq!(live(start + Duration::from_secs(299)), ["pve2-node/a", "pve2-node/b"]);
        assert_eq!(live(start + Duration::from_secs(300)), ["pve2-node/b"]);
    }

    #[test]
    fn what_is_too_old_is_not_kept_for_ever() {
        let start = Instant::now();
        let mut table = RrdTable::default();
        table.insert(start, "a", Bytes::from_static(b"1"));
        table.insert(start + RRD_LIFETIME, "b", Bytes::from_static(b"1"));
        assert_eq!(table.keys.len(), 1);
    }

    #[test]
    fn figures_are_one_line_with_or_without_a_zero_byte() {
        assert_eq!(check("k", Bytes::from_static(b"1:U\0")), Ok(Bytes::from_static(b"1:U")));
        let invalid = Err(StatusError::FiguresInvalid { key: "k".into() });
        assert_eq!(check("k", Bytes::from_static(b"1\n2")), invalid);
        assert_eq!(check("k", Bytes::from_static(b"1\0\0")), invalid);
        let long = Bytes::from(vec![b'1'; RRD_VALUE_MAX + 1]);
        assert!(matches!(check("k", long), Err(StatusError::FiguresTooLarge { size: 4095, .. })));
    }
}
