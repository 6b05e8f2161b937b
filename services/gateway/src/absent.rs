//! What a caller is told when a daemon of this node does not answer: why, as far as it can be seen from outside.

use corosync_conf::ClusterConf;
use quorate_daemon::{Root, status};
use tonic::{Code, Status};

use crate::roster::local_conf;

/// That a daemon does not answer, what the operating system says, and where to look.
#[must_use]
pub fn message(root: &Root, daemon: &str, why: &str) -> String {
    let what = format!("{daemon} does not answer on this node ({why})");
    if let Some(mistakes) = broken_conf(root) {
        return format!("{what}: {mistakes}");
    }
    let log = root.log(daemon);
    let place =
        if log.exists() { format!("{} says why", log.display()) } else { "its log says why".to_owned() };
    format!("{what}; if quorate-node runs it will start it again, and {place}")
}

/// That a daemon takes calls and does not answer them.
#[must_use]
pub fn silent(root: &Root, daemon: &str) -> String {
    format!(
        "{daemon} did not answer in time: it hangs or is overloaded; if quorate-node runs it, it is started again when it \
         gives no sign of life; see {}",
        root.log(daemon).display()
    )
}

/// The same as a status.
#[must_use]
pub fn status(root: &Root, daemon: &str, why: &str) -> Status {
    status::error(Code::Unavailable, "DAEMON_UNAVAILABLE", message(root, daemon, why), [("daemon", daemon)])
}

/// The status of a call to a daemon, in better words if the daemon was not even reached.
#[must_use]
pub fn explained(root: &Root, daemon: &str, failed: Status) -> Status {
    // Only a status that was made on this side has a cause in this process.
    let is_local = std::error::Error::source(&failed).is_some();
    if failed.code() == Code::Unavailable && is_local {
        status(root, daemon, failed.message())
    } else {
        failed
    }
}

/// What is wrong with this node's corosync.conf, and what to do; `None` if there is none, or nothing wrong with it.
#[must_use]
pub fn broken_conf(root: &Root) -> Option<String> {
    let mistakes = ClusterConf::parse(&local_conf(root)?).err()?;
    let list = mistakes.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let path = root.corosync_conf();
    Some(format!(
        "{path} has mistakes, no daemon starts with it: {list}; correct it, or copy it from another node \
         (quorate-node then starts the daemons within 30 s)",
        path = path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(conf: Option<&str>) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        if let Some(conf) = conf {
            std::fs::create_dir_all(root.corosync_conf().parent().unwrap()).unwrap();
            std::fs::write(root.corosync_conf(), conf).unwrap();
        }
        (dir, root)
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_named_with_its_log() {
        let (_dir, root) = root(None);
        std::fs::create_dir_all(root.log("configd").parent().unwrap()).unwrap();
        std::fs::write(root.log("configd"), "").unwrap();
        let text = message(&root, "configd", "Connection refused");
        assert!(text.starts_with("configd does not answer on this node (Connection refused)"), "{text}");
        assert!(text.ends_with("var/log/quorate/configd.log says why"), "{text}");
    }

    #[test]
    fn a_broken_corosync_conf_is_named_with_line_and_key() {
        let (_dir, root) = root(Some("totem {\n version: x\n}\n"));
        let text = status(&root, "configd", "Connection refused").message().to_owned();
        assert!(text.contains("corosync.conf has mistakes"), "{text}");
        assert!(text.contains("line 2: totem.version: 'x'"), "{text}");
    }

    #[test]
    fn what_a_daemon_itself_says_stays_as_it_is() {
        let (_dir, root) = root(None);
        let said = Status::unavailable("stopping");
        assert_eq!(explained(&root, "configd", said).message(), "stopping");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let unreached = Status::from_error(Box::new(refused));
        let unreached = if unreached.code() == Code::Unavailable { unreached } else { return };
        assert!(explained(&root, "configd", unreached).message().starts_with("configd does not answer"));
    }
}
