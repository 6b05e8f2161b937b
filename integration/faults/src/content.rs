//! Contents of files: each says its value and its length, so that half of one, or two halves, are noticed.

use bytes::Bytes;

use crate::linear::Value;

/// Stands for a content that nobody wrote: cut off, mixed or empty.
pub const TORN: Value = Value::MAX;

/// One value of so many is large: it travels in several messages.
const LARGE_ONE_IN: u64 = 40;
const SMALL_BYTES: usize = 100;
const LARGE_BYTES: usize = 150_000;

/// The content for a value.
#[must_use]
pub fn encode(value: Value) -> Bytes {
    let length = if value.is_multiple_of(LARGE_ONE_IN) { LARGE_BYTES } else { SMALL_BYTES };
    let mut content = format!("{value} {length}\n").into_bytes();
    let line = format!("{value}\n").into_bytes();
    content.extend(line.iter().cycle().take(length));
    content.into()
}

/// The value of a content; [`TORN`] if it is not one that [`encode`] makes.
#[must_use]
pub fn decode(content: &[u8]) -> Value {
    let head = content.iter().take(20).take_while(|byte| byte.is_ascii_digit());
    let digits: Vec<u8> = head.copied().collect();
    let value = str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
    value.filter(|value| encode(*value) == content).unwrap_or(TORN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_content_says_its_value_and_anything_else_does_not() {
        for value in [1, 7, 40, 123_456] {
            let content = encode(value);
            assert_eq!(decode(&content), value);
            assert_eq!(decode(&content[..content.len() - 1]), TORN);
            let half = content.len() / 2;
            let other = encode(value + 40);
            let mixed = [&content[..half], &other[half.min(other.len())..]].concat();
            assert_eq!(decode(&mixed), TORN);
        }
        assert_eq!(decode(b""), TORN);
        assert_eq!(decode(b"99999999999999999999999"), TORN);
    }
}
