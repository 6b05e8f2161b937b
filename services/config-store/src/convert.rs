//! Between the core's words and messages.

use bytes::Bytes;
use config_store_core::{
    Change, ChangeKind, ConfigPath, Entry, FileVersion, KeptContent, Kind, State, TraceContext, Tree,
    VersionKind,
};
use quorate_proto::config::v1::{self as proto, EntryKind, change, file_version, get_status_response};

fn timestamp(seconds: u32) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: seconds.into(), nanos: 0 }
}

/// An entry without its content.
pub(crate) fn entry(path: &ConfigPath, entry: &Entry) -> proto::Entry {
    let head = entry.head();
    proto::Entry {
        path: path.to_string(),
        kind: kind(head.kind).into(),
        size: entry.content().len() as u64,
        version: head.version,
        writer: head.writer,
        modified: Some(timestamp(head.mtime)),
    }
}

fn kind(kind: Kind) -> EntryKind {
    match kind {
        Kind::File => EntryKind::File,
        Kind::Directory => EntryKind::Directory,
    }
}

/// The entry that a change left, if it left one. `present` is the entry as it is now; of it come what no change of
/// itself says: the size, unless it is known, and for a rename whether it is a directory.
pub(crate) fn written(change: &Change, size: Option<u64>, present: Option<&Entry>) -> Option<proto::Entry> {
    let kind_now = present.map_or(Kind::File, |present| present.head().kind);
    let kind_then = match change.kind {
        ChangeKind::Deleted => return None,
        ChangeKind::Created(kind) => kind,
        ChangeKind::Written => Kind::File,
        ChangeKind::Renamed | ChangeKind::Touched => kind_now,
    };
    let size_now = present.map_or(0, |present| present.content().len() as u64);
    Some(proto::Entry {
        path: change.path.to_string(),
        kind: kind(kind_then).into(),
        size: size.unwrap_or(size_now),
        version: change.version,
        writer: change.writer,
        modified: Some(timestamp(change.mtime)),
    })
}

/// A change; the size of an entry that is still there is its present one.
pub(crate) fn change(change: &Change, tree: &Tree) -> proto::Change {
    let kind = match change.kind {
        ChangeKind::Created(_) | ChangeKind::Written | ChangeKind::Touched => change::Kind::Put,
        ChangeKind::Renamed => change::Kind::Renamed,
        ChangeKind::Deleted => change::Kind::Deleted,
    };
    let present = tree.entry(change.inode).and_then(|present| written(change, None, Some(present)));
    let gone = || proto::Entry {
        path: change.path.to_string(),
        version: change.version,
        writer: change.writer,
        modified: Some(timestamp(change.mtime)),
        ..proto::Entry::default()
    };
    proto::Change {
        kind: kind.into(),
        version: change.version,
        entry: Some(present.unwrap_or_else(gone)),
        old_path: change.from.as_ref().map(ToString::to_string).unwrap_or_default(),
        caller: change.caller.as_deref().unwrap_or_default().to_owned(),
        more: change.more,
    }
}

/// A version of a path.
pub(crate) fn version(version: &FileVersion) -> proto::FileVersion {
    let kind = match version.kind {
        VersionKind::Created => file_version::Kind::Created,
        VersionKind::Written => file_version::Kind::Written,
        VersionKind::MovedHere => file_version::Kind::MovedHere,
        VersionKind::MovedAway => file_version::Kind::MovedAway,
        VersionKind::Deleted => file_version::Kind::Deleted,
        VersionKind::Found => file_version::Kind::Found,
    };
    let digest = |content: &KeptContent| Bytes::copy_from_slice(&content.digest);
    proto::FileVersion {
        version: version.version,
        path: version.path.to_string(),
        kind: kind.into(),
        other_path: version.other.as_ref().map(ToString::to_string).unwrap_or_default(),
        writer: version.writer,
        modified: Some(timestamp(version.mtime)),
        caller: version.caller.as_deref().unwrap_or_default().to_owned(),
        size: version.content.map_or(0, |content| content.size as u64),
        sha256: version.content.as_ref().map(digest).unwrap_or_default(),
        content_kept: version.content.is_some(),
    }
}

/// The sign that everything must be read again.
pub(crate) fn reloaded(version: u64) -> proto::Change {
    proto::Change { kind: change::Kind::Reloaded.into(), version, ..proto::Change::default() }
}

/// Whether a change is of interest below a prefix, before or after it.
pub(crate) fn concerns(change: &Change, prefix: &ConfigPath) -> bool {
    is_below(&change.path, prefix) || change.from.as_ref().is_some_and(|from| is_below(from, prefix))
}

/// Whether a path is the prefix or lies below it.
pub(crate) fn is_below(path: &ConfigPath, prefix: &ConfigPath) -> bool {
    let mut names = path.names();
    prefix.names().all(|name| names.next() == Some(name))
}

/// What a replica does, for clients.
pub(crate) fn state(state: State) -> get_status_response::State {
    use get_status_response::State as Wire;
    match state {
        State::Local => Wire::Standalone,
        State::Alone | State::NotQuorate => Wire::ReadOnly,
        State::Synchronising => Wire::Synchronising,
        State::Synced => Wire::Synchronised,
        State::Failed => Wire::Failed,
    }
}

/// From the text of W3C trace context to what travels in an operation.
pub(crate) fn trace_context(traceparent: &str) -> Option<TraceContext> {
    let context = quorate_daemon::trace_context::parse(traceparent)?;
    Some(TraceContext {
        trace_id: context.trace_id().to_bytes(),
        span_id: context.span_id().to_bytes(),
        flags: context.trace_flags().to_u8(),
    })
}

/// The reverse of [`trace_context`].
pub(crate) fn traceparent(context: &TraceContext) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("00-{}-{}-{:02x}", hex(&context.trace_id), hex(&context.span_id), context.flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_told_as_of_then_though_others_have_written_it_since() {
        let path: ConfigPath = "storage.cfg".parse().expect("a path");
        let mut tree = Tree::new();
        let put = |content: &'static [u8]| config_store_core::Operation::Put {
            path: path.clone(),
            expect: config_store_core::Expect::Any,
            content: bytes::Bytes::from_static(content),
        };
        let first = tree.apply(1, 10, &put(b"one")).expect("allowed");
        let version = tree.version();
        tree.apply(2, 20, &put(b"and two")).expect("allowed");
        let change = Change {
            version,
            kind: ChangeKind::Created(Kind::File),
            path: path.clone(),
            from: None,
            inode: first.inode,
            removed: None,
            writer: 1,
            mtime: 10,
            caller: None,
            more: false,
        };

        let told = written(&change, Some(3), tree.entry(first.inode)).expect("it was there");
        assert_eq!((told.version, told.size, told.writer), (version, 3, 1));
        let told = written(&change, Some(3), None).expect("it was there");
        assert_eq!((told.version, told.kind()), (version, EntryKind::File));
        let told = super::change(&change, &tree).entry.expect("an entry");
        assert_eq!((told.version, told.writer), (version, 1));
        assert_eq!(written(&Change { kind: ChangeKind::Deleted, ..change }, None, None), None);
    }

    #[test]
    fn a_prefix_covers_whole_names_only() {
        let path = |text: &str| text.parse::<ConfigPath>().expect("a path");
        assert!(is_below(&path("nodes/hp1/config"), &path("nodes/hp1")));
        assert!(is_below(&path("nodes"), &ConfigPath::root()));
        assert!(is_below(&path("nodes"), &path("nodes")));
        assert!(!is_below(&path("nodes-old"), &path("nodes")));
    }

    #[test]
    fn a_trace_context_survives_the_way_through_an_operation() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = trace_context(text).expect("valid");
        assert_eq!(traceparent(&context), text);
    }
}
