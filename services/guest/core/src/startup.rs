//! In which order guests start after a cold start: `startup: order=1,up=30,down=60`.
//!
//! Guests with an order come first, the smallest order before the others, then those without; equal ones by number.
//! After each the next one waits for the seconds that `up` gives.

use std::time::Duration;

use crate::{
    property::{Properties, PropertyError},
    vmid::Vmid,
};

/// The longest delay, in seconds: a day.
const DELAY_MAX: u64 = 86_400;

/// The value of `startup`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Startup {
    /// The place; `None`: after all that have one.
    pub order: Option<u32>,
    /// How long the next guest waits after this one was started.
    pub up: Duration,
    /// How long this guest may take to switch itself off; `None`: the default.
    pub down: Option<Duration>,
}

/// Why a text is no such value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// It is no property string.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// A part is none.
    #[error("'{0}' is none of order=N, up=SECONDS, down=SECONDS")]
    Part(String),
}

impl Startup {
    /// Reads a value.
    ///
    /// # Errors
    /// [`StartupError`].
    pub fn parse(text: &str) -> Result<Self, StartupError> {
        let mut startup = Self::default();
        for (key, value) in Properties::parse(text, Some("order"))?.iter() {
            let bad = || StartupError::Part(format!("{key}={value}"));
            let seconds = || {
                let seconds = value.parse::<u64>().ok().filter(|seconds| *seconds <= DELAY_MAX);
                seconds.map(Duration::from_secs).ok_or_else(bad)
            };
            match key {
                "order" => startup.order = Some(value.parse().map_err(|_| bad())?),
                "up" => startup.up = seconds()?,
                "down" => startup.down = Some(seconds()?),
                _ => return Err(bad()),
            }
        }
        Ok(startup)
    }
}

/// One guest to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The guest.
    pub vmid: Vmid,
    /// How long to wait afterwards.
    pub then_wait: Duration,
}

/// The order in which these guests start.
#[must_use]
pub fn plan(mut guests: Vec<(Vmid, Startup)>) -> Vec<Step> {
    guests.sort_by_key(|(vmid, startup)| (startup.order.is_none(), startup.order, *vmid));
    guests.into_iter().map(|(vmid, startup)| Step { vmid, then_wait: startup.up }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guest(vmid: u32, startup: &str) -> (Vmid, Startup) {
        (vmid.try_into().unwrap(), Startup::parse(startup).unwrap())
    }

    #[test]
    fn guests_with_an_order_come_first_and_each_waits_for_the_one_before() {
        let steps =
            plan(vec![guest(100, ""), guest(101, "order=2,up=5"), guest(102, "up=1"), guest(103, "1")]);
        let order: Vec<(u32, u64)> =
            steps.iter().map(|step| (step.vmid.get(), step.then_wait.as_secs())).collect();
        assert_eq!(order, [(103, 0), (101, 5), (100, 0), (102, 1)]);
    }

    #[test]
    fn what_is_no_order_is_named() {
        let error = |text: &str| Startup::parse(text).unwrap_err().to_string();
        assert_eq!(error("order=first"), "'order=first' is none of order=N, up=SECONDS, down=SECONDS");
        assert_eq!(error("up=-1"), "'up=-1' is none of order=N, up=SECONDS, down=SECONDS");
        assert_eq!(error("later=1"), "'later=1' is none of order=N, up=SECONDS, down=SECONDS");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = Startup::parse(&text);
        }

        #[test]
        fn every_guest_starts_exactly_once(orders in prop::collection::vec(prop::option::of(0u32..4), 0..12)) {
            let guests: Vec<_> = (100u32..).zip(orders).map(|(vmid, order)| (Vmid::try_from(vmid).unwrap(), Startup { order, ..Startup::default() })).collect();
            let mut started: Vec<Vmid> = plan(guests.clone()).iter().map(|step| step.vmid).collect();
            started.sort_unstable();
            prop_assert_eq!(started, guests.iter().map(|(vmid, _)| *vmid).collect::<Vec<_>>());
        }
    }
}
