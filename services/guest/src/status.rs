//! What guests are doing, as the API tells it.

use guest_core::{VmConfig, Vmid, command_line, property};
use prost_types::Timestamp;
use quorate_proto::guest::v1::{GuestState, GuestStatus};

use crate::{error::Error, guests::Guests, machine::Machine};

const MIB: u64 = 1 << 20;

impl Guests {
    /// What one guest of this node is doing.
    pub(crate) async fn status(&self, vmid: Vmid) -> Result<GuestStatus, Error> {
        match self.read(vmid).await {
            Ok(read) => Ok(self.compose(vmid, &read.config)),
            // A guest that is to come has a process here and its configuration elsewhere.
            Err(error) => match self.machine(vmid) {
                Some(_) => Ok(self.compose(vmid, &VmConfig::default())),
                None => Err(error),
            },
        }
    }

    /// What all guests of this node are doing, by number.
    pub(crate) async fn statuses(&self) -> Result<Vec<GuestStatus>, Error> {
        let names = self.tree.names(&format!("nodes/{}/qemu-server", self.node)).await?;
        let mut vmids: Vec<Vmid> = names.iter().filter_map(|name| Vmid::of_file(name)).collect();
        vmids.extend(self.machines().iter().map(|machine| machine.vmid));
        vmids.sort_unstable();
        vmids.dedup();
        let mut statuses = Vec::new();
        for vmid in vmids {
            match self.status(vmid).await {
                Ok(status) => statuses.push(status),
                // It was removed or moved meanwhile.
                Err(Error::Unknown(_) | Error::Elsewhere { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(statuses)
    }

    fn compose(&self, vmid: Vmid, config: &VmConfig) -> GuestStatus {
        let machine = self.machine(vmid);
        let facts = machine.as_ref().map(|machine| machine.facts()).unwrap_or_default();
        let drives = command_line::drives(config).unwrap_or_default();
        let first_disk = drives.iter().find(|drive| !drive.is_cdrom);
        let size = first_disk.and_then(|drive| property::size(drive.options.get("size")?));
        let migration = facts.incoming.as_deref().or(config.get("migrationid")).unwrap_or_default();
        GuestStatus {
            vmid: vmid.get(),
            name: config.get("name").map_or_else(|| format!("VM {vmid}"), str::to_owned),
            node: self.node.clone(),
            state: machine.as_deref().map_or(GuestState::Stopped, state).into(),
            qmp_status: machine.as_ref().map(|machine| machine.status()).unwrap_or_default(),
            pid: machine.as_ref().map_or(0, |machine| machine.process.pid()),
            started: machine
                .as_ref()
                .map(|_| Timestamp { seconds: facts.started.try_into().unwrap_or(i64::MAX), nanos: 0 }),
            memory_mib: config.number("memory", command_line::MEMORY_DEFAULT).min(u64::MAX / MIB),
            boot_disk_bytes: size.unwrap_or(0),
            lock: config.lock().unwrap_or_default().to_owned(),
            failure: if machine.is_some() { String::new() } else { self.failure(vmid) },
            migration_id: migration.to_owned(),
        }
    }
}

fn state(machine: &Machine) -> GuestState {
    match machine.status().as_str() {
        "running" => GuestState::Running,
        "postmigrate" => GuestState::Postmigrate,
        _ if machine.facts().incoming.is_some() => GuestState::Incoming,
        _ => GuestState::Paused,
    }
}
