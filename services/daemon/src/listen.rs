//! A Unix socket at a path: bound where only this user and group may look, a stale one replaced.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _},
        net::{UnixListener as StdListener, UnixStream as StdStream},
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// Longest path of a Unix socket in bytes: `sun_path` has 108, the last is the terminating zero.
pub const PATH_MAX: usize = 107;

/// Mode of the sockets' directory. Set at its creation, so that there is no moment in which others can
/// connect.
const DIR_MODE: u32 = 0o750;

/// Why a daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The operating system cannot name such a socket.
    #[error("the socket path {} has {} bytes, at most {PATH_MAX} are possible", path.display(), path.as_os_str().len())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The directory cannot be made.
    #[error("cannot create the directory {}", path.display())]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody answers at this socket.
    #[error("another daemon is already serving {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is something at the path that cannot be taken away.
    #[error("cannot replace {}", path.display())]
    Replace {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The socket cannot be bound.
    #[error("cannot listen on {}", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Listens on a Unix socket; makes its directory and replaces a socket at which nobody answers.
///
/// Must be called inside a runtime.
///
/// # Errors
/// [`ListenError`]; a socket that somebody serves is left alone.
pub fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    if path.as_os_str().len() > PATH_MAX {
        return Err(ListenError::PathTooLong { path: path.to_owned() });
    }
    if let Some(dir) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(dir)
            .map_err(|source| ListenError::CreateDirectory { path: dir.to_owned(), source })?;
    }
    remove_stale(path)?;
    let bind = || {
        let listener = StdListener::bind(path)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    bind().map_err(|source| ListenError::Bind { path: path.to_owned(), source })
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    match StdStream::connect(path) {
        Ok(_) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => {
            tracing::info!(path = %path.display(), "replacing a socket at which nobody answers");
            fs::remove_file(path).map_err(|source| ListenError::Replace { path: path.to_owned(), source })
        }
        Err(source) => Err(ListenError::Replace { path: path.to_owned(), source }),
    }
}

/// A plain file refuses connections too, but is nothing to take away.
fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn the_directory_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/quorate/x.sock");

        let _listener = listen(&path).unwrap();

        let mode = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777 & !0o750, 0, "{mode:o}");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        drop(listen(&path).unwrap());
        assert!(path.exists());

        let listener = listen(&path);

        assert!(listener.is_ok());
    }

    #[tokio::test]
    async fn a_socket_in_use_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let _first = listen(&path).unwrap();

        let second = listen(&path);

        assert!(matches!(second, Err(ListenError::InUse { .. })));
        assert!(StdStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_survives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        fs::write(&path, "precious").unwrap();

        let refused = listen(&path);

        assert!(matches!(refused, Err(ListenError::Replace { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_named_with_its_length() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(110)));

        let err = listen(&path).unwrap_err();

        assert!(err.to_string().contains("has 115 bytes, at most 107"), "{err}");
    }
}
