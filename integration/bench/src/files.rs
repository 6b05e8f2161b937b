//! The mount: small files as programs replace and read them, and how soon another node shows a new one.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use playground::Playground;

use crate::report::Latencies;

/// How many files of which size, by how many writers; which node shows them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) count: usize,
    pub(crate) writers: usize,
    pub(crate) size: usize,
}

/// How long another node may take to show a file.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn run(playground: &Playground, node: &str, load: Load) -> anyhow::Result<()> {
    let mount = playground.node(node)?.root().mount_point();
    ensure!(
        mount.join("local").is_symlink(),
        "{} is not mounted: the benchmark of the mount needs root and /dev/fuse",
        mount.display()
    );
    replace(&mount, load)?;
    read(&mount.join("bench-0"), load)?;
    list(&mount.join("bench-0"), load)?;
    if let Some(other) = playground.nodes().iter().find(|other| other.name() != node) {
        see(&mount, &other.root().mount_point(), load.count.min(200))?;
    }
    Ok(())
}

/// Each writer replaces files in a directory of its own: a temporary file, written, closed, and renamed.
fn replace(mount: &Path, load: Load) -> anyhow::Result<()> {
    let directories: Vec<PathBuf> =
        (0..load.writers).map(|writer| mount.join(format!("bench-{writer}"))).collect();
    for directory in &directories {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let begun = Instant::now();
    let writers: Vec<_> = directories
        .into_iter()
        .map(|directory| thread::spawn(move || replace_in(&directory, load.count / load.writers, load.size)))
        .collect();
    let mut all = Latencies::new();
    for writer in writers {
        let Ok(latencies) = writer.join() else { bail!("a writer panicked") };
        all.add(&latencies?);
    }
    all.print(&format!("replacing a file of {} bytes, {} writers", load.size, load.writers), begun.elapsed());
    Ok(())
}

fn replace_in(directory: &Path, count: usize, size: usize) -> anyhow::Result<Latencies> {
    let content = vec![b'x'; size];
    let mut latencies = Latencies::new();
    for number in 0..count {
        let (temporary, file) = (directory.join("new.tmp"), directory.join(format!("file-{}", number % 100)));
        let begun = Instant::now();
        fs::write(&temporary, &content)?;
        fs::rename(&temporary, &file)?;
        latencies.record(begun.elapsed());
    }
    Ok(latencies)
}

fn read(directory: &Path, load: Load) -> anyhow::Result<()> {
    let files = (load.count / load.writers).clamp(1, 100);
    let (begun, mut latencies) = (Instant::now(), Latencies::new());
    for number in 0..load.count {
        let file = directory.join(format!("file-{}", number % files));
        let begun = Instant::now();
        ensure!(fs::read(&file)?.len() == load.size, "{} has another size", file.display());
        latencies.record(begun.elapsed());
    }
    latencies.print(&format!("open, read and close of {} bytes", load.size), begun.elapsed());
    Ok(())
}

fn list(directory: &Path, load: Load) -> anyhow::Result<()> {
    let (begun, mut latencies) = (Instant::now(), Latencies::new());
    let mut entries = 0;
    for _ in 0..load.count {
        let begun = Instant::now();
        entries = fs::read_dir(directory)?.count();
        latencies.record(begun.elapsed());
    }
    latencies.print(&format!("listing {entries} entries"), begun.elapsed());
    Ok(())
}

/// From the return of the writer's `close` until another node's mount shows the file; a file that was there before the
/// writer knew counts as 0.
fn see(mount: &Path, other: &Path, count: usize) -> anyhow::Result<()> {
    let (begun, mut latencies) = (Instant::now(), Latencies::new());
    for number in 0..count {
        let name = format!("bench-0/seen-{number}");
        fs::write(mount.join(&name), b"x")?;
        let written = Instant::now();
        let seen = other.join(&name);
        while !seen.exists() {
            ensure!(written.elapsed() < SEEN_WITHIN, "{} does not appear", seen.display());
        }
        latencies.record(written.elapsed());
    }
    latencies.print("until another node shows a file that was written", begun.elapsed());
    Ok(())
}
