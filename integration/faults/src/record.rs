//! What is recorded: one line of JSON per event, in the order in which they became known.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::linear::{Answer, Call, Operation, Time};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run began.
    Begun {
        /// Its seed.
        seed: u64,
        /// Number of nodes.
        nodes: u8,
    },
    /// A call and its answer.
    Called(Called),
    /// A watcher was told something.
    Watched(Watched),
    /// A client held a lock.
    Held(Held),
    /// Something was broken or mended.
    Fault {
        /// When it was done.
        at: Time,
        /// What.
        what: String,
    },
    /// What a replica said of itself after all was mended.
    Ended {
        /// The node.
        node: String,
        /// Version of its tree.
        version: u64,
        /// Checksum of its tree.
        checksum: String,
    },
}

/// A call and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// Unique.
    pub id: u64,
    /// Who called.
    pub client: String,
    /// Which node was called.
    pub node: String,
    /// Of which file.
    pub path: String,
    /// When the call began, in nanoseconds of the run.
    pub invoked: Time,
    /// When its answer came.
    pub returned: Time,
    /// What was asked for.
    pub call: Call,
    /// What was answered.
    pub answer: Answer,
    /// The process that answered a read of the node's own replica; of linearizable calls, nothing is said.
    pub local: Option<Local>,
}

/// Who answered from its own replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// Process id of configd, if it was the same before and after.
    pub process: Option<i32>,
}

impl Called {
    /// For the judgement of one file; nothing for a read of one replica.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        let Self { id, invoked, returned, call, answer, .. } = *self;
        self.local.is_none().then_some(Operation { id, invoked, returned, call, answer })
    }
}

/// What a watcher was told at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The node that told it.
    pub node: String,
    /// Streams that resume where the one before ended are one session.
    pub session: u64,
    /// When.
    pub at: Time,
    /// Everything up to this version was told.
    pub version: u64,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

/// One change that a watcher was told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Version of the tree.
    pub version: u64,
    /// `put`, `deleted`, `renamed`, `reloaded`.
    pub kind: String,
    /// What changed.
    pub path: String,
}

/// A lock that a client held, for sure: from the answer that gave it to the call that gave it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Who.
    pub client: String,
    /// Which lock.
    pub lock: String,
    /// Since when.
    pub from: Time,
    /// Until when.
    pub until: Time,
}

/// Writes down what happens, by one clock. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    started: Instant,
    next: Arc<AtomicU64>,
    file: Arc<Mutex<BufWriter<File>>>,
}

impl Recorder {
    /// A recorder to a new file.
    ///
    /// # Errors
    /// What creating the file ends with.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = Arc::new(Mutex::new(BufWriter::new(File::create(path)?)));
        Ok(Self { started: Instant::now(), next: Arc::new(AtomicU64::new(1)), file })
    }

    /// Nanoseconds since the recorder was made.
    #[must_use]
    pub fn now(&self) -> Time {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A number that nothing else of this run has: of a call, and of the value that it writes.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes an event down.
    ///
    /// # Panics
    /// If the file cannot be written: without a record the run proves nothing.
    pub fn record(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).expect("an event has no map with keys that are no strings");
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).expect("the record can be written");
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// What writing ends with.
    pub fn flush(&self) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Reads a record.
///
/// # Errors
/// What reading ends with; a line that is no event is an error, too.
pub fn load(path: &Path) -> io::Result<Vec<Event>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::Expect;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let recorder = Recorder::create(&path).unwrap();
        let called = Called {
            id: recorder.number(),
            client: "writer-1".into(),
            node: "hp1".into(),
            path: "faults/a".into(),
            invoked: 1,
            returned: recorder.now(),
            call: Call::Put { expect: Expect::Version(7), value: recorder.number() },
            answer: Answer::Done { version: Some(8) },
            local: None,
        };
        let events = [Event::Begun { seed: 1, nodes: 3 }, Event::Called(called)];
        events.iter().for_each(|event| recorder.record(event));
        recorder.flush().unwrap();
        assert_eq!(load(&path).unwrap(), events);
    }

    #[test]
    fn a_line_that_is_no_event_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        std::fs::write(&path, "{\"event\":\"begun\"}\n").unwrap();
        assert!(load(&path).is_err());
    }
}
