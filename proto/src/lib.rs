//! The gRPC APIs of all daemons, generated from `proto/quorate/**.proto`.
//!
//! The comments in the `.proto` files are the reference manual. [`DESCRIPTORS`] holds the same in
//! machine-readable form for reflection; [`convert`] is the only place where generated messages
//! meet [`quorate_types`].

// The sizes of generated variants are what the messages say.
#![allow(clippy::large_enum_variant)]

pub mod convert;

/// Every file's descriptor, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Words that the APIs share.
pub mod types {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("quorate.types.v1");
    }
}

/// membershipd: the ring and its process groups.
pub mod membership {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("quorate.membership.v1");
    }
}

/// quorumd: votes.
pub mod quorum {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("quorate.quorum.v1");
    }
}

/// configd: the replicated tree.
pub mod config {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("quorate.config.v1");
    }
}

/// gatewayd: the life cycle of the cluster.
pub mod gateway {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("quorate.gateway.v1");
    }
}

/// guestd: virtual machines and their storage.
pub mod guest {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("quorate.guest.v1");
    }
}

/// migrationd: moving guests between nodes.
pub mod migration {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("quorate.migration.v1");
    }
}
