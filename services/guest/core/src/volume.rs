//! Names of volumes: `local:100/vm-100-disk-0.raw`.
//!
//! On a directory storage images lie in `images/VMID/`, ISO images in `template/iso/`.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::vmid::Vmid;

/// A volume: the storage, and its name on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId {
    storage: String,
    name: String,
}

/// Why a text is no volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no volume: that is STORAGE:VMID/NAME.raw, STORAGE:VMID/NAME.qcow2 or STORAGE:iso/NAME.iso")]
pub struct VolumeError(String);

/// How a volume's file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes as they are.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

impl Format {
    /// Its name for QEMU, and the ending of files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl FromStr for Format {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        match text {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err(VolumeError(text.to_owned())),
        }
    }
}

impl VolumeId {
    /// The name of a guest's disk of this number.
    #[must_use]
    pub fn disk(storage: &str, vmid: Vmid, number: u32, format: Format) -> Self {
        let name = format!("{vmid}/vm-{vmid}-disk-{number}.{}", format.name());
        Self { storage: storage.to_owned(), name }
    }

    /// The storage.
    #[must_use]
    pub fn storage(&self) -> &str {
        &self.storage
    }

    /// The name on it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is an ISO image: never written, owned by no guest.
    #[must_use]
    pub fn is_iso(&self) -> bool {
        self.name.starts_with("iso/")
    }

    /// The guest that owns it, by its name.
    #[must_use]
    pub fn owner(&self) -> Option<Vmid> {
        self.name.split_once('/')?.0.parse().ok()
    }

    /// Its format, by its name.
    #[must_use]
    pub fn format(&self) -> Format {
        if self.name.ends_with(".qcow2") { Format::Qcow2 } else { Format::Raw }
    }

    /// Where it lies below the storage's directory.
    #[must_use]
    pub fn relative_path(&self) -> PathBuf {
        PathBuf::from(if self.is_iso() { "template" } else { "images" }).join(&self.name)
    }
}

impl FromStr for VolumeId {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        let parts = text.split_once(':').and_then(|(storage, name)| Some((storage, name.split_once('/')?)));
        let Some((storage, (folder, file))) = parts else { return Err(VolumeError(text.to_owned())) };
        let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
        let fits = match folder {
            "iso" => matches!(ending, "iso" | "img"),
            _ => folder.parse::<Vmid>().is_ok() && matches!(ending, "raw" | "qcow2"),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
        let is_file = !file.starts_with('.') && file.bytes().all(plain) && file.len() <= 200;
        if fits && is_file && is_storage_name(storage) {
            return Ok(Self { storage: storage.to_owned(), name: format!("{folder}/{file}") });
        }
        Err(VolumeError(text.to_owned()))
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.storage, self.name)
    }
}

/// Whether a storage may be called so: a letter, then letters, digits, `-`, `_`, `.`.
#[must_use]
pub fn is_storage_name(text: &str) -> bool {
    let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.len() <= 100 && text.bytes().all(goes_on)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_disk_knows_its_owner_format_and_place() {
        let disk: VolumeId = "local:100/vm-100-disk-0.qcow2".parse().unwrap();
        assert_eq!(disk.owner().map(Vmid::get), Some(100));
        assert_eq!(disk.format(), Format::Qcow2);
        assert_eq!(disk.relative_path(), PathBuf::from("images/100/vm-100-disk-0.qcow2"));
        let iso: VolumeId = "local:iso/debian-12.iso".parse().unwrap();
        assert_eq!((iso.owner(), iso.is_iso()), (None, true));
        assert_eq!(iso.relative_path(), PathBuf::from("template/iso/debian-12.iso"));
    }

    #[test]
    fn no_name_leads_out_of_the_storage() {
        for bad in [
            "",
            "local",
            "local:",
            "local:x.raw",
            "local:../x.raw",
            "local:100/../x.raw",
            "local:100/a/b.raw",
            "local:100/.raw",
            "local:99/x.raw",
            "lo cal:100/x.raw",
            "/etc/passwd",
            "local:100/x.vmdk",
            "local:iso/x.raw",
            "local:100/x,y.raw",
        ] {
            assert!(bad.parse::<VolumeId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_volume_is_printed_as_it_was_and_stays_below(text in "[a-z:/.0-9]{0,20}|local:1[0-9]{2}/[a-z.]{1,8}(raw|qcow2)") {
            if let Ok(volume) = text.parse::<VolumeId>() {
                prop_assert_eq!(volume.to_string(), text);
                prop_assert!(volume.relative_path().components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }
}
