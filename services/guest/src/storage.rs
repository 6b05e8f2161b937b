//! Volumes on directory storages.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use guest_core::{
    StorageConfig, VmConfig, Vmid, VolumeId, command_line, storage::Storage as Entry, volume::Format,
};
use nix::sys::statvfs::statvfs;
use quorate_proto::guest::v1::{Storage, Volume};
use tokio::process::Command;

use crate::{error::Error, guests::Guests};

/// The program that makes and reads images.
const QEMU_IMG: &str = "qemu-img";
/// Numbers of disks of one guest.
const DISKS_MAX: u32 = 1000;
/// Bytes of a block of `stat`.
const BLOCK: u64 = 512;

impl Guests {
    async fn storage_config(&self) -> Result<StorageConfig, Error> {
        match self.tree.read("storage.cfg").await? {
            Some(file) => Ok(StorageConfig::parse(&file.content)?),
            None => Ok(StorageConfig::default()),
        }
    }

    /// A storage's directory on this node, and whether all nodes see the same.
    async fn directory_of(&self, name: &str) -> Result<(PathBuf, bool), Error> {
        let config = self.storage_config().await?;
        let entry = config.get(name).ok_or_else(|| Error::StorageUnknown(name.to_owned()))?;
        let unusable = |reason: String| Error::StorageUnusable { name: name.to_owned(), reason };
        if !entry.is_for(&self.node) {
            return Err(unusable("storage.cfg disables it, or does not name this node".to_owned()));
        }
        let path = self.path_of(entry).map_err(unusable)?;
        Ok((path, entry.is_shared()))
    }

    /// Paths in the tree are those of a node; nodes that share a machine have them below their roots.
    fn path_of(&self, entry: &Entry) -> Result<PathBuf, String> {
        let path = entry.path().ok_or_else(|| {
            format!("storages of the type '{}' are not supported, only those with a path", entry.kind)
        })?;
        let plain = Path::new(path);
        let goes_up = plain.components().any(|part| part == std::path::Component::ParentDir);
        match plain.strip_prefix("/") {
            Ok(relative) if !goes_up => Ok(self.root.as_path().join(relative)),
            _ => Err(format!("its path '{path}' is not absolute, or has '..' in it")),
        }
    }

    /// Where a volume lies, or would lie.
    pub(crate) async fn volume_path(&self, volume: &VolumeId) -> Result<PathBuf, Error> {
        Ok(self.directory_of(volume.storage()).await?.0.join(volume.relative_path()))
    }

    /// The storages of `storage.cfg` as this node sees them, by name.
    pub(crate) async fn storages(&self) -> Result<Vec<Storage>, Error> {
        let config = self.storage_config().await?;
        let mut storages: Vec<Storage> = config.all().iter().map(|entry| self.describe(entry)).collect();
        storages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(storages)
    }

    fn describe(&self, entry: &Entry) -> Storage {
        let mut storage = Storage {
            name: entry.name.clone(),
            r#type: entry.kind.clone(),
            content: entry.content().into_iter().map(str::to_owned).collect(),
            shared: entry.is_shared(),
            ..Storage::default()
        };
        let usable = match self.path_of(entry) {
            Err(reason) => Err(reason),
            Ok(_) if !entry.is_for(&self.node) => Err("it is not for this node".to_owned()),
            Ok(path) => {
                storage.path = path.display().to_string();
                existing_parent(&path)
                    .and_then(|there| Ok(statvfs(&there)?))
                    .map_err(|error| error.to_string())
            }
        };
        match usable {
            Ok(space) => {
                storage.active = true;
                storage.total_bytes = space.blocks() * space.fragment_size();
                storage.free_bytes = space.blocks_available() * space.fragment_size();
            }
            Err(reason) => storage.problem = reason,
        }
        storage
    }

    /// Makes a volume.
    pub(crate) async fn allocate(
        &self,
        storage: &str,
        vmid: Vmid,
        bytes: u64,
        format: Option<Format>,
        name: &str,
    ) -> Result<Volume, Error> {
        if bytes == 0 || !bytes.is_multiple_of(512) {
            return Err(Error::Field {
                field: "virtual_bytes",
                reason: "a multiple of 512, more than 0".to_owned(),
            });
        }
        let (directory, _) = self.directory_of(storage).await?;
        let (volume, path) = if name.is_empty() {
            reserve_next(&directory, storage, vmid, format.unwrap_or(Format::Raw))?
        } else {
            let volume: VolumeId = format!("{storage}:{name}").parse()?;
            if volume.owner() != Some(vmid) || format.is_some_and(|format| format != volume.format()) {
                return Err(Error::Field {
                    field: "name",
                    reason: "another guest's, or another format".to_owned(),
                });
            }
            let path = directory.join(volume.relative_path());
            reserve(&path).map_err(|error| exists_or(error, &volume, &path))?;
            (volume, path)
        };
        let size = bytes.to_string();
        let arguments = ["create", "-q", "-f", volume.format().name()];
        let mut command = Command::new(QEMU_IMG);
        command.args(arguments).arg(&path).arg(&size);
        if let Err(error) = output(&volume, &mut command).await {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        tracing::info!(%volume, bytes, "volume made");
        self.volume(&volume).await
    }

    /// Facts of a volume.
    pub(crate) async fn volume(&self, volume: &VolumeId) -> Result<Volume, Error> {
        let (directory, shared) = self.directory_of(volume.storage()).await?;
        let path = directory.join(volume.relative_path());
        let facts = match fs::metadata(&path) {
            Ok(facts) => facts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::VolumeUnknown(volume.to_string()));
            }
            Err(source) => return Err(Error::File { path, source }),
        };
        let virtual_bytes = match volume.format() {
            Format::Raw => facts.len(),
            Format::Qcow2 => qcow2_size(volume, &path).await?,
        };
        Ok(Volume {
            volume_id: volume.to_string(),
            path: path.display().to_string(),
            format: volume.format().name().to_owned(),
            virtual_bytes,
            file_bytes: facts.len(),
            allocated_bytes: facts.blocks() * BLOCK,
            vmid: volume.owner().map_or(0, Vmid::get),
            shared,
        })
    }

    /// The volumes on a storage, of one guest or of all, by name.
    pub(crate) async fn volumes(&self, storage: &str, vmid: Option<Vmid>) -> Result<Vec<Volume>, Error> {
        let (directory, _) = self.directory_of(storage).await?;
        let images = directory.join("images");
        let folders = match vmid {
            Some(vmid) => vec![vmid.to_string()],
            None => names(&images),
        };
        let mut found = Vec::new();
        for folder in folders {
            for file in names(&images.join(&folder)) {
                let Ok(volume) = format!("{storage}:{folder}/{file}").parse::<VolumeId>() else { continue };
                found.push(self.volume(&volume).await?);
            }
        }
        found.sort_by(|a, b| a.volume_id.cmp(&b.volume_id));
        Ok(found)
    }

    /// Deletes a volume; says whether there was one.
    pub(crate) async fn free(&self, volume: &VolumeId) -> Result<bool, Error> {
        if volume.is_iso() {
            return Err(Error::Field {
                field: "volume_id",
                reason: "an ISO image belongs to no guest".to_owned(),
            });
        }
        self.check_unused(volume).await?;
        let path = self.volume_path(volume).await?;
        match fs::remove_file(&path) {
            Ok(()) => tracing::info!(%volume, "volume deleted"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(Error::File { path, source }),
        }
        if let Some(folder) = path.parent() {
            // Other disks of the guest may be in it.
            let _ = fs::remove_dir(folder);
        }
        Ok(true)
    }

    /// Refuses a volume that a guest with a process on this node may have open.
    async fn check_unused(&self, volume: &VolumeId) -> Result<(), Error> {
        for machine in self.machines() {
            let uses = machine.vmid == volume.owner().unwrap_or(machine.vmid)
                || self.read(machine.vmid).await.is_ok_and(|read| volumes_of(&read.config).contains(volume));
            if uses {
                return Err(Error::VolumeInUse(volume.to_string()));
            }
        }
        Ok(())
    }
}

/// The volumes that a configuration names, unused ones included, ISO images left out.
pub(crate) fn volumes_of(config: &VmConfig) -> Vec<VolumeId> {
    let drives = command_line::drives(config).unwrap_or_default().into_iter();
    let drives = drives.filter_map(|drive| drive.volume().cloned());
    let unused = config.values().filter(|(key, _)| key.starts_with("unused"));
    let unused = unused.filter_map(|(_, value)| value.parse().ok());
    drives.chain(unused).filter(|volume| !volume.is_iso()).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The nearest directory above that exists: where a storage that has not been used yet will be.
fn existing_parent(path: &Path) -> io::Result<PathBuf> {
    let found = path.ancestors().find(|path| path.is_dir());
    found.map(Path::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Makes an empty file that was not there.
fn reserve(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(path).map(drop)
}

fn exists_or(error: io::Error, volume: &VolumeId, path: &Path) -> Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => Error::VolumeExists(volume.to_string()),
        _ => Error::File { path: path.to_owned(), source: error },
    }
}

/// Makes an empty file with the guest's next free name.
fn reserve_next(
    directory: &Path,
    storage: &str,
    vmid: Vmid,
    format: Format,
) -> Result<(VolumeId, PathBuf), Error> {
    let taken = names(&directory.join("images").join(vmid.to_string()));
    for number in 0..DISKS_MAX {
        let stem = format!("vm-{vmid}-disk-{number}.");
        if taken.iter().any(|name| name.starts_with(&stem)) {
            continue;
        }
        let volume = VolumeId::disk(storage, vmid, number, format);
        let path = directory.join(volume.relative_path());
        match reserve(&path) {
            Ok(()) => return Ok((volume, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::File { path, source }),
        }
    }
    Err(Error::Field { field: "storage", reason: format!("guest {vmid} has {DISKS_MAX} disks there") })
}

async fn output(volume: &VolumeId, command: &mut Command) -> Result<Vec<u8>, Error> {
    let failed = |reason: String| Error::VolumeFailed { volume: volume.to_string(), reason };
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| {
        failed(format!("cannot run {QEMU_IMG}: {error}; is the package qemu-utils installed?"))
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

async fn qcow2_size(volume: &VolumeId, path: &Path) -> Result<u64, Error> {
    let mut command = Command::new(QEMU_IMG);
    command.args(["info", "--output=json", "-U", "-f", "qcow2"]).arg(path);
    let answer = output(volume, &mut command).await?;
    let facts: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    let size = facts["virtual-size"].as_u64();
    size.ok_or_else(|| Error::VolumeFailed {
        volume: volume.to_string(),
        reason: format!("{QEMU_IMG} tells no size"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_free_name_is_taken_and_never_twice() {
        let dir = tempfile::tempdir().unwrap();
        let vmid = Vmid::try_from(100).unwrap();
        let next = |format| reserve_next(dir.path(), "local", vmid, format).unwrap().0.to_string();
        assert_eq!(next(Format::Raw), "local:100/vm-100-disk-0.raw");
        assert_eq!(next(Format::Qcow2), "local:100/vm-100-disk-1.qcow2");
        fs::remove_file(dir.path().join("images/100/vm-100-disk-0.raw")).unwrap();
        assert_eq!(next(Format::Qcow2), "local:100/vm-100-disk-0.qcow2");
        assert_eq!(next(Format::Raw), "local:100/vm-100-disk-2.raw");
    }

    #[test]
    fn a_guests_volumes_are_its_disks_and_what_it_does_not_use() {
        let config = VmConfig::parse(
            b"ide2: local:iso/a.iso,media=cdrom\nunused0: local:100/b.raw\nvirtio0: local:100/a.raw\n",
        )
        .unwrap();
        let volumes: Vec<String> = volumes_of(&config).iter().map(ToString::to_string).collect();
        assert_eq!(volumes, ["local:100/a.raw", "local:100/b.raw"]);
    }
}
