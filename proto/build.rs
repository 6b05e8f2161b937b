//! Compiles the `.proto` files without an installed `protoc`, and keeps their descriptors for reflection.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 10] = [
    "quorate/types/v1/types.proto",
    "quorate/membership/v1/membership.proto",
    "quorate/quorum/v1/quorum.proto",
    "quorate/config/v1/config.proto",
    "quorate/config/v1/status.proto",
    "quorate/config/v1/history.proto",
    "quorate/gateway/v1/gateway.proto",
    "quorate/migration/v1/migration.proto",
    "quorate/gateway/v1/diagnostics.proto",
    "quorate/guest/v1/guest.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=quorate");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
