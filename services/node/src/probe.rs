//! Whether a daemon still gives signs of life: a process may be there and hang.
//!
//! Each daemon is asked for its health through its socket, again and again. Any answer will do, "not serving" and errors
//! too: that is a daemon that knows what it lacks. Only one that has answered before, still takes the connection and then
//! says nothing, several times in a row, hangs.

use std::time::Duration;

use quorate_daemon::{
    Root,
    sign_of_life::{Sign, SignOfLife},
};

/// So many questions in a row without an answer mean that a daemon hangs.
const SILENT_MAX: u32 = 3;

/// The questions to one run of one daemon.
#[derive(Debug)]
pub(crate) struct Probe {
    daemon: SignOfLife,
    /// Time between two questions, and for an answer.
    every: Duration,
    has_answered: bool,
    silent: u32,
}

impl Probe {
    /// Questions to a daemon that was just started. Needs a runtime.
    pub(crate) fn new(root: &Root, daemon: &str, every: Duration) -> Self {
        Self { daemon: SignOfLife::of(root, daemon), every, has_answered: false, silent: 0 }
    }

    /// Ends when the daemon hangs; gives for how long at least.
    pub(crate) async fn hangs(mut self) -> Duration {
        loop {
            tokio::time::sleep(self.every).await;
            let sign = self.daemon.ask(self.every).await;
            if self.counts(sign) {
                return self.every * SILENT_MAX;
            }
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
    use super::*;

    #[tokio::test]
    async fn three_silences_in_a_row_after_an_answer_are_a_daemon_that_hangs() {
        let mut probe = Probe::new(&Root::new("/nowhere"), "configd", Duration::from_secs(1));
        let mut counts = |signs: &[Sign]| signs.iter().map(|sign| probe.counts(*sign)).collect::<Vec<_>>();
        use Sign::{Answer, Nobody, Silence};

        assert_eq!(counts(&[Nobody, Silence, Silence, Silence, Silence]), [false; 5], "it only starts");
        assert_eq!(counts(&[Answer, Silence, Silence, Answer, Silence, Nobody, Silence]), [false; 7]);
        assert_eq!(counts(&[Silence, Silence]), [false, true]);
    }
}
