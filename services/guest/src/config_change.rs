//! Create, set, unlock, destroy: what changes a configuration.

use std::{fmt::Write as _, sync::Arc};

use guest_core::{
    Drive, VmConfig, Vmid, VolumeId,
    drive::{Medium, Slot},
    keys,
    network::{self, Card},
    property,
};
use quorate_proto::{
    config::v1::transact_operation::{Delete, Operation},
    guest::v1::ConfigEntry,
};
use sha1::{Digest as _, Sha1};

use crate::{
    error::Error,
    guests::{Guests, Read},
    life_cycle::check_lock,
    storage::volumes_of,
    tree::{INFO, is_version_mismatch},
};

/// GiB in thousandths.
const THOUSANDTH_GIB: u64 = (1 << 30) / 1000;
/// Sizes of new disks are multiples of this.
const GRAIN: u64 = 1 << 20;

/// What a change did.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Keys that wait for the next start.
    pub(crate) pending: Vec<String>,
    /// Digest of the new file.
    pub(crate) digest: String,
}

/// SHA-1 of a file, in hex: what callers compare.
pub(crate) fn digest(text: &[u8]) -> String {
    Sha1::digest(text).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Refuses keys and values that cannot be.
fn check(entries: &[ConfigEntry]) -> Result<(), Error> {
    for ConfigEntry { key, value } in entries {
        keys::check(key, value)?;
    }
    Ok(())
}

impl Guests {
    /// Makes a guest and its disks.
    pub(crate) async fn create(&self, vmid: Vmid, entries: &[ConfigEntry]) -> Result<(), Error> {
        check(entries)?;
        let _turn = self.turn(vmid).await;
        if let Some(place) = self.tree.place(vmid).await? {
            return Err(Error::Exists { vmid: vmid.get(), node: place.node });
        }
        let mut config = VmConfig::default();
        config.set("lock", "create");
        // The tree refuses a number that any node has: whoever wrote first has the guest.
        let path = self.config_path(vmid);
        let version = self
            .tree
            .put(&path, config.to_string(), 0)
            .await
            .map_err(|status| exists(vmid, &self.node, status))?;
        let mut made = Vec::new();
        let filled = self.fill(vmid, &mut config, entries, &mut made).await;
        config.remove("lock");
        let written = match filled {
            Ok(()) => self.tree.put(&path, config.to_string(), version).await.map(drop).map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            self.take_back(&made).await;
            let _ = self.tree.delete(&path, version).await;
            return Err(error);
        }
        self.changed(vmid);
        self.tree.log(INFO, format!("guest {vmid} was made")).await;
        Ok(())
    }

    async fn fill(
        &self,
        vmid: Vmid,
        config: &mut VmConfig,
        entries: &[ConfigEntry],
        made: &mut Vec<VolumeId>,
    ) -> Result<(), Error> {
        for ConfigEntry { key, value } in entries {
            config.set(key, &self.completed(vmid, key, value, made).await?);
        }
        Ok(())
    }

    async fn take_back(&self, made: &[VolumeId]) {
        for volume in made {
            if let Err(error) = self.free(volume).await {
                tracing::warn!(%volume, %error, "left behind");
            }
        }
    }

    /// A value with what is to be made for it: a new disk, an address of a card.
    async fn completed(
        &self,
        vmid: Vmid,
        key: &str,
        value: &str,
        made: &mut Vec<VolumeId>,
    ) -> Result<String, Error> {
        if let Some(number) = network::number_of(key) {
            let card = Card::parse(number, value)
                .map_err(|source| guest_core::command_line::ReadError::Card { number, source })?;
            let address = card.mac.clone().unwrap_or_else(|| network::address_of(rand::random()));
            return Ok(card.with_address(&address));
        }
        let Some(slot) = Slot::of(key) else { return Ok(value.trim().to_owned()) };
        let drive = Drive::parse(slot, value)
            .map_err(|source| guest_core::command_line::ReadError::Drive { slot, source })?;
        let Medium::New { storage, size } = &drive.medium else {
            if let Some(volume) = drive.volume() {
                self.volume(volume).await?;
            }
            return Ok(drive.to_string());
        };
        let format = drive.options.get("format").map(str::parse).transpose()?;
        let bytes = (size * THOUSANDTH_GIB).next_multiple_of(GRAIN);
        let volume = self.allocate(storage, vmid, bytes, format, "").await?;
        let id: VolumeId = volume.volume_id.parse()?;
        made.push(id.clone());
        Ok(drive.with_volume(id, Some(&property::print_size(bytes))).to_string())
    }

    /// Changes a configuration.
    pub(crate) async fn set_config(
        &self,
        vmid: Vmid,
        entries: &[ConfigEntry],
        delete: &[String],
        seen: &str,
        skip_lock: bool,
    ) -> Result<Changed, Error> {
        check(entries)?;
        delete.iter().try_for_each(|key| keys::check_delete(key))?;
        let _turn = self.turn(vmid).await;
        let mut read = self.read_newest(vmid).await?;
        if !seen.is_empty() && seen != digest(&read.text) {
            return Err(Error::Digest(vmid.get()));
        }
        check_lock(vmid, &read.config, skip_lock)?;
        let runs = self.machine(vmid).is_some();
        let mut made = Vec::new();
        let mut completed = Vec::new();
        for ConfigEntry { key, value } in entries {
            match self.completed(vmid, key, value, &mut made).await {
                Ok(value) => completed.push((key.as_str(), value)),
                Err(error) => {
                    self.take_back(&made).await;
                    return Err(error);
                }
            }
        }
        delete.iter().for_each(|key| remove(&mut read.config, key, runs));
        completed.iter().for_each(|(key, value)| set(&mut read.config, key, value, runs));
        let pending = read.config.pending_keys();
        let text = read.config.to_string();
        let digest = digest(text.as_bytes());
        if let Err(error) = self.write(vmid, &read, text).await {
            self.take_back(&made).await;
            return Err(error);
        }
        Ok(Changed { pending, digest })
    }

    /// Writes a configuration if it is still what was read.
    pub(crate) async fn write(&self, vmid: Vmid, read: &Read, text: String) -> Result<(), Error> {
        if text.as_bytes() == read.text {
            return Ok(());
        }
        let put = self.tree.put(&self.config_path(vmid), text, read.version).await;
        put.map_err(
            |status| if is_version_mismatch(&status) { Error::Digest(vmid.get()) } else { status.into() },
        )?;
        self.changed(vmid);
        Ok(())
    }

    /// Removes the lock; says which one there was.
    pub(crate) async fn unlock(&self, vmid: Vmid) -> Result<String, Error> {
        let _turn = self.turn(vmid).await;
        let mut read = self.read_newest(vmid).await?;
        let lock = read.config.remove("lock").unwrap_or_default();
        read.config.remove("migrationid");
        let text = read.config.to_string();
        self.write(vmid, &read, text).await?;
        Ok(lock)
    }

    /// Removes a guest and its disks; gives the volumes that were deleted.
    pub(crate) async fn destroy(
        self: &Arc<Self>,
        vmid: Vmid,
        unreferenced: bool,
        skip_lock: bool,
    ) -> Result<Vec<String>, Error> {
        let _turn = self.turn(vmid).await;
        let read = self.read_newest(vmid).await?;
        if self.machine(vmid).is_some() {
            return Err(Error::Running(vmid.get()));
        }
        check_lock(vmid, &read.config, skip_lock)?;
        if read.config.flag("protection") {
            return Err(Error::Protected(vmid.get()));
        }
        let mut volumes: Vec<VolumeId> =
            volumes_of(&read.config).into_iter().filter(|volume| volume.owner() == Some(vmid)).collect();
        if unreferenced {
            volumes.extend(self.unreferenced(vmid, &volumes).await?);
        }
        // First the configuration: a guest without disks could not be told from one whose disks are lost.
        let delete = Delete { path: self.config_path(vmid), expected_version: Some(read.version) };
        self.tree.transact(vec![Operation::Delete(delete)]).await?;
        let mut freed = Vec::new();
        for volume in volumes {
            match self.free(&volume).await {
                Ok(true) => freed.push(volume.to_string()),
                Ok(false) => {}
                Err(error) => tracing::error!(%volume, %error, "left behind"),
            }
        }
        self.changed(vmid);
        self.tree.log(INFO, format!("guest {vmid} was removed")).await;
        Ok(freed)
    }

    async fn unreferenced(&self, vmid: Vmid, known: &[VolumeId]) -> Result<Vec<VolumeId>, Error> {
        let mut found = Vec::new();
        for storage in self.storages().await?.into_iter().filter(|storage| storage.active) {
            let volumes = self.volumes(&storage.name, Some(vmid)).await?;
            found.extend(volumes.into_iter().filter_map(|volume| volume.volume_id.parse().ok()));
        }
        found.retain(|volume| !known.contains(volume));
        Ok(found)
    }
}

fn exists(vmid: Vmid, node: &str, status: tonic::Status) -> Error {
    match status.code() {
        tonic::Code::AlreadyExists => Error::Exists { vmid: vmid.get(), node: "another one".to_owned() },
        _ if is_version_mismatch(&status) => Error::Exists { vmid: vmid.get(), node: node.to_owned() },
        _ => status.into(),
    }
}

fn set(config: &mut VmConfig, key: &str, value: &str, runs: bool) {
    if runs && !keys::takes_effect_at_once(key) {
        return config.set_pending(key, value);
    }
    let replaced = volume_at(config, key);
    config.set(key, value);
    keep(config, replaced);
}

fn remove(config: &mut VmConfig, key: &str, runs: bool) {
    if runs && !keys::takes_effect_at_once(key) {
        return config.remove_pending(key);
    }
    let replaced = volume_at(config, key);
    config.remove(key);
    keep(config, replaced);
}

/// The volume of a disk; `None` for other keys and ISO images.
fn volume_at(config: &VmConfig, key: &str) -> Option<VolumeId> {
    let drive = Slot::of(key).and_then(|slot| Drive::parse(slot, config.get(key)?).ok())?;
    drive.volume().filter(|volume| !volume.is_iso()).cloned()
}

/// The volume of a disk that was taken away stays the guest's, as `unusedN`. One whose options alone were changed is in use.
fn keep(config: &mut VmConfig, replaced: Option<VolumeId>) {
    let Some(volume) = replaced.filter(|volume| !volumes_of(config).contains(volume)) else { return };
    let free = (0..256).map(|number| format!("unused{number}")).find(|key| config.get(key).is_none());
    if let Some(free) = free {
        config.set(&free, &volume.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> VmConfig {
        VmConfig::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_volume_of_a_disk_that_is_taken_away_stays_the_guests() {
        let mut config = config("virtio0: local:100/a.raw,size=1G\n");
        remove(&mut config, "virtio0", false);
        assert_eq!(config.to_string(), "unused0: local:100/a.raw\n");
    }

    #[test]
    fn a_disk_whose_options_alone_are_changed_is_not_unused() {
        let mut config = config("virtio0: local:100/a.raw,size=1G\n");
        set(&mut config, "virtio0", "local:100/a.raw,shared=1", false);
        assert_eq!(config.to_string(), "virtio0: local:100/a.raw,shared=1\n");
        set(&mut config, "virtio0", "local:100/b.raw", false);
        assert_eq!(config.to_string(), "unused0: local:100/a.raw\nvirtio0: local:100/b.raw\n");
    }

    #[test]
    fn a_running_guest_is_changed_at_its_next_start_but_for_what_qemu_is_not_told() {
        let mut config = config("memory: 16\nname: a\n");
        set(&mut config, "memory", "32", true);
        set(&mut config, "name", "b", true);
        assert_eq!(config.to_string(), "memory: 16\nname: b\n\n[PENDING]\nmemory: 32\n");
    }

    #[test]
    fn a_digest_is_sha1_in_hex() {
        assert_eq!(digest(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
