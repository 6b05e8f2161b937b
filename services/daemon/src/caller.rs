//! Who asks: the words in which a caller is written into the history of the tree.
//!
//! | words | who |
//! |---|---|
//! | `root@unix:4711/0` | a process of this node: its user, process id and user id |
//! | `node:hp2` | a node of the cluster with its certificate |
//! | `token:6f1c...` | the holder of a join token |
//!
//! The gateway knows who calls and says so in the header [`CALLER_HEADER`], which it takes from nobody. A daemon believes
//! it only from a process of its own user.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use nix::unistd::{Uid, User};
use tonic::Request;

use crate::server::peer_credentials;

/// Header in which the gateway names the caller.
pub const CALLER_HEADER: &str = "quorate-caller";

/// Names of users that are remembered: looking one up reads `/etc/passwd`, which is too much for every write.
const NAMES_MAX: usize = 64;
/// Names by user id, until there are too many.
static NAMES: Mutex<BTreeMap<u32, String>> = Mutex::new(BTreeMap::new());

/// The name of a user, or the number of one without a name.
fn user_name(uid: u32) -> String {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = names.get(&uid) {
        return name.clone();
    }
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.map_or_else(|| uid.to_string(), |user| user.name);
    if names.len() >= NAMES_MAX {
        names.clear();
    }
    names.insert(uid, name.clone());
    name
}

/// A local process.
#[must_use]
pub fn local(uid: u32, pid: Option<i32>) -> String {
    let user = user_name(uid);
    let pid = pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    format!("{user}@unix:{pid}/{uid}")
}

/// Who makes this call over a Unix socket; empty if that is not known.
#[must_use]
pub fn of<T>(request: &Request<T>) -> String {
    let Some(peer) = peer_credentials(request) else { return String::new() };
    let trusted = peer.uid() == nix::unistd::geteuid().as_raw();
    let name = request.metadata().get(CALLER_HEADER).and_then(|name| name.to_str().ok());
    match name.filter(|name| trusted && !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => local(peer.uid(), peer.pid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_process_is_named_by_user_process_and_user_id() {
        assert_eq!(local(0, Some(4711)), "root@unix:4711/0");
        assert!(local(3_999_999_999, None).ends_with("@unix:?/3999999999"));
    }

    #[test]
    fn without_a_socket_nobody_is_named_whatever_the_header_says() {
        let mut request = Request::new(());
        request.metadata_mut().insert(CALLER_HEADER, "node:hp2".parse().expect("a value"));
        assert_eq!(of(&request), "");
    }
}
