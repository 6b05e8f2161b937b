//! `pvecm cfg put`: write a whole file.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use quorate_proto::config::v1::PutRequest;

use super::entry::Entry;
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// The most that a call can carry: far more than a file may have, which the daemon decides.
const READ_MAX: u64 = 4 << 20;

/// Writes a whole file of the shared tree, and makes it if there is none.
///
/// Ends when members with a majority of the votes have it on disk.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg put datacenter.cfg FILE
  echo 'keyboard: de' | pvecm cfg put datacenter.cfg
  pvecm cfg put new/path/file FILE -p
  pvecm cfg put datacenter.cfg FILE --expected-version 17   only if nobody else wrote since
  pvecm cfg put datacenter.cfg FILE --expected-version 0    only if there is none")]
pub(super) struct Args {
    /// Path of the file in the shared tree
    #[arg(value_name = "PATH")]
    path: String,
    /// Where the content comes from; - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Write only if the file's version is this; 0: only if there is no such file
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = crate::number::version)]
    expected_version: Option<u64>,
    /// Make missing parent directories
    #[arg(long, short)]
    parents: bool,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let content = read(&args.file).map_err(|source| Error::ReadInput { path: args.file.clone(), source })?;
    if content.len() as u64 > READ_MAX {
        return Err(Error::InputTooLong { path: args.file, max: READ_MAX });
    }
    let may_lack_parents = !args.parents && args.path.contains('/');
    let request = client.request(PutRequest {
        path: args.path,
        content: content.into(),
        expected_version: args.expected_version,
        request_id: Default::default(),
        make_parents: args.parents,
    });
    let answer = client.config().put(request).await.map_err(client.failure());
    let answer = answer.map_err(|error| error.hinting_at_parents(may_lack_parents))?.into_inner();
    let entry = Entry::of(answer.entry)?;
    out.answer(&entry, || format!("{}: {} bytes, version {}\n", entry.name(), entry.size, entry.version))?;
    Ok(Exit::Success)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    if file.as_os_str() == "-" {
        io::stdin().lock().take(READ_MAX + 1).read_to_end(&mut content)?;
    } else {
        File::open(file)?.take(READ_MAX + 1).read_to_end(&mut content)?;
    }
    Ok(content)
}
