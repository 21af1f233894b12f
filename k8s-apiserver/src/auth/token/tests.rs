//! Keys change, tokens go on; what a token is bound to goes, and so does the token.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::doc;
use k8s_wire::pki::Authority;

use super::*;
use crate::server::tests::clock::paused;

fn told_of_account(tokens: ServiceAccountTokens) -> ServiceAccountTokens {
    let account = doc!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "n", "uid": "u"}
    });
    let account = Arc::new(Object::from_json(account.to_json().into(), Some(1)).unwrap());
    tokens.changed("", "serviceaccounts", &account.meta.key(), Some(&account));
    tokens
}

fn claims() -> TokenClaims {
    TokenClaims {
        namespace: "n".into(),
        service_account: "a".into(),
        uid: "u".into(),
        seconds: 600,
        ..TokenClaims::default()
    }
}

async fn asked(tokens: &ServiceAccountTokens, token: &str) -> Result<Option<String>, u16> {
    let found = tokens.authenticate(token, tokens.default_audiences()).await;
    found.map(|known| known.map(|known| known.caller.name.to_string())).map_err(|error| error.code())
}

#[tokio::test(start_paused = true)]
async fn keys_rotate_without_a_token_being_lost() {
    let (env, old, new) = (paused(), SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let with = |key: &SigningKey| told_of_account(ServiceAccountTokens::new(env.clone(), key, "https://i").unwrap());
    let before = with(&old);
    let (token, _) = before.issue(&claims()).unwrap();
    let name = Ok(Some("system:serviceaccount:n:a".to_owned()));
    assert_eq!(asked(&before, &token).await, name);
    assert_eq!(asked(&with(&new), &token).await, Err(401), "a key that nobody told of");
    let after = with(&new).also_verify_with([old.verification(), new.verification()]);
    assert_eq!(asked(&after, &token).await, name);
    let (newer, _) = after.issue(&claims()).unwrap();
    assert_eq!(asked(&after, &newer).await, name);
    assert_eq!(asked(&before, &newer).await, Err(401));
    let published: serde_json::Value = serde_json::from_str(&after.jwks()).unwrap();
    let ids: Vec<&str> = published["keys"].as_array().unwrap().iter().filter_map(|key| key["kid"].as_str()).collect();
    assert_eq!(ids, [new.verification().id, old.verification().id]);
    assert_eq!(after.algorithms(), ["ES256"]);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_may_change_its_name() {
    let (env, key) = (paused(), SigningKey::generate().unwrap());
    let old = told_of_account(ServiceAccountTokens::new(env.clone(), &key, "https://old").unwrap());
    let (token, _) = old.issue(&TokenClaims { audiences: vec!["api".into()], ..claims() }).unwrap();
    let with = || told_of_account(ServiceAccountTokens::new(env.clone(), &key, "https://new").unwrap());
    let audiences = || vec!["api".to_owned()];
    assert_eq!(asked(&with().audiences(audiences()), &token).await, Ok(None), "somebody else's token");
    let both = with().audiences(audiences()).also_issued_by(["https://old".to_owned()]);
    assert!(asked(&both, &token).await.is_ok_and(|name| name.is_some()));
    assert_eq!(both.issuer(), "https://new");
    assert_eq!(asked(&both.audiences(vec!["other".into()]), &token).await, Err(401), "for somebody else");
}

#[tokio::test(start_paused = true)]
async fn a_token_ends_in_time_and_says_when_it_should_have() {
    let (env, key) = (paused(), SigningKey::generate().unwrap());
    let tokens = told_of_account(ServiceAccountTokens::new(env.clone(), &key, "https://i").unwrap());
    let (token, expires) = tokens.issue(&TokenClaims { warn_after_seconds: Some(60), ..claims() }).unwrap();
    assert_eq!(expires, env.now().as_second() + 600);
    let said = unverified(&token).unwrap();
    assert_eq!(said["kubernetes.io"]["warnafter"].as_i64(), Some(env.now().as_second() + 60));
    env.sleep(std::time::Duration::from_secs(599)).await;
    assert!(asked(&tokens, &token).await.is_ok());
    env.sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(asked(&tokens, &token).await, Err(401));
}

#[test]
fn keys_are_read_as_operators_have_them() {
    let authority = Authority::generate("a", "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
    let certificate = authority.certificate_pem().as_bytes();
    let from_certificate = &VerificationKey::from_pem(certificate).unwrap()[0];
    let from_key = &VerificationKey::from_pem(authority.identity().key_pem.as_bytes()).unwrap()[0];
    assert_eq!(from_certificate.jwk(), from_key.jwk(), "both are the same public key");
    assert_eq!(from_key.jwk()["crv"], "P-256");
    // A key of 2,048 bits, of which only the public half was kept.
    let rsa = include_bytes!("tests/rsa.pub.pem");
    let rsa = &VerificationKey::from_pem(rsa).unwrap()[0];
    assert_eq!((rsa.jwk()["kty"].as_str(), rsa.jwk()["e"].as_str()), (Some("RSA"), Some("AQAB")));
    assert_eq!(rsa.jwk()["n"].as_str().map(str::len), Some(342), "256 bytes without a sign byte");
    assert_eq!(VerificationKey::from_pem(b"nothing").err().as_deref(), Some("it has no PEM block"));
    let other = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let said = VerificationKey::from_pem(other.as_bytes()).err();
    assert_eq!(said.as_deref(), Some("block 1, EC PARAMETERS: it is no public key"));
}

#[tokio::test(start_paused = true)]
async fn keys_of_every_sort_sign() {
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let rsa = AsDer::<Pkcs8V1Der<'_>>::as_der(&rsa).unwrap();
    let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let p256 = SigningKey::generate().unwrap();
    for (der, algorithm) in [(rsa.as_ref(), "RS256"), (p384.as_ref(), "ES384"), (p256.pkcs8(), "ES256")] {
        let key = SigningKey::from_der(der).unwrap();
        let again = SigningKey::from_der(key.pkcs8()).unwrap();
        assert_eq!(key.verification().jwk(), again.verification().jwk());
        let tokens = told_of_account(ServiceAccountTokens::new(paused(), &key, "https://i").unwrap());
        assert_eq!(tokens.algorithms(), [algorithm]);
        let (token, _) = tokens.issue(&claims()).unwrap();
        assert_eq!(asked(&tokens, &token).await, Ok(Some("system:serviceaccount:n:a".to_owned())), "{algorithm}");
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!(header.kid, Some(key.verification().id), "{algorithm}");
        // As `openssl` writes them, and as Go hashes them: the same key has the same id.
        let pem = pem(der, "PRIVATE KEY");
        assert_eq!(VerificationKey::from_pem(pem.as_bytes()).unwrap()[0].id, key.verification().id, "{algorithm}");
    }
    let wrong = SigningKey::from_der(b"no key").err().unwrap().to_string();
    assert!(wrong.contains("it is no private key of ECDSA on P-256 or P-384, or of RSA"), "{wrong}");
}

fn pem(der: &[u8], label: &str) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
