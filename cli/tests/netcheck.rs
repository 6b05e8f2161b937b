//! `pvecm netcheck` over real sockets: three processes on the loopback, and two in network namespaces that lose packets.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

const PVECM: &str = env!("CARGO_BIN_EXE_pvecm");

fn outputs(commands: Vec<Command>) -> Vec<Output> {
    let start = |mut command: Command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pvecm can be started")
    };
    let children: Vec<Child> = commands.into_iter().map(start).collect();
    children.into_iter().map(|child| child.wait_with_output().expect("pvecm ends")).collect()
}

fn document(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no document: {error}"))
}

#[test]
fn three_processes_on_the_loopback_agree_on_a_network_without_loss() {
    let addresses = ["127.43.21.1", "127.43.21.2", "127.43.21.3"];
    let command = |local: &&str| {
        let mut command = Command::new(PVECM);
        command.arg("netcheck").args(addresses).args(["--local", local]);
        // The machine that runs the tests may be busy: its latency is not what is tested.
        command.args([
            "--port",
            "43210",
            "--count",
            "300",
            "--rtt-limit",
            "2s",
            "--loss-limit",
            "20",
            "-o",
            "json",
        ]);
        command
    };
    let outputs = outputs(addresses.iter().map(command).collect());
    for (output, address) in outputs.iter().zip(addresses) {
        let document = document(output);
        assert_eq!(output.status.code(), Some(0), "{document:#}");
        assert_eq!(document["verdict"], "pass");
        assert_eq!(document["local"], address);
        let pairs = document["pairs"].as_array().expect("pairs is a list");
        assert_eq!(pairs.len(), 6);
        for pair in pairs {
            assert_eq!(pair["unicast"]["sent"], 300, "{pair:#}");
            assert!(pair["multicast"]["received"].as_u64() > Some(0), "{pair:#}");
            assert!(pair["mtu"].as_u64() >= Some(1500), "{pair:#}");
            let skew = pair["unicast"]["clock_skew_ms"].as_f64().expect("the skew is known");
            assert!(skew.abs() < 50.0, "{pair:#}");
        }
    }
    let pairs = |output: &Output| document(output)["pairs"].clone();
    assert_eq!(pairs(&outputs[0]), pairs(&outputs[1]), "all nodes print the same matrix");
    assert_eq!(pairs(&outputs[0]), pairs(&outputs[2]), "all nodes print the same matrix");
}

#[test]
fn a_node_that_is_alone_fails_and_says_who_is_absent() {
    let mut command = Command::new(PVECM);
    command.args(["netcheck", "127.43.22.1", "127.43.22.2", "--local", "127.43.22.1"]);
    command.args(["--port", "43211", "--wait", "300ms"]);
    let output = &outputs(vec![command])[0];
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("127.43.22.2 did not appear"), "{text}");
}

/// A network namespace; it is gone with the process that holds it.
struct Namespace(Child);

impl Namespace {
    /// `None` without the rights or the programs for it.
    fn new(script: &str) -> Option<Self> {
        let script = format!("{script}\necho up; exec cat");
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-ec", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        let namespace = Self(child);
        (line == "up\n").then_some(namespace)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n"]).args(arguments);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two namespaces with a cable between them, of which the second loses 5 % of what arrives.
fn lossy_pair() -> Option<[Namespace; 2]> {
    let first = Namespace::new("ip link set lo up")?;
    let lose = "nft add table ip check; nft 'add chain ip check input { type filter hook input priority 0 ; }'; \
                nft add rule ip check input meta l4proto udp numgen random mod 100 '<' 5 drop";
    let second = Namespace::new(&format!("ip link set lo up; {lose}"))?;
    let script = format!(
        "ip link add cable type veth peer name eth0 netns {}; ip link set cable up; ip addr add 10.43.21.1/24 dev cable",
        second.0.id()
    );
    let is_up = |namespace: &Namespace, script: &str| {
        namespace.command(&["sh", "-ec", script]).status().is_ok_and(|status| status.success())
    };
    let is_connected = is_up(&first, &script)
        && is_up(&second, "ip addr add 10.43.21.2/24 dev eth0; ip link set eth0 mtu 1400 up");
    is_connected.then_some([first, second])
}

#[test]
fn a_network_that_loses_5_percent_fails_with_2() {
    let Some(namespaces) = lossy_pair() else {
        eprintln!("skipped: needs root, unshare, ip and nft");
        return;
    };
    let arguments =
        [PVECM, "netcheck", "10.43.21.1", "10.43.21.2", "--count", "1000", "--rtt-limit", "2s", "-o", "json"];
    let outputs = outputs(namespaces.iter().map(|namespace| namespace.command(&arguments)).collect());
    for output in outputs {
        let document = document(&output);
        assert_eq!(output.status.code(), Some(2), "{document:#}");
        assert_eq!((&document["verdict"], &document["multicast_verdict"]), (&"fail".into(), &"fail".into()));
        for pair in document["pairs"].as_array().expect("pairs is a list") {
            let loss = pair["unicast"]["loss_percent"].as_f64().expect("the loss is known");
            assert!((2.0..10.0).contains(&loss), "{pair:#}");
            assert_eq!(pair["mtu"], 1400, "{pair:#}");
        }
    }
}
