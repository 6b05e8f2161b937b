//! A daemon as the operating system sees it: it runs, is paused, dies, starts again; and its disk.

use std::collections::VecDeque;

use crate::{
    daemon::{Core, DaemonInput, DiskWrite},
    disk::Disk,
    event::SimTime,
};

/// Datagrams that wait for a paused process; the next ones are lost: a receive buffer of some MB.
const HELD_DATAGRAMS_MAX: usize = 2000;

/// One daemon of one node.
#[derive(Debug)]
pub struct Process {
    core: Option<Core>,
    life: u32,
    paused: bool,
    held: VecDeque<DaemonInput>,
    held_datagrams: usize,
    /// When the earliest wake-up in the queue comes.
    pub(crate) wake_at: Option<SimTime>,
    pub(crate) disk: Disk<DiskWrite>,
    /// The next write fails.
    pub(crate) write_fails: bool,
}

impl Process {
    /// A daemon that does not run.
    #[must_use]
    pub fn new(disk: Disk<DiskWrite>) -> Self {
        Self {
            core: None,
            life: 0,
            paused: false,
            held: VecDeque::new(),
            held_datagrams: 0,
            wake_at: None,
            disk,
            write_fails: false,
        }
    }

    /// Which life this is: one more with every start.
    #[must_use]
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Whether the process exists, paused or not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.core.is_some()
    }

    /// Whether it gets no time.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// What runs in it.
    #[must_use]
    pub fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    /// What runs in it.
    pub fn core_mut(&mut self) -> Option<&mut Core> {
        self.core.as_mut()
    }

    /// A new life begins.
    ///
    /// # Panics
    /// If the process runs already.
    pub fn start(&mut self, core: Core) {
        assert!(self.core.is_none(), "a process is started once");
        self.core = Some(core);
    }

    /// Takes the number of the life that is about to start.
    pub fn next_life(&mut self) -> u32 {
        self.life += 1;
        self.life
    }

    /// The process is gone, with all that waited for it.
    pub fn stop(&mut self) {
        self.core = None;
        self.paused = false;
        self.held.clear();
        self.held_datagrams = 0;
        self.wake_at = None;
    }

    /// No more time from now on.
    pub fn pause(&mut self) {
        self.paused = self.core.is_some();
    }

    /// Time again: returns what has come in meanwhile, oldest first.
    pub fn resume(&mut self) -> VecDeque<DaemonInput> {
        self.paused = false;
        self.held_datagrams = 0;
        std::mem::take(&mut self.held)
    }

    /// Keeps an input for the end of the pause. A timer needs no keeping: the clock goes on.
    pub fn hold(&mut self, input: DaemonInput) {
        match input {
            DaemonInput::Timer => {}
            DaemonInput::Datagram(_) if self.held_datagrams == HELD_DATAGRAMS_MAX => {}
            input => {
                self.held_datagrams += usize::from(matches!(input, DaemonInput::Datagram(_)));
                self.held.push_back(input);
            }
        }
    }
}
