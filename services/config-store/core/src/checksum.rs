//! The checksum of the tree: a sum of entry hashes that changes with one entry, not with all.
//!
//! The sum modulo 2^256 does not depend on the order of the entries, so adding, replacing and removing an
//! entry costs one addition. It finds accidents, not forgeries: members of a cluster trust each other.

use std::fmt;

/// A sum of SHA-256 values modulo 2^256; zero for no entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Checksum([u64; 4]);

impl Checksum {
    /// Adds a hash.
    pub(crate) fn add(&mut self, hash: &[u8; 32]) {
        let mut carry = false;
        for (limb, addend) in self.0.iter_mut().zip(limbs(hash)) {
            let (sum, first) = limb.overflowing_add(addend);
            let (sum, second) = sum.overflowing_add(carry.into());
            *limb = sum;
            carry = first || second;
        }
    }

    /// Takes away a hash that was added.
    pub(crate) fn subtract(&mut self, hash: &[u8; 32]) {
        let mut borrow = false;
        for (limb, subtrahend) in self.0.iter_mut().zip(limbs(hash)) {
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(borrow.into());
            *limb = difference;
            borrow = first || second;
        }
    }

    /// The 32 bytes, least significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// The reverse of [`Checksum::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut sum = [0; 4];
        sum.iter_mut().zip(limbs(&bytes)).for_each(|(limb, value)| *limb = value);
        Self(sum)
    }
}

fn limbs(bytes: &[u8; 32]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().expect("chunks of eight bytes")))
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_of_additions_does_not_matter(a: [u8; 32], b: [u8; 32], c: [u8; 32]) {
            let (mut left, mut right) = (Checksum::default(), Checksum::default());
            [a, b, c].iter().for_each(|hash| left.add(hash));
            [c, a, b].iter().for_each(|hash| right.add(hash));
            prop_assert_eq!(left, right);
        }

        #[test]
        fn subtracting_undoes_adding(a: [u8; 32], b: [u8; 32]) {
            let mut sum = Checksum::default();
            sum.add(&a);
            let before = sum;
            sum.add(&b);
            sum.subtract(&b);
            prop_assert_eq!(sum, before);
            prop_assert_eq!(Checksum::from_bytes(sum.to_bytes()), sum);
        }
    }

    #[test]
    fn a_carry_runs_through_all_limbs() {
        let mut sum = Checksum::from_bytes([0xff; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        sum.add(&one);
        assert_eq!(sum, Checksum::default());
        sum.subtract(&one);
        assert_eq!(sum, Checksum::from_bytes([0xff; 32]));
    }
}
