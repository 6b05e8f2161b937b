//! Messages on their way to the group: control messages at once, bulk within a window.
//!
//! The total order is its own flow control: a message is out of the way when it comes back to its
//! sender. Bulk (operations, pieces of a transfer) waits while more than the window is on the way.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::message::{Message, Signed};

/// Most bytes of bulk on the way before more is held back.
pub(crate) const WINDOW_BYTES: usize = 1024 * 1024;

/// What was sent and has not come back, by the serials of the messages.
#[derive(Debug)]
pub(crate) struct Window {
    max: usize,
    on_the_way: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Window {
    /// A window that is closed while `max` bytes or more are on the way.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, on_the_way: VecDeque::new(), bytes: 0 }
    }

    /// Whether more may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < self.max
    }

    /// A message goes out; serials rise.
    pub(crate) fn sent(&mut self, serial: u64, bytes: usize) {
        self.on_the_way.push_back((serial, bytes));
        self.bytes += bytes;
    }

    /// A message came back, and with it all before it.
    pub(crate) fn returned(&mut self, serial: u64) {
        while let Some((sent, bytes)) = self.on_the_way.front().copied()
            && sent <= serial
        {
            self.on_the_way.pop_front();
            self.bytes -= bytes;
        }
    }

    /// The group changed: what was on the way may never come back.
    pub(crate) fn reset(&mut self) {
        self.on_the_way.clear();
        self.bytes = 0;
    }
}

/// Numbers messages and remembers the bulk that has not come back.
#[derive(Debug)]
pub(crate) struct Outbox {
    incarnation: u64,
    serial: u64,
    window: Window,
}

impl Outbox {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self { incarnation, serial: 0, window: Window::new(WINDOW_BYTES) }
    }

    /// Encodes a control message.
    pub(crate) fn control(&mut self, message: Message) -> Bytes {
        self.serial += 1;
        Signed { incarnation: self.incarnation, serial: self.serial, message }.encode()
    }

    /// Encodes a bulk message and counts it as being on the way.
    pub(crate) fn bulk(&mut self, message: Message) -> Bytes {
        let bytes = self.control(message);
        self.window.sent(self.serial, bytes.len());
        bytes
    }

    /// Whether bulk may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.window.has_room()
    }

    /// One of the own messages came back, and with it all before it.
    pub(crate) fn returned(&mut self, incarnation: u64, serial: u64) {
        if incarnation == self.incarnation {
            self.window.returned(serial);
        }
    }

    /// The group changed: what was on the way may never come back.
    pub(crate) fn reset(&mut self) {
        self.window.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{epoch::Epoch, operation::RequestId};

    fn part(size: usize) -> Message {
        Message::Part {
            epoch: Epoch::LOCAL,
            request: RequestId([0; 16]),
            index: 0,
            content: Bytes::from(vec![0; size]),
        }
    }

    #[test]
    fn the_window_closes_when_full_and_opens_when_messages_come_back() {
        let mut outbox = Outbox::new(1);
        outbox.bulk(part(WINDOW_BYTES / 2));
        assert!(outbox.has_room());
        outbox.bulk(part(WINDOW_BYTES / 2));
        assert!(!outbox.has_room());
        outbox.returned(9, 2);
        assert!(!outbox.has_room(), "another process's message is none of ours");
        outbox.returned(1, 2);
        assert!(outbox.has_room());
    }

    #[test]
    fn a_change_of_the_group_opens_the_window() {
        let mut outbox = Outbox::new(1);
        outbox.bulk(part(WINDOW_BYTES));
        outbox.reset();
        assert!(outbox.has_room());
    }
}
