//! TLS both ways: the member shows a certificate, and wants one.

use std::{fs, path::PathBuf, time::Duration};

use k8s_store::{Etcd, EtcdOptions, EtcdTls, Store, Transaction};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::{member::Member, time};

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("valid");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(parameters, key).expect("a certificate") }
    }

    /// A certificate and its key.
    fn issue(&self) -> (Vec<u8>, Vec<u8>) {
        let mut parameters = CertificateParams::new(vec!["127.0.0.1".into()]).expect("valid");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    fn certificate(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }
}

#[tokio::test]
async fn both_sides_show_certificates() {
    let (authority, stranger, folder) = (Authority::new(), Authority::new(), tempfile::tempdir().expect("a folder"));
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("writes");
        path
    };
    let (certificate, key) = authority.issue();
    let files = [write("server", &certificate), write("key", &key), write("ca", &authority.certificate())];
    let [certificate, key, ca] = files.each_ref().map(|path| path.to_str().expect("text"));
    let arguments = ["--cert-file", certificate, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth"];
    let mut member = Member::new("secure", &arguments);
    let cluster = member.in_cluster();
    member.start(&cluster);
    member.wait_until_it_listens();
    let with = |tls: EtcdTls| EtcdOptions {
        tls: Some(tls),
        timeout: Duration::from_secs(2),
        ..EtcdOptions::new([format!("https://127.0.0.1:{}", member.client)])
    };
    let (ca, identity) = (authority.certificate(), Some(authority.issue()));
    let good = EtcdTls { ca: ca.clone(), identity: identity.clone() };
    let store = Etcd::connect(with(good), time::real()).await.expect("both are known");
    store.commit(Transaction::new().put("a", "v")).await.expect("commits");
    let bad = [
        EtcdTls { ca: ca.clone(), identity: None },
        EtcdTls { ca, identity: Some(stranger.issue()) },
        EtcdTls { ca: stranger.certificate(), identity },
    ];
    for tls in bad {
        let error = Etcd::connect(with(tls), time::real()).await.err().expect("a stranger is refused");
        assert!(error.to_string().contains("none of https://"), "{error}");
    }
}
