//! Wrong input, and a machine that does not give what a node needs: each ends in one error that names the thing, the
//! reason and the way out; nothing half done stays behind; and what can heal heals by itself.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    process::Command,
};

use cluster_tests::{Lab, cli, replicas, wait};
use playground::{Node, shell::Said};
use quorate_proto::config::v1::get_status_response::State;

/// Port of the ring and of the gateway on every node of a playground.
const RING_PORT: u16 = 5405;
const GATEWAY_PORT: u16 = 8006;
/// The most that a file of the tree may have, in bytes.
const FILE_MAX: usize = 1 << 20;

/// A command line that must be refused: with this reason, exit status 255, and these words in its error.
async fn refused(node: &Node, arguments: &[&str], reason: &str, words: &[&str]) {
    let said = cli::pipe(node, "content\n", arguments).await;
    is_refusal(&said, 255, reason, words, arguments);
}

fn is_refusal(said: &Said, code: i32, reason: &str, words: &[&str], arguments: &[&str]) {
    let err = &said.err;
    assert_eq!(said.code, Some(code), "pvecm {arguments:?} printed {err:?}");
    let starts = if reason.is_empty() { "error: ".to_owned() } else { format!("error[{reason}]: ") };
    assert!(err.contains(&starts), "pvecm {arguments:?}: {reason} in {err:?}");
    for word in words {
        assert!(err.contains(word), "pvecm {arguments:?}: '{word}' in {err:?}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

/// Waits until a command fails with these words, while the node is in trouble.
async fn until_refused(node: &Node, arguments: &[&str], words: &[&str]) -> Said {
    wait::until(&format!("{} says {words:?}", node.name()), async || {
        let said = cli::pvecm(node, arguments).await;
        let fits = said.code != Some(0) && words.iter().all(|word| said.err.contains(word));
        if fits { Ok(said) } else { Err(format!("{:?} {}{}", said.code, said.out, said.err)) }
    })
    .await
}

async fn until_logged(node: &Node, daemon: &str, words: &str) {
    wait::until(&format!("'{words}' in the log of {daemon} of {}", node.name()), async || {
        let log = fs::read_to_string(node.log(daemon)).unwrap_or_default();
        if log.contains(words) { Ok(()) } else { Err(log.lines().last().unwrap_or_default().to_owned()) }
    })
    .await;
}

/// Starts a node that cannot start completely; gives the end of the start, for when it can.
fn try_to_start(node: &Node) -> tokio::task::JoinHandle<Result<(), playground::Error>> {
    let node = node.clone();
    tokio::spawn(async move { node.start().await })
}

async fn kill(node: &Node) {
    node.kill(None).await.expect("the node runs");
}

async fn config_version(member: &Node) -> u64 {
    let conf = cli::done(member, &["cfg", "get", "corosync.conf"]).await;
    let version = conf.lines().find_map(|line| line.trim().strip_prefix("config_version: "));
    version.expect("every configuration has a version").parse().expect("a number")
}

/// Nothing in the node's files and tree is from a cluster.
async fn is_untouched(node: &Node) {
    assert!(!node.root().corosync_conf().exists(), "{} has a corosync.conf", node.name());
    assert_eq!(cli::done(node, &["cfg", "ls"]).await, "", "the tree of {}", node.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_is_refused_changes_nothing_on_either_side_and_uses_no_token_up() {
    let lab = Lab::nodes(4).await;
    let [member, second, joining, foreign] = [1, 2, 3, 4].map(|number| lab.node(number));
    cli::done(member, &["create", "lab"]).await;
    lab.join(second).await;
    cli::done(foreign, &["create", "other"]).await;
    let version = config_version(member).await;
    let token = cli::token(member).await;
    let stranger = cli::token(foreign).await;
    let expired = cli::done(member, &["token", "create", "--lifetime", "1s"]).await;
    let others = cli::done(member, &["token", "create", "--node", "hp9"]).await;
    let at = &member.address().to_string();
    let (taken, nobody) = (second.address().to_string(), format!("{at}:1"));
    let wrong = ["ab"; 32].join(":");
    let damaged = &token[..token.len() - 3];

    let cases: [(&[&str], &str, &[&str]); 15] = [
        (&[at], "TOKEN_MISSING", &["pvecm token create"]),
        (&[at, "--token", "garbage"], "TOKEN_MALFORMED", &["copied completely"]),
        (&[at, "--token", damaged], "TOKEN_MALFORMED", &["copied completely"]),
        (&[at, "--token", others.trim()], "TOKEN_FOREIGN_NODE", &["'hp9'", "'hp3'", "issue one"]),
        (&[at, "--token", &stranger], "FINGERPRINT_MISMATCH", &["different clusters", "issue a token"]),
        (&[at, "--token", &token, "--fingerprint", &wrong], "FINGERPRINT_MISMATCH", &["AB:AB"]),
        (&["nohost.invalid", "--token", &token], "PEER_UNRESOLVABLE", &["nohost.invalid", at]),
        (&[&nobody, "--token", &token], "PEER_UNREACHABLE", &["no gateway answers", "token names"]),
        (&["hp1:99999", "--token", &token], "PEER_ADDRESS_INVALID", &["99999", "65535"]),
        (&[at, "--token", &token, "--nodeid", "2"], "NODE_ID_TAKEN", &["'hp2'", "--nodeid"]),
        (&[at, "--token", &token, "--link0", &taken], "ADDRESS_TAKEN", &["'hp2'", "--link0"]),
        (&[at, "--token", &token, "--link0", "nohost.invalid"], "ADDRESS_UNRESOLVABLE", &["give an IP"]),
        (&[at, "--token", &token, "--link0", "192.0.2.9"], "ADDRESS_NOT_LOCAL", &["192.0.2.9"]),
        (&[at, "--token", &token, "--nodeid", "0"], "", &["no whole number from 1"]),
        (&[at, "--token", &token, "--votes", "-1"], "", &["no whole number from 0"]),
    ];
    for (arguments, reason, words) in cases {
        refused(joining, &[&["add"], arguments].concat(), reason, words).await;
    }
    until_refused(
        joining,
        &["add", &nobody, "--token", expired.trim()],
        &["TOKEN_EXPIRED", "issue a new one"],
    )
    .await;
    refused(foreign, &["add", at, "--token", &token], "ALREADY_IN_CLUSTER", &["'other'", "delnode"]).await;

    is_untouched(joining).await;
    assert_eq!(config_version(member).await, version, "the cluster's configuration was not touched");
    cli::done(joining, &["add", at, "--token", &token]).await;
    lab.settled(&[member, second, joining]).await;
    let used = ["add", at, "--token", &token];
    until_refused(joining, &used, &["ALREADY_IN_CLUSTER"]).await;
    kill(joining).await;
    fs::remove_dir_all(joining.root().as_path()).expect("the node is gone");
    joining.start().await.expect("the node starts");
    refused(joining, &used, "TOKEN_UNKNOWN", &["was used", "issue a new one"]).await;
    refused(member, &["delnode", "hp9"], "NODE_UNKNOWN", &["hp1, hp2, hp3"]).await;
    refused(member, &["delnode", "hp1"], "NODE_IS_LOCAL", &["another member"]).await;
    refused(member, &["delnode", "hp2"], "NODE_ONLINE", &["--force"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_are_refused_with_the_reason_and_leave_nothing_behind() {
    let lab = Lab::cluster(1).await;
    let node = lab.node(1);
    let long = "n".repeat(300);
    cli::put(node, "dir/file", "1\n").await;
    let before = cli::done(node, &["cfg", "ls", "-r"]).await;

    let cases: [(&[&str], &str, &[&str]); 15] = [
        (&["put", "../x"], "PATH_INVALID", &["'..'"]),
        (&["put", "/x"], "PATH_INVALID", &["leading"]),
        (&["put", ""], "IS_ROOT", &["root"]),
        (&["put", &long], "PATH_INVALID", &["300", "255"]),
        (&["put", "dir"], "IS_A_DIRECTORY", &["'dir'"]),
        (&["put", "dir/file/x"], "NOT_A_DIRECTORY", &["'dir/file'"]),
        (&["put", "a/b/c"], "NOT_FOUND", &["'a'", "--parents"]),
        (&["put", "-p", "a/b/c", "--expected-version", "7"], "NOT_FOUND", &["'a'"]),
        (&["put", "dir/file", "--expected-version", "0"], "ALREADY_EXISTS", &["'dir/file'"]),
        (&["put", "dir/file", "--expected-version", "1"], "VERSION_MISMATCH", &["read it again"]),
        (&["put", "x", "/nowhere/file"], "READ_INPUT", &["/nowhere/file", "nothing was changed"]),
        (&["get", "nowhere"], "NOT_FOUND", &["'nowhere'"]),
        (&["rm", "dir"], "NOT_EMPTY", &["'dir'"]),
        (&["mv", "dir", "dir/x"], "NOT_EMPTY", &["'dir'"]),
        (&["mkdir", "q/w"], "NOT_FOUND", &["'q'", "--parents"]),
    ];
    for (arguments, reason, words) in cases {
        refused(node, &[&["cfg"], arguments].concat(), reason, words).await;
    }
    let large = "x".repeat(FILE_MAX + 1);
    let arguments = ["cfg", "put", "-p", "new/large"];
    let said = cli::pipe(node, &large, &arguments).await;
    is_refusal(&said, 255, "FILE_TOO_LARGE", &["1048577", "1048576"], &arguments);

    assert_eq!(cli::done(node, &["cfg", "ls", "-r"]).await, before);
    for (votes, reason) in [("2", "TOO_MANY_EXPECTED_VOTES"), ("100", "TOO_MANY_EXPECTED_VOTES")] {
        let said = cli::pvecm(node, &["expected", votes]).await;
        is_refusal(&said, 1, reason, &["give fewer"], &["expected", votes]);
    }
    let said = cli::pvecm(node, &["expected", "0"]).await;
    is_refusal(&said, 255, "", &["no whole number from 1"], &["expected", "0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corosync_conf_that_cannot_work_never_gets_into_the_tree() {
    let lab = Lab::cluster(1).await;
    let node = lab.node(1);
    let good = cli::done(node, &["cfg", "get", "corosync.conf"]).await;
    let newer = good.replace("config_version: 1", "config_version: 7");
    cli::put(node, "junk", "junk\n").await;

    let put = ["cfg", "put", "corosync.conf"];
    let cases = [
        (newer.replace("nodeid: 1", "nodeid: one"), "nodelist.node.nodeid: 'one'"),
        (newer.replace("token: 1000", "token"), "'token' opens no section"),
        (newer.replace("cluster_name: lab", "cluster_name: other"), "never be changed"),
        (newer.replace("name: hp1", "name: hp9"), "does not list this node, 'hp1'"),
        (good.replace("token: 1000", "token: 1001"), "set it to 2"),
        (newer.replace("token: 1000", "token: 5"), "settings of the totem section that cannot work"),
        (
            newer.replace("ring0_addr: 127", "ring0_addr: nohost.invalid\n    ring1_addr: 127"),
            "does not resolve",
        ),
        (newer.replace("transport: knet", "transport: udpu"), "only knet protects packets"),
    ];
    for (content, word) in cases {
        let said = cli::pipe(node, &content, &put).await;
        is_refusal(&said, 255, "CONFIGURATION_INVALID", &[word, "nothing was changed"], &put);
    }
    refused(node, &["cfg", "mv", "junk", "corosync.conf"], "CONFIGURATION_INVALID", &["line 1", "'junk'"])
        .await;
    refused(node, &["cfg", "rm", "corosync.conf"], "CONFIGURATION_INVALID", &["not removed"]).await;
    refused(node, &["cfg", "mv", "corosync.conf", "x"], "CONFIGURATION_INVALID", &["not removed"]).await;

    assert_eq!(cli::done(node, &["cfg", "get", "corosync.conf"]).await, good);
    cli::put(node, "corosync.conf", &newer).await;
    wait::until("the new version on the node", async || {
        let local = fs::read_to_string(node.root().corosync_conf()).map_err(|error| error.to_string())?;
        if local == newer { Ok(()) } else { Err(local) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_broken_corosync_conf_or_the_data_of_another_node_says_so_and_starts_when_it_is_corrected()
 {
    let lab = Lab::cluster(2).await;
    let (other, node) = (lab.node(1), lab.node(2));
    let path = node.root().corosync_conf();
    let good = fs::read_to_string(&path).expect("readable");
    kill(node).await;
    fs::write(&path, good.replace("nodeid: 2", "nodeid: two")).expect("writable");

    let start = try_to_start(node);
    for command in [&["cfg", "ls"][..], &["status"], &["nodes"], &["create", "new"]] {
        until_refused(node, command, &["corosync.conf has mistakes", "nodelist.node.nodeid: 'two'"]).await;
    }
    fs::write(&path, good).expect("writable");
    start.await.expect("no panic").expect("the node starts");
    lab.settled(&lab.all()).await;

    kill(node).await;
    let (own, mark) = (node.root().owner_mark(), fs::read(node.root().owner_mark()).expect("readable"));
    fs::copy(other.root().owner_mark(), &own).expect("writable");
    let start = try_to_start(node);
    until_logged(node, "configd", "belongs to node 'hp1', but this node is 'hp2'").await;
    until_refused(node, &["status"], &["GATEWAY_UNREACHABLE", "gatewayd.log says why"]).await;
    fs::write(&own, mark).expect("writable");
    start.await.expect("no panic").expect("the node starts");
    lab.settled(&lab.all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_and_nothing_half_done_stays() {
    let lab = Lab::nodes(1).await;
    let node = lab.node(1);
    let ring =
        UdpSocket::bind((node.address(), RING_PORT)).expect("nobody uses it before there is a cluster");
    let address = format!("{}:{RING_PORT}", node.address());
    refused(node, &["create", "lab"], "ADDRESS_NOT_USABLE", &[&address, "another program", "undone"]).await;
    is_untouched(node).await;
    drop(ring);
    cli::done(node, &["create", "lab"]).await;
    lab.settled(&[node]).await;

    node.kill(Some("gatewayd")).await.expect("it runs");
    let port = TcpListener::bind((node.address(), GATEWAY_PORT)).expect("gatewayd is started again later");
    until_logged(node, "gatewayd", "port 8006 is in use by another program; stop it, or set 'gateway_port'")
        .await;
    drop(port);
    wait::until("the gateway to answer", async || {
        let said = cli::pvecm(node, &["status"]).await;
        if said.code == Some(0) { Ok(()) } else { Err(said.err) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_store_its_ring_id_leaves_the_ring_and_comes_back_when_it_can() {
    let lab = Lab::cluster(3).await;
    let [first, second, third] = [1, 2, 3].map(|number| lab.node(number));
    // Where the new file would be written before it replaces the old one.
    let in_the_way = third.root().state_dir("membershipd").join("ringid_3.new");
    fs::create_dir(&in_the_way).expect("writable");
    kill(second).await;

    let words = ["NO_RING", "cannot keep the ring id in", "ringid_3", "tried again"];
    let said = until_refused(third, &["status"], &words).await;
    assert_eq!(said.code, Some(1));
    cli::done(third, &["cfg", "get", "corosync.conf"]).await;

    fs::remove_dir(&in_the_way).expect("writable");
    lab.settled(&[first, third]).await;
    second.start().await.expect("the node starts");
    lab.settled(&lab.all()).await;
}

/// A small disk of a node's own, for `var/lib/quorate`.
struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts it with what lies at its place; `None` without the right to.
    fn mount(node: &Node) -> Option<Self> {
        let place = node.root().state_dir("");
        let saved = node.root().as_path().join("saved");
        fs::rename(&place, &saved).expect("writable");
        fs::create_dir(&place).expect("writable");
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&place));
        if !mounted {
            fs::remove_dir(&place).expect("it is empty");
            fs::rename(&saved, &place).expect("writable");
            return None;
        }
        assert!(run(Command::new("cp").arg("-a").arg(saved.join(".")).arg(&place)), "cp works");
        Some(Self { place })
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }

    /// Takes every byte that is free.
    fn fill(&self) {
        let target = format!("of={}", self.filler().display());
        // It ends with an error, when the disk is full.
        run(Command::new("dd").args(["if=/dev/zero", "bs=4k", &target]));
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.place));
    }
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_goes_on_reading_and_heals_when_there_is_room() {
    let lab = Lab::cluster(3).await;
    let [first, node] = [1, 3].map(|number| lab.node(number));
    kill(node).await;
    let Some(disk) = SmallDisk::mount(node) else {
        println!("skipped: mounting a small disk needs root");
        return;
    };
    node.start().await.expect("the node starts");
    lab.settled(&lab.all()).await;

    disk.fill();
    let content = "x".repeat(FILE_MAX);
    wait::until("the node's store to fail", async || {
        cli::put(first, "large", &content).await;
        let state = replicas::status(node).await?.state();
        if state == State::Failed { Ok(()) } else { Err(format!("{state:?}")) }
    })
    .await;
    refused(node, &["cfg", "put", "x"], "STORE_FAILED", &["No space left", "free space"]).await;
    cli::done(node, &["cfg", "get", "corosync.conf"]).await;
    disk.make_room();
    lab.settled(&lab.all()).await;

    kill(node).await;
    disk.fill();
    let start = try_to_start(node);
    until_refused(node, &["cfg", "put", "x"], &["STORE_FAILED", "No space left"]).await;
    cli::done(node, &["cfg", "get", "corosync.conf"]).await;
    disk.make_room();
    start.await.expect("no panic").expect("the node starts");
    lab.settled(&lab.all()).await;
}
