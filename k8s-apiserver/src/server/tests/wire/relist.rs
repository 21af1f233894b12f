//! An informer whose server has forgotten what it saw: a store that was restored from an older backup.

use std::{sync::Arc, time::Duration};

use k8s_core::{
    doc,
    object::ObjectKey,
    request::{ApiRequest, ApiResponse, Caller},
    seam::transport::Transport,
};
use k8s_reconcile::{Client, InformerScope};
use parking_lot::Mutex;

use super::{super::fixture::resource, *};

/// Whichever server is there now.
struct Switched(Mutex<Arc<dyn Transport>>);

#[async_trait]
impl Transport for Switched {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let now = self.0.lock().clone();
        now.call(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_informer_lists_anew_when_its_revision_is_no_more() {
    let (before, after) = (server().await, server().await);
    for n in 0..50 {
        let map = doc!({"metadata": {"name": format!("m{n}")}});
        before.create("configmaps", "default", map).await.unwrap();
    }
    let old = after.create("configmaps", "default", doc!({"metadata": {"name": "restored"}})).await.unwrap();
    let door = |api: &Fixture| api.api.transport(Caller::new("admin", &["system:masters"]));
    let switched = Arc::new(Switched(Mutex::new(door(&before))));
    let client = Client::new(switched.clone(), before.env.clone());
    let informer = client.dynamic_informer(resource("configmaps"), InformerScope::all());
    informer.synced().await;
    assert!(informer.get(&ObjectKey::new("default", "m7")).is_some());
    let ahead = informer.revision();
    *switched.0.lock() = door(&after);
    before.api.shutdown().await;
    let restored = ObjectKey::new("default", "restored");
    let end = before.env.monotonic() + Duration::from_secs(120);
    while informer.get(&restored).is_none() {
        assert!(before.env.monotonic() < end, "it never listed anew");
        before.env.sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(informer.len(), after.list("configmaps", "", Default::default()).await.unwrap().items.len());
    let revision = super::super::fixture::revision(&old);
    assert!(informer.revision() >= revision && informer.revision() < ahead, "it says how far it is now");
    after.create("configmaps", "default", doc!({"metadata": {"name": "next"}})).await.unwrap();
    assert!(informer.caught_up(after.api.revision(), Duration::from_secs(60)).await, "and it follows");
}
