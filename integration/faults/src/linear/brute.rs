//! The definition, tried out: every order of every choice of operations. For small histories only.

use std::collections::HashMap;

use super::{Answer, Call, Expect, Operation, Value};

/// Whether some order explains every answer.
pub(super) fn is_linearizable(history: &[Operation]) -> bool {
    let counted = history.iter().filter(|operation| {
        operation.answer != Answer::Refused
            && !(operation.call == Call::Get && operation.answer == Answer::Unknown)
    });
    let counted: Vec<&Operation> = counted.collect();
    extend(&mut Vec::new(), &counted)
}

fn is_unknown(operation: &Operation) -> bool {
    operation.answer == Answer::Unknown
}

/// Tries every operation that may be the next one.
fn extend<'a>(order: &mut Vec<&'a Operation>, left: &[&'a Operation]) -> bool {
    if left.iter().all(|operation| is_unknown(operation)) && explains(order) {
        return true;
    }
    for (index, next) in left.iter().enumerate() {
        let must_wait = left.iter().any(|other| !is_unknown(other) && other.returned < next.invoked);
        if must_wait {
            continue;
        }
        let rest: Vec<&Operation> = [&left[..index], &left[index + 1..]].concat();
        order.push(next);
        let found = extend(order, &rest);
        order.pop();
        if found {
            return true;
        }
    }
    false
}

/// The version that each value has according to anybody.
fn versions(order: &[&Operation]) -> Option<HashMap<Value, u64>> {
    let mut versions = HashMap::new();
    for operation in order {
        let (value, version) = match (operation.call, operation.answer) {
            (Call::Put { value, .. }, Answer::Done { version: Some(version) }) => (value, version),
            (_, Answer::Found { value, version: Some(version) }) => (value, version),
            _ => continue,
        };
        if versions.insert(value, version).is_some_and(|before| before != version) {
            return None;
        }
    }
    Some(versions)
}

/// Whether every answer is right in this order.
fn explains(order: &[&Operation]) -> bool {
    let Some(versions) = versions(order) else { return false };
    let mut present: Option<Value> = None;
    let mut last = 0;
    for operation in order {
        let is_there = |version| match present.map(|value| versions.get(&value)) {
            Some(Some(known)) => *known == version,
            Some(None) => !versions.values().any(|known| *known == version),
            None => false,
        };
        // What has no known version may have any that nothing else has.
        let may_differ = |version| present.is_some_and(|value| versions.get(&value) != Some(&version));
        let (expect, becomes) = match operation.call {
            Call::Get => {
                let right = match operation.answer {
                    Answer::Found { value, .. } => present == Some(value),
                    Answer::Missing => present.is_none(),
                    _ => false,
                };
                if !right {
                    return false;
                }
                continue;
            }
            Call::Put { expect, value } => (expect, Some(value)),
            Call::Delete { expect } => (expect, None),
        };
        let met = match expect {
            Expect::Any => becomes.is_some() || present.is_some(),
            Expect::Absent => present.is_none(),
            Expect::Version(version) => is_there(version),
        };
        match operation.answer {
            Answer::Missing if present.is_none() => continue,
            Answer::Unexpected if expect == Expect::Absent && present.is_some() => continue,
            Answer::Unexpected => match expect {
                Expect::Version(version) if may_differ(version) => continue,
                _ => return false,
            },
            Answer::Done { .. } | Answer::Unknown if met => {}
            _ => return false,
        }
        let version = match (operation.answer, becomes) {
            (Answer::Done { version: Some(version) }, _) => Some(version),
            (_, Some(value)) => versions.get(&value).copied(),
            _ => None,
        };
        if let Some(version) = version {
            if version <= last {
                return false;
            }
            last = version;
        }
        present = becomes;
    }
    true
}
