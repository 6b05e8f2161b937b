//! The cluster's key and certificate for the arbiter, and the arbiter's CA.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::Error;

/// The cluster's private key.
pub(super) struct Key(KeyPair);

/// All that a node shows to the arbiter, and whom it trusts.
pub(super) struct Credentials {
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: String,
}

fn unusable(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Parameters(vec![format!("{what}: {why}")])
}

impl Key {
    /// A new key: ECDSA on P-256.
    pub(super) fn generate() -> Result<Self, Error> {
        KeyPair::generate().map(Self).map_err(|error| unusable("a key cannot be made", error))
    }

    pub(super) fn from_pem(pem: &str) -> Result<Self, Error> {
        KeyPair::from_pem(pem).map(Self).map_err(|error| unusable("priv/qdevice.key", error))
    }

    pub(super) fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A request for a certificate of the cluster's name, in DER: corosync-qnetd-certutil reads nothing else.
    pub(super) fn request(&self, cluster: &str) -> Result<Vec<u8>, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, cluster);
        let request = params.serialize_request(&self.0);
        request
            .map(|request| request.der().to_vec())
            .map_err(|error| unusable("the request cannot be made", error))
    }
}

impl Credentials {
    /// Checks that all of it belongs together. Certificates may be in PEM, with text around it, or in DER.
    pub(super) fn new(ca: &[u8], certificate: &[u8], key: &Key, cluster: &str) -> Result<Self, Error> {
        let (ca, certificate) = (read("ca", ca)?, read("certificate", certificate)?);
        let (_, parsed_ca) = X509Certificate::from_der(&ca).map_err(|error| unusable("ca", error))?;
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|error| unusable("certificate", error))?;
        let mut problems = Vec::new();
        if !parsed_ca.is_ca() {
            problems.push("ca: this is no certificate of a CA".to_owned());
        }
        if parsed.public_key().raw != key.0.subject_public_key_info() {
            problems.push(
                "certificate: it was made for another key; sign the file of the last 'pvecm qdevice request'"
                    .to_owned(),
            );
        }
        if parsed.issuer() != parsed_ca.subject() {
            problems.push("certificate: it was signed by another CA".to_owned());
        }
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        if name != Some(cluster) {
            let name = name.unwrap_or("nobody");
            problems.push(format!("certificate: it is for '{name}', but the cluster is called '{cluster}'"));
        }
        if problems.is_empty() {
            Ok(Self { ca, certificate, key: key.to_pem() })
        } else {
            Err(Error::Parameters(problems))
        }
    }

    /// As the tree keeps it.
    pub(super) fn to_pem(&self) -> String {
        [pem(&self.ca), pem(&self.certificate), self.key.clone()].concat()
    }
}

fn read(what: &str, bytes: &[u8]) -> Result<CertificateDer<'static>, Error> {
    if let Ok(certificate) = CertificateDer::from_pem_slice(bytes) {
        return Ok(certificate);
    }
    match X509Certificate::from_der(bytes) {
        Ok(_) => Ok(CertificateDer::from(bytes.to_vec())),
        Err(_) => Err(unusable(what, "this is no certificate, neither in PEM nor in DER")),
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateSigningRequestParams, CertifiedIssuer, IsCa};

    use super::*;

    fn ca(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn signed(ca: &CertifiedIssuer<'static, KeyPair>, request: &[u8]) -> Vec<u8> {
        let request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        request.signed_by(ca).unwrap().der().to_vec()
    }

    #[test]
    fn what_belongs_together_becomes_one_file_that_reads_back() {
        let (ca, key) = (ca("QNet CA"), Key::generate().unwrap());
        let certificate = signed(&ca, &key.request("lab").unwrap());
        let key = Key::from_pem(&key.to_pem()).unwrap();

        let bundle = Credentials::new(ca.pem().as_bytes(), &certificate, &key, "lab").unwrap().to_pem();

        let read: Vec<_> = CertificateDer::pem_slice_iter(bundle.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(read, [ca.der().clone(), CertificateDer::from(certificate)]);
        assert!(bundle.contains("PRIVATE KEY"));
    }

    #[test]
    fn what_does_not_is_refused_with_every_reason() {
        let (one, other, key) = (ca("QNet CA"), ca("Another CA"), Key::generate().unwrap());
        let certificate = signed(&one, &Key::generate().unwrap().request("elsewhere").unwrap());

        let Err(Error::Parameters(problems)) = Credentials::new(other.der(), &certificate, &key, "lab")
        else {
            panic!("accepted")
        };

        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[2].contains("'elsewhere', but the cluster is called 'lab'"));
        assert!(Credentials::new(b"junk", &certificate, &key, "lab").is_err());
    }
}
