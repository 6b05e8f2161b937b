//! TLS with the certificates of the cluster: both ends show theirs, and a node's name counts.

use std::{fs, path::Path, sync::Arc};

use quorate_daemon::Root;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::ring::default_provider, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::error::Error;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The key and the chain that the gateway keeps: the node's certificate, then the authority's.
struct Identity {
    key: PrivateKeyDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

/// What this node demands of a caller and shows it.
pub(crate) fn server(root: &Root) -> Result<Arc<ServerConfig>, Error> {
    with_identity(root, |identity| {
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(identity.roots, provider.clone()).build()?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain, identity.key)?;
        Ok(Arc::new(config))
    })
}

/// What this node demands of the node that it calls and shows it. `protocols` as in ALPN.
pub(crate) fn client(root: &Root, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, Error> {
    with_identity(root, |identity| {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(identity.roots)
            .with_client_auth_cert(identity.chain, identity.key)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    })
}

/// Read anew each time: a certificate may have been renewed since.
fn with_identity<T>(root: &Root, make: impl FnOnce(Identity) -> Result<T, BoxError>) -> Result<T, Error> {
    let directory = root.state_dir("gatewayd");
    let made = read(&directory).and_then(make);
    made.map_err(|source| Error::Identity { path: directory, source })
}

fn read(directory: &Path) -> Result<Identity, BoxError> {
    let key = PrivateKeyDer::from_pem_slice(&fs::read(directory.join("node.key"))?)?;
    let pem = fs::read(directory.join("node.pem"))?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
    let [_, .., authority] = &chain[..] else {
        return Err("the certificate is not signed by a cluster's authority".into());
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(Identity { key, chain, roots: Arc::new(roots) })
}
