//! The six steps.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{
    DemoError,
    shell::{Said, pipe, pvecm, quiet},
    votes::{Votes, members},
    writer::{Writer, missing},
};
use crate::{Error, Node, Playground};

/// The file of step 3.
const DATACENTER_CFG: &str = "# use dedicated migration network\nmigration: secure,network=10.1.2.0/24\n";
/// How many outcomes of the writer are waited for in each step.
const OUTCOMES: usize = 20;
/// How long the cluster may take to settle after a change.
const SETTLE: Duration = Duration::from_secs(30);

/// What a step needs to hold.
struct Step {
    number: u8,
}

impl Step {
    fn begin(number: u8, title: &str) -> Self {
        let title = format!("Step {number}: {title}");
        println!("\n{title}\n{}", "=".repeat(title.chars().count()));
        Self { number }
    }

    /// Ends the demo unless this holds.
    fn holds(&self, held: bool, what: impl FnOnce() -> String) -> Result<(), DemoError> {
        if held { Ok(()) } else { Err(self.broken(what())) }
    }

    fn broken(&self, what: impl ToString) -> DemoError {
        DemoError::Broken { step: self.number, what: what.to_string() }
    }

    /// Runs a command that must succeed.
    async fn run(&self, node: &Node, arguments: &[&str]) -> Result<Said, DemoError> {
        let said = pvecm(node, arguments).await;
        self.succeeded(&said, arguments)?;
        Ok(said)
    }

    /// Writes a line of text to a file, which must succeed.
    async fn put(&self, node: &Node, path: &str, line: &str) -> Result<(), DemoError> {
        let arguments = ["cfg", "put", path];
        self.succeeded(&pipe(node, line, &arguments).await, &arguments)
    }

    fn succeeded(&self, said: &Said, arguments: &[&str]) -> Result<(), DemoError> {
        let code = said.code;
        self.holds(code == Some(0), || format!("pvecm {} ended with {code:?}", arguments.join(" ")))
    }

    /// Checks a line of `pvecm status`.
    fn check(&self, said: &Said, label: &str, expected: &str) -> Result<(), DemoError> {
        let value = said.value(label);
        self.holds(value == Some(expected), || format!("'{label}' is {value:?}, not '{expected}'"))
    }

    async fn votes(&self, node: &Node) -> Result<Votes, DemoError> {
        Votes::of(node).await.map_err(|status| self.broken(status))
    }

    /// Waits until a node is quorate with these members.
    async fn quorate_with(&self, node: &Node, expected: &[u32]) -> Result<(), DemoError> {
        let what = format!("members {expected:?}, quorate");
        let mut votes = self.votes(node).await?;
        votes.until(&what, SETTLE, |status| status.quorate && members(status) == expected).await?;
        Ok(())
    }
}

/// Runs all steps on three nodes that are in no cluster.
pub(super) async fn all(playground: &Playground) -> Result<(), DemoError> {
    let [hp1, hp2, hp3] = ["hp1", "hp2", "hp3"].map(|name| playground.node(name));
    let (hp1, hp2, hp3) = (hp1?, hp2?, hp3?);
    create_and_join(hp1, [hp2, hp3]).await?;
    count(hp1).await?;
    replicate(playground, hp1, hp2, hp3).await?;
    let mut writer = Writer::start(hp1);
    lose_one(hp1, hp2, hp3, &mut writer).await?;
    lose_quorum(hp1, hp2, &mut writer).await?;
    come_back(playground, hp1, [hp2, hp3], writer).await
}

async fn create_and_join(hp1: &Node, joining: [&Node; 2]) -> Result<(), DemoError> {
    let step = Step::begin(1, "create a cluster and join it");
    step.run(hp1, &["create", "demo"]).await?;
    let address = hp1.address().to_string();
    for node in joining {
        let token = step.run(hp1, &["token", "create"]).await?;
        step.run(node, &["add", &address, "--token", token.out.trim()]).await?;
    }
    for node in [hp1, joining[0], joining[1]] {
        let mut votes = step.votes(node).await?;
        let settled = votes.until("three members with a vote each", SETTLE, |status| {
            members(status) == [1, 2, 3] && status.total_votes == 3 && status.expected_votes == 3
        });
        settled.await?;
    }
    Ok(())
}

async fn count(hp1: &Node) -> Result<(), DemoError> {
    let step = Step::begin(2, "who is there, and how many votes are needed?");
    let status = step.run(hp1, &["status"]).await?;
    for (label, value) in [
        ("Name", "demo"),
        ("Nodes", "3"),
        ("Quorate", "Yes"),
        ("Expected votes", "3"),
        ("Highest expected", "3"),
        ("Total votes", "3"),
        ("Quorum", "2"),
        ("Flags", "Quorate"),
    ] {
        step.check(&status, label, value)?;
    }
    let nodes = step.run(hp1, &["nodes"]).await?;
    for line in
        ["         1          1 hp1 (local)", "         2          1 hp2", "         3          1 hp3"]
    {
        step.holds(nodes.out.lines().any(|shown| shown == line), || format!("no line '{line}'"))?;
    }
    Ok(())
}

async fn replicate(playground: &Playground, hp1: &Node, hp2: &Node, hp3: &Node) -> Result<(), DemoError> {
    let step = Step::begin(3, "a file written on one node is on all nodes");
    let file = playground.dir().join("datacenter.cfg");
    fs::write(&file, DATACENTER_CFG).map_err(Error::file("write", &file))?;
    println!("\nhp2# cat {}\n{}", file.display(), DATACENTER_CFG.trim_end());
    let file = file.to_string_lossy().into_owned();
    step.run(hp2, &["cfg", "put", "datacenter.cfg", &file]).await?;
    for node in [hp1, hp3] {
        // What hp2 acknowledged is on the disks of a majority; asking for the newest state covers the third node.
        let said = step.run(node, &["cfg", "get", "datacenter.cfg", "--linearizable"]).await?;
        step.holds(said.out == DATACENTER_CFG, || format!("{} has another datacenter.cfg", node.name()))?;
    }
    fs::remove_file(&file).map_err(Error::file("remove", file))?;
    Ok(())
}

async fn lose_one(hp1: &Node, hp2: &Node, hp3: &Node, writer: &mut Writer) -> Result<(), DemoError> {
    let step = Step::begin(4, "one of three dies: two stay quorate");
    println!("\nfrom now on, small files are written through hp1, one after the other");
    writer.until("acknowledged files", SETTLE, |record| record.acknowledged.len() >= OUTCOMES).await?;
    let mut votes = step.votes(hp1).await?;
    println!("\nhp3 dies: SIGKILL to all of its daemons and their supervisor");
    let killed = Instant::now();
    hp3.kill(None).await?;
    votes
        .until("members [1, 2], quorate", SETTLE, |status| status.quorate && members(status) == [1, 2])
        .await?;
    println!("new quorate membership of hp1 and hp2 {} ms after the kill", killed.elapsed().as_millis());
    let status = step.run(hp1, &["status"]).await?;
    for (label, value) in [("Nodes", "2"), ("Quorate", "Yes"), ("Total votes", "2"), ("Quorum", "2")] {
        step.check(&status, label, value)?;
    }
    step.put(hp2, "vzdump.cron", "two of three still write").await?;
    step.run(hp1, &["cfg", "get", "vzdump.cron", "--linearizable"]).await?;
    let (before, _) = writer.record().counts();
    let more = before + OUTCOMES;
    writer.until("more acknowledged files", SETTLE, |record| record.acknowledged.len() >= more).await?;
    Ok(())
}

async fn lose_quorum(hp1: &Node, hp2: &Node, writer: &mut Writer) -> Result<(), DemoError> {
    let step = Step::begin(5, "two of three are dead: the last one reads and does not write");
    let mut votes = step.votes(hp1).await?;
    println!("\nhp2 dies, too");
    let killed = Instant::now();
    hp2.kill(None).await?;
    votes.until("not quorate", SETTLE, |status| !status.quorate).await?;
    println!("hp1 knows that it is alone {} ms after the kill", killed.elapsed().as_millis());
    let status = pvecm(hp1, &["status"]).await;
    step.holds(status.code == Some(2), || format!("pvecm status ended with {:?}, not 2", status.code))?;
    step.check(&status, "Quorate", "No")?;
    step.check(&status, "Quorum", "2 Activity blocked")?;
    let refused = pipe(hp1, "one of three does not write", &["cfg", "put", "vzdump.cron"]).await;
    step.holds(refused.code == Some(255), || format!("the write ended with {:?}, not 255", refused.code))?;
    for told in ["NOT_QUORATE", "votes present 1", "2 needed", "hp2", "hp3", "since"] {
        step.holds(refused.err.contains(told), || format!("the refusal does not tell '{told}'"))?;
    }
    let read = step.run(hp1, &["cfg", "get", "datacenter.cfg"]).await?;
    step.holds(read.out == DATACENTER_CFG, || "hp1 reads another datacenter.cfg".into())?;
    writer.until("refused writes", SETTLE, |record| record.refused >= OUTCOMES).await?;
    Ok(())
}

async fn come_back(
    playground: &Playground,
    hp1: &Node,
    returning: [&Node; 2],
    mut writer: Writer,
) -> Result<(), DemoError> {
    let step = Step::begin(6, "both come back: one history, and nothing acknowledged is missing");
    for node in returning {
        println!("\n{} is switched on", node.name());
        node.start().await?;
    }
    step.quorate_with(hp1, &[1, 2, 3]).await?;
    let status = step.run(hp1, &["status"]).await?;
    step.check(&status, "Nodes", "3")?;
    step.check(&status, "Quorate", "Yes")?;
    let (before, _) = writer.record().counts();
    let more = before + OUTCOMES;
    writer.until("acknowledged files again", SETTLE, |record| record.acknowledged.len() >= more).await?;
    let record = writer.stop().await;
    println!(
        "\nof the small files, {} were acknowledged, {} refused, {} left without an answer; the longest wait was {} ms",
        record.acknowledged.len(),
        record.refused,
        record.unknown,
        record.longest_pause.as_millis()
    );
    same_replicas(&step, playground).await?;
    for node in playground.nodes() {
        let lost = missing(node, &record.acknowledged).await;
        step.holds(lost.is_empty(), || format!("{} misses acknowledged files: {lost:?}", node.name()))?;
        println!("{}: all {} acknowledged files are there", node.name(), record.acknowledged.len());
    }
    Ok(())
}

/// All replicas come to the same version and checksum.
async fn same_replicas(step: &Step, playground: &Playground) -> Result<(), DemoError> {
    let replicas = async || {
        let mut replicas = Vec::new();
        for node in playground.nodes() {
            let said = quiet(node, &["cfg", "status"]).await;
            let value = |label| said.value(label).unwrap_or("?").to_owned();
            replicas.push([value("State"), value("Version"), value("Checksum")]);
        }
        replicas
    };
    let equal = async || {
        let replicas = replicas().await;
        replicas.iter().all(|replica| *replica == replicas[0] && replica[0] == "synchronised")
    };
    let waited = crate::process::wait_until("equal replicas", SETTLE, equal).await;
    for node in playground.nodes() {
        pvecm(node, &["cfg", "status"]).await;
    }
    waited.map_err(|error| step.broken(error))
}
