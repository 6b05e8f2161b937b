//! How much a datagram may carry: the arithmetic, and the search for a path's MTU.
//!
//! Sizes *on the wire* include IP and UDP headers. The search probes sizes between a floor that
//! every network carries and 65535: the largest first, since the kernel answers at once with what
//! the interface carries, then that, then by halves. Source: knet specification, section 5.

use std::net::SocketAddr;

use super::{crypto::Overhead, packet::PING_LENGTH};

/// UDP payload that every path is supposed to carry.
const PAYLOAD_MIN: u16 = 508;
/// No combination of headers and crypto leaves less for data: the head of a ring packet always fits.
const DATA_MTU_MIN: usize = 64;
/// The largest size that is probed.
const SIZE_MAX: u16 = u16::MAX;

/// Bytes of IP and UDP header before a datagram to this address.
#[must_use]
pub(super) fn ip_overhead(address: &SocketAddr) -> u16 {
    if address.ip().to_canonical().is_ipv4() { 28 } else { 48 }
}

/// The size on the wire that is assumed to pass before anything was probed.
#[must_use]
pub(super) fn floor(address: &SocketAddr) -> u16 {
    PAYLOAD_MIN + ip_overhead(address)
}

/// The longest packet in clear, header included, whose datagram is no longer than `size` on the wire.
#[must_use]
pub(super) fn packet_max(size: u16, address: &SocketAddr, crypto: Overhead) -> usize {
    let sealed = usize::from(size.saturating_sub(ip_overhead(address))).saturating_sub(crypto.fixed);
    match crypto.block {
        0 => sealed,
        // Whole blocks, of which padding takes at least one byte.
        block => sealed.saturating_sub(sealed % block + 1),
    }
}

/// Payload of a data packet whose datagram is no longer than `size` on the wire.
///
/// The reference subtracts the longest of its headers, not that of a data packet; so do we.
#[must_use]
pub(super) fn data_mtu(size: u16, address: &SocketAddr, crypto: Overhead) -> usize {
    packet_max(size, address, crypto).saturating_sub(PING_LENGTH).max(DATA_MTU_MIN)
}

/// The same for a size that every path is supposed to carry.
#[must_use]
pub(super) fn data_mtu_min(crypto: Overhead) -> usize {
    let anywhere = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 0));
    data_mtu(floor(&anywhere), &anywhere, crypto)
}

/// Length of the datagram of a packet.
#[must_use]
pub(super) fn sealed_length(packet: usize, crypto: Overhead) -> usize {
    let padding = if crypto.block == 0 { 0 } else { crypto.block - packet % crypto.block };
    packet + padding + crypto.fixed
}

/// A search for the largest size that passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    floor: u16,
    /// The largest size that passed; one less than the floor before any did.
    passed: u16,
    /// The smallest size that did not; one more than the largest before any failed.
    failed: u32,
    probing: u16,
    /// What the kernel said that the interface carries.
    interface: Option<u16>,
}

/// What a search wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Probe this size.
    Probe(u16),
    /// It is over: the largest size that passes, or `None` if not even the floor does.
    Done(Option<u16>),
}

impl Search {
    /// Begins with [`Search::probing`].
    #[must_use]
    pub(super) fn new(floor: u16) -> Self {
        Self { floor, passed: floor - 1, failed: u32::from(SIZE_MAX) + 1, probing: SIZE_MAX, interface: None }
    }

    /// The size that is being probed.
    #[must_use]
    pub(super) fn probing(&self) -> u16 {
        self.probing
    }

    /// The largest size that has passed so far.
    #[must_use]
    pub(super) fn passed(&self) -> Option<u16> {
        Some(self.passed).filter(|passed| *passed >= self.floor)
    }

    /// Whether the size being probed is what the kernel says that the interface carries.
    #[must_use]
    pub(super) fn is_at_interface(&self) -> bool {
        self.interface == Some(self.probing)
    }

    /// The probe was answered.
    pub(super) fn probe_passed(&mut self) -> Step {
        self.passed = self.probing;
        self.next()
    }

    /// The probe was not answered.
    pub(super) fn probe_failed(&mut self) -> Step {
        self.failed = u32::from(self.probing);
        self.next()
    }

    /// The kernel refused the probe, and may have told what the interface carries.
    pub(super) fn probe_refused(&mut self, interface_mtu: Option<usize>) -> Step {
        self.failed = u32::from(self.probing);
        let known = interface_mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(|mtu| self.is_open(*mtu));
        if let Some(mtu) = known {
            self.interface = Some(mtu);
            self.failed = u32::from(mtu) + 1;
            self.probing = mtu;
            return Step::Probe(mtu);
        }
        self.next()
    }

    fn is_open(&self, size: u16) -> bool {
        size > self.passed && u32::from(size) < self.failed
    }

    fn next(&mut self) -> Step {
        let middle = (u32::from(self.passed) + self.failed) / 2;
        match u16::try_from(middle).ok().filter(|middle| self.is_open(*middle)) {
            Some(size) => {
                self.probing = size;
                Step::Probe(size)
            }
            None => Step::Done(self.passed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AES_SHA256: Overhead = Overhead { fixed: 48, block: 16 };
    const CLEAR: Overhead = Overhead { fixed: 0, block: 0 };

    fn v4() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 5405))
    }

    fn v6() -> SocketAddr {
        SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 5405))
    }

    #[test]
    fn sizes_are_those_that_were_captured() {
        assert_eq!(data_mtu(1500, &v4(), CLEAR), 1446);
        assert_eq!(data_mtu(1500, &v4(), AES_SHA256), 1397);
        assert_eq!(data_mtu(1500, &v6(), CLEAR), 1426);
        for address in [v4(), v6()] {
            assert_eq!(data_mtu(floor(&address), &address, CLEAR), 482);
            assert_eq!(data_mtu(floor(&address), &address, AES_SHA256), 421);
        }
        // the probe of 1500 with aes256 and sha256, and the one of 1116
        assert_eq!(packet_max(1500, &v4(), AES_SHA256), 1423);
        assert_eq!(sealed_length(1423, AES_SHA256), 1472);
        assert_eq!(packet_max(1116, &v4(), AES_SHA256), 1039);
        assert_eq!(sealed_length(1039, AES_SHA256), 1088);
    }

    #[test]
    fn what_the_kernel_says_saves_the_search() {
        let mut search = Search::new(536);

        assert_eq!(search.probing(), 65_535);
        assert_eq!(search.probe_refused(Some(1500)), Step::Probe(1500));
        assert!(search.is_at_interface());
        assert_eq!(search.probe_passed(), Step::Done(Some(1500)));
    }

    #[test]
    fn nonsense_from_the_kernel_is_no_more_than_a_failed_probe() {
        for nonsense in [None, Some(0), Some(535), Some(65_535), Some(1 << 20)] {
            let mut search = Search::new(536);
            assert_eq!(search.probe_refused(nonsense), Step::Probe(33_035), "{nonsense:?}");
        }
    }

    proptest! {
        #[test]
        fn the_search_finds_the_size_that_passes(limit in 400u16.., interface in prop::option::of(400usize..70_000)) {
            let mut search = Search::new(536);
            let mut step = Step::Probe(search.probing());
            let mut probes = 0;
            while let Step::Probe(size) = step {
                probes += 1;
                step = match interface {
                    Some(mtu) if usize::from(size) > mtu => search.probe_refused(Some(mtu)),
                    _ if size <= limit => search.probe_passed(),
                    _ => search.probe_failed(),
                };
            }
            let limit = u16::try_from(interface.unwrap_or(usize::MAX)).unwrap_or(u16::MAX).min(limit);
            prop_assert_eq!(step, Step::Done(Some(limit).filter(|limit| *limit >= 536)));
            prop_assert!(probes <= 18);
        }

        #[test]
        fn a_packet_of_the_greatest_length_fits_and_a_longer_one_does_not(size in 576u16..) {
            for crypto in [CLEAR, AES_SHA256, Overhead { fixed: 64, block: 0 }] {
                let longest = packet_max(size, &v4(), crypto);
                let room = usize::from(size) - 28;
                prop_assert!(sealed_length(longest, crypto) <= room);
                prop_assert!(sealed_length(longest + 1, crypto) > room);
            }
        }
    }
}
