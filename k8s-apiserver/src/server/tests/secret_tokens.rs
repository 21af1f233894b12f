//! Tokens in Secrets: made by the controller, good while Secret and account are there, and noted when they are used.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_controllers::{legacy_token_cleaner, service_account_tokens};
use k8s_core::{
    doc,
    doc::Doc,
    env::Env,
    request::{Caller, Options, PatchKind},
    status::ApiResult,
    token_secret::{INVALID_SINCE, LAST_USED},
};
use k8s_reconcile::Client;
use k8s_store::Memory;

use super::{
    clock::paused,
    fixture::{Fixture, over},
};
use crate::auth::{
    PublishedAuthentication,
    front_proxy::RequestHeaders,
    token::{
        ServiceAccountTokens, SigningKey,
        legacy::{LegacyClaims, day},
    },
};

struct World {
    api: Fixture,
    _controller: k8s_reconcile::controller::Running,
}

async fn world(env: &Env) -> World {
    let key = Arc::new(SigningKey::generate().unwrap());
    let tokens = Arc::new(ServiceAccountTokens::new(env.clone(), &key, "https://issuer").unwrap());
    let store = Arc::new(Memory::new(env.clone()));
    let api = over(store, env.clone(), |builder| builder.tokens(tokens)).await;
    // Under its own account, so that its role is shown to be enough.
    let caller = Caller::service_account("kube-system", "service-account-token-controller");
    let issuer: service_account_tokens::Issuer = Arc::new(move |namespace, service_account, uid, secret| {
        key.legacy_token(LegacyClaims { namespace, service_account, uid, secret })
    });
    let client = Client::new(api.api.transport(caller), env.clone());
    let controller = service_account_tokens::controller(issuer, Some("CA".into())).start(client);
    World { api, _controller: controller }
}

fn asking(name: &str, account: &str) -> Doc {
    doc!({"metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
        "type": "kubernetes.io/service-account-token"})
}

impl World {
    /// The Secret, once `is_so` of it (or of its absence).
    async fn until(&self, name: &str, is_so: impl Fn(&ApiResult<Doc>) -> bool) -> ApiResult<Doc> {
        for _ in 0..600 {
            let found = self.api.get(&format!("secrets/{name}"), "default").await;
            if is_so(&found) {
                return found;
            }
            self.api.env.sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} did not become so within a minute");
    }

    async fn token(&self, name: &str) -> String {
        let is_filled =
            |found: &ApiResult<Doc>| found.as_ref().is_ok_and(|secret| !secret.str_at(&["data", "token"]).is_empty());
        let secret = self.until(name, is_filled).await.unwrap();
        text(&secret, "token")
    }

    /// Whom a token stands for; empty if nobody.
    async fn who(&self, token: &str) -> String {
        let review = self.api.create("tokenreviews", "", doc!({"spec": {"token": token}})).await.unwrap();
        review.str_at(&["status", "user", "username"]).to_owned()
    }
}

fn text(secret: &Doc, key: &str) -> String {
    String::from_utf8(STANDARD.decode(secret.str_at(&["data", key])).unwrap()).unwrap()
}

const NAME: &str = "system:serviceaccount:default:robot";

#[tokio::test(start_paused = true)]
async fn a_secret_that_asks_gets_a_token_that_is_good_as_long_as_it_is_there() {
    let world = world(&paused()).await;
    let account = world.api.create("serviceaccounts", "default", doc!({"metadata": {"name": "robot"}})).await.unwrap();
    world.api.create("secrets", "default", asking("s", "robot")).await.unwrap();
    let token = world.token("s").await;
    let secret = world.api.get("secrets/s", "default").await.unwrap();
    assert_eq!((text(&secret, "ca.crt"), text(&secret, "namespace")), ("CA".into(), "default".into()));
    let uid = secret.str_at(&["metadata", "annotations", "kubernetes.io/service-account.uid"]);
    assert_eq!(uid, account.str_at(&["metadata", "uid"]));
    assert_eq!(world.who(&token).await, NAME);
    let review = world.api.create("tokenreviews", "", doc!({"spec": {"token": token.as_str()}})).await.unwrap();
    assert_eq!(review.str_at(&["status", "user", "uid"]), uid);
    let elsewhere = doc!({"spec": {"token": token.as_str(), "audiences": ["vault"]}});
    let elsewhere = world.api.create("tokenreviews", "", elsewhere).await.unwrap();
    assert_eq!(elsewhere.str_at(&["status", "user", "username"]), "", "it is for this server alone");

    // Another token in the Secret ends the first one; the Secret's end ends it, too.
    let other = doc!({"data": {"token": null}});
    world.api.patch("secrets/s", "default", PatchKind::Merge, other).await.unwrap();
    assert_eq!(world.token("s").await.split('.').count(), 3);
    world.api.create("secrets", "default", asking("t", "robot")).await.unwrap();
    let second = world.token("t").await;
    assert_eq!(world.who(&second).await, NAME);
    world.api.delete("secrets/t", "default", Options::default()).await.unwrap();
    assert_eq!(world.who(&second).await, "");
}

#[tokio::test(start_paused = true)]
async fn tokens_go_with_their_account_and_not_to_its_successor() {
    let world = world(&paused()).await;
    world.api.create("serviceaccounts", "default", doc!({"metadata": {"name": "robot"}})).await.unwrap();
    world.api.create("secrets", "default", asking("s", "robot")).await.unwrap();
    world.api.create("secrets", "default", asking("nobody", "nobody-there")).await.unwrap();
    let token = world.token("s").await;
    let is_gone = |found: &ApiResult<Doc>| found.as_ref().is_err_and(|error| error.is_not_found());
    world.until("nobody", is_gone).await.unwrap_err();
    world.api.delete("serviceaccounts/robot", "default", Options::default()).await.unwrap();
    assert_eq!(world.who(&token).await, "", "at once, before the controller has seen it");
    world.api.create("serviceaccounts", "default", doc!({"metadata": {"name": "robot"}})).await.unwrap();
    world.until("s", is_gone).await.unwrap_err();
    assert_eq!(world.who(&token).await, "");
}

#[tokio::test(start_paused = true)]
async fn the_day_of_the_last_use_is_noted_and_what_is_invalid_is_refused() {
    let env = paused();
    let world = world(&env).await;
    world.api.create("serviceaccounts", "default", doc!({"metadata": {"name": "robot"}})).await.unwrap();
    world.api.create("secrets", "default", asking("s", "robot")).await.unwrap();
    let token = world.token("s").await;
    assert_eq!(world.who(&token).await, NAME);
    let used = |day: &'static str| {
        move |found: &ApiResult<Doc>| {
            found.as_ref().is_ok_and(|secret| secret.str_at(&["metadata", "labels", LAST_USED]) == day)
        }
    };
    let noted = world.until("s", used("2026-01-01")).await.unwrap();
    for _ in 0..5 {
        assert_eq!(world.who(&token).await, NAME);
    }
    env.sleep(Duration::from_secs(60)).await;
    let same = world.api.get("secrets/s", "default").await.unwrap();
    assert_eq!(same, noted, "once a day");
    env.sleep(Duration::from_secs(86_400)).await;
    assert_eq!(world.who(&token).await, NAME);
    world.until("s", used("2026-01-02")).await.unwrap();

    let mut labels = doc!({});
    labels.set_at(&[INVALID_SINCE], "2026-01-02".into());
    let patch = doc!({"metadata": {"labels": labels}});
    world.api.patch("secrets/s", "default", PatchKind::Merge, patch).await.unwrap();
    assert_eq!(world.who(&token).await, "");
}

#[tokio::test(start_paused = true)]
async fn what_extension_servers_believe_is_published_again() {
    let env = paused();
    let published = PublishedAuthentication {
        client_authorities_pem: "-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n".into(),
        front_proxy_authorities_pem: String::new(),
        allowed_names: vec!["front-proxy-client".into()],
        headers: RequestHeaders::standard(),
    };
    let store = Arc::new(Memory::new(env.clone()));
    let api = over(store, env.clone(), |builder| builder.publish_authentication(published)).await;
    let path = "configmaps/extension-apiserver-authentication";
    let first = api.get(path, "kube-system").await.unwrap();
    assert!(first.str_at(&["data", "client-ca-file"]).contains("ours"), "{first}");
    api.delete(path, "kube-system", Options::default()).await.unwrap();
    env.sleep(Duration::from_secs(61)).await;
    let again = api.get(path, "kube-system").await.unwrap();
    assert_eq!(again.get("data"), first.get("data"));
    env.sleep(Duration::from_secs(600)).await;
    assert_eq!(api.get(path, "kube-system").await.unwrap(), again, "what is there is not written");
    let role = "roles/extension-apiserver-authentication-reader";
    assert_eq!(api.get(role, "kube-system").await.unwrap().str_at(&["rules", "0", "verbs", "0"]), "get");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_nobody_uses_is_refused_and_then_deleted() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let world = world(&paused()).await;
    // Under its own account, so that its role is shown to be enough.
    let caller = Caller::service_account("kube-system", "legacy-service-account-token-cleaner");
    let client = Client::new(world.api.api.transport(caller), world.api.env.clone());
    let _cleaner = legacy_token_cleaner::controller(3 * DAY).start(client);
    let tracking = "configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let since = world.api.get(tracking, "kube-system").await.unwrap().str_at(&["data", "since"]).to_owned();
    assert_eq!(since, day(world.api.env.now()));
    let names = ["by-hand", "mounted", "unused", "used"];
    let of_cluster = doc!([{"name": "mounted"}, {"name": "unused"}, {"name": "used"}]);
    let robot = doc!({"metadata": {"name": "robot"}, "secrets": of_cluster});
    world.api.create("serviceaccounts", "default", robot).await.unwrap();
    for name in names {
        world.api.create("secrets", "default", asking(name, "robot")).await.unwrap();
        world.token(name).await;
    }
    let (used, unused) = (world.token("used").await, world.token("unused").await);
    let pod = doc!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "robot",
        "containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "secret": {"secretName": "mounted"}}]}});
    world.api.create("pods", "default", pod).await.unwrap();

    let mark = |secret: &Doc| secret.str_at(&["metadata", "labels", INVALID_SINCE]).to_owned();
    let (mut marked, mut gone) = (None, None);
    for today in 1..=12 {
        world.api.env.sleep(DAY).await;
        assert_eq!(world.who(&used).await, NAME, "day {today}");
        match world.api.get("secrets/unused", "default").await {
            Ok(secret) if mark(&secret).is_empty() => assert_eq!(marked, None),
            Ok(_) if marked.is_none() => {
                marked = Some(today);
                assert_eq!(world.who(&unused).await, "", "what is marked is refused");
            }
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_not_found(), "{error}");
                gone = gone.or(Some(today));
            }
        }
        for name in ["by-hand", "mounted", "used"] {
            let kept = world.api.get(&format!("secrets/{name}"), "default").await.unwrap();
            assert_eq!(mark(&kept), "", "{name} on day {today}");
        }
    }
    // A day counts as long as any of it is within the period, and every Secret is looked at once a day.
    let (marked, gone) = (marked.unwrap(), gone.unwrap());
    assert!((4..=6).contains(&marked) && (4..=6).contains(&(gone - marked)), "marked {marked}, gone {gone}");
}
