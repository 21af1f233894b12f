//! One Event under both of its names.

use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, RequestBody},
    request::{Options, PatchKind, ResourceType, Target, Verb},
    selector::FieldSelector,
};

use super::fixture::{Fixture, server};

fn target(name: &str) -> Target {
    Target::one(ResourceType::new("events.k8s.io", "v1", "events"), "default", name)
}

async fn ask(api: &Fixture, verb: Verb, name: &str, body: RequestBody) -> Result<Doc, String> {
    let options = Options { field_manager: Some("m".into()), ..Options::default() };
    let request = ApiRequest { verb, target: target(name), options, body, ..ApiRequest::default() };
    let response = api.ask(request).await.map_err(|error| error.status().message.clone())?;
    response.into_doc().map_err(|error| error.to_string())
}

fn event() -> Doc {
    doc!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Ran", "action": "Run", "note": "It ran",
        "reportingController": "example.com/runner", "reportingInstance": "one",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    })
}

#[tokio::test(start_paused = true)]
async fn an_event_is_one_object_under_both_names() {
    let api = server().await;
    let made = ask(&api, Verb::Create, "", RequestBody::Doc(event())).await.unwrap();
    assert_eq!((made.str_at(&["note"]), made.str_at(&["regarding", "name"])), ("It ran", "p"));
    let old = api.get("events/e", "default").await.unwrap();
    assert_eq!((old.str_at(&["apiVersion"]), old.str_at(&["kind"])), ("v1", "Event"));
    assert_eq!((old.str_at(&["message"]), old.str_at(&["involvedObject", "name"])), ("It ran", "p"));
    assert_eq!(old.str_at(&["reportingComponent"]), "example.com/runner");
    assert_eq!(old.str_at(&["metadata", "uid"]), made.str_at(&["metadata", "uid"]));
    assert!(old.get("note").is_none() && old.get("regarding").is_none());

    let series = doc!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}});
    let counted = ask(&api, Verb::Patch, "e", RequestBody::Patch(PatchKind::Merge, series)).await.unwrap();
    assert_eq!(counted.at(&["series", "count"]).and_then(Doc::as_i64), Some(2));
    let other = RequestBody::Patch(PatchKind::Json, doc!([{"op": "replace", "path": "/note", "value": "x"}]));
    let refused = ask(&api, Verb::Patch, "e", other).await.unwrap_err();
    assert!(refused.contains("note: Invalid value: \"x\": field is immutable"), "{refused}");
    let applied = doc!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "labels": {"a": "b"}},
        "note": "It ran",
    });
    let applied = ask(&api, Verb::Patch, "e", RequestBody::Patch(PatchKind::Apply, applied)).await.unwrap();
    assert_eq!(applied.str_at(&["metadata", "labels", "a"]), "b");
    let managers = applied.at(&["metadata", "managedFields"]).map_or(&[][..], Doc::items);
    let owner = managers.iter().find(|manager| manager.str_at(&["operation"]) == "Apply").unwrap();
    assert!(owner.at(&["fieldsV1", "f:note"]).is_some(), "{owner}");

    let selected = Options { field_selector: FieldSelector::equal("regarding.name", "p"), ..Options::default() };
    let list = ApiRequest { verb: Verb::List, target: target(""), options: selected, ..ApiRequest::default() };
    let list = api.ask(list).await.unwrap().into_list().unwrap();
    let json = Doc::parse(list.items[0].stored_json()).unwrap();
    assert_eq!(
        (list.items.len(), json.str_at(&["apiVersion"]), json.str_at(&["note"])),
        (1, "events.k8s.io/v1", "It ran")
    );
}

#[tokio::test(start_paused = true)]
async fn the_newer_group_asks_for_more() {
    let api = server().await;
    for (field, value, expected) in [
        ("eventTime", Doc::Null, "eventTime: Required value"),
        ("reportingController", Doc::Null, "reportingController: Required value"),
        ("action", "".into(), "action: Required value"),
        ("type", "Odd".into(), "type: Invalid value: \"Odd\": has invalid value: Odd"),
        ("deprecatedCount", 3.into(), "deprecatedCount: Invalid value: 3: needs to be unset"),
        ("note", "x".repeat(1025).as_str().into(), "note: Invalid value: \"\": can have at most 1024 characters"),
    ] {
        let mut wrong = event();
        wrong.set_at(&[field], value);
        let refused = ask(&api, Verb::Create, "", RequestBody::Doc(wrong)).await.unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
    let old = doc!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "message": "enough"});
    api.create("events", "default", old).await.unwrap();
    let shown = ask(&api, Verb::Get, "e", RequestBody::None).await.unwrap();
    assert_eq!(shown.str_at(&["note"]), "enough");
}
