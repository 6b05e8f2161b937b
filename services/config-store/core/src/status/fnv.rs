//! FNV-1a with 64 bits: digests of node names and of log entries. Source: pmxcfs specification, section 10.1.

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The digest of these bytes.
pub(super) fn of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(OFFSET_BASIS, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// The digest of a text and its zero byte.
pub(super) fn of_text(text: &str) -> u64 {
    (of(text.as_bytes())).wrapping_mul(PRIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_the_published_ones() {
        // Test vectors of the authors' reference code.
        assert_eq!(of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(of_text("foobar"), of(b"foobar\0"));
    }
}
