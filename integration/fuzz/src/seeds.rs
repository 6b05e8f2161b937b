//! Seeds: what corosync and knet sent, as recorded for the tests of `membership-core`, in the form that each target takes.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use membership_core::{
    feature::Announcement,
    knet::{
        crypto::{Protection, SALT},
        packet::{Body, Packet},
    },
    pg::{Assembler, Group},
    srp::{
        Phase,
        message::{self, Packet as Ring},
    },
};
use quorate_types::RingId;
use quorum_core::message::{NodeFlags, NodeInfo, Parameter, Reconfigure};

use crate::{feed::put_piece, knet_crypto};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../services/membership/core/tests/data");
const CONFS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../services/corosync-conf/tests/data");
/// Seeds of one target at most: the kinds of packets repeat.
const SEEDS_MAX: usize = 400;
/// Packets in a seed of a target that takes sequences.
const SEQUENCE: usize = 24;

/// All seeds by target.
#[must_use]
pub fn all() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut seeds: BTreeMap<&'static str, Vec<Vec<u8>>> = BTreeMap::new();
    let mut put = |target, seed: Vec<u8>| {
        let of_target = seeds.entry(target).or_default();
        if of_target.len() < SEEDS_MAX && !of_target.contains(&seed) {
            of_target.push(seed);
        }
    };
    let clear: Vec<(u8, Bytes)> = ["knet-3node-plain.pcap", "knet-2node-2links-passive.pcap"]
        .iter()
        .flat_map(|name| datagrams(name))
        .collect();
    let mut ring: Vec<Bytes> = hex_lines("packets.txt", 0);
    for (_, datagram) in &clear {
        put("knet_packet", datagram.to_vec());
        if let Ok(Packet { body: Body::Data(header, payload), .. }) = Packet::from_wire(datagram)
            && header.fragments == 1
        {
            ring.push(payload);
        }
    }
    links_seeds(&clear, &mut put);
    crypto_seeds(&mut put);
    for packet in &ring {
        put("totem", packet.to_vec());
    }
    stack_seeds(&ring, &mut put);
    message_seeds(&ring, &mut put);
    for (name, bytes) in files(CONFS) {
        if name.ends_with(".conf") {
            put("corosync_conf", bytes);
        }
    }
    put("corosync_conf", include_bytes!("../seeds/three-nodes.conf").to_vec());
    put("join_token", token_body());
    put(
        "join_token",
        b"AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89"
            .to_vec(),
    );
    for seed in store_messages() {
        put("config_store", seed);
    }
    for seed in replica_seeds() {
        put("config_replica", seed);
    }
    seeds
}

/// Writes all seeds below `folder`, a folder for each target.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path) -> std::io::Result<usize> {
    let mut count = 0;
    for (target, seeds) in all() {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for (index, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{index:04}")), seed)?;
            count += 1;
        }
    }
    Ok(count)
}

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).ok()?))
        })
        .collect();
    found.sort();
    found
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(format!("{DATA}/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn unhex(text: &str) -> Option<Bytes> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// The field with this number of each line that is no comment, as bytes.
fn hex_lines(name: &str, field: usize) -> Vec<Bytes> {
    let text = String::from_utf8(read(name)).expect("text");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.filter_map(|line| unhex(line.split(' ').nth(field)?)).collect()
}

/// UDP datagrams of a classic pcap of Ethernet and IPv4: last byte of the sender's address, payload.
fn datagrams(name: &str) -> Vec<(u8, Bytes)> {
    let file = Bytes::from(read(&format!("knet/{name}")));
    let (mut at, mut found) = (24, Vec::new());
    while at + 16 <= file.len() {
        let length = u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        let frame = file.slice(at + 16..at + 16 + length);
        at += 16 + length;
        let udp = 14 + usize::from(frame[14] & 15) * 4;
        let end = udp + usize::from(u16::from_be_bytes([frame[udp + 4], frame[udp + 5]]));
        found.push((frame[29], frame.slice(udp + 8..end)));
    }
    found
}

/// Recorded datagrams of nodes 2 and 3, with a timer now and then; see `knet_links`.
fn links_seeds(clear: &[(u8, Bytes)], put: &mut impl FnMut(&'static str, Vec<u8>)) {
    let to_node_1: Vec<_> =
        clear.iter().filter(|(_, datagram)| datagram.get(3).is_some_and(|node| *node > 1)).collect();
    for (index, chunk) in to_node_1.chunks(SEQUENCE).enumerate() {
        for mode in [0, 1 | 16, 2 | 32] {
            let mut seed = vec![mode];
            if mode & 16 != 0 {
                seed.push(3 + 4 * 3);
            }
            for (number, (_, datagram)) in chunk.iter().enumerate() {
                let host = datagram[3].saturating_sub(2) & 1;
                seed.push(11 | host << 4);
                put_piece(&mut seed, datagram);
                if number % 4 == index % 4 {
                    seed.push(0);
                }
            }
            put("knet_links", seed);
        }
    }
    // Two fragments of a packet, in disorder; a send that is cut; a change of keys.
    put(
        "knet_links",
        [&[0, 10, 0, 7, 2, 2, 100, 0, 10, 0, 7, 2, 1, 200, 0, 2, 255, 255][..], &[5, 15, 0, 0, 5, 3, 2]]
            .concat(),
    );
}

fn crypto_seeds(put: &mut impl FnMut(&'static str, Vec<u8>)) {
    for choice in 0..24 {
        let key = 1;
        let Ok(Some(protection)) = Protection::new(&knet_crypto::settings(choice, key)) else { continue };
        let sealed = protection.seal([9; SALT], &[b"a packet of the ring"]);
        put("knet_crypto", [&[choice, key, 0, 0, 0][..], &sealed].concat());
    }
    for (_, datagram) in datagrams("knet-3node-aes256-sha256.pcap").iter().take(20) {
        put("knet_crypto", [&[15, 1, 3, 0, 2][..], datagram].concat());
    }
}

/// Recorded packets as they are, and moved to the present ring; and a ring that forms; see `stack`.
fn stack_seeds(ring: &[Bytes], put: &mut impl FnMut(&'static str, Vec<u8>)) {
    for (index, chunk) in ring.chunks(SEQUENCE).enumerate() {
        for (bits, op) in [(0, 5), (1, 9), (2, 9)] {
            let mut seed = vec![bits];
            if op == 9 {
                seed.extend([26, 0b111]);
            }
            for (number, packet) in chunk.iter().enumerate() {
                seed.push(op);
                put_piece(&mut seed, packet);
                if number % 3 == index % 3 {
                    seed.extend([15, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                }
            }
            put("stack", seed);
        }
    }
    for members in [0b010, 0b011, 0b110, 0b111] {
        let mut seed = vec![0, 26, members, 26, members];
        for _ in 0..20 {
            seed.extend([15, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            seed.extend([27, 1, 0, 27, 1, 5, 100, 0]);
        }
        put("stack", seed);
    }
}

/// Payloads, the messages in them, and the messages of the services.
fn message_seeds(ring: &[Bytes], put: &mut impl FnMut(&'static str, Vec<u8>)) {
    let mut payloads = hex_lines("pg-mcast-3000.txt", 2);
    payloads.extend(hex_lines("pg-ring-1.9.txt", 2));
    for packet in ring {
        if let Ok(Ring::Mcast(mcast)) = message::decode(packet)
            && !mcast.encapsulated
        {
            payloads.push(mcast.payload);
        }
    }
    let mut messages = hex_lines("pg-messages.txt", 2);
    let mut assembler = Assembler::default();
    let from = quorate_types::NodeId::new(1).expect("not 0");
    for payload in &payloads {
        put("totempg", payload.to_vec());
        messages
            .extend(assembler.accept(from, Phase::Normal, payload).into_iter().map(|whole| whole.message));
    }
    for chunk in payloads.chunks(SEQUENCE) {
        let mut seed = Vec::new();
        for payload in chunk {
            seed.extend([2, 0]);
            put_piece(&mut seed, payload);
        }
        put("totempg", seed);
    }
    let mut groups = vec![0, 0b0000_0111];
    let mut votes = vec![0, 1, 3, 3, 0, 0, 1, 1, 0];
    for message in messages {
        match Group::split(message) {
            Some((Group::Sync, message)) => put("sync", message.to_vec()),
            Some((Group::Service, message)) => match message.get(2) {
                Some(2) => {
                    put("cpg", message.to_vec());
                    groups.extend([4, 0]);
                    put_piece(&mut groups, &message);
                }
                Some(5) => {
                    put("votequorum", message.to_vec());
                    votes.extend([8, 0]);
                    put_piece(&mut votes, &message);
                }
                _ => put("services", message.to_vec()),
            },
            None => {}
        }
    }
    put("cpg", groups);
    votes.extend([1, 0]);
    put("votequorum", votes);
    let info = NodeInfo { node: 2, votes: 1, expected_votes: 3, flags: NodeFlags::QUORATE };
    put("votequorum", info.to_wire().to_vec());
    put(
        "votequorum",
        Reconfigure { node: 2, value: 3, parameter: Parameter::ExpectedVotes }.to_wire().to_vec(),
    );
    let offer = membership_core::feature::Offer { level: 1, level_min: 0, features: 1 };
    let announcement = Announcement { ring: RingId { rep: 1, seq: 8 }, offer }.to_wire();
    put("features", announcement.to_vec());
    let mut seed = vec![];
    for node in 0..3 {
        seed.extend([3, node]);
        put_piece(&mut seed, &announcement);
    }
    seed.extend([1, 2, 18]);
    put("features", seed);
}

/// What comes before the checksum of a token.
fn token_body() -> Vec<u8> {
    let mut body = vec![1, 3];
    body.extend(b"lab");
    body.push(1);
    body.push(13);
    body.extend(b"10.0.0.1:8006");
    body.extend([7; 32 + 8 + 32]);
    body.extend(1_800_000_000_u64.to_be_bytes());
    body
}

/// One message of each kind, made here: there is nothing to record them from.
fn store_messages() -> Vec<Vec<u8>> {
    use config_store_core::{
        Envelope, Epoch, Extensions, Message, Operation, RequestId, RoundId, Signed, StreamKind, TraceContext,
    };
    let node = quorate_types::NodeId::new(2).expect("not 0");
    let round = RoundId { starter: node, incarnation: 1, count: 1 };
    let epoch = Epoch { seq: 4, rep: 1, round: 1 };
    let envelope = Envelope {
        request: RequestId([3; 16]),
        origin: 2,
        mtime: 7,
        trace: Some(TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 }),
        extensions: Extensions::default(),
        operation: Operation::Create { path: "storage.cfg".parse().expect("a path") },
    };
    let head = envelope.encode_head();
    let request = RequestId([3; 16]);
    let bytes = Bytes::from_static(b"some bytes");
    let messages = [
        Message::SyncStart { round, ring: RingId { rep: 1, seq: 4 }, participants: vec![node] },
        Message::IndexRequest { round, sums: vec![1, 2, 3] },
        Message::Want { round, last: true, inodes: vec![1, 2] },
        Message::Piece {
            round,
            to: vec![node],
            kind: StreamKind::Delta,
            first: true,
            last: true,
            bytes: bytes.clone(),
        },
        Message::Piece {
            round,
            to: vec![node],
            kind: StreamKind::Index,
            first: true,
            last: true,
            bytes: bytes.clone(),
        },
        Message::Piece {
            round,
            to: vec![node],
            kind: StreamKind::Entries,
            first: true,
            last: true,
            bytes: bytes.clone(),
        },
        Message::SyncRequest,
        Message::Operation { epoch, head: head.clone(), content: bytes.clone() },
        Message::Part { epoch, request, index: 0, content: bytes },
        Message::OperationOfParts { epoch, request, parts: 1, head: head.clone() },
        Message::Barrier { epoch, request },
    ];
    let mut seeds: Vec<Vec<u8>> = (1..)
        .zip(messages)
        .map(|(serial, message)| Signed { incarnation: 9, serial, message }.encode().to_vec())
        .collect();
    seeds.push(head.to_vec());
    seeds
}

/// A group that forms, agrees, and writes; then each message of another node; see `config_replica`.
fn replica_seeds() -> Vec<Vec<u8>> {
    let begin = [7, 0, 0b111, 0, 2, 0b111, 0, 8];
    let agree = [28, 156, 141, 28, 156, 141, 28, 156, 141, 8];
    let write = [20, 0, 5, 141, 10, 21, 1, 6, 141, 10];
    let mut seeds = vec![[&begin[..], &agree, &agree, &write, &agree].concat()];
    seeds.push([&[135][..], &write, &write].concat());
    for message in store_messages() {
        for op in [23, 25] {
            let mut seed = [&begin[..], &agree[..3]].concat();
            seed.extend([op, 1]);
            put_piece(&mut seed, &message);
            seed.extend(agree);
            seeds.push(seed);
        }
    }
    seeds
}
