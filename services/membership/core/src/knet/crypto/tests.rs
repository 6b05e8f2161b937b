//! Sealing and opening: round trips, damage, and the rules for settings.

use proptest::prelude::*;

use super::*;
use crate::knet::slots::Slots;

const CIPHERS: [Cipher; 4] = [Cipher::None, Cipher::Aes128, Cipher::Aes192, Cipher::Aes256];
const HASHES: [Hash; 5] = [Hash::Md5, Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];

fn config(cipher: Cipher, hash: Hash, fill: u8) -> CryptoConfig {
    CryptoConfig { cipher, hash, key: vec![fill; 256].into() }
}

fn protection(cipher: Cipher, hash: Hash) -> Protection {
    Protection::new(&config(cipher, hash, 7)).unwrap().unwrap()
}

#[test]
fn settings_that_do_not_hold_are_refused_by_name() {
    let refused = |cipher, hash, length| {
        let key = Key::from(vec![1; length]);
        Protection::new(&CryptoConfig { cipher, hash, key }).unwrap_err()
    };

    assert_eq!(refused(Cipher::Aes128, Hash::None, 256), CryptoError::CipherWithoutHash);
    assert_eq!(refused(Cipher::Aes256, Hash::Sha256, 127), CryptoError::KeyLength { length: 127 });
    assert_eq!(refused(Cipher::None, Hash::Md5, 4097), CryptoError::KeyLength { length: 4097 });
    assert!(Protection::new(&CryptoConfig::default()).unwrap().is_none());
    for length in [128, 4096] {
        let key = Key::from(vec![1; length]);
        assert!(Protection::new(&CryptoConfig { cipher: Cipher::Aes256, hash: Hash::Sha1, key }).is_ok());
    }
}

#[test]
fn a_key_is_never_printed() {
    let text = format!(
        "{:?} {:?}",
        config(Cipher::Aes256, Hash::Sha256, 0xab),
        protection(Cipher::Aes256, Hash::Md5)
    );

    assert!(!text.contains("171") && !text.contains("ab, ") && text.contains("Aes256"), "{text}");
}

#[test]
fn every_bit_of_a_datagram_is_authenticated() {
    for (cipher, hash) in CIPHERS.into_iter().flat_map(|cipher| HASHES.map(|hash| (cipher, hash))) {
        let protection = protection(cipher, hash);
        let sealed = protection.seal([3; SALT], &[b"a packet", b" in pieces"]);
        assert_eq!(protection.open(sealed.clone()).as_deref(), Ok(&b"a packet in pieces"[..]));
        for at in 0..sealed.len() {
            let mut damaged = sealed.to_vec();
            damaged[at] ^= 1 << (at % 8);
            assert_eq!(
                protection.open(damaged.into()),
                Err(OpenError::NotAuthentic),
                "{cipher:?} {hash:?} {at}"
            );
        }
        for length in 0..sealed.len() {
            assert!(protection.open(sealed.slice(..length)).is_err());
        }
    }
}

#[test]
fn sizes_are_those_of_the_specification() {
    let sealed = |cipher, hash, length| protection(cipher, hash).seal([0; SALT], &[&vec![0; length]]).len();

    assert_eq!(sealed(Cipher::Aes256, Hash::Sha256, 26), 80);
    assert_eq!(sealed(Cipher::Aes256, Hash::Sha256, 32), 16 + 48 + 32);
    assert_eq!(sealed(Cipher::None, Hash::Sha512, 26), 90);
}

#[test]
fn authentic_nonsense_is_refused() {
    // given datagrams that somebody with the key made: no whole blocks, and a padding of 17 or 0
    let protection = protection(Cipher::Aes256, Hash::Sha256);
    let mac = protection.clone();
    let authentic = |body: &[u8]| {
        let mut out = BytesMut::from(&[&[0; SALT], body].concat()[..]);
        mac.mac.append(&mut out);
        out.freeze()
    };
    assert_eq!(protection.open(authentic(&[9; 17])), Err(OpenError::BadCiphertext));
    for padding in [0, 17, 255] {
        let mut block = [padding; BLOCK];
        protection.cipher.as_ref().unwrap().encrypt([0; SALT], &mut block);
        assert_eq!(protection.open(authentic(&block)), Err(OpenError::BadCiphertext));
    }
}

#[test]
fn new_settings_are_accepted_before_and_old_ones_after_the_switch() {
    // given two nodes with one key
    let (old, new) = (config(Cipher::Aes256, Hash::Sha256, 1), config(Cipher::Aes128, Hash::Sha512, 2));
    let slots = |seed| Slots::new(&old, [seed; 32]).unwrap();
    let (mut a, mut b) = (slots(1), slots(2));
    let passes = |from: &mut Slots, to: &Slots| to.open(from.seal(&[b"packet"])).is_ok();
    assert_eq!(a.switch(), Err(CryptoError::NothingLoaded));
    // when both load the new one and a switches first
    a.load(&new).unwrap();
    b.load(&new).unwrap();
    a.switch().unwrap();
    // then they understand each other
    assert!(passes(&mut a, &b) && passes(&mut b, &a));
    // and when all is done, the old one is refused
    b.switch().unwrap();
    b.drop_old();
    a.drop_old();
    assert!(passes(&mut a, &b) && passes(&mut b, &a));
    assert!(!passes(&mut slots(3), &a));
}

#[test]
fn clear_packets_are_accepted_only_while_crypto_is_being_switched() {
    let clear = Bytes::from_static(b"\x01 in clear");
    let mut slots = Slots::new(&CryptoConfig::default(), [0; 32]).unwrap();
    assert!(slots.open(clear.clone()).is_ok());
    // on
    slots.load(&config(Cipher::Aes256, Hash::Sha256, 1)).unwrap();
    assert!(slots.open(clear.clone()).is_ok());
    slots.switch().unwrap();
    assert!(slots.open(clear.clone()).is_ok());
    slots.drop_old();
    assert_eq!(slots.open(clear.clone()), Err(OpenError::TooShort));
    // another key: never in clear
    slots.load(&config(Cipher::Aes256, Hash::Sha256, 2)).unwrap();
    assert!(slots.open(clear.clone()).is_err());
    // off
    slots.load(&CryptoConfig::default()).unwrap();
    assert!(slots.open(clear).is_ok());
}

#[test]
fn each_packet_has_a_salt_of_its_own() {
    let mut slots = Slots::new(&config(Cipher::Aes256, Hash::Sha256, 1), [5; 32]).unwrap();

    assert_ne!(slots.seal(&[b"same"]), slots.seal(&[b"same"]));
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        packet in prop::collection::vec(any::<u8>(), 1..200),
        cut in any::<prop::sample::Index>(),
        salt in any::<[u8; SALT]>(),
        cipher in prop::sample::select(CIPHERS.to_vec()),
        hash in prop::sample::select(HASHES.to_vec()),
    ) {
        let protection = protection(cipher, hash);
        let (first, rest) = packet.split_at(cut.index(packet.len()));
        let sealed = protection.seal(salt, &[first, rest]);

        let opened = protection.open(sealed);
        prop_assert_eq!(opened.as_deref(), Ok(&packet[..]));
    }

    #[test]
    fn no_bytes_open_by_chance(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cipher in prop::sample::select(CIPHERS.to_vec()),
        hash in prop::sample::select(HASHES.to_vec()),
    ) {
        prop_assert!(protection(cipher, hash).open(bytes.into()).is_err());
    }
}
