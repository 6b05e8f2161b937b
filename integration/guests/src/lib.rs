//! Hands and eyes of the tests with guests: `qm`, and a guest that counts.
//!
//! The guest is a boot sector (`data/guest.S`) that prints a line with a counter nine times a second and checks its own
//! memory. It needs 16 MiB and boots in a fraction of a second without any help of the processor. What it prints goes to a
//! file in the guest's directory of sockets: an unbroken count proves that it ran and was never started anew.

use std::{path::PathBuf, process::Stdio};

use cluster_tests::wait;
use playground::Node;
use tokio::process::Command;

/// The boot sector and the sector behind it.
const GUEST: &[u8] = include_bytes!("../data/guest.bin");
/// Options of a machine that runs it.
const MACHINE: [&str; 12] = [
    "--memory",
    "16",
    "--vga",
    "none",
    "--kvm",
    "0",
    "--virtio0",
    "local:0.01",
    "--args",
    "-chardev file,id=t,path=serial.log,append=on -serial chardev:t",
    "--name",
    "counter",
];

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// It ended with 0.
    pub ok: bool,
}

/// Runs `qm` on a node.
pub async fn qm(node: &Node, arguments: &[&str]) -> Said {
    let mut command = Command::from(node.command("qm"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("qm can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { out: text(&output.stdout), err: text(&output.stderr), ok: output.status.success() }
}

/// Runs `qm`, which must succeed; gives its standard output.
pub async fn done(node: &Node, arguments: &[&str]) -> String {
    let said = qm(node, arguments).await;
    assert!(said.ok, "{}: qm {arguments:?}: {said:?}", node.name());
    said.out
}

/// Runs `qm`, which must refuse with this reason; gives its standard error.
pub async fn refused(node: &Node, arguments: &[&str], reason: &str) -> String {
    let said = qm(node, arguments).await;
    assert!(!said.ok && said.err.starts_with(&format!("error[{reason}]")), "qm {arguments:?}: {said:?}");
    said.err
}

/// Makes a guest that counts, off.
pub async fn create(node: &Node, vmid: &str, more: &[&str]) {
    let arguments: Vec<&str> =
        ["create", vmid].into_iter().chain(MACHINE).chain(more.iter().copied()).collect();
    done(node, &arguments).await;
    let disk = node.root().as_path().join(format!("var/lib/vz/images/{vmid}/vm-{vmid}-disk-0.raw"));
    let file = std::fs::OpenOptions::new().write(true).open(&disk).expect("the disk was made");
    std::os::unix::fs::FileExt::write_all_at(&file, GUEST, 0).expect("the disk can be written");
}

/// The process of a guest, 0 if it is off.
pub async fn pid(node: &Node, vmid: &str) -> i32 {
    let out = done(node, &["status", vmid, "--verbose"]).await;
    let pid = out.lines().find_map(|line| line.strip_prefix("pid: "));
    pid.and_then(|pid| pid.parse().ok()).expect("a number")
}

/// `running`, `stopped` or another word.
pub async fn status(node: &Node, vmid: &str) -> String {
    let out = done(node, &["status", vmid]).await;
    out.lines().next().and_then(|line| line.strip_prefix("status: ")).unwrap_or_default().to_owned()
}

/// Waits for a word.
pub async fn status_is(node: &Node, vmid: &str, word: &str) {
    wait::until(&format!("guest {vmid} is {word}"), async || {
        let said = qm(node, &["status", vmid]).await;
        let seen = if said.ok { said.out } else { said.err };
        if seen.starts_with(&format!("status: {word}\n")) { Ok(()) } else { Err(seen) }
    })
    .await;
}

/// What a guest has printed on a node.
#[must_use]
pub fn printed(node: &Node, vmid: &str) -> String {
    let log: PathBuf = node.root().run_dir().join(format!("guests/{vmid}/serial.log"));
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

/// The counts in what was printed, in order.
#[must_use]
pub fn counts_in(text: &str) -> Vec<u32> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter_map(|line| u32::from_str_radix(line.strip_prefix("C=")?.get(..8)?, 16).ok())
        .collect()
}

/// The counts that a guest has printed, in order.
#[must_use]
pub fn counts(node: &Node, vmid: &str) -> Vec<u32> {
    counts_in(&printed(node, vmid))
}

/// Waits until a guest has counted so far, and proves that it never left out or repeated a number.
pub async fn counted(node: &Node, vmid: &str, more: usize) -> usize {
    let before = counts(node, vmid).len();
    let seen = wait::until(&format!("guest {vmid} counts"), async || {
        let seen = counts(node, vmid);
        if seen.len() >= before + more { Ok(seen) } else { Err(format!("{} lines", seen.len())) }
    })
    .await;
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{}: guest {vmid} lost count", node.name());
    seen.len()
}

/// Whether QEMU is there.
#[must_use]
pub fn has_qemu() -> bool {
    let found = ["qemu-system-x86_64", "qemu-img"].iter().all(|program| {
        std::process::Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
    });
    if !found {
        eprintln!("SKIPPED: qemu-system-x86_64 and qemu-img are needed: scripts/install-deps test");
    }
    found
}
