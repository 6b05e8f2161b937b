//! Messages in a stream of bytes: type (2 bytes), length of what follows (4 bytes), fields; big endian.

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes before the fields.
pub(crate) const HEADER_LEN: usize = 6;

/// The longest message that is accepted, header included: `max_client_receive_size` of both sides is the same by
/// default. The longest answer of an arbiter has less than 200 bytes.
const MESSAGE_MAX: usize = 32 * 1024;

/// The stream cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message is too long.
    #[error("a message of {0} bytes is longer than the {MESSAGE_MAX} that are accepted")]
    TooLong(u64),
}

/// Cuts a stream into messages.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Nothing received yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was received.
    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message: its type and its fields.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no use then.
    pub fn next_message(&mut self) -> Result<Option<(u16, Bytes)>, FrameError> {
        let Some(mut header) = self.buffer.get(..HEADER_LEN) else { return Ok(None) };
        let (kind, length) = (header.get_u16(), header.get_u32());
        let whole = u64::from(length) + HEADER_LEN as u64;
        let whole = match usize::try_from(whole) {
            Ok(whole) if whole <= MESSAGE_MAX => whole,
            _ => return Err(FrameError::TooLong(whole)),
        };
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let message = self.buffer.split_to(whole).freeze();
        Ok(Some((kind, message.slice(HEADER_LEN..))))
    }

    /// Forgets what is there.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stream_is_cut_at_the_same_places_however_it_arrives(
            messages in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..6),
            chunk in 1usize..50,
        ) {
            let mut stream = Vec::new();
            for (kind, fields) in &messages {
                stream.extend_from_slice(&kind.to_be_bytes());
                stream.extend_from_slice(&u32::try_from(fields.len()).unwrap().to_be_bytes());
                stream.extend_from_slice(fields);
            }
            let (mut frames, mut read) = (Frames::default(), Vec::new());
            for chunk in stream.chunks(chunk) {
                frames.put(chunk);
                while let Some((kind, fields)) = frames.next_message().unwrap() {
                    read.push((kind, fields.to_vec()));
                }
            }
            prop_assert_eq!(read, messages);
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_is_there() {
        let mut frames = Frames::default();
        frames.put(&[0, 9, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(frames.next_message(), Err(FrameError::TooLong(u64::from(u32::MAX) + 6)));

        let mut frames = Frames::default();
        frames.put(&[0, 9, 0, 0, 0x7f, 0xfa]);
        assert_eq!(frames.next_message(), Ok(None));
    }
}
