//! The embedded backend keeps every promise.

use k8s_core::env::Env;
use k8s_store::{Embedded, EmbeddedOptions, contract::Subject};

async fn make(env: Env) -> Subject {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(folder.path(), env, EmbeddedOptions::default()).expect("an empty folder opens");
    Subject::new(store).within(folder)
}

k8s_store::contract!(make);
