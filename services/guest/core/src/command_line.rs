//! How QEMU is called for a configuration.
//!
//! Two control sockets, since each takes one client at a time: one for commands, one that stays free for what must get
//! through when the first one hangs. Disks are nodes of the block graph with names of their own, so that they can be
//! mirrored. QEMU never runs a guest by itself (`-S`): whoever started it lets it go.

use std::path::{Path, PathBuf};

use crate::{
    config::VmConfig,
    drive::{Bus, Drive, DriveError, Slot},
    network::{self, Card, CardError},
    property::Properties,
    vmid::Vmid,
    volume::Format,
};

/// Memory of a machine without `memory`, in MiB.
pub const MEMORY_DEFAULT: u64 = 512;

/// What the caller found out beside the configuration.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The guest.
    pub vmid: Vmid,
    /// Directory for sockets and the process id.
    pub directory: PathBuf,
    /// The host can virtualise: KVM is used unless the configuration says `kvm: 0`.
    pub has_kvm: bool,
    /// The drives, in any order.
    pub disks: Vec<Disk>,
    /// The network cards.
    pub cards: Vec<Card>,
    /// The machine type, instead of the configuration's.
    pub machine: Option<String>,
    /// QEMU waits for a migration.
    pub is_incoming: bool,
}

/// A drive with what its volume is here.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The line.
    pub drive: Drive,
    /// The file; `None`: an empty CD drive.
    pub file: Option<PathBuf>,
    /// Its layout.
    pub format: Format,
    /// The file may be opened past the host's cache.
    pub is_direct: bool,
}

/// Why a configuration cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A drive's line.
    #[error("{slot}: {source}")]
    Drive {
        /// Its key.
        slot: Slot,
        /// Why.
        source: DriveError,
    },
    /// A card's line.
    #[error("net{number}: {source}")]
    Card {
        /// Its number.
        number: u32,
        /// Why.
        source: CardError,
    },
    /// Extra arguments.
    #[error("args: a quote is not closed")]
    Quote,
}

/// The drives of a configuration, in the order of their slots.
///
/// # Errors
/// [`ReadError::Drive`].
pub fn drives(config: &VmConfig) -> Result<Vec<Drive>, ReadError> {
    let slots = config.values().filter_map(|(key, value)| Some((Slot::of(key)?, value)));
    let read = |(slot, value)| Drive::parse(slot, value).map_err(|source| ReadError::Drive { slot, source });
    let mut drives = slots.map(read).collect::<Result<Vec<_>, _>>()?;
    drives.sort_by_key(|drive| drive.slot);
    Ok(drives)
}

/// The network cards of a configuration, by number.
///
/// # Errors
/// [`ReadError::Card`].
pub fn cards(config: &VmConfig) -> Result<Vec<Card>, ReadError> {
    let cards = config.values().filter_map(|(key, value)| Some((network::number_of(key)?, value)));
    let read =
        |(number, value)| Card::parse(number, value).map_err(|source| ReadError::Card { number, source });
    let mut cards = cards.map(read).collect::<Result<Vec<_>, _>>()?;
    cards.sort_by_key(|card| card.number);
    Ok(cards)
}

/// Sockets and files of a guest's process.
#[derive(Debug, Clone)]
pub struct Files<'a>(pub &'a Path);

impl Files<'_> {
    /// The control socket.
    #[must_use]
    pub fn qmp(&self) -> PathBuf {
        self.0.join("qmp.sock")
    }

    /// The control socket that stays free.
    #[must_use]
    pub fn oob(&self) -> PathBuf {
        self.0.join("oob.sock")
    }

    /// The first serial port, if it is a socket.
    #[must_use]
    pub fn serial(&self, number: u32) -> PathBuf {
        self.0.join(format!("serial{number}.sock"))
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }

    /// QEMU's error output.
    #[must_use]
    pub fn stderr(&self) -> PathBuf {
        self.0.join("stderr.log")
    }

    /// The argument by which a process of this guest is known.
    #[must_use]
    pub fn mark(&self) -> String {
        socket(&self.qmp())
    }
}

/// The arguments of QEMU.
///
/// # Errors
/// [`ReadError::Quote`].
pub fn arguments(config: &VmConfig, around: &Surroundings) -> Result<Vec<String>, ReadError> {
    let files = Files(&around.directory);
    let mut line = Line(Vec::new());
    let name = config.get("name").map_or_else(|| format!("VM{}", around.vmid), str::to_owned);
    line.option("-name", &name);
    line.flags(&["-S", "-nodefaults", "-no-user-config", "-daemonize"]);
    line.option("-pidfile", &text(&files.pid()));
    line.option("-D", &text(&files.stderr()));
    line.option("-qmp", &files.mark());
    line.option("-qmp", &socket(&files.oob()));
    processor_and_memory(config, around, &mut line);
    display(config, around, &mut line);
    if let Some(uuid) = Properties::parse(config.get("smbios1").unwrap_or_default(), Some("uuid"))
        .ok()
        .and_then(|p| p.get("uuid").map(str::to_owned))
    {
        line.option("-uuid", &uuid);
    }
    for number in 0..4 {
        if config.get(&format!("serial{number}")) == Some("socket") {
            line.option(
                "-chardev",
                &format!(
                    "socket,id=serial{number},path={},server=on,wait=off",
                    escaped(&files.serial(number))
                ),
            );
            line.option("-device", &format!("isa-serial,chardev=serial{number}"));
        }
    }
    disks(config, around, &mut line);
    for card in &around.cards {
        network_card(card, around.vmid, &mut line);
    }
    if around.is_incoming {
        line.option("-incoming", "defer");
    }
    line.0.extend(words(config.get("args").unwrap_or_default())?);
    Ok(line.0)
}

/// Name of the host's end of a card.
#[must_use]
pub fn tap_name(vmid: Vmid, card: u32) -> String {
    format!("tap{vmid}i{card}")
}

struct Line(Vec<String>);

impl Line {
    fn option(&mut self, name: &str, value: &str) {
        self.0.extend([name.to_owned(), value.to_owned()]);
    }

    fn flags(&mut self, names: &[&str]) {
        self.0.extend(names.iter().map(|name| (*name).to_owned()));
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path in an option: commas are doubled.
fn escaped(path: &Path) -> String {
    text(path).replace(',', ",,")
}

fn socket(path: &Path) -> String {
    format!("unix:{},server=on,wait=off", escaped(path))
}

fn processor_and_memory(config: &VmConfig, around: &Surroundings, line: &mut Line) {
    let uses_kvm = around.has_kvm && config.get("kvm").and_then(crate::property::boolean).unwrap_or(true);
    line.option("-accel", if uses_kvm { "kvm" } else { "tcg" });
    let machine = around.machine.as_deref().or(config.get("machine")).unwrap_or("pc");
    line.option("-machine", machine);
    let cpu = Properties::parse(config.get("cpu").unwrap_or("kvm64"), Some("cputype")).unwrap_or_default();
    line.option("-cpu", cpu.get("cputype").unwrap_or("kvm64"));
    let (cores, sockets) = (config.number("cores", 1), config.number("sockets", 1));
    line.option("-smp", &format!("{},sockets={sockets},cores={cores}", cores * sockets));
    line.option("-m", &config.number("memory", MEMORY_DEFAULT).to_string());
}

fn display(config: &VmConfig, around: &Surroundings, line: &mut Line) {
    let vga = Properties::parse(config.get("vga").unwrap_or("std"), Some("type")).unwrap_or_default();
    let vga = vga.get("type").unwrap_or("std");
    line.option("-display", "none");
    if matches!(vga, "none" | "serial0") {
        return line.option("-vga", "none");
    }
    line.option("-vga", vga);
    line.option("-vnc", &format!("unix:{}", escaped(&around.directory.join("vnc.sock"))));
}

fn disks(config: &VmConfig, around: &Surroundings, line: &mut Line) {
    let has = |bus| around.disks.iter().any(|disk| disk.drive.slot.bus == bus);
    if has(Bus::Scsi) {
        let controller = match config.get("scsihw").unwrap_or("lsi") {
            "virtio-scsi-pci" | "virtio-scsi-single" => "virtio-scsi-pci",
            other => other,
        };
        line.option("-device", &format!("{controller},id=scsihw0"));
    }
    if has(Bus::Sata) {
        line.option("-device", "ahci,id=ahci0");
    }
    for disk in &around.disks {
        backend(disk, line);
        front_end(config, around, disk, line);
    }
}

/// The file and its format, as nodes of the block graph.
fn backend(disk: &Disk, line: &mut Line) {
    let Some(file) = &disk.file else { return };
    let drive = &disk.drive;
    let cache = drive.options.get("cache").unwrap_or("none");
    let is_direct = disk.is_direct && matches!(cache, "none" | "directsync");
    let on = |is: bool| if is { "on" } else { "off" };
    let common = format!(
        "cache.direct={},cache.no-flush={},read-only={}",
        on(is_direct),
        on(cache == "unsafe"),
        on(drive.is_read_only)
    );
    let discard = if drive.options.get("discard") == Some("on") { "unmap" } else { "ignore" };
    let aio = drive.options.get("aio").filter(|aio| *aio != "native" || is_direct).unwrap_or("threads");
    let slot = drive.slot;
    line.option(
        "-blockdev",
        &format!(
            "driver=file,node-name=file-{slot},filename={},aio={aio},discard={discard},{common}",
            escaped(file)
        ),
    );
    let (format, node) = (disk.format.name(), drive.block_node());
    line.option(
        "-blockdev",
        &format!("driver={format},node-name={node},file=file-{slot},discard={discard},{common}"),
    );
}

/// What the guest sees.
fn front_end(config: &VmConfig, around: &Surroundings, disk: &Disk, line: &mut Line) {
    let drive = &disk.drive;
    let Slot { bus, number } = drive.slot;
    let mut device = match (bus, drive.is_cdrom) {
        (Bus::Virtio, _) => "virtio-blk-pci".to_owned(),
        (Bus::Scsi, cd) => {
            format!("scsi-{},bus=scsihw0.0,scsi-id={}", if cd { "cd" } else { "hd" }, number % 7)
        }
        (Bus::Ide, cd) => {
            format!("ide-{},bus=ide.{},unit={}", if cd { "cd" } else { "hd" }, number / 2, number % 2)
        }
        (Bus::Sata, cd) => format!("ide-{},bus=ahci0.{number}", if cd { "cd" } else { "hd" }),
    };
    device.push_str(&format!(",id={}", drive.slot));
    if disk.file.is_some() {
        device.push_str(&format!(",drive={}", drive.block_node()));
    }
    if bus == Bus::Virtio {
        let cache = drive.options.get("cache").unwrap_or("none");
        let write_back = !matches!(cache, "directsync" | "writethrough");
        device.push_str(&format!(",write-cache={}", if write_back { "on" } else { "off" }));
    }
    if let Some(index) = boot_index(config, &around.disks, drive.slot) {
        device.push_str(&format!(",bootindex={index}"));
    }
    line.option("-device", &device);
}

/// The place of a drive among those from which the machine boots.
fn boot_index(config: &VmConfig, disks: &[Disk], slot: Slot) -> Option<usize> {
    let boot = Properties::parse(config.get("boot").unwrap_or_default(), Some("legacy")).unwrap_or_default();
    if let Some(order) = boot.get("order") {
        let place = order.split(';').position(|key| Slot::of(key.trim()) == Some(slot));
        return place.map(|place| 100 + place);
    }
    let first = config.get("bootdisk").and_then(Slot::of);
    let first = first.or_else(|| disks.iter().find(|disk| disk.file.is_some()).map(|disk| disk.drive.slot));
    (first == Some(slot)).then_some(100)
}

fn network_card(card: &Card, vmid: Vmid, line: &mut Line) {
    let number = card.number;
    let backend = match card.bridge {
        Some(_) => format!("tap,id=net{number},ifname={},script=no,downscript=no", tap_name(vmid, number)),
        None => format!("user,id=net{number}"),
    };
    line.option("-netdev", &backend);
    let mac = card.mac.as_deref().map(|mac| format!(",mac={mac}")).unwrap_or_default();
    line.option("-device", &format!("{},netdev=net{number},id=net{number}{mac}", card.device));
}

/// Extra arguments as a shell would divide them: at spaces, but not inside quotes.
fn words(text: &str) -> Result<Vec<String>, ReadError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if quote.is_some() { Err(ReadError::Quote) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str, incoming: bool) -> String {
        let config = VmConfig::parse(text.as_bytes()).unwrap();
        let disks = drives(&config).unwrap().into_iter().map(|drive| Disk {
            file: drive.volume().map(|volume| Path::new("/s").join(volume.relative_path())),
            format: drive.volume().map_or(Format::Raw, crate::VolumeId::format),
            drive,
            is_direct: true,
        });
        let around = Surroundings {
            vmid: 100.try_into().unwrap(),
            directory: "/run/g".into(),
            has_kvm: false,
            disks: disks.collect(),
            cards: cards(&config).unwrap(),
            machine: None,
            is_incoming: incoming,
        };
        arguments(&config, &around).unwrap().join(" ")
    }

    #[test]
    fn a_guest_never_runs_by_itself_and_has_two_control_sockets() {
        let line = line("memory: 64\n", false);
        assert!(line.contains("-name VM100 -S ") && !line.contains("-incoming"), "{line}");
        assert!(
            line.contains("-qmp unix:/run/g/qmp.sock,server=on,wait=off -qmp unix:/run/g/oob.sock,"),
            "{line}"
        );
        assert!(line.contains("-accel tcg") && line.contains("-m 64"), "{line}");
    }

    #[test]
    fn disks_are_named_nodes_and_the_first_one_boots() {
        let line =
            line("virtio1: local:100/b.qcow2\nvirtio0: local:100/a.raw,cache=unsafe,discard=on\n", true);
        assert!(line.contains("driver=file,node-name=file-virtio0,filename=/s/images/100/a.raw,aio=threads,discard=unmap,cache.direct=off,cache.no-flush=on"), "{line}");
        assert!(line.contains("driver=qcow2,node-name=drive-virtio1,file=file-virtio1"), "{line}");
        assert!(line.contains("id=virtio0,drive=drive-virtio0,write-cache=on,bootindex=100"), "{line}");
        assert_eq!(line.matches("bootindex").count(), 1);
        assert!(line.ends_with("-incoming defer"), "{line}");
    }

    #[test]
    fn the_order_of_booting_can_be_given() {
        let line =
            line("boot: order=virtio1;virtio0\nvirtio0: local:100/a.raw\nvirtio1: local:100/b.raw\n", false);
        assert!(line.contains("id=virtio1,drive=drive-virtio1,write-cache=on,bootindex=100"), "{line}");
        assert!(line.contains("id=virtio0,drive=drive-virtio0,write-cache=on,bootindex=101"), "{line}");
    }

    #[test]
    fn extra_arguments_are_divided_as_by_a_shell() {
        assert_eq!(words("-a 'b c'  \"d\"e").unwrap(), ["-a", "b c", "de"]);
        assert_eq!(words("''").unwrap(), [""]);
        assert_eq!(words("-a 'b"), Err(ReadError::Quote));
    }

    proptest! {
        #[test]
        fn no_arguments_make_the_divider_panic(text in ".{0,60}") {
            let _ = words(&text);
        }
    }
}
