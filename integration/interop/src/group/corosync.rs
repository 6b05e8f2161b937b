//! A process that uses corosync's own library, told by lines what to send.

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::watch,
};

use super::{Message, Record};
use crate::Node;

/// The running `cpg-client`; it is killed when this is dropped.
pub(super) struct Client {
    _child: Child,
    stdin: ChildStdin,
}

impl Client {
    pub(super) async fn join(
        node: &Node,
        group: &str,
        record: watch::Sender<Record>,
    ) -> anyhow::Result<(Self, u32)> {
        let mut command = Command::from(node.cpg_client()?);
        command.args(["follow", group]).kill_on_drop(true);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().context("cannot run the client of libcpg")?;
        let stdin = child.stdin.take().context("standard input is a pipe")?;
        let stdout = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        let pid = child.id().context("the client of libcpg has ended")?;
        tokio::spawn(async move {
            if let Err(error) = follow(stdout, &record).await {
                eprintln!("client of libcpg: {error:#}");
            }
            record.send_modify(|record| record.ended = true);
        });
        Ok((Self { _child: child, stdin }, pid))
    }

    pub(super) async fn send(&mut self, size: usize, seed: u64, count: u64) -> anyhow::Result<()> {
        let line = format!("send {size} {seed} {count}\n");
        self.stdin.write_all(line.as_bytes()).await.context("the client of libcpg has ended")
    }
}

async fn follow(stdout: BufReader<ChildStdout>, record: &watch::Sender<Record>) -> anyhow::Result<()> {
    let mut lines = stdout.lines();
    while let Some(line) = lines.next_line().await? {
        let mut words = line.split(' ');
        match words.next() {
            Some("local") => {}
            Some("members") => {
                let process = |word: &str| -> anyhow::Result<(u32, u32)> {
                    let (node, pid) = word.split_once(':').context("a process has a node")?;
                    Ok((node.parse()?, pid.parse()?))
                };
                let members = words.map(process).collect::<anyhow::Result<_>>()?;
                record.send_modify(|record| record.memberships.push(members));
            }
            Some("message") => {
                let mut word = || words.next().context("a message has four fields");
                let message = Message {
                    node: word()?.parse()?,
                    pid: word()?.parse()?,
                    length: word()?.parse()?,
                    hash: u64::from_str_radix(word()?, 16)?,
                };
                record.send_modify(|record| record.messages.push(message));
            }
            _ => bail!("not understood: {line}"),
        }
    }
    Ok(())
}
