//! What must be there: privileges, programs, and the client of libcpg, which is compiled once.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

const PROGRAMS: [&str; 10] = [
    "corosync",
    "corosync-quorumtool",
    "corosync-cpgtool",
    "corosync-cmapctl",
    "nft",
    "ip",
    "nsenter",
    "unshare",
    "setpriv",
    "cc",
];
const HEADER: &str = "/usr/include/corosync/cpg.h";
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cpg/cpg-client.c");

/// Why the tests cannot run here; `None` if they can.
pub(crate) fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root is needed for network namespaces".to_owned());
    }
    if let Some(program) = PROGRAMS.into_iter().find(|program| find(program).is_none()) {
        return Some(format!("there is no program '{program}'; scripts/install-deps test installs it"));
    }
    if !Path::new(HEADER).exists() {
        return Some(format!("there is no {HEADER}; scripts/install-deps test installs it"));
    }
    let namespace = Command::new("unshare").args(["-n", "-m", "-u", "true"]).output();
    if !namespace.is_ok_and(|output| output.status.success()) {
        return Some("namespaces cannot be made here".to_owned());
    }
    None
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.map(|directory| directory.join(program)).find(|file| file.exists())
}

/// A daemon of Quorate: next to this program. A test lies one level deeper.
pub(crate) fn daemon(name: &str) -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program")?;
    let directory = own.parent().context("a program lies in a directory")?;
    let directory =
        if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    let program = env::var_os("QUORATE_BIN_DIR").map_or(directory.to_owned(), PathBuf::from).join(name);
    ensure!(
        program.exists(),
        "there is no {}; build all of it first: cargo build --workspace",
        program.display()
    );
    Ok(program)
}

/// The client of libcpg. Compiled aside and then renamed: tests may do so at the same time.
pub(crate) fn cpg_client() -> anyhow::Result<PathBuf> {
    let membershipd = daemon("membershipd")?;
    let directory = membershipd.parent().context("a program lies in a directory")?;
    let program = directory.join("interop-cpg-client");
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    if changed(&program).is_ok_and(|built| changed(Path::new(SOURCE)).is_ok_and(|source| source <= built)) {
        return Ok(program);
    }
    let scratch = tempfile::Builder::new().prefix("interop").tempdir_in(directory)?;
    let fresh = scratch.path().join("cpg-client");
    let output = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&fresh)
        .args([SOURCE, "-lcpg"])
        .output()
        .context("cannot run cc")?;
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&fresh, &program).context("cannot rename the client of libcpg")?;
    Ok(program)
}
