//! What a replica shows never goes back behind what was acknowledged, as long as its process lives.
//!
//! A replica may show a write before it is acknowledged, and take it back when its side of a split turns out to be
//! the lesser one: that is counted, and no problem.

use std::collections::BTreeMap;

use super::{Files, Problem};
use crate::{
    linear::Answer,
    record::{Called, Event, Local},
};

/// Judges all reads of replicas; also counts what was shown and taken back.
#[must_use]
pub fn check(events: &[Event], files: &Files) -> (Vec<Problem>, usize) {
    let mut reads: BTreeMap<(&str, i32, &str, &str), Vec<&Called>> = BTreeMap::new();
    for event in events {
        if let Event::Called(called) = event
            && let Some(Local { process: Some(process) }) = called.local
        {
            // Calls of one client follow each other; those of two may overlap and say nothing about order.
            let key = (called.node.as_str(), process, called.path.as_str(), called.client.as_str());
            reads.entry(key).or_default().push(called);
        }
    }
    let mut problems = Vec::new();
    let mut rolled_back = 0;
    for ((node, process, path, _), reads) in reads {
        let mut newest: Option<(u64, u64)> = None;
        for read in reads {
            let Answer::Found { value, version: Some(version) } = read.answer else { continue };
            let Some((known, known_value)) = newest else {
                newest = Some((version, value));
                continue;
            };
            if version > known {
                newest = Some((version, value));
                continue;
            }
            if version == known && value == known_value {
                continue;
            }
            let is_certain =
                files.at(known).is_some_and(|write| write.path == path && write.value == Some(known_value));
            if is_certain {
                let what = format!(
                    "{node} (process {process}) showed {path} at version {known}, which is certain, and then at \
                     {version} (operation {})",
                    read.id
                );
                problems.push(Problem { property: "a replica does not go back", what });
            } else {
                rolled_back += 1;
            }
            newest = Some((version, value));
        }
    }
    (problems, rolled_back)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::{Call, Expect};

    fn read(id: u64, process: i32, version: u64) -> Event {
        called(id, Call::Get, Answer::Found { value: version, version: Some(version) }, Some(process))
    }

    fn called(id: u64, call: Call, answer: Answer, process: Option<i32>) -> Event {
        let local = process.map(|process| Local { process: Some(process) });
        let (client, node, path) = ("reader".to_owned(), "hp1".to_owned(), "a".to_owned());
        Event::Called(Called { id, client, node, path, invoked: id, returned: id, call, answer, local })
    }

    fn written(version: u64) -> Event {
        let call = Call::Put { expect: Expect::Any, value: version };
        called(100 + version, call, Answer::Done { version: Some(version) }, None)
    }

    fn judge(events: &[Event]) -> (usize, usize) {
        let (problems, rolled_back) = check(events, &Files::of(events));
        (problems.len(), rolled_back)
    }

    #[test]
    fn a_replica_that_goes_back_behind_an_acknowledged_write_is_caught() {
        assert_eq!(judge(&[written(5), read(1, 7, 5), read(2, 7, 4)]), (1, 0));
    }

    #[test]
    fn what_was_nobodys_may_disappear() {
        assert_eq!(judge(&[written(4), read(1, 7, 5), read(2, 7, 4)]), (0, 1));
    }

    #[test]
    fn another_process_begins_anew() {
        assert_eq!(judge(&[written(5), read(1, 7, 5), read(2, 8, 4)]), (0, 0));
    }

    #[test]
    fn going_forward_is_right() {
        assert_eq!(judge(&[written(5), read(1, 7, 4), read(2, 7, 5), read(3, 7, 5)]), (0, 0));
    }
}
