//! TLS on both sides: what the gateway's port demands, and how a gateway checks another one.
//!
//! The server asks for a client certificate of the cluster's CA and goes on without one: what a caller
//! without one may do is decided per call, in `auth.rs`. The client trusts exactly one fingerprint: the
//! server's own certificate, or the CA that signed it. The server's name plays no part, since any
//! member may answer for the cluster and tokens name addresses.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

use crate::{fingerprint::Fingerprint, identity::Identity};

/// A key and certificates that TLS cannot work with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Key or certificate are refused.
    #[error("the node's key and certificate cannot be used for TLS")]
    Identity(#[source] rustls::Error),
    /// The CA's certificate is refused.
    #[error("the cluster's CA certificate cannot be used for TLS")]
    Ca(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The other end's certificates do not contain the one that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected fingerprint {expected}, the other end has {found}")]
pub struct FingerprintMismatch {
    /// What was expected.
    pub expected: Fingerprint,
    /// The last certificate of what was sent: the CA's if there was one, else the server's own.
    pub found: Fingerprint,
}

/// What a server with this identity demands and offers: HTTP/2 first, TLS 1.2 or 1.3.
///
/// # Errors
/// [`TlsError`] if rustls refuses key or certificates.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = match identity.ca() {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(only_root(ca)?);
            WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|error| TlsError::Ca(error.into()))?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), private_key(identity))
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Resumed sessions would carry a caller's certificate across a change of the CA.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How a client checks the one server it trusts; with an identity it shows its own certificate too.
///
/// # Errors
/// [`TlsError`] if rustls refuses the identity.
pub fn client_config(
    trusted: Fingerprint,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Pinned { trusted, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Identity)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), private_key(identity))
            .map_err(TlsError::Identity)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The mismatch behind a failed TLS handshake, if that was the reason.
#[must_use]
pub fn fingerprint_mismatch(error: &std::io::Error) -> Option<FingerprintMismatch> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = error else {
        return None;
    };
    other.downcast_ref::<FingerprintMismatch>().cloned()
}

fn private_key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.to_der()))
}

fn only_root(ca: &CertificateDer<'static>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|error| TlsError::Ca(error.into()))?;
    Ok(roots)
}

/// Accepts a server whose own certificate, or whose CA's, has the trusted fingerprint.
#[derive(Debug)]
struct Pinned {
    trusted: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Fingerprint::of(end_entity) == self.trusted {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(ca) = intermediates.iter().find(|sent| Fingerprint::of(sent) == self.trusted) else {
            let found = Fingerprint::of(intermediates.last().unwrap_or(end_entity));
            let mismatch = FingerprintMismatch { expected: self.trusted, found };
            return Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            &[],
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::{
        ca::{ClusterCa, Subject},
        identity::IdentityStore,
    };

    struct Node {
        store: IdentityStore,
        _directory: tempfile::TempDir,
    }

    fn subject() -> Subject {
        Subject { name: "n1".parse().unwrap(), addresses: Vec::new() }
    }

    fn alone() -> Node {
        let directory = tempfile::tempdir().unwrap();
        let store = IdentityStore::open(directory.path().to_owned(), &subject(), SystemTime::now()).unwrap();
        Node { store, _directory: directory }
    }

    fn member(ca: &ClusterCa) -> Node {
        let node = alone();
        let request = node.store.current().key.request(&subject().name).unwrap();
        let certificate = ca.sign(&request, &subject(), SystemTime::now()).unwrap();
        node.store.install(&certificate, ca.certificate_pem()).unwrap();
        node
    }

    fn ca() -> ClusterCa {
        ClusterCa::create("demo", SystemTime::now()).unwrap()
    }

    /// Shakes hands and sends one byte back; gives whether the server saw a client certificate.
    async fn handshake(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> std::io::Result<bool> {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let serve = tokio::spawn(async move {
            let mut stream = TlsAcceptor::from(server).accept(far).await?;
            let authenticated = stream.get_ref().1.peer_certificates().is_some();
            stream.write_all(b"!").await?;
            stream.shutdown().await?;
            Ok::<_, std::io::Error>(authenticated)
        });
        let name = ServerName::try_from("anything").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.read_u8().await?;
        serve.await.unwrap()
    }

    #[tokio::test]
    async fn a_stand_alone_server_is_accepted_by_the_fingerprint_of_its_own_certificate() {
        let server = alone().store.current();
        let client = client_config(Fingerprint::of(&server.chain[0]), None).unwrap();
        assert!(!handshake(server_config(&server).unwrap(), client).await.unwrap());
    }

    #[tokio::test]
    async fn a_member_is_accepted_by_the_fingerprint_of_its_ca() {
        let ca = ca();
        let server = member(&ca).store.current();
        let client = client_config(server.ca_fingerprint().unwrap(), None).unwrap();
        assert!(!handshake(server_config(&server).unwrap(), client).await.unwrap());
    }

    #[tokio::test]
    async fn two_members_know_each_other() {
        let ca = ca();
        let (server, other) = (member(&ca).store.current(), member(&ca).store.current());
        let client = client_config(server.ca_fingerprint().unwrap(), Some(&other)).unwrap();
        assert!(handshake(server_config(&server).unwrap(), client).await.unwrap());
    }

    #[tokio::test]
    async fn a_server_of_another_cluster_is_refused_with_both_fingerprints() {
        let ours = member(&ca()).store.current();
        let theirs = member(&ca()).store.current();
        let expected = ours.ca_fingerprint().unwrap();
        let client = client_config(expected, None).unwrap();

        let error = handshake(server_config(&theirs).unwrap(), client).await.unwrap_err();

        let found = theirs.ca_fingerprint().unwrap();
        assert_eq!(fingerprint_mismatch(&error), Some(FingerprintMismatch { expected, found }));
    }

    #[tokio::test]
    async fn a_server_that_only_shows_the_trusted_ca_is_refused() {
        let ca = ca();
        let trusted = member(&ca).store.current();
        let intruder = alone().store.current();
        let mut chain = intruder.chain.clone();
        chain.push(trusted.ca().unwrap().clone());
        let forged = Identity { key: intruder.key.clone(), chain, facts: intruder.facts.clone() };
        let client = client_config(trusted.ca_fingerprint().unwrap(), None).unwrap();

        let error = handshake(server_config(&forged).unwrap(), client).await.unwrap_err();

        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    }

    #[tokio::test]
    async fn a_client_of_another_cluster_is_refused() {
        let server = member(&ca()).store.current();
        let stranger = member(&ca()).store.current();
        let client = client_config(server.ca_fingerprint().unwrap(), Some(&stranger)).unwrap();
        assert!(handshake(server_config(&server).unwrap(), client).await.is_err());
    }
}
