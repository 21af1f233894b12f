//! A whole cluster inside this program: no port is opened, and it is gone when the program ends.

use k8s::prelude::{types::apps::v1::Deployment, types::core::v1::Pod, *};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::builder().hollow_nodes(3).start().await?;
    let client = cluster.client();
    let web: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
    }))?;
    client.namespaced::<Deployment>("default").create(web).await?;
    let pods = client.informer::<Pod>(InformerScope::all());
    pods.wait_until(|pods| pods.iter().filter(|pod| is_running(pod)).count() == 3).await;
    for pod in pods.list() {
        println!("{} runs on {}", pod.name(), pod.object().meta.node_name);
    }
    cluster.stop().await;
    Ok(())
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}
