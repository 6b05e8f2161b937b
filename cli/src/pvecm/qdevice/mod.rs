//! `pvecm qdevice`: an arbiter outside of the cluster gets a vote. Source: spec 4.12, 4.13.
//!
//! Nothing here needs a login on the arbiter's machine: `request` gives the one file to be signed there, `setup` takes
//! the two files that come back. All nodes get the certificates and the new corosync.conf through the tree.

mod credentials;
mod edit;
mod ssh;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Subcommand;
use corosync_conf::{ClusterConf, DEVICE_CREDENTIALS_PATH, Tree};
use quorate_proto::{
    config::v1::{
        GetRequest, TransactOperation, TransactRequest,
        transact_operation::{Delete, Operation, Put},
    },
    quorum::v1::{GetStatusRequest, quorum_node::State},
};
use serde::Serialize;
use tonic::Code;

use super::view::DeviceBlock;
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, remark},
};
use credentials::Credentials;

/// Where the tree keeps the key between `request` and `setup`.
const KEY_PATH: &str = "priv/qdevice.key";
const CONF_PATH: &str = "corosync.conf";

/// Gives an arbiter outside of the cluster a vote, or takes it away.
///
/// With an arbiter (a machine that runs corosync-qnetd) two nodes survive the loss of either. It needs no ssh: sign one
/// file there and bring two files back. See docs/operations/qdevice.md.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm qdevice request request.csr       a file to be signed on the arbiter, which 'request' tells how
  pvecm qdevice setup 10.0.0.9 --ca qnetd-cacert.crt --certificate cluster-lab.crt
  pvecm qdevice setup 10.0.0.9 --use_ssh  all in one, for root with a key for ssh on the arbiter
  pvecm qdevice status
  pvecm qdevice remove")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a request for a certificate, and tell what to do with it on the arbiter
    Request {
        /// Where the request goes
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Give the arbiter a vote
    Setup(SetupArgs),
    /// Show the arbiter and what it says
    Status,
    /// Take the arbiter's vote away
    Remove,
}

#[derive(Debug, clap::Args)]
struct SetupArgs {
    /// Name or address of the arbiter
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// Certificate of the arbiter's CA: its /etc/corosync/qnetd/nssdb/qnetd-cacert.crt
    #[arg(long, value_name = "FILE", requires = "certificate")]
    ca: Option<PathBuf>,
    /// Certificate that the arbiter signed: its /etc/corosync/qnetd/nssdb/cluster-NAME.crt
    #[arg(long, value_name = "FILE", requires = "ca")]
    certificate: Option<PathBuf>,
    /// Have the certificate signed through ssh as root
    #[arg(long = "use_ssh", conflicts_with_all = ["ca", "insecure"])]
    use_ssh: bool,
    /// Do without encryption: only for a network that you trust
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// How it decides [default: ffsplit for an even number of nodes, lms for an odd one]
    #[arg(long, value_name = "ALGORITHM", value_parser = ["ffsplit", "lms"])]
    algorithm: Option<String>,
    /// Port of the arbiter
    #[arg(long, value_name = "PORT", default_value_t = 5403, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Network of the arbiter; accepted for scripts of other versions, without effect
    #[arg(long, value_name = "CIDR")]
    network: Option<String>,
    /// Also with an odd number of nodes, with nodes that are off, or in place of another device
    #[arg(long)]
    force: bool,
}

/// The answer of `setup` and `remove` in JSON.
#[derive(Debug, Serialize)]
struct Changed {
    /// `totem.config_version` now.
    config_version: u64,
    /// Empty after `remove`.
    algorithm: String,
    votes: u32,
}

impl Args {
    /// The command as the user knows it.
    pub(super) const fn name(&self) -> &'static str {
        match self.action {
            Action::Request { .. } => "pvecm qdevice request",
            Action::Setup(_) => "pvecm qdevice setup",
            Action::Status => "pvecm qdevice status",
            Action::Remove => "pvecm qdevice remove",
        }
    }

    /// Whether it may change something.
    pub(super) const fn may_change(&self) -> bool {
        !matches!(self.action, Action::Status)
    }
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    match args.action {
        Action::Request { file } => request(&file, client, out).await,
        Action::Setup(args) => setup(args, client, out).await,
        Action::Status => status(client, out).await,
        Action::Remove => remove(client, out).await,
    }
}

/// The cluster's configuration, with its version in the tree.
struct Present {
    version: u64,
    tree: Tree,
    conf: ClusterConf,
}

async fn present(client: &Client) -> Result<Present, Error> {
    let Some((content, version)) = read(client, CONF_PATH).await? else { return Err(Error::NotClustered) };
    let text = String::from_utf8_lossy(&content);
    let mistakes = |error: &dyn std::fmt::Display| Error::Parameters(vec![format!("corosync.conf: {error}")]);
    let tree = Tree::parse(&text).map_err(|error| mistakes(&error))?;
    let conf = ClusterConf::from_tree(&tree).map_err(|error| mistakes(&error))?;
    Ok(Present { version, tree, conf })
}

/// A file of the tree with its version.
async fn read(client: &Client, path: &str) -> Result<Option<(Bytes, u64)>, Error> {
    let request = client.request(GetRequest { path: path.to_owned(), linearizable: true });
    match client.config().get(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            Ok(Some((answer.content, answer.entry.map_or(0, |entry| entry.version))))
        }
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(client.failure()(status)),
    }
}

fn put(path: &str, content: impl Into<Bytes>, expected_version: Option<u64>) -> TransactOperation {
    let put = Put { path: path.to_owned(), content: content.into(), expected_version };
    TransactOperation { operation: Some(Operation::Put(put)) }
}

fn delete(path: &str) -> TransactOperation {
    let delete = Delete { path: path.to_owned(), ..Delete::default() };
    TransactOperation { operation: Some(Operation::Delete(delete)) }
}

async fn transact(client: &Client, operations: Vec<TransactOperation>) -> Result<(), Error> {
    let request = TransactRequest { operations, request_id: Bytes::new() };
    client.config().transact(client.request(request)).await.map(drop).map_err(client.failure())
}

/// A key in the tree, which any node may go on with, and a request for it.
async fn new_request(client: &Client, cluster: &str) -> Result<Vec<u8>, Error> {
    let key = match read(client, KEY_PATH).await? {
        Some((key, _)) => credentials::Key::from_pem(&String::from_utf8_lossy(&key))?,
        None => {
            let key = credentials::Key::generate()?;
            transact(client, vec![put(KEY_PATH, key.to_pem(), Some(0))]).await?;
            key
        }
    };
    key.request(cluster)
}

async fn request(file: &Path, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let cluster = present(client).await?.conf.totem.cluster_name.to_string();
    let request = new_request(client, &cluster).await?;
    fs::write(file, request).map_err(Error::WriteOutput)?;
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
    let text = format!(
        "{} is written. On the arbiter, as root, with the file copied there:\n\n  \
         corosync-qnetd-certutil -i            only if it was never used before\n  \
         corosync-qnetd-certutil -s -c {name} -n {cluster}\n\n\
         Bring back /etc/corosync/qnetd/nssdb/qnetd-cacert.crt and /etc/corosync/qnetd/nssdb/cluster-{cluster}.crt, then:\n\n  \
         pvecm qdevice setup ADDRESS --ca qnetd-cacert.crt --certificate cluster-{cluster}.crt\n",
        file.display()
    );
    out.answer(&serde_json::json!({ "file": file, "cluster": cluster }), || text)?;
    Ok(Exit::Success)
}

async fn setup(args: SetupArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let present = present(client).await?;
    check_online(client, args.force).await?;
    let plan = edit::Plan {
        host: args.address.clone(),
        port: args.port,
        algorithm: args.algorithm.clone(),
        is_encrypted: !args.insecure,
        force: args.force,
    };
    let edit::Edited { text, config_version, algorithm, votes } =
        edit::add(present.tree.clone(), &present.conf, &plan)?;
    let mut operations = Vec::new();
    if let Some(credentials) = credentials(&args, &present, client).await? {
        operations.push(put(DEVICE_CREDENTIALS_PATH, credentials.to_pem(), None));
    }
    operations.push(put(CONF_PATH, text, Some(present.version)));
    transact(client, operations).await?;
    remark("note", "'pvecm qdevice status' tells whether the arbiter answers");
    let changed = Changed { config_version, algorithm: algorithm.clone(), votes };
    out.answer(&changed, || {
        format!("the arbiter {} has {votes} vote(s), algorithm {algorithm}\n", args.address)
    })?;
    Ok(Exit::Success)
}

async fn credentials(
    args: &SetupArgs,
    present: &Present,
    client: &Client,
) -> Result<Option<Credentials>, Error> {
    if args.insecure {
        return Ok(None);
    }
    let cluster = present.conf.totem.cluster_name.as_str();
    let (ca, certificate) = match (&args.ca, &args.certificate) {
        (Some(ca), Some(certificate)) => (read_input(ca)?, read_input(certificate)?),
        _ if args.use_ssh => ssh::sign(&args.address, cluster, &new_request(client, cluster).await?)?,
        _ => {
            return Err(Error::Parameters(vec![
                "ca, certificate: both are needed; 'pvecm qdevice request FILE' tells how to get them \
                 (or give --use_ssh, or --insecure)"
                    .to_owned(),
            ]));
        }
    };
    let Some((key, _)) = read(client, KEY_PATH).await? else {
        let missing =
            "certificate: no request was made in this cluster; begin with 'pvecm qdevice request FILE'";
        return Err(Error::Parameters(vec![missing.to_owned()]));
    };
    let key = credentials::Key::from_pem(&String::from_utf8_lossy(&key))?;
    Credentials::new(&ca, &certificate, &key, cluster).map(Some)
}

fn read_input(path: &Path) -> Result<Vec<u8>, Error> {
    let read = fs::read(path);
    read.map_err(|source: io::Error| Error::ReadInput { path: path.to_owned(), source })
}

/// All nodes must learn of the change, or some would count without the arbiter.
async fn check_online(client: &Client, force: bool) -> Result<(), Error> {
    let answer = client.quorum().get_status(client.request(GetStatusRequest {})).await;
    let votes =
        answer.map_err(client.failure())?.into_inner().status.ok_or(Error::Incomplete("the answer"))?;
    let absent: Vec<String> = votes
        .nodes
        .iter()
        .filter(|node| node.state() != State::Member)
        .map(|node| node.name.clone())
        .collect();
    if absent.is_empty() || force {
        return Ok(());
    }
    let text = format!("{}: not online; start all nodes first, or give --force", absent.join(", "));
    Err(Error::Parameters(vec![text]))
}

async fn status(client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let votes = super::view::quorum_status(client).await?;
    let device = votes.device.as_ref().map(DeviceBlock::new);
    out.answer(&device, || match &device {
        None => "no quorum device is configured\n".to_owned(),
        Some(device) => device.text(),
    })?;
    Ok(Exit::Success)
}

async fn remove(client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let present = present(client).await?;
    let edit::Edited { text, config_version, .. } = edit::remove(present.tree.clone(), &present.conf)?;
    let mut operations = vec![put(CONF_PATH, text, Some(present.version))];
    for path in [DEVICE_CREDENTIALS_PATH, KEY_PATH] {
        if read(client, path).await?.is_some() {
            operations.push(delete(path));
        }
    }
    transact(client, operations).await?;
    let changed = Changed { config_version, algorithm: String::new(), votes: 0 };
    out.answer(&changed, || "the quorum device was removed\n".to_owned())?;
    Ok(Exit::Success)
}
