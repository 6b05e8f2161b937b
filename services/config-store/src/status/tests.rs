//! Two status stores with their tasks, a group between them that the test plays, and the service on top.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use config_store_core::{
    ConfigPath, Expect, Operation, Tree,
    status::{LogDraft, LogEntry},
};
use quorate_daemon::{Root, status as grpc_status};
use quorate_proto::{
    config::v1::{
        AppendLogRequest, FetchRequest, GetGeneratedRequest, GetGuestPropertiesRequest, ListGuestsRequest,
        PublishRequest, ReadLogRequest, VerifyTokenRequest, status_service_server::StatusService as _,
    },
    membership::v1::{GroupEvent, GroupProcess, group_event},
};
use quorate_types::RingId;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use super::{Grpc, Status, keep_running};
use crate::{
    generated::{Generated as _, GeneratedFile},
    group::GroupInput,
    identity::IdentitySource,
    view::View,
};

const CONF: &str = "totem {\n  version: 2\n  cluster_name: prod\n  config_version: 4\n  transport: udpu\n}\n\
    nodelist {\n\
      node {\n    name: n1\n    nodeid: 1\n    quorum_votes: 1\n    ring0_addr: 127.0.0.1\n  }\n\
      node {\n    name: n2\n    nodeid: 2\n    quorum_votes: 1\n    ring0_addr: 127.0.0.2\n  }\n\
    }\nquorum {\n  provider: corosync_votequorum\n}\n";

/// A node whose task runs; the test holds the other end of its group.
struct Node {
    status: Status,
    group: mpsc::Sender<GroupInput>,
    outgoing: mpsc::UnboundedReceiver<Vec<Bytes>>,
    _root: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Node {
    async fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(dir.path());
        let conf = root.corosync_conf();
        std::fs::create_dir_all(conf.parent().expect("a directory")).expect("made");
        std::fs::write(conf, CONF).expect("written");
        let identities = IdentitySource::of(root, name);
        let status = Status::new(View::new(Tree::new()), identities.clone());
        let (group, inputs) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let rejoin = Arc::new(Notify::new());
        let (conf, _) = mpsc::unbounded_channel();
        tokio::spawn(keep_running(status.clone(), identities, inputs, rejoin, conf, shutdown.clone()));
        let (messages, outgoing) = mpsc::unbounded_channel();
        group.send(GroupInput::Joined(messages)).await.expect("the task runs");
        Self { status, group, outgoing, _root: dir, shutdown }
    }

    async fn deliver(&self, event: group_event::Event) {
        let batch = vec![GroupEvent { event: Some(event) }];
        self.group.send(GroupInput::Batch(batch)).await.expect("the task runs");
    }

    fn text(&self, file: GeneratedFile) -> String {
        String::from_utf8(self.status.content(file).to_vec()).expect("text")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn members(ids: &[u32]) -> group_event::Event {
    group_event::Event::Members(group_event::Members {
        members: ids.iter().map(|id| GroupProcess { node_id: *id, pid: 1 }).collect(),
        ring: Some(RingId { rep: 1, seq: 4 }.into()),
        ..group_event::Members::default()
    })
}

fn logs_are_equal([one, two]: &[Node; 2]) -> bool {
    one.status.entries(50, "") == two.status.entries(50, "")
}

/// Carries messages between the nodes until `done`.
async fn relay(nodes: &mut [Node; 2], done: impl Fn(&[Node; 2]) -> bool) {
    let carry = async {
        while !done(nodes) {
            let [one, two] = nodes;
            let (sender, batch) = tokio::select! {
                batch = one.outgoing.recv() => (1, batch),
                batch = two.outgoing.recv() => (2, batch),
            };
            for payload in batch.expect("the tasks run") {
                let message = group_event::Message {
                    sender: Some(GroupProcess { node_id: sender, pid: 1 }),
                    payload,
                    ..group_event::Message::default()
                };
                for node in nodes.iter() {
                    node.deliver(group_event::Event::Message(message.clone())).await;
                }
            }
            // The tasks take what was delivered.
            while nodes.iter().any(|node| node.group.capacity() < node.group.max_capacity()) {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), carry).await.expect("in time");
}

#[tokio::test]
async fn what_one_node_tells_the_other_shows() {
    let mut nodes = [Node::start("n1").await, Node::start("n2").await];
    for node in &nodes {
        node.deliver(members(&[1, 2])).await;
    }
    relay(&mut nodes, logs_are_equal).await;
    nodes[0].status.publish("tasklist", Bytes::from_static(b"[]")).expect("allowed");
    nodes[0].status.publish("rrd/pve2-node/n1", Bytes::from_static(b"1:2:3\0")).expect("allowed");
    nodes[1].status.set_quorate(true);
    let draft =
        LogDraft { ident: "a@pam".into(), tag: "t".into(), pid: 1, priority: 6, message: "hello".into() };
    nodes[0].status.log(draft).expect("allowed");

    relay(&mut nodes, |nodes| {
        let two = &nodes[1];
        let addresses = two.text(GeneratedFile::Members).contains("127.0.0.1");
        logs_are_equal(nodes) && addresses && two.text(GeneratedFile::Rrd) == "pve2-node/n1:1:2:3\n"
    })
    .await;

    let two = &nodes[1];
    assert_eq!(two.status.fetch("tasklist", "n1").expect("told"), "[]");
    let members: serde_json::Value = serde_json::from_str(&two.text(GeneratedFile::Members)).expect("JSON");
    assert_eq!(
        members["cluster"],
        serde_json::json!({ "name": "prod", "version": 4, "nodes": 2, "quorate": 1 })
    );
    assert_eq!(members["nodelist"]["n1"], serde_json::json!({ "id": 1, "online": 1, "ip": "127.0.0.1" }));
    let version: serde_json::Value = serde_json::from_str(&two.text(GeneratedFile::Version)).expect("JSON");
    assert_eq!(version["kvstore"], serde_json::json!({ "n2": {}, "n1": { "tasklist": 0 } }));
    let messages: Vec<String> =
        two.status.entries(50, "root").into_iter().map(|entry| entry.message).collect();
    assert_eq!(messages.iter().filter(|message| *message == "starting cluster log").count(), 2);
    assert_eq!(two.status.entries(50, "a@pam").len(), 1);
    assert!(two.text(GeneratedFile::Clusterlog).contains("\"msg\": \"hello\""));
}

#[tokio::test]
async fn a_node_that_leaves_is_offline_and_named_in_the_log() {
    let mut nodes = [Node::start("n1").await, Node::start("n2").await];
    for node in &nodes {
        node.deliver(members(&[1, 2])).await;
    }
    relay(&mut nodes, logs_are_equal).await;
    let before = nodes[0].text(GeneratedFile::Members);

    nodes[0].deliver(members(&[1])).await;
    let told = async {
        let is_it = |entry: &LogEntry| entry.message == "left: n2; online: n1";
        while !nodes[0].status.entries(9, "").iter().any(is_it) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("in time");

    let after = nodes[0].text(GeneratedFile::Members);
    assert!(after.contains("\"n2\": { \"id\": 2, \"online\": 0"), "{after}");
    let version =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON")["version"].as_u64();
    assert!(version(&after) > version(&before));
}

fn alone() -> (Grpc, Status, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut tree = Tree::new();
    let path = |text: &str| text.parse::<ConfigPath>().expect("a path");
    for directory in ["priv", "nodes", "nodes/n1", "nodes/n1/lxc"] {
        tree.apply(0, 1, &Operation::Mkdir { path: path(directory) }).expect("made");
    }
    for (file, content) in
        [("nodes/n1/lxc/101.conf", "lock: backup\n"), ("priv/token.cfg", "a@pam!t secret\n")]
    {
        let put =
            Operation::Put { path: path(file), expect: Expect::Any, content: content.as_bytes().into() };
        tree.apply(0, 1, &put).expect("written");
    }
    let view = View::new(tree);
    let status = Status::new(view.clone(), IdentitySource::of(Root::new(dir.path()), "n1"));
    (Grpc::new(status.clone(), view), status, dir)
}

#[tokio::test]
async fn a_node_in_no_cluster_answers_everything_of_itself() {
    let (grpc, _, _dir) = alone();
    let publish = PublishRequest { key: "kv/x".into(), value: Bytes::from_static(b"1") };
    grpc.publish(Request::new(publish)).await.expect("allowed");
    let fetch = FetchRequest { key: "kv/x".into(), node: "n1".into() };
    assert_eq!(grpc.fetch(Request::new(fetch)).await.expect("told").into_inner().value, "1");
    let append =
        AppendLogRequest { user: "a@pam".into(), message: "m".into(), ..AppendLogRequest::default() };
    grpc.append_log(Request::new(append)).await.expect("allowed");
    let read = |max, user: &str| grpc.read_log(Request::new(ReadLogRequest { max, user: user.into() }));
    assert_eq!(read(0, "").await.expect("answered").into_inner().entries.len(), 2);
    assert_eq!(
        read(1, "root").await.expect("answered").into_inner().entries[0].message,
        "starting cluster log"
    );
    let guests =
        grpc.list_guests(Request::new(ListGuestsRequest {})).await.expect("answered").into_inner().guests;
    assert_eq!((guests[0].vmid, guests[0].node.as_str(), guests[0].r#type.as_str()), (101, "n1", "lxc"));
    let ask = GetGuestPropertiesRequest { vmid: 0, properties: vec!["lock".into()] };
    let found = grpc.get_guest_properties(Request::new(ask)).await.expect("answered").into_inner().guests;
    assert_eq!(found[0].properties["lock"], "backup");
    let verify = VerifyTokenRequest { user_id: "a@pam!t".into(), secret: "secret".into() };
    grpc.verify_token(Request::new(verify)).await.expect("known");
    let members = GetGeneratedRequest { name: ".members".into() };
    let content = grpc.get_generated(Request::new(members)).await.expect("answered").into_inner().content;
    assert!(content.starts_with(b"{\n\"nodename\": \"n1\",\n\"version\": "), "{content:?}");
}

#[tokio::test]
async fn refusals_name_their_reason() {
    let (grpc, _, _dir) = alone();
    let reason =
        |status: tonic::Status| (status.code(), grpc_status::reason(&status).expect("a reason").reason);
    let large = PublishRequest { key: "k".into(), value: vec![0; 32 * 1024 + 1].into() };
    let refused = grpc.publish(Request::new(large)).await.expect_err("too large");
    assert_eq!(reason(refused), (Code::ResourceExhausted, "VALUE_TOO_LARGE".to_owned()));
    let long = PublishRequest { key: "k".repeat(256), value: Bytes::new() };
    let refused = grpc.publish(Request::new(long)).await.expect_err("too long");
    assert_eq!(reason(refused), (Code::InvalidArgument, "KEY_INVALID".to_owned()));
    let nobody = FetchRequest { key: "k".into(), node: "n9".into() };
    let refused = grpc.fetch(Request::new(nobody)).await.expect_err("no such node");
    assert_eq!(reason(refused), (Code::NotFound, "NODE_UNKNOWN".to_owned()));
    let nothing = FetchRequest { key: "k".into(), node: String::new() };
    let refused = grpc.fetch(Request::new(nothing)).await.expect_err("no such key");
    assert_eq!(reason(refused), (Code::NotFound, "KEY_UNKNOWN".to_owned()));
    let no_file = GetGeneratedRequest { name: "members".into() };
    let refused = grpc.get_generated(Request::new(no_file)).await.expect_err("no such file");
    assert_eq!(reason(refused), (Code::NotFound, "FILE_UNKNOWN".to_owned()));
}

#[test]
fn debug_says_what_it_was_told() {
    let (_, status, _dir) = alone();
    assert_eq!(status.content(GeneratedFile::Debug), "0\n");
    status.set_debug(true);
    assert_eq!(status.content(GeneratedFile::Debug), "1\n");
}
