//! Every message survives its encoding, and no bytes from outside end the reader.

use proptest::prelude::*;

use super::{codec::FORMAT, *};
use crate::wire::WireError;

fn node() -> impl Strategy<Value = NodeId> {
    (1..=u32::MAX).prop_filter_map("not zero", |id| NodeId::new(id).ok())
}

fn rounds() -> impl Strategy<Value = RoundId> {
    (node(), any::<u64>(), any::<u64>()).prop_map(|(starter, incarnation, count)| RoundId {
        starter,
        incarnation,
        count,
    })
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (any::<u64>(), any::<u32>(), any::<u32>()).prop_map(|(seq, rep, round)| Epoch { seq, rep, round })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn states() -> impl Strategy<Value = MemberState> {
    let epochs = proptest::collection::vec((epoch(), any::<u64>()), 0..5).prop_map(Epochs::new);
    (epoch(), epoch(), any::<u64>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u64>(), epochs).prop_map(
        |(epoch, promised, version, chain, sum, log_first, epochs)| MemberState {
            epoch,
            promised,
            version,
            chain,
            checksum: Checksum::from_bytes(sum),
            log_first,
            epochs,
        },
    )
}

fn sync_messages() -> impl Strategy<Value = Message> {
    let nodes = proptest::collection::vec(node(), 0..5).boxed();
    let ring = (any::<u32>(), any::<u64>()).prop_map(|(rep, seq)| RingId { rep, seq });
    let numbers = proptest::collection::vec(any::<u64>(), 0..9);
    let kinds = prop_oneof![Just(StreamKind::Delta), Just(StreamKind::Index), Just(StreamKind::Entries)];
    prop_oneof![
        (rounds(), ring, nodes.clone()).prop_map(|(round, ring, participants)| Message::SyncStart {
            round,
            ring,
            participants
        }),
        (rounds(), states()).prop_map(|(round, state)| Message::State { round, state }),
        (rounds(), numbers.clone()).prop_map(|(round, sums)| Message::IndexRequest { round, sums }),
        (rounds(), any::<bool>(), numbers).prop_map(|(round, last, inodes)| Message::Want {
            round,
            last,
            inodes
        }),
        (rounds(), nodes, kinds, any::<bool>(), any::<bool>(), bytes()).prop_map(
            |(round, to, kind, first, last, bytes)| Message::Piece { round, to, kind, first, last, bytes }
        ),
        (rounds(), epoch(), any::<[u8; 32]>()).prop_map(|(round, epoch, sum)| Message::Ready {
            round,
            epoch,
            checksum: Checksum::from_bytes(sum)
        }),
        Just(Message::SyncRequest),
    ]
}

fn operation_messages() -> impl Strategy<Value = Message> {
    let request = any::<[u8; 16]>().prop_map(RequestId);
    prop_oneof![
        (epoch(), bytes(), bytes()).prop_map(|(epoch, head, content)| Message::Operation {
            epoch,
            head,
            content
        }),
        (epoch(), request.clone(), any::<u16>(), bytes()).prop_map(|(epoch, request, index, content)| {
            Message::Part { epoch, request, index, content }
        }),
        (epoch(), request.clone(), any::<u16>(), bytes()).prop_map(|(epoch, request, parts, head)| {
            Message::OperationOfParts { epoch, request, parts, head }
        }),
        (epoch(), request).prop_map(|(epoch, request)| Message::Barrier { epoch, request }),
        (epoch(), any::<u64>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
            |(epoch, position, version, sum)| Message::Durable {
                epoch,
                position,
                version,
                checksum: Checksum::from_bytes(sum)
            }
        ),
    ]
}

proptest! {
    #[test]
    fn every_message_is_read_back_as_written(
        message in prop_oneof![sync_messages(), operation_messages()],
        incarnation: u64,
        serial: u64,
    ) {
        let signed = Signed { incarnation, serial, message };
        prop_assert_eq!(Signed::decode(signed.encode()), Ok(signed));
    }

    #[test]
    fn decoding_never_panics(kind in 0u8..16, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let framed = [vec![FORMAT, kind], bytes].concat();
        let _ = Signed::decode(Bytes::from(framed));
    }

    #[test]
    fn a_damaged_or_cut_message_never_panics(
        message in prop_oneof![sync_messages(), operation_messages()],
        at in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut bytes = Signed { incarnation: 1, serial: 2, message }.encode().to_vec();
        let at = at.index(bytes.len());
        let _ = Signed::decode(Bytes::copy_from_slice(&bytes[..at]));
        bytes[at] ^= 1_u8 << bit;
        let _ = Signed::decode(Bytes::from(bytes));
    }
}

#[test]
fn the_future_is_refused_by_name() {
    let mut bytes = Signed { incarnation: 1, serial: 2, message: Message::SyncRequest }.encode().to_vec();
    bytes[1] = 99;
    let unknown = WireError::Unknown { what: "message kind", value: 99 };
    assert_eq!(Signed::decode(Bytes::copy_from_slice(&bytes)), Err(unknown));
    bytes[0] = 2;
    let unknown = WireError::Unknown { what: "message format", value: 2 };
    assert_eq!(Signed::decode(Bytes::from(bytes)), Err(unknown));
}
