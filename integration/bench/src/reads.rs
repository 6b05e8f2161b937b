//! Linearizable reads through the gateway of one node.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use playground::Playground;
use quorate_daemon::client::{DaemonChannel, deadline};
use quorate_proto::config::v1::{GetRequest, PutRequest, config_service_client::ConfigServiceClient};

use crate::report::Latencies;

const DEADLINE: Duration = Duration::from_secs(30);
/// What is read.
const PATH: &str = "bench-read";

pub(crate) async fn run(
    playground: &Playground,
    node: &str,
    count: usize,
    callers: usize,
) -> anyhow::Result<()> {
    let channel = playground.node(node)?.gateway();
    let put = PutRequest { path: PATH.to_owned(), content: vec![b'x'; 1024].into(), ..PutRequest::default() };
    ConfigServiceClient::new(channel.clone()).put(deadline(put, DEADLINE)).await.context("a write failed")?;
    let begun = Instant::now();
    let callers: Vec<_> =
        (0..callers).map(|_| tokio::spawn(call(channel.clone(), count / callers))).collect();
    let mut all = Latencies::new();
    let number = callers.len();
    for caller in callers {
        all.add(&caller.await??);
    }
    all.print(&format!("linearizable read of 1024 bytes, {number} callers"), begun.elapsed());
    Ok(())
}

async fn call(channel: DaemonChannel, count: usize) -> anyhow::Result<Latencies> {
    let mut client = ConfigServiceClient::new(channel);
    let mut latencies = Latencies::new();
    for _ in 0..count {
        let get = GetRequest { path: PATH.to_owned(), linearizable: true };
        let begun = Instant::now();
        client.get(deadline(get, DEADLINE)).await.context("a read failed")?;
        latencies.record(begun.elapsed());
    }
    Ok(latencies)
}
