//! A disk's line: `virtio0: local:100/vm-100-disk-0.raw,size=32G,cache=none`.

use std::{fmt, str::FromStr as _};

use crate::{
    property::{Properties, PropertyError, boolean},
    volume::{VolumeError, VolumeId},
};

/// Controllers with the number of disks that each may have. Source: qm.conf.
const BUSES: [(&str, Bus, u32); 4] =
    [("ide", Bus::Ide, 4), ("sata", Bus::Sata, 6), ("scsi", Bus::Scsi, 31), ("virtio", Bus::Virtio, 16)];

/// What a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bus {
    /// IDE.
    Ide,
    /// SATA.
    Sata,
    /// SCSI.
    Scsi,
    /// virtio-blk.
    Virtio,
}

/// Where a disk hangs: the key of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The controller.
    pub bus: Bus,
    /// The number on it.
    pub number: u32,
}

/// What is in a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// Nothing: an empty CD drive.
    Empty,
    /// A volume.
    Volume(VolumeId),
    /// A volume to be made: so many GiB on this storage.
    New {
        /// The storage.
        storage: String,
        /// GiB; thousandths are allowed.
        size: u64,
    },
}

/// A drive of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Where it hangs.
    pub slot: Slot,
    /// What is in it.
    pub medium: Medium,
    /// It is a CD drive.
    pub is_cdrom: bool,
    /// The guest may not write.
    pub is_read_only: bool,
    /// The operator says that all nodes see this volume.
    pub is_shared: bool,
    /// The other settings.
    pub options: Properties,
}

/// Why a line is no drive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// It is no property string.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// It names no volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Nothing is in it.
    #[error("no volume is given")]
    NoVolume,
    /// A setting has a value that it cannot have.
    #[error("'{key}={value}' cannot be: {expected}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

impl Slot {
    /// The slot that a key names, such as `virtio0`.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        let digits = key.find(|c: char| c.is_ascii_digit())?;
        let (name, number) = key.split_at(digits);
        let (_, bus, max) = BUSES.into_iter().find(|(known, ..)| *known == name)?;
        let number = u32::from_str(number).ok().filter(|number| *number < max)?;
        (key == format!("{name}{number}")).then_some(Self { bus, number })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = BUSES.into_iter().find(|(_, bus, _)| *bus == self.bus).map_or("", |(name, ..)| name);
        write!(f, "{name}{}", self.number)
    }
}

impl Drive {
    /// Reads a line's value.
    ///
    /// # Errors
    /// [`DriveError`].
    pub fn parse(slot: Slot, value: &str) -> Result<Self, DriveError> {
        let mut options = Properties::parse(value, Some("file"))?;
        let file = options.take("file").or_else(|| options.take("volume")).ok_or(DriveError::NoVolume)?;
        let is_cdrom = match options.take("media").as_deref() {
            None | Some("disk") => false,
            Some("cdrom") => true,
            Some(other) => return Err(setting("media", other, "disk or cdrom")),
        };
        check(&options)?;
        let medium = medium(&file)?;
        let is_iso = matches!(&medium, Medium::Volume(volume) if volume.is_iso());
        let is_read_only = options.boolean("ro", false)? || is_cdrom || is_iso;
        let is_shared = options.boolean("shared", false)?;
        Ok(Self { slot, medium, is_cdrom, is_read_only, is_shared, options })
    }

    /// The volume in it.
    #[must_use]
    pub fn volume(&self) -> Option<&VolumeId> {
        if let Medium::Volume(volume) = &self.medium { Some(volume) } else { None }
    }

    /// The same with another volume, and its size if that is known.
    #[must_use]
    pub fn with_volume(mut self, volume: VolumeId, size: Option<&str>) -> Self {
        self.medium = Medium::Volume(volume);
        self.options.take("format");
        if let Some(size) = size {
            self.options.take("size");
            let text = format!("size={size}");
            self.options =
                Properties::parse(&format!("{text},{}", self.print_options()), None).unwrap_or(self.options);
        }
        self
    }

    fn print_options(&self) -> String {
        let options: Vec<String> = self.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        options.join(",")
    }

    /// Name of the node of QEMU's block graph that is this disk.
    #[must_use]
    pub fn block_node(&self) -> String {
        format!("drive-{}", self.slot)
    }
}

impl fmt::Display for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.medium {
            Medium::Empty => f.write_str("none")?,
            Medium::Volume(volume) => volume.fmt(f)?,
            Medium::New { storage, size } => write!(f, "{storage}:{}", *size as f64 / 1000.0)?,
        }
        let options = self.print_options();
        if !options.is_empty() {
            write!(f, ",{options}")?;
        }
        if self.is_cdrom { f.write_str(",media=cdrom") } else { Ok(()) }
    }
}

fn setting(key: &'static str, value: &str, expected: &'static str) -> DriveError {
    DriveError::Setting { key, value: value.to_owned(), expected }
}

/// Checks those settings that QEMU is given; others are kept for whoever knows them.
fn check(options: &Properties) -> Result<(), DriveError> {
    let one_of: [(&str, &[&str], &str); 4] = [
        (
            "cache",
            &["none", "directsync", "writethrough", "writeback", "unsafe"],
            "none, directsync, writethrough, writeback or unsafe",
        ),
        ("discard", &["on", "ignore"], "on or ignore"),
        ("format", &["raw", "qcow2"], "raw or qcow2"),
        ("aio", &["threads", "native", "io_uring"], "threads, native or io_uring"),
    ];
    for (key, known, expected) in one_of {
        if let Some(value) = options.get(key).filter(|value| !known.contains(value)) {
            return Err(setting(key, value, expected));
        }
    }
    if let Some(value) = options.get("size").filter(|value| crate::property::size(value).is_none()) {
        return Err(setting("size", value, "a number with K, M, G or T"));
    }
    for key in ["ro", "shared", "iothread", "ssd", "backup", "replicate"] {
        if options.get(key).is_some_and(|value| boolean(value).is_none()) {
            options.boolean(key, false)?;
        }
    }
    Ok(())
}

fn medium(file: &str) -> Result<Medium, DriveError> {
    if file == "none" {
        return Ok(Medium::Empty);
    }
    let new = file.split_once(':').and_then(|(storage, size)| Some((storage, thousandths(size)?)));
    match new {
        Some((storage, size)) if crate::volume::is_storage_name(storage) => {
            Ok(Medium::New { storage: storage.to_owned(), size })
        }
        _ => Ok(Medium::Volume(file.parse()?)),
    }
}

/// Reads a positive number with at most three digits after the point.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 3 || !digits(whole) || !digits(part) || whole.len() > 9 {
        return None;
    }
    let number: u64 = format!("{whole}{part:0<3}").parse().ok()?;
    (number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drive(value: &str) -> Result<Drive, DriveError> {
        Drive::parse(Slot::of("virtio0").unwrap(), value)
    }

    #[test]
    fn slots_have_limits() {
        for good in ["ide3", "sata5", "scsi30", "virtio15"] {
            assert_eq!(Slot::of(good).unwrap().to_string(), good);
        }
        for bad in ["ide4", "sata6", "scsi31", "virtio16", "virtio", "virtio01", "floppy0", "unused0", "0"] {
            assert_eq!(Slot::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_line_is_read_and_written_again() {
        let text = "local:100/vm-100-disk-0.raw,cache=none,future=7,size=32G";
        let read = drive(text).unwrap();
        assert_eq!(read.block_node(), "drive-virtio0");
        assert_eq!(read.to_string(), text);
        let cd = drive("none,media=cdrom").unwrap();
        assert!(cd.is_cdrom && cd.is_read_only && cd.volume().is_none());
        assert_eq!(cd.to_string(), "none,media=cdrom");
        assert!(drive("local:iso/a.iso,media=cdrom").unwrap().is_read_only);
    }

    #[test]
    fn a_size_in_gib_stands_for_a_volume_to_be_made() {
        let size = |text: &str| match drive(text).map(|drive| drive.medium) {
            Ok(Medium::New { size, .. }) => Some(size),
            _ => None,
        };
        assert_eq!(size("local:32,format=qcow2"), Some(32_000));
        assert_eq!(size("local:0.25"), Some(250));
        assert_eq!(size("local:0"), None);
        assert_eq!(size("local:1.2345"), None);
        let made = drive("local:1,format=qcow2,cache=none").unwrap();
        let made = made.with_volume("local:100/vm-100-disk-0.qcow2".parse().unwrap(), Some("1G"));
        assert_eq!(made.to_string(), "local:100/vm-100-disk-0.qcow2,cache=none,size=1G");
    }

    #[test]
    fn what_cannot_be_is_named() {
        let error = |text: &str| drive(text).unwrap_err().to_string();
        assert_eq!(
            error("local:1,cache=fast"),
            "'cache=fast' cannot be: none, directsync, writethrough, writeback or unsafe"
        );
        assert_eq!(error("local:1,media=tape"), "'media=tape' cannot be: disk or cdrom");
        assert!(error("/dev/sda").contains("is no volume"));
        assert_eq!(error("size=1G"), "no volume is given");
    }

    proptest! {
        #[test]
        fn what_is_a_drive_is_written_as_it_is_read(text in "(none|local:[0-9.]{1,4}|local:100/a\\.raw)(,[a-z]{1,6}=[a-z0-9]{1,4}){0,3}|.{0,30}") {
            if let Ok(read) = drive(&text) {
                let again = drive(&read.to_string()).unwrap();
                prop_assert_eq!(again, read);
            }
        }
    }
}
