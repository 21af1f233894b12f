//! What `kube-apiserver` says of keys that are not the right ones.
#![allow(clippy::disallowed_methods)] // This is the tests' runtime shell.

use std::{
    path::Path,
    process::{Command, Output},
};

use k8s::{
    store::{Embedded, EmbeddedOptions, Store, Transaction},
    wire::env::System,
};

fn server(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kube-apiserver"))
        .args(["--secure-port", "0", "--data-dir"])
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap()
}

/// The one line that it must have said before it ended with exit code 1.
fn refusal(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    text.trim_end().to_owned()
}

#[tokio::test]
async fn a_store_that_the_keys_do_not_open_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Embedded::open(&path, System::current(), EmbeddedOptions::default()).unwrap();
    let sealed = "k8s:enc:aesgcm:v1:gone:0123456789abcdef0123456789abcdef";
    let values = Transaction::new().put("/registry/secrets/n/a", sealed).put("/registry/secrets/n/b", sealed);
    store.commit(values).await.unwrap();
    store.close();
    drop(store);

    let said = refusal(&server(folder.path(), &[]));
    let expected = "error: API server: the store cannot be read: the value of key /registry/secrets/n/a cannot be read: \
                    it is encrypted with aesgcm:v1:gone, and the keys given are key-";
    assert!(said.starts_with(expected), "{said}");

    let file = folder.path().join("keys");
    std::fs::write(&file, "gone AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    let said = refusal(&server(folder.path(), &["--encryption-key-file", file.to_str().unwrap()]));
    assert!(said.contains("/registry/secrets/n/a cannot be read: aesgcm:v1:gone does not open it"), "{said}");

    let config = folder.path().join("config.yaml");
    let server_with = |provider: &str| {
        let text = format!(
            "{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{{resources: \
             [secrets], providers: [{provider}]}}]}}"
        );
        std::fs::write(&config, text).unwrap();
        refusal(&server(folder.path(), &["--encryption-provider-config", config.to_str().unwrap()]))
    };
    let said = server_with("{secretbox: {keys: []}}");
    assert!(
        said.ends_with("config.yaml: resources[0].providers[0].secretbox.keys: at least one is expected"),
        "{said}"
    );
    let said = server_with("{kms: {apiVersion: v2, name: mine, endpoint: 'unix:///nowhere/kms.sock'}}");
    let expected = "error: API server: encryption at rest: kms-provider mine: unix:///nowhere/kms.sock cannot be reached: \
                    No such file or directory (os error 2)";
    assert_eq!(said, expected);
}
