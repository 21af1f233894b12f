//! Certificates: a cluster's own authority, the certificates it issues, and how they lie on disk.
//!
//! A client certificate names its user in the common name and the user's groups in the organizations, as upstream
//! reads them. Keys are made by the operating system's randomness and stored readable by their owner alone.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_core::env::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// How long an authority is good for.
pub const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long an issued certificate is good for.
pub const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many groups a client certificate can name.
pub const MAX_GROUPS: usize = 2;
/// Certificates begin a little in the past, so that a peer whose clock is behind accepts them.
const BACKDATE: Duration = Duration::from_secs(3600);

/// A certificate chain and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The chain, leaf first.
    pub certificate_pem: String,
    /// The private key.
    pub key_pem: String,
}

/// An authority that issues certificates.
pub struct Authority {
    identity: Identity,
    issuer: Issuer<'static, KeyPair>,
}

/// What went wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A certificate could not be made.
    #[error("issue certificate for {subject:?}: {why}")]
    Issue {
        /// Whom it was for.
        subject: String,
        /// What the maker said.
        why: String,
    },
    /// A PEM text is not what it should be.
    #[error("{what}: {why}")]
    Pem {
        /// Which text.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file could not be read or written.
    #[error("{}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Authority {
    /// Makes a new authority, good from `now` on for [`CA_VALIDITY`].
    pub fn generate(name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let failed = |why: rcgen::Error| PkiError::Issue { subject: name.into(), why: why.to_string() };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = parameters(name, &[], &[], now, CA_VALIDITY).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let identity = Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() };
        Ok(Self { identity, issuer: Issuer::new(params, key) })
    }

    /// Takes an authority that was made before.
    pub fn from_identity(identity: Identity) -> Result<Self, PkiError> {
        let failed = |why: rcgen::Error| PkiError::Pem { what: "authority".into(), why: why.to_string() };
        let key = KeyPair::from_pem(&identity.key_pem).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&identity.certificate_pem, key).map_err(failed)?;
        Ok(Self { identity, issuer })
    }

    /// Loads an authority from `directory/{name}.crt` and `.key`, or makes and stores one when neither is there.
    pub fn load_or_generate(directory: &Path, name: &str, now: Timestamp) -> Result<Self, PkiError> {
        if let Some(identity) = Identity::load(directory, name)? {
            return Self::from_identity(identity);
        }
        let made = Self::generate(name, now)?;
        made.identity.store(directory, name)?;
        Ok(made)
    }

    /// The authority's own certificate, which others trust, as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.identity.certificate_pem
    }

    /// Certificate and key of the authority itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Issues a server certificate for DNS names and addresses.
    pub fn issue_server(&self, name: &str, hosts: &[String], now: Timestamp) -> Result<Identity, PkiError> {
        self.issue(name, &[], hosts, &[ExtendedKeyUsagePurpose::ServerAuth], now)
    }

    /// Issues a client certificate for a user in at most [`MAX_GROUPS`] groups.
    pub fn issue_client(&self, user: &str, groups: &[&str], now: Timestamp) -> Result<Identity, PkiError> {
        if groups.len() > MAX_GROUPS {
            let why = format!("{} groups, but a certificate holds at most {MAX_GROUPS}", groups.len());
            return Err(PkiError::Issue { subject: user.into(), why });
        }
        self.issue(user, groups, &[], &[ExtendedKeyUsagePurpose::ClientAuth], now)
    }

    fn issue(
        &self,
        subject: &str,
        groups: &[&str],
        hosts: &[String],
        usages: &[ExtendedKeyUsagePurpose],
        now: Timestamp,
    ) -> Result<Identity, PkiError> {
        let failed = |why: rcgen::Error| PkiError::Issue { subject: subject.into(), why: why.to_string() };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = parameters(subject, groups, hosts, now, VALIDITY).map_err(failed)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

fn parameters(
    subject: &str,
    groups: &[&str],
    hosts: &[String],
    now: Timestamp,
    validity: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (group, kind) in groups.iter().zip(organizations()) {
        params.distinguished_name.push(kind, *group);
    }
    params.distinguished_name.push(DnType::CommonName, subject);
    let since_epoch = Duration::from_secs(now.as_second().max(0).unsigned_abs());
    let start = date_time_ymd(1970, 1, 1) + since_epoch.saturating_sub(BACKDATE);
    params.not_before = start;
    params.not_after = start + BACKDATE + validity;
    Ok(params)
}

/// The kinds of name that say `O=`. The certificate maker holds one name of each kind, hence [`MAX_GROUPS`].
fn organizations() -> [DnType; MAX_GROUPS] {
    [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])]
}

impl Identity {
    /// Loads `directory/{name}.crt` and `.key`; `None` when neither is there, an error when only one is.
    pub fn load(directory: &Path, name: &str) -> Result<Option<Self>, PkiError> {
        let (certificate, key) = files(directory, name);
        let there = |path: &Path| path.try_exists().map_err(|source| PkiError::File { path: path.into(), source });
        if !there(&certificate)? && !there(&key)? {
            return Ok(None);
        }
        let read = |path: PathBuf| fs::read_to_string(&path).map_err(|source| PkiError::File { path, source });
        Ok(Some(Self { certificate_pem: read(certificate)?, key_pem: read(key)? }))
    }

    /// Stores as `directory/{name}.crt` and `.key`; the key is readable by its owner alone.
    pub fn store(&self, directory: &Path, name: &str) -> Result<(), PkiError> {
        let (certificate, key) = files(directory, name);
        fs::create_dir_all(directory).map_err(|source| PkiError::File { path: directory.into(), source })?;
        // The key goes first: a certificate without its key would look like a whole identity.
        write_private(&key, self.key_pem.as_bytes())?;
        fs::write(&certificate, &self.certificate_pem).map_err(|source| PkiError::File { path: certificate, source })
    }

    /// The chain, leaf first, DER.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        certificates("certificate", self.certificate_pem.as_bytes())
    }

    /// The private key, DER.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, PkiError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|why| PkiError::Pem { what: "private key".into(), why: why.to_string() })
    }
}

/// Never shows the key.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// Reads every certificate of a PEM text; at least one must be there. `what` names the text in errors.
pub fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let failed = |why: String| PkiError::Pem { what: what.into(), why };
    let found =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|e| failed(e.to_string()))?;
    if found.is_empty() { Err(failed("holds no certificate".into())) } else { Ok(found) }
}

/// Reads a private key of a PEM text, as DER. `what` names the text in errors.
pub fn private_key(what: &str, pem: &[u8]) -> Result<Vec<u8>, PkiError> {
    let key = PrivateKeyDer::from_pem_slice(pem);
    let key = key.map_err(|why| PkiError::Pem { what: what.into(), why: why.to_string() })?;
    Ok(key.secret_der().to_vec())
}

/// Writes a file that only its owner may read, whatever the process's mask is. When it returns, the file outlives a
/// crash; before, the path holds what it held.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let failed = |source| PkiError::File { path: path.into(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    write_new_private(temporary, bytes).and_then(|()| fs::rename(temporary, path)).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn write_new_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // The mode above counts only for a new file.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn files(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T05:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_client_certificate_names_user_and_groups() {
        let authority = Authority::generate("test-ca", now()).unwrap();
        let issued = authority.issue_client("system:node:n1", &["system:nodes", "b"], now()).unwrap();
        let der = issued.certificates().unwrap();
        let (_, certificate) = X509Certificate::from_der(&der[0]).unwrap();
        let subject = certificate.subject();
        let user: Vec<&str> = subject.iter_common_name().map(|name| name.as_str().unwrap()).collect();
        let mut groups: Vec<&str> = subject.iter_organization().map(|name| name.as_str().unwrap()).collect();
        groups.sort_unstable();
        assert_eq!((user.as_slice(), groups.as_slice()), (&["system:node:n1"][..], &["b", "system:nodes"][..]));
        assert!(authority.issue_client("x", &["a", "b", "c"], now()).is_err());
        let validity = certificate.validity();
        assert_eq!(validity.not_before.timestamp(), now().as_second() - 3600);
        assert_eq!(validity.not_after.timestamp(), now().as_second() + VALIDITY.as_secs() as i64);
    }

    #[test]
    fn an_authority_survives_the_disk_and_its_key_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let made = Authority::load_or_generate(directory.path(), "ca", now()).unwrap();
        let again = Authority::load_or_generate(directory.path(), "ca", now()).unwrap();
        assert_eq!(made.certificate_pem(), again.certificate_pem());
        let mode = fs::metadata(directory.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        again.issue_server("x", &["localhost".into(), "127.0.0.1".into()], now()).unwrap();
    }

    #[test]
    fn half_an_identity_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.crt"), "x").unwrap();
        let error = Authority::load_or_generate(directory.path(), "ca", now()).err().unwrap();
        assert!(error.to_string().ends_with("ca.key"), "{error}");
    }
}
