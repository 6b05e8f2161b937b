//! What a daemon tells the service manager that started it: ready, stopping, a line of status, signs of life.
//!
//! Without `NOTIFY_SOCKET` nobody wants to know, and nothing is sent. What cannot be sent is logged and changes nothing: a
//! daemon never ends because nobody listens to it.
//!
//! Source: sd_notify(3), sd_watchdog_enabled(3) of systemd 252.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process,
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::sign_of_life::{Sign, SignOfLife};

/// Signs of life within the time that the manager gives: one may be lost, and one may be late.
const SIGNS: u32 = 3;

/// Who wants to know how a daemon is, if anybody does.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    /// Without a sign of life for so long the manager takes the daemon for one that hangs.
    patience: Option<Duration>,
}

/// The manager's socket cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the service manager cannot be told anything: NOTIFY_SOCKET = '{socket}'")]
pub struct ConnectError {
    socket: String,
    #[source]
    source: io::Error,
}

impl ServiceManager {
    /// What the environment says: `NOTIFY_SOCKET`, a path or `@` and an abstract name; `WATCHDOG_USEC`, a time in
    /// microseconds, for the process `WATCHDOG_PID`.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConnectError> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let socket = connect(&name).map_err(|source| ConnectError { socket: name, source })?;
        let own = variable("WATCHDOG_PID").is_none_or(|pid| pid == process::id().to_string());
        let patience = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|_| own);
        let patience = patience.filter(|micros| *micros > 0).map(Duration::from_micros);
        Ok(Self { socket: Some(Arc::new(socket)), patience })
    }

    /// The daemon answers calls.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.tell(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// Until `shutdown`, passes on signs of life if the manager wants any: each time the daemon answers a question for its
    /// health. Then says that the daemon stops.
    pub(crate) async fn keep_informed(&self, mut daemon: SignOfLife, shutdown: CancellationToken) {
        let signs = async {
            let Some(every) = self.patience.map(|patience| patience / SIGNS) else {
                return std::future::pending().await;
            };
            loop {
                tokio::time::sleep(every).await;
                if daemon.ask(every).await == Sign::Answer {
                    self.tell("WATCHDOG=1");
                }
            }
        };
        let () = shutdown.run_until_cancelled(signs).await.unwrap_or_default();
        self.tell("STOPPING=1");
    }

    fn tell(&self, what: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(what.as_bytes()) {
            tracing::debug!(what, %error, "the service manager was not told");
        }
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not stop a daemon.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{node::NodeConfig, paths::Root, server::Server, start::Daemon};

    /// A manager's end of the socket, and what a daemon is told about it.
    fn manager() -> (TempDir, tokio::net::UnixDatagram, Vec<(&'static str, String)>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
        (dir, socket, vec![("NOTIFY_SOCKET", path.display().to_string())])
    }

    fn of(variables: &[(&'static str, String)]) -> Result<ServiceManager, ConnectError> {
        ServiceManager::of(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        })
    }

    async fn next(socket: &tokio::net::UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
        String::from_utf8(buffer[..received.expect("a message in time").unwrap()].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn each_message_is_one_datagram_and_a_status_is_one_line() {
        let (_dir, socket, variables) = manager();
        let manager = of(&variables).unwrap();
        manager.ready();
        manager.status("two\nlines");
        assert_eq!([next(&socket).await, next(&socket).await], ["READY=1", "STATUS=two lines"]);
    }

    #[tokio::test]
    async fn an_abstract_name_is_a_socket_too() {
        let name = format!("quorate-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
        of(&[("NOTIFY_SOCKET", format!("@{name}"))]).unwrap().ready();
        assert_eq!(next(&socket).await, "READY=1");
    }

    #[test]
    fn without_a_manager_nothing_is_sent_and_one_that_is_gone_is_named() {
        of(&[]).unwrap().ready();
        let error = of(&[("NOTIFY_SOCKET", "/nowhere/notify".to_owned())]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/notify"), "{error}");
    }

    #[test]
    fn only_the_process_that_is_meant_is_watched() {
        let (_dir, _socket, variables) = {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _entered = runtime.enter();
            manager()
        };
        let with = |pid: u32| {
            let mut all = variables.clone();
            all.extend([("WATCHDOG_USEC", "30000000".to_owned()), ("WATCHDOG_PID", pid.to_string())]);
            of(&all).unwrap().patience
        };
        assert_eq!(with(process::id()), Some(Duration::from_secs(30)));
        assert_eq!(with(process::id() + 1), None);
    }

    #[tokio::test]
    async fn signs_of_life_are_passed_on_while_the_daemon_answers_and_not_while_nobody_does() {
        let (dir, socket, mut variables) = manager();
        variables.push(("WATCHDOG_USEC", "150000".to_owned()));
        let manager = of(&variables).unwrap();
        let root = Root::new(dir.path());
        std::fs::create_dir_all(root.run_dir()).unwrap();
        let mut daemon = Daemon::new("quorumd", root.clone(), NodeConfig::named("hp1".parse().unwrap()));
        daemon.manager = manager.clone();
        let server = Server::new(&daemon).bind(&daemon.socket()).unwrap();

        let watched = manager.clone();
        let shutdown = daemon.shutdown.clone();
        let sign = SignOfLife::of(&root, "quorumd");
        let signs = tokio::spawn(async move { watched.keep_informed(sign, shutdown).await });
        // The socket is bound and nobody answers yet: the first message is that somebody does.
        let served = tokio::spawn(server.serve(daemon.shutdown.clone()));
        let told = next(&socket).await;
        assert_eq!(told, "READY=1");
        while next(&socket).await != "WATCHDOG=1" {}
        daemon.shutdown.cancel();
        signs.await.unwrap();
        served.await.unwrap().unwrap();
        while next(&socket).await != "STOPPING=1" {}
    }
}
