//! A server whose Secrets are encrypted, over stores that are looked into from below.
#![allow(clippy::disallowed_methods)] // Files are read from the disk that the store writes to.

use std::{path::Path, sync::Arc};

use futures::StreamExt;
use k8s_core::{
    doc,
    doc::Doc,
    request::{Options, WatchEvent},
};
use k8s_store::{Embedded, EmbeddedOptions, Key, Memory, Page, Store, Transaction};

use super::secrets;
use crate::{
    server::{
        ApiServer,
        tests::{
            clock::paused,
            fixture::{Fixture, over, revision},
        },
    },
    storage::{Encryption, envelope},
};

/// In base64 as Secrets are sent.
const HIDDEN: &str = "aGlkZGVuLWluLXBsYWluLXNpZ2h0";

fn secret(name: &str, value: &str) -> Doc {
    doc!({"metadata": {"name": name}, "data": {"password": value}})
}

async fn encrypted(store: &Arc<dyn Store>, encryption: Encryption) -> Fixture {
    over(store.clone(), paused(), |builder| builder.encryption(encryption)).await
}

/// What a server says that does not start.
async fn refused(store: &Arc<dyn Store>, encryption: Option<Encryption>) -> String {
    let builder = ApiServer::builder(store.clone(), paused());
    let builder = encryption.into_iter().fold(builder, crate::ApiServerBuilder::encryption);
    builder.start().await.err().map_or("it started".into(), |error| error.to_string())
}

fn memory() -> Arc<dyn Store> {
    Arc::new(Memory::new(paused()))
}

async fn stored(store: &Arc<dyn Store>, name: &str) -> Vec<u8> {
    let key = Key::from(format!("/registry/secrets/default/{name}"));
    store.get(&key).await.unwrap().unwrap().value.to_vec()
}

fn password(doc: &Doc) -> &str {
    doc.str_at(&["data", "password"])
}

fn contains(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[tokio::test]
async fn neither_files_nor_entries_hold_a_secret_and_everybody_above_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(folder.path(), paused(), EmbeddedOptions::default()).unwrap();
    let embedded = open();
    let store: Arc<dyn Store> = embedded.clone();
    let api = encrypted(&store, secrets(&[("k", 1)])).await;
    let made = api.create("secrets", "default", secret("s", HIDDEN)).await.unwrap();
    api.create("configmaps", "default", doc!({"metadata": {"name": "plain-to-see"}})).await.unwrap();
    let mut watch = api
        .watch("secrets", "default", Options { resource_version: Some(revision(&made) - 1), ..Options::default() })
        .await
        .unwrap();
    match watch.next().await {
        Some(Ok(WatchEvent::Added(object))) => assert!(contains(object.stored_json(), HIDDEN)),
        other => panic!("{other:?}"),
    }
    api.update("secrets/s", "default", secret("s", "bmV3")).await.unwrap();
    api.update("secrets/s", "default", secret("s", HIDDEN)).await.unwrap();
    let listing = store.list("", Page::all()).await.unwrap();
    assert!(listing.entries.iter().all(|entry| !contains(&entry.value, HIDDEN)));
    assert!(
        listing.entries.iter().any(|entry| contains(&entry.value, "plain-to-see")),
        "the search finds what is plain"
    );
    assert!(stored(&store, "s").await.starts_with(b"k8s:enc:aesgcm:v1:k:"));
    drop(watch);
    api.api.shutdown().await;
    drop(api);
    embedded.close();
    drop((store, embedded));
    let on_disk = files(folder.path());
    assert!(on_disk.iter().any(|file| contains(file, "plain-to-see")), "the search finds what is plain");
    assert!(on_disk.iter().all(|file| !contains(file, HIDDEN) && !contains(file, "bmV3")));

    // After a restart nothing is at hand that a writer left: what is read was decrypted.
    let store: Arc<dyn Store> = open();
    let api = encrypted(&store, secrets(&[("k", 1)])).await;
    assert_eq!(password(&api.get("secrets/s", "default").await.unwrap()), HIDDEN);
    let from = Options { resource_version: Some(revision(&made)), ..Options::default() };
    let mut resumed = api.watch("secrets", "default", from).await.unwrap();
    for expected in ["bmV3", HIDDEN] {
        match resumed.next().await {
            Some(Ok(WatchEvent::Modified(object))) => assert!(contains(object.stored_json(), expected)),
            other => panic!("{other:?}"),
        }
    }
    let list = api.list("secrets", "", Options::default()).await.unwrap();
    assert!(contains(list.items[0].stored_json(), HIDDEN));
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_keys_do_not_open_what_is_stored_does_not_start() {
    let store = memory();
    let api = encrypted(&store, secrets(&[("k", 1)])).await;
    for name in ["a", "b"] {
        api.create("secrets", "default", secret(name, HIDDEN)).await.unwrap();
    }
    api.api.shutdown().await;
    let before = store.digest().await.unwrap();
    let first = "the store cannot be read: the value of key /registry/secrets/default/a cannot be read: ";
    let cases = [
        (Some(secrets(&[("k", 2)])), "aesgcm:v1:k does not open it"),
        (Some(secrets(&[("other", 1)])), "it is encrypted with aesgcm:v1:k, and the keys given are other"),
        (None, "it is encrypted with aesgcm:v1:k, and this server was given no key for it"),
    ];
    for (encryption, why) in cases {
        let error = refused(&store, encryption).await;
        assert!(error.contains(first) && error.contains(why), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
    assert_eq!(store.digest().await.unwrap(), before, "and it changed nothing");
    let api = encrypted(&store, secrets(&[("k", 1)])).await;
    assert_eq!(password(&api.get("secrets/b", "default").await.unwrap()), HIDDEN);
}

#[tokio::test(start_paused = true)]
async fn two_values_that_change_places_are_found_out() {
    let store = memory();
    let api = encrypted(&store, secrets(&[("k", 1)])).await;
    for (name, value) in [("mine", "bWluZQ=="), ("root", "cm9vdA==")] {
        api.create("secrets", "default", secret(name, value)).await.unwrap();
    }
    let (mine, root) = (stored(&store, "mine").await, stored(&store, "root").await);
    let swap =
        Transaction::new().put("/registry/secrets/default/mine", root).put("/registry/secrets/default/root", mine);
    let swapped = store.commit(swap).await.unwrap();
    // While the server runs, the two cost themselves only.
    api.create("secrets", "default", secret("third", HIDDEN)).await.unwrap();
    api.api.cache().wait_for(swapped.revision.0).await.unwrap();
    let listed = api.list("secrets", "default", Options::default()).await.unwrap();
    let names: Vec<&str> = listed.items.iter().map(|object| object.meta.name.as_str()).collect();
    assert_eq!(names, ["third"], "neither is shown as what it is not");
    assert_eq!(api.api.cache().rebuilds(), 0);
    let error = api.update("secrets/mine", "default", secret("mine", HIDDEN)).await.unwrap_err();
    assert!(error.to_string().contains("altered or moved"), "{error}");
    api.api.shutdown().await;
    let error = refused(&store, Some(secrets(&[("k", 1)]))).await;
    assert!(error.contains("/registry/secrets/default/mine cannot be read: aesgcm:v1:k does not open it"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn plain_values_are_read_and_are_encrypted_when_they_are_written() {
    let store = memory();
    let plain = over(store.clone(), paused(), |builder| builder).await;
    for name in ["touched", "rewritten", "left"] {
        plain.create("secrets", "default", secret(name, HIDDEN)).await.unwrap();
    }
    plain.api.shutdown().await;
    let api = encrypted(&store, secrets(&[("k", 1)])).await;
    assert_eq!(password(&api.get("secrets/left", "default").await.unwrap()), HIDDEN);
    api.update("secrets/touched", "default", secret("touched", "bmV3")).await.unwrap();
    // As it is: what `kubectl get secrets -o json | kubectl replace -f -` does.
    let as_it_is = api.get("secrets/rewritten", "default").await.unwrap();
    let rewritten = api.update("secrets/rewritten", "default", as_it_is).await.unwrap();
    for name in ["touched", "rewritten"] {
        assert!(envelope::is_sealed(&stored(&store, name).await), "{name}");
    }
    assert!(!envelope::is_sealed(&stored(&store, "left").await));
    let again = api.update("secrets/rewritten", "default", rewritten.clone()).await.unwrap();
    assert_eq!(revision(&again), revision(&rewritten), "what is sealed already is not written again");
}

#[tokio::test(start_paused = true)]
async fn keys_rotate() {
    let store = memory();
    let id = |value: Vec<u8>| envelope::key_id(&value).unwrap_or_default();
    let api = encrypted(&store, secrets(&[("old", 1)])).await;
    api.create("secrets", "default", secret("a", HIDDEN)).await.unwrap();
    api.create("secrets", "default", secret("b", HIDDEN)).await.unwrap();
    api.api.shutdown().await;
    let api = encrypted(&store, secrets(&[("new", 2), ("old", 1)])).await;
    let a = api.get("secrets/a", "default").await.unwrap();
    assert_eq!(password(&a), HIDDEN);
    api.update("secrets/a", "default", a).await.unwrap();
    assert_eq!(
        (id(stored(&store, "a").await), id(stored(&store, "b").await)),
        ("aesgcm:v1:new".into(), "aesgcm:v1:old".into())
    );
    api.api.shutdown().await;
    let error = refused(&store, Some(secrets(&[("new", 2)]))).await;
    assert!(error.contains("/registry/secrets/default/b cannot be read"), "the old key is still needed: {error}");
    let api = encrypted(&store, secrets(&[("new", 2), ("old", 1)])).await;
    let b = api.get("secrets/b", "default").await.unwrap();
    api.update("secrets/b", "default", b).await.unwrap();
    api.api.shutdown().await;
    let api = encrypted(&store, secrets(&[("new", 2)])).await;
    assert_eq!(password(&api.get("secrets/b", "default").await.unwrap()), HIDDEN);
}

#[tokio::test(start_paused = true)]
async fn digests_are_of_what_is_plain_and_other_kinds_are_untouched() {
    let (sealed, plain) = (memory(), memory());
    let above: Arc<dyn Store> = Arc::new(crate::storage::Encrypted::new(sealed.clone(), secrets(&[("k", 1)])));
    for store in [&above, &plain] {
        for key in ["/registry/secrets/n/s", "/registry/configmaps/n/c"] {
            store.commit(Transaction::new().put(key, HIDDEN)).await.unwrap();
        }
    }
    assert_eq!(above.digest().await.unwrap(), plain.digest().await.unwrap());
    assert_ne!(above.digest().await.unwrap(), sealed.digest().await.unwrap());
    let entry = sealed.get(&"/registry/configmaps/n/c".into()).await.unwrap().unwrap();
    let through = above.get(&"/registry/configmaps/n/c".into()).await.unwrap().unwrap();
    assert_eq!(entry.value.as_ptr(), through.value.as_ptr(), "the same bytes, not a copy");
    let mut changes = (above.watch("", 1.into()).await.unwrap(), sealed.watch("", 1.into()).await.unwrap());
    let (Some(Ok(one)), Some(Ok(two))) = (changes.0.next().await, changes.1.next().await) else {
        panic!("two changes")
    };
    match (one, two) {
        (k8s_store::WatchItem::Change(one), k8s_store::WatchItem::Change(two)) => assert!(Arc::ptr_eq(&one, &two)),
        other => panic!("{other:?}"),
    }
}
