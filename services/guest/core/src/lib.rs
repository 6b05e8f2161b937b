//! Guests, without input and output: what their files mean, and what follows from them.
//!
//! | file | holds |
//! |---|---|
//! | `vmid.rs` | [`Vmid`]: a guest's number |
//! | `property.rs` | property strings: `a,b=c` |
//! | `config.rs` | [`VmConfig`]: the file `nodes/NODE/qemu-server/VMID.conf` |
//! | `keys.rs` | which keys may be set, to what, and which of them while the guest runs |
//! | `drive.rs`, `volume.rs` | a disk's line; a volume's name |
//! | `network.rs` | a network card's line |
//! | `storage.rs` | [`StorageConfig`]: the file `storage.cfg` |
//! | `command_line.rs` | how QEMU is called for a configuration |
//! | `qmp.rs` | the messages of QEMU's control socket |
//! | `lease.rs` | the proof in the tree that a guest may run on one node only |
//! | `startup.rs` | in which order guests start after a cold start |
//!
//! Sources: `qm.conf` and `storage.cfg` as Proxmox VE documents them; QEMU's QMP reference and invocation.

pub mod command_line;
pub mod config;
pub mod drive;
pub mod keys;
pub mod lease;
pub mod network;
pub mod property;
pub mod qmp;
pub mod startup;
pub mod storage;
pub mod vmid;
pub mod volume;

pub use config::VmConfig;
pub use drive::Drive;
pub use lease::Lease;
pub use storage::StorageConfig;
pub use vmid::Vmid;
pub use volume::VolumeId;
