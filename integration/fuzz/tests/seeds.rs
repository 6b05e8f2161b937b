//! Every seed, and every input that failed once, passes its target. Runs with a stable compiler and without libFuzzer.

use std::{fs, path::Path};

use quorate_fuzz::{TARGETS, seeds};

/// One test, since memory is counted over all threads.
#[test]
fn every_seed_passes_its_target() {
    let seeds = seeds::all();
    for (target, check) in TARGETS {
        let of_target = seeds.get(target).unwrap_or_else(|| panic!("{target} has no seeds"));
        of_target.iter().for_each(|seed| check(seed));
        let failed = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        for entry in fs::read_dir(failed).into_iter().flatten() {
            let path = entry.expect("the folder can be read").path();
            println!("{}", path.display());
            check(&fs::read(&path).expect("the file can be read"));
        }
    }
}
