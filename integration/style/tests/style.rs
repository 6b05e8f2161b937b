//! The conventions that no compiler checks, one test each.

use style_tests::{Source, code_only, has_head, sources, without_comment};

/// Words that mark something as not done, split so that this file does not hold them.
const MARKS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("HA", "CK"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];

/// What a core must not use: sockets, clocks, files, threads, runtimes, chance, and order that depends on a hash.
const FORBIDDEN_IN_CORES: [&str; 14] = [
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::thread",
    "tokio",
    "async fn",
    "rand::",
    "HashMap",
    "HashSet",
    "println!",
];

/// Crates that a core must not depend on.
const FORBIDDEN_DEPENDENCIES: [&str; 8] =
    ["tokio", "tonic", "nix", "socket2", "rand", "rocksdb", "quorate-daemon", "quorate-proto"];

/// The daemons' crates and folders: none may link another.
const SERVICES: [&str; 7] = ["membership", "quorum", "config-store", "gateway", "guest", "migration", "node"];

fn all(ending: &str) -> Vec<Source> {
    sources(ending).expect("the sources can be read")
}

fn refuse(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn every_rust_file_says_what_lives_in_it() {
    let without: Vec<String> =
        all(".rs").into_iter().filter(|file| !has_head(&file.text)).map(|file| file.path).collect();
    refuse("files without a //! head", &without);
}

#[test]
fn nothing_is_marked_as_unfinished() {
    let mut found = Vec::new();
    for ending in [".rs", ".proto", ".md", ".py", ".toml", ".sh"] {
        for file in all(ending) {
            for (number, line) in file.text.lines().enumerate() {
                if MARKS.iter().any(|mark| line.contains(mark)) {
                    found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
                }
            }
        }
    }
    refuse("unfinished", &found);
}

fn is_in_core(path: &str) -> bool {
    let is_core = path.contains("/core/src/") || path.starts_with("services/types/src/");
    let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
    path.starts_with("services/") && is_core && !is_test
}

#[test]
fn cores_have_no_sockets_clocks_files_threads_or_chance() {
    let mut found = Vec::new();
    for file in all(".rs").into_iter().filter(|file| is_in_core(&file.path)) {
        let code = code_only(&file.text);
        for word in FORBIDDEN_IN_CORES.iter().filter(|word| code.contains(**word)) {
            found.push(format!("{}: {word}", file.path));
        }
    }
    refuse("cores must not use", &found);
}

/// The names under `[dependencies]` of a manifest.
fn dependencies(manifest: &Source) -> Vec<String> {
    let table: toml::Table = manifest.text.parse().expect("cargo has read it, too");
    let table = table.get("dependencies").and_then(|dependencies| dependencies.as_table());
    table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

#[test]
fn cores_depend_on_nothing_that_does_input_or_output() {
    let mut found = Vec::new();
    for manifest in all("Cargo.toml").into_iter().filter(|file| file.path.ends_with("/core/Cargo.toml")) {
        for name in
            dependencies(&manifest).iter().filter(|name| FORBIDDEN_DEPENDENCIES.contains(&name.as_str()))
        {
            found.push(format!("{}: {name}", manifest.path));
        }
    }
    refuse("cores must not depend on", &found);
}

#[test]
fn no_service_links_another_service() {
    let manifests = all("Cargo.toml");
    let manifest = |folder: &str| {
        let path = format!("services/{folder}/Cargo.toml");
        manifests.iter().find(|file| file.path == path)
    };
    let name = |file: &Source| {
        let table: toml::Table = file.text.parse().expect("cargo has read it, too");
        table["package"]["name"].as_str().unwrap_or_default().to_owned()
    };
    let daemons: Vec<String> = SERVICES.iter().filter_map(|folder| manifest(folder)).map(name).collect();
    let mut found = Vec::new();
    for file in SERVICES.iter().filter_map(|folder| manifest(folder)) {
        for other in dependencies(file).iter().filter(|other| daemons.contains(other)) {
            found.push(format!("{} links {other}", file.path));
        }
    }
    refuse("services talk gRPC", &found);
}

#[test]
fn every_declaration_of_the_apis_has_a_comment() {
    let mut found = Vec::new();
    for file in all(".proto") {
        let missing = without_comment(&file.text);
        found.extend(missing.into_iter().map(|(line, text)| format!("{}:{line}: {text}", file.path)));
    }
    refuse("declarations without a comment", &found);
}
