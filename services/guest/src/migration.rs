//! What a migration needs of a node. Who owns a guest is decided by the replicated configuration alone, never by what a
//! process remembers.

use std::{collections::HashMap, sync::Arc};

use guest_core::{Drive, Lease, VmConfig, Vmid, command_line, drive::Slot, lease};
use quorate_proto::{
    config::v1::transact_operation::{Operation, Put, Rename},
    guest::v1::{
        BeginMigrationResponse, GetOwnerResponse, GuestVolume, StartIncomingRequest, StartIncomingResponse,
    },
};
use serde_json::{Value, json};

use crate::{
    error::Error,
    guests::{Guests, Read, config_path},
    launch::{Launch, block_nodes, launch, now},
    life_cycle::check_lock,
    machine::{self, Machine},
    storage::volumes_of,
    tree::is_version_mismatch,
};

/// The key under which a migration's id stands in the configuration.
const ID: &str = "migrationid";
/// The longest id.
const ID_MAX: usize = 64;

/// Refuses what is no migration's id.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=ID_MAX).contains(&id.len()) && id.bytes().all(plain) {
        return Ok(());
    }
    let reason = format!("1 to {ID_MAX} characters of a-z, 0-9 and '-'");
    Err(Error::Field { field: "migration_id", reason })
}

fn mismatch(vmid: Vmid, reason: impl Into<String>) -> Error {
    Error::Migration { vmid: vmid.get(), reason: reason.into() }
}

fn check_config(vmid: Vmid, config: &VmConfig, id: &str) -> Result<(), Error> {
    match config.get(ID) {
        Some(found) if found == id => Ok(()),
        Some(found) => Err(mismatch(vmid, format!("its configuration names the migration '{found}'"))),
        None => Err(mismatch(vmid, "its configuration names no migration")),
    }
}

impl Guests {
    /// Locks a guest for a migration.
    pub(crate) async fn begin_migration(
        &self,
        vmid: Vmid,
        id: &str,
    ) -> Result<BeginMigrationResponse, Error> {
        check_id(id)?;
        let _turn = self.turn(vmid).await;
        let mut read = self.read_newest(vmid).await?;
        // Whoever asks again, having missed the answer, is told the same.
        if read.config.get(ID) != Some(id) {
            check_lock(vmid, &read.config, false)?;
            read.config.set("lock", "migrate");
            read.config.set(ID, id);
            let text = read.config.to_string();
            self.write(vmid, &read, text).await?;
        }
        let machine = match self.machine(vmid) {
            Some(machine) => machine_type(&machine).await?,
            None => String::new(),
        };
        let volumes = self.guest_volumes(&read.config).await?;
        Ok(BeginMigrationResponse {
            status: Some(self.status(vmid).await?),
            config: read.config.to_string().into_bytes().into(),
            volumes,
            machine,
            obstacles: obstacles(&read.config),
        })
    }

    async fn guest_volumes(&self, config: &VmConfig) -> Result<Vec<GuestVolume>, Error> {
        let drives = command_line::drives(config)?.into_iter();
        let used =
            drives.filter_map(|drive| Some((drive.slot.to_string(), drive.volume()?.clone(), Some(drive))));
        let unused = config.values().filter(|(key, _)| key.starts_with("unused"));
        let unused = unused.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?, None)));
        let mut volumes = Vec::new();
        for (key, volume, drive) in used.chain(unused) {
            let facts = self.volume(&volume).await?;
            let drive: Option<Drive> = drive;
            volumes.push(GuestVolume {
                key,
                volume_id: facts.volume_id,
                virtual_bytes: facts.virtual_bytes,
                file_bytes: facts.file_bytes,
                allocated_bytes: facts.allocated_bytes,
                format: facts.format,
                shared: facts.shared || drive.as_ref().is_some_and(|drive| drive.is_shared),
                read_only: drive.as_ref().is_some_and(|drive| drive.is_read_only),
                block_node: drive.map(|drive| drive.block_node()).unwrap_or_default(),
            });
        }
        Ok(volumes)
    }

    /// Takes the lock back. A guest that is in no migration needs nothing.
    pub(crate) async fn end_migration(&self, vmid: Vmid, id: &str) -> Result<(), Error> {
        let _turn = self.turn(vmid).await;
        let mut read = self.read_newest(vmid).await?;
        if read.config.get(ID).is_none() && read.config.lock() != Some("migrate") {
            return Ok(());
        }
        check_config(vmid, &read.config, id)?;
        self.remove_lock(vmid, &mut read).await
    }

    async fn remove_lock(&self, vmid: Vmid, read: &mut Read) -> Result<(), Error> {
        read.config.remove("lock");
        read.config.remove(ID);
        let text = read.config.to_string();
        self.write(vmid, read, text).await
    }

    /// Starts a QEMU that waits for another node's guest.
    pub(crate) async fn start_incoming(
        self: &Arc<Self>,
        request: StartIncomingRequest,
    ) -> Result<StartIncomingResponse, Error> {
        let vmid = Vmid::try_from(request.vmid)?;
        check_id(&request.migration_id)?;
        let _turn = self.turn(vmid).await;
        if self.machine(vmid).is_some() {
            return Err(Error::Running(vmid.get()));
        }
        let config = VmConfig::parse(&request.config);
        let mut config = config.map_err(|source| Error::Config { vmid: vmid.get(), source })?;
        check_config(vmid, &config, &request.migration_id)?;
        map_volumes(&mut config, &request.volumes)?;
        let machine = Some(request.machine).filter(|machine| !machine.is_empty());
        let what = Launch { vmid, config: &config, machine, incoming: Some(request.migration_id) };
        let machine = launch(self, what).await?;
        Ok(StartIncomingResponse {
            pid: machine.process.pid(),
            block_nodes: block_nodes(&config)?,
            socket_directory: machine.directory.display().to_string(),
        })
    }

    /// Ends a waiting QEMU; says whether there was one, and its error output.
    pub(crate) async fn stop_incoming(&self, vmid: Vmid, id: &str) -> Result<(bool, String), Error> {
        let _turn = self.turn(vmid).await;
        let Some(machine) = self.machine(vmid) else {
            // What it said stays until the next start.
            return Ok((false, machine::stderr(&self.directory(vmid))));
        };
        if machine.facts().incoming.as_deref() != Some(id) {
            return Err(mismatch(vmid, "its process on this node is another one"));
        }
        machine.end().await?;
        Ok((true, machine.stderr()))
    }

    /// Moves the configuration, and the lease with it, to another node.
    pub(crate) async fn commit(
        &self,
        vmid: Vmid,
        id: &str,
        target: &str,
        volumes: &HashMap<String, String>,
    ) -> Result<u64, Error> {
        let _turn = self.turn(vmid).await;
        let mut read = self.read_newest(vmid).await?;
        check_config(vmid, &read.config, id)?;
        map_volumes(&mut read.config, volumes)?;
        self.tree.make_directory(&format!("nodes/{target}/qemu-server")).await?;
        let (from, to) = (self.config_path(vmid), config_path(target, vmid));
        let text = read.config.to_string();
        let write = Put { path: from.clone(), content: text.into(), expected_version: Some(read.version) };
        let rename = Rename { from, to, no_replace: true, ..Rename::default() };
        let mut operations = vec![Operation::Put(write), Operation::Rename(rename)];
        let path = lease::path(vmid);
        if let Some(file) = self.tree.read(&path).await? {
            let theirs = Lease { node: target.to_owned(), since: now() }.print();
            operations.push(Operation::Put(Put {
                path,
                content: theirs.into(),
                expected_version: Some(file.version),
            }));
        }
        let version = self.tree.transact(operations).await.map_err(|status| {
            let is_other = is_version_mismatch(&status);
            if is_other { mismatch(vmid, "its configuration was changed meanwhile") } else { status.into() }
        })?;
        self.changed(vmid);
        Ok(version)
    }

    /// Who owns a guest, as the cluster knows it now.
    pub(crate) async fn owner(&self, vmid: Vmid) -> Result<GetOwnerResponse, Error> {
        // This replica has then all that was written before the question.
        self.tree.read_newest(&self.config_path(vmid)).await?;
        let Some(place) = self.tree.place(vmid).await? else { return Ok(GetOwnerResponse::default()) };
        let file = self.tree.read(&config_path(&place.node, vmid)).await?;
        let config = file.and_then(|file| VmConfig::parse(&file.content).ok()).unwrap_or_default();
        Ok(GetOwnerResponse {
            node: place.node,
            migration_id: config.get(ID).unwrap_or_default().to_owned(),
            lock: config.lock().unwrap_or_default().to_owned(),
        })
    }

    /// Lets a guest go on that has arrived.
    pub(crate) async fn resume(
        &self,
        vmid: Vmid,
        id: &str,
        stay_paused: bool,
        keep_lock: bool,
    ) -> Result<(), Error> {
        let _turn = self.turn(vmid).await;
        let mut read = self.read_newest(vmid).await?;
        let machine = self.machine(vmid);
        let waits = machine.as_ref().and_then(|machine| machine.facts().incoming);
        if read.config.get(ID).is_none() && waits.is_none() {
            // Asked again after the answer was missed.
            return Ok(());
        }
        check_config(vmid, &read.config, id)?;
        if let Some(machine) = machine {
            if waits.is_some_and(|waits| waits != id) {
                return Err(mismatch(vmid, "its process on this node is another one"));
            }
            self.check_lease(vmid).await?;
            if !stay_paused {
                machine.execute("cont", Value::Null).await?;
            }
            machine.arrived()?;
            machine.ask_status().await.map_err(Error::qmp(vmid))?;
            self.changed(vmid);
        }
        if keep_lock { Ok(()) } else { self.remove_lock(vmid, &mut read).await }
    }

    async fn check_lease(&self, vmid: Vmid) -> Result<(), Error> {
        let path = lease::path(vmid);
        let file = self.tree.read(&path).await?;
        let held = file.as_ref().and_then(|file| Lease::parse(&file.content).ok());
        match held {
            Some(held) if held.node == self.node => Ok(()),
            Some(held) => Err(Error::LeaseHeld { vmid: vmid.get(), node: held.node }),
            None => {
                let ours = Lease { node: self.node.clone(), since: now() };
                let version = file.map_or(0, |file| file.version);
                Ok(self.tree.put(&path, ours.print(), version).await.map(drop)?)
            }
        }
    }

    /// Ends the process of a guest that has left; says whether there was one, and which volumes could not be deleted.
    pub(crate) async fn release_source(
        &self,
        vmid: Vmid,
        id: &str,
        nocheck: bool,
        volumes: &[String],
    ) -> Result<(bool, Vec<String>), Error> {
        check_id(id)?;
        let _turn = self.turn(vmid).await;
        if !nocheck && self.owner(vmid).await?.node == self.node {
            return Err(mismatch(vmid, "this node still owns it"));
        }
        let machine = self.machine(vmid);
        if let Some(machine) = &machine {
            if machine.facts().incoming.is_some() {
                return Err(mismatch(vmid, "its process on this node waits for a migration to this node"));
            }
            machine.end().await?;
        }
        let mut left = Vec::new();
        for volume in volumes {
            let freed = match volume.parse() {
                Ok(parsed) => self.free(&parsed).await.map(drop),
                Err(error) => Err(Error::from(error)),
            };
            if let Err(error) = freed {
                left.push(format!("{volume}: {error}"));
            }
        }
        Ok((machine.is_some(), left))
    }
}

/// Gives volumes the names that they have on another node.
fn map_volumes(config: &mut VmConfig, names: &HashMap<String, String>) -> Result<(), Error> {
    let known = volumes_of(config);
    for (from, to) in names {
        to.parse::<guest_core::VolumeId>()?;
        if !known.iter().any(|volume| volume.to_string() == *from) {
            return Err(Error::VolumeUnknown(from.clone()));
        }
    }
    let lines: Vec<(String, String)> =
        config.values().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    for (key, value) in lines {
        if let Some(slot) = Slot::of(&key) {
            let drive = Drive::parse(slot, &value)
                .map_err(|source| command_line::ReadError::Drive { slot, source })?;
            let new = drive.volume().and_then(|volume| names.get(&volume.to_string()));
            if let Some(new) = new {
                let new = new.parse()?;
                config.set(&key, &drive.with_volume(new, None).to_string());
            }
        } else if let Some(new) = names.get(&value).filter(|_| key.starts_with("unused")) {
            config.set(&key, new);
        }
    }
    Ok(())
}

/// The versioned machine type of a running QEMU.
async fn machine_type(machine: &Machine) -> Result<String, Error> {
    let answer = machine.execute("qom-get", json!({ "path": "/machine", "property": "type" })).await?;
    let name = answer.as_str().unwrap_or_default();
    Ok(name.strip_suffix("-machine").unwrap_or(name).to_owned())
}

/// Why a guest cannot move while it runs.
fn obstacles(config: &VmConfig) -> Vec<String> {
    let passed_on =
        |key: &str| ["hostpci", "usb", "parallel", "ivshmem"].iter().any(|name| key.starts_with(name));
    let devices = config.values().filter(|(key, _)| passed_on(key));
    devices.map(|(key, value)| format!("{key} ({value}) is a device of this node")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_get_the_names_of_the_other_node_and_settings_stay() {
        let text = "unused0: local:100/b.raw\nvirtio0: local:100/a.raw,cache=none,size=1G\n";
        let mut config = VmConfig::parse(text.as_bytes()).unwrap();
        let names = [("local:100/a.raw", "fast:100/c.raw"), ("local:100/b.raw", "fast:100/d.raw")];
        let names: HashMap<String, String> = names.map(|(from, to)| (from.to_owned(), to.to_owned())).into();
        map_volumes(&mut config, &names).unwrap();
        assert_eq!(
            config.to_string(),
            "unused0: fast:100/d.raw\nvirtio0: fast:100/c.raw,cache=none,size=1G\n"
        );
        assert!(map_volumes(&mut config, &names).is_err(), "a volume that the guest has not");
    }

    #[test]
    fn a_migration_is_known_by_its_id() {
        let vmid = Vmid::try_from(100).unwrap();
        let config = VmConfig::parse(b"lock: migrate\nmigrationid: m-1\n").unwrap();
        assert!(check_config(vmid, &config, "m-1").is_ok());
        for (config, id) in [(&config, "m-2"), (&VmConfig::default(), "m-1")] {
            assert!(matches!(check_config(vmid, config, id), Err(Error::Migration { .. })));
        }
        for bad in ["", "M", "a b", &"a".repeat(65)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
