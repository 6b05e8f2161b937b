//! Senders whose packets are dropped because their address is not configured, such as a node that was removed and still
//! runs: who they are, how much they send, and when they were heard last.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

/// Senders that are remembered; a further one takes the place of the one that has been silent for longest.
pub const STRANGERS_MAX: usize = 16;

/// A sender that is not configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stranger {
    /// Datagrams that were dropped.
    pub packets: u64,
    /// When the last one came.
    pub last: Instant,
}

/// The senders that were heard.
#[derive(Debug, Clone, Default)]
pub struct Strangers {
    heard: BTreeMap<IpAddr, Stranger>,
}

impl Strangers {
    /// A datagram came from an address that is not configured.
    pub fn heard(&mut self, now: Instant, from: IpAddr) {
        let from = from.to_canonical();
        if !self.heard.contains_key(&from) && self.heard.len() == STRANGERS_MAX {
            let silent = self.heard.iter().min_by_key(|(_, it)| it.last).map(|(&address, _)| address);
            silent.and_then(|address| self.heard.remove(&address));
        }
        let stranger = self.heard.entry(from).or_insert(Stranger { packets: 0, last: now });
        stranger.packets += 1;
        stranger.last = now;
    }

    /// An address is configured now: who sends from there is none any more.
    pub fn forget(&mut self, address: IpAddr) {
        self.heard.remove(&address.to_canonical());
    }

    /// Those that are remembered, by address.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, Stranger)> {
        self.heard.iter().map(|(&address, &stranger)| (address, stranger))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn a_sender_is_counted_whichever_way_its_address_is_written() {
        let (mut strangers, now) = (Strangers::default(), Instant::now());
        strangers.heard(now, address(4));
        let later = now + Duration::from_secs(1);
        strangers.heard(later, IpAddr::V6(Ipv4Addr::new(10, 0, 0, 4).to_ipv6_mapped()));
        let heard: Vec<_> = strangers.iter().collect();
        assert_eq!(heard, [(address(4), Stranger { packets: 2, last: later })]);
        strangers.forget(address(4));
        assert_eq!(strangers.iter().count(), 0);
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_the_longest_silent_one_goes() {
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        for number in 0..STRANGERS_MAX as u8 {
            strangers.heard(start + Duration::from_millis(number.into()), address(number));
        }
        strangers.heard(start + Duration::from_secs(1), address(0));
        strangers.heard(start + Duration::from_secs(2), address(200));
        let addresses: Vec<_> = strangers.iter().map(|(address, _)| address).collect();
        assert_eq!(addresses.len(), STRANGERS_MAX);
        assert!(addresses.contains(&address(0)) && addresses.contains(&address(200)));
        assert!(!addresses.contains(&address(1)), "it was silent for longest");
    }
}
