//! The memory backend keeps every promise.

use std::sync::Arc;

use k8s_core::env::Env;
use k8s_store::{Memory, contract::Subject};

async fn make(env: Env) -> Subject {
    Subject::new(Arc::new(Memory::new(env)))
}

k8s_store::contract!(make);
