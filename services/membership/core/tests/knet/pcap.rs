//! Reads the recorded packets: classic pcap, Ethernet, IPv4, UDP.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use membership_core::knet::{Cipher, CryptoConfig, Hash};

const KEY: &str = include_str!("../data/knet/authkey.hex");

/// A capture by name.
pub(crate) const PLAIN: &[u8] = include_bytes!("../data/knet/knet-3node-plain.pcap");
pub(crate) const TWO_LINKS: &[u8] = include_bytes!("../data/knet/knet-2node-2links-passive.pcap");
pub(crate) const AES_OPENSSL: &[u8] = include_bytes!("../data/knet/knet-3node-aes256-sha256.pcap");
pub(crate) const AES_NSS: &[u8] = include_bytes!("../data/knet/knet-2node-aes256-sha256-nss.pcap");
pub(crate) const CRYPTO_RELOAD: &[u8] = include_bytes!("../data/knet/knet-2node-crypto-reload.pcap");

/// One datagram.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) seconds: f64,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) datagram: Bytes,
}

/// All UDP datagrams of a capture.
pub(crate) fn read(file: &'static [u8]) -> Vec<Recorded> {
    let le32 = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((le32(0), le32(20)), (0xa1b2_c3d4, 1), "little endian, microseconds, Ethernet");
    let (mut at, mut packets) = (24, Vec::new());
    while at < file.len() {
        let seconds = f64::from(le32(at)) + f64::from(le32(at + 4)) / 1e6;
        let length = le32(at + 8) as usize;
        let frame = Bytes::from_static(&file[at + 16..at + 16 + length]);
        at += 16 + length;
        let be16 = |at: usize| u16::from_be_bytes(frame[at..at + 2].try_into().unwrap());
        assert_eq!((be16(12), frame[23]), (0x0800, 17), "UDP on IPv4");
        let udp = 14 + usize::from(frame[14] & 15) * 4;
        let address = |at: usize, port: usize| {
            let bytes: [u8; 4] = frame[at..at + 4].try_into().unwrap();
            SocketAddr::from((Ipv4Addr::from(bytes), be16(port)))
        };
        let datagram = frame.slice(udp + 8..udp + usize::from(be16(udp + 4)));
        packets.push(Recorded { seconds, from: address(26, udp), to: address(30, udp + 2), datagram });
    }
    packets
}

/// The settings of the encrypted captures.
pub(crate) fn aes256_sha256() -> CryptoConfig {
    let hex: Vec<u8> = KEY.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let key: Vec<u8> = hex.chunks(2).map(byte).collect();
    assert_eq!(key.len(), 256);
    CryptoConfig { cipher: Cipher::Aes256, hash: Hash::Sha256, key: key.into() }
}
