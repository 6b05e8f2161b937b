//! The nodes of a run: a cluster in network namespaces, each store on a small disk of its own, and the end of both.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
};

use anyhow::{Context as _, bail, ensure};
use cluster_tests::{cli, replicas};
use playground::{Mode, Node, Playground, Setup};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Size of the disk of each store: room for the store, and soon filled.
const DISK: &str = "size=128m,mode=0700";

/// Programs that faults are made with.
const PROGRAMS: [&str; 4] = ["ip", "nft", "mount", "umount"];

/// Why a run is not possible here; `None` if it is.
#[must_use]
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root is needed for network namespaces, packet filters and small disks".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| {
        let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        directories.map(|directory: PathBuf| directory.join(name)).any(|file| file.exists())
    };
    let absent = PROGRAMS.iter().find(|name| !is_there(name))?;
    Some(format!("there is no program '{absent}'; scripts/install-deps test installs it"))
}

/// The nodes. Dropping it kills them and gives their disks back; logs stay if [`Lab::keep`] was called.
pub struct Lab {
    playground: Playground,
    disks: Vec<PathBuf>,
    keep: bool,
}

impl Lab {
    /// Makes nodes and a cluster of them.
    ///
    /// # Errors
    /// What playground, mounting or joining end with; all that was made is removed.
    pub async fn up(nodes: u8) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("quorate-faults-").tempdir()?.keep();
        let setup = Setup { nodes, mode: Mode::Netns, subnet: None, environment: BTreeMap::new() };
        let playground = Playground::up(&dir, &setup).await?;
        let mut lab = Self { playground, disks: Vec::new(), keep: false };
        lab.mount_disks().await?;
        lab.form().await;
        Ok(lab)
    }

    /// The nodes are in no cluster yet, so what they stored may be covered.
    async fn mount_disks(&mut self) -> anyhow::Result<()> {
        for node in self.playground.nodes().to_vec() {
            node.stop().await?;
            let disk = node.root().state_dir("configd");
            fs::create_dir_all(&disk)?;
            let target = disk.to_str().context("the path of a playground is text")?;
            run("mount", &["-t", "tmpfs", "-o", DISK, "quorate-faults", target]).await?;
            self.disks.push(disk);
            // A namespace of mounts sees what was mounted before it was made.
            node.start().await?;
        }
        Ok(())
    }

    async fn form(&self) {
        let nodes = self.nodes();
        let [first, others @ ..] = nodes else { return };
        cli::done(first, &["create", "faults"]).await;
        for (joined, node) in (2..).zip(others) {
            let token = cli::token(first).await;
            cli::done(node, &["add", &first.address().to_string(), "--token", &token]).await;
            replicas::same(&nodes[..joined].iter().collect::<Vec<_>>()).await;
        }
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        self.playground.nodes()
    }

    /// The playground below.
    #[must_use]
    pub fn playground(&self) -> &Playground {
        &self.playground
    }

    /// Keeps the nodes' files at the end, for whoever wants to know what happened.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Replaces the packet filter of a node: packets that it receives and sends are dropped by these rules.
    ///
    /// # Errors
    /// What nft says.
    pub async fn filter(&self, node: &Node, input: &str, output: &str) -> anyhow::Result<()> {
        let rules = format!(
            "add table inet quorate_faults\ndelete table inet quorate_faults\ntable inet quorate_faults {{\n\
             chain input {{ type filter hook input priority 0; policy accept; {input} }}\n\
             chain output {{ type filter hook output priority 0; policy accept; {output} }}\n}}\n"
        );
        let mut command = Command::from(node.command("nft"));
        command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run nft")?;
        let mut stdin = child.stdin.take().context("standard input is a pipe")?;
        stdin.write_all(rules.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

async fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().await;
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())
}

/// Ends the nodes; what they stored is kept or removed.
async fn end(playground: &Playground, disks: &[PathBuf], keep: bool) {
    if let Err(error) = playground.kill().await {
        eprintln!("{} is left running: {error}", playground.dir().display());
        return;
    }
    for disk in disks {
        let target = disk.to_string_lossy();
        if let Err(error) = run("umount", &[&target]).await {
            eprintln!("{target} is left mounted: {error}");
        }
    }
    let kept = keep.then(|| keep_logs(playground)).flatten();
    if let Err(error) = playground.down().await {
        eprintln!("{} is left behind: {error}", playground.dir().display());
    }
    if let Some(kept) = kept {
        eprintln!("the nodes' logs are kept: {}", kept.display());
    }
}

/// Copies the logs away: namespaces and nodes go in any case.
fn keep_logs(playground: &Playground) -> Option<PathBuf> {
    let kept = tempfile::Builder::new().prefix("quorate-faults-logs-").tempdir().ok()?.keep();
    for node in playground.nodes() {
        let logs = node.root().as_path().join("var/log/quorate");
        let _ = copy_files(&logs, &kept.join(node.name()));
    }
    Some(kept)
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

impl Drop for Lab {
    fn drop(&mut self) {
        let (playground, disks) = (self.playground.clone(), std::mem::take(&mut self.disks));
        let keep = self.keep || thread::panicking();
        // A runtime of its own: the run's may be shutting down.
        let ended = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("the operating system gives a process its threads").block_on(end(
                &playground,
                &disks,
                keep,
            ));
        });
        let _ = ended.join();
    }
}
