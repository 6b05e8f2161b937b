//! The commands, answers and events of QEMU that a migration needs.
//!
//! Works with QEMU 7.2 and later. Names are QEMU's own, `migrate_cancel` with its underscore included. What is not known
//! in an answer or an event is ignored.

use serde::Deserialize;
use serde_json::{Value, json};

/// "No limit" for the memory's stream: QEMU's own default would be 128 MiB/s.
const UNLIMITED: u64 = 16 << 30;

/// A command to one of the two QEMUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Sets what both sides must agree on before anything else.
    SetCapabilities,
    /// Bytes per second, and how long the guest may be stopped.
    SetParameters {
        /// Bytes per second; `None`: as fast as it goes.
        speed: Option<u64>,
        /// Milliseconds.
        downtime_ms: u64,
    },
    /// The target listens.
    Incoming {
        /// Path of the socket.
        socket: String,
    },
    /// The source sends.
    Migrate {
        /// Path of the socket.
        socket: String,
    },
    /// Goes on after `pre-switchover`.
    Continue,
    /// Ends a migration; the guest goes on.
    Cancel,
    /// How far it is.
    QueryMigrate,
    /// What the guest does.
    QueryStatus,
    /// The block jobs.
    QueryJobs,
    /// Serves disks.
    NbdStart {
        /// Path of the socket.
        socket: String,
    },
    /// Lets the source write to a disk.
    ExportAdd {
        /// The disk's node.
        node: String,
    },
    /// Ends the service.
    NbdStop,
    /// Connects to the target's disk.
    BlockdevAdd {
        /// Name for it here.
        name: String,
        /// Path of the socket.
        socket: String,
        /// The export: the target's node.
        export: String,
    },
    /// Copies a disk and keeps the copy equal.
    Mirror {
        /// The job.
        job: String,
        /// From.
        device: String,
        /// To.
        target: String,
        /// Bytes per second; `None`: as fast as it goes.
        speed: Option<u64>,
    },
    /// Ends a job: one that is ready leaves a complete copy behind.
    JobCancel {
        /// The job.
        job: String,
        /// Without finishing it.
        force: bool,
    },
    /// Forgets a job that has ended.
    JobDismiss {
        /// The job.
        job: String,
    },
    /// Disconnects from the target's disk.
    BlockdevDel {
        /// Its name here.
        name: String,
    },
    /// Lets the guest go on at the source.
    Cont,
    /// Breaks the connections of a QEMU that does not answer any more; out of band.
    Yank {
        /// Names of block nodes whose connections are broken; the memory's is always.
        nodes: Vec<String>,
    },
}

impl Command {
    /// QEMU's name for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SetCapabilities => "migrate-set-capabilities",
            Self::SetParameters { .. } => "migrate-set-parameters",
            Self::Incoming { .. } => "migrate-incoming",
            Self::Migrate { .. } => "migrate",
            Self::Continue => "migrate-continue",
            Self::Cancel => "migrate_cancel",
            Self::QueryMigrate => "query-migrate",
            Self::QueryStatus => "query-status",
            Self::QueryJobs => "query-jobs",
            Self::NbdStart { .. } => "nbd-server-start",
            Self::ExportAdd { .. } => "block-export-add",
            Self::NbdStop => "nbd-server-stop",
            Self::BlockdevAdd { .. } => "blockdev-add",
            Self::Mirror { .. } => "blockdev-mirror",
            Self::JobCancel { .. } => "block-job-cancel",
            Self::JobDismiss { .. } => "job-dismiss",
            Self::BlockdevDel { .. } => "blockdev-del",
            Self::Cont => "cont",
            Self::Yank { .. } => "yank",
        }
    }

    /// Whether it is sent out of band.
    #[must_use]
    pub fn out_of_band(&self) -> bool {
        matches!(self, Self::Yank { .. })
    }

    /// Its arguments.
    #[must_use]
    pub fn arguments(&self) -> Option<Value> {
        match self {
            Self::SetCapabilities => {
                let on = ["events", "return-path", "pause-before-switchover"];
                let on: Vec<Value> =
                    on.iter().map(|name| json!({ "capability": name, "state": true })).collect();
                Some(json!({ "capabilities": on }))
            }
            Self::SetParameters { speed, downtime_ms } => {
                Some(json!({ "max-bandwidth": speed.unwrap_or(UNLIMITED), "downtime-limit": downtime_ms }))
            }
            Self::Incoming { socket } | Self::Migrate { socket } => {
                Some(json!({ "uri": format!("unix:{socket}") }))
            }
            Self::Continue => Some(json!({ "state": "pre-switchover" })),
            Self::NbdStart { socket } => {
                Some(json!({ "addr": { "type": "unix", "data": { "path": socket } } }))
            }
            Self::ExportAdd { node } => {
                Some(json!({ "type": "nbd", "id": node, "node-name": node, "name": node, "writable": true }))
            }
            Self::BlockdevAdd { name, socket, export } => Some(json!({
                "driver": "nbd",
                "node-name": name,
                "server": { "type": "unix", "path": socket },
                "export": export,
            })),
            Self::Mirror { job, device, target, speed } => Some(json!({
                "job-id": job,
                "device": device,
                "target": target,
                "sync": "full",
                "copy-mode": "background",
                "auto-dismiss": false,
                "speed": speed.unwrap_or(0),
            })),
            Self::JobCancel { job, force } => Some(json!({ "device": job, "force": force })),
            Self::JobDismiss { job } => Some(json!({ "id": job })),
            Self::BlockdevDel { name } => Some(json!({ "node-name": name })),
            Self::Yank { nodes } => {
                let disks = nodes.iter().map(|node| json!({ "type": "block-node", "node-name": node }));
                let all: Vec<Value> = std::iter::once(json!({ "type": "migration" })).chain(disks).collect();
                Some(json!({ "instances": all }))
            }
            Self::Cancel
            | Self::QueryMigrate
            | Self::QueryStatus
            | Self::QueryJobs
            | Self::NbdStop
            | Self::Cont => None,
        }
    }
}

/// What the migrating source may send to the target's QEMU through the target's daemon. `cont` is not among it.
#[must_use]
pub fn allowed_at_target(name: &str) -> bool {
    const ALLOWED: [&str; 7] = [
        "migrate-set-capabilities",
        "migrate-incoming",
        "nbd-server-start",
        "block-export-add",
        "nbd-server-stop",
        "query-migrate",
        "query-status",
    ];
    ALLOWED.contains(&name)
}

/// Amounts of memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Ram {
    /// Sent so far.
    pub transferred: u64,
    /// Still to be sent.
    pub remaining: u64,
    /// All of the guest's memory.
    pub total: u64,
    /// How often all of it was looked at.
    pub dirty_sync_count: u64,
    /// Pages that the guest changes per second.
    pub dirty_pages_rate: u64,
    /// Bytes of a page.
    pub page_size: u64,
}

/// The answer to `query-migrate`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct MigrateInfo {
    /// QEMU's word, such as `active`; empty if none was begun.
    pub status: String,
    /// The memory.
    pub ram: Ram,
    /// How long the guest was stopped, in milliseconds; 0 while that is not known.
    pub downtime: u64,
    /// How long it would be stopped if it were now, in milliseconds.
    pub expected_downtime: u64,
    /// Why it failed.
    pub error_desc: Option<String>,
}

/// One of the answer to `query-jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Job {
    /// Its name.
    pub id: String,
    /// QEMU's word, such as `ready`.
    pub status: String,
    /// Bytes that are done.
    pub current_progress: u64,
    /// Bytes in all.
    pub total_progress: u64,
    /// Why it failed.
    pub error: Option<String>,
}

/// The answer to `query-status`: QEMU's word, such as `running`.
#[must_use]
pub fn status_of(answer: &Value) -> String {
    answer.get("status").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Reads the answer to `query-migrate`; what is missing counts as nothing.
#[must_use]
pub fn migrate_info(answer: &Value) -> MigrateInfo {
    serde_json::from_value(answer.clone()).unwrap_or_default()
}

/// Reads the answer to `query-jobs`.
#[must_use]
pub fn jobs(answer: &Value) -> Vec<Job> {
    serde_json::from_value(answer.clone()).unwrap_or_default()
}

/// An event that matters; all others are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The migration's status changed: QEMU's word.
    Migration(String),
    /// A job has copied everything and keeps the copy equal.
    JobReady(String),
    /// A job has ended, well or not.
    JobConcluded(String),
}

impl Event {
    /// Reads an event.
    #[must_use]
    pub fn read(name: &str, data: &Value) -> Option<Self> {
        let text = |key: &str| data.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
        match name {
            "MIGRATION" => Some(Self::Migration(text("status")?)),
            "BLOCK_JOB_READY" => Some(Self::JobReady(text("device")?)),
            "JOB_STATUS_CHANGE" if text("status")? == "concluded" => Some(Self::JobConcluded(text("id")?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_sides_get_the_capabilities_without_which_nothing_is_safe() {
        let arguments = Command::SetCapabilities.arguments().unwrap().to_string();
        for needed in ["return-path", "pause-before-switchover", "events"] {
            assert!(arguments.contains(needed), "{needed}");
        }
    }

    #[test]
    fn nothing_that_runs_a_guest_passes_to_the_target() {
        for refused in ["cont", "quit", "system_reset", "human-monitor-command", "migrate", "blockdev-add"] {
            assert!(!allowed_at_target(refused), "{refused}");
        }
    }

    #[test]
    fn an_answer_of_qemu_7_2_without_its_last_numbers_is_read() {
        let info =
            migrate_info(&json!({ "status": "completed", "ram": { "transferred": 7, "new-field": 1 } }));
        assert_eq!((info.status.as_str(), info.ram.transferred, info.downtime), ("completed", 7, 0));
        assert_eq!(migrate_info(&json!({})).status, "");
    }

    #[test]
    fn events_are_read_by_name_and_others_are_dropped() {
        let data = json!({ "status": "pre-switchover" });
        assert_eq!(Event::read("MIGRATION", &data), Some(Event::Migration("pre-switchover".into())));
        let running = json!({ "id": "m0", "status": "running" });
        assert_eq!(Event::read("JOB_STATUS_CHANGE", &running), None);
        assert_eq!(Event::read("RTC_CHANGE", &json!({})), None);
        assert_eq!(Event::read("MIGRATION", &json!(null)), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_readers_panic(text in "\\PC{0,40}", number in any::<i64>()) {
            for value in [json!(text), json!(number), json!({ "status": number, "ram": text }), json!([{ "id": number }])] {
                let _ = migrate_info(&value);
                let _ = jobs(&value);
                let _ = status_of(&value);
                let _ = Event::read(&text, &value);
            }
        }
    }
}
