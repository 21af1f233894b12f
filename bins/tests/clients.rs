//! Clients from elsewhere, as programs of their own, against `k8s up`: the Python client and schemathesis.
//!
//! Needs what `./test.sh setup` installs below `python` in the folder of the test parts.
#![allow(clippy::disallowed_methods)] // Programs under test run by the machine's own clock.

#[path = "clients/hollow.rs"]
#[allow(dead_code, reason = "shared with the tests of kubectl")]
mod hollow;
#[path = "e2e/kubectl.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod kubectl;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use hollow::Hollow;
use k8s::core::api::ByteString;

/// How many requests schemathesis makes here. Generating them takes minutes.
const GENERATED: u32 = 10_000;
/// The seed of what it generates.
const SEED: u32 = 1;

/// Runs one of the scripts beside this file; it must succeed. Answers what it printed.
fn python(script: &str, arguments: &[&str]) -> String {
    let parts = std::env::var("K8S_TEST_PARTS").unwrap_or_else(|_| "/var/cache/k8s-test-parts".into());
    let packages = Path::new(&parts).join("python");
    assert!(packages.exists(), "{} is missing: run `./test.sh setup`", packages.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let mut command = Command::new("python3");
    command.arg("-B").arg(&script).args(arguments).env("PYTHONPATH", packages);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{complained}", script.display());
    said
}

#[test]
fn the_python_client_does_what_programs_do() {
    let cluster = Hollow::start(2);
    let said = python("python_client.py", &[path(&cluster.kubeconfig())]);
    let steps = [
        "objects",
        "pages",
        "patches",
        "applies",
        "watches",
        "dynamic objects",
        "from manifests",
        "pods",
        "informers",
        "elections",
    ];
    for step in steps {
        assert!(said.contains(&format!("{step}: ")), "{step} is missing: {said}");
    }
    cluster.interrupt();
}

/// More of it, by hand: `python3 bins/tests/clients/generated_requests.py URL IDENTITY.pem CA.pem COUNT SEED`.
#[test]
fn no_request_that_schemathesis_makes_is_answered_with_500() {
    let cluster = Hollow::start(1);
    let (url, identity, authority) = credentials(&cluster);
    let (count, seed) = (GENERATED.to_string(), SEED.to_string());
    let said = python("generated_requests.py", &[&url, path(&identity), path(&authority), &count, &seed]);
    println!("{said}");
    assert!(said.starts_with(&format!("{GENERATED} requests of ")), "{said}");
    cluster.interrupt();
}

/// What the administrator's kubeconfig says: a URL, a file with certificate and key, and one with the authority.
fn credentials(cluster: &Hollow) -> (String, PathBuf, PathBuf) {
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (server, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    let decoded = |data: &serde_json::Value| {
        let data: ByteString = serde_json::from_value(data.clone()).unwrap();
        data.0
    };
    let (identity, authority) = (cluster.file("identity.pem"), cluster.file("authority.pem"));
    let pair = [decoded(&user["client-certificate-data"]), decoded(&user["client-key-data"])].concat();
    std::fs::write(&identity, pair).unwrap();
    std::fs::write(&authority, decoded(&server["certificate-authority-data"])).unwrap();
    (server["server"].as_str().unwrap().to_owned(), identity, authority)
}

fn path(of: &Path) -> &str {
    of.to_str().unwrap()
}
