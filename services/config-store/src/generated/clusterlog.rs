//! `.clusterlog`: the newest entries of the cluster's log. Source: pmxcfs specification, section 4.4.

use std::fmt::Write as _;

use config_store_core::status::LogEntry;

use super::json;

/// Entries of the file, and of an answer unless asked otherwise.
pub(crate) const LOG_ENTRIES: usize = 50;

/// The text, for entries that come newest first.
pub(crate) fn clusterlog<'a>(entries: impl Iterator<Item = &'a LogEntry>) -> String {
    let mut text = String::from("{\n\"data\": [\n");
    for (number, entry) in entries.enumerate() {
        if number > 0 {
            text.push_str(",\n");
        }
        let [tag, node, user, message] =
            [&entry.tag, &entry.node, &entry.ident, &entry.message].map(|text| json::ascii(text));
        let _ = write!(
            text,
            "{{\"uid\": {}, \"time\": {}, \"pri\": {}, \"tag\": {tag}, \"pid\": {}, \"node\": {node}, \
             \"user\": {user}, \"msg\": {message}}}",
            entry.uid, entry.time, entry.priority, entry.pid
        );
    }
    if !text.ends_with("[\n") {
        text.push('\n');
    }
    text.push_str("]\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: u32, time: u32, message: &str) -> LogEntry {
        LogEntry {
            uid,
            time,
            node: "node1".into(),
            ident: "root@pam".into(),
            tag: "pvedaemon".into(),
            pid: 1234,
            priority: 6,
            message: message.into(),
        }
    }

    #[test]
    fn entries_are_laid_out_as_pmxcfs_does_it() {
        let entries = [entry(42, 1_700_000_123, "starting task \"x\""), entry(1, 1_700_000_000, "ü")];
        let text = clusterlog(entries.iter());
        assert_eq!(
            text,
            r#"{
"data": [
{"uid": 42, "time": 1700000123, "pri": 6, "tag": "pvedaemon", "pid": 1234, "node": "node1", "user": "root@pam", "msg": "starting task \"x\""},
{"uid": 1, "time": 1700000000, "pri": 6, "tag": "pvedaemon", "pid": 1234, "node": "node1", "user": "root@pam", "msg": "\u00fc"}
]
}
"#
        );
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["data"][1]["msg"], "ü");
    }

    #[test]
    fn without_entries_the_list_is_empty() {
        assert_eq!(clusterlog(std::iter::empty()), "{\n\"data\": [\n]\n}\n");
    }
}
