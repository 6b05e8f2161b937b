//! A guest's number.

use std::{fmt, str::FromStr};

/// The number of a guest: 100 to 999999999, unique in the cluster over machines and containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vmid(u32);

/// Why a number is no guest's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no guest's number: that is one from 100 to 999999999")]
pub struct VmidError(String);

impl Vmid {
    /// The smallest one.
    pub const MIN: u32 = 100;
    /// The largest one.
    pub const MAX: u32 = 999_999_999;

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The guest whose configuration has this file name, such as `100.conf`.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        name.strip_suffix(".conf")?.parse().ok()
    }
}

impl TryFrom<u32> for Vmid {
    type Error = VmidError;

    fn try_from(number: u32) -> Result<Self, VmidError> {
        let fits = (Self::MIN..=Self::MAX).contains(&number);
        if fits { Ok(Self(number)) } else { Err(VmidError(number.to_string())) }
    }
}

impl FromStr for Vmid {
    type Err = VmidError;

    fn from_str(text: &str) -> Result<Self, VmidError> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = if plain { text.parse::<u32>().ok() } else { None };
        number.and_then(|number| Self::try_from(number).ok()).ok_or_else(|| VmidError(text.to_owned()))
    }
}

impl fmt::Display for Vmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_from_100_to_999999999_are_guests() {
        for good in ["100", "999999999"] {
            assert_eq!(good.parse::<Vmid>().unwrap().to_string(), good);
        }
        for bad in ["", "99", "0100", "+100", "1000000000", "4294967396", "1e3", "100 "] {
            assert!(bad.parse::<Vmid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_files_name_tells_the_guest() {
        assert_eq!(Vmid::of_file("104.conf").map(Vmid::get), Some(104));
        assert_eq!(Vmid::of_file("104.conf.tmp"), None);
        assert_eq!(Vmid::of_file("readme"), None);
    }
}
