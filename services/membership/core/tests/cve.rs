//! The shapes of known holes of corosync and knet: none of them opens here. `docs/security.md` says which is which.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use membership_core::{
    knet::{
        Cipher, CryptoConfig, Hash,
        crypto::{OpenError, Protection},
    },
    srp::{
        Drop,
        message::{
            self, CommitEntry, MembCommitToken, MembJoin, OrfToken, PROCESSORS_MAX, Packet, RTR_MAX, RtrItem,
        },
    },
};
use quorate_types::{NodeId, RingId};

fn id(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

const RING: RingId = RingId { rep: 1, seq: 8 };

fn token(requests: usize) -> Bytes {
    message::encode(&Packet::OrfToken(OrfToken {
        nodeid: id(1),
        target_nodeid: 0,
        seq: 9,
        token_seq: 9,
        aru: 9,
        aru_addr: 0,
        ring_id: RING,
        backlog: 0,
        fcc: 0,
        retrans_flg: 0,
        rtr: vec![RtrItem { ring_id: RING, seq: 5 }; requests],
    }))
}

fn commit_token(members: u32) -> Bytes {
    let members: Vec<NodeId> = (1..=members).map(id).collect();
    message::encode(&Packet::MembCommitToken(MembCommitToken {
        nodeid: id(1),
        target_nodeid: 0,
        token_seq: 1,
        ring_id: RING,
        retrans_flg: 0,
        memb_index: 0,
        entries: vec![CommitEntry::default(); members.len()],
        members,
    }))
}

fn patched(packet: &Bytes, at: usize, value: u32) -> Bytes {
    let mut bytes = packet.to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    bytes.into()
}

/// CVE-2025-30472: a token's list was copied into a fixed array without a look at its length.
#[test]
fn cve_2025_30472_a_token_with_more_requests_than_its_limit_is_refused_in_either_endianness() {
    assert!(message::decode(&token(RTR_MAX)).is_ok());
    assert_eq!(message::decode(&token(RTR_MAX + 1)), Err(Drop::TooLong));
    assert_eq!(message::decode(&patched(&token(1), 53, u32::MAX)), Err(Drop::TooLong));
    let mut other = token(RTR_MAX + 1).to_vec();
    other.swap(0, 1);
    assert_eq!(message::decode(&other.into()), Err(Drop::BigEndian));
}

/// CVE-2026-35091: a commit token that was too short was noticed, and taken all the same.
#[test]
fn cve_2026_35091_a_commit_token_cut_anywhere_is_refused() {
    let whole = commit_token(3);
    assert!(message::decode(&whole).is_ok());
    for length in 0..whole.len() {
        assert_eq!(message::decode(&whole.slice(..length)), Err(Drop::Malformed), "{length} bytes");
    }
    // more members than there are bytes for
    for members in [4, PROCESSORS_MAX as u32] {
        assert!(message::decode(&patched(&whole, 37, members)).is_err());
    }
}

/// CVE-2026-35092: the two counts of a join were added in 32 bits, and the sum was small.
#[test]
fn cve_2026_35092_counts_of_a_join_whose_sum_wraps_are_refused() {
    let (me, lists) = (id(1), vec![id(1), id(2)]);
    let join = message::encode(&Packet::MembJoin(MembJoin {
        nodeid: Some(me),
        target_nodeid: 0,
        system_from: me,
        ring_seq: 8,
        proc_list: lists.clone(),
        failed_list: lists,
    }));
    assert!(message::decode(&join).is_ok());
    for (processors, failed) in [(u32::MAX, 5), (5, u32::MAX), (1 << 31, 1 << 31), (u32::MAX - 3, 8)] {
        let wrapped = patched(&patched(&join, 17, processors), 21, failed);
        assert_eq!(message::decode(&wrapped), Err(Drop::TooLong));
    }
}

/// CVE-2018-1084: the length of the digest was taken from that of a packet that was shorter.
#[test]
fn cve_2018_1084_a_datagram_shorter_than_its_digest_is_refused_before_it_is_looked_at() {
    for cipher in [Cipher::None, Cipher::Aes128, Cipher::Aes192, Cipher::Aes256] {
        for hash in [Hash::Md5, Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let config = CryptoConfig { cipher, hash, key: vec![7; 256].into() };
            let protection = Protection::new(&config).unwrap().unwrap();
            for length in 0..=hash.digest_length() {
                let datagram = Bytes::from(vec![0xff; length]);
                assert_eq!(
                    protection.open(datagram),
                    Err(OpenError::TooShort),
                    "{cipher:?} {hash:?} {length}"
                );
            }
        }
    }
}
