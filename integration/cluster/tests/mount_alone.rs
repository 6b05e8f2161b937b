//! `/etc/pve` of a node that is in no cluster: what programs may rely on. The numbers are those of the acceptance tests
//! in the pmxcfs specification, section 14.
//!
//! Needs root and /dev/fuse; says so and passes where they are missing.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cluster_tests::{
    Lab, mount,
    mount::{close, create_new, directories, errno, mode, open_with, overwrite, shell},
    replicas, wait,
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::stat::{Mode, SFlag, mknod},
    unistd::Group,
};

/// Largest file.
const FILE_MAX: usize = 1 << 20;

async fn alone() -> Option<(Lab, PathBuf)> {
    if !mount::possible() {
        return None;
    }
    let lab = Lab::nodes(1).await;
    let at = mount::of(lab.node(1)).await;
    mount::writable(&at, true).await;
    Some((lab, at))
}

fn names(at: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(at).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    entries.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Numbers 1 and 2.
#[tokio::test(flavor = "multi_thread")]
async fn modes_and_owners_follow_from_the_path() {
    let Some((_lab, at)) = alone().await else { return };
    directories(&at, &["nodes/hp1/priv", "nodes/hp1/qemu-server", "priv/lock"]);
    for file in ["storage.cfg", "priv/shadow.cfg", "nodes/hp1/config", "nodes/hp1/priv/key"] {
        overwrite(&at.join(file), b"x").expect("writable");
    }
    let group = Group::from_name("www-data").ok().flatten().map_or(33, |group| group.gid.as_raw());
    for (path, wanted) in [
        ("", 0o755),
        ("nodes", 0o755),
        ("storage.cfg", 0o640),
        ("nodes/hp1/config", 0o640),
        ("priv", 0o700),
        ("priv/lock", 0o700),
        ("priv/shadow.cfg", 0o600),
        ("nodes/hp1/priv", 0o700),
        ("nodes/hp1/priv/key", 0o600),
        ("local", 0o755),
        (".members", 0o440),
        (".debug", 0o640),
    ] {
        let meta = fs::symlink_metadata(at.join(path)).expect("there");
        assert_eq!(format!("{:o}", mode(&at.join(path))), format!("{wanted:o}"), "{path}");
        assert_eq!((meta.uid(), meta.gid()), (0, group), "{path}");
    }
    assert_eq!(fs::read_link(at.join("local")).expect("a link"), Path::new("nodes/hp1"));
    assert_eq!(fs::read_link(at.join("qemu-server")).expect("a link"), Path::new("nodes/hp1/qemu-server"));
    let members = fs::read(at.join(".members")).expect("readable");
    assert_eq!(fs::metadata(at.join(".members")).expect("there").len(), members.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_configd_makes_up_cannot_be_changed() {
    let Some((lab, at)) = alone().await else { return };
    assert_eq!(errno(fs::remove_file(at.join("local"))), Some(Errno::EACCES));
    assert_eq!(errno(fs::write(at.join(".members"), "x")), Some(Errno::EACCES));
    assert_eq!(errno(fs::create_dir(at.join("openvz"))), Some(Errno::EEXIST));
    overwrite(&at.join("plain"), b"x").expect("writable");
    assert_eq!(errno(fs::rename(at.join("plain"), at.join(".vmlist"))), Some(Errno::EACCES));
    assert_eq!(errno(fs::rename(at.join(".vmlist"), at.join("other"))), Some(Errno::EACCES));
    assert_eq!(errno(fs::write(at.join(".debug"), "nonsense")), Some(Errno::EIO));
    let messages =
        || fs::read_to_string(lab.node(1).log("configd")).expect("readable").matches("DEBUG").count();
    assert_eq!(messages(), 0, "nobody asked for them");
    fs::write(at.join(".debug"), "1\n").expect("debug can be switched");
    assert_eq!(errno(fs::remove_file(at.join("local"))), Some(Errno::EACCES));
    wait::until("a debug message", async || if messages() > 0 { Ok(()) } else { Err("none".to_owned()) })
        .await;
    assert!(names(&at).contains(".members") && names(&at).contains("local"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pmxcfs_does_not_have_is_refused() {
    let Some((_lab, at)) = alone().await else { return };
    let file = at.join("file");
    overwrite(&file, b"x").expect("writable");
    let perm = |mode| fs::set_permissions(&file, Permissions::from_mode(mode));
    assert_eq!(errno(perm(0o640)), None);
    assert_eq!(errno(perm(0o644)), Some(Errno::EPERM));
    assert_eq!(errno(chown(&file, Some(0), None)), None);
    assert_eq!(errno(chown(&file, Some(1), None)), Some(Errno::EPERM));
    assert_eq!(errno(symlink("file", at.join("link"))), Some(Errno::EPERM));
    assert_eq!(errno(fs::hard_link(&file, at.join("link"))), Some(Errno::EPERM));
    let fifo = mknod(&at.join("fifo"), SFlag::S_IFIFO, Mode::empty(), 0);
    assert_eq!(fifo, Err(Errno::EPERM));
    assert_eq!(errno(fs::write(at.join("n".repeat(256)), "x")), Some(Errno::ENAMETOOLONG));
    assert_eq!(errno(fs::write(at.join("n".repeat(255)), "x")), None);
    let no_text = at.join(OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(errno(fs::metadata(&no_text)), Some(Errno::ENOENT));
    assert_eq!(errno(fs::write(&no_text, "x")), Some(Errno::EILSEQ));
    assert_eq!(errno(fs::write(at.join("none/file"), "x")), Some(Errno::ENOENT));
    assert_eq!(errno(fs::write(at.join("file/file"), "x")), Some(Errno::ENOTDIR));
    assert_eq!(errno(File::options().write(true).open(&at)), Some(Errno::EISDIR));
}

/// Number 7.
#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_fits_and_one_more_byte_changes_nothing() {
    let Some((_lab, at)) = alone().await else { return };
    let path = at.join("big");
    let whole = vec![b'x'; FILE_MAX];
    overwrite(&path, &whole).expect("it fits");
    assert_eq!(fs::read(&path).expect("readable"), whole);

    let file = open_with(&path, OFlag::empty()).expect("writable");
    assert_eq!(errno(file.write_all_at(b"y", FILE_MAX as u64)), Some(Errno::EFBIG));
    assert_eq!(errno(file.set_len(FILE_MAX as u64 + 1)), Some(Errno::EFBIG));
    let mut appends = open_with(&path, OFlag::O_APPEND).expect("writable");
    assert_eq!(errno(appends.write_all(b"y")), Some(Errno::EFBIG));
    drop((file, appends));
    assert_eq!(fs::read(&path).expect("readable"), whole);
}

/// Number 6, and the rest of the rules of rename.
#[tokio::test(flavor = "multi_thread")]
async fn rename_keeps_its_rules() {
    let Some((_lab, at)) = alone().await else { return };
    directories(&at, &["full", "empty", "other", "priv/lock/held"]);
    for (file, content) in [("a", "1"), ("b", "2"), ("full/x", "3")] {
        overwrite(&at.join(file), content.as_bytes()).expect("writable");
    }
    let rename = |from: &str, to: &str| errno(fs::rename(at.join(from), at.join(to)));
    assert_eq!(rename("full", "moved"), Some(Errno::ENOTEMPTY));
    assert_eq!(rename("other", "full"), Some(Errno::ENOTEMPTY));
    assert_eq!(rename("a", "empty"), Some(Errno::EISDIR));
    assert_eq!(rename("empty", "a"), Some(Errno::ENOTDIR));
    assert_eq!(rename("priv/lock/held", "priv/lock/mine"), Some(Errno::EACCES));
    assert_eq!(rename("none", "a"), Some(Errno::ENOENT));
    assert_eq!(rename("empty", "moved"), None);
    assert_eq!(rename("a", "b"), None);
    assert_eq!(fs::read_to_string(at.join("b")).expect("there"), "1");
    assert_eq!(errno(fs::metadata(at.join("a"))), Some(Errno::ENOENT));
    assert_eq!(errno(fs::remove_dir(at.join("full"))), Some(Errno::ENOTEMPTY));
    assert_eq!(rename("b", "full/b"), None);
    assert_eq!(names(&at.join("full")), BTreeSet::from(["b".to_owned(), "x".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmid_belongs_to_one_guest() {
    let Some((_lab, at)) = alone().await else { return };
    directories(&at, &["nodes/hp1/qemu-server", "nodes/hp1/lxc", "nodes/hp2/qemu-server"]);
    overwrite(&at.join("qemu-server/100.conf"), b"name: web\n").expect("free");
    assert_eq!(errno(overwrite(&at.join("lxc/100.conf"), b"x")), Some(Errno::EEXIST));
    assert_eq!(errno(create_new(&at.join("nodes/hp2/qemu-server/100.conf"), b"x")), Some(Errno::EEXIST));
    overwrite(&at.join("lxc/101.conf.tmp"), b"x").expect("no guest's name");
    assert_eq!(errno(fs::rename(at.join("lxc/101.conf.tmp"), at.join("lxc/100.conf"))), Some(Errno::EEXIST));
    fs::rename(at.join("qemu-server/100.conf"), at.join("nodes/hp2/qemu-server/100.conf")).expect("it moves");
    assert_eq!(fs::read_to_string(at.join("nodes/hp2/qemu-server/100.conf")).expect("there"), "name: web\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_edit_files_in_their_own_ways() {
    let Some((_lab, at)) = alone().await else { return };
    let read =
        |name: &str| fs::read_to_string(at.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    shell(&at, "printf 'one\\ntwo\\n' > f; printf 'three\\n' >> f");
    assert_eq!(read("f"), "one\ntwo\nthree\n");
    shell(&at, "sed -i s/two/2/ f");
    assert_eq!(read("f"), "one\n2\nthree\n");
    // Like vim with 'backupcopy=no': the old file becomes the backup, the new one is written under its name.
    shell(&at, "mv f f~; printf 'new\\n' > f; rm f~");
    assert_eq!(read("f"), "new\n");
    // Like nano: empty, write, close.
    let mut file = OpenOptions::new().write(true).truncate(true).open(at.join("f")).expect("writable");
    file.write_all(b"by nano\n").expect("writable");
    close(file).expect("durable");
    assert_eq!(read("f"), "by nano\n");
    shell(
        &at,
        "cp f g; mv g h; cp h f; cmp f h; dd if=/dev/zero of=z bs=1000 count=30 status=none; tail -c1 z >/dev/null",
    );
    assert_eq!(fs::metadata(at.join("z")).expect("there").len(), 30_000);
    if Path::new("/usr/bin/vim").exists() {
        shell(&at, "vim -Nu NONE -n -es '+%s/nano/vim/' +wq f </dev/null");
        assert_eq!(read("f"), "by vim\n");
    }
    shell(&at, "touch -d @1234567890 f; truncate -s 3 f; mkdir -p deep/er; rm -r deep z h");
    assert_eq!(read("f"), "by ");
    assert!(!names(&at).iter().any(|name| name.contains(".fuse_hidden")), "{:?}", names(&at));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_file_open_keeps_it() {
    let Some((_lab, at)) = alone().await else { return };
    let path = at.join("f");
    overwrite(&path, b"old content").expect("writable");
    let mut removed = File::open(&path).expect("readable");
    fs::remove_file(&path).expect("removable");
    overwrite(&path, b"second").expect("writable");
    let mut replaced = File::open(&path).expect("readable");
    let mut writes = open_with(&path, OFlag::empty()).expect("writable");
    overwrite(&at.join("t"), b"third").expect("writable");
    fs::rename(at.join("t"), &path).expect("over it");

    let text = |file: &mut File| {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).expect("a file");
        file.read_to_string(&mut text).expect("readable");
        text
    };
    assert_eq!(text(&mut removed), "old content");
    assert_eq!(text(&mut replaced), "second");
    assert_eq!(removed.metadata().expect("open").nlink(), 0);
    writes.write_all(b"in vain").expect("as everywhere");
    close(writes).expect("as everywhere");
    assert_eq!(fs::read_to_string(&path).expect("there"), "third");
    assert_eq!(names(&at).iter().filter(|name| name.starts_with(['f', 't'])).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_written_is_seen_here_before_it_is_closed() {
    let Some((lab, at)) = alone().await else { return };
    let path = at.join("log");
    let version = async || replicas::status(lab.node(1)).await.expect("configd answers").version;
    let before = version().await;
    let mut file = OpenOptions::new().append(true).create(true).open(&path).expect("writable");
    let mut other = OpenOptions::new().append(true).open(&path).expect("it is there already");
    for part in ["one ", "two ", "three "] {
        file.write_all(part.as_bytes()).expect("writable");
        other.write_all(part.as_bytes()).expect("writable");
    }
    assert_eq!(fs::read_to_string(&path).expect("there"), "one one two two three three ");
    assert!(names(&at).contains("log"));
    close(file).expect("durable");
    let after = version().await;
    assert_eq!(after, before + 1, "all of it was one operation");
    close(other).expect("nothing waits");
    assert_eq!(version().await, after);

    let mut open = OpenOptions::new().append(true).open(&path).expect("writable");
    open.write_all(b"four").expect("writable");
    wait::until("what was written is sent while the file stays open", async || {
        let now = version().await;
        if now > after { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    let mut synced = open_with(&path, OFlag::O_APPEND | OFlag::O_SYNC).expect("writable");
    let before = version().await;
    synced.write_all(b"!").expect("durable");
    assert_eq!(version().await, before + 1);
    let again = open_with(&path, OFlag::O_TRUNC).expect("writable");
    assert_eq!(fs::metadata(&path).expect("there").len(), 0);
    again.sync_all().expect("durable");
    assert_eq!(version().await, before + 2);
}

/// The part of number 8 that needs no waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_below_priv_lock_is_a_lock() {
    let Some((_lab, at)) = alone().await else { return };
    directories(&at, &["priv/lock"]);
    let lock = at.join("priv/lock/file-storage_cfg");
    fs::create_dir(&lock).expect("free");
    assert_eq!(errno(fs::create_dir(&lock)), Some(Errno::EEXIST));
    let set = |time: SystemTime| {
        let times = fs::FileTimes::new().set_modified(time).set_accessed(time);
        File::open(&lock).and_then(|lock| lock.set_times(times))
    };
    assert_eq!(errno(set(SystemTime::UNIX_EPOCH)), Some(Errno::EACCES), "it is too young to be broken");
    let later = SystemTime::now() + Duration::from_secs(5);
    assert_eq!(errno(set(later)), None, "the holder refreshes it");
    let seconds = later.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    assert_eq!(fs::metadata(&lock).expect("held").mtime() as u64, seconds);
    fs::remove_dir(&lock).expect("released");
    fs::create_dir(&lock).expect("free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_directories_are_listed_whole() {
    let Some((_lab, at)) = alone().await else { return };
    directories(&at, &["long"]);
    let expected: BTreeSet<String> = (0..2000).map(|number| format!("entry-{number:05}")).collect();
    let names_of_files: Vec<&String> = expected.iter().collect();
    std::thread::scope(|scope| {
        for names in names_of_files.chunks(500) {
            let at = &at;
            scope.spawn(move || {
                names.iter().for_each(|name| overwrite(&at.join("long").join(name), b"x").expect("writable"));
            });
        }
    });
    for _ in 0..2 {
        assert_eq!(names(&at.join("long")), expected);
    }
    fs::remove_file(at.join("long/entry-01000")).expect("removable");
    assert_eq!(names(&at.join("long")).len(), 1999);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_configd_leaves_nobody_hanging_and_its_successor_takes_over() {
    let Some((lab, at)) = alone().await else { return };
    let node = lab.node(1);
    overwrite(&at.join("kept"), b"content").expect("writable");
    let waits = at.join("lost");
    let mut unsent = OpenOptions::new().append(true).create(true).open(&waits).expect("writable");
    unsent.write_all(b"not closed").expect("writable");

    node.kill(Some("configd")).await.expect("it runs");

    let broken = errno(unsent.sync_all());
    assert!(matches!(broken, Some(Errno::ENOTCONN | Errno::ECONNABORTED)), "{broken:?}");
    drop(unsent);
    mount::of(node).await;
    mount::has(&at.join("kept"), "content").await;
    overwrite(&at.join("kept"), b"more").expect("writable");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let ours = mounts.lines().filter(|line| line.contains(&format!(" {} ", at.display()))).count();
    assert_eq!(ours, 1, "{mounts}");

    node.stop().await.expect("an orderly end");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    assert!(!mounts.contains(&at.display().to_string()), "{mounts}");
    assert!(names(&at).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_the_way_are_not_hidden_and_configd_works_without_a_mount() {
    let Some((lab, at)) = alone().await else { return };
    let node = lab.node(1);
    let status = replicas::status(node).await.expect("configd answers");
    assert_eq!(status.mount, at.canonicalize().expect("there").display().to_string());
    node.stop().await.expect("an orderly end");
    fs::write(at.join("somebody's"), "own").expect("an ordinary directory");
    node.start().await.expect("it starts");
    let told = wait::until("configd's word on the mount", async || {
        let status = replicas::status(node).await?;
        if status.mount.contains("starting") { Err(status.mount) } else { Ok(status.mount) }
    })
    .await;
    assert!(told.starts_with("off, because") && told.contains("somebody's"), "{told}");
    assert_eq!(fs::read_to_string(at.join("somebody's")).expect("not hidden"), "own");
}
