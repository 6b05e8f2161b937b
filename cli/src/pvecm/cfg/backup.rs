//! `pvecm cfg backup`: a copy of the whole tree.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use super::{archive, copy};
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Writes a copy of the whole shared tree, as it is at one version, to a tar archive.
///
/// The cluster goes on meanwhile. The archive has the private keys of the cluster: keep it as safe as them (it is made
/// readable for its owner only). It begins with a MANIFEST.json that tells cluster, version and the SHA-256 of every
/// file. An existing file is not replaced. Works without quorum, with what this node has.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg backup /root/tree.tar
  pvecm cfg backup - | ssh backup 'cat > tree.tar'
  tar -tf /root/tree.tar")]
pub(super) struct Args {
    /// The archive; - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let (header, copy) = copy::of_cluster(client).await?;
    if args.file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        archive::write(&mut bytes, &header, &copy).map_err(failed(&args.file))?;
        out.raw(&bytes)?;
        return Ok(Exit::Success);
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file);
    let file = file.map_err(|error| failed(&args.file)(error.into()))?;
    let manifest = archive::write(io::BufWriter::new(&file), &header, &copy).map_err(failed(&args.file))?;
    file.sync_all().map_err(|error| failed(&args.file)(error.into()))?;
    let text = || {
        let (entries, bytes) = (header.entries, header.content_bytes);
        format!("{}: version {}, {entries} entries, {bytes} bytes\n", args.file.display(), header.version)
    };
    out.answer(&manifest, text)?;
    Ok(Exit::Success)
}

fn failed(file: &std::path::Path) -> impl Fn(archive::ArchiveError) -> Error {
    let path = file.to_owned();
    move |source| Error::Archive { path: path.clone(), source }
}
