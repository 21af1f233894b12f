//! The image store: what is imported is there, whole, and nothing else.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
};

use k8s_core::env::Timestamp;
use k8s_node::image::{
    ImageError, ImageStore,
    archive::{ImageBuilder, Layer},
};
use k8s_node::runtime::ImageInfo;
use tempfile::TempDir;

fn store() -> (TempDir, ImageStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(folder.path().join("images")).unwrap();
    (folder, store)
}

fn import(store: &ImageStore, path: &Path) -> Result<Vec<ImageInfo>, ImageError> {
    store.import(path, None, Timestamp::UNIX_EPOCH, &mut |_| {})
}

fn save(folder: &TempDir, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn sample() -> ImageBuilder {
    ImageBuilder::new("team/app:1")
        .layer(
            Layer::new()
                .folder("/data", 0o755)
                .file("/data/old", b"old", 0o600)
                .file("/data/kept", b"kept", 0o4755)
                .hard_link("/data/same", "/data/kept")
                .symlink("/link", "data/kept")
                .file("/deep/er/file", b"x", 0o644),
        )
        .layer(Layer::new().removed("/data/old").opaque("/deep").file("/deep/new", b"y", 0o644))
        .entrypoint(["/data/kept"])
        .cmd(["a", "b"])
        .env("A", "1")
        .user("app:extra")
        .working_dir("/data")
        .stop_signal("SIGQUIT")
}

#[test]
fn a_docker_archive_and_both_oci_forms_give_the_same_image() {
    let (folder, store) = store();
    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    sample().gzip().write_oci_layout(&layout).unwrap();
    let archives = [
        save(&folder, "docker.tar", &sample().docker_archive()),
        save(&folder, "oci.tar", &sample().oci_archive()),
        layout,
    ];
    for archive in archives {
        let images = import(&store, &archive).unwrap();
        assert_eq!(images.len(), 1, "{}", archive.display());
        let image = &images[0];
        assert_eq!(image.id, sample().id());
        assert_eq!(image.names, ["docker.io/team/app:1"]);
        assert_eq!((image.user.as_str(), image.working_dir.as_str()), ("app:extra", "/data"));
        assert_eq!(
            (&image.entrypoint[..], &image.cmd[..]),
            (&["/data/kept".to_owned()][..], &["a".into(), "b".into()][..])
        );
        assert_eq!((&image.env[..], image.stop_signal.as_str()), (&["A=1".to_owned()][..], "SIGQUIT"));
    }
    let found = store.find("team/app:1").unwrap().unwrap();
    assert_eq!(found.digests.len(), 2, "one manifest with plain layers, one with gzipped: {:?}", found.digests);
    assert_eq!(store.find(&found.digests[0]).unwrap().unwrap().id, found.id);
    assert_eq!(store.find(&found.id).unwrap().unwrap().id, found.id);
}

#[test]
fn layers_are_unpacked_for_overlayfs() {
    let (folder, store) = store();
    import(&store, &save(&folder, "a.tar", &sample().docker_archive())).unwrap();
    let layers = store.pin("c1", &sample().id()).unwrap();
    assert_eq!(layers.lower.len(), 2);
    let (top, bottom) = (layers.folder.join(&layers.lower[0]), layers.folder.join(&layers.lower[1]));
    let old = fs::symlink_metadata(top.join("data/old")).unwrap();
    assert!(old.file_type().is_char_device() && old.rdev() == 0);
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(top.join("deep"), "trusted.overlay.opaque", &mut value), Ok(1));
    assert_eq!(fs::read(bottom.join("data/old")).unwrap(), b"old");
    assert_eq!(fs::metadata(bottom.join("data/kept")).unwrap().permissions().mode() & 0o7777, 0o4755);
    assert_eq!(fs::metadata(bottom.join("data/kept")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(bottom.join("link")).unwrap(), Path::new("data/kept"));
    assert_eq!(fs::read(bottom.join("deep/er/file")).unwrap(), b"x");
}

#[test]
fn a_gzipped_archive_and_a_name_of_ones_own() {
    let (folder, store) = store();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &sample().docker_archive()).unwrap();
    let path = save(&folder, "a.tar.gz", &gzip.finish().unwrap());
    let images = store.import(&path, Some("other"), Timestamp::UNIX_EPOCH, &mut |_| {}).unwrap();
    assert_eq!(images[0].names, ["docker.io/library/other:latest"]);
    assert_eq!(store.find("team/app:1").unwrap(), None);
}

#[test]
fn progress_reaches_the_end_of_every_layer() {
    let (folder, store) = store();
    let path = save(&folder, "a.tar", &sample().gzip().oci_archive());
    let mut last = std::collections::BTreeMap::new();
    let mut note = |p: k8s_node::image::Progress| {
        last.insert(p.layer, (p.done_bytes, p.total_bytes));
    };
    store.import(&path, None, Timestamp::UNIX_EPOCH, &mut note).unwrap();
    assert_eq!(last.len(), 2);
    assert!(last.values().all(|(done, total)| done == total && *total > 0), "{last:?}");
}

#[test]
fn damage_is_found_and_leaves_nothing_behind() {
    let (folder, store) = store();
    let mut bytes = sample().docker_archive();
    let place = bytes.windows(4).position(|window| window == b"kept").unwrap();
    bytes[place] = b'K';
    let error = import(&store, &save(&folder, "a.tar", &bytes)).unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. } | ImageError::Io { .. }), "{error}");
    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    sample().write_oci_layout(&layout).unwrap();
    let blob = fs::read_dir(layout.join("blobs/sha256")).unwrap().next().unwrap().unwrap().path();
    let mut content = fs::read(&blob).unwrap();
    let end = content.len() - 1;
    content[end] ^= 1;
    fs::write(&blob, content).unwrap();
    let error = import(&store, &layout).unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    assert_eq!(store.list().unwrap(), []);
    for inner in ["layers", "images", "names", "tmp", "blobs/sha256"] {
        let left: Vec<_> = fs::read_dir(folder.path().join("images").join(inner)).unwrap().collect();
        assert!(left.is_empty(), "{inner}: {left:?}");
    }
}

#[test]
fn a_layer_cannot_write_outside_its_folder() {
    let (folder, store) = store();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let evil = ImageBuilder::new("evil")
        .layer(Layer::new().symlink("/way", outside.to_str().unwrap()).file("/way/out", b"x", 0o644));
    // The link is followed inside the layer's own root, where its target does not exist.
    let _ = import(&store, &save(&folder, "a.tar", &evil.docker_archive()));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn names_move_and_removal_spares_what_is_in_use() {
    let (folder, store) = store();
    let image = |text: &[u8]| {
        ImageBuilder::new("app")
            .layer(Layer::new().file("/base", b"base", 0o644))
            .layer(Layer::new().file("/v", text, 0o644))
    };
    let (first, second) = (image(b"1"), image(b"2"));
    import(&store, &save(&folder, "1.tar", &first.docker_archive())).unwrap();
    import(&store, &save(&folder, "2.tar", &second.docker_archive())).unwrap();
    assert_eq!(store.find("app").unwrap().unwrap().id, second.id());
    assert_eq!(store.find(&first.id()).unwrap().unwrap().names, Vec::<String>::new());
    let layers = || fs::read_dir(folder.path().join("images/layers")).unwrap().count();
    assert_eq!(layers(), 3);
    let pinned = store.pin("c1", &second.id()).unwrap();
    store.remove(&first.id()).unwrap();
    assert_eq!(layers(), 2);
    store.remove("app").unwrap();
    assert_eq!(store.list().unwrap(), []);
    assert!(pinned.lower.iter().all(|layer| pinned.folder.join(layer).is_dir()));
    store.unpin("c1").unwrap();
    import(&store, &save(&folder, "1.tar", &first.docker_archive())).unwrap();
    store.remove("docker.io/library/app:latest").unwrap();
    assert_eq!(layers(), 0);
}

#[test]
fn two_users_of_one_folder_see_each_other() {
    let (folder, store) = store();
    let other = ImageStore::open(folder.path().join("images")).unwrap();
    let archive = save(&folder, "a.tar", &sample().docker_archive());
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let (store, archive) = (other.clone(), archive.clone());
            std::thread::spawn(move || {
                store.import(&archive, Some(&format!("copy:{n}")), Timestamp::UNIX_EPOCH, &mut |_| {}).unwrap()
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    assert_eq!(store.list().unwrap()[0].names.len(), 4);
}

#[test]
fn what_is_no_image_says_so() {
    let (folder, store) = store();
    let error = import(&store, &save(&folder, "x", b"hello")).unwrap_err().to_string();
    assert!(error.contains("not a tar"), "{error}");
    let error = import(&store, folder.path()).unwrap_err().to_string();
    assert!(error.contains("neither a docker archive"), "{error}");
    let error = import(&store, Path::new("/does/not/exist")).unwrap_err().to_string();
    assert!(error.contains("/does/not/exist"), "{error}");
}
