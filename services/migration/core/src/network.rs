//! Which network carries a migration's data, and which of a node's addresses lies in it.

use std::{fmt, net::IpAddr, str::FromStr};

/// A network such as `10.1.2.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// The text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no network; it is written as ADDRESS/BITS, such as 10.1.2.0/24")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CidrError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (plain && prefix <= bits).then_some(Self { address, prefix }).ok_or_else(error)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The leading `prefix` bits of an address, and its family.
fn head(address: IpAddr, prefix: u8) -> (bool, u128) {
    let (bits, value) = match address {
        IpAddr::V4(v4) => (32, u128::from(u32::from(v4))),
        IpAddr::V6(v6) => (128, u128::from(v6)),
    };
    let rest = bits - u32::from(prefix);
    (address.is_ipv4(), value.checked_shr(rest).unwrap_or(0))
}

impl Cidr {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        head(address, self.prefix.min(if address.is_ipv4() { 32 } else { 128 }))
            == head(self.address, self.prefix)
    }
}

/// A node has none or several addresses in the network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// None.
    #[error("node '{node}' has no address in the migration network {network}")]
    None {
        /// The node.
        node: String,
        /// The network.
        network: Cidr,
    },
    /// Several.
    #[error(
        "node '{node}' has several addresses in the migration network {network}: {found}; exactly one is needed"
    )]
    Several {
        /// The node.
        node: String,
        /// The network.
        network: Cidr,
        /// The addresses.
        found: String,
    },
}

/// The one address that lies in the network.
///
/// # Errors
/// [`AddressError`] if there is none or more than one.
pub fn only_address(node: &str, network: Cidr, addresses: &[IpAddr]) -> Result<IpAddr, AddressError> {
    let mut found: Vec<IpAddr> =
        addresses.iter().copied().filter(|address| network.contains(*address)).collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [] => Err(AddressError::None { node: node.to_owned(), network }),
        [only] => Ok(only),
        _ => {
            let found = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(AddressError::Several { node: node.to_owned(), network, found })
        }
    }
}

/// How memory travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Encrypted, both nodes authenticated by their certificates.
    #[default]
    Secure,
    /// In clear: for a network that nobody else is in.
    Insecure,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secure => "secure",
            Self::Insecure => "insecure",
        }
    }
}

/// What is wrong with the settings of migrations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A type that is none.
    #[error("'{0}' is no type of migration: 'secure' or 'insecure'")]
    Kind(String),
    /// A network that is none.
    #[error(transparent)]
    Network(#[from] CidrError),
    /// A network alone.
    #[error("a migration network needs the type in front: 'migration: secure,network={0}'")]
    NetworkWithoutKind(String),
    /// Something else.
    #[error("'{0}' is no setting of migrations: 'type' and 'network' are")]
    Unknown(String),
    /// The same twice.
    #[error("'{0}' is given twice")]
    Twice(String),
}

/// What `datacenter.cfg` says of migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// How memory travels.
    pub kind: Kind,
    /// Over which network; `None`: the nodes' own addresses.
    pub network: Option<Cidr>,
}

impl FromStr for Kind {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "secure" => Ok(Self::Secure),
            "insecure" => Ok(Self::Insecure),
            _ => Err(SettingsError::Kind(text.to_owned())),
        }
    }
}

impl FromStr for Settings {
    type Err = SettingsError;

    /// Reads the value of `migration`: `[type=]secure|insecure[,network=CIDR]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut kind, mut network) = (None, None);
        for part in text.split(',').map(str::trim) {
            let (key, value) = part.split_once('=').unwrap_or(("type", part));
            let twice = match key {
                "type" => kind.replace(value.parse::<Kind>()?).is_some(),
                "network" => network.replace(value.parse::<Cidr>()?).is_some(),
                _ => return Err(SettingsError::Unknown(key.to_owned())),
            };
            if twice {
                return Err(SettingsError::Twice(key.to_owned()));
            }
        }
        match (kind, network) {
            (None, Some(network)) => Err(SettingsError::NetworkWithoutKind(network.to_string())),
            (kind, network) => Ok(Self { kind: kind.unwrap_or_default(), network }),
        }
    }
}

impl Settings {
    /// Reads `datacenter.cfg`: `migration`, or without it the older `migration_unsecure`.
    ///
    /// # Errors
    /// [`SettingsError`] for a value of `migration` that makes no sense.
    pub fn of_datacenter(file: &str) -> Result<Self, SettingsError> {
        let value = |wanted: &str| {
            let lines = file.lines().map(str::trim).filter(|line| !line.starts_with('#'));
            let mut values =
                lines.filter_map(|line| line.split_once(':')).filter(|(key, _)| key.trim() == wanted);
            values.next().map(|(_, value)| value.trim().to_owned())
        };
        if let Some(text) = value("migration") {
            return text.parse();
        }
        let unsecure =
            value("migration_unsecure").is_some_and(|text| ["1", "yes", "on", "true"].contains(&&*text));
        Ok(Self { kind: if unsecure { Kind::Insecure } else { Kind::Secure }, network: None })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_network_is_an_address_and_a_number_of_bits() {
        let network: Cidr = "10.1.2.0/24".parse().unwrap();
        assert!(network.contains("10.1.2.7".parse().unwrap()));
        assert!(!network.contains("10.1.3.7".parse().unwrap()));
        assert!(!network.contains("::1".parse().unwrap()));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("10.1.3.7".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        for bad in ["", "10.1.2.0", "10.1.2.0/", "10.1.2.0/33", "10.1.2/24", "::/129", "x/8", "10.0.0.0/+8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn exactly_one_address_of_a_node_lies_in_the_network() {
        let network: Cidr = "10.1.2.0/24".parse().unwrap();
        let one = addresses(&["127.0.0.1", "10.1.2.3", "10.1.2.3", "192.168.0.1"]);
        assert_eq!(only_address("hp2", network, &one), Ok("10.1.2.3".parse().unwrap()));
        let none = only_address("hp2", network, &addresses(&["127.0.0.1"])).unwrap_err();
        assert_eq!(none.to_string(), "node 'hp2' has no address in the migration network 10.1.2.0/24");
        let two = only_address("hp2", network, &addresses(&["10.1.2.4", "10.1.2.3"])).unwrap_err();
        assert!(two.to_string().contains("several addresses"), "{two}");
        assert!(two.to_string().contains("10.1.2.3, 10.1.2.4"), "{two}");
    }

    #[test]
    fn the_settings_of_datacenter_cfg_name_type_and_network() {
        let both: Settings = "secure,network=10.1.2.0/24".parse().unwrap();
        assert_eq!(both, Settings { kind: Kind::Secure, network: Some("10.1.2.0/24".parse().unwrap()) });
        let insecure: Settings = "type=insecure".parse().unwrap();
        assert_eq!(insecure, Settings { kind: Kind::Insecure, network: None });
    }

    #[test]
    fn a_network_without_a_type_is_refused_and_so_is_nonsense() {
        let error = "network=10.1.2.0/24".parse::<Settings>().unwrap_err();
        assert_eq!(error, SettingsError::NetworkWithoutKind("10.1.2.0/24".into()));
        for bad in ["", "tls", "secure,insecure", "secure,speed=1", "secure,network=10"] {
            assert!(bad.parse::<Settings>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_older_key_counts_only_without_the_newer_one() {
        let kind = |file: &str| Settings::of_datacenter(file).unwrap().kind;
        assert_eq!(kind("keyboard: de\n"), Kind::Secure);
        assert_eq!(kind("migration_unsecure: 1\n"), Kind::Insecure);
        assert_eq!(kind("migration_unsecure: 1\nmigration: secure\n"), Kind::Secure);
        assert_eq!(kind("# migration: insecure\n"), Kind::Secure);
        assert!(Settings::of_datacenter("migration: network=10.1.2.0/24\n").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<Settings>();
            let _ = text.parse::<Cidr>();
            let _ = Settings::of_datacenter(&text);
        }

        #[test]
        fn every_address_lies_in_its_own_network(value in any::<u32>(), prefix in 0u8..=32) {
            let address = IpAddr::V4(value.into());
            let network: Cidr = format!("{address}/{prefix}").parse().unwrap();
            prop_assert!(network.contains(address));
        }
    }
}
