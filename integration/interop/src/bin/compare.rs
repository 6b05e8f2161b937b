//! Group messages of three nodes of Quorate and of three nodes of corosync, side by side, as root.
//!
//! Same network, same corosync.conf, one sender, a receiver on each other node. A time is that from sending a message
//! until the sender's own message comes back in the total order.
//!
//! `compare` takes the transport: knet (default, with aes256 and sha256), knet-plain, udpu or udp.

use std::{
    collections::VecDeque,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use interop_tests::{
    Kind::{Corosync, Quorate},
    Ring, Timers, Wire,
    group::quorate::{join, messages, multicast},
};
use tokio::process::Command;

/// Messages of one size.
#[derive(Debug, Clone, Copy)]
struct Load {
    size: usize,
    /// Messages under way at a time.
    window: usize,
    count: usize,
}

const LOADS: [Load; 6] = [
    Load { size: 64, window: 1, count: 5000 },
    Load { size: 1024, window: 1, count: 5000 },
    Load { size: 64, window: 512, count: 100_000 },
    Load { size: 1024, window: 512, count: 50_000 },
    Load { size: 8192, window: 64, count: 10_000 },
    Load { size: 65_536, window: 16, count: 1000 },
];
const GROUP: &str = "compare";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wire = match std::env::args().nth(1).as_deref() {
        None | Some("knet") => Wire::Knet,
        Some("knet-plain") => Wire::KnetPlain,
        Some("udpu") => Wire::Udpu,
        Some("udp") => Wire::Udp,
        Some(other) => bail!("'{other}' is none of knet, knet-plain, udpu, udp"),
    };
    let setup = Timers::PATIENT.over(wire);
    for load in LOADS {
        let Some(ring) = Ring::formed(&[Quorate; 3], setup).await? else { return Ok(()) };
        println!("quorate:  {}", quorate(&ring, load).await?);
        drop(ring);
        let Some(ring) = Ring::formed(&[Corosync; 3], setup).await? else { return Ok(()) };
        println!("corosync: {}", corosync(&ring, load).await?);
    }
    Ok(())
}

async fn quorate(ring: &Ring, load: Load) -> anyhow::Result<String> {
    let mut receivers = Vec::new();
    for id in [2, 3] {
        let (requests, mut responses) = join(&ring[id], GROUP).await?;
        receivers.push(tokio::spawn(async move {
            // The group is left when the requests end.
            let _requests = requests;
            while let Ok(Some(_)) = responses.message().await {}
        }));
    }
    let (requests, mut responses) = join(&ring[1], GROUP).await?;
    let payload = bytes::Bytes::from(vec![0; load.size]);
    let (mut sent, mut under_way) = (0, VecDeque::new());
    let mut times = Vec::with_capacity(load.count);
    // The first response is the join.
    responses.message().await?.context("no answer to the join")?;
    let begun = Instant::now();
    while times.len() < load.count {
        let room = (load.window - under_way.len()).min(load.count - sent);
        if room > 0 {
            under_way.extend(std::iter::repeat_n(Instant::now(), room));
            sent += room;
            requests.send(multicast(vec![payload.clone(); room])).await?;
        }
        let response = responses.message().await?.context("the stream has ended")?;
        for begun in under_way.drain(..messages(&response)) {
            times.push(begun.elapsed());
        }
    }
    let took = begun.elapsed();
    for receiver in receivers {
        receiver.abort();
    }
    Ok(line(load, took, times))
}

/// The same line as that of `cpg-client`.
fn line(load: Load, took: Duration, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_micros();
    format!(
        "{} messages of {} bytes, {} under way: {:.0}/s, p50 {} us, p99 {} us, max {} us",
        load.count,
        load.size,
        load.window,
        load.count as f64 / took.as_secs_f64(),
        at(50),
        at(99),
        at(100),
    )
}

async fn corosync(ring: &Ring, load: Load) -> anyhow::Result<String> {
    let mut receivers = Vec::new();
    for id in [2, 3] {
        let mut command = Command::from(ring[id].cpg_client()?);
        command.args(["drain", GROUP]).stdin(Stdio::piped()).kill_on_drop(true);
        receivers.push(command.spawn()?);
    }
    let mut command = Command::from(ring[1].cpg_client()?);
    command.args(["round-trip", GROUP, "3"]);
    command.args([load.count, load.window, load.size].map(|number| number.to_string()));
    let output = command.kill_on_drop(true).output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
