//! `bench`: measures a cluster that runs on the playground, through the same sockets as any client.
//!
//! Figures are latencies as one caller sees them, in microseconds: p50, p99 and the longest. Compare runs on the same
//! machine only.

mod files;
mod idle;
mod multicast;
mod reads;
mod report;
mod writes;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use playground::Playground;

#[derive(Parser)]
#[command(version, about = "Measures a cluster that runs on the playground")]
struct Args {
    /// Directory of the playground.
    #[arg(long, env = "QUORATE_PLAYGROUND", default_value = "/tmp/quorate")]
    dir: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Durable writes: from the call to the acknowledgement of a majority of disks.
    Writes {
        /// Writes in all.
        #[arg(long, default_value_t = 2000)]
        count: usize,
        /// Callers at a time.
        #[arg(long, default_value_t = 1)]
        callers: usize,
        /// Bytes of each file.
        #[arg(long, default_value_t = 1024)]
        size: usize,
        /// Node that is called.
        #[arg(long, default_value = "hp1")]
        node: String,
    },
    /// Group messages: from sending until the sender's own message comes back in the total order.
    Multicast {
        /// Messages in all.
        #[arg(long, default_value_t = 5000)]
        count: usize,
        /// Messages under way at a time.
        #[arg(long, default_value_t = 1)]
        window: usize,
        /// Bytes of each message.
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Node of the sender; every other node has a receiver.
        #[arg(long, default_value = "hp1")]
        node: String,
    },
    /// Reads that ask the cluster for the newest state first.
    Reads {
        /// Reads in all.
        #[arg(long, default_value_t = 2000)]
        count: usize,
        /// Callers at a time.
        #[arg(long, default_value_t = 1)]
        callers: usize,
        /// Node that is called.
        #[arg(long, default_value = "hp1")]
        node: String,
    },
    /// The mount: replacing, reading and listing small files, and when another node shows them.
    Files {
        /// Files in all.
        #[arg(long, default_value_t = 1000)]
        count: usize,
        /// Writers at a time, each in a directory of its own.
        #[arg(long, default_value_t = 1)]
        writers: usize,
        /// Bytes of each file.
        #[arg(long, default_value_t = 1024)]
        size: usize,
        /// Node whose mount is used.
        #[arg(long, default_value = "hp1")]
        node: String,
    },
    /// CPU time and memory of every daemon while nobody calls.
    Idle {
        /// For how long, in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let playground = Playground::open(&args.dir).context("is the playground up?")?;
    match args.what {
        What::Writes { count, callers, size, node } => {
            writes::run(&playground, &node, writes::Load { count, callers, size }).await
        }
        What::Multicast { count, window, size, node } => {
            multicast::run(&playground, &node, multicast::Load { count, window, size }).await
        }
        What::Reads { count, callers, node } => reads::run(&playground, &node, count, callers).await,
        What::Files { count, writers, size, node } => {
            files::run(&playground, &node, files::Load { count, writers, size })
        }
        What::Idle { seconds } => idle::run(&playground, std::time::Duration::from_secs(seconds)).await,
    }
}
