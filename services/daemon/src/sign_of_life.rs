//! Asking a daemon for a sign of life: its health, through its socket.
//!
//! Any answer will do, "not serving" and errors too: that is a daemon that knows what it lacks. One that takes the
//! connection and says nothing is silent; a process may be there and hang.

use std::{path::PathBuf, time::Duration};

use tokio::net::UnixStream;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    client::{DaemonChannel, daemon_channel, deadline},
    paths::Root,
};

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// An answer.
    Answer,
    /// Time passed without one.
    Silence,
    /// Nobody listens: the daemon starts or ends.
    Nobody,
}

/// The questions to one daemon.
#[derive(Debug)]
pub struct SignOfLife {
    health: HealthClient<DaemonChannel>,
    socket: PathBuf,
    service: &'static str,
}

impl SignOfLife {
    /// Questions to a daemon of the node below `root`. Needs a runtime.
    #[must_use]
    pub fn of(root: &Root, daemon: &str) -> Self {
        // The gateway's answer for the whole node would be that of the other daemons.
        let service = if daemon == "gatewayd" { "quorate.gateway.v1.ClusterService" } else { "" };
        Self { health: HealthClient::new(daemon_channel(root, daemon)), socket: root.socket(daemon), service }
    }

    /// Asks once, and waits that long for the answer.
    pub async fn ask(&mut self, within: Duration) -> Sign {
        let request = HealthCheckRequest { service: self.service.to_owned() };
        match self.health.check(deadline(request, within)).await.map_err(|status| status.code()) {
            Err(Code::DeadlineExceeded) => Sign::Silence,
            // A broken connection: keep-alive has given up on a daemon that hangs, or nobody listens.
            Err(Code::Unavailable) if UnixStream::connect(&self.socket).await.is_ok() => Sign::Silence,
            Err(Code::Unavailable) => Sign::Nobody,
            Ok(_) | Err(_) => Sign::Answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::{node::NodeConfig, server::Server, start::Daemon};

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn nobody_silence_and_an_answer_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        std::fs::create_dir_all(root.run_dir()).unwrap();
        let mut sign = SignOfLife::of(&root, "configd");
        assert_eq!(sign.ask(SOON).await, Sign::Nobody);

        let silent = UnixListener::bind(root.socket("configd")).unwrap();
        assert_eq!(sign.ask(SOON).await, Sign::Silence);
        drop(silent);
        std::fs::remove_file(root.socket("configd")).unwrap();

        let daemon = Daemon::new("configd", root, NodeConfig::named("hp1".parse().unwrap()));
        let server = Server::new(&daemon).bind(&daemon.socket()).unwrap();
        tokio::spawn(server.serve(daemon.shutdown.clone()));
        let patient = Duration::from_secs(20);
        while sign.ask(patient).await == Sign::Nobody {}
        assert_eq!(sign.ask(patient).await, Sign::Answer);
    }
}
