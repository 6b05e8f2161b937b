//! Paths inside the replicated tree: checked once at the edge, valid ever after.
//!
//! Source: pmxcfs specification, section 3 (limits, refused names).

use std::{fmt, str::FromStr, sync::Arc};

/// Longest name of one entry in bytes. Source: pmxcfs specification, section 3.
pub const NAME_MAX: usize = 255;
/// Longest path in bytes: what the kernel passes on (`PATH_MAX` without the final zero byte).
pub const PATH_MAX: usize = 4095;

/// Why a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A name is empty: a leading, trailing or doubled slash.
    #[error(
        "'{path}' has an empty name; a path has no leading, trailing or doubled slash, such as nodes/hp1"
    )]
    EmptyName {
        /// What was given.
        path: String,
    },
    /// A name is `.` or `..`.
    #[error("'{path}' contains '.' or '..'")]
    Dots {
        /// What was given.
        path: String,
    },
    /// A name contains a zero byte.
    #[error("the path contains a zero byte")]
    ZeroByte,
    /// A name is longer than [`NAME_MAX`].
    #[error("a name of {length} bytes is too long, at most {NAME_MAX} are allowed")]
    NameTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The path is longer than [`PATH_MAX`].
    #[error("a path of {length} bytes is too long, at most {PATH_MAX} are allowed")]
    PathTooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// A path of the tree without a leading slash, like `nodes/hp1/qemu-server/100.conf`; the empty path is
/// the root. UTF-8, names of 1 to 255 bytes, none of them `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigPath(Arc<str>);

impl ConfigPath {
    /// The root directory.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// Whether this is the root directory.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path as text, without a leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names from the root downwards; none for the root.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The last name, `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.names().next_back()
    }

    /// The directory that holds this entry, `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(self.0.rsplit_once('/').map_or_else(Self::root, |(parent, _)| Self(Arc::from(parent))))
    }

    /// The entry called `name` in this directory.
    ///
    /// # Errors
    /// [`PathError`] when `name` is no valid name or the result is too long.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        if name.contains('/') {
            return Err(PathError::EmptyName { path: name.to_owned() });
        }
        check_name(name, name)?;
        if self.is_root() { name.parse() } else { format!("{}/{name}", self.0).parse() }
    }
}

fn check_name(name: &str, path: &str) -> Result<(), PathError> {
    match name {
        "" => Err(PathError::EmptyName { path: path.to_owned() }),
        "." | ".." => Err(PathError::Dots { path: path.to_owned() }),
        _ if name.len() > NAME_MAX => Err(PathError::NameTooLong { length: name.len() }),
        _ if name.contains('\0') => Err(PathError::ZeroByte),
        _ => Ok(()),
    }
}

impl FromStr for ConfigPath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        if path.len() > PATH_MAX {
            return Err(PathError::PathTooLong { length: path.len() });
        }
        if !path.is_empty() {
            path.split('/').try_for_each(|name| check_name(name, path))?;
        }
        Ok(Self(Arc::from(path)))
    }
}

impl fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_knows_its_names_parent_and_last_name() {
        let path: ConfigPath = "nodes/hp1/qemu-server/100.conf".parse().unwrap();
        assert_eq!(path.names().collect::<Vec<_>>(), ["nodes", "hp1", "qemu-server", "100.conf"]);
        assert_eq!(path.parent().unwrap().as_str(), "nodes/hp1/qemu-server");
        assert_eq!(path.name(), Some("100.conf"));
    }

    #[test]
    fn the_root_has_no_name_and_no_parent() {
        let root: ConfigPath = "".parse().unwrap();
        assert!(root.is_root());
        assert_eq!((root.name(), root.parent()), (None, None));
        assert_eq!("user.cfg".parse::<ConfigPath>().unwrap().parent(), Some(root));
    }

    #[test]
    fn each_bad_path_says_why() {
        let long = "n".repeat(NAME_MAX + 1);
        let deep = ["n"; 2049].join("/");
        for (path, error) in [
            ("/a", PathError::EmptyName { path: "/a".into() }),
            ("a/", PathError::EmptyName { path: "a/".into() }),
            ("a//b", PathError::EmptyName { path: "a//b".into() }),
            ("a/../b", PathError::Dots { path: "a/../b".into() }),
            (".", PathError::Dots { path: ".".into() }),
            ("a\0b", PathError::ZeroByte),
            (long.as_str(), PathError::NameTooLong { length: 256 }),
            (deep.as_str(), PathError::PathTooLong { length: 4097 }),
        ] {
            assert_eq!(path.parse::<ConfigPath>(), Err(error), "{path}");
        }
        assert!("n".repeat(NAME_MAX).parse::<ConfigPath>().is_ok());
    }

    #[test]
    fn join_refuses_what_would_escape() {
        let dir: ConfigPath = "priv/lock".parse().unwrap();
        assert_eq!(dir.join("ha").unwrap().as_str(), "priv/lock/ha");
        for name in ["", ".", "..", "a/b", "/", "a\0"] {
            assert!(dir.join(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_prints_what_it_read(text in ".{0,80}") {
            if let Ok(path) = text.parse::<ConfigPath>() {
                prop_assert_eq!(path.as_str(), text.as_str());
            }
        }
    }
}
