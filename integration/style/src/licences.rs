//! What `deny.toml` allows, and what the crates of the lock file are.
//!
//! `cargo deny` reads the same file and knows more; this check needs nothing but cargo, so that it always runs. A
//! setting that it does not know makes it fail rather than be passed over.

use std::{collections::BTreeSet, env, fs, io, path::PathBuf, process::Command};

use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

use crate::top;

/// Where crates may come from without being named: crates.io, by its two names.
const CRATES_IO: [&str; 2] =
    ["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `deny.toml` is not there.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// `deny.toml` is damaged, or says what this check does not know.
    #[error(
        "deny.toml is not understood; a new kind of setting must be added to integration/style/src/licences.rs"
    )]
    Rules(#[from] toml::de::Error),
    /// An allowed licence is none.
    #[error("deny.toml allows '{licence}', which is no licence of https://spdx.org/licenses")]
    Licence {
        /// What is there.
        licence: String,
        /// Why.
        source: spdx::ParseError,
    },
    /// Cargo cannot be run.
    #[error("cannot run '{program} metadata'")]
    Run {
        /// The program.
        program: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Cargo failed.
    #[error(
        "'cargo metadata --locked' failed; without a network, 'cargo fetch --locked' must have run before:\n{0}"
    )]
    Cargo(String),
    /// Cargo said something else than expected.
    #[error("what 'cargo metadata' says is not understood")]
    Metadata(#[from] serde_json::Error),
}

/// `deny.toml`, as far as it is used here; any other key is an error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    graph: Graph,
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Bans {
    #[serde(rename = "multiple-versions")]
    _multiple_versions: Allow,
    #[serde(rename = "wildcards")]
    _wildcards: Allow,
    deny: Vec<Ban>,
}

/// What this check does not look at must be allowed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Allow {
    Allow,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Sources {
    #[serde(rename = "unknown-registry")]
    _unknown_registry: Deny,
    #[serde(rename = "unknown-git")]
    _unknown_git: Deny,
    #[serde(default)]
    allow_registry: Vec<String>,
    #[serde(default)]
    allow_git: Vec<String>,
}

/// What is not named must be denied.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Deny {
    Deny,
}

/// A crate, as `cargo metadata` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Package {
    /// Its id, unique.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence: an SPDX expression.
    pub license: Option<String>,
    /// Where it comes from; `None`: from this repository.
    pub source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<ResolvedNode>,
}

#[derive(Deserialize)]
struct ResolvedNode {
    id: String,
}

impl Rules {
    /// Reads `deny.toml`.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Rules`].
    pub fn load() -> Result<Self, Error> {
        let path = top().join("deny.toml");
        let text = fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
        Self::parse(&text)
    }

    /// Reads rules from text.
    ///
    /// # Errors
    /// [`Error::Rules`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(toml::from_str(text)?)
    }

    /// The crates of the lock file, for the targets that the rules name, with all of their features that are used.
    ///
    /// # Errors
    /// [`Error::Run`], [`Error::Cargo`], [`Error::Metadata`].
    pub fn locked(&self) -> Result<Vec<Package>, Error> {
        let program = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = Command::new(&program);
        command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(top());
        // Crates for other systems are not built, and need not have been fetched.
        command.args(self.graph.targets.iter().flat_map(|target| ["--filter-platform", target]));
        let output = command.output().map_err(|source| Error::Run { program, source })?;
        if !output.status.success() {
            return Err(Error::Cargo(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        let used: BTreeSet<String> = metadata.resolve.nodes.into_iter().map(|node| node.id).collect();
        Ok(metadata.packages.into_iter().filter(|package| used.contains(&package.id)).collect())
    }

    /// What the rules do not allow: a line for each, which says what to do.
    ///
    /// # Errors
    /// [`Error::Licence`].
    pub fn refused(&self, packages: &[Package]) -> Result<Vec<String>, Error> {
        let allowed = self.licenses.allow.iter().map(|licence| {
            Licensee::parse(licence).map_err(|source| Error::Licence { licence: licence.clone(), source })
        });
        let allowed: Vec<Licensee> = allowed.collect::<Result<_, _>>()?;
        let refused = packages.iter().flat_map(|package| {
            let reasons =
                [wrong_licence(package, &allowed), self.banned(package), self.wrong_source(package)];
            reasons
                .into_iter()
                .flatten()
                .map(|reason| format!("{} {}: {reason}", package.name, package.version))
        });
        Ok(refused.collect())
    }

    fn banned(&self, package: &Package) -> Option<String> {
        let ban = self.bans.deny.iter().find(|ban| ban.name == package.name)?;
        let find = format!("find who brings it with 'cargo tree --invert {}'", package.name);
        Some(format!("banned by deny.toml: {}; {find}, and turn that feature off", ban.reason))
    }

    fn wrong_source(&self, package: &Package) -> Option<String> {
        let source = package.source.as_deref()?;
        let is_named = |named: &String| {
            // A repository is followed by `?branch=...` and `#commit`.
            let rest = source.split_once('+').and_then(|(_, url)| url.strip_prefix(named.as_str()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['?', '#']))
        };
        let named =
            if source.starts_with("git+") { &self.sources.allow_git } else { &self.sources.allow_registry };
        if CRATES_IO.contains(&source) || named.iter().any(is_named) {
            return None;
        }
        Some(format!("comes from {source}; take it from crates.io, or allow that source in deny.toml"))
    }
}

fn wrong_licence(package: &Package, allowed: &[Licensee]) -> Option<String> {
    const ELSE: &str = "do without it, or, if it may be used, add to [licenses] in deny.toml";
    let Some(licence) = &package.license else {
        return Some(format!("says no licence in its manifest; {ELSE} what its files say"));
    };
    match Expression::parse_mode(licence, ParseMode::LAX) {
        Err(error) => Some(format!(
            "licence '{licence}' is no SPDX expression ({}); {ELSE} what is meant",
            error.reason
        )),
        Ok(expression) => {
            let is_allowed =
                |wanted: &spdx::LicenseReq| allowed.iter().any(|licensee| licensee.satisfies(wanted));
            let refused = expression.evaluate_with_failures(is_allowed).err()?;
            let refused: Vec<String> = refused.iter().map(|wanted| wanted.req.to_string()).collect();
            Some(format!("licence '{licence}' is not allowed; {ELSE}: {}", refused.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [graph]
        targets = ["x86_64-unknown-linux-gnu"]
        [licenses]
        allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"]
        [bans]
        multiple-versions = "allow"
        wildcards = "allow"
        deny = [{ crate = "openssl-sys", reason = "rustls is the one TLS library" }]
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
        allow-git = ["https://example.org/ours"]
    "#;

    fn package(name: &str, license: Option<&str>, source: Option<&str>) -> Package {
        Package {
            id: format!("{name} 1.2.3"),
            name: name.to_owned(),
            version: "1.2.3".to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
        }
    }

    fn refused(name: &str, license: Option<&str>, source: Option<&str>) -> Vec<String> {
        Rules::parse(RULES).unwrap().refused(&[package(name, license, source)]).unwrap()
    }

    #[test]
    fn a_choice_needs_one_allowed_licence_and_a_conjunction_all() {
        for allowed in [
            "MIT",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "GPL-3.0-only OR MIT",
            "(MIT OR GPL-3.0-only) AND ISC",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert_eq!(refused("a", Some(allowed), Some(CRATES_IO[0])), [""; 0], "{allowed}");
        }
        for wrong in
            ["GPL-3.0-only", "MIT AND GPL-3.0-only", "MIT WITH LLVM-exception", "a licence of ours", ""]
        {
            assert_eq!(refused("a", Some(wrong), Some(CRATES_IO[0])).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn what_is_refused_is_told_with_name_version_licence_and_a_way_out() {
        let [told] = &refused("left-pad", Some("MIT AND GPL-3.0-only"), None)[..] else { panic!() };
        for word in ["left-pad 1.2.3", "'MIT AND GPL-3.0-only'", "deny.toml: GPL-3.0-only"] {
            assert!(told.contains(word), "{told}");
        }
        let [told] = &refused("left-pad", None, None)[..] else { panic!() };
        assert!(told.contains("says no licence"), "{told}");
    }

    #[test]
    fn a_banned_crate_is_refused_with_the_reason() {
        let [told] = &refused("openssl-sys", Some("MIT"), Some(CRATES_IO[1]))[..] else { panic!() };
        assert!(told.contains("rustls is the one TLS library; find who brings it"), "{told}");
    }

    #[test]
    fn crates_come_from_crates_io_from_here_or_from_a_source_that_is_named() {
        let ours = "git+https://example.org/ours?branch=main#0123";
        for source in [None, Some(CRATES_IO[0]), Some(CRATES_IO[1]), Some(ours)] {
            assert_eq!(refused("a", Some("MIT"), source), [""; 0], "{source:?}");
        }
        let elsewhere = ["git+https://example.org/ours2#0123", "registry+https://example.org/ours"];
        for source in elsewhere {
            let [told] = &refused("a", Some("MIT"), Some(source))[..] else { panic!("{source}") };
            assert!(told.contains(source), "{told}");
        }
    }

    #[test]
    fn a_rule_that_this_check_does_not_know_is_an_error() {
        for (known, unknown) in [
            ("[licenses]", "[licenses]\nexceptions = []"),
            ("unknown-git = \"deny\"", "unknown-git = \"warn\""),
            ("multiple-versions = \"allow\"", "multiple-versions = \"deny\""),
            ("[bans]", "[advisories]\n[bans]"),
        ] {
            assert!(Rules::parse(&RULES.replace(known, unknown)).is_err(), "{unknown}");
        }
        let rules = Rules::parse(&RULES.replace("\"ISC\"", "\"ICS\"")).unwrap();
        assert!(matches!(rules.refused(&[]), Err(Error::Licence { licence, .. }) if licence == "ICS"));
    }
}
