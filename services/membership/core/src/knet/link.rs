//! One link to one host: pings and pongs, up and down, and the discovery of its MTU.
//!
//! - a ping goes out every `ping_interval`, whatever the state
//! - the pong after `pong_count` good ones brings the link up, if the average latency is below the
//!   adjusted timeout
//! - no pong for the adjusted timeout takes it down
//!
//! The adjusted timeout is `ping_timeout · backoff + 2 · latency`. The backoff is 10 when a link is
//! new and after it went down, and becomes less by 1 per second until it is 1, so that links do not
//! flap while nodes start. Source: knet specification, sections 3 and 5.
//!
//! Differs: the reference looks at its links every 200 ms; here each deadline is exact.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    config::LinkSettings,
    mtu::{Search, Step, floor},
    stats::LinkStats,
};

/// Factor of the timeout of a new link.
const BACKOFF_MAX: u32 = 10;
/// The backoff becomes less by one after this long.
const BACKOFF_STEP: Duration = Duration::from_secs(1);
/// Probes of a size that should pass, before it counts as failed.
const ATTEMPTS: u8 = 2;

/// How a link comes to its MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MtuPolicy {
    /// It is given, in bytes on the wire.
    Fixed(u16),
    /// It is searched for when the link comes up, and again after each interval.
    Discover(Duration),
}

/// One link to one host.
#[derive(Debug)]
pub(super) struct Link {
    /// The host's address.
    pub(super) remote: SocketAddr,
    /// Timers and priority.
    pub(super) settings: LinkSettings,
    /// Counters.
    pub(super) stats: LinkStats,
    policy: MtuPolicy,
    up: bool,
    /// `false` after a discovery in which not even the least size passed.
    mtu_valid: bool,
    mtu: u16,
    next_ping: Instant,
    last_pong: Option<Instant>,
    /// Good pongs while down.
    pongs: u8,
    backoff_since: Instant,
    discovery: Discovery,
}

#[derive(Debug)]
enum Discovery {
    Off,
    Waiting { until: Instant },
    Probing { search: Search, attempts: u8, until: Instant },
}

impl Link {
    /// A link that is down and pings at once.
    #[must_use]
    pub(super) fn new(now: Instant, remote: SocketAddr, settings: LinkSettings, policy: MtuPolicy) -> Self {
        let mut link = Self {
            remote,
            settings,
            stats: LinkStats::default(),
            policy,
            up: false,
            mtu_valid: true,
            mtu: 0,
            next_ping: now,
            last_pong: None,
            pongs: 0,
            backoff_since: now,
            discovery: Discovery::Off,
        };
        link.fall_back();
        link
    }

    /// Pongs arrive.
    #[must_use]
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// Data may go over it.
    #[must_use]
    pub(super) fn is_usable(&self) -> bool {
        self.up && self.mtu_valid
    }

    /// Its MTU in bytes on the wire; `None` when not even the least size passes.
    #[must_use]
    pub(super) fn mtu(&self) -> Option<u16> {
        Some(self.mtu).filter(|_| self.mtu_valid)
    }

    /// The MTU to reckon with, whether valid or not.
    #[must_use]
    pub(super) fn assumed_mtu(&self) -> u16 {
        self.mtu
    }

    /// Without a pong for this long the link is down.
    #[must_use]
    pub(super) fn adjusted_timeout(&self, now: Instant) -> Duration {
        self.settings.ping_timeout * self.backoff(now) + 2 * self.stats.latency.average
    }

    fn backoff(&self, now: Instant) -> u32 {
        let steps = now.saturating_duration_since(self.backoff_since).as_secs() / BACKOFF_STEP.as_secs();
        BACKOFF_MAX.saturating_sub(u32::try_from(steps).unwrap_or(BACKOFF_MAX)).max(1)
    }

    /// The earliest time at which it wants to be looked at.
    #[must_use]
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let probe = match &self.discovery {
            Discovery::Off => None,
            Discovery::Waiting { until } | Discovery::Probing { until, .. } => Some(*until),
        };
        [self.down_check(now), probe].into_iter().flatten().fold(self.next_ping, Instant::min)
    }

    /// When the link goes down, or when its backoff changes and with it that time.
    fn down_check(&self, now: Instant) -> Option<Instant> {
        let silent = self.last_pong.filter(|_| self.up)? + self.adjusted_timeout(now);
        let backoff = self.backoff(now);
        let step = self.backoff_since + BACKOFF_STEP * (BACKOFF_MAX + 1 - backoff);
        Some(if backoff > 1 { silent.min(step) } else { silent })
    }

    /// Whether a ping is due; the next one is scheduled then.
    pub(super) fn take_ping_due(&mut self, now: Instant) -> bool {
        let is_due = self.next_ping <= now;
        if is_due {
            self.next_ping = now + self.settings.ping_interval;
        }
        is_due
    }

    /// Takes the link down if it was silent for too long; `true` if so.
    pub(super) fn take_silence(&mut self, now: Instant) -> bool {
        let is_silent =
            self.last_pong.is_some_and(|pong| self.up && now >= pong + self.adjusted_timeout(now));
        if is_silent {
            self.up = false;
            self.pongs = 0;
            self.backoff_since = now;
            self.discovery = Discovery::Off;
            self.stats.down_count += 1;
        }
        is_silent
    }

    /// Takes a pong; `None` if it came too late to count, else whether it brought the link up.
    pub(super) fn take_pong(&mut self, now: Instant, latency: Duration) -> Option<bool> {
        if latency > self.settings.ping_timeout {
            return None;
        }
        self.stats.latency.add(latency, self.settings.ping_precision);
        self.last_pong = Some(now);
        if self.up || self.stats.latency.average >= self.adjusted_timeout(now) {
            return Some(false);
        }
        if self.pongs < self.settings.pong_count {
            self.pongs += 1;
            return Some(false);
        }
        self.up = true;
        self.mtu_valid = true;
        self.stats.up_count += 1;
        self.fall_back();
        Some(true)
    }

    /// Another way to the MTU; `true` if it must be found anew.
    pub(super) fn set_policy(&mut self, policy: MtuPolicy) -> bool {
        let discovers = |policy| matches!(policy, MtuPolicy::Discover(_));
        let goes_on = self.policy == policy || discovers(self.policy) && discovers(policy);
        self.policy = policy;
        if !goes_on {
            self.mtu_valid = true;
            self.discovery = Discovery::Off;
            self.fall_back();
        }
        !goes_on
    }

    /// Assumes what is sure to pass.
    fn fall_back(&mut self) {
        self.mtu = match self.policy {
            MtuPolicy::Fixed(mtu) => mtu,
            MtuPolicy::Discover(_) => floor(&self.remote),
        };
        self.stats.mtu = self.mtu;
    }

    /// Assumes what is sure to pass and begins to search anew, since datagrams have other lengths now;
    /// returns the size to probe.
    pub(super) fn restart_discovery(&mut self, now: Instant) -> Option<u16> {
        self.fall_back();
        self.begin_discovery(now)
    }

    /// Begins to search for the MTU if it is to be discovered; returns the size to probe.
    pub(super) fn begin_discovery(&mut self, now: Instant) -> Option<u16> {
        if !self.up || matches!(self.policy, MtuPolicy::Fixed(_)) {
            return None;
        }
        let search = Search::new(floor(&self.remote));
        let size = search.probing();
        self.discovery = Discovery::Probing { search, attempts: 1, until: now + self.probe_timeout() };
        Some(size)
    }

    /// Differs: the reference waits for the timeout with the backoff in it. A reply takes one round
    /// trip however new the link is.
    fn probe_timeout(&self) -> Duration {
        self.settings.ping_timeout + 2 * self.stats.latency.average
    }

    /// Begins a discovery that is due, or goes on with one whose probe was not answered; returns the
    /// size to probe.
    pub(super) fn take_probe_due(&mut self, now: Instant) -> Option<u16> {
        let timeout = self.probe_timeout();
        match &mut self.discovery {
            Discovery::Waiting { until } if *until <= now => self.begin_discovery(now),
            Discovery::Probing { search, attempts, until } if *until <= now => {
                let should_pass = search.probing() <= self.mtu || search.is_at_interface();
                if should_pass && *attempts < ATTEMPTS {
                    *attempts += 1;
                    *until = now + timeout;
                    return Some(search.probing());
                }
                let failed = search.probing();
                let step = search.probe_failed();
                if failed <= self.mtu {
                    // It passed before: the path has changed, and nothing above is sure any more.
                    self.mtu = search.passed().unwrap_or(floor(&self.remote));
                }
                self.follow(now, step)
            }
            _ => None,
        }
    }

    /// Takes the reply to a probe. `Err` if nobody waits for it, else the next size to probe.
    ///
    /// # Errors
    /// `()` when the reply is to be dropped; nothing was changed.
    pub(super) fn take_probe_reply(&mut self, now: Instant, size: u16) -> Result<Option<u16>, ()> {
        match &mut self.discovery {
            Discovery::Probing { search, .. } if search.probing() == size => {
                let step = search.probe_passed();
                self.mtu_valid = true;
                self.mtu = self.mtu.max(size);
                Ok(self.follow(now, step))
            }
            _ => Err(()),
        }
    }

    /// The size that is being probed.
    #[must_use]
    pub(super) fn probing(&self) -> Option<u16> {
        match &self.discovery {
            Discovery::Probing { search, .. } => Some(search.probing()),
            Discovery::Off | Discovery::Waiting { .. } => None,
        }
    }

    /// The kernel refused a probe; returns the next size to probe.
    pub(super) fn take_probe_refused(&mut self, now: Instant, interface_mtu: Option<usize>) -> Option<u16> {
        let Discovery::Probing { search, .. } = &mut self.discovery else {
            return None;
        };
        let step = search.probe_refused(interface_mtu);
        self.follow(now, step)
    }

    /// The kernel refused data: assumes what the interface carries or what is sure to pass, and
    /// searches anew; returns the size to probe.
    pub(super) fn take_data_refused(&mut self, now: Instant, interface_mtu: Option<usize>) -> Option<u16> {
        let floor = floor(&self.remote);
        let told = interface_mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(|mtu| *mtu >= floor);
        self.mtu = told.filter(|mtu| *mtu < self.mtu).unwrap_or(floor);
        self.stats.mtu = self.mtu;
        self.begin_discovery(now)
    }

    fn follow(&mut self, now: Instant, step: Step) -> Option<u16> {
        let timeout = self.probe_timeout();
        let next = match (step, &mut self.discovery, self.policy) {
            (Step::Probe(size), Discovery::Probing { attempts, until, .. }, _) => {
                (*attempts, *until) = (1, now + timeout);
                Some(size)
            }
            (Step::Done(found), _, MtuPolicy::Discover(interval)) => {
                self.mtu_valid = found.is_some();
                self.mtu = found.unwrap_or(floor(&self.remote));
                self.discovery = Discovery::Waiting { until: now + interval };
                None
            }
            _ => {
                self.discovery = Discovery::Off;
                None
            }
        };
        self.stats.mtu = self.mtu;
        next
    }
}

#[cfg(test)]
mod tests;
