//! Durable writes through the gateway of one node.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use playground::Playground;
use quorate_daemon::client::{DaemonChannel, deadline};
use quorate_proto::config::v1::{PutRequest, config_service_client::ConfigServiceClient};

use crate::report::Latencies;

const DEADLINE: Duration = Duration::from_secs(30);

/// How many writes of which size, by how many callers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) count: usize,
    pub(crate) callers: usize,
    pub(crate) size: usize,
}

pub(crate) async fn run(playground: &Playground, node: &str, load: Load) -> anyhow::Result<()> {
    let channel = playground.node(node)?.gateway();
    let begun = Instant::now();
    let callers: Vec<_> = (0..load.callers)
        .map(|caller| tokio::spawn(call(channel.clone(), caller, load.count / load.callers, load.size)))
        .collect();
    let mut all = Latencies::new();
    for caller in callers {
        all.add(&caller.await??);
    }
    all.print(&format!("durable write of {} bytes, {} callers", load.size, load.callers), begun.elapsed());
    Ok(())
}

async fn call(channel: DaemonChannel, caller: usize, count: usize, size: usize) -> anyhow::Result<Latencies> {
    let mut client = ConfigServiceClient::new(channel);
    let content = Bytes::from(vec![b'x'; size]);
    let mut latencies = Latencies::new();
    for number in 0..count {
        let put = PutRequest {
            path: format!("bench-{caller}-{}", number % 100),
            content: content.clone(),
            ..PutRequest::default()
        };
        let begun = Instant::now();
        client.put(deadline(put, DEADLINE)).await.context("a write failed")?;
        latencies.record(begun.elapsed());
    }
    Ok(latencies)
}
