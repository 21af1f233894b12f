//! The keys of service account tokens: one signs, several verify.
//!
//! A key is known by the SHA-256 of its public half as upstream writes it (`kid`), so that tokens of an upstream API
//! server with the same keys are found, too. Private halves never leave this file but by [`SigningKey::pkcs8`].

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use k8s_core::status::{ApiError, ApiResult};
use serde_json::{Value, json};
use x509_parser::{
    pem::Pem,
    prelude::{FromDer, X509Certificate},
    public_key::{PublicKey, RSAPublicKey},
    x509::SubjectPublicKeyInfo,
};

/// The lengths of uncompressed points: 0x04, then both coordinates.
const P256_POINT: usize = 65;
const P384_POINT: usize = 97;

/// The key that signs tokens: ECDSA on P-256 or P-384, or RSA.
pub struct SigningKey {
    pkcs8: Vec<u8>,
    verification: VerificationKey,
}

impl SigningKey {
    /// A new key on P-256, from the operating system's randomness.
    pub fn generate() -> ApiResult<Self> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| ApiError::internal("no signing key could be made"))?;
        Self::from_der(document.as_ref())
    }

    /// A kept key, DER: PKCS#8, or a form of its own (PKCS#1 of RSA, SEC 1 of ECDSA).
    pub fn from_der(der: &[u8]) -> ApiResult<Self> {
        let elliptic = [&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P384_SHA384_FIXED_SIGNING]
            .into_iter()
            .find_map(|algorithm| elliptic(algorithm, der));
        let parts = elliptic.or_else(|| modular(der));
        let (pkcs8, info) = parts.ok_or_else(|| {
            ApiError::internal("service account key: it is no private key of ECDSA on P-256 or P-384, or of RSA")
        })?;
        let verification = VerificationKey::from_info(&info)
            .map_err(|why| ApiError::internal(format!("service account key: {why}")))?;
        Ok(Self { pkcs8, verification })
    }

    /// To keep it: PKCS#8, DER. Secret.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Its public half.
    pub fn verification(&self) -> VerificationKey {
        self.verification.clone()
    }

    pub(super) fn encoding(&self) -> ApiResult<EncodingKey> {
        if self.verification.algorithm != Algorithm::RS256 {
            return Ok(EncodingKey::from_ec_der(&self.pkcs8));
        }
        // The library takes the key's inner form alone, and finds it in PEM.
        let lines: Vec<String> = STANDARD
            .encode(&self.pkcs8)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        EncodingKey::from_rsa_pem(pem.as_bytes())
            .map_err(|why| ApiError::internal(format!("service account key: {why}")))
    }
}

/// PKCS#8 of a key on a curve, and its `SubjectPublicKeyInfo`.
fn elliptic(algorithm: &'static EcdsaSigningAlgorithm, der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let pair = EcdsaKeyPair::from_private_key_der(algorithm, der).ok()?;
    let info = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).ok()?;
    Some((pair.to_pkcs8v1().ok()?.as_ref().to_vec(), info.as_ref().to_vec()))
}

/// The same of a key of RSA.
fn modular(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let pair = rsa::KeyPair::from_pkcs8(der).or_else(|_| rsa::KeyPair::from_der(der)).ok()?;
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).ok()?;
    let info = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).ok()?;
    Some((pkcs8.as_ref().to_vec(), info.as_ref().to_vec()))
}

/// A key that verifies tokens: RSA, or ECDSA on P-256 or P-384.
#[derive(Clone)]
pub struct VerificationKey {
    pub(super) id: String,
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: Algorithm,
    jwk: Value,
}

impl VerificationKey {
    /// Every key of a PEM text, as `--service-account-key-file` takes it: public keys, certificates, and private keys (of
    /// which the public half is used). The error says which block is none of these.
    pub fn from_pem(text: &[u8]) -> Result<Vec<Self>, String> {
        let mut found = Vec::new();
        for (index, block) in Pem::iter_from_buffer(text).enumerate() {
            let block = block.map_err(|why| format!("block {}: {why}", index + 1))?;
            found.push(Self::from_block(&block).map_err(|why| format!("block {}, {}: {why}", index + 1, block.label))?);
        }
        if found.is_empty() { Err("it has no PEM block".into()) } else { Ok(found) }
    }

    fn from_block(block: &Pem) -> Result<Self, String> {
        let unreadable = |what: &dyn std::fmt::Display| format!("it cannot be read: {what}");
        match block.label.as_str() {
            "PUBLIC KEY" => Self::from_info(&block.contents),
            "CERTIFICATE" => {
                let (_, certificate) = X509Certificate::from_der(&block.contents).map_err(|why| unreadable(&why))?;
                Self::from_info(certificate.public_key().raw)
            }
            "RSA PUBLIC KEY" => {
                let key = rsa::PublicKey::from_der(&block.contents).map_err(|why| unreadable(&why))?;
                let info = AsDer::<PublicKeyX509Der<'_>>::as_der(&key).map_err(|why| unreadable(&why))?;
                Self::from_info(info.as_ref())
            }
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                let key = SigningKey::from_der(&block.contents).map_err(|why| unreadable(&why))?;
                Ok(key.verification())
            }
            _ => Err("it is no public key".into()),
        }
    }

    /// A `SubjectPublicKeyInfo`, DER.
    pub(crate) fn from_info(der: &[u8]) -> Result<Self, String> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|why| format!("it cannot be read: {why}"))?;
        match info.parsed() {
            Ok(PublicKey::RSA(key)) => Ok(Self::rsa(&key, der)),
            Ok(PublicKey::EC(point)) if matches!(point.data().len(), P256_POINT | P384_POINT) => {
                Ok(Self::elliptic(point.data(), der))
            }
            _ => Err("it is neither RSA nor ECDSA on P-256 or P-384".into()),
        }
    }

    /// From an uncompressed point: 0x04, then both coordinates, each of half the rest.
    fn elliptic(point: &[u8], info: &[u8]) -> Self {
        let (algorithm, name, curve) = match point.len() {
            P384_POINT => (Algorithm::ES384, "ES384", "P-384"),
            _ => (Algorithm::ES256, "ES256", "P-256"),
        };
        let (x, y) = point[1..].split_at(point.len() / 2);
        let (id, x, y) = (id(info), URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwk = json!({"use": "sig", "kty": "EC", "kid": id, "crv": curve, "alg": name, "x": x, "y": y});
        Self { id, decoding: DecodingKey::from_ec_der(point), algorithm, jwk }
    }

    fn rsa(key: &RSAPublicKey<'_>, der: &[u8]) -> Self {
        let trimmed = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
        let (modulus, exponent) = (trimmed(key.modulus), trimmed(key.exponent));
        let (id, n, e) = (id(der), URL_SAFE_NO_PAD.encode(&modulus), URL_SAFE_NO_PAD.encode(&exponent));
        let jwk = json!({"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256", "n": n, "e": e});
        let decoding = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
        Self { id, decoding, algorithm: Algorithm::RS256, jwk }
    }

    /// As one key of a JWKS document.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }
}

fn id(public: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, public))
}
