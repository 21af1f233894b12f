//! A server whose Secrets are sealed by a key management service.

use std::{sync::Arc, time::Duration};

use k8s_core::{doc, doc::Doc, env::Env, registry::Registry, request::Options, seam::grpc::GrpcCaller};
use k8s_store::{Key, Memory, Page, Store};
use k8s_wire::{client::UnixGrpcCaller, env::System};

use super::{
    forms::{PLAIN, unhex},
    plugin::{ENDPOINT, Plugin, listen},
};
use crate::{
    server::{
        ApiServer,
        tests::{
            clock::paused,
            fixture::{Fixture, over, revision},
        },
    },
    storage::{Encryption, PROBE_EVERY, WRITABLE_FOR, envelope, kms::Kms},
};

/// In base64 as Secrets are sent.
const HIDDEN: &str = "aGlkZGVuLWluLXBsYWluLXNpZ2h0";
const AESGCM: &str = "{aesgcm: {keys: [{name: k, secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=}]}}";
const SECRETBOX: &str = "{secretbox: {keys: [{name: k, secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=}]}}";

fn by_plugin(endpoint: &str) -> String {
    format!("{{kms: {{apiVersion: v2, name: mine, endpoint: '{endpoint}', timeout: 5s}}}}")
}

fn encryption(providers: &[&str]) -> Encryption {
    let text = format!(
        "{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{{resources: [secrets, \
         vaults.example.com], providers: [{}]}}]}}",
        providers.join(", ")
    );
    Encryption::from_configuration(&text, &Registry::builtin()).unwrap()
}

async fn server(store: &Arc<dyn Store>, env: &Env, providers: &[&str], plugin: &Arc<impl GrpcCaller>) -> Fixture {
    let plugin: Arc<dyn GrpcCaller> = plugin.clone();
    let encryption = encryption(providers);
    over(store.clone(), env.clone(), |builder| builder.encryption(encryption).key_services(plugin)).await
}

/// What a server says that does not start.
async fn refused(store: &Arc<dyn Store>, env: &Env, providers: &[&str], plugin: &Arc<impl GrpcCaller>) -> String {
    let plugin: Arc<dyn GrpcCaller> = plugin.clone();
    let builder = ApiServer::builder(store.clone(), env.clone()).encryption(encryption(providers));
    let started = builder.key_services(plugin).start().await;
    started.err().map_or("it started".into(), |error| error.to_string())
}

fn memory(env: &Env) -> Arc<dyn Store> {
    Arc::new(Memory::new(env.clone()))
}

fn secret(name: &str, value: &str) -> Doc {
    doc!({"metadata": {"name": name}, "data": {"password": value}})
}

async fn stored(store: &Arc<dyn Store>, name: &str) -> Vec<u8> {
    let key = Key::from(format!("/registry/secrets/default/{name}"));
    store.get(&key).await.unwrap().unwrap().value.to_vec()
}

async fn rewritten(api: &Fixture, name: &str) -> Doc {
    let as_it_is = api.get(&format!("secrets/{name}"), "default").await.unwrap();
    assert_eq!(as_it_is.str_at(&["data", "password"]), HIDDEN);
    api.update(&format!("secrets/{name}"), "default", as_it_is).await.unwrap()
}

fn contains(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

/// Waits until `is_so`, by the paused clock.
async fn until(env: &Env, is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        env.sleep(Duration::from_secs(1)).await;
    }
    panic!("it did not come about within 1,000 s");
}

#[tokio::test]
async fn a_plugin_on_a_socket_seals_secrets_over_restarts_and_rotations() {
    let env: Env = System::current();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kms.sock");
    let providers = by_plugin(&format!("unix://{}", socket.display()));
    let (store, caller) = (memory(&env), Arc::new(UnixGrpcCaller::new(env.clone())));

    let away = refused(&store, &env, &[&providers], &caller).await;
    let expected = format!("encryption at rest: kms-provider mine: unix://{} cannot be reached: ", socket.display());
    assert!(away.contains(&expected), "{away}");
    assert_eq!(store.list("", Page::all()).await.unwrap().entries.len(), 0, "and it wrote nothing");

    let plugin = Plugin::new("key-1");
    let listening = listen(plugin.clone(), &socket);
    let api = server(&store, &env, &[&providers], &caller).await;
    for name in ["a", "b", "c"] {
        api.create("secrets", "default", secret(name, HIDDEN)).await.unwrap();
    }
    let entries = store.list("", Page::all()).await.unwrap().entries;
    assert!(entries.iter().all(|entry| !contains(&entry.value, HIDDEN)));
    assert!(stored(&store, "a").await.starts_with(b"k8s:enc:kms:v2:mine:"));
    assert_eq!(envelope::key_id(&stored(&store, "a").await).as_deref(), Some("kms:v2:mine"));
    assert_eq!(api.api.key_services(), Some(Ok(())));
    assert_eq!((plugin.calls("Encrypt"), plugin.calls("Decrypt")), (1, 0), "one seed, whatever is sealed");
    api.api.shutdown().await;

    // A new server has a seed of its own, and asks once for that of the former one.
    plugin.rotate("key-2");
    let api = server(&store, &env, &[&providers], &caller).await;
    assert_eq!((plugin.calls("Encrypt"), plugin.calls("Decrypt")), (2, 1));
    let list = api.list("secrets", "default", Options::default()).await.unwrap();
    assert_eq!(list.items.iter().filter(|item| contains(item.stored_json(), HIDDEN)).count(), 3);
    let new = rewritten(&api, "a").await;
    assert!(contains(&stored(&store, "a").await, "key-2") && contains(&stored(&store, "b").await, "key-1"));
    assert_eq!(revision(&rewritten(&api, "a").await), revision(&new), "what is sealed already is not written again");
    for name in ["b", "c"] {
        rewritten(&api, name).await;
    }
    api.api.shutdown().await;
    plugin.forget("key-1");
    let api = server(&store, &env, &[&providers], &caller).await;
    assert_eq!(api.list("secrets", "default", Options::default()).await.unwrap().items.len(), 3);
    api.api.shutdown().await;
    drop(api);

    // The key is gone: nobody starts, and the plugin's own words say why.
    plugin.forget("key-2");
    plugin.rotate("key-3");
    let gone = refused(&store, &env, &[&providers], &caller).await;
    assert!(gone.contains("/registry/secrets/default/a cannot be read: it is encrypted with kms:v2:mine"), "{gone}");
    assert!(gone.contains("answered with code 3: there is no key key-2"), "{gone}");
    drop(listening);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_changes_while_the_server_runs_seals_what_comes_then() {
    let (env, plugin) = (paused(), Plugin::new("key-1"));
    let store = memory(&env);
    let api = server(&store, &env, &[&by_plugin(ENDPOINT)], &plugin).await;
    let old = api.create("secrets", "default", secret("a", HIDDEN)).await.unwrap();
    plugin.rotate("key-2");
    until(&env, || plugin.calls("Encrypt") == 2).await;
    api.create("secrets", "default", secret("b", HIDDEN)).await.unwrap();
    assert!(contains(&stored(&store, "b").await, "key-2"));
    let new = rewritten(&api, "a").await;
    assert!(revision(&new) > revision(&old) && contains(&stored(&store, "a").await, "key-2"));
    // No other change of the clock or of the key makes a seed.
    env.sleep(PROBE_EVERY * 20).await;
    assert_eq!((plugin.calls("Encrypt"), plugin.calls("Decrypt")), (2, 0));
    assert!(plugin.calls("Status") > 20);
}

#[tokio::test(start_paused = true)]
async fn without_its_plugin_a_server_reads_and_soon_writes_no_secret() {
    let (env, plugin) = (paused(), Plugin::new("key-1"));
    let store = memory(&env);
    let api = server(&store, &env, &[&by_plugin(ENDPOINT)], &plugin).await;
    api.create("secrets", "default", secret("a", HIDDEN)).await.unwrap();
    plugin.is_away(true);
    until(&env, || api.api.key_services() != Some(Ok(()))).await;
    let health = api.api.key_services().unwrap().unwrap_err();
    assert_eq!(health, format!("kms-provider mine: {ENDPOINT} cannot be reached: connection refused"));
    // For a while the seed is good as it is.
    api.create("secrets", "default", secret("b", HIDDEN)).await.unwrap();
    env.sleep(WRITABLE_FOR).await;
    let before = store.digest().await.unwrap();
    let error = api.create("secrets", "default", secret("c", HIDDEN)).await.unwrap_err();
    assert_eq!(error.code(), 500, "{error}");
    let expected = format!(
        "values cannot be encrypted or decrypted now: kms-provider mine: nothing can be encrypted: {ENDPOINT} cannot be \
         reached: connection refused"
    );
    assert!(error.to_string().contains(&expected), "{error}");
    assert_eq!(store.digest().await.unwrap(), before, "nothing was written");
    assert_eq!(api.get("secrets/a", "default").await.unwrap().str_at(&["data", "password"]), HIDDEN);
    api.create("configmaps", "default", doc!({"metadata": {"name": "other"}})).await.unwrap();
    plugin.is_away(false);
    plugin.says("tired");
    until(&env, || api.api.key_services().is_some_and(|health| health.is_err_and(|why| why.contains("tired")))).await;
    plugin.says("ok");
    until(&env, || api.api.key_services() == Some(Ok(()))).await;
    api.create("secrets", "default", secret("c", HIDDEN)).await.unwrap();
    assert_eq!(plugin.calls("Encrypt"), 1, "the key is the same, and so is the seed");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_another_server_sealed_is_not_lost_while_the_plugin_is_away() {
    let (env, plugin) = (paused(), Plugin::new("key-1"));
    let store = memory(&env);
    let one = server(&store, &env, &[&by_plugin(ENDPOINT)], &plugin).await;
    let two = server(&store, &env, &[&by_plugin(ENDPOINT)], &plugin).await;
    plugin.is_away(true);
    // Sealed with the second server's seed, which the first one has not seen yet.
    let made = two.create("secrets", "default", secret("a", HIDDEN)).await.unwrap();
    env.sleep(Duration::from_secs(10)).await;
    assert!(one.api.revision() < revision(&made), "it waits");
    plugin.is_away(false);
    one.api.cache().wait_for(revision(&made)).await.unwrap();
    assert_eq!(one.get("secrets/a", "default").await.unwrap().str_at(&["data", "password"]), HIDDEN);
    assert_eq!((plugin.calls("Decrypt"), one.api.cache().rebuilds()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn providers_replace_each_other() {
    let (env, plugin) = (paused(), Plugin::new("key-1"));
    let (store, by_plugin) = (memory(&env), by_plugin(ENDPOINT));
    let steps: [(&[&str], &str); 5] = [
        (&["{identity: {}}"], "{"),
        (&[AESGCM, "{identity: {}}"], "k8s:enc:aesgcm:v1:k:"),
        (&[&by_plugin, AESGCM], "k8s:enc:kms:v2:mine:"),
        (&[SECRETBOX, &by_plugin], "k8s:enc:secretbox:v1:k:"),
        (&["{identity: {}}", SECRETBOX], "{"),
    ];
    for (number, (providers, prefix)) in steps.into_iter().enumerate() {
        let api = server(&store, &env, providers, &plugin).await;
        if number == 0 {
            api.create("secrets", "default", secret("a", HIDDEN)).await.unwrap();
        }
        rewritten(&api, "a").await;
        assert!(stored(&store, "a").await.starts_with(prefix.as_bytes()), "{providers:?}");
        api.api.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_way_to_plugins_says_so() {
    let env = paused();
    let builder = ApiServer::builder(memory(&env), env.clone()).encryption(encryption(&[&by_plugin(ENDPOINT)]));
    let said = builder.start().await.err().unwrap().to_string();
    assert!(said.contains("this server was given no way to KMS plugins"), "{said}");
}

/// Answers every call for a key with one plain text.
struct Answers(&'static [u8]);

#[async_trait::async_trait]
impl GrpcCaller for Answers {
    async fn call(
        &self,
        _: &str,
        method: &str,
        _: Duration,
        _: bytes::Bytes,
    ) -> Result<bytes::Bytes, k8s_core::seam::grpc::GrpcError> {
        let field = |number: u8, value: &[u8]| [&[number << 3 | 2, value.len() as u8], value].concat();
        Ok(match method.rsplit('/').next().unwrap() {
            "Status" => [field(1, b"v2"), field(2, b"ok"), field(3, b"key-1")].concat(),
            "Encrypt" => [field(1, b"sealed"), field(2, b"key-1")].concat(),
            _ => field(1, self.0),
        }
        .into())
    }
}

/// What upstream's transformer makes of [`PLAIN`] under `/registry/secrets/n/s`, by Python's `cryptography`: a seed
/// (32 bytes of 2) from which the value's key is derived, and a key of its own.
const UPSTREAMS: [&str; 2] = [
    "0a4d000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f000102030405060708090a0b484d416ad9aee18dcc3adf\
     78d14ff86425a29b40a5fb2a31c235c5ea049102547112056b65792d311a0b7365616c65642d7365656422120a0d612e6578616d706c652e63\
     6f6d1201782801",
    "0a2d000102030405060708090a0b322a8993bf2dae7e09db2575ecdb11d92e02c9eb7d6c8723ff337581acd6ff2f3712056b65792d311a0b73\
     65616c65642d73656564",
];

#[tokio::test(start_paused = true)]
async fn what_upstream_stored_is_read() {
    let env = paused();
    for (number, stored) in UPSTREAMS.into_iter().enumerate() {
        let stored = unhex(stored);
        let kms = Kms::new("mine", ENDPOINT, Duration::from_secs(3));
        let caller: Arc<dyn GrpcCaller> = Arc::new(Answers(&[2; 32]));
        kms.begin(&env, &caller).await.unwrap();
        assert_eq!(kms.open_asking("/registry/secrets/n/s", &stored).await.unwrap(), PLAIN);
        assert!(kms.open_asking("/registry/secrets/n/t", &stored).await.is_err(), "it was moved");
        let value = [kms.prefix().as_bytes(), &stored].concat();
        assert_eq!(kms.is_stale(&value), number == 1, "a key of its own is not written any more");
        for length in 0..stored.len() {
            assert!(kms.open_asking("/registry/secrets/n/s", &stored[..length]).await.is_err(), "{length} bytes");
        }
        // A key that is too short is no key.
        let other = Kms::new("mine", ENDPOINT, Duration::from_secs(3));
        let caller: Arc<dyn GrpcCaller> = Arc::new(Answers(&[2; 31]));
        other.begin(&env, &caller).await.unwrap();
        let why = other.open_asking("/registry/secrets/n/s", &stored).await.unwrap_err().to_string();
        assert!(why.contains("its key cannot be decrypted: what was decrypted is no key"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn objects_of_custom_kinds_are_sealed_from_the_first_on() {
    let (env, plugin) = (paused(), Plugin::new("key-1"));
    let store = memory(&env);
    let api = server(&store, &env, &[&by_plugin(ENDPOINT)], &plugin).await;
    let definition = doc!({
        "metadata": {"name": "vaults.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "vaults", "singular": "vault", "kind": "Vault", "listKind": "VaultList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true
            }}}]
        }
    });
    api.create("customresourcedefinitions", "", definition).await.unwrap();
    let vaults = k8s_core::request::ResourceType::new("example.com", "v1", "vaults");
    let kinds = api.api.kinds().clone();
    until(&env, || kinds.now().find(&vaults).is_some()).await;
    let create = |name: &str| k8s_core::request::ApiRequest {
        verb: k8s_core::request::Verb::Create,
        target: k8s_core::request::Target::all(vaults.clone(), "default"),
        body: k8s_core::request::RequestBody::Doc(doc!({
            "apiVersion": "example.com/v1", "kind": "Vault", "metadata": {"name": name}, "holds": HIDDEN
        })),
        ..Default::default()
    };
    let mut made = api.ask(create("v")).await;
    for _ in 0..100 {
        if made.is_ok() {
            break;
        }
        env.sleep(Duration::from_millis(100)).await;
        made = api.ask(create("v")).await;
    }
    made.unwrap();
    let entry = store.get(&"/registry/example.com/vaults/default/v".into()).await.unwrap().unwrap();
    assert!(entry.value.starts_with(b"k8s:enc:kms:v2:mine:") && !contains(&entry.value, HIDDEN));
    api.api.shutdown().await;
    let api = server(&store, &env, &[&by_plugin(ENDPOINT)], &plugin).await;
    let request = k8s_core::request::ApiRequest {
        verb: k8s_core::request::Verb::Get,
        target: k8s_core::request::Target::one(vaults.clone(), "default", "v"),
        ..Default::default()
    };
    assert_eq!(api.ask(request).await.unwrap().into_doc().unwrap().str_at(&["holds"]), HIDDEN);
}
