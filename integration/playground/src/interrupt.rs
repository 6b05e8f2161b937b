//! The signals that end `playground` itself. Its nodes have process groups of their own: no Ctrl-C reaches them, so
//! whoever starts nodes for a while has to take them down.

use std::fmt;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Error;

/// A signal that ends the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGHUP: the terminal was closed.
    Hangup,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Interrupt {
    /// The exit code of a program that it ended, as shells report it: 128 and its number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Receives these signals. From the first use on, they do not end the program by themselves any more.
#[derive(Debug)]
pub struct Interrupts {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Begins to receive. Must be called inside a runtime.
    ///
    /// # Errors
    /// [`Error::Receive`].
    pub fn receive() -> Result<Self, Error> {
        let receive = |kind| signal(kind).map_err(Error::Receive);
        Ok(Self {
            hangup: receive(SignalKind::hangup())?,
            interrupt: receive(SignalKind::interrupt())?,
            terminate: receive(SignalKind::terminate())?,
        })
    }

    /// The next one. Nothing is lost if this future is dropped.
    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupt::Interrupt,
            _ = self.terminate.recv() => Interrupt::Terminate,
            _ = self.hangup.recv() => Interrupt::Hangup,
        }
    }
}
