//! Totempg: messages of any size up to [`MESSAGE_MAX`] inside the packets of the ring.
//!
//! - [`packet`]: one payload of a ring multicast, pieces with their lengths
//! - [`packer`]: many small messages into one packet, one large message into many
//! - [`assembler`]: the way back, one buffer per originator and phase
//! - [`group`]: the group header at the start of every message
//!
//! Source: totem specification, section 6; corosync `totempg.c`.

pub mod assembler;
pub mod group;
pub mod packer;
pub mod packet;

pub use assembler::{Assembled, Assembler, AssemblerStats};
pub use group::Group;
pub use packer::Packer;
pub use packet::{Packet, PacketError};

/// Largest message, headers included, that receivers put together from fragments, in bytes.
///
/// corosync assembles 1 MiB and one packet; larger group messages are cut into partial messages
/// one layer above.
pub const MESSAGE_MAX: usize = 1024 * 1024;
