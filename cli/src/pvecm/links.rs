//! The addresses of a node's links, in the options of both eras.
//!
//! `--link0` to `--link7` are today's; `--ring0_addr`, `--ring1_addr`, `--bindnet0_addr`, `--bindnet1_addr` and
//! `--rrp_mode` are corosync 2's. Source: spec 2.

use std::{net::IpAddr, str::FromStr};

use crate::error::Error;

/// Addresses of this node, one per link, for `create` and `add`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Links")]
pub(super) struct LinkOptions {
    /// Address of this node on link 0: [address=]ADDR[,priority=N] [default: the node's address]
    #[arg(long, value_name = "LINK")]
    link0: Option<Link>,
    /// Address of this node on link 1, and so on up to --link7
    #[arg(long, value_name = "LINK")]
    link1: Option<Link>,
    #[arg(long, value_name = "LINK", hide = true)]
    link2: Option<Link>,
    #[arg(long, value_name = "LINK", hide = true)]
    link3: Option<Link>,
    #[arg(long, value_name = "LINK", hide = true)]
    link4: Option<Link>,
    #[arg(long, value_name = "LINK", hide = true)]
    link5: Option<Link>,
    #[arg(long, value_name = "LINK", hide = true)]
    link6: Option<Link>,
    #[arg(long, value_name = "LINK", hide = true)]
    link7: Option<Link>,
    /// The same as --link0 ADDR
    #[arg(long = "ring0_addr", value_name = "ADDR")]
    ring0: Option<Address>,
    /// The same as --link1 ADDR
    #[arg(long = "ring1_addr", value_name = "ADDR")]
    ring1: Option<Address>,
}

/// What only `create` of corosync 2 had.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Links")]
pub(super) struct LegacyOptions {
    /// Accepted: the ring is bound to its address
    #[arg(long = "bindnet0_addr", value_name = "ADDR")]
    bindnet0: Option<Address>,
    /// Accepted with --ring1_addr: the ring is bound to its address
    #[arg(long = "bindnet1_addr", value_name = "ADDR")]
    bindnet1: Option<Address>,
    /// With two rings: one at a time (passive), or both at once (active)
    #[arg(long = "rrp_mode", value_enum, value_name = "MODE")]
    rrp_mode: Option<RrpMode>,
}

/// corosync 2's redundant ring protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RrpMode {
    None,
    Active,
    Passive,
}

/// An IP address or a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address(String);

/// An address that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no IP address or host name")]
pub(super) struct AddressError(String);

impl Address {
    fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let label = |label: &str| {
            let ends = label.starts_with('-') || label.ends_with('-');
            !label.is_empty()
                && !ends
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_name = text.len() <= 253 && text.split('.').all(label);
        let is_ip = text.parse::<IpAddr>().is_ok();
        if is_ip || is_name { Ok(Self(text.to_owned())) } else { Err(AddressError(text.to_owned())) }
    }
}

/// One link: its address, and its rank among the links that work.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    address: Address,
    priority: Option<u8>,
}

/// Why a link was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    /// The address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The priority.
    #[error("priority '{0}' is no number from 0 to 255")]
    Priority(String),
    /// Neither address nor priority, or one of them twice.
    #[error("'{0}' is not [address=]ADDR[,priority=0..255]")]
    Form(String),
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let form = || LinkError::Form(text.to_owned());
        let (mut address, mut priority) = (None, None);
        for part in text.split(',') {
            match part.split_once('=') {
                None if address.is_none() => address = Some(part.parse()?),
                Some(("address", value)) if address.is_none() => address = Some(value.parse()?),
                Some(("priority", value)) if priority.is_none() => {
                    priority = Some(value.parse().map_err(|_| LinkError::Priority(value.to_owned()))?);
                }
                _ => return Err(form()),
            }
        }
        Ok(Self { address: address.ok_or_else(form)?, priority })
    }
}

/// What the options mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// One address per link, in link order; empty: the node's own address.
    pub(super) addresses: Vec<String>,
    /// The priority of each link, if any was given.
    pub(super) priorities: Vec<u32>,
    /// All links are used at once.
    pub(super) active: bool,
    /// Options that were accepted without effect, and why.
    pub(super) notes: Vec<String>,
}

impl LinkOptions {
    /// The links, for `add`.
    ///
    /// # Errors
    /// [`Error::Parameters`] with every contradiction.
    pub(super) fn links(&self) -> Result<Links, Error> {
        let mut links = self.links_with(&LegacyOptions::default())?;
        if !std::mem::take(&mut links.priorities).is_empty() {
            links
                .notes
                .push("link priorities are those of the cluster's corosync.conf, not of one node".into());
        }
        Ok(links)
    }

    /// The links, for `create`.
    ///
    /// # Errors
    /// [`Error::Parameters`] with every contradiction.
    pub(super) fn links_with(&self, legacy: &LegacyOptions) -> Result<Links, Error> {
        let mut problems = Vec::new();
        let links = self.today();
        let rings = [self.ring0.as_ref(), self.ring1.as_ref()];
        let is_legacy = rings.iter().any(Option::is_some) || legacy.is_used();
        if is_legacy && links.iter().any(Option::is_some) {
            problems
                .push("link0..link7: not together with ring0_addr, ring1_addr, bindnet or rrp_mode".into());
        }
        let mut notes = Vec::new();
        let mut active = false;
        if is_legacy {
            active = legacy.rrp_mode == Some(RrpMode::Active) && rings[1].is_some();
            legacy.check(rings, &mut problems, &mut notes);
        }
        let given = if is_legacy {
            rings.to_vec()
        } else {
            links.map(|link| link.map(|link| &link.address)).to_vec()
        };
        let addresses = contiguous(&given, if is_legacy { "ring" } else { "link" }, &mut problems);
        let priorities = if is_legacy { Vec::new() } else { priorities(&self.today()) };
        if problems.is_empty() {
            Ok(Links { addresses, priorities, active, notes })
        } else {
            Err(Error::Parameters(problems))
        }
    }

    fn today(&self) -> [Option<&Link>; 8] {
        [
            &self.link0,
            &self.link1,
            &self.link2,
            &self.link3,
            &self.link4,
            &self.link5,
            &self.link6,
            &self.link7,
        ]
        .map(Option::as_ref)
    }
}

impl LegacyOptions {
    fn is_used(&self) -> bool {
        self.bindnet0.is_some() || self.bindnet1.is_some() || self.rrp_mode.is_some()
    }

    /// The rules for two rings, numbered as in spec 2.
    fn check(&self, rings: [Option<&Address>; 2], problems: &mut Vec<String>, notes: &mut Vec<String>) {
        // 1. bindnet1 belongs to ring 1.
        if self.bindnet1.is_some() && rings[1].is_none() {
            problems.push("bindnet1_addr: needs ring1_addr".into());
        }
        // 2. One IP family for all.
        let addresses = [rings[0], rings[1], self.bindnet0.as_ref(), self.bindnet1.as_ref()];
        let families: Vec<bool> =
            addresses.into_iter().flatten().filter_map(Address::ip).map(|ip| ip.is_ipv4()).collect();
        if families.windows(2).any(|pair| pair[0] != pair[1]) {
            problems.push("ring and bindnet addresses: IPv4 and IPv6 cannot be mixed".into());
        }
        // 3. rrp_mode fits the number of rings.
        match (self.rrp_mode, rings[1].is_some()) {
            (Some(RrpMode::None), true) => problems.push("rrp_mode: 'none' does not fit two rings".into()),
            (Some(RrpMode::Active), true) => {
                notes.push(
                    "rrp_mode active: every packet is sent on both rings, which doubles the traffic".into(),
                );
            }
            (Some(RrpMode::Active | RrpMode::Passive), false) => {
                notes.push("rrp_mode has no effect with one ring".into());
            }
            _ => {}
        }
        if self.bindnet0.is_some() || self.bindnet1.is_some() {
            notes.push("bindnet addresses have no effect: a ring is bound to its address".into());
        }
    }
}

/// Priorities of all links, if any has one. Source: corosync.conf(5), `knet_link_priority`, default 1.
fn priorities(links: &[Option<&Link>; 8]) -> Vec<u32> {
    let given = || links.iter().flatten().map(|link| link.priority);
    if given().any(|priority| priority.is_some()) {
        given().map(|priority| priority.unwrap_or(1).into()).collect()
    } else {
        Vec::new()
    }
}

/// The addresses without gaps: link 1 needs link 0.
fn contiguous(given: &[Option<&Address>], word: &str, problems: &mut Vec<String>) -> Vec<String> {
    let used = given.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    for (number, _) in given[..used].iter().enumerate().filter(|(_, address)| address.is_none()) {
        problems.push(format!("{word}{number}: missing, because {word}{} is given", used - 1));
    }
    given[..used].iter().flatten().map(|address| address.0.clone()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        links: LinkOptions,
        #[command(flatten)]
        legacy: LegacyOptions,
    }

    fn links(line: &str) -> Result<Links, Vec<String>> {
        let line =
            Line::try_parse_from(format!("x {line}").split_whitespace()).map_err(|e| vec![e.to_string()])?;
        line.links.links_with(&line.legacy).map_err(|error| error.report().details)
    }

    fn addresses(line: &str) -> Vec<String> {
        links(line).unwrap().addresses
    }

    #[test]
    fn no_option_means_the_nodes_own_address() {
        assert_eq!(links(""), Ok(Links::default()));
    }

    #[test]
    fn a_link_is_an_address_with_or_without_its_key() {
        assert_eq!(addresses("--link0 10.0.0.1"), ["10.0.0.1"]);
        assert_eq!(
            addresses("--link0 address=10.0.0.1,priority=0 --link1 hp1-b.lan"),
            ["10.0.0.1", "hp1-b.lan"]
        );
        assert_eq!(addresses("--link0 priority=0,fe80::1"), ["fe80::1"]);
    }

    #[test]
    fn one_priority_gives_every_link_one() {
        assert!(links("--link0 10.0.0.1").unwrap().priorities.is_empty());
        let two = links("--link0 10.0.0.1 --link1 10.1.0.1,priority=20").unwrap();
        assert_eq!(two.priorities, [1, 20]);
    }

    #[test]
    fn rrp_mode_active_uses_both_rings() {
        let two = "--ring0_addr 10.0.0.1 --ring1_addr 10.1.0.1";
        assert!(links(&format!("{two} --rrp_mode active")).unwrap().active);
        assert!(!links(two).unwrap().active);
    }

    #[test]
    fn rings_are_links_under_their_old_name() {
        assert_eq!(addresses("--ring0_addr 10.0.0.1 --ring1_addr 10.1.0.1"), ["10.0.0.1", "10.1.0.1"]);
    }

    #[test]
    fn every_contradiction_is_told_at_once() {
        let problems = links("--link0 10.0.0.1 --bindnet1_addr ::1 --ring0_addr 10.0.0.1").unwrap_err();
        assert_eq!(
            problems,
            [
                "link0..link7: not together with ring0_addr, ring1_addr, bindnet or rrp_mode",
                "bindnet1_addr: needs ring1_addr",
                "ring and bindnet addresses: IPv4 and IPv6 cannot be mixed",
            ]
        );
    }

    #[test]
    fn a_second_link_needs_the_first() {
        assert_eq!(links("--link1 10.0.0.1").unwrap_err(), ["link0: missing, because link1 is given"]);
        assert_eq!(links("--ring1_addr 10.0.0.1").unwrap_err(), ["ring0: missing, because ring1 is given"]);
    }

    #[test]
    fn rrp_mode_must_fit_the_number_of_rings() {
        let two = "--ring0_addr 10.0.0.1 --ring1_addr 10.1.0.1";
        assert_eq!(
            links(&format!("{two} --rrp_mode none")).unwrap_err(),
            ["rrp_mode: 'none' does not fit two rings"]
        );
        assert!(links(&format!("{two} --rrp_mode passive")).unwrap().notes.is_empty());
        let one = links("--ring0_addr 10.0.0.1 --rrp_mode passive").unwrap();
        assert_eq!(one.notes, ["rrp_mode has no effect with one ring"]);
    }

    #[test]
    fn malformed_links_are_refused() {
        for link in
            ["", "a b", "-a", "10.0.0.1,priority=256", "10.0.0.1,10.0.0.2", "priority=1", "a,weight=1"]
        {
            assert!(link.parse::<Link>().is_err(), "{link}");
        }
    }

    proptest! {
        #[test]
        fn no_link_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Link>();
        }
    }
}
