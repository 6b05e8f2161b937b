//! What the daemons cost while nobody calls: CPU time and resident memory, from /proc.

use std::time::Duration;

use anyhow::Context as _;
use playground::Playground;

const DAEMONS: [&str; 5] = ["quorate-node", "membershipd", "quorumd", "configd", "gatewayd"];
/// Clock ticks per second of /proc/PID/stat: fixed by Linux for user space.
const TICKS_PER_SECOND: f64 = 100.0;

struct Usage {
    ticks: u64,
    resident_kib: u64,
}

pub(crate) async fn run(playground: &Playground, time: Duration) -> anyhow::Result<()> {
    let mut before = Vec::new();
    for node in playground.nodes() {
        for daemon in DAEMONS {
            if let Some(pid) = node.pid(daemon) {
                before.push((node.name().to_owned(), daemon, pid, usage(pid)?));
            }
        }
    }
    tokio::time::sleep(time).await;
    for (node, daemon, pid, before) in before {
        let now = usage(pid)?;
        let cpu = (now.ticks - before.ticks) as f64 / TICKS_PER_SECOND / time.as_secs_f64() * 100.0;
        println!("{node} {daemon}: {cpu:.2} % CPU, {:.1} MiB resident", now.resident_kib as f64 / 1024.0);
    }
    Ok(())
}

fn usage(pid: i32) -> anyhow::Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // Fields after the name, which may hold spaces: utime and stime are 12 and 13 from there.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let tick =
        |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    let resident_kib =
        resident.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
    Ok(Usage { ticks: tick(11) + tick(12), resident_kib })
}
