//! A controller for a kind of its own: every `Website` gets a deployment of the size that it asks for.

use k8s::prelude::{types::apps::v1::Deployment, *};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{from_value, json};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct WebsiteSpec {
    image: String,
    replicas: i32,
}

k8s::custom_kind! {
    /// A website.
    struct Website("example.com/v1", "websites") { spec: WebsiteSpec }
}

struct Websites;

impl Reconciler for Websites {
    type Object = Website;
    type Error = ApiError;

    async fn reconcile(&self, site: Stored<Website>, cx: Cx) -> Result<Next, ApiError> {
        let labels = json!({"website": site.name()});
        let deployment: Deployment = from_value(json!({
            "metadata": {"name": site.name()},
            "spec": {"replicas": site.spec.replicas, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": site.spec.image}]}}},
        }))
        .map_err(ApiError::internal)?;
        cx.children(&site, [deployment]).await?;
        Ok(Next::Done)
    }
}

fn main() {
    Sim::new(1).kind(k8s::kind_of::<Website>()).run(async |world| {
        let running = Controller::new("websites", Websites).owns::<Deployment>().start(world.client());
        let spec = WebsiteSpec { image: "shop:1".into(), replicas: 2 };
        let sites = world.client().namespaced::<Website>("default");
        sites.create(Website::new("shop", spec)).await.unwrap();
        world.settle().await;
        let made = world.client().namespaced::<Deployment>("default").get("shop").await.unwrap();
        println!("{} has {:?} ready pods", made.name(), made.status.as_ref().and_then(|status| status.ready_replicas));
        assert_eq!(made.status.as_ref().and_then(|status| status.ready_replicas), Some(2));
        running.stop().await;
    });
}
