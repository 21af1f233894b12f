//! Limit ranges of a namespace, and the pods that they give to and keep out.

use k8s_core::{doc, doc::Doc, request::Options};

use super::fixture::{Fixture, server};

async fn pod(api: &Fixture, name: &str, resources: Doc) -> Result<Doc, String> {
    let container = doc!({"name": "c", "image": "i", "resources": resources});
    let pod = doc!({"metadata": {"name": name}, "spec": {"containers": [container]}});
    api.create("pods", "default", pod).await.map_err(|error| error.status().message.clone())
}

#[tokio::test(start_paused = true)]
async fn limit_ranges_give_defaults_and_refuse_what_is_out_of_bounds() {
    let api = server().await;
    let container = doc!({
        "type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "500m"}, "default": {"memory": "64Mi"},
        "maxLimitRequestRatio": {"cpu": "4"},
    });
    let whole = doc!({"type": "Pod", "max": {"memory": "128Mi"}});
    let range = doc!({"metadata": {"name": "l"}, "spec": {"limits": [container, whole]}});
    let range = api.create("limitranges", "default", range).await.unwrap();
    let shown = range.at(&["spec", "limits", "0"]).unwrap();
    assert_eq!(shown.str_at(&["default", "cpu"]), "500m", "the default limit is the most");
    assert_eq!(shown.str_at(&["defaultRequest", "memory"]), "64Mi", "the default request is the default limit");

    // A consistent read waits for the cache, which admission reads as it is.
    assert_eq!(api.list("limitranges", "default", Options::default()).await.unwrap().items.len(), 1);
    let given = pod(&api, "given", doc!({})).await.unwrap();
    let resources = given.at(&["spec", "containers", "0", "resources"]).unwrap();
    assert_eq!(
        *resources,
        doc!({"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}})
    );
    let told = given.str_at(&["metadata", "annotations", "kubernetes.io/limit-ranger"]);
    assert_eq!(told, "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c");
    assert_eq!(given.str_at(&["status", "qosClass"]), "Guaranteed");

    let own = doc!({"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "200m", "memory": "1Mi"}});
    let untouched = pod(&api, "own", own.clone()).await.unwrap();
    assert_eq!(untouched.at(&["spec", "containers", "0", "resources"]), Some(&own));
    assert!(untouched.at(&["metadata", "annotations"]).is_none());

    for (requests, limits, why) in [
        (doc!({"cpu": "10m"}), doc!({"cpu": "40m"}), "minimum cpu usage per Container is 50m, but request is 10m"),
        (doc!({"cpu": "500m"}), doc!({"cpu": "1"}), "maximum cpu usage per Container is 500m, but limit is 1"),
        (
            doc!({"cpu": "50m"}),
            doc!({"cpu": "500m"}),
            "cpu max limit to request ratio per Container is 4, but provided ratio is 10.000000",
        ),
        (doc!({}), doc!({"memory": "256Mi"}), "maximum memory usage per Pod is 128Mi, but limit is 256Mi"),
    ] {
        let refused = pod(&api, "refused", doc!({"requests": requests, "limits": limits})).await.unwrap_err();
        assert_eq!(refused, format!("pods \"refused\" is forbidden: {why}"));
    }
    let elsewhere = doc!({"metadata": {"name": "free"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.create("namespaces", "", doc!({"metadata": {"name": "other"}})).await.unwrap();
    api.create("serviceaccounts", "other", doc!({"metadata": {"name": "default"}})).await.unwrap();
    let free = api.create("pods", "other", elsewhere).await.unwrap();
    assert_eq!(free.at(&["spec", "containers", "0", "resources"]), Some(&doc!({})));
}
