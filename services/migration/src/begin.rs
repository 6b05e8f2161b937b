//! Before a migration has its driver: the record, the lock, and everything that stands in the way, found on both nodes
//! and told at once.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use migration_core::{
    Disk, MigrationId, Plan, Record, State,
    network::{Kind, Settings},
};
use quorate_daemon::{client::deadline, status, trace_context};
use quorate_proto::{
    config::v1::GetRequest,
    guest::v1::{
        BeginMigrationRequest, BeginMigrationResponse, EndMigrationRequest, GetStatusRequest, GuestState,
        GuestVolume,
    },
    migration::v1::{IncomingVolume, InspectRequest, InspectResponse, MigrateRequest, MigrationType},
};
use tonic::{Code, Status};

use crate::{
    Node, error,
    local::{READ, WRITE},
    receive, records,
};

/// How long a guest may be stopped unless its configuration says otherwise. Source: qm.conf, `migrate_downtime`.
const DOWNTIME: Duration = Duration::from_millis(100);
/// The longest stop to which the limit is raised by itself.
const DOWNTIME_MAX: Duration = Duration::from_secs(2);

/// All that the driver needs to know.
pub(crate) struct Begun {
    pub(crate) plan: Plan,
    pub(crate) record: Record,
    pub(crate) facts: BeginMigrationResponse,
    pub(crate) volumes: Vec<IncomingVolume>,
    pub(crate) network: String,
    pub(crate) kind: Kind,
}

/// What the request and `datacenter.cfg` say together.
async fn settings(node: &Node, request: &MigrateRequest) -> Result<(Kind, String), Status> {
    let get = GetRequest { path: "datacenter.cfg".to_owned(), linearizable: false };
    let file = match node.local.config().get(deadline(get, READ)).await {
        Ok(answer) => answer.into_inner().content,
        Err(status) if status.code() == Code::NotFound => Vec::new().into(),
        Err(status) => return Err(status),
    };
    let settings = Settings::of_datacenter(&String::from_utf8_lossy(&file)).map_err(|error| {
        status::error(
            Code::FailedPrecondition,
            "DATACENTER_CFG_INVALID",
            format!("datacenter.cfg: {error}"),
            [("file", "datacenter.cfg")],
        )
    })?;
    let kind = match request.migration_type() {
        MigrationType::Unspecified => settings.kind,
        MigrationType::Secure => Kind::Secure,
        MigrationType::Insecure => Kind::Insecure,
    };
    let network = match request.migration_network.as_str() {
        "" => settings.network.map(|network| network.to_string()).unwrap_or_default(),
        given => {
            let checked = given.parse::<migration_core::network::Cidr>();
            checked
                .map_err(|error| status::invalid_field("migration_network", error.to_string()))?
                .to_string()
        }
    };
    Ok((kind, network))
}

/// An id that was never used: when, where, and chance.
fn new_id(vmid: u32) -> MigrationId {
    let text = format!("m{vmid}-{:x}-{:08x}", seconds(), rand::random::<u32>());
    text.parse().expect("digits and small letters")
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

/// Makes the record and the lock, and checks. With anything in the way both are taken back.
///
/// `check`: takes them back in any case and gives the obstacles.
pub(crate) async fn begin(node: &Node, request: &MigrateRequest, check: bool) -> Result<Begun, Status> {
    let vmid = request.vmid;
    if request.target == node.name {
        let why = format!("guest {vmid} is on node '{}' already", node.name);
        return Err(status::error(Code::FailedPrecondition, "TARGET_IS_SOURCE", why, [("vmid", vmid)]));
    }
    let (kind, network) = settings(node, request).await?;
    let status =
        node.local.guests().get_status(deadline(GetStatusRequest { vmid }, READ)).await?.into_inner();
    let state = status.status.as_ref().map(|status| status.state()).unwrap_or_default();
    let online = matches!(state, GuestState::Running | GuestState::Paused);
    let id = new_id(vmid);
    let record = Record {
        id: id.to_string(),
        vmid,
        source: node.name.clone(),
        target: request.target.clone(),
        state: State::Preparing,
        online,
        paused: state == GuestState::Paused,
        disks: Vec::new(),
        volumes: Default::default(),
        free_volumes: Vec::new(),
        started: seconds(),
        traceparent: trace_context::current().unwrap_or_default(),
    };
    match records::write(&node.local, &record, true).await {
        Err(status) if matches!(status.code(), Code::Aborted | Code::AlreadyExists) => {
            return Err(error::busy(vmid));
        }
        written => written?,
    }
    let begun = lock_and_check(node, request, record, id, (kind, network)).await;
    if check || begun.is_err() {
        take_back(node, vmid, begun.as_ref().ok().map(|begun| begun.record.id.clone())).await;
    }
    begun
}

/// Takes the record back, and the lock if there is one.
async fn take_back(node: &Node, vmid: u32, locked: Option<String>) {
    if let Some(migration_id) = locked {
        let end = EndMigrationRequest { vmid, migration_id };
        if let Err(status) = node.local.support().end_migration(deadline(end, WRITE)).await {
            tracing::warn!(vmid, error = status.message(), "cannot be unlocked yet");
            // The record stays: whoever takes up what was left behind unlocks it.
            return;
        }
    }
    if let Err(status) = records::forget(&node.local, vmid).await {
        tracing::warn!(vmid, error = status.message(), "the record of a migration stays behind");
    }
}

async fn lock_and_check(
    node: &Node,
    request: &MigrateRequest,
    mut record: Record,
    id: MigrationId,
    (kind, network): (Kind, String),
) -> Result<Begun, Status> {
    let vmid = request.vmid;
    let lock = BeginMigrationRequest { vmid, migration_id: id.to_string(), target: request.target.clone() };
    let facts = node.local.support().begin_migration(deadline(lock, WRITE)).await?.into_inner();
    let mut obstacles = here(request, &record, &facts);
    // The network is one of both nodes, or it is mistaken.
    obstacles.extend(receive::address(node, &network).await.err());
    let local: Vec<&GuestVolume> =
        facts.volumes.iter().filter(|volume| !volume.shared && !volume.read_only).collect();
    let volumes: Vec<IncomingVolume> = local.iter().map(|volume| incoming_volume(volume, request)).collect();
    match inspect(node, request, &facts, &volumes, &network).await {
        Ok(there) => obstacles.extend(there.obstacles),
        Err(status) => obstacles.push(format!("node '{}': {}", request.target, status.message())),
    }
    if !obstacles.is_empty() {
        let end = EndMigrationRequest { vmid, migration_id: id.to_string() };
        node.local.support().end_migration(deadline(end, WRITE)).await?;
        return Err(error::preflight(vmid, &obstacles));
    }
    record.disks = local.iter().map(|volume| volume.key.clone()).collect();
    record.free_volumes = local.iter().map(|volume| volume.volume_id.clone()).collect();
    let plan = plan(node, request, &record, id, &facts)?;
    Ok(Begun { plan, record, facts, volumes, network, kind })
}

/// What stands in the way on this node.
fn here(request: &MigrateRequest, record: &Record, facts: &BeginMigrationResponse) -> Vec<String> {
    let mut obstacles = facts.obstacles.clone();
    if record.online && !request.online {
        obstacles.push(format!("guest {} runs; add --online to move it while it runs", request.vmid));
    }
    if record.online && !request.with_local_disks {
        let local = facts.volumes.iter().filter(|volume| !volume.shared && !volume.read_only);
        obstacles.extend(local.map(|volume| {
            let (key, id) = (&volume.key, &volume.volume_id);
            format!("disk {key} ({id}) is only on this node; add --with-local-disks to copy it")
        }));
    }
    obstacles
}

fn incoming_volume(volume: &GuestVolume, request: &MigrateRequest) -> IncomingVolume {
    let own = volume.volume_id.split(':').next().unwrap_or_default();
    let storage = if request.target_storage.is_empty() { own } else { &request.target_storage };
    IncomingVolume {
        key: volume.key.clone(),
        volume_id: volume.volume_id.clone(),
        storage: storage.to_owned(),
        virtual_bytes: volume.virtual_bytes,
        format: volume.format.clone(),
    }
}

async fn inspect(
    node: &Node,
    request: &MigrateRequest,
    facts: &BeginMigrationResponse,
    volumes: &[IncomingVolume],
    network: &str,
) -> Result<InspectResponse, Status> {
    let mut storages: HashMap<String, u64> = HashMap::new();
    for volume in volumes {
        *storages.entry(volume.storage.clone()).or_default() += volume.virtual_bytes;
    }
    for shared in facts.volumes.iter().filter(|volume| volume.shared) {
        storages.entry(shared.volume_id.split(':').next().unwrap_or_default().to_owned()).or_default();
    }
    let memory_mib = facts.status.as_ref().map(|status| status.memory_mib).unwrap_or_default();
    let ask = InspectRequest { migration_network: network.to_owned(), storages, memory_mib };
    let mut peer = node.peers.migration(&request.target).await?;
    Ok(peer.inspect(deadline(ask, WRITE)).await?.into_inner())
}

fn plan(
    node: &Node,
    request: &MigrateRequest,
    record: &Record,
    id: MigrationId,
    facts: &BeginMigrationResponse,
) -> Result<Plan, Status> {
    let name = |text: &str| {
        text.parse()
            .map_err(|error: quorate_types::NameError| status::invalid_field("target", error.to_string()))
    };
    let disk = |key: &String| {
        let volume = facts.volumes.iter().find(|volume| &volume.key == key);
        let source_node = volume.map(|volume| volume.block_node.clone()).unwrap_or_default();
        Disk { key: key.clone(), source_node, target_node: String::new() }
    };
    let config = String::from_utf8_lossy(&facts.config).into_owned();
    let downtime = value(&config, "migrate_downtime").map_or(DOWNTIME, Duration::from_secs_f64);
    let configured = value(&config, "migrate_speed").map(|mib| (mib * f64::from(1 << 20)) as u64);
    let speed =
        [configured, Some(request.bytes_per_second)].into_iter().flatten().filter(|speed| *speed > 0).min();
    Ok(Plan {
        id,
        vmid: request.vmid,
        source: name(&node.name)?,
        target: name(&request.target)?,
        online: record.online,
        paused: record.paused,
        disks: record.disks.iter().map(disk).collect(),
        speed,
        downtime,
        downtime_max: downtime.max(DOWNTIME_MAX),
    })
}

/// A number of the current configuration: between 0 and 2000, as qm.conf has it.
fn value(config: &str, key: &str) -> Option<f64> {
    let current = config.lines().take_while(|line| !line.starts_with('['));
    let mut values = current.filter_map(|line| line.split_once(':')).filter(|(found, _)| found.trim() == key);
    let number: f64 = values.next()?.1.trim().parse().ok()?;
    (0.0..=2000.0).contains(&number).then_some(number)
}

/// The plan of a migration that a daemon before this one left.
pub(crate) fn plan_of(record: &Record) -> Option<Plan> {
    let disk =
        |key: &String| Disk { key: key.clone(), source_node: String::new(), target_node: String::new() };
    Some(Plan {
        id: record.id.parse().ok()?,
        vmid: record.vmid,
        source: record.source.parse().ok()?,
        target: record.target.parse().ok()?,
        online: record.online,
        paused: record.paused,
        disks: record.disks.iter().map(disk).collect(),
        speed: None,
        downtime: DOWNTIME,
        downtime_max: DOWNTIME_MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_from_the_current_part_of_the_configuration() {
        let config = "memory: 64\nmigrate_downtime: 0.3\n[old]\nmigrate_speed: 7\n";
        assert_eq!(value(config, "migrate_downtime"), Some(0.3));
        assert_eq!(value(config, "migrate_speed"), None);
        assert_eq!(value("migrate_downtime: NaN\n", "migrate_downtime"), None);
    }

    #[test]
    fn an_id_of_a_migration_is_one_that_guestd_takes() {
        assert_ne!(new_id(999_999_999), new_id(999_999_999));
    }
}
