//! After all was mended: replicas are equal, and show every file alike.

use std::collections::BTreeMap;

use super::Problem;
use crate::{
    linear::Answer,
    record::{Called, Event},
};

/// The client that reads everything everywhere at the end.
pub const LAST_READER: &str = "end";

/// Judges what was seen at the end.
#[must_use]
pub fn check(events: &[Event]) -> Vec<Problem> {
    let mut replicas: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    let mut reads: BTreeMap<&str, Vec<&Called>> = BTreeMap::new();
    for event in events {
        match event {
            Event::Ended { node, version, checksum } => {
                replicas.insert(node, (*version, checksum));
            }
            Event::Called(called) if called.client == LAST_READER => {
                reads.entry(&called.path).or_default().push(called);
            }
            _ => {}
        }
    }
    let mut problems = Vec::new();
    if replicas.is_empty() {
        let what = "no replica said how it is".to_owned();
        problems.push(Problem { property: "a run ends with equal replicas", what });
    }
    let mut others = replicas.values();
    let first = others.next();
    if others.any(|other| Some(other) != first) {
        let what = format!("{replicas:?}");
        problems.push(Problem { property: "a run ends with equal replicas", what });
    }
    for (path, reads) in reads {
        let told = |called: &&Called| match called.answer {
            Answer::Found { value, version } => Some((value, version)),
            _ => None,
        };
        let failed = reads.iter().any(|called| called.answer == Answer::Unknown);
        let first = reads.first().and_then(told);
        if failed || reads.iter().any(|called| told(called) != first) {
            let seen = reads.iter().map(|called| format!("{} {:?}", called.node, called.answer));
            let what = format!("{path}: {}", seen.collect::<Vec<_>>().join(", "));
            problems.push(Problem { property: "all replicas show a file alike", what });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::Call;

    fn ended(node: &str, version: u64, checksum: &str) -> Event {
        Event::Ended { node: node.into(), version, checksum: checksum.into() }
    }

    fn read(node: &str, answer: Answer) -> Event {
        Event::Called(Called {
            id: 1,
            client: LAST_READER.into(),
            node: node.into(),
            path: "a".into(),
            invoked: 0,
            returned: 1,
            call: Call::Get,
            answer,
            local: None,
        })
    }

    fn judge(events: &[Event]) -> Vec<&'static str> {
        check(events).into_iter().map(|problem| problem.property).collect()
    }

    #[test]
    fn equal_replicas_are_right() {
        let found = Answer::Found { value: 1, version: Some(5) };
        let story = [ended("hp1", 5, "x"), ended("hp2", 5, "x"), read("hp1", found), read("hp2", found)];
        assert!(judge(&story).is_empty());
    }

    #[test]
    fn replicas_that_differ_or_say_nothing_are_caught() {
        let property = "a run ends with equal replicas";
        assert_eq!(judge(&[ended("hp1", 5, "x"), ended("hp2", 5, "y")]), [property]);
        assert_eq!(judge(&[ended("hp1", 5, "x"), ended("hp2", 6, "x")]), [property]);
        assert_eq!(judge(&[]), [property]);
    }

    #[test]
    fn a_file_that_is_not_everywhere_the_same_is_caught() {
        let found = Answer::Found { value: 1, version: Some(5) };
        for other in [Answer::Missing, Answer::Found { value: 2, version: Some(5) }, Answer::Unknown] {
            let story = [ended("hp1", 5, "x"), read("hp1", found), read("hp2", other)];
            assert_eq!(judge(&story), ["all replicas show a file alike"]);
        }
    }
}
