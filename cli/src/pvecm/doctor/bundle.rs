//! What those who help need: findings, configuration and logs of one node, in a tar archive. No keys, no tokens.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use quorate_proto::{membership::v1 as membership, quorum::v1 as quorum};
use serde::Serialize;

use crate::{client::Client, error::Error};

/// Of each log, its end.
const LOG_MAX: u64 = 1 << 20;
/// The daemons of a node.
const DAEMONS: [&str; 4] = ["membershipd", "quorumd", "configd", "gatewayd"];

/// Writes the archive; it is readable for its owner only. What is not there is left out.
///
/// # Errors
/// If the archive cannot be written.
pub(super) async fn write(path: &Path, client: &Client, findings: &impl Serialize) -> Result<(), Error> {
    let mut files =
        vec![("findings.json".to_owned(), serde_json::to_vec_pretty(findings).map_err(io::Error::from)?)];
    let ring = client.membership().get_status(client.request(membership::GetStatusRequest {})).await;
    files.push((
        "ring.txt".to_owned(),
        format!("{:#?}\n", ring.map(tonic::Response::into_inner)).into_bytes(),
    ));
    let votes = client.quorum().get_status(client.request(quorum::GetStatusRequest {})).await;
    files.push((
        "votes.txt".to_owned(),
        format!("{:#?}\n", votes.map(tonic::Response::into_inner)).into_bytes(),
    ));
    let root = client.root();
    for (name, file) in [("corosync.conf", root.corosync_conf()), ("node.toml", root.node_toml())] {
        files.extend(end_of(&file).ok().map(|content| (name.to_owned(), content)));
    }
    for daemon in DAEMONS {
        let content = end_of(&root.log(daemon)).ok();
        files.extend(content.map(|content| (format!("log/{daemon}.log"), content)));
    }
    Ok(archive(path, &files)?)
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_MAX)))?;
    let mut content = Vec::new();
    file.take(LOG_MAX).read_to_end(&mut content)?;
    Ok(content)
}

fn archive(path: &Path, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut archive = tar::Builder::new(file);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(content.len().try_into().map_err(io::Error::other)?);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    archive.into_inner()?.sync_all()
}
