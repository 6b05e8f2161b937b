//! Names and addresses of a playground, kept in `DIR/playground.json`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
};

use quorate_daemon::{Root, listen::PATH_MAX, node::GATEWAY_PORT};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The most nodes of one playground: corosync's clusters have at most 32 as well.
const NODES_MAX: u8 = 32;
/// How many ranges of addresses are tried.
const RANGES: u32 = 8;
/// Port of the ring on each node.
const RING_PORT: u16 = 5405;
/// Port of the metrics on each node.
const METRICS_PORT: u16 = 9100;
/// The daemon with the longest name: its socket must fit.
const LONGEST_NAME: &str = "membershipd";

/// How nodes reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each has its own loopback address; no privileges are needed.
    Loopback,
    /// Each has its own network namespace; needs root.
    Netns,
}

/// What `up` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Number of nodes, 1 to 32.
    pub nodes: u8,
    /// How they reach each other.
    pub mode: Mode,
    /// In loopback mode: the first three numbers of all addresses, such as `127.0.0`; absent: chosen by the
    /// directory.
    pub subnet: Option<String>,
    /// Environment variables of all nodes, and of the commands that run where they are.
    pub environment: BTreeMap<String, String>,
}

/// A playground as it was set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// From the directory: names what this playground adds to the system.
    pub(crate) id: u32,
    pub(crate) mode: Mode,
    pub(crate) nodes: Vec<NodePlan>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
}

impl Plan {
    /// Chooses names and addresses.
    ///
    /// # Errors
    /// [`Error::NodeCount`], [`Error::PathTooLong`], [`Error::Subnet`], [`Error::AddressesInUse`].
    pub(crate) fn new(dir: &Path, setup: &Setup) -> Result<Self, Error> {
        if !(1..=NODES_MAX).contains(&setup.nodes) {
            return Err(Error::NodeCount { nodes: setup.nodes, max: NODES_MAX });
        }
        check_length(dir, setup.nodes)?;
        let id = hash(dir.as_os_str().as_encoded_bytes());
        let [a, b, c] = match (setup.mode, &setup.subnet) {
            (Mode::Netns, _) => [10, 77, 0],
            (Mode::Loopback, Some(subnet)) => parse_subnet(subnet)?,
            (Mode::Loopback, None) => free_subnet(id, setup.nodes)?,
        };
        let node =
            |number| NodePlan { name: format!("hp{number}"), address: Ipv4Addr::new(a, b, c, number).into() };
        let nodes = (1..=setup.nodes).map(node).collect();
        Ok(Self { id, mode: setup.mode, nodes, environment: setup.environment.clone() })
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("playground.json")
    }

    /// Whether there is a plan.
    pub(crate) fn exists(dir: &Path) -> bool {
        Self::path(dir).exists()
    }

    /// Reads the plan of a directory.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::ReadPlan`], [`Error::File`].
    pub(crate) fn load(dir: &Path) -> Result<Self, Error> {
        let path = Self::path(dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { dir: dir.to_owned() });
            }
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        serde_json::from_slice(&text).map_err(|source| Error::ReadPlan { path, source })
    }

    /// Writes the plan down.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn store(&self, dir: &Path) -> Result<(), Error> {
        let path = Self::path(dir);
        let text = serde_json::to_vec_pretty(self).expect("a plan has no map with keys that are no strings");
        fs::write(&path, text).map_err(Error::file("write", path))
    }

    /// Takes the plan away: the directory is no playground any more. One that is not there is no error.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn remove(dir: &Path) -> Result<(), Error> {
        let path = Self::path(dir);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
            _ => Ok(()),
        }
    }
}

impl NodePlan {
    /// `etc/quorate/node.toml` of this node.
    pub(crate) fn node_toml(&self) -> String {
        let Self { name, address } = self;
        format!(
            "name = \"{name}\"\naddress = \"{address}\"\ngateway_port = {GATEWAY_PORT}\n\
             metrics_listen = \"{address}:{METRICS_PORT}\"\nreal_time = false\n"
        )
    }
}

/// Refuses a directory in which the longest socket path would not fit.
fn check_length(dir: &Path, nodes: u8) -> Result<(), Error> {
    let socket = Root::new(dir.join(format!("hp{nodes}"))).socket(LONGEST_NAME);
    let length = socket.as_os_str().len();
    if length > PATH_MAX {
        return Err(Error::PathTooLong { dir: dir.to_owned(), socket, length, max: PATH_MAX });
    }
    Ok(())
}

/// FNV-1a: the same for the same bytes, on every machine and with every version.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn parse_subnet(text: &str) -> Result<[u8; 3], Error> {
    let wrong = || Error::Subnet(text.to_owned());
    let numbers: Vec<u8> = text.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    match numbers[..] {
        [127, b, c] => Ok([127, b, c]),
        _ => Err(wrong()),
    }
}

/// The first range, beginning with the one that belongs to the directory, in which all ports are free.
fn free_subnet(id: u32, nodes: u8) -> Result<[u8; 3], Error> {
    let mut in_use = None;
    for range in 0..RANGES {
        let [b, c] = subnet_of(id, range);
        let taken =
            (1..=nodes).map(|number| IpAddr::from([127, b, c, number])).find(|address| !is_free(*address));
        match taken {
            None => return Ok([127, b, c]),
            Some(address) => in_use = Some(address),
        }
    }
    Err(Error::AddressesInUse(in_use.expect("at least one range was tried")))
}

/// The two numbers in the middle: never 127.0, where other programs live.
fn subnet_of(id: u32, range: u32) -> [u8; 2] {
    let [high, low, ..] = hash(&[id.to_be_bytes(), range.to_be_bytes()].concat()).to_be_bytes();
    [high % 254 + 1, low]
}

fn is_free(address: IpAddr) -> bool {
    let tcp = |port| TcpListener::bind((address, port)).is_ok();
    tcp(GATEWAY_PORT) && tcp(METRICS_PORT) && UdpSocket::bind((address, RING_PORT)).is_ok()
}

/// How the nodes are split: `hp1,hp2/hp3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups(Vec<Vec<String>>);

/// Why a split was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// Fewer than two groups, or one without a node.
    #[error("'{0}' is no partition: groups are separated by '/', nodes by ',', such as hp1,hp2/hp3")]
    Form(String),
    /// A node twice.
    #[error("{0} is in two groups")]
    Twice(String),
    /// A node that is not mentioned.
    #[error("{0} is in no group")]
    Missing(String),
    /// A node that there is not.
    #[error("there is no node '{0}'")]
    Unknown(String),
}

impl std::str::FromStr for Groups {
    type Err = GroupsError;

    fn from_str(text: &str) -> Result<Self, GroupsError> {
        let group = |group: &str| group.split(',').map(str::to_owned).collect::<Vec<_>>();
        let groups: Vec<Vec<String>> = text.split('/').map(group).collect();
        if groups.len() < 2 || groups.iter().flatten().any(String::is_empty) {
            return Err(GroupsError::Form(text.to_owned()));
        }
        Ok(Self(groups))
    }
}

impl Groups {
    /// The groups, if they hold each of these nodes once.
    pub(crate) fn of(&self, nodes: &[NodePlan]) -> Result<&[Vec<String>], GroupsError> {
        let known: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let mut seen = BTreeSet::new();
        for name in self.0.iter().flatten() {
            if !known.contains(name.as_str()) {
                return Err(GroupsError::Unknown(name.clone()));
            }
            if !seen.insert(name.as_str()) {
                return Err(GroupsError::Twice(name.clone()));
            }
        }
        match known.difference(&seen).next() {
            Some(missing) => Err(GroupsError::Missing((*missing).to_owned())),
            None => Ok(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn setup(nodes: u8) -> Setup {
        let environment = BTreeMap::from([("QUORATE_LOG".to_owned(), "debug".to_owned())]);
        Setup { nodes, mode: Mode::Loopback, subnet: Some("127.9.9".into()), environment }
    }

    #[test]
    fn nodes_are_numbered_and_so_are_their_addresses() {
        let plan = Plan::new(Path::new("/tmp/x"), &setup(2)).unwrap();
        let nodes: Vec<String> =
            plan.nodes.iter().map(|node| format!("{} {}", node.name, node.address)).collect();
        assert_eq!(nodes, ["hp1 127.9.9.1", "hp2 127.9.9.2"]);
    }

    #[test]
    fn two_directories_have_different_addresses_and_one_directory_always_the_same() {
        let subnet = |dir: &str| subnet_of(hash(dir.as_bytes()), 0);
        assert_ne!(subnet("/tmp/a"), subnet("/tmp/b"));
        assert_eq!(subnet("/tmp/a"), subnet("/tmp/a"));
        assert!((0..1000).all(|id| subnet_of(id, 0)[0] != 0));
    }

    #[test]
    fn a_directory_that_is_too_long_for_sockets_is_refused_with_numbers() {
        let dir = format!("/tmp/{}", "d".repeat(80));
        let error = Plan::new(Path::new(&dir), &setup(1)).unwrap_err().to_string();
        assert!(error.contains("membershipd.sock would have 118 bytes, at most 107"), "{error}");
    }

    #[test]
    fn a_plan_is_read_as_it_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(dir.path(), &setup(3)).unwrap();
        plan.store(dir.path()).unwrap();
        assert_eq!(Plan::load(dir.path()).unwrap(), plan);
        Plan::remove(dir.path()).unwrap();
        assert!(matches!(Plan::load(dir.path()), Err(Error::Missing { .. })));
    }

    #[test]
    fn the_settings_of_a_node_are_read_by_its_daemons() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(dir.path(), &setup(1)).unwrap();
        let root = Root::new(dir.path());
        fs::create_dir_all(root.config_dir()).unwrap();
        fs::write(root.node_toml(), plan.nodes[0].node_toml()).unwrap();
        let config = quorate_daemon::NodeConfig::load(&root).unwrap();
        assert_eq!(config.name.as_str(), "hp1");
        assert_eq!(config.address, Some(plan.nodes[0].address));
    }

    #[test]
    fn only_loopback_subnets_are_accepted() {
        assert_eq!(parse_subnet("127.0.0").unwrap(), [127, 0, 0]);
        for wrong in ["", "127", "127.0", "127.0.0.1", "10.0.0", "127.0.256", "127.0.x"] {
            assert!(parse_subnet(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_partition_names_each_node_once() {
        let nodes = Plan::new(Path::new("/tmp/x"), &setup(3)).unwrap().nodes;
        let check =
            |text: &str| text.parse::<Groups>().and_then(|groups| groups.of(&nodes).map(<[_]>::to_vec));
        assert_eq!(check("hp1,hp2/hp3").unwrap(), [vec!["hp1", "hp2"], vec!["hp3"]]);
        assert_eq!(check("hp1,hp2"), Err(GroupsError::Form("hp1,hp2".into())));
        assert_eq!(check("hp1,/hp3"), Err(GroupsError::Form("hp1,/hp3".into())));
        assert_eq!(check("hp1,hp2/hp2,hp3"), Err(GroupsError::Twice("hp2".into())));
        assert_eq!(check("hp1/hp2"), Err(GroupsError::Missing("hp3".into())));
        assert_eq!(check("hp1,hp2,hp3/hp4"), Err(GroupsError::Unknown("hp4".into())));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Groups>();
            let _ = parse_subnet(&text);
        }
    }
}
