//! Whether who asks for a certificate has the key that it is for: a signing request is signed with it.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::{
    certification_request::X509CertificationRequest, public_key::PublicKey, signature_algorithm::RsaSsaPssParams,
    x509::AlgorithmIdentifier,
};

/// A hash function of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// What a signature was made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Pkcs1(Hash),
    Pss(Hash),
    Ecdsa(Hash),
    Ed25519,
}

/// The words are those that users of upstream know, from Go's libraries.
const UNKNOWN: &str = "x509: cannot verify signature: algorithm unimplemented";

/// Checks the signature; the error says what is wrong with it.
pub(super) fn check(request: &X509CertificationRequest<'_>) -> Result<(), &'static str> {
    let scheme = scheme(&request.signature_algorithm)?;
    let info = &request.certification_request_info;
    let key = info.subject_pki.parsed().map_err(|_| UNKNOWN)?;
    let (algorithm, failure) = algorithm(scheme, &key)?;
    let public = UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data);
    public.verify(info.raw, &request.signature_value.data).map_err(|_| failure)
}

fn scheme(algorithm: &AlgorithmIdentifier<'_>) -> Result<Scheme, &'static str> {
    match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.11" => Ok(Scheme::Pkcs1(Hash::Sha256)),
        "1.2.840.113549.1.1.12" => Ok(Scheme::Pkcs1(Hash::Sha384)),
        "1.2.840.113549.1.1.13" => Ok(Scheme::Pkcs1(Hash::Sha512)),
        "1.2.840.113549.1.1.10" => {
            let parameters = algorithm.parameters.as_ref().and_then(|any| RsaSsaPssParams::try_from(any).ok());
            let hash = parameters.map(|parameters| parameters.hash_algorithm_oid().to_id_string());
            match hash.as_deref() {
                Some("2.16.840.1.101.3.4.2.1") => Ok(Scheme::Pss(Hash::Sha256)),
                Some("2.16.840.1.101.3.4.2.2") => Ok(Scheme::Pss(Hash::Sha384)),
                Some("2.16.840.1.101.3.4.2.3") => Ok(Scheme::Pss(Hash::Sha512)),
                _ => Err(UNKNOWN),
            }
        }
        "1.2.840.10045.4.3.2" => Ok(Scheme::Ecdsa(Hash::Sha256)),
        "1.2.840.10045.4.3.3" => Ok(Scheme::Ecdsa(Hash::Sha384)),
        "1.2.840.10045.4.3.4" => Ok(Scheme::Ecdsa(Hash::Sha512)),
        "1.3.101.112" => Ok(Scheme::Ed25519),
        "1.2.840.113549.1.1.5" => Err("x509: cannot verify signature: insecure algorithm SHA1-RSA"),
        "1.2.840.10045.4.1" => Err("x509: cannot verify signature: insecure algorithm ECDSA-SHA1"),
        "1.2.840.113549.1.1.4" => Err("x509: cannot verify signature: insecure algorithm MD5-RSA"),
        _ => Err(UNKNOWN),
    }
}

/// What verifies the signatures of a scheme by a key, and what is said if one is wrong.
fn algorithm(
    scheme: Scheme,
    key: &PublicKey<'_>,
) -> Result<(&'static dyn VerificationAlgorithm, &'static str), &'static str> {
    let algorithm: &'static dyn VerificationAlgorithm = match (scheme, key) {
        (Scheme::Pkcs1(Hash::Sha256), PublicKey::RSA(_)) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (Scheme::Pkcs1(Hash::Sha384), PublicKey::RSA(_)) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (Scheme::Pkcs1(Hash::Sha512), PublicKey::RSA(_)) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (Scheme::Pss(Hash::Sha256), PublicKey::RSA(_)) => &signature::RSA_PSS_2048_8192_SHA256,
        (Scheme::Pss(Hash::Sha384), PublicKey::RSA(_)) => &signature::RSA_PSS_2048_8192_SHA384,
        (Scheme::Pss(Hash::Sha512), PublicKey::RSA(_)) => &signature::RSA_PSS_2048_8192_SHA512,
        // By the length of an uncompressed point: P-256, P-384, P-521.
        (Scheme::Ecdsa(hash), PublicKey::EC(point)) => match (point.data().len(), hash) {
            (65, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (65, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (65, Hash::Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
            (97, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (97, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (97, Hash::Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
            (133, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
            (133, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
            (133, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
            _ => return Err(UNKNOWN),
        },
        (Scheme::Ed25519, PublicKey::Unknown(_)) => &signature::ED25519,
        _ => return Err("x509: the signature's algorithm is not that of the public key"),
    };
    let failure = match scheme {
        Scheme::Pkcs1(_) | Scheme::Pss(_) => "crypto/rsa: verification error",
        Scheme::Ecdsa(_) => "x509: ECDSA verification failure",
        Scheme::Ed25519 => "x509: Ed25519 verification failure",
    };
    Ok((algorithm, failure))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
        PKCS_ED25519, PKCS_RSA_SHA256, PKCS_RSA_SHA512, SignatureAlgorithm,
    };
    use x509_parser::prelude::FromDer;

    use super::*;

    fn request(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::new(["a.example.com".to_owned()]).unwrap().serialize_request(&key).unwrap().der().to_vec()
    }

    fn checked(der: &[u8]) -> Result<(), &'static str> {
        check(&X509CertificationRequest::from_der(der).unwrap().1)
    }

    #[test]
    fn a_request_is_signed_with_its_own_key() {
        let all = [
            (&PKCS_ECDSA_P256_SHA256, "x509: ECDSA verification failure"),
            (&PKCS_ECDSA_P384_SHA384, "x509: ECDSA verification failure"),
            (&PKCS_ECDSA_P521_SHA512, "x509: ECDSA verification failure"),
            (&PKCS_ED25519, "x509: Ed25519 verification failure"),
            (&PKCS_RSA_SHA256, "crypto/rsa: verification error"),
            (&PKCS_RSA_SHA512, "crypto/rsa: verification error"),
        ];
        for (algorithm, failure) in all {
            let mut der = request(algorithm);
            assert_eq!(checked(&der), Ok(()), "{algorithm:?}");
            // The name in it: what was signed is another text now.
            let at = der.windows(13).position(|window| window == b"a.example.com").unwrap();
            der[at] = b'b';
            assert_eq!(checked(&der), Err(failure), "{algorithm:?}");
        }
    }
}
