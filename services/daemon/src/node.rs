//! `etc/quorate/node.toml`: the few facts that only this node needs.
//!
//! ```toml
//! name = "hp1"                       # default: the host name up to its first dot
//! address = "10.0.0.1"               # default: what the name resolves to
//! gateway_port = 8006                # default: 8006
//! metrics_listen = "127.0.0.1:9100"  # default: no TCP port for metrics
//! mount = false                      # default: true, configd mounts the tree at etc/pve
//! ```
//!
//! A missing file means all defaults. Every mistake is reported at once, with file, key and value.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use quorate_types::NodeName;

use crate::paths::Root;

/// Port of the gateway unless `gateway_port` says otherwise: where Proxmox VE's clients look for it.
pub const GATEWAY_PORT: u16 = 8006;

/// What only this node needs to know, checked and complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Name of this node; its entry in corosync.conf is found by it. Default: the host name up to its
    /// first dot.
    pub name: NodeName,
    /// Address of this node on link 0, if set. See [`NodeConfig::resolve_address`].
    pub address: Option<IpAddr>,
    /// TCP port of the gateway. Default: [`GATEWAY_PORT`].
    pub gateway_port: u16,
    /// Where gatewayd serves the metrics of all daemons over plain HTTP. Default: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether the ring's thread may run in real time, before all ordinary ones. Default: yes. Where several nodes share
    /// a machine their rings would take the processors from their own daemons.
    pub real_time: bool,
    /// Whether configd mounts the tree at `etc/pve`. Default: yes. Without the right to mount it goes on without.
    pub mount: bool,
}

/// Why node.toml could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeConfigError {
    /// The file exists but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        source: Box<toml::de::Error>,
    },
    /// Keys or values that make no sense; all of them.
    #[error("{}", Mistakes { path, mistakes })]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// One per wrong key, in the order of the keys' names.
        mistakes: Vec<Mistake>,
    },
    /// `name` is not set and the host has no name that could be used instead.
    #[error("the host name '{host_name}' is no node name; set 'name' in {}", path.display())]
    HostName {
        /// The file that could set it.
        path: PathBuf,
        /// What the host is called.
        host_name: String,
        /// Why that does not do.
        source: quorate_types::NameError,
    },
}

/// A key of node.toml with what is wrong about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key.
    pub key: String,
    /// Its value, as TOML.
    pub value: String,
    /// Why it was refused.
    pub reason: String,
}

struct Mistakes<'a> {
    path: &'a Path,
    mistakes: &'a [Mistake],
}

impl fmt::Display for Mistakes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { key, value, reason }) in self.mistakes.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}: {key} = {value}: {reason}", self.path.display())?;
        }
        Ok(())
    }
}

/// Why this node's own address is not known.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The name cannot be looked up.
    #[error("cannot look up the address of '{name}'; set 'address' in node.toml")]
    Lookup {
        /// The node's name.
        name: NodeName,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name stands for loopback addresses only: no other node could reach this one.
    #[error("'{name}' resolves to loopback addresses only; set 'address' in node.toml or correct /etc/hosts")]
    OnlyLoopback {
        /// The node's name.
        name: NodeName,
    },
}

impl NodeConfig {
    /// Reads node.toml below `root`; a missing file means all defaults.
    ///
    /// # Errors
    /// [`NodeConfigError`], with all mistakes of the file at once.
    pub fn load(root: &Root) -> Result<Self, NodeConfigError> {
        let path = root.node_toml();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(NodeConfigError::Read { path, source }),
        };
        Self::parse(&text, &path, host_name)
    }

    /// The configuration of a node with this name and defaults for the rest.
    #[must_use]
    pub fn named(name: NodeName) -> Self {
        Self {
            name,
            address: None,
            gateway_port: GATEWAY_PORT,
            metrics_listen: None,
            real_time: true,
            mount: true,
        }
    }

    /// The address of this node on link 0: `address` if it is set, else what the name resolves to,
    /// loopback addresses left out.
    ///
    /// # Errors
    /// [`AddressError`] if the name does not resolve to an address that other nodes could reach.
    pub async fn resolve_address(&self) -> Result<IpAddr, AddressError> {
        if let Some(address) = self.address {
            return Ok(address);
        }
        let found = tokio::net::lookup_host((self.name.as_str(), self.gateway_port))
            .await
            .map_err(|source| AddressError::Lookup { name: self.name.clone(), source })?;
        found
            .map(|address| address.ip())
            .find(|address| !address.is_loopback())
            .ok_or_else(|| AddressError::OnlyLoopback { name: self.name.clone() })
    }

    fn parse(text: &str, path: &Path, host_name: impl FnOnce() -> String) -> Result<Self, NodeConfigError> {
        let table = text
            .parse::<toml::Table>()
            .map_err(|err| NodeConfigError::Syntax { path: path.to_owned(), source: Box::new(err) })?;
        let mut raw = RawConfig { table, mistakes: Vec::new() };
        let name = raw.take("name", |value| match value {
            toml::Value::String(name) => name.parse::<NodeName>().map_err(|err| err.to_string()),
            _ => Err("a string is expected".to_owned()),
        });
        let address = raw.take("address", |value| match value {
            toml::Value::String(address) => address.parse().map_err(|_| "no IP address".to_owned()),
            _ => Err("an IP address in quotes is expected".to_owned()),
        });
        let gateway_port = raw.take("gateway_port", |value| match value {
            toml::Value::Integer(port) => u16::try_from(*port)
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| "a port is a number from 1 to 65535".to_owned()),
            _ => Err("a number is expected".to_owned()),
        });
        let metrics_listen = raw.take("metrics_listen", |value| match value {
            toml::Value::String(listen) => listen.parse().map_err(|_| "no ADDRESS:PORT".to_owned()),
            _ => Err("ADDRESS:PORT in quotes is expected".to_owned()),
        });
        let real_time = raw.take("real_time", |value| match value {
            toml::Value::Boolean(real_time) => Ok(*real_time),
            _ => Err("true or false is expected".to_owned()),
        });
        let mount = raw.take("mount", |value| match value {
            toml::Value::Boolean(mount) => Ok(*mount),
            _ => Err("true or false is expected".to_owned()),
        });
        raw.finish(path)?;
        let name = match name {
            Some(name) => name,
            None => node_name_of(host_name(), path)?,
        };
        let gateway_port = gateway_port.unwrap_or(GATEWAY_PORT);
        let (real_time, mount) = (real_time.unwrap_or(true), mount.unwrap_or(true));
        Ok(Self { name, address, gateway_port, metrics_listen, real_time, mount })
    }
}

/// The table as read, and what was found wrong so far.
struct RawConfig {
    table: toml::Table,
    mistakes: Vec<Mistake>,
}

impl RawConfig {
    fn take<T>(&mut self, key: &str, check: impl FnOnce(&toml::Value) -> Result<T, String>) -> Option<T> {
        let value = self.table.remove(key)?;
        check(&value).map_err(|reason| self.refuse(key, &value, reason)).ok()
    }

    fn refuse(&mut self, key: &str, value: &toml::Value, reason: String) {
        self.mistakes.push(Mistake { key: key.to_owned(), value: value.to_string(), reason });
    }

    fn finish(mut self, path: &Path) -> Result<(), NodeConfigError> {
        for (key, value) in std::mem::take(&mut self.table) {
            let known =
                "unknown key; known are name, address, gateway_port, metrics_listen, real_time, mount";
            self.refuse(&key, &value, known.to_owned());
        }
        if self.mistakes.is_empty() {
            return Ok(());
        }
        self.mistakes.sort_by(|a, b| a.key.cmp(&b.key));
        Err(NodeConfigError::Mistakes { path: path.to_owned(), mistakes: self.mistakes })
    }
}

fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn node_name_of(host_name: String, path: &Path) -> Result<NodeName, NodeConfigError> {
    let short = host_name.split('.').next().unwrap_or_default();
    short.parse().map_err(|source| NodeConfigError::HostName {
        path: path.to_owned(),
        host_name: host_name.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<NodeConfig, NodeConfigError> {
        NodeConfig::parse(text, Path::new("node.toml"), || "hp7.example.org".to_owned())
    }

    #[test]
    fn an_empty_file_means_all_defaults() {
        let config = parse("").unwrap();

        assert_eq!(config, NodeConfig::named("hp7".parse().unwrap()));
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            "name = 'hp1'\naddress = '10.0.0.1'\ngateway_port = 9006\nmetrics_listen = '127.0.0.1:9100'\n\
             real_time = false\nmount = false\n",
        )
        .unwrap();

        assert_eq!(config.name.as_str(), "hp1");
        assert_eq!(config.address, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(config.gateway_port, 9006);
        assert_eq!(config.metrics_listen, Some("127.0.0.1:9100".parse().unwrap()));
        assert!(!config.real_time && !config.mount);
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_file_key_and_value() {
        let err = parse("name = 'a b'\naddress = 'x'\ngateway_port = 70000\ncolour = 'red'\n").unwrap_err();

        let text = err.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[0], "node.toml: address = \"x\": no IP address");
        assert!(lines[1].starts_with("node.toml: colour = \"red\": unknown key"), "{text}");
        assert_eq!(lines[2], "node.toml: gateway_port = 70000: a port is a number from 1 to 65535");
        assert!(lines[3].starts_with("node.toml: name = \"a b\": 'a b' may hold letters"), "{text}");
    }

    #[test]
    fn a_syntax_error_says_where_it_is() {
        let err = parse("name = hp1\n").unwrap_err();

        assert!(crate::telemetry::chain(&err).contains("line 1"), "{}", crate::telemetry::chain(&err));
    }

    #[test]
    fn a_host_name_that_is_no_node_name_asks_for_the_key() {
        let err = NodeConfig::parse("", Path::new("node.toml"), || "my_host".to_owned()).unwrap_err();

        assert_eq!(err.to_string(), "the host name 'my_host' is no node name; set 'name' in node.toml");
    }

    #[test]
    fn a_missing_file_is_no_error() {
        let dir = tempfile::tempdir().unwrap();

        let read = NodeConfig::load(&Root::new(dir.path()));

        assert!(!matches!(read, Err(NodeConfigError::Read { .. } | NodeConfigError::Mistakes { .. })));
    }

    #[tokio::test]
    async fn a_set_address_is_not_looked_up() {
        let mut config = NodeConfig::named("no-such-host-anywhere".parse().unwrap());
        config.address = Some("127.0.0.5".parse().unwrap());

        assert_eq!(config.resolve_address().await.unwrap(), "127.0.0.5".parse::<IpAddr>().unwrap());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
