//! Typed objects: create, read, change, delete.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use crate::world::{World, object, refused};

fn map(name: &str, key: &str, value: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name, "labels": {"of": "row"}}, "data": {key: value}}))
}

fn value<'a>(map: &'a ConfigMap, key: &str) -> Option<&'a str> {
    map.data.as_ref()?.get(key).map(String::as_str)
}

pub async fn create_to_delete(world: &World) {
    let (maps, post) = (world.api::<ConfigMap>(), PostParams::default());
    assert!(maps.get_opt("a").await.unwrap().is_none());
    assert_eq!(refused(maps.get("a").await), (404, "NotFound".into()));
    let made = maps.create(&post, &map("a", "k", "1")).await.unwrap();
    assert!(made.uid().is_some() && made.resource_version().is_some() && made.creation_timestamp().is_some());
    assert_eq!(refused(maps.create(&post, &map("a", "k", "1")).await), (409, "AlreadyExists".into()));
    assert_eq!(maps.get("a").await.unwrap(), made);
    let mut generated = map("", "k", "1");
    generated.metadata.name = None;
    generated.metadata.generate_name = Some("b-".into());
    assert!(maps.create(&post, &generated).await.unwrap().name_any().starts_with("b-"));
    let of_row = ListParams::default().labels("of=row");
    assert_eq!(maps.list(&of_row).await.unwrap().items.len(), 2);
    let gone = maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(gone.right().is_some_and(|status| status.is_success()));
    maps.delete_collection(&DeleteParams::default(), &of_row).await.unwrap();
    assert_eq!(maps.list(&of_row).await.unwrap().items.len(), 0);
    let bad: ConfigMap = object(json!({"metadata": {"name": "Not A Name"}}));
    assert_eq!(refused(maps.create(&post, &bad).await), (422, "Invalid".into()));
    let spaces: Api<Namespace> = Api::all(world.client.clone());
    let names: Vec<String> = spaces.list(&ListParams::default()).await.unwrap().iter().map(|n| n.name_any()).collect();
    assert!(names.contains(&"kube-system".into()), "{names:?}");
}

pub async fn conflicts(world: &World) {
    let (maps, post) = (world.api::<ConfigMap>(), PostParams::default());
    let first = maps.create(&post, &map("a", "k", "1")).await.unwrap();
    let mut second = first.clone();
    second.data.get_or_insert_default().insert("k".into(), "2".into());
    let second = maps.replace("a", &post, &second).await.unwrap();
    assert_eq!(refused(maps.replace("a", &post, &first).await), (409, "Conflict".into()));
    let with = |preconditions| DeleteParams::default().preconditions(preconditions);
    let old = Preconditions { resource_version: first.resource_version(), uid: None };
    assert_eq!(refused(maps.delete("a", &with(old)).await).0, 409);
    let other = Preconditions { resource_version: None, uid: Some("another".into()) };
    assert_eq!(refused(maps.delete("a", &with(other)).await).0, 409);
    let right = Preconditions { resource_version: second.resource_version(), uid: second.uid() };
    maps.delete("a", &with(right)).await.unwrap();
}

pub async fn merges_and_json_patches(world: &World) {
    let (maps, params) = (world.api::<ConfigMap>(), PatchParams::default());
    maps.create(&PostParams::default(), &map("a", "k", "1")).await.unwrap();
    let merge = json!({"data": {"k": null, "l": "2"}});
    let merged = maps.patch("a", &params, &Patch::Merge(&merge)).await.unwrap();
    assert_eq!((value(&merged, "k"), value(&merged, "l")), (None, Some("2")));
    let strategic = json!({"metadata": {"finalizers": ["x/y"], "$deleteFromPrimitiveList/finalizers": ["x/z"]}});
    let patched = maps.patch("a", &params, &Patch::Strategic(&strategic)).await.unwrap();
    assert_eq!(patched.finalizers(), ["x/y"]);
    let remove = json!({"metadata": {"finalizers": null}});
    maps.patch_metadata("a", &params, &Patch::Merge(&remove)).await.unwrap();
    let strict = params.clone().validation_strict();
    let unknown = json!({"unknown": 1});
    assert_eq!(refused(maps.patch("a", &strict, &Patch::Merge(&unknown)).await).0, 400);
    assert_eq!(refused(maps.patch("none", &params, &Patch::Merge(&merge)).await).0, 404);
}

pub async fn applies(world: &World) {
    let maps = world.api::<ConfigMap>();
    let of = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": value}});
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    let made = maps.patch("a", &one, &Patch::Apply(of("1"))).await.unwrap();
    assert_eq!(made.managed_fields()[0].manager.as_deref(), Some("one"));
    assert_eq!(refused(maps.patch("a", &two, &Patch::Apply(of("2"))).await), (409, "Conflict".into()));
    let forced = maps.patch("a", &two.clone().force(), &Patch::Apply(of("2"))).await.unwrap();
    assert_eq!(value(&forced, "k"), Some("2"));
    let none = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let left = maps.patch("a", &two, &Patch::Apply(none)).await.unwrap();
    assert_eq!(value(&left, "k"), None, "nobody owns it any more");
}

pub async fn tried_only(world: &World) {
    let maps = world.api::<ConfigMap>();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    assert!(maps.create(&dry, &map("a", "k", "1")).await.unwrap().uid().is_some());
    assert!(maps.get_opt("a").await.unwrap().is_none());
    maps.create(&PostParams::default(), &map("a", "k", "1")).await.unwrap();
    let change = json!({"data": {"k": "2"}});
    let tried = maps.patch("a", &PatchParams::default().dry_run(), &Patch::Merge(&change)).await.unwrap();
    assert_eq!(value(&tried, "k"), Some("2"));
    maps.delete("a", &DeleteParams::default().dry_run()).await.unwrap();
    assert_eq!(value(&maps.get("a").await.unwrap(), "k"), Some("1"));
}

pub async fn metadata_alone(world: &World) {
    let maps = world.api::<ConfigMap>();
    maps.create(&PostParams::default(), &map("a", "k", "1")).await.unwrap();
    let one = maps.get_metadata("a").await.unwrap();
    assert_eq!(one.types.as_ref().unwrap().kind, "PartialObjectMetadata");
    assert_eq!(one.labels()["of"], "row");
    let all = maps.list_metadata(&ListParams::default().labels("of=row")).await.unwrap();
    assert_eq!(all.items.len(), 1);
}

pub async fn pages(world: &World) {
    let maps = world.api::<ConfigMap>();
    for number in 0..7 {
        maps.create(&PostParams::default(), &map(&format!("m{number}"), "k", "1")).await.unwrap();
    }
    let mut params = ListParams::default().labels("of=row").limit(3);
    let (mut sizes, mut revisions) = (Vec::new(), Vec::new());
    loop {
        let page = maps.list(&params).await.unwrap();
        sizes.push((page.items.len(), page.metadata.remaining_item_count));
        revisions.push(page.metadata.resource_version.clone());
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
        // What is written meanwhile belongs to another moment.
        maps.delete("m6", &DeleteParams::default()).await.ok();
    }
    // A selector leaves open how many there are.
    assert_eq!(sizes, [(3, None), (3, None), (1, None)]);
    revisions.dedup();
    assert_eq!(revisions.len(), 1);
}

pub async fn entries(world: &World) {
    let maps = world.api::<ConfigMap>();
    for expected in ["1", "11"] {
        let entry = maps.entry("a").await.unwrap();
        let mut entry = entry.or_insert(|| map("a", "k", "")).and_modify(|map| {
            map.data.get_or_insert_default().entry("k".into()).or_default().push('1');
        });
        entry.commit(&PostParams::default()).await.unwrap();
        assert_eq!(value(entry.get(), "k"), Some(expected));
    }
}
