//! The datagrams of a network check: encode and decode.
//!
//! Numbers are big-endian, times are nanoseconds since 1970 by the sender's clock. Each datagram begins with
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | magic | `QNC1` |
//! | 4 | 1 | kind | 1 hello, 2 probe, 3 answer, 4 ask, 5 row |
//! | 5 | 1 | from | the sender's place in the sorted list of addresses |
//! | 6 | 1 | class | probe, answer: 0 unicast, 1 multicast, 2 MTU; else 0 |
//! | 7 | 1 | | 0 |
//! | 8 | 8 | run | a hash of the list of addresses, port and group |
//!
//! and goes on with `heard` (8) and `stage` (1) in a hello; `seq` (4), `sent`, `received`, `answered` (8 each) and zeros
//! up to the length of the probe in a probe or answer; `about` (1) and zeros up to the length of a row in an ask;
//! `about` (1), `flags` (1), `mtu` (4) and two summaries in a row. No answer is longer than its question.

use super::summary::{Row, Summary};

/// The first bytes of every datagram.
const MAGIC: [u8; 4] = *b"QNC1";
/// Bytes of the header.
const HEADER: usize = 16;
/// Bytes of a hello.
const HELLO_LENGTH: usize = HEADER + 9;
/// Bytes of a probe without padding.
const PROBE_MIN: usize = HEADER + 28;
/// Bytes of a probe of loss and latency, without IP and UDP headers.
pub(super) const PROBE_LENGTH: usize = 64;
/// Bytes of a summary.
const SUMMARY_LENGTH: usize = 76;
/// Bytes of a row, and of the question for it.
const ROW_LENGTH: usize = HEADER + 6 + 2 * SUMMARY_LENGTH;
/// The longest payload that UDP over IPv4 carries.
pub(super) const PAYLOAD_MAX: usize = 65_507;

/// One datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Datagram {
    /// Which check it belongs to.
    pub(super) run: u64,
    /// The sender's place in the sorted list of addresses.
    pub(super) from: u8,
    /// What it says.
    pub(super) body: Body,
}

/// What a datagram says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// I am here.
    Hello {
        /// One bit for each place whose hellos the sender gets, its own included.
        heard: u64,
        /// How far the sender is.
        stage: Stage,
    },
    /// Answer this.
    Probe(Probe),
    /// The answer: the probe, and when it came and was answered by the clock of the one who answers.
    Answer {
        /// The probe as it came.
        probe: Probe,
        /// When it came, in nanoseconds since 1970.
        received: u64,
        /// When the answer left, in nanoseconds since 1970.
        answered: u64,
    },
    /// What have you measured of the node at this place?
    Ask {
        /// The place.
        about: u8,
    },
    /// What the sender has measured of the node at this place.
    Row {
        /// The place.
        about: u8,
        /// The measurements.
        row: Row,
    },
}

/// A question whose answer is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    /// What is measured.
    pub(super) class: Class,
    /// Number of the probe, from 0; for [`Class::Mtu`] its length.
    pub(super) seq: u32,
    /// When it left, in nanoseconds since 1970.
    pub(super) sent: u64,
    /// Bytes of the datagram, without IP and UDP headers.
    pub(super) length: usize,
}

/// What a probe measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The way to one node.
    Unicast,
    /// The way to the group; the answers come by unicast.
    Multicast,
    /// Whether this length passes.
    Mtu,
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It waits for the others.
    Waiting,
    /// It sends probes.
    Measuring,
    /// Its rows are complete.
    Measured,
    /// It has the rows of the others, too.
    Finished,
}

impl Datagram {
    /// The bytes on the wire.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, class) = match &self.body {
            Body::Hello { .. } => (1, 0),
            Body::Probe(probe) => (2, probe.class as u8),
            Body::Answer { probe, .. } => (3, probe.class as u8),
            Body::Ask { .. } => (4, 0),
            Body::Row { .. } => (5, 0),
        };
        let mut bytes = Vec::with_capacity(ROW_LENGTH);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[kind, self.from, class, 0]);
        bytes.extend_from_slice(&self.run.to_be_bytes());
        match &self.body {
            Body::Hello { heard, stage } => {
                bytes.extend_from_slice(&heard.to_be_bytes());
                bytes.push(*stage as u8);
            }
            Body::Probe(probe) => put_probe(&mut bytes, *probe, 0, 0),
            Body::Answer { probe, received, answered } => put_probe(&mut bytes, *probe, *received, *answered),
            Body::Ask { about } => {
                bytes.push(*about);
                bytes.resize(ROW_LENGTH, 0);
            }
            Body::Row { about, row } => put_row(&mut bytes, *about, row),
        }
        bytes
    }

    /// Reads the bytes of one datagram; `None` if it is none of this protocol, or damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.array()? != MAGIC {
            return None;
        }
        let [kind, from, class, _] = reader.array()?;
        let run = reader.u64()?;
        let body = match (kind, bytes.len()) {
            (1, HELLO_LENGTH) => Body::Hello { heard: reader.u64()?, stage: stage(reader.u8()?)? },
            (2 | 3, PROBE_MIN..=PAYLOAD_MAX) => {
                let class = self::class(class)?;
                let probe = Probe { class, seq: reader.u32()?, sent: reader.u64()?, length: bytes.len() };
                let (received, answered) = (reader.u64()?, reader.u64()?);
                if kind == 2 { Body::Probe(probe) } else { Body::Answer { probe, received, answered } }
            }
            (4, ROW_LENGTH) => Body::Ask { about: reader.u8()? },
            (5, ROW_LENGTH) => Body::Row { about: reader.u8()?, row: reader.row()? },
            _ => return None,
        };
        Some(Self { run, from, body })
    }
}

fn stage(code: u8) -> Option<Stage> {
    [Stage::Waiting, Stage::Measuring, Stage::Measured, Stage::Finished].get(usize::from(code)).copied()
}

fn class(code: u8) -> Option<Class> {
    [Class::Unicast, Class::Multicast, Class::Mtu].get(usize::from(code)).copied()
}

fn put_probe(bytes: &mut Vec<u8>, probe: Probe, received: u64, answered: u64) {
    bytes.extend_from_slice(&probe.seq.to_be_bytes());
    for time in [probe.sent, received, answered] {
        bytes.extend_from_slice(&time.to_be_bytes());
    }
    bytes.resize(probe.length.clamp(PROBE_MIN, PAYLOAD_MAX), 0);
}

fn put_row(bytes: &mut Vec<u8>, about: u8, row: &Row) {
    let flags = u8::from(row.is_reached) | u8::from(row.multicast.is_some()) << 1;
    bytes.extend_from_slice(&[about, flags]);
    bytes.extend_from_slice(&row.mtu.to_be_bytes());
    for summary in [row.unicast, row.multicast.unwrap_or_default()] {
        for number in [summary.sent, summary.received, summary.duplicates, summary.reordered] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        let Summary { rtt_min, rtt_mean, rtt_p50, rtt_p99, rtt_max, jitter, .. } = summary;
        for time in [rtt_min, rtt_mean, rtt_p50, rtt_p99, rtt_max, jitter] {
            bytes.extend_from_slice(&time.to_be_bytes());
        }
        bytes.extend_from_slice(&summary.skew.to_be_bytes());
        bytes.extend_from_slice(&summary.rate.to_be_bytes());
    }
}

/// What is left of a datagram.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn row(&mut self) -> Option<Row> {
        let flags = self.u8()?;
        let mtu = self.u32()?;
        let unicast = self.summary()?;
        let multicast = self.summary()?;
        let has_multicast = flags & 2 != 0;
        Some(Row { is_reached: flags & 1 != 0, unicast, multicast: has_multicast.then_some(multicast), mtu })
    }

    fn summary(&mut self) -> Option<Summary> {
        Some(Summary {
            sent: self.u32()?,
            received: self.u32()?,
            duplicates: self.u32()?,
            reordered: self.u32()?,
            rtt_min: self.u64()?,
            rtt_mean: self.u64()?,
            rtt_p50: self.u64()?,
            rtt_p99: self.u64()?,
            rtt_max: self.u64()?,
            jitter: self.u64()?,
            skew: self.array().map(i64::from_be_bytes)?,
            rate: self.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies() -> Vec<Body> {
        let probe = Probe { class: Class::Multicast, seq: 7, sent: 8, length: PROBE_LENGTH };
        let summary =
            Summary { sent: 10, received: 9, rtt_p99: 11, skew: -12, rate: 13, ..Summary::default() };
        let row = Row { is_reached: true, unicast: summary, multicast: Some(summary), mtu: 1500 };
        vec![
            Body::Hello { heard: 5, stage: Stage::Measured },
            Body::Probe(probe),
            Body::Answer { probe, received: 9, answered: 10 },
            Body::Ask { about: 3 },
            Body::Row { about: 3, row },
        ]
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_truncated_is() {
        for body in bodies() {
            let datagram = Datagram { run: 1, from: 2, body };
            let bytes = datagram.encode();
            assert_eq!(Datagram::decode(&bytes), Some(datagram));
            for length in 0..bytes.len().min(PROBE_MIN) {
                assert_eq!(Datagram::decode(&bytes[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn no_answer_is_longer_than_its_question() {
        let lengths: Vec<usize> =
            bodies().into_iter().map(|body| Datagram { run: 1, from: 2, body }.encode().len()).collect();
        assert_eq!(lengths[1], lengths[2]);
        assert_eq!(lengths[3], lengths[4]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_and_what_it_reads_it_writes(
            tail in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..7, is_ours in any::<bool>()
        ) {
            let mut bytes = tail;
            if is_ours && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&MAGIC);
                bytes[4] = kind;
            }
            if let Some(datagram) = Datagram::decode(&bytes) {
                prop_assert_eq!(Datagram::decode(&datagram.encode()), Some(datagram));
            }
        }
    }
}
