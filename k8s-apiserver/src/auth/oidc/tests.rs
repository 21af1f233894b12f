//! A provider with a key or two, and tokens of every kind of wrong.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_core::doc::Text;
use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::{auth::token::VerificationKey, server::tests::clock::paused};

const ISSUER: &str = "https://idp.example.com";

struct Signer {
    pair: RsaKeyPair,
    jwk: Value,
}

impl Signer {
    fn new() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let jwk = VerificationKey::from_info(der.as_ref()).unwrap().jwk().clone();
        Self { pair, jwk }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "RS256", "kid": self.jwk["kid"]});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Serves the two documents, and counts how often keys were asked for.
#[derive(Default)]
struct Provider {
    keys: Mutex<Vec<Value>>,
    asked: AtomicUsize,
    /// The token of another issuer, whose keys are the same, at the endpoint of distributed claims.
    elsewhere: Mutex<String>,
}

const ELSEWHERE: &str = "https://groups.example.com";

#[async_trait]
impl Fetch for Provider {
    async fn get(&self, url: &str, bearer: Option<&str>) -> ApiResult<Bytes> {
        match url.strip_prefix(ELSEWHERE) {
            Some("/.well-known/openid-configuration") => {
                return Ok(json!({"issuer": ELSEWHERE, "jwks_uri": format!("{ISSUER}/keys")}).to_string().into());
            }
            Some("/groups") if bearer == Some("secret") => {
                return Ok(format!("{}\n", self.elsewhere.lock()).into());
            }
            Some(_) => return Err(ApiError::unavailable(format!("Get {url:?}: 404"))),
            None => assert_eq!(bearer, None, "{url}"),
        }
        let document = match url.strip_prefix(ISSUER) {
            Some("/.well-known/openid-configuration") => {
                json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")})
            }
            Some("/keys") => {
                self.asked.fetch_add(1, Relaxed);
                json!({"keys": *self.keys.lock()})
            }
            _ => return Err(ApiError::unavailable(format!("Get {url:?}: 404"))),
        };
        Ok(document.to_string().into())
    }
}

struct Scene {
    env: Env,
    signer: Signer,
    provider: Arc<Provider>,
    oidc: Oidc,
}

fn scene(change: impl FnOnce(&mut Settings)) -> Scene {
    let (env, signer, provider) = (paused(), Signer::new(), Arc::new(Provider::default()));
    // One that nobody can use here, before the one that counts.
    *provider.keys.lock() = vec![json!({"kty": "unheard-of", "kid": "x"}), signer.jwk.clone()];
    let mut settings = Settings {
        issuer: ISSUER.into(),
        audiences: vec!["k8s".into()],
        username: Source::Claim(Claim { name: "sub".into(), prefix: format!("{ISSUER}#") }),
        groups: Some(Source::Claim(Claim { name: "groups".into(), prefix: "oidc:".into() })),
        ..Settings::default()
    };
    change(&mut settings);
    let oidc = Oidc::new(env.clone(), settings, provider.clone());
    Scene { env, signer, provider, oidc }
}

impl Scene {
    fn claims(&self, change: Value) -> Value {
        let now = self.env.now().as_second();
        let mut claims = json!({"iss": ISSUER, "sub": "jane", "aud": "k8s", "exp": now + 60});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    async fn asked(&self, change: Value) -> Result<Option<Caller>, u16> {
        self.shown(&self.signer.sign(&self.claims(change))).await
    }

    async fn shown(&self, token: &str) -> Result<Option<Caller>, u16> {
        let found = self.oidc.authenticate(token, &[]).await;
        found.map(|known| known.map(|known| known.caller)).map_err(|error| error.code())
    }
}

#[tokio::test(start_paused = true)]
async fn claims_become_a_caller() {
    let scene =
        scene(|settings| settings.uid = Some(Source::Claim(Claim { name: "id".into(), prefix: String::new() })));
    let caller = scene.asked(json!({"groups": ["a", "b"], "id": "7"})).await.unwrap().unwrap();
    assert_eq!(caller.name, format!("{ISSUER}#jane"));
    assert_eq!(
        (caller.groups, caller.uid),
        (vec!["oidc:a", "oidc:b", "system:authenticated"].into_iter().map(Text::from).collect(), Text::from("7"))
    );
    let one = scene.asked(json!({"groups": "a", "id": "7", "aud": ["x", "k8s"]})).await.unwrap().unwrap();
    assert_eq!(one.groups, ["oidc:a", "system:authenticated"]);
    assert_eq!(scene.asked(json!({"id": "7"})).await.unwrap().unwrap().groups, ["system:authenticated"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refused_for_each_thing_that_is_wrong() {
    let scene = scene(|settings| {
        settings.required.insert("hd".into(), "example.com".into());
    });
    let (now, good) = (scene.env.now().as_second(), json!({"hd": "example.com"}));
    scene.asked(good).await.unwrap().unwrap();
    for wrong in [
        json!({"hd": "evil.com"}),
        json!({}),
        json!({"hd": "example.com", "exp": now}),
        json!({"hd": "example.com", "exp": null}),
        json!({"hd": "example.com", "nbf": now + 301}),
        json!({"hd": "example.com", "aud": "other"}),
        json!({"hd": "example.com", "sub": ""}),
        json!({"hd": "example.com", "sub": 7}),
        json!({"hd": "example.com", "groups": [1]}),
    ] {
        assert_eq!(scene.asked(wrong.clone()).await, Err(401), "{wrong}");
    }
    assert_eq!(scene.asked(json!({"iss": "https://other"})).await, Ok(None), "of another provider");
    let forged = Signer::new().sign(&scene.claims(json!({"hd": "example.com"})));
    assert_eq!(scene.shown(&forged).await, Err(401));
    assert_eq!(scene.shown("a.b.c").await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn an_address_counts_once_it_is_verified() {
    let scene =
        scene(|settings| settings.username = Source::Claim(Claim { name: "email".into(), prefix: String::new() }));
    let name = async |change: Value| scene.asked(change).await.map(|caller| caller.unwrap().name.to_string());
    assert_eq!(name(json!({"email": "j@x", "email_verified": true})).await, Ok("j@x".into()));
    assert_eq!(name(json!({"email": "j@x"})).await, Ok("j@x".into()), "a provider that does not say");
    assert_eq!(name(json!({"email": "j@x", "email_verified": false})).await, Err(401));
    assert_eq!(name(json!({"email": "j@x", "email_verified": "true"})).await, Err(401));
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_that_is_not_allowed_is_refused() {
    let scene = scene(|settings| settings.algorithms = vec![Algorithm::Es256]);
    assert_eq!(scene.asked(json!({})).await, Err(401));
    assert_eq!(scene.provider.asked.load(Relaxed), 0, "the provider was not even asked");
}

#[tokio::test(start_paused = true)]
async fn keys_are_found_again_when_they_change_but_not_for_every_forgery() {
    let mut scene = scene(|_| ());
    scene.asked(json!({})).await.unwrap().unwrap();
    scene.asked(json!({})).await.unwrap().unwrap();
    assert_eq!(scene.provider.asked.load(Relaxed), 1, "keys are kept");
    scene.signer = Signer::new();
    *scene.provider.keys.lock() = vec![scene.signer.jwk.clone()];
    assert_eq!(scene.asked(json!({})).await, Err(401), "the provider was asked a moment ago");
    assert_eq!(scene.provider.asked.load(Relaxed), 1);
    scene.env.sleep(Duration::from_secs(10)).await;
    scene.asked(json!({"exp": scene.env.now().as_second() + 60})).await.unwrap().unwrap();
    assert_eq!(scene.provider.asked.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_another_or_not_there_lets_nobody_in() {
    let scene = scene(|settings| settings.discovery_url = Some("https://elsewhere/x".into()));
    assert_eq!(scene.asked(json!({})).await, Err(503));
}

#[tokio::test(start_paused = true)]
async fn expressions_read_claims_and_judge_the_caller() {
    let over = |variable: &'static str, source: &str| Expression::compile(variable, source, None).unwrap();
    let scene = scene(|settings| {
        settings.username = Source::Expression(over("claims", "'acme:' + claims.sub"));
        settings.groups = Some(Source::Expression(over("claims", "claims.?roles.orValue([])")));
        settings.uid = Some(Source::Expression(over("claims", "string(claims.number)")));
        settings.extra = vec![("acme.com/tenant".into(), over("claims", "claims.?tenant.orValue('')"))];
        let rule =
            |variable, source, message: &str| Rule { expression: over(variable, source), message: message.into() };
        settings.claim_rules = vec![rule("claims", "claims.exp - claims.iat <= 3600", "too long")];
        settings.user_rules = vec![rule("user", "!user.username.startsWith('acme:system')", "reserved")];
    });
    let now = scene.env.now().as_second();
    let with = |change: Value| {
        let mut claims = json!({"iat": now, "number": 7, "roles": ["a"], "tenant": "t"});
        change.as_object().unwrap().iter().for_each(|(name, value)| claims[name] = value.clone());
        claims
    };
    let caller = scene.asked(with(json!({}))).await.unwrap().unwrap();
    assert_eq!((caller.name.as_str(), caller.uid.as_str()), ("acme:jane", "7"));
    assert_eq!(caller.groups, ["a", "system:authenticated"]);
    assert_eq!(caller.extra, [(Text::from("acme.com/tenant"), vec![Text::from("t")])]);
    assert!(scene.asked(with(json!({"tenant": ""}))).await.unwrap().unwrap().extra.is_empty());
    for wrong in [json!({"iat": now - 7200}), json!({"sub": "system:x"}), json!({"roles": [1]}), json!({"sub": 1})] {
        assert_eq!(scene.asked(with(wrong.clone())).await, Err(401), "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn groups_that_are_kept_elsewhere_are_fetched() {
    let scene = scene(|_| ());
    let elsewhere = |change: Value| {
        let mut claims = scene.claims(json!({"iss": ELSEWHERE, "sub": null}));
        change.as_object().unwrap().iter().for_each(|(name, value)| claims[name] = value.clone());
        *scene.provider.elsewhere.lock() = scene.signer.sign(&claims);
    };
    let at = |path: &str, token: &str| {
        json!({"_claim_names": {"groups": "src"},
            "_claim_sources": {"src": {"endpoint": format!("{ELSEWHERE}{path}"), "access_token": token}}})
    };
    let groups = async |change: Value| scene.asked(change).await.map(|caller| caller.unwrap().groups);
    elsewhere(json!({"groups": ["far"]}));
    assert_eq!(groups(at("/groups", "secret")).await.unwrap(), ["oidc:far", "system:authenticated"]);
    let mut both = at("/groups", "secret");
    both["groups"] = json!("near");
    assert_eq!(groups(both).await.unwrap(), ["oidc:near", "system:authenticated"], "what is there is not fetched");
    // What names other claims, or no endpoint, is passed over.
    for none in [
        json!({"_claim_names": {"other": "src"}, "_claim_sources": {}}),
        json!({"_claim_names": {"groups": "src"}, "_claim_sources": {"src": {"JWT": "a.b.c"}}}),
    ] {
        assert_eq!(groups(none.clone()).await.unwrap(), ["system:authenticated"], "{none}");
    }
    assert_eq!(groups(json!({"_claim_names": {"groups": "x"}, "_claim_sources": {}})).await, Err(401));
    assert_eq!(groups(at("/nothing", "secret")).await, Err(503), "nobody answers there");
    for wrong in [
        json!({}),
        json!({"groups": ["far"], "exp": 1}),
        json!({"groups": ["far"], "aud": "other"}),
        json!({"groups": [1]}),
    ] {
        elsewhere(wrong.clone());
        assert_eq!(groups(at("/groups", "secret")).await, Err(401), "{wrong}");
    }
    let forged = Signer::new().sign(&scene.claims(json!({"iss": ELSEWHERE, "groups": ["far"]})));
    *scene.provider.elsewhere.lock() = forged;
    assert_eq!(groups(at("/groups", "secret")).await, Err(401));
}

#[tokio::test(start_paused = true)]
async fn a_key_on_p_521_signs_too() {
    let scene = scene(|settings| settings.algorithms = vec![Algorithm::Es512]);
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, document.as_ref()).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(66);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    *scene.provider.keys.lock() = vec![json!({"kty": "EC", "crv": "P-521", "kid": "k", "x": x, "y": y})];
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "ES512", "kid": "k"})), part(&scene.claims(json!({}))));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    assert_eq!(scene.shown(&token).await.unwrap().unwrap().name, format!("{ISSUER}#jane"));
    let other = format!("{}.{}", part(&json!({"alg": "ES512"})), part(&scene.claims(json!({"sub": "eve"}))));
    let forged = format!("{other}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    scene.env.sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.shown(&forged).await, Err(401));
}
