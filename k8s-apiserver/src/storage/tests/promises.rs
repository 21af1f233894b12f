//! A store that encrypts everything keeps every promise of a store.

use std::sync::Arc;

use k8s_core::env::Env;
use k8s_store::{Memory, contract::Subject};

use super::keys;
use crate::storage::{
    Encrypted, Encryption,
    encryption::{Place, Writes},
};

async fn make(env: Env) -> Subject {
    let prefixes = vec![String::new()];
    let everything = Place { prefixes, keys: keys(&[("k", 1)]), writes: Writes::Sealed, ..Place::default() };
    let encryption = Encryption::of(vec![everything], Vec::new());
    Subject::new(Arc::new(Encrypted::new(Arc::new(Memory::new(env)), encryption)))
}

k8s_store::contract!(make);

mod by_a_service {
    use super::*;
    use crate::storage::{
        kms::Kms,
        tests::plugin::{ENDPOINT, Plugin},
    };

    async fn make(env: Env) -> Subject {
        let service = Arc::new(Kms::new("mine", ENDPOINT, std::time::Duration::from_secs(3)));
        let (services, writes) = (vec![service.clone()], Writes::ByService(service));
        let everything = Place { prefixes: vec![String::new()], services, writes, ..Place::default() };
        let encryption = Encryption::of(vec![everything], Vec::new());
        let plugin: Arc<dyn k8s_core::seam::grpc::GrpcCaller> = Plugin::new("key-1");
        encryption.begin(&env, Some(&plugin)).await.unwrap();
        Subject::new(Arc::new(Encrypted::new(Arc::new(Memory::new(env)), encryption)))
    }

    k8s_store::contract!(make);
}
