//! Pods, what hangs below them, and what makes them. The nodes are simulated.

use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt,
    api::{AttachParams, DeleteParams, EvictParams, ListParams, LogParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions},
};
use serde_json::json;
use tokio::{io::AsyncReadExt, time::timeout};

use crate::world::{World, object, refused};

async fn running_pod(world: &World, name: &str) -> Pod {
    let pods = world.api::<Pod>();
    let pod: Pod = object(json!({
        "metadata": {"name": name, "labels": {"app": name}, "annotations": {
            "hollow/log": "first\nsecond\n", "hollow/exec-output": "done\n", "hollow/exec-exit-code": "3"}},
        "spec": {"containers": [{"name": "main", "image": "main:1"}], "terminationGracePeriodSeconds": 0},
    }));
    pods.create(&PostParams::default(), &pod).await.unwrap();
    await_condition(pods, name, conditions::is_pod_running()).await.unwrap().unwrap()
}

pub async fn until_it_runs(world: &World) {
    let pod = running_pod(world, "a").await;
    let (spec, status) = (pod.spec.as_ref().unwrap(), pod.status.as_ref().unwrap());
    assert!(spec.node_name.is_some() && status.pod_ip.is_some());
    let deployments = world.api::<Deployment>();
    let deployment: Deployment = object(json!({"metadata": {"name": "web"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}}));
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    await_condition(deployments, "web", conditions::is_deployment_completed()).await.unwrap();
    let on_node = format!("spec.nodeName={},status.phase=Running", spec.node_name.as_ref().unwrap());
    let everywhere: Api<Pod> = Api::all(world.client.clone());
    let there = everywhere.list(&ListParams::default().fields(&on_node)).await.unwrap();
    assert!(there.iter().any(|other| other.uid() == pod.uid()));
}

pub async fn logs(world: &World) {
    running_pod(world, "a").await;
    let pods = world.api::<Pod>();
    assert_eq!(pods.logs("a", &LogParams::default()).await.unwrap(), "first\nsecond\n");
    let last = LogParams { tail_lines: Some(1), container: Some("main".into()), ..LogParams::default() };
    assert_eq!(pods.logs("a", &last).await.unwrap(), "second\n");
    let stream = pods.log_stream("a", &LogParams::default()).await.unwrap();
    let lines: Vec<String> = stream.lines().try_collect().await.unwrap();
    assert_eq!(lines, ["first", "second"]);
    assert_eq!(refused(pods.logs("none", &LogParams::default()).await).0, 404);
    let other = LogParams { container: Some("other".into()), ..LogParams::default() };
    assert_eq!(refused(pods.logs("a", &other).await).0, 400);
}

pub async fn evictions(world: &World) {
    let pod = running_pod(world, "a").await;
    let (pods, budgets) = (world.api::<Pod>(), world.api::<PodDisruptionBudget>());
    let budget: PodDisruptionBudget = object(json!({
        "metadata": {"name": "keep"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}));
    budgets.create(&PostParams::default(), &budget).await.unwrap();
    let is_counted = |budget: Option<&PodDisruptionBudget>| {
        budget.and_then(|budget| budget.status.as_ref()).is_some_and(|status| status.current_healthy == Some(1))
    };
    await_condition(budgets.clone(), "keep", is_counted).await.unwrap();
    // Over HTTPS the client tries again by itself, as the refusal tells it to.
    if let Ok(answer) = timeout(Duration::from_secs(2), pods.evict("a", &EvictParams::default())).await {
        assert_eq!(refused(answer), (429, "TooManyRequests".into()));
    }
    assert!(pods.get("a").await.unwrap().metadata.deletion_timestamp.is_none());
    budgets.delete("keep", &DeleteParams::default()).await.unwrap();
    pods.evict("a", &EvictParams::default()).await.unwrap();
    await_condition(pods, "a", conditions::is_deleted(&pod.uid().unwrap())).await.unwrap();
}

pub async fn scales_and_statuses(world: &World) {
    let deployments = world.api::<Deployment>();
    let deployment: Deployment = object(json!({"metadata": {"name": "web"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}}));
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let change = json!({"spec": {"replicas": 3}});
    let scaled = deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(3));
    let mut scale = deployments.get_scale("web").await.unwrap();
    scale.spec.as_mut().unwrap().replicas = Some(1);
    deployments.replace_scale("web", &PostParams::default(), &scale).await.unwrap();
    assert_eq!(deployments.get("web").await.unwrap().spec.replicas, Some(1));
    let condition = json!({"status": {"conditions": [
        {"type": "example.com/Tested", "status": "True", "lastTransitionTime": "2030-01-02T03:04:05Z"}]}});
    let params = PatchParams::default();
    running_pod(world, "a").await;
    let pods = world.api::<Pod>();
    let patched = pods.patch_status("a", &params, &Patch::Strategic(&condition)).await.unwrap();
    let conditions = patched.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|c| c.type_ == "example.com/Tested") && conditions.len() > 1, "{conditions:?}");
    let tokens = world.api::<ServiceAccount>();
    let review = tokens.create_token_request("default", &PostParams::default(), &Default::default()).await.unwrap();
    assert!(review.status.unwrap().token.is_some_and(|token| !token.is_empty()));
}

pub async fn ephemeral_containers(world: &World) {
    running_pod(world, "a").await;
    let pods = world.api::<Pod>();
    let change = json!({"spec": {"ephemeralContainers": [
        {"name": "look", "image": "look:1", "targetContainerName": "main"}]}});
    let params = PatchParams::default();
    let patched = pods.patch_ephemeral_containers("a", &params, &Patch::Strategic(&change)).await.unwrap();
    assert_eq!(patched.spec.unwrap().ephemeral_containers.unwrap()[0].name, "look");
    let runs = |pod: Option<&Pod>| {
        let statuses = pod.and_then(|pod| pod.status.as_ref()?.ephemeral_container_statuses.as_ref());
        statuses.is_some_and(|all| all.iter().any(|one| one.state.as_ref().is_some_and(|s| s.running.is_some())))
    };
    await_condition(pods, "a", runs).await.unwrap();
}

pub async fn commands(world: &World) {
    running_pod(world, "a").await;
    let pods = world.api::<Pod>();
    let mut process = pods.exec("a", ["what", "ever"], &AttachParams::default()).await.unwrap();
    let (mut said, status) = (String::new(), process.take_status().unwrap());
    process.stdout().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "done\n");
    let status = status.await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?}");
    process.join().await.unwrap();
    let none = pods.exec("none", ["true"], &AttachParams::default()).await.err().unwrap();
    assert!(none.to_string().contains("404") || format!("{none:?}").contains("404"), "{none:?}");
}
