//! Every parameter of the protocol: defaults, derivation and relations.
//!
//! Source: corosync.conf(5), section totem; Totem specification, section 2.

use std::time::Duration;

/// Least value of every timeout, in milliseconds.
const TIMEOUT_MIN: u32 = 30;
/// Least value of the hold timeout, in milliseconds.
const HOLD_MIN: u32 = 14;
/// Bytes of packets that one send queue may hold.
const SEND_QUEUE_BYTES_MAX: usize = 4 << 20;
/// Sequence numbers that a message window covers.
pub(super) const WINDOW_SEQS: u32 = 16384;

/// The `totem` section as configured: `None` means "derive it".
///
/// All times are in milliseconds, as in corosync.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TotemSettings {
    /// `token`, default 3000: base of the token timeout.
    pub token: Option<u32>,
    /// `token_coefficient`, default 650: added to `token` for each node above two.
    pub token_coefficient: Option<u32>,
    /// `token_warning`, default 75 percent of the token timeout, 0 = off.
    pub token_warning: Option<u32>,
    /// `token_retransmits_before_loss_const`, default 4.
    pub token_retransmits_before_loss_const: Option<u32>,
    /// `token_retransmit`, default `token / (retransmits + 0.2)`.
    pub token_retransmit: Option<u32>,
    /// `hold`, default `token_retransmit * 0.8 - 10`.
    pub hold: Option<u32>,
    /// `join`, default 50.
    pub join: Option<u32>,
    /// `send_join`, default 0: most random delay before a join.
    pub send_join: Option<u32>,
    /// `consensus`, default `1.2 * token`.
    pub consensus: Option<u32>,
    /// `merge`, default 200.
    pub merge: Option<u32>,
    /// `downcheck`, default 1000.
    pub downcheck: Option<u32>,
    /// `fail_recv_const`, default 2500 rotations.
    pub fail_recv_const: Option<u32>,
    /// `seqno_unchanged_const`, default 30 rotations.
    pub seqno_unchanged_const: Option<u32>,
    /// `heartbeat_failures_allowed`, default 0 = off.
    pub heartbeat_failures_allowed: Option<u32>,
    /// `max_network_delay`, default 50.
    pub max_network_delay: Option<u32>,
    /// `window_size`, default 50 messages.
    pub window_size: Option<u32>,
    /// `max_messages`, default 17 messages.
    pub max_messages: Option<u32>,
    /// `miss_count_const`, default 5 visits.
    pub miss_count_const: Option<u32>,
    /// `cancel_token_hold_on_retransmit`, default no.
    pub cancel_token_hold_on_retransmit: Option<bool>,
    /// `block_unlisted_ips`, default yes. For the transports.
    pub block_unlisted_ips: Option<bool>,
    /// The largest mcast payload in bytes, default 1410 (udp, udpu with `netmtu` 1500).
    pub net_mtu: Option<u32>,
    /// `quorate_fast_detection`, default yes. Ours: corosync keeps the key and does not look at it.
    pub quorate_fast_detection: Option<bool>,
}

/// The parameters that the ring works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Without a token for this long it is lost (effective value).
    pub token: Duration,
    /// After this long without a token a warning is logged; `None` = off.
    pub token_warning: Option<Duration>,
    /// The token is sent again after this long without a later one.
    pub token_retransmit: Duration,
    /// The representative keeps the token of an idle ring for this long.
    pub hold: Duration,
    /// Between two join messages while gathering.
    pub join: Duration,
    /// Most random delay before a join message.
    pub send_join: Duration,
    /// For consensus while gathering.
    pub consensus: Duration,
    /// From an idle token to the merge detect message.
    pub merge: Duration,
    /// Between two checks of the interface; for the transports.
    pub downcheck: Duration,
    /// Rotations without progress of its own aru before a node cuts itself off.
    pub fail_recv_const: u32,
    /// Idle rotations before the representative holds the token.
    pub seqno_unchanged_const: u32,
    /// A shorter token timeout that is used if configured; `None` = off.
    pub heartbeat: Option<Duration>,
    /// Messages per rotation, of the whole ring.
    pub window_size: u32,
    /// Messages per token visit, of this node.
    pub max_messages: u32,
    /// Visits on which a message must be missing before it is asked for.
    pub miss_count_const: u32,
    /// Do not hold the token while retransmissions are asked for.
    pub cancel_token_hold_on_retransmit: bool,
    /// Drop packets of addresses that are not in the node list; for the transports.
    pub block_unlisted_ips: bool,
    /// The largest mcast payload in bytes.
    pub net_mtu: u32,
    /// This node agrees to the fast timers; they are in force while all members do. See [`Pace`](super::Pace).
    pub fast_detection: bool,
    /// Where message and token sequence numbers of a ring begin: 0 on the wire of corosync. Tests
    /// begin shortly before the wrap; all members must use the same.
    pub initial_seq: u32,
}

/// Why the settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// A timeout is below its minimum.
    #[error("totem.{name} is {value} ms, it must be at least {min} ms")]
    TimeoutTooSmall {
        /// The parameter.
        name: &'static str,
        /// Its configured or derived value in milliseconds.
        value: u64,
        /// The least value in milliseconds.
        min: u32,
    },
    /// The consensus timeout is below the join timeout.
    #[error("totem.consensus ({consensus} ms) must not be below totem.join ({join} ms)")]
    ConsensusBelowJoin {
        /// Consensus timeout in milliseconds.
        consensus: u64,
        /// Join timeout in milliseconds.
        join: u64,
    },
    /// A count is outside of its range.
    #[error("totem.{name} is {value}, it must be between {min} and {max}")]
    OutOfRange {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The least value.
        min: u64,
        /// The greatest value.
        max: u64,
    },
}

impl Params {
    /// Derives the parameters for a node list of `nodes` nodes.
    ///
    /// # Errors
    /// [`ParamsError`] names the first setting that breaks a limit or relation.
    pub fn derive(settings: &TotemSettings, nodes: usize) -> Result<Self, ParamsError> {
        let s = settings;
        let extra_nodes = u64::try_from(nodes.saturating_sub(2)).unwrap_or(u64::MAX).min(10_000);
        let coefficient = u64::from(s.token_coefficient.unwrap_or(650));
        let token = u64::from(s.token.unwrap_or(3000)) + coefficient * extra_nodes;
        let retransmits = u64::from(s.token_retransmits_before_loss_const.unwrap_or(4));
        let token_retransmit = s.token_retransmit.map_or(token * 10 / (retransmits * 10 + 2), u64::from);
        let hold = s.hold.map_or((token_retransmit * 8).saturating_sub(100) / 10, u64::from);
        let join = u64::from(s.join.unwrap_or(50));
        let consensus = s.consensus.map_or(token * 12 / 10, u64::from);
        let merge = u64::from(s.merge.unwrap_or(200));
        let downcheck = u64::from(s.downcheck.unwrap_or(1000));
        check_timeout("token", token, TIMEOUT_MIN)?;
        check_timeout("token_retransmit", token_retransmit, TIMEOUT_MIN)?;
        check_timeout("hold", hold, HOLD_MIN)?;
        check_timeout("join", join, TIMEOUT_MIN)?;
        check_timeout("consensus", consensus, TIMEOUT_MIN)?;
        check_timeout("merge", merge, TIMEOUT_MIN)?;
        check_timeout("downcheck", downcheck, TIMEOUT_MIN)?;
        if consensus < join {
            return Err(ParamsError::ConsensusBelowJoin { consensus, join });
        }
        Ok(Self {
            token: Duration::from_millis(token),
            token_warning: warning(token, u64::from(s.token_warning.unwrap_or(75)))?,
            token_retransmit: Duration::from_millis(token_retransmit),
            hold: Duration::from_millis(hold),
            join: Duration::from_millis(join),
            send_join: Duration::from_millis(u64::from(s.send_join.unwrap_or(0))),
            consensus: Duration::from_millis(consensus),
            merge: Duration::from_millis(merge),
            downcheck: Duration::from_millis(downcheck),
            fail_recv_const: at_least_one("fail_recv_const", s.fail_recv_const, 2500, u32::MAX)?,
            seqno_unchanged_const: s.seqno_unchanged_const.unwrap_or(30),
            heartbeat: heartbeat(s, token, token_retransmit),
            window_size: at_least_one("window_size", s.window_size, 50, WINDOW_SEQS / 4)?,
            max_messages: at_least_one("max_messages", s.max_messages, 17, WINDOW_SEQS / 4)?,
            miss_count_const: s.miss_count_const.unwrap_or(5),
            cancel_token_hold_on_retransmit: s.cancel_token_hold_on_retransmit.unwrap_or(false),
            block_unlisted_ips: s.block_unlisted_ips.unwrap_or(true),
            net_mtu: net_mtu(s.net_mtu.unwrap_or(1410))?,
            fast_detection: s.quorate_fast_detection.unwrap_or(true),
            initial_seq: 0,
        })
    }

    /// Packets that one send queue holds: 4 MiB worth of full packets.
    #[must_use]
    pub fn send_queue_packets_max(&self) -> usize {
        SEND_QUEUE_BYTES_MAX / self.net_mtu as usize
    }
}

/// The defaults for two nodes.
impl Default for Params {
    fn default() -> Self {
        Self::derive(&TotemSettings::default(), 2).expect("the defaults keep their own limits")
    }
}

fn check_timeout(name: &'static str, value: u64, min: u32) -> Result<(), ParamsError> {
    if value < u64::from(min) {
        return Err(ParamsError::TimeoutTooSmall { name, value, min });
    }
    Ok(())
}

fn at_least_one(
    name: &'static str,
    setting: Option<u32>,
    default: u32,
    max: u32,
) -> Result<u32, ParamsError> {
    let value = setting.unwrap_or(default);
    if value == 0 || value > max {
        return Err(ParamsError::OutOfRange { name, value: value.into(), min: 1, max: max.into() });
    }
    Ok(value)
}

fn net_mtu(value: u32) -> Result<u32, ParamsError> {
    let range = 256..=65_500;
    if !range.contains(&value) {
        let (min, max) = ((*range.start()).into(), (*range.end()).into());
        return Err(ParamsError::OutOfRange { name: "netmtu", value: value.into(), min, max });
    }
    Ok(value)
}

fn warning(token: u64, percent: u64) -> Result<Option<Duration>, ParamsError> {
    if percent > 100 {
        return Err(ParamsError::OutOfRange { name: "token_warning", value: percent, min: 0, max: 100 });
    }
    Ok((percent > 0).then(|| Duration::from_millis(token * percent / 100)))
}

fn heartbeat(s: &TotemSettings, token: u64, token_retransmit: u64) -> Option<Duration> {
    let failures = u64::from(s.heartbeat_failures_allowed.unwrap_or(0));
    let timeout = failures
        .saturating_mul(token_retransmit)
        .saturating_add(u64::from(s.max_network_delay.unwrap_or(50)));
    (failures > 0 && timeout < token).then(|| Duration::from_millis(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(d: Duration) -> u128 {
        d.as_millis()
    }

    #[test]
    fn defaults_for_two_nodes_are_those_of_corosync() {
        let params = Params::default();

        assert_eq!(millis(params.token), 3000);
        assert_eq!(millis(params.token_retransmit), 714);
        assert_eq!(millis(params.hold), 561);
        assert_eq!(millis(params.consensus), 3600);
        assert_eq!(params.token_warning.map(millis), Some(2250));
        assert_eq!(params.heartbeat, None);
        assert_eq!(params.send_queue_packets_max(), 2974);
    }

    #[test]
    fn third_node_adds_the_token_coefficient() {
        let params = Params::derive(&TotemSettings::default(), 3).unwrap();

        assert_eq!(millis(params.token), 3650);
        assert_eq!(millis(params.token_retransmit), 869);
        assert_eq!(millis(params.hold), 685);
        assert_eq!(millis(params.consensus), 4380);
    }

    #[test]
    fn explicit_value_replaces_the_derived_one() {
        let settings = TotemSettings { token: Some(1000), hold: Some(100), ..TotemSettings::default() };

        let params = Params::derive(&settings, 2).unwrap();

        assert_eq!(millis(params.token_retransmit), 238);
        assert_eq!(millis(params.hold), 100);
        assert_eq!(millis(params.consensus), 1200);
    }

    #[test]
    fn settings_out_of_their_limits_are_refused_by_name() {
        let refused = |settings: TotemSettings| Params::derive(&settings, 2).unwrap_err().to_string();

        let short_join = TotemSettings { join: Some(5), ..TotemSettings::default() };
        assert_eq!(refused(short_join), "totem.join is 5 ms, it must be at least 30 ms");
        let slow_join = TotemSettings { join: Some(900), consensus: Some(800), ..TotemSettings::default() };
        assert!(refused(slow_join).contains("must not be below totem.join"));
        let no_window = TotemSettings { window_size: Some(0), ..TotemSettings::default() };
        assert!(refused(no_window).contains("totem.window_size is 0"));
        let warn = TotemSettings { token_warning: Some(101), ..TotemSettings::default() };
        assert!(refused(warn).contains("token_warning"));
        let mtu = TotemSettings { net_mtu: Some(9), ..TotemSettings::default() };
        assert!(refused(mtu).contains("netmtu"));
    }

    #[test]
    fn heartbeat_is_off_when_it_would_not_beat_the_token_timeout() {
        let with = |n| TotemSettings { heartbeat_failures_allowed: Some(n), ..TotemSettings::default() };

        assert_eq!(Params::derive(&with(2), 2).unwrap().heartbeat.map(millis), Some(2 * 714 + 50));
        assert_eq!(Params::derive(&with(5), 2).unwrap().heartbeat, None);
    }
}
