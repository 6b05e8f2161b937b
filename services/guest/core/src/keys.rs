//! Which keys may be set, to what, and which of them take effect while the guest runs.

use crate::{
    config::is_key,
    drive::{Drive, Slot},
    network::{self, Card},
    property::{Properties, boolean},
    startup::Startup,
    volume::VolumeId,
};

/// Keys that QEMU is not told: they take effect at once.
const AT_ONCE: [&str; 13] = [
    "name",
    "description",
    "onboot",
    "startup",
    "tags",
    "protection",
    "lock",
    "migrate_speed",
    "migrate_downtime",
    "hookscript",
    "template",
    "ostype",
    "migrationid",
];
/// Keys that only the daemons set.
const OURS: [&str; 8] =
    ["digest", "migrationid", "parent", "snaptime", "snapstate", "vmstate", "runningmachine", "runningcpu"];

/// Why a key cannot be set to a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct KeyError {
    /// The key.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// Whether a change of this key takes effect while the guest runs.
#[must_use]
pub fn takes_effect_at_once(key: &str) -> bool {
    AT_ONCE.contains(&key) || key.starts_with("unused")
}

/// Whether a key may be removed by a user.
///
/// # Errors
/// [`KeyError`].
pub fn check_delete(key: &str) -> Result<(), KeyError> {
    let error = |reason: &str| Err(KeyError { key: key.to_owned(), reason: reason.to_owned() });
    if !is_key(key) {
        return error("no key is called so: small letters, '_', '-', then digits");
    }
    if OURS.contains(&key) { error("only the daemons change it") } else { Ok(()) }
}

/// Whether a key may be set to a value by a user. Keys that are not known may not: they would change nothing.
///
/// # Errors
/// [`KeyError`].
pub fn check(key: &str, value: &str) -> Result<(), KeyError> {
    check_delete(key)?;
    let error = |reason: String| KeyError { key: key.to_owned(), reason };
    if key != "description" && value.contains(['\n', '\r']) || value.contains('\0') {
        return Err(error("a value is one line".to_owned()));
    }
    if value.trim().is_empty() {
        return Err(error("the value is empty; use --delete to remove the key".to_owned()));
    }
    value_fits(key, value.trim()).map_err(error)
}

fn value_fits(key: &str, value: &str) -> Result<(), String> {
    if let Some(slot) = Slot::of(key) {
        return Drive::parse(slot, value).map(drop).map_err(|why| why.to_string());
    }
    if let Some(number) = network::number_of(key) {
        return Card::parse(number, value).map(drop).map_err(|why| why.to_string());
    }
    match key {
        "memory" => number(value, 16, 4 << 20, "MiB"),
        "cores" | "sockets" => number(value, 1, 512, "processors"),
        "vcpus" => number(value, 1, 4096, "processors"),
        "migrate_speed" => number(value, 0, 1 << 30, "MB/s"),
        "migrate_downtime" => seconds(value),
        "onboot" | "protection" | "kvm" | "acpi" | "tablet" | "numa" | "template" | "freeze" => flag(value),
        "name" => name(value),
        "startup" => Startup::parse(value).map(drop).map_err(|why| why.to_string()),
        "boot" | "cpu" | "agent" | "smbios1" => properties(key, value),
        "bootdisk" => Slot::of(value).map(drop).ok_or_else(|| format!("'{value}' is no drive")),
        "scsihw" => {
            one_of(value, &["lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"])
        }
        "vga" => vga(value),
        "serial0" | "serial1" | "serial2" | "serial3" => one_of(value, &["socket"]),
        "machine" | "args" | "description" | "ostype" | "tags" | "hookscript" | "vmgenid" | "bios" => Ok(()),
        "lock" => one_of(
            value,
            &[
                "backup",
                "clone",
                "create",
                "migrate",
                "rollback",
                "snapshot",
                "snapshot-delete",
                "suspending",
                "suspended",
            ],
        ),
        _ if unused(key) => value.parse::<VolumeId>().map(drop).map_err(|why| why.to_string()),
        _ => Err("no such key; those of qm.conf that can be set are in docs/operations/guests.md".to_owned()),
    }
}

fn unused(key: &str) -> bool {
    key.strip_prefix("unused").and_then(|number| number.parse::<u8>().ok()).is_some()
}

fn number(value: &str, min: u64, max: u64, unit: &str) -> Result<(), String> {
    let fits = value.parse::<u64>().is_ok_and(|number| (min..=max).contains(&number));
    if fits { Ok(()) } else { Err(format!("'{value}' is no number of {unit} from {min} to {max}")) }
}

fn seconds(value: &str) -> Result<(), String> {
    let fits = value.parse::<f64>().is_ok_and(|seconds| (0.0..=2000.0).contains(&seconds));
    if fits { Ok(()) } else { Err(format!("'{value}' is no number of seconds up to 2000")) }
}

fn flag(value: &str) -> Result<(), String> {
    boolean(value).map(drop).ok_or_else(|| format!("'{value}' is neither 0 nor 1"))
}

fn one_of(value: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&value) { Ok(()) } else { Err(format!("'{value}' is none of {}", known.join(", "))) }
}

fn vga(value: &str) -> Result<(), String> {
    let properties = Properties::parse(value, Some("type")).map_err(|why| why.to_string())?;
    one_of(
        properties.get("type").unwrap_or("std"),
        &["std", "none", "cirrus", "vmware", "qxl", "virtio", "serial0"],
    )
}

fn properties(key: &str, value: &str) -> Result<(), String> {
    let default = match key {
        "boot" => "legacy",
        "cpu" => "cputype",
        "agent" => "enabled",
        _ => "uuid",
    };
    Properties::parse(value, Some(default)).map(drop).map_err(|why| why.to_string())
}

/// A DNS name: what the guest may be called.
fn name(value: &str) -> Result<(), String> {
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    if value.len() <= 253 && value.split('.').all(label) {
        return Ok(());
    }
    Err(format!("'{value}' is no DNS name: letters, digits and '-', in parts divided by dots"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_values_are_taken() {
        for (key, value) in [
            ("memory", "16"),
            ("name", "web-1.example.org"),
            ("virtio0", "local:1"),
            ("net0", "virtio,bridge=vmbr0"),
            ("onboot", "1"),
            ("startup", "order=1,up=30"),
            ("args", "-chardev file,id=t,path=serial.log"),
            ("serial0", "socket"),
            ("unused3", "local:100/vm-100-disk-1.raw"),
            ("boot", "order=virtio0;net0"),
        ] {
            assert_eq!(check(key, value), Ok(()), "{key}");
        }
    }

    #[test]
    fn a_bad_value_is_refused_with_key_value_and_reason() {
        let error = |key: &str, value: &str| check(key, value).unwrap_err().to_string();
        assert_eq!(error("memory", "8"), "memory: '8' is no number of MiB from 16 to 4194304");
        assert_eq!(error("onboot", "maybe"), "onboot: 'maybe' is neither 0 nor 1");
        assert_eq!(
            error("name", "a_b"),
            "name: 'a_b' is no DNS name: letters, digits and '-', in parts divided by dots"
        );
        assert!(error("memroy", "512").contains("no such key"));
        assert!(error("digest", "1").contains("only the daemons"));
        assert!(error("tags", "a\nlock: x").contains("one line"));
        assert!(error("name", " ").contains("--delete"));
    }

    #[test]
    fn what_qemu_is_told_waits_for_the_next_start() {
        assert!(takes_effect_at_once("name") && takes_effect_at_once("unused0"));
        assert!(!takes_effect_at_once("memory") && !takes_effect_at_once("virtio0"));
    }
}
