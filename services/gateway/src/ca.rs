//! Certificates: the cluster's own authority, what it signs, and what a node has before that.
//!
//! Every key is ECDSA on P-256: understood by every TLS library, small, and quick to make. A node's
//! private key never leaves the node; the authority's lies in the replicated tree
//! (`priv/pve-root-ca.key`), so that any member can admit a node while another one is down.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use quorate_types::NodeName;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The authority lives ten years. Source: pvecm specification, 4.1.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A node's certificate lives two years at most. Source: pvecm specification, 4.1.
const NODE_LIFETIME: Duration = Duration::from_secs(2 * 365 * 24 * 3600);
/// A node's certificate ends at least so long before its authority. Source: pvecm specification, 4.1.
const CA_MARGIN: Duration = Duration::from_secs(2 * 24 * 3600);
/// An authority that ends sooner signs nothing any more. Source: pvecm specification, 4.1.
const CA_REMAINING_MIN: Duration = Duration::from_secs(14 * 24 * 3600);
/// Certificates begin so long before they are made: the clocks of a new cluster may differ.
const BACKDATED: Duration = DAY;

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The node: the common name, and the first alternative name.
    pub name: NodeName,
    /// Addresses under which the node is reached; loopback and `localhost` are always added.
    pub addresses: Vec<IpAddr>,
}

/// What could not be done with a key or a certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A key could not be made or read.
    #[error("the {what} cannot be made or read")]
    Key {
        /// Which key.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate could not be made.
    #[error("the {what} cannot be made")]
    Make {
        /// Which certificate.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The signing request is none, or its signature is wrong.
    #[error("the certificate signing request cannot be used")]
    Request(#[source] rcgen::Error),
    /// A certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// Key and certificate of the authority do not belong together.
    #[error("the key in priv/pve-root-ca.key does not belong to the certificate in pve-root-ca.pem")]
    ForeignKey,
    /// The authority ends too soon to sign.
    #[error("the cluster's CA certificate ends in {days} days; it signs nothing in its last {min} days", min = CA_REMAINING_MIN.as_secs() / DAY.as_secs())]
    Ending {
        /// Days that it has left; 0 if it has ended.
        days: u64,
    },
}

/// A node's private key.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// [`CaError::Key`] if the system gives no random bytes.
    pub fn generate() -> Result<Self, CaError> {
        KeyPair::generate().map(Self).map_err(|source| CaError::Key { what: "node's key", source })
    }

    /// Reads a key in PKCS#8 PEM.
    ///
    /// # Errors
    /// [`CaError::Key`] if it is none.
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        KeyPair::from_pem(pem).map(Self).map_err(|source| CaError::Key { what: "node's key", source })
    }

    /// The key in PKCS#8 PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The key in PKCS#8 DER.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// Whether the certificate was made for this key.
    #[must_use]
    pub fn fits(&self, facts: &CertificateFacts) -> bool {
        facts.public_key == rcgen::PublicKeyData::der_bytes(&self.0)
    }

    /// A request for a certificate of this key, in PEM. What it should say is up to the authority.
    ///
    /// # Errors
    /// [`CaError::Make`] if the key cannot sign.
    pub fn request(&self, name: &NodeName) -> Result<String, CaError> {
        let make = |source| CaError::Make { what: "certificate signing request", source };
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name.as_str());
        let request = params.serialize_request(&self.0).map_err(make)?;
        request.pem().map_err(make)
    }

    /// A certificate that this key signs itself: what a node has while it is in no cluster.
    ///
    /// # Errors
    /// [`CaError::Make`] if a name cannot stand in a certificate.
    pub fn self_signed(&self, subject: &Subject, now: SystemTime) -> Result<String, CaError> {
        let what = "self-signed certificate";
        let params =
            leaf(subject, now, now + NODE_LIFETIME).map_err(|source| CaError::Make { what, source })?;
        let certificate = params.self_signed(&self.0).map_err(|source| CaError::Make { what, source })?;
        Ok(certificate.pem())
    }
}

/// The authority of a cluster: its certificate and key.
pub struct ClusterCa {
    certificate_pem: String,
    key: KeyPair,
}

impl ClusterCa {
    /// A new authority for a cluster of this name.
    ///
    /// # Errors
    /// [`CaError::Key`] or [`CaError::Make`].
    pub fn create(cluster: &str, now: SystemTime) -> Result<Self, CaError> {
        let key = KeyPair::generate().map_err(|source| CaError::Key { what: "cluster CA's key", source })?;
        let mut params = CertificateParams::default();
        let unique: u32 = rand::random();
        params.distinguished_name = common_name(&format!("Quorate cluster CA {unique:08x}"));
        params.distinguished_name.push(DnType::OrganizationName, cluster);
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + CA_LIFETIME).into();
        params.serial_number = Some(serial());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, &key)
            .map_err(|source| CaError::Make { what: "cluster CA's certificate", source })?;
        let certificate_pem = issuer.pem();
        Ok(Self { certificate_pem, key })
    }

    /// The authority whose certificate and key the tree holds.
    ///
    /// # Errors
    /// [`CaError::Unreadable`], [`CaError::Key`], or [`CaError::ForeignKey`] if they do not belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let key =
            KeyPair::from_pem(key_pem).map_err(|source| CaError::Key { what: "cluster CA's key", source })?;
        let facts = CertificateFacts::from_pem(certificate_pem)?;
        if facts.public_key != rcgen::PublicKeyData::der_bytes(&key) {
            return Err(CaError::ForeignKey);
        }
        Ok(Self { certificate_pem: certificate_pem.to_owned(), key })
    }

    /// Its certificate in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key in PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Signs a certificate for the key of a request, in PEM. The request only brings the key: what the
    /// certificate says is `subject`, checked by the caller.
    ///
    /// # Errors
    /// [`CaError::Request`] for a bad request, [`CaError::Ending`] if the authority ends too soon,
    /// [`CaError::Make`] else.
    pub fn sign(&self, request_pem: &str, subject: &Subject, now: SystemTime) -> Result<String, CaError> {
        let ca = CertificateFacts::from_pem(&self.certificate_pem)?;
        let remaining = ca.not_after.duration_since(now).unwrap_or_default();
        if remaining < CA_REMAINING_MIN {
            return Err(CaError::Ending { days: remaining.as_secs() / DAY.as_secs() });
        }
        let mut request = CertificateSigningRequestParams::from_pem(request_pem).map_err(CaError::Request)?;
        let what = "node's certificate";
        let end = (now + NODE_LIFETIME).min(ca.not_after - CA_MARGIN);
        request.params = leaf(subject, now, end).map_err(|source| CaError::Make { what, source })?;
        request.params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, &self.key)
            .map_err(|source| CaError::Make { what, source })?;
        let certificate = request.signed_by(&issuer).map_err(|source| CaError::Make { what, source })?;
        Ok(certificate.pem())
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

/// Both roles in one certificate: a gateway is a server to its clients and a client of other gateways.
fn leaf(subject: &Subject, now: SystemTime, end: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(subject.name.as_str());
    params.not_before = (now - BACKDATED).into();
    params.not_after = end.into();
    params.serial_number = Some(serial());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let mut addresses = subject.addresses.clone();
    for loopback in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        if !addresses.contains(&loopback) {
            addresses.push(loopback);
        }
    }
    params.subject_alt_names.push(SanType::DnsName(subject.name.as_str().try_into()?));
    params.subject_alt_names.push(SanType::DnsName("localhost".try_into()?));
    params.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
    Ok(params)
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The common name of its subject; empty if it has none. A node's name, in what we sign.
    pub common_name: String,
    /// Not valid from then on.
    pub not_after: SystemTime,
    /// Whether subject and issuer are the same.
    pub self_issued: bool,
    /// The public key's bits.
    public_key: Vec<u8>,
}

impl CertificateFacts {
    /// Reads a certificate in DER. Nothing is verified.
    ///
    /// # Errors
    /// [`CaError::Unreadable`].
    pub fn from_der(der: &[u8]) -> Result<Self, CaError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| CaError::Unreadable(error.to_string()))?;
        let common_name = certificate
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .unwrap_or_default();
        let not_after = certificate.validity().not_after.timestamp();
        Ok(Self {
            common_name: common_name.to_owned(),
            not_after: SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(not_after).unwrap_or_default()),
            self_issued: certificate.subject() == certificate.issuer(),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Reads the first certificate of a PEM text. Nothing is verified.
    ///
    /// # Errors
    /// [`CaError::Unreadable`].
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        Self::from_der(&certificates(pem)?[0])
    }
}

/// All certificates of a PEM text, in order: at least one.
///
/// # Errors
/// [`CaError::Unreadable`] if there is none or one is broken.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| CaError::Unreadable(error.to_string()))?;
    if found.is_empty() {
        return Err(CaError::Unreadable("there is no certificate in the text".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject { name: "n1".parse().unwrap(), addresses: vec!["10.0.0.1".parse().unwrap()] }
    }

    fn now() -> SystemTime {
        SystemTime::now()
    }

    #[test]
    fn a_signed_certificate_carries_what_the_authority_decided_not_what_was_asked() {
        let ca = ClusterCa::create("demo", now()).unwrap();
        let key = NodeKey::generate().unwrap();
        let request = key.request(&"intruder".parse().unwrap()).unwrap();
        let facts = CertificateFacts::from_pem(&ca.sign(&request, &subject(), now()).unwrap()).unwrap();
        assert_eq!(facts.common_name, "n1");
        assert!(key.fits(&facts));
        assert!(!facts.self_issued);
    }

    #[test]
    fn a_nodes_certificate_ends_two_days_before_its_authority_at_the_latest() {
        let made = now() - CA_LIFETIME + 30 * DAY;
        let ca = ClusterCa::create("demo", made).unwrap();
        let request = NodeKey::generate().unwrap().request(&"n1".parse().unwrap()).unwrap();
        let leaf = CertificateFacts::from_pem(&ca.sign(&request, &subject(), now()).unwrap()).unwrap();
        let root = CertificateFacts::from_pem(ca.certificate_pem()).unwrap();
        assert!(leaf.not_after + CA_MARGIN <= root.not_after);
    }

    #[test]
    fn an_authority_in_its_last_days_signs_nothing() {
        let ca = ClusterCa::create("demo", now() - CA_LIFETIME + 13 * DAY + DAY / 2).unwrap();
        let request = NodeKey::generate().unwrap().request(&"n1".parse().unwrap()).unwrap();
        assert!(matches!(ca.sign(&request, &subject(), now()), Err(CaError::Ending { days: 13 })));
    }

    #[test]
    fn the_authority_reads_back_and_refuses_a_foreign_key() {
        let ca = ClusterCa::create("demo", now()).unwrap();
        let other = ClusterCa::create("demo", now()).unwrap();
        assert!(ClusterCa::from_pem(ca.certificate_pem(), &ca.key_pem()).is_ok());
        assert!(matches!(
            ClusterCa::from_pem(ca.certificate_pem(), &other.key_pem()),
            Err(CaError::ForeignKey)
        ));
    }

    #[test]
    fn a_request_that_is_none_is_refused() {
        let ca = ClusterCa::create("demo", now()).unwrap();
        for bad in
            ["", "rubbish", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
        {
            assert!(matches!(ca.sign(bad, &subject(), now()), Err(CaError::Request(_))), "{bad}");
        }
    }

    #[test]
    fn a_node_key_survives_its_pem() {
        let key = NodeKey::generate().unwrap();
        let read = NodeKey::from_pem(&key.to_pem()).unwrap();
        let facts = CertificateFacts::from_pem(&read.self_signed(&subject(), now()).unwrap()).unwrap();
        assert!(key.fits(&facts));
        assert!(facts.self_issued);
    }
}
