//! Writes the seeds of all targets below the folder that is named, `corpus` without a name.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("corpus"), PathBuf::from);
    let count = quorate_fuzz::seeds::write(&folder)?;
    println!("{count} seeds in {}", folder.display());
    Ok(())
}
