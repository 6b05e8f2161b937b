//! Exit statuses. Source: spec 1.
//!
//! `status` answers a question by its status: 0 quorate, 2 not quorate, 1 unknown; so does
//! `netcheck` and `doctor`: 0 fit, 2 unfit. `nodes` and `expected` know 0
//! and 1. All other commands, and every wrong usage, fail with 255.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked; `status`: the node is quorate.
    Success,
    /// `status`, `nodes` and `expected`: the engine cannot be reached or refuses.
    EngineFailed,
    /// `status`: the node is not quorate.
    NotQuorate,
    /// `netcheck`: the network does not keep to the limits; `doctor`: something is wrong.
    Unfit,
    /// Every other failure, usage included.
    Failed,
}

impl Exit {
    /// The number that the calling process sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::EngineFailed => 1,
            Self::NotQuorate | Self::Unfit => 2,
            Self::Failed => 255,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_pvecm() {
        let codes =
            [Exit::Success, Exit::EngineFailed, Exit::NotQuorate, Exit::Unfit, Exit::Failed].map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 2, 255]);
    }
}
