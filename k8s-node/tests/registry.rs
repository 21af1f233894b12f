//! Pulling from registries: what comes is what was announced, and whatever goes wrong is named.
#![allow(clippy::disallowed_methods, reason = "tests run on the system's clock")]

#[path = "support/registry_server.rs"]
mod registry_server;
mod support;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use k8s_core::env::Env;
use k8s_node::{
    image::{
        ImageError, ImageSource, ImageStore, Progress,
        archive::{ImageBuilder, Layer},
        registry::{Registries, RegistrySettings},
    },
    runtime::{ImageInfo, ImagePull},
};
use k8s_wire::{env::System, pki::Authority, tls};
use registry_server::{Auth, Fault, Registry, digest};
use tempfile::TempDir;

struct Test {
    registry: Registry,
    store: ImageStore,
    registries: Registries,
    folder: TempDir,
}

impl Test {
    async fn start() -> Self {
        let registry = Registry::start().await;
        Self::with(registry, RegistrySettings { silence: Duration::from_millis(300), ..RegistrySettings::default() })
    }

    fn with(registry: Registry, settings: RegistrySettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path().join("images")).unwrap();
        let env: Env = System::current();
        Self { registry, store, registries: Registries::new(env, settings), folder }
    }

    async fn pull(&self, name: &str) -> Result<ImageInfo, ImageError> {
        self.pull_as(name, &[]).await
    }

    async fn pull_as(&self, name: &str, credentials: &[(&str, &str)]) -> Result<ImageInfo, ImageError> {
        let credentials = credentials.iter().map(|(user, pass)| ((*user).to_owned(), (*pass).to_owned())).collect();
        let pull = ImagePull { reference: self.registry.name(name), credentials };
        support::within(self.registries.fetch(&self.store, &pull)).await
    }

    async fn refused(&self, name: &str) -> String {
        let error = self.pull(name).await.unwrap_err().to_string();
        let start = format!("failed to pull and unpack image \"{}", self.registry.name(""));
        assert!(error.starts_with(&start), "{error}");
        assert!(self.store.list().unwrap().is_empty(), "nothing is visible");
        error
    }

    fn downloads(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("images/downloads")).unwrap().count()
    }
}

/// Two layers, one of which all images here share.
fn image(what: &str) -> ImageBuilder {
    ImageBuilder::new("any")
        .layer(Layer::new().file("/base", &noise(300_000), 0o644))
        .layer(Layer::new().file("/what", what.as_bytes(), 0o644))
        .entrypoint(["/what"])
        .gzip()
}

/// What does not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 56) as u8
    };
    (0..length).map(|_| next(&mut state)).collect()
}

/// The digest of the layer with the noise.
fn big_layer(image: &ImageBuilder) -> String {
    let folder = tempfile::tempdir().unwrap();
    image.write_oci_layout(folder.path()).unwrap();
    let blobs = std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap();
    let blobs = blobs.map(|blob| std::fs::read(blob.unwrap().path()).unwrap());
    digest(&blobs.max_by_key(Vec::len).unwrap())
}

#[tokio::test]
async fn an_image_is_pulled_once_and_then_only_asked_for() {
    let test = Test::start().await;
    let index = test.registry.push("team/app", "1", &image("one"));
    let pulled = test.pull("team/app:1").await.unwrap();
    assert_eq!(pulled.id, image("one").id());
    assert_eq!(pulled.names, [test.registry.name("team/app:1")]);
    assert_eq!(pulled.digests, [test.registry.name(&format!("team/app@{index}"))]);
    assert_eq!(pulled.entrypoint, ["/what"]);
    let layers = test.store.pin("c", &pulled.id).unwrap();
    let read = |layer: usize, file: &str| std::fs::read(layers.folder.join(&layers.lower[layer]).join(file)).unwrap();
    assert_eq!((read(0, "what"), read(1, "base")), (b"one".to_vec(), noise(300_000)));
    assert_eq!((test.registry.loaded(), test.downloads()), (3, 0));

    assert_eq!(test.pull("team/app:1").await.unwrap(), pulled);
    assert_eq!(test.registry.asked(), ["HEAD /v2/team/app/manifests/1"]);
    // The same by digest.
    assert_eq!(test.pull(&format!("team/app@{index}")).await.unwrap().id, pulled.id);
    assert_eq!(test.registry.loaded(), 0);
}

#[tokio::test]
async fn a_moved_tag_brings_only_the_new_layer() {
    let test = Test::start().await;
    test.registry.push("app", "latest", &image("one"));
    let old = test.pull("app").await.unwrap();
    test.registry.push("app", "latest", &image("two"));
    test.registry.asked();
    let new = test.pull("app").await.unwrap();
    assert_eq!((new.id, new.names), (image("two").id(), vec![test.registry.name("app:latest")]));
    // The configuration and the layer that is new.
    assert_eq!(test.registry.loaded(), 2);
    let old = test.store.find(&old.id).unwrap().unwrap();
    assert_eq!((old.names.len(), old.digests.len()), (0, 1), "the old one lost its name");
}

#[tokio::test]
async fn docker_manifests_are_understood() {
    let test = Test::start().await;
    test.registry.push("app", "oci", &image("one"));
    let oci = test.pull("app:oci").await.unwrap();
    test.store.remove(&oci.id).unwrap();
    let config = image("one").id();
    let layout = tempfile::tempdir().unwrap();
    image("one").write_oci_layout(layout.path()).unwrap();
    let size = |digest: &str| {
        let path = layout.path().join("blobs").join(digest.replace(':', "/"));
        std::fs::metadata(path).unwrap().len()
    };
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(layout.path().join("index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(layout.path().join("blobs").join(manifest)).unwrap()).unwrap();
    let docker = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config, "size": size(&config)},
        "layers": manifest["layers"].as_array().unwrap().iter().map(|layer| serde_json::json!({
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": layer["digest"], "size": layer["size"],
        })).collect::<Vec<_>>()});
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let content = serde_json::to_vec(&docker).unwrap();
    test.registry.tag("app", "docker", media_type, &content);
    let pulled = test.pull("app:docker").await.unwrap();
    assert_eq!((pulled.id, pulled.digests), (oci.id, vec![test.registry.name(&format!("app@{}", digest(&content)))]));
}

#[tokio::test]
async fn tokens_and_passwords_are_given_where_they_are_asked_for() {
    let test = Test::start().await;
    test.registry.push("app", "1", &image("one"));
    for (number, auth) in [Auth::Basic, Auth::Token].into_iter().enumerate() {
        test.registry.require(auth);
        let anonymous = test.refused("app:1").await;
        assert!(anonymous.contains("401 Unauthorized: UNAUTHORIZED: said the registry"), "{anonymous}");
        let wrong = test.pull_as("app:1", &[("user", "wrong")]).await.unwrap_err().to_string();
        assert!(wrong.contains("401 Unauthorized") && !wrong.contains("wrong"), "{wrong}");
        // The second of two is the right one.
        let pulled = test.pull_as("app:1", &[("other", "x"), ("user", "pass")]).await.unwrap();
        assert_eq!(pulled.id, image("one").id(), "{number}");
        // What is here is still asked for: who may not have it does not get it.
        assert!(test.pull("app:1").await.is_err());
        test.store.remove(&pulled.id).unwrap();
    }
    test.registry.require(Auth::AnonymousToken);
    test.pull("app:1").await.unwrap();
}

#[tokio::test]
async fn a_broken_load_goes_on_where_it_was() {
    let test = Test::start().await;
    test.registry.push("app", "1", &image("one"));
    let layer = big_layer(&image("one"));
    test.registry.fail(&layer, Fault::Cut(100_000));
    test.registry.fail(&layer, Fault::Silent(50_000));
    assert_eq!(test.pull("app:1").await.unwrap().id, image("one").id());
    let asked = test.registry.asked();
    let ranges: Vec<_> =
        asked.iter().filter_map(|line| line.split_once(&format!("{layer} ")).map(|(_, r)| r)).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=150000-"]);
}

#[tokio::test]
async fn what_came_is_kept_for_the_next_pull() {
    let test = Test::start().await;
    test.registry.push("app", "1", &image("one"));
    let layer = big_layer(&image("one"));
    (0..6).for_each(|_| test.registry.fail(&layer, Fault::Cut(20_000)));
    let error = test.refused("app:1").await;
    assert!(error.contains(&layer) && error.contains("after 120000 of "), "{error}");
    assert!(test.downloads() > 0);
    test.registry.asked();
    test.pull("app:1").await.unwrap();
    let asked = test.registry.asked();
    assert!(asked.iter().any(|line| line.ends_with(&format!("{layer} bytes=120000-"))), "{asked:#?}");
    assert_eq!(test.downloads(), 0);
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused() {
    let test = Test::start().await;
    test.registry.push("app", "1", &image("one"));
    let (layer, config) = (big_layer(&image("one")), image("one").id());
    let cases = [
        (layer.as_str(), Fault::Damage, "the content has digest sha256:"),
        (&layer, Fault::Longer, "is longer than the "),
        (&config, Fault::Damage, "the content has digest sha256:"),
        (&config, Fault::Longer, "the answer is longer than "),
        ("/manifests/sha256:", Fault::Damage, "the content has digest sha256:"),
    ];
    for (path, fault, words) in cases {
        test.registry.fail(path, fault);
        let error = test.refused("app:1").await;
        assert!(error.contains(words), "{error}");
    }
    test.pull("app:1").await.unwrap();
}

#[tokio::test]
async fn the_registrys_words_reach_the_user() {
    let test = Test::start().await;
    let error = test.refused("app:nope").await;
    assert!(error.contains("/v2/app/manifests/nope: 404 Not Found: MANIFEST_UNKNOWN: said the registry"), "{error}");
    assert_eq!(test.registry.asked(), ["GET /v2/app/manifests/nope", "HEAD /v2/app/manifests/nope"]);

    test.registry.push("app", "1", &image("one"));
    // Busy for longer than anybody waits.
    test.registry.fail("manifests", Fault::Busy(429, 3600));
    assert!(test.refused("app:1").await.contains("429 Too Many Requests: TOOMANYREQUESTS: said the registry"));
    test.registry.fail("manifests", Fault::Silent(10));
    assert!(test.refused("app:1").await.contains("the registry was silent for "));
    // Busy for a moment.
    test.registry.fail("manifests", Fault::Busy(429, 0));
    test.registry.fail("blobs", Fault::Busy(503, 0));
    test.pull("app:1").await.unwrap();
}

#[tokio::test]
async fn images_for_other_machines_and_unknown_kinds_are_named() {
    let test = Test::start().await;
    let index = "application/vnd.oci.image.index.v1+json";
    let other =
        br#"{"schemaVersion": 2, "manifests": [{"digest": "x", "platform": {"os": "plan9", "architecture": "mips"}}]}"#;
    test.registry.tag("app", "other", index, other);
    assert!(test.refused("app:other").await.contains("there is plan9/mips"));
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let zero = digest(b"");
    let zstd = serde_json::json!({"schemaVersion": 2, "config": {"digest": zero, "size": 0},
        "layers": [{"digest": zero, "size": 0, "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"}]});
    test.registry.tag("app", "zstd", manifest, zstd.to_string().as_bytes());
    assert!(test.refused("app:zstd").await.contains("zstd layers are not supported"));
    test.registry.tag("app", "old", "application/vnd.docker.distribution.manifest.v1+json", br#"{"schemaVersion": 1}"#);
    assert!(test.refused("app:old").await.contains("outdated schema"));
}

#[tokio::test]
async fn equal_pulls_at_once_are_one() {
    let test = Test::start().await;
    test.registry.push("app", "1", &image("one"));
    let pulls = futures::future::join_all((0..5).map(|_| test.pull("app:1"))).await;
    assert!(pulls.iter().all(|pulled| pulled.as_ref().unwrap().id == image("one").id()));
    assert_eq!(test.registry.loaded(), 3);
    // Two images share a layer: whoever is second waits for it.
    test.store.remove(&image("one").id()).unwrap();
    test.store.unpin("c").unwrap();
    test.registry.push("app", "2", &image("two"));
    let (one, two) = futures::join!(test.pull("app:1"), test.pull("app:2"));
    assert_eq!((one.unwrap().id, two.unwrap().id), (image("one").id(), image("two").id()));
    assert_eq!(test.registry.loaded(), 5, "two configurations, two layers and the one that they share");
}

#[tokio::test]
async fn a_dropped_pull_leaves_the_way_free() {
    let test = Test::start().await;
    test.registry.push("app", "1", &image("one"));
    let layer = big_layer(&image("one"));
    test.registry.fail(&layer, Fault::Silent(1000));
    let asked = async {
        while !test.registry.asked().iter().any(|line| line.ends_with(&layer)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        pulled = test.pull("app:1") => panic!("{pulled:?}"),
        () = asked => {}
    }
    assert_eq!(test.pull("app:1").await.unwrap().id, image("one").id());
}

#[tokio::test]
async fn other_machines_are_asked_over_https_only() {
    let now = System::current().now();
    let authority = Authority::generate("test", now).unwrap();
    let identity = authority.issue_server("registry", &["0.0.0.0".to_owned()], now).unwrap();
    let mut config = (*tls::server(&System::current(), &identity, None).unwrap()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // The address of no interface leads to this machine and does not count as loopback.
    let registry = Registry::start_on(Ipv4Addr::UNSPECIFIED.into(), Some(Arc::new(config))).await;
    registry.push("app", "1", &image("one"));
    let authorities = authority.identity().certificates().unwrap();
    let test = Test::with(registry, RegistrySettings { authorities, ..RegistrySettings::default() });
    assert_eq!(test.pull("app:1").await.unwrap().id, image("one").id());

    let stranger =
        Test::with(Registry::start_on(Ipv4Addr::UNSPECIFIED.into(), None).await, RegistrySettings::default());
    let error = stranger.refused("app:1").await;
    assert!(error.contains("https://0.0.0.0:"), "{error}");
    assert!(stranger.registry.asked().iter().all(|line| !line.contains("/v2/")), "nothing was asked in the clear");
}

#[tokio::test]
async fn progress_is_told() {
    let told = Arc::new(parking_lot::Mutex::new(Vec::<Progress>::new()));
    let listener = told.clone();
    let progress: Arc<dyn Fn(Progress) + Send + Sync> = Arc::new(move |progress| listener.lock().push(progress));
    let progress = Some(progress);
    let test = Test::with(Registry::start().await, RegistrySettings { progress, ..RegistrySettings::default() });
    test.registry.push("app", "1", &image("one"));
    test.pull("app:1").await.unwrap();
    let told = told.lock();
    let done = told.iter().filter(|progress| progress.done_bytes == progress.total_bytes).count();
    assert_eq!(done, 2, "{told:?}");
}
