//! Whether a daemon still gives signs of life: a process may be there and hang.
//!
//! Each daemon is asked for its health through its socket, again and again. Any answer will do, "not serving" and errors
//! too: that is a daemon that knows what it lacks. Only one that has answered before, still takes the connection and then
//! says nothing, several times in a row, hangs.

use std::{path::PathBuf, time::Duration};

use quorate_daemon::{
    Root,
    client::{DaemonChannel, daemon_channel, deadline},
};
use tokio::net::UnixStream;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// So many questions in a row without an answer mean that a daemon hangs.
const SILENT_MAX: u32 = 3;

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// An answer.
    Answer,
    /// Time passed without one.
    Silence,
    /// Nobody listens: the daemon starts or ends.
    Nobody,
}

/// The questions to one run of one daemon.
#[derive(Debug)]
pub(crate) struct Probe {
    health: HealthClient<DaemonChannel>,
    socket: PathBuf,
    service: &'static str,
    /// Time between two questions, and for an answer.
    every: Duration,
    has_answered: bool,
    silent: u32,
}

impl Probe {
    /// Questions to a daemon that was just started. Needs a runtime.
    pub(crate) fn new(root: &Root, daemon: &str, every: Duration) -> Self {
        // The gateway's answer for the whole node would be that of the other daemons.
        let service = if daemon == "gatewayd" { "quorate.gateway.v1.ClusterService" } else { "" };
        let health = HealthClient::new(daemon_channel(root, daemon));
        Self { health, socket: root.socket(daemon), service, every, has_answered: false, silent: 0 }
    }

    /// Ends when the daemon hangs; gives for how long at least.
    pub(crate) async fn hangs(mut self) -> Duration {
        loop {
            tokio::time::sleep(self.every).await;
            let sign = self.ask().await;
            if self.counts(sign) {
                return self.every * SILENT_MAX;
            }
        }
    }

    async fn ask(&mut self) -> Sign {
        let request = HealthCheckRequest { service: self.service.to_owned() };
        match self.health.check(deadline(request, self.every)).await.map_err(|status| status.code()) {
            Err(Code::DeadlineExceeded) => Sign::Silence,
            // A broken connection: keep-alive has given up on a daemon that hangs, or nobody listens.
            Err(Code::Unavailable) if UnixStream::connect(&self.socket).await.is_ok() => Sign::Silence,
            Err(Code::Unavailable) => Sign::Nobody,
            Ok(_) | Err(_) => Sign::Answer,
        }
    }

    /// Counts a sign; whether it was the last that was missing.
    fn counts(&mut self, sign: Sign) -> bool {
        match sign {
            Sign::Answer => (self.has_answered, self.silent) = (true, 0),
            Sign::Nobody => self.silent = 0,
            Sign::Silence if self.has_answered => self.silent += 1,
            Sign::Silence => {}
        }
        self.silent >= SILENT_MAX
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    const EVERY: Duration = Duration::from_millis(50);

    fn probe() -> (tempfile::TempDir, Root, Probe) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        std::fs::create_dir_all(root.run_dir()).unwrap();
        let probe = Probe::new(&root, "configd", EVERY);
        (dir, root, probe)
    }

    #[tokio::test]
    async fn nobody_silence_and_an_answer_are_told_apart() {
        let (_dir, root, mut probe) = probe();
        assert_eq!(probe.ask().await, Sign::Nobody);

        let silent = UnixListener::bind(root.socket("configd")).unwrap();
        assert_eq!(probe.ask().await, Sign::Silence);
        drop(silent);
        std::fs::remove_file(root.socket("configd")).unwrap();

        let name = "hp1".parse().unwrap();
        let daemon = quorate_daemon::Daemon::new("configd", root, quorate_daemon::NodeConfig::named(name));
        let server = quorate_daemon::Server::new(&daemon).bind(&daemon.socket()).unwrap();
        tokio::spawn(server.serve(daemon.shutdown.clone()));
        probe.every = Duration::from_secs(20);
        while probe.ask().await == Sign::Nobody {}
        assert_eq!(probe.ask().await, Sign::Answer);
    }

    #[tokio::test]
    async fn three_silences_in_a_row_after_an_answer_are_a_daemon_that_hangs() {
        let (_dir, _root, mut probe) = probe();
        let mut counts = |signs: &[Sign]| signs.iter().map(|sign| probe.counts(*sign)).collect::<Vec<_>>();
        use Sign::{Answer, Nobody, Silence};

        assert_eq!(counts(&[Nobody, Silence, Silence, Silence, Silence]), [false; 5], "it only starts");
        assert_eq!(counts(&[Answer, Silence, Silence, Answer, Silence, Nobody, Silence]), [false; 7]);
        assert_eq!(counts(&[Silence, Silence]), [false, true]);
    }
}
