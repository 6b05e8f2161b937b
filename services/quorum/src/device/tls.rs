//! TLS with the arbiter: its certificates are those of `corosync-qnetd-certutil`.
//!
//! The arbiter has a CA of its own, which signs its server's certificate (common name `Qnetd Server`, no names of
//! hosts) and one certificate per cluster (common name: the cluster's). So a server is trusted when the CA signed
//! its certificate and the common name is the server's: the certificate of another cluster is not enough.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use quorate_daemon::Root;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Common name of an arbiter's certificate. Source: corosync-qdevice(8), `net_nss_qnetd_cn`.
const SERVER: &str = "Qnetd Server";

/// Why TLS cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// A file is not there, or not readable.
    #[error("{}: it comes with `pvecm qdevice setup`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} does not hold two certificates and a key: set the device up again", path.display())]
    Content { path: PathBuf },
    /// Key and certificate do not work.
    #[error("the certificates of the quorum device cannot be used")]
    Use(#[source] rustls::Error),
}

/// Not the arbiter.
#[derive(Debug, thiserror::Error)]
#[error("its certificate is for '{0}', not for '{SERVER}'")]
struct OtherName(String);

/// Names play no part; the protocol wants one.
pub(super) fn server_name() -> ServerName<'static> {
    ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED))
}

/// What opens a connection, with the certificates as they are on the disk now.
pub(super) async fn connector(root: &Root) -> Result<TlsConnector, TlsError> {
    let path = root.qdevice_credentials();
    let bundle =
        tokio::fs::read(&path).await.map_err(|source| TlsError::Read { path: path.clone(), source })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bundle).collect();
    let (Ok::<[CertificateDer<'static>; 2], _>([ca, certificate]), Ok(key)) =
        (certificates.unwrap_or_default().try_into(), PrivateKeyDer::from_pem_slice(&bundle))
    else {
        return Err(TlsError::Content { path });
    };
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(TlsError::Use)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Arbiter { roots, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Use)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(TlsError::Use)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Accepts the server that the arbiter's CA certifies as such.
#[derive(Debug)]
struct Arbiter {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

impl ServerCertVerifier for Arbiter {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        match common_name(end_entity) {
            Some(name) if name == SERVER => Ok(ServerCertVerified::assertion()),
            other => {
                let other = OtherName(other.unwrap_or_default());
                Err(CertificateError::Other(OtherError(Arc::new(other))).into())
            }
        }
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
