//! Names of nodes and clusters: letters, digits and inner hyphens.
//!
//! Source: pvecm specification, section 1 (formats).

use std::{fmt, str::FromStr};

/// Longest cluster name in bytes: what `pvecm create` accepts.
const CLUSTER_NAME_MAX: usize = 15;
/// Longest node name in bytes: one DNS label.
const NODE_NAME_MAX: usize = 63;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("the name is empty")]
    Empty,
    /// The name is longer than its kind allows.
    #[error("'{name}' has {length} characters, at most {max} are allowed")]
    TooLong {
        /// What was given.
        name: String,
        /// Its length in bytes.
        length: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The name holds something else than letters, digits and inner hyphens.
    #[error("'{name}' may hold letters, digits and inner hyphens only")]
    BadCharacter {
        /// What was given.
        name: String,
    },
}

fn check(name: &str, max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > max {
        return Err(NameError::TooLong { name: name.to_owned(), length: name.len(), max });
    }
    let ldh = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !ldh || name.starts_with('-') || name.ends_with('-') {
        return Err(NameError::BadCharacter { name: name.to_owned() });
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                check(name, $max)?;
                Ok(Self(name.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name_type!(
    /// The name of a cluster: letters, digits and inner hyphens, at most 15 characters. Fixed at
    /// creation; the multicast address of the `udp` transport derives from it.
    ClusterName,
    CLUSTER_NAME_MAX
);
name_type!(
    /// The name of a node: one DNS label of letters, digits and inner hyphens.
    NodeName,
    NODE_NAME_MAX
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in ["demo", "lab-a", "x", "123456789012345"] {
            assert!(name.parse::<ClusterName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn each_bad_name_says_why() {
        assert_eq!("".parse::<ClusterName>(), Err(NameError::Empty));
        assert!(matches!(
            "1234567890123456".parse::<ClusterName>(),
            Err(NameError::TooLong { length: 16, .. })
        ));
        for name in ["-a", "a-", "a_b", "a.b", "ä", "a b", "../a"] {
            assert!(matches!(name.parse::<NodeName>(), Err(NameError::BadCharacter { .. })), "{name}");
        }
    }
}
