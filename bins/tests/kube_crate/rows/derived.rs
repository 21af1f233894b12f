//! A kind of one's own, derived from a type as operators written with `kube` have it.

use std::{pin::pin, sync::Arc};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    api::core::v1::ConfigMap, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResource, CustomResourceExt, KubeSchema, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    discovery::{self, Scope},
    runtime::{
        Controller,
        controller::Action,
        wait::{await_condition, conditions},
        watcher,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::world::{World, beside, refused};

/// What the definition is called.
const DEFINITION: &str = "wells.example.com";

#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "Well",
    namespaced,
    status = "WellStatus",
    derive = "PartialEq",
    shortname = "wl",
    category = "waters",
    selectable = ".spec.place",
    scale(spec_replicas_path = ".spec.buckets", status_replicas_path = ".status.buckets"),
    printcolumn(name = "Place", type_ = "string", json_path = ".spec.place"),
    validation = Rule::new("self.metadata.name != 'dry'").message("a well has water")
)]
#[serde(rename_all = "camelCase")]
struct WellSpec {
    #[x_kube(validation = Rule::new("self == oldSelf").message("a well does not move"))]
    place: String,
    #[schemars(range(min = 0, max = 9))]
    buckets: i32,
    #[serde(default = "four")]
    depth_meters: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keeper: Option<String>,
    #[serde(default, skip_serializing_if = "Water::is_unknown")]
    water: Water,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
enum Water {
    #[default]
    Unknown,
    Sweet,
    Bitter,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
struct WellStatus {
    buckets: i32,
}

impl Water {
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

fn four() -> u32 {
    4
}

fn well(name: &str) -> Well {
    let spec = WellSpec { place: "yard".into(), buckets: 1, depth_meters: 7, keeper: None, water: Water::Sweet };
    Well::new(name, spec)
}

/// Objects of the kind, once it is served.
async fn wells(world: &World) -> Api<Well> {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let params = PatchParams::apply("row").force();
    definitions.patch(DEFINITION, &params, &Patch::Apply(Well::crd())).await.unwrap();
    await_condition(definitions, DEFINITION, conditions::is_crd_established()).await.unwrap();
    world.api()
}

pub async fn from_definition_to_deletion(world: &World) {
    let wells = wells(world).await;
    let post = PostParams::default();
    let made = wells.create(&post, &well("a")).await.unwrap();
    assert_eq!((made.spec.buckets, &made.status), (1, &None));
    assert_eq!(wells.get("a").await.unwrap(), made);
    // What the schema says holds: bounds, choices, defaults, rules.
    let invalid = (422, "Invalid".into());
    let mut full = well("b");
    full.spec.buckets = 10;
    assert_eq!(refused(wells.create(&post, &full).await), invalid);
    assert_eq!(refused(wells.create(&post, &well("dry")).await), invalid);
    let (apply, merge) = (PatchParams::apply("row").force(), PatchParams::default());
    let moved = json!({"spec": {"place": "street"}});
    assert_eq!(refused(wells.patch("a", &merge, &Patch::Merge(&moved)).await), invalid);
    let odd = json!({"spec": {"water": "Salty"}});
    assert_eq!(refused(wells.patch("a", &merge, &Patch::Merge(&odd)).await), invalid);
    let short = json!({"apiVersion": "example.com/v1", "kind": "Well", "spec": {"place": "yard", "buckets": 2}});
    let applied = wells.patch("c", &apply, &Patch::Apply(&short)).await.unwrap();
    assert_eq!((applied.spec.depth_meters, applied.spec.water), (4, Water::Unknown));
    let kept = json!({"spec": {"keeper": "Jo", "unknown": 1}});
    let kept = wells.patch("c", &merge, &Patch::Merge(&kept)).await.unwrap();
    assert_eq!(kept.spec.keeper.as_deref(), Some("Jo"));
    let strict = merge.clone().validation_strict();
    assert_eq!(refused(wells.patch("c", &strict, &Patch::Merge(json!({"spec": {"unknown": 1}}))).await).0, 400);
    // The status and the scale are doors of their own.
    let mut told = made.clone();
    told.status = Some(WellStatus { buckets: 3 });
    told.spec.buckets = 9;
    let told = wells.replace_status("a", &post, &told).await.unwrap();
    assert_eq!((told.spec.buckets, told.status), (1, Some(WellStatus { buckets: 3 })));
    let scaled = json!({"spec": {"replicas": 5}});
    let scale = wells.patch_scale("a", &merge, &Patch::Merge(&scaled)).await.unwrap();
    assert_eq!((scale.spec.unwrap().replicas, scale.status.unwrap().replicas), (Some(5), 3));
    assert_eq!(wells.get_status("a").await.unwrap().spec.buckets, 5);
    let in_yard = ListParams::default().fields("spec.place=yard");
    assert_eq!(wells.list(&in_yard).await.unwrap().items.len(), 2);
    assert_eq!(wells.list(&ListParams::default().fields("spec.place=street")).await.unwrap().items.len(), 0);
    wells.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(wells.get_opt("a").await.unwrap().is_none());
}

pub async fn discovered(world: &World) {
    wells(world).await;
    let group = discovery::group(&world.client, "example.com").await.unwrap();
    assert_eq!(group.preferred_version_or_latest(), "v1");
    let (kind, can) = group.recommended_kind("Well").unwrap();
    assert_eq!((kind.plural.as_str(), kind.api_version.as_str()), ("wells", "example.com/v1"));
    assert_eq!(can.scope, Scope::Namespaced);
    let mut below: Vec<&str> = can.subresources.iter().map(|(below, _)| below.plural.as_str()).collect();
    below.sort_unstable();
    assert_eq!(below, ["scale", "status"]);
    let all = discovery::Discovery::new(world.client.clone()).run_aggregated().await.unwrap();
    assert!(all.has_group("example.com"));
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    definitions.delete(DEFINITION, &DeleteParams::default()).await.unwrap();
    let uid = definitions.get_opt(DEFINITION).await.unwrap().and_then(|left| left.uid()).unwrap_or_default();
    await_condition(definitions, DEFINITION, conditions::is_deleted(&uid)).await.unwrap();
    assert!(discovery::group(&world.client, "example.com").await.is_err(), "it went with its definition");
}

pub async fn watched(world: &World) {
    let wells = wells(world).await;
    let first = wells.create(&PostParams::default(), &well("a")).await.unwrap();
    let mut events = pin!(wells.watch(&WatchParams::default(), &first.resource_version().unwrap()).await.unwrap());
    let told = json!({"status": {"buckets": 2}});
    wells.patch_status("a", &PatchParams::default(), &Patch::Merge(&told)).await.unwrap();
    wells.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Modified(well) => seen.push(("changed", well.status.map(|status| status.buckets))),
            WatchEvent::Deleted(well) => seen.push(("deleted", well.status.map(|status| status.buckets))),
            WatchEvent::Bookmark(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [("changed", Some(2)), ("deleted", Some(2))]);
}

/// Keeps a ConfigMap for each well, and counts its buckets.
async fn keep(well: Arc<Well>, client: Arc<Client>) -> kube::Result<Action> {
    let namespace = well.namespace().unwrap();
    let maps: Api<ConfigMap> = Api::namespaced((*client).clone(), &namespace);
    let wells: Api<Well> = Api::namespaced((*client).clone(), &namespace);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": well.name_any(), "ownerReferences": [well.controller_owner_ref(&())]},
        "data": {"place": well.spec.place}});
    let params = PatchParams::apply("keeper").force();
    maps.patch(&well.name_any(), &params, &Patch::Apply(map)).await?;
    let status = json!({"apiVersion": "example.com/v1", "kind": "Well", "status": {"buckets": well.spec.buckets}});
    wells.patch_status(&well.name_any(), &params, &Patch::Apply(status)).await?;
    Ok(Action::await_change())
}

pub async fn controlled(world: &World) {
    let (wells, maps) = (wells(world).await, world.api::<ConfigMap>());
    let config = watcher::Config::default;
    let controller = Controller::new(wells.clone(), config()).owns(maps.clone(), config());
    let policy = |_: Arc<Well>, error: &kube::Error, _: Arc<Client>| panic!("{error}");
    let running = controller.run(keep, policy, Arc::new(world.client.clone())).for_each(async |_| {});
    let counted = |buckets| {
        move |well: Option<&Well>| well.and_then(|well| well.status.as_ref()).is_some_and(|s| s.buckets == buckets)
    };
    let test = async {
        wells.create(&PostParams::default(), &well("a")).await.unwrap();
        await_condition(wells.clone(), "a", counted(1)).await.unwrap();
        let child = maps.get("a").await.unwrap();
        assert_eq!(child.owner_references()[0].kind, "Well");
        let more = json!({"spec": {"buckets": 2}});
        wells.patch("a", &PatchParams::default(), &Patch::Merge(&more)).await.unwrap();
        await_condition(wells.clone(), "a", counted(2)).await.unwrap();
        wells.delete("a", &DeleteParams::background()).await.unwrap();
        await_condition(maps.clone(), "a", conditions::is_deleted(&child.uid().unwrap())).await.unwrap();
    };
    beside(running, test).await;
}
