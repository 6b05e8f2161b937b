//! A network card's line: `net0: virtio=BC:24:11:00:00:01,bridge=vmbr0`.

use crate::property::{Properties, PropertyError};

/// Models of cards, and QEMU's device for each. Source: qm.conf.
const MODELS: [(&str, &str); 6] = [
    ("virtio", "virtio-net-pci"),
    ("e1000", "e1000"),
    ("e1000e", "e1000e"),
    ("rtl8139", "rtl8139"),
    ("vmxnet3", "vmxnet3"),
    ("ne2k_pci", "ne2k_pci"),
];
/// Cards that a machine may have.
const MAX: u32 = 32;

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its number.
    pub number: u32,
    /// QEMU's device.
    pub device: &'static str,
    /// Its address; `None`: one is to be made.
    pub mac: Option<String>,
    /// The bridge of the host that it is plugged into; `None`: behind the host's address.
    pub bridge: Option<String>,
    /// The line without its model and address.
    options: Properties,
    model: &'static str,
}

/// Why a line is no card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// It is no property string.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// It has no model that is known.
    #[error("no model is given: virtio, e1000, e1000e, rtl8139, vmxnet3 or ne2k_pci")]
    Model,
    /// Its address is none.
    #[error("'{0}' is no address of a card: that is XX:XX:XX:XX:XX:XX with an even second digit")]
    Address(String),
    /// Its bridge has a name that no interface can have.
    #[error("'{0}' is no bridge: that is a name of 1 to 15 letters, digits, '-', '_' or '.'")]
    Bridge(String),
}

/// The number of a card that a key such as `net0` names.
#[must_use]
pub fn number_of(key: &str) -> Option<u32> {
    let number = key.strip_prefix("net")?.parse().ok().filter(|number| *number < MAX)?;
    (key == format!("net{number}")).then_some(number)
}

impl Card {
    /// Reads a line's value.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn parse(number: u32, value: &str) -> Result<Self, CardError> {
        let mut options = Properties::parse(value, Some("model"))?;
        let mut found = None;
        if let Some(name) = options.take("model") {
            let mac = options.take("macaddr");
            found = MODELS.into_iter().find(|(model, _)| *model == name).map(|known| (known, mac));
        }
        for known in MODELS {
            if let Some(mac) = options.take(known.0) {
                found = Some((known, Some(mac)));
            }
        }
        let ((model, device), mac) = found.ok_or(CardError::Model)?;
        if let Some(mac) = mac.as_deref().filter(|mac| !is_address(mac)) {
            return Err(CardError::Address(mac.to_owned()));
        }
        let bridge = options.get("bridge").map(str::to_owned);
        if let Some(bridge) = bridge.as_deref().filter(|bridge| !is_interface(bridge)) {
            return Err(CardError::Bridge(bridge.to_owned()));
        }
        Ok(Self { number, device, mac, bridge, options, model })
    }

    /// The line's value with this address.
    #[must_use]
    pub fn with_address(&self, mac: &str) -> String {
        let options = self.options.iter().map(|(key, value)| format!(",{key}={value}"));
        format!("{}={mac}{}", self.model, options.collect::<String>())
    }
}

/// A card's address with the prefix that Proxmox owns, from three random bytes.
#[must_use]
pub fn address_of(random: [u8; 3]) -> String {
    format!("BC:24:11:{:02X}:{:02X}:{:02X}", random[0], random[1], random[2])
}

fn is_address(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_unicast = || u8::from_str_radix(parts[0], 16).is_ok_and(|byte| byte & 1 == 0);
    parts.len() == 6 && parts.iter().all(is_byte) && is_unicast()
}

fn is_interface(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=15).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ways_to_write_a_card_are_read() {
        let old = Card::parse(0, "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1").unwrap();
        let new = Card::parse(0, "model=virtio,macaddr=BC:24:11:00:00:01,bridge=vmbr0,firewall=1").unwrap();
        assert_eq!(old, new);
        assert_eq!(old.with_address("BC:24:11:00:00:02"), "virtio=BC:24:11:00:00:02,bridge=vmbr0,firewall=1");
        assert_eq!(Card::parse(1, "e1000").unwrap().mac, None);
    }

    #[test]
    fn what_is_no_card_says_why() {
        let error = |text: &str| Card::parse(0, text).unwrap_err();
        assert_eq!(error("bridge=vmbr0"), CardError::Model);
        assert_eq!(error("virtio=01:24:11:00:00:01"), CardError::Address("01:24:11:00:00:01".into()));
        assert_eq!(error("virtio,bridge=../x"), CardError::Bridge("../x".into()));
        assert_eq!((number_of("net31"), number_of("net32"), number_of("net01")), (Some(31), None, None));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}") {
            let _ = Card::parse(0, &text);
        }

        #[test]
        fn an_address_that_is_made_is_one(random in any::<[u8; 3]>()) {
            prop_assert!(is_address(&address_of(random)));
        }
    }
}
