//! `pvecm guests`: which guests there are, and where.

use quorate_proto::config::v1::{Guest, ListGuestsRequest};
use serde::Serialize;

use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, columns},
};

/// Lists all guests of the cluster with the node that owns each.
///
/// A guest is where its configuration lies: nodes/NODE/qemu-server/VMID.conf or nodes/NODE/lxc/VMID.conf. Works without
/// quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm guests
  pvecm guests -o json")]
pub(crate) struct Args {}

/// A guest, as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Listed {
    vmid: u32,
    node: String,
    r#type: String,
}

impl From<Guest> for Listed {
    fn from(guest: Guest) -> Self {
        Self { vmid: guest.vmid, node: guest.node, r#type: guest.r#type }
    }
}

pub(super) async fn run(_args: &Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(ListGuestsRequest {});
    let guests = client.status().list_guests(request).await.map_err(client.failure())?.into_inner().guests;
    let guests: Vec<Listed> = guests.into_iter().map(Listed::from).collect();
    out.answer(&guests, || text(&guests))?;
    Ok(Exit::Success)
}

fn text(guests: &[Listed]) -> String {
    let header = ["VMID", "NODE", "TYPE"].map(str::to_owned).to_vec();
    let row = |guest: &Listed| vec![guest.vmid.to_string(), guest.node.clone(), guest.r#type.clone()];
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(guests.iter().map(row)).collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_stand_in_columns() {
        let guest = |vmid, node: &str, kind: &str| Listed { vmid, node: node.into(), r#type: kind.into() };
        let text = text(&[guest(100, "n1", "qemu"), guest(4_000_000, "n22", "lxc")]);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [vec!["VMID", "NODE", "TYPE"], vec!["100", "n1", "qemu"], vec!["4000000", "n22", "lxc"]]
        );
    }
}
