//! Volumes on paper and on a real disk.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use k8s_core::api::api::core::v1::{Pod, Volume};
use serde_json::{Value, json};

use super::*;
use crate::environment::FieldContext;

fn shows(volume: Value) -> Result<String, String> {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "labels": {"a": "1"}},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}},
            "securityContext": {"runAsUser": 1000}}]}}))
    .unwrap();
    let mut named = json!({"name": "v"});
    named.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
    let volume: Volume = serde_json::from_value(named).unwrap();
    let map = json!({"metadata": {}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "Aw=="}});
    let secret = json!({"metadata": {}, "data": {"password": "aHVudGVyMg=="}});
    let key = TokenKey { audience: "vault".into(), seconds: 600 };
    let objects = Objects {
        config_maps: [("map".to_owned(), serde_json::from_value(map).unwrap())].into(),
        secrets: [("secret".to_owned(), serde_json::from_value(secret).unwrap())].into(),
        tokens: [(key, "tok".to_owned())].into(),
    };
    let allocatable = BTreeMap::new();
    let context = FieldContext { node_name: "node", host_ips: &[], pod_ips: &[], allocatable: &allocatable };
    let files = payload(&pod, &volume, &objects, &context).map_err(|error| error.message)?;
    let line = |file: VolumeFile| {
        let owner = file.owner.map(|owner| format!(" of {owner}")).unwrap_or_default();
        format!("{:o} {} {:?}{owner}; ", file.mode, file.path, String::from_utf8_lossy(&file.content))
    };
    Ok(files.map(|files| files.into_iter().map(line).collect()).unwrap_or_else(|| "no configuration".into()))
}

#[test]
fn configuration_volumes_show_what_they_name() {
    let table = [
        (json!({"configMap": {"name": "map"}}), r#"644 a "1"; 644 b "2"; 644 c "\u{3}"; "#),
        (
            json!({"configMap": {"name": "map", "defaultMode": 0o400, "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0o777}]}}),
            r#"400 x/y "1"; 777 z "2"; "#,
        ),
        (json!({"secret": {"secretName": "secret"}}), r#"644 password "hunter2"; "#),
        (json!({"secret": {"secretName": "none", "optional": true}}), ""),
        (
            json!({"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}}),
            r#"644 cpu "2"; 644 labels "a=\"1\""; "#,
        ),
        (
            json!({"projected": {"sources": [{"configMap": {"name": "map", "items": [{"key": "a", "path": "a"}]}},
                {"secret": {"name": "secret"}},
                {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}}]}}),
            r#"644 a "1"; 644 password "hunter2"; 600 token "tok" of 1000; "#,
        ),
        (json!({"emptyDir": {}}), "no configuration"),
    ];
    for (volume, expected) in table {
        assert_eq!(shows(volume.clone()).as_deref(), Ok(expected), "{volume}");
    }
}

#[test]
fn what_cannot_be_shown_is_named() {
    let escape = "path \"../x\" must stay below the volume and not begin with `..`";
    let table = [
        (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
        (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
        (
            json!({"configMap": {"name": "map", "items": [{"key": "z", "path": "z"}]}}),
            "references non-existent config key: z",
        ),
        (json!({"configMap": {"name": "map", "items": [{"key": "a", "path": "../x"}]}}), escape),
        (
            json!({"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}}),
            "projections of kind clusterTrustBundle are not supported by this node",
        ),
    ];
    for (volume, message) in table {
        assert_eq!(shows(volume), Err(message.to_owned()));
    }
}

fn file(path: &str, content: &str) -> VolumeFile {
    VolumeFile { path: path.into(), content: content.into(), mode: 0o640, owner: None }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn updates_replace_everything_in_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("v");
    assert!(write(&volume, &[file("a", "1"), file("d/b", "2")], "one", None).unwrap());
    assert_eq!(names(&volume), ["..data", "..one", "a", "d"]);
    assert_eq!(fs::read_to_string(volume.join("d/b")).unwrap(), "2");
    assert_eq!(fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(
        !write(&volume, &[file("a", "1"), file("d/b", "2")], "two", None).unwrap(),
        "the same is not written again"
    );
    assert!(write(&volume, &[file("a", "3"), file("c", "4")], "three", None).unwrap());
    assert_eq!(names(&volume), ["..data", "..three", "a", "c"]);
    assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
    assert!(write(&volume, &[], "four", None).unwrap());
    assert_eq!(names(&volume), ["..data", "..four"]);
}

#[test]
fn a_crash_in_between_leaves_the_old_state_and_is_cleaned_up() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("v");
    write(&volume, &[file("a", "1")], "one", None).unwrap();
    fs::create_dir(volume.join("..half")).unwrap();
    fs::write(volume.join("..half/a"), "torn").unwrap();
    std::os::unix::fs::symlink("..half", volume.join("..data_new")).unwrap();
    assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "1");
    write(&volume, &[file("a", "2")], "two", None).unwrap();
    assert_eq!(names(&volume), ["..data", "..two", "a"]);
}

#[test]
fn a_pod_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    let empty = json!({});
    folder.empty_dir("u1", "data", &serde_json::from_value(empty).unwrap(), None).unwrap();
    let mode = fs::metadata(folder.volume("u1", "data")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o777);
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u1"}})).unwrap();
    let log = folder.log(&pod, "c", 0);
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(&log, "x").unwrap();
    assert_eq!(folder.pods(), ["u1"]);
    folder.remove("u1").unwrap();
    folder.remove("u1").unwrap();
    assert!(folder.pods().is_empty() && !log.exists());
}

#[test]
fn tmpfs_and_sub_paths_come_and_go() {
    // Mounting needs root, as the native runtime does.
    assert!(rustix::process::geteuid().is_root(), "run the tests of this crate as root");
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    let memory = json!({"medium": "Memory", "sizeLimit": "1Mi"});
    folder.empty_dir("u1", "mem", &serde_json::from_value(memory).unwrap(), None).unwrap();
    let volume = folder.volume("u1", "mem");
    assert!(sub_path::is_mounted(&volume));
    assert!(fs::write(volume.join("big"), vec![0; 2 << 20]).is_err(), "the limit holds");
    fs::remove_file(volume.join("big")).unwrap();
    let bound = folder.sub_path("u1", &volume, "c", 0, "a/b").unwrap();
    fs::write(bound.join("x"), "1").unwrap();
    assert_eq!(fs::read_to_string(volume.join("a/b/x")).unwrap(), "1");
    let file = folder.sub_path("u1", &volume, "c", 1, "a/b/x").unwrap();
    assert_eq!(fs::read_to_string(file).unwrap(), "1");
    folder.remove("u1").unwrap();
    assert!(folder.pods().is_empty());
}

#[test]
fn sub_paths_never_lead_out_of_the_volume() {
    assert!(rustix::process::geteuid().is_root(), "run the tests of this crate as root");
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    folder.empty_dir("u1", "v", &serde_json::from_value(json!({})).unwrap(), None).unwrap();
    let volume = folder.volume("u1", "v");
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    std::os::unix::fs::symlink(&outside, volume.join("link")).unwrap();
    for path in ["../outside", "/etc", "a/../../x"] {
        assert!(folder.sub_path("u1", &volume, "c", 0, path).is_err(), "{path}");
    }
    let bound = folder.sub_path("u1", &volume, "c", 0, "link");
    let leaked = bound.is_ok_and(|bound| bound.join("secret").exists());
    assert!(!leaked, "a link is resolved within the volume");
    folder.remove("u1").unwrap();
    assert!(outside.join("secret").exists(), "what is outside stays");
}
