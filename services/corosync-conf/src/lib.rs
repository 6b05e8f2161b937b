//! Reads, checks, changes and writes `corosync.conf`.
//!
//! Never does: open files, resolve names, decide when a change is applied. Text in, text out.
//!
//! Two views of one text:
//!
//! - [`Tree`]: sections and keys as written, with the line of each. Keeps unknown keys and sections, so
//!   that a change leaves alone what it does not name; comments are not kept. Edits and the writer work
//!   on it.
//! - [`ClusterConf`]: what the daemons work with, checked. Made from a tree; reports all mistakes at
//!   once, each with line, key and reason.
//!
//! Grammar, line by line: `name {` opens a section, `}` on a line of its own closes it, `key: value` has a
//! value that runs to the end of the line. `#` at the start of a line or after a space starts a comment.
//!
//! Differs: corosync reads a `#` after a value as part of the value, and takes keys without a value and
//! empty keys. `pvecm` reads the former as a comment and refuses the others, as we do; what we write is
//! read the same way by both.
//!
//! Files: `tree.rs` (sections and keys), `parse.rs`, `print.rs`, `edit.rs`; `conf.rs` (the checked view),
//! `totem.rs`, `protection.rs`, `nodelist.rs`, `quorum.rs` (its sections), `read.rs` (values with their mistakes),
//! `check.rs` (rules between sections), `ring_key.rs` (a new key on its way to the members), `error.rs`.
//!
//! Sources: corosync.conf(5), votequorum(5), corosync 3.1.7 `corosync -t`; pvecm specification, 3.
//!
//! ```
//! use corosync_conf::{ClusterConf, Tree};
//!
//! let text = "
//! totem {
//!   version: 2
//!   cluster_name: demo
//!   config_version: 1
//! }
//! nodelist {
//!   node {
//!     name: hp1
//!     nodeid: 1
//!     ring0_addr: 10.0.0.1
//!   }
//! }
//! quorum {
//!   provider: corosync_votequorum
//! }
//! ";
//! let mut tree = Tree::parse(text)?;
//! tree.set_votes("hp1", 2)?;
//! tree.bump_version()?;
//! let conf = ClusterConf::parse(&tree.print())?;
//! assert_eq!((conf.totem.config_version, conf.expected_votes()), (2, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod conf;
mod device;
mod edit;
mod error;
mod nodelist;
mod parse;
mod print;
mod protection;
mod quorum;
mod read;
mod ring_key;
mod totem;
mod tree;

pub use check::JoinCheck;
pub use conf::ClusterConf;
pub use device::{DEVICE_CREDENTIALS_PATH, Device, DeviceAlgorithm, DeviceNet, DeviceTieBreaker, DeviceTls};
pub use edit::NewNode;
pub use error::{ConfError, ConfErrors, Reason};
pub use nodelist::Node;
pub use protection::{Cipher, Hash, Protection};
pub use quorum::{Quorum, TieBreaker};
pub use ring_key::{RING_KEY_PATH, RingKey, RingKeyError};
pub use totem::{Interface, IpVersion, LinkMode, Timing, Totem, Transport};
pub use tree::{Entry, Key, Section, Tree};
