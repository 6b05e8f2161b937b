//! Who this node is to others: its key, its certificate, and the authority it trusts.
//!
//! On disk, in `var/lib/quorate/gatewayd`: `node.key` (mode 0600) and `node.pem`. Before the node is
//! in a cluster `node.pem` holds one certificate that the node signed itself; afterwards the one that
//! the cluster's CA signed, followed by the CA's. One file, so that no crash leaves half an identity.
//! A switch is seen by every TLS connection that begins after it.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::{
    ca::{self, CaError, CertificateFacts, NodeKey, Subject},
    files::{self, FileError},
    fingerprint::Fingerprint,
};

const KEY_FILE: &str = "node.key";
const CERTIFICATE_FILE: &str = "node.pem";

/// The present identity of this node.
pub struct Identity {
    /// The node's private key.
    pub key: Arc<NodeKey>,
    /// The node's certificate and, in a cluster, the CA's after it: what a server sends.
    pub chain: Vec<CertificateDer<'static>>,
    /// What the node's certificate says.
    pub facts: CertificateFacts,
}

/// What kept an identity from being read, made or installed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key or certificate could not be read or made.
    #[error("{} cannot be used", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CaError,
    },
    /// The certificate is for another key.
    #[error("the certificate does not belong to the key in {}", path.display())]
    ForeignCertificate {
        /// The key's file.
        path: PathBuf,
    },
    /// The key's file holds no text.
    #[error("{} is no PEM file", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
    },
}

/// Keeps the identity on disk and tells everybody when it changes.
pub struct IdentityStore {
    directory: PathBuf,
    current: watch::Sender<Arc<Identity>>,
}

impl Identity {
    /// The CA's certificate, if this node is in a cluster.
    #[must_use]
    pub fn ca(&self) -> Option<&CertificateDer<'static>> {
        self.chain.get(1)
    }

    /// The fingerprint of the CA's certificate, if this node is in a cluster.
    #[must_use]
    pub fn ca_fingerprint(&self) -> Option<Fingerprint> {
        self.ca().map(|der| Fingerprint::of(der))
    }
}

impl IdentityStore {
    /// Reads the identity; makes a key and a self-signed certificate for `subject` if there is none yet.
    ///
    /// # Errors
    /// [`IdentityError`] if what is there cannot be used, or nothing can be written.
    pub fn open(directory: PathBuf, subject: &Subject, now: SystemTime) -> Result<Self, IdentityError> {
        let key = Arc::new(Self::open_key(&directory)?);
        let path = directory.join(CERTIFICATE_FILE);
        let pem = match files::read(&path)? {
            Some(pem) => String::from_utf8(pem).map_err(|_| IdentityError::NoText { path: path.clone() })?,
            None => {
                let content = |source| IdentityError::Content { path: path.clone(), source };
                let pem = key.self_signed(subject, now).map_err(content)?;
                files::replace(&path, pem.as_bytes(), files::PUBLIC)?;
                pem
            }
        };
        let identity = read(&directory, &key, &pem)?;
        Ok(Self { directory, current: watch::Sender::new(Arc::new(identity)) })
    }

    fn open_key(directory: &std::path::Path) -> Result<NodeKey, IdentityError> {
        let path = directory.join(KEY_FILE);
        let content = |source| IdentityError::Content { path: path.clone(), source };
        if let Some(pem) = files::read(&path)? {
            let pem = String::from_utf8(pem).map_err(|_| IdentityError::NoText { path: path.clone() })?;
            return NodeKey::from_pem(&pem).map_err(content);
        }
        let key = NodeKey::generate().map_err(content)?;
        files::replace(&path, key.to_pem().as_bytes(), files::PRIVATE)?;
        Ok(key)
    }

    /// The identity as it is now.
    #[must_use]
    pub fn current(&self) -> Arc<Identity> {
        self.current.borrow().clone()
    }

    /// Follows the identity.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Identity>> {
        self.current.subscribe()
    }

    /// Takes over a certificate that the cluster's CA signed for this node's key.
    ///
    /// # Errors
    /// [`IdentityError`]; the identity is then as before.
    pub fn install(&self, certificate_pem: &str, ca_pem: &str) -> Result<(), IdentityError> {
        let pem = format!("{}\n{}\n", certificate_pem.trim_end(), ca_pem.trim_end());
        self.replace(&pem)
    }

    /// Goes back to a certificate of its own: this node is in no cluster any more.
    ///
    /// # Errors
    /// [`IdentityError`]; the identity is then as before.
    pub fn leave_cluster(&self, subject: &Subject, now: SystemTime) -> Result<(), IdentityError> {
        let path = self.directory.join(CERTIFICATE_FILE);
        let pem = self.current().key.self_signed(subject, now);
        self.replace(&pem.map_err(|source| IdentityError::Content { path, source })?)
    }

    fn replace(&self, pem: &str) -> Result<(), IdentityError> {
        let identity = read(&self.directory, &self.current().key, pem)?;
        files::replace(&self.directory.join(CERTIFICATE_FILE), pem.as_bytes(), files::PUBLIC)?;
        self.current.send_replace(Arc::new(identity));
        Ok(())
    }
}

fn read(directory: &std::path::Path, key: &Arc<NodeKey>, pem: &str) -> Result<Identity, IdentityError> {
    let content = |source| IdentityError::Content { path: directory.join(CERTIFICATE_FILE), source };
    let chain = ca::certificates(pem).map_err(content)?;
    let facts = CertificateFacts::from_der(&chain[0]).map_err(content)?;
    if !key.fits(&facts) {
        return Err(IdentityError::ForeignCertificate { path: directory.join(KEY_FILE) });
    }
    Ok(Identity { key: key.clone(), chain, facts })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ca::ClusterCa;

    fn subject() -> Subject {
        Subject { name: "n1".parse().unwrap(), addresses: Vec::new() }
    }

    fn open(directory: &tempfile::TempDir) -> Result<IdentityStore, IdentityError> {
        IdentityStore::open(directory.path().to_owned(), &subject(), SystemTime::now())
    }

    #[test]
    fn the_first_start_makes_a_key_for_the_owner_alone_and_later_ones_keep_it() {
        let directory = tempfile::tempdir().unwrap();

        let first = open(&directory).unwrap().current();
        let second = open(&directory).unwrap().current();

        assert_eq!(first.chain, second.chain);
        assert_eq!(first.ca_fingerprint(), None);
        let mode = std::fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_installed_certificate_is_announced_and_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory).unwrap();
        let mut seen = store.subscribe();
        let ca = ClusterCa::create("demo", SystemTime::now()).unwrap();
        let request = store.current().key.request(&subject().name).unwrap();
        let certificate = ca.sign(&request, &subject(), SystemTime::now()).unwrap();

        store.install(&certificate, ca.certificate_pem()).unwrap();

        assert!(seen.has_changed().unwrap());
        assert!(seen.borrow_and_update().ca_fingerprint().is_some());
        assert_eq!(open(&directory).unwrap().current().chain, store.current().chain);

        store.leave_cluster(&subject(), SystemTime::now()).unwrap();
        assert_eq!(open(&directory).unwrap().current().ca_fingerprint(), None);
    }

    #[test]
    fn a_certificate_of_another_key_is_refused_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory).unwrap();
        let ca = ClusterCa::create("demo", SystemTime::now()).unwrap();
        let request = NodeKey::generate().unwrap().request(&subject().name).unwrap();
        let certificate = ca.sign(&request, &subject(), SystemTime::now()).unwrap();

        let refused = store.install(&certificate, ca.certificate_pem());

        assert!(matches!(refused, Err(IdentityError::ForeignCertificate { .. })));
        assert_eq!(store.current().ca_fingerprint(), None);
    }

    #[test]
    fn a_damaged_key_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(KEY_FILE), "rubbish").unwrap();
        let error = open(&directory).err().unwrap();
        assert!(error.to_string().contains("node.key"), "{error}");
    }
}
