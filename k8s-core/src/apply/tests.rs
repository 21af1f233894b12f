//! Ownership as data: who wrote what, what is left, who owns it.

mod ownership;

use super::*;
use crate::{doc, schema::Schemas};

fn deployment() -> Schema {
    Schemas::builtin().schema("apps", "v1", "Deployment").unwrap()
}

fn manager(name: &str, operation: Operation) -> Manager {
    at(name, operation, 1_700_000_000)
}

fn at(name: &str, operation: Operation, second: i64) -> Manager {
    Manager {
        name: name.into(),
        operation,
        api_version: "apps/v1".into(),
        subresource: String::new(),
        time: Timestamp::from_second(second).unwrap(),
    }
}

fn parse(text: &str) -> Doc {
    Doc::parse(text.as_bytes()).unwrap_or_else(|why| panic!("{text}: {why:?}"))
}

fn apply(live: Option<&Doc>, configuration: &str, name: &str) -> ApiResult<Doc> {
    apply_configuration(live, &parse(configuration), &deployment(), &manager(name, Operation::Apply), false)
}

/// `manager operation fieldsV1` of each entry.
fn owners(doc: &Doc) -> Vec<String> {
    let line = |entry: &Doc| {
        let fields = entry.get("fieldsV1").cloned().unwrap_or_default();
        format!("{} {} {fields}", entry.str_at(&["manager"]), entry.str_at(&["operation"]))
    };
    managed::raw(doc).iter().map(line).collect()
}

fn without_owners(doc: &Doc) -> String {
    let mut doc = doc.clone();
    doc.remove_at(&["metadata", "managedFields"]);
    doc.to_string()
}

fn updated(live: Option<&Doc>, new: &str, name: &str) -> Doc {
    let mut new = parse(new);
    if let Some(live) = live {
        new.set_at(&["metadata", "managedFields"], Doc::Array(managed::raw(live).to_vec()));
    }
    track_update(live, &mut new, &deployment(), &manager(name, Operation::Update));
    new
}

#[test]
fn an_apply_owns_what_it_names() {
    let doc = apply(None, r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","labels":{"x":"y"}},"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"c","image":"i","args":["1"],"ports":[{"containerPort":80}]}]}}}}"#, "me").unwrap();
    assert_eq!(
        owners(&doc),
        [concat!(
            r#"me Apply {"f:metadata":{"f:labels":{"f:x":{}}},"f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:containers":"#,
            r#"{"k:{\"name\":\"c\"}":{".":{},"f:args":{},"f:image":{},"f:name":{},"#,
            r#""f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}"#
        )]
    );
    assert_eq!(managed::raw(&doc)[0].str_at(&["time"]), "2023-11-14T22:13:20Z");
}

#[test]
fn an_update_owns_what_it_changes() {
    let doc = updated(
        None,
        r#"{"metadata":{"name":"a","labels":{"x":"y"}},"spec":{"replicas":1},"status":{"replicas":1}}"#,
        "one",
    );
    assert_eq!(
        owners(&doc),
        [r#"one Update {"f:metadata":{"f:labels":{".":{},"f:x":{}}},"f:spec":{"f:replicas":{}}}"#]
    );
    let doc = updated(Some(&doc), r#"{"metadata":{"name":"a","labels":{"x":"z"}},"spec":{"paused":true}}"#, "two");
    assert_eq!(
        owners(&doc),
        [
            r#"one Update {"f:metadata":{"f:labels":{}}}"#,
            r#"two Update {"f:metadata":{"f:labels":{"f:x":{}}},"f:spec":{"f:paused":{}}}"#,
        ]
    );
}

#[test]
fn an_update_that_changes_nothing_leaves_the_owners_alone() {
    let first = updated(None, r#"{"metadata":{"name":"a"},"spec":{"replicas":1}}"#, "one");
    let mut again = first.clone();
    track_update(Some(&first), &mut again, &deployment(), &at("one", Operation::Update, 1_800_000_000));
    assert_eq!(again, first);
    again.set_at(&["spec", "replicas"], 2.into());
    track_update(Some(&first), &mut again, &deployment(), &at("one", Operation::Update, 1_800_000_000));
    assert_eq!(managed::raw(&again), managed::raw(&first), "the time moves only with the set");
}

#[test]
fn conflicts_are_refused_unless_forced() {
    let live =
        updated(None, r#"{"metadata":{"name":"a"},"spec":{"replicas":1,"paused":true}}"#, "kubectl-client-side-apply");
    let error = apply(Some(&live), r#"{"spec":{"replicas":2}}"#, "me").unwrap_err();
    assert_eq!(error.code(), 409);
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
    );
    let causes = &error.status().details.as_ref().unwrap().causes;
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(causes[0].message, r#"conflict with "kubectl-client-side-apply" using apps/v1"#);
    assert_eq!(causes[0].field, ".spec.replicas");

    let two = apply(Some(&live), r#"{"spec":{"replicas":2,"paused":false}}"#, "me").unwrap_err();
    assert_eq!(
        two.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );

    let me = manager("me", Operation::Apply);
    let forced =
        apply_configuration(Some(&live), &parse(r#"{"spec":{"replicas":2}}"#), &deployment(), &me, true).unwrap();
    assert_eq!(without_owners(&forced), r#"{"metadata":{"name":"a"},"spec":{"replicas":2,"paused":true}}"#);
    assert_eq!(
        owners(&forced),
        [r#"me Apply {"f:spec":{"f:replicas":{}}}"#, r#"kubectl-client-side-apply Update {"f:spec":{"f:paused":{}}}"#,]
    );
}

#[test]
fn the_same_value_is_owned_by_both() {
    let live = apply(None, r#"{"metadata":{"name":"a"},"spec":{"replicas":1}}"#, "one").unwrap();
    let live = apply(Some(&live), r#"{"spec":{"replicas":1}}"#, "two").unwrap();
    assert_eq!(owners(&live).len(), 2);
    let left = apply(Some(&live), r#"{"metadata":{"name":"a"}}"#, "one").unwrap();
    assert_eq!(left.at(&["spec", "replicas"]), Some(&Doc::from(1)));
    assert_eq!(owners(&left), [r#"two Apply {"f:spec":{"f:replicas":{}}}"#]);
    assert_eq!(apply(Some(&left), "{}", "two").unwrap().get("spec"), None);
}

#[test]
fn what_is_no_longer_applied_is_removed() {
    let template = |containers: &str| format!(r#"{{"spec":{{"template":{{"spec":{{"containers":{containers}}}}}}}}}"#);
    let both = apply(
        None,
        &template(r#"[{"name":"a","image":"1","env":[{"name":"E","value":"v"}]},{"name":"b","image":"1"}]"#),
        "one",
    )
    .unwrap();
    let mut live = both.clone();
    // A default that nobody owns goes with its item and stays with a field beside it.
    live.set_at(&["spec", "template", "spec", "containers", "0", "imagePullPolicy"], "Always".into());
    live.set_at(&["spec", "template", "spec", "containers", "1", "imagePullPolicy"], "Always".into());
    let cases = [
        (r#"[{"name":"a","image":"1"}]"#, r#"[{"name":"a","image":"1","imagePullPolicy":"Always"}]"#),
        (
            r#"[{"name":"b","image":"2"},{"name":"c","image":"3"}]"#,
            r#"[{"name":"b","image":"2","imagePullPolicy":"Always"},{"name":"c","image":"3"}]"#,
        ),
    ];
    for (configuration, expected) in cases {
        let doc = apply(Some(&live), &template(configuration), "one").unwrap();
        assert_eq!(without_owners(&doc), without_owners(&parse(&template(expected)).tap_metadata()), "{configuration}");
    }
}

#[test]
fn what_identifies_an_object_stays_when_its_last_label_goes() {
    let named = |rest: &str| format!(r#"{{"metadata":{{"name":"a"{rest}}},"spec":{{"replicas":1}}}}"#);
    let mut live = apply(None, &named(r#","labels":{"x":"y"}"#), "one").unwrap();
    live.set_at(&["metadata", "uid"], "u".into());
    let left = apply(Some(&live), &named(""), "one").unwrap();
    assert_eq!(without_owners(&left), r#"{"metadata":{"name":"a","uid":"u"},"spec":{"replicas":1}}"#);
}

#[test]
fn lists_keep_the_items_of_others_in_place() {
    let template = |names: &[&str]| {
        let containers: Vec<Doc> = names.iter().map(|name| doc!({"name": *name})).collect();
        let mut doc = Doc::object();
        doc.set_at(&["spec", "template", "spec", "containers"], Doc::Array(containers));
        doc
    };
    let cases: [(&[&str], &[&str], &[&str]); 8] = [
        (&["a", "b"], &["c"], &["a", "b", "c"]),
        // A new item follows the others that stood behind the item before it.
        (&["a", "c"], &["a", "b"], &["a", "c", "b"]),
        (&["a", "x", "b"], &["n", "b", "a"], &["x", "n", "b", "a"]),
        (&["a", "x", "b"], &["a", "n", "b"], &["a", "x", "n", "b"]),
        (&["a", "b", "c"], &["c", "d"], &["a", "b", "c", "d"]),
        (&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]),
        (&["a", "b", "c"], &["b"], &["a", "b", "c"]),
        (&[], &["b"], &["b"]),
    ];
    for (live, configuration, expected) in cases {
        let schema = deployment();
        let merged = merge::merge(&template(live), &template(configuration), schema.root(), Scope::Whole);
        let items = merged.at(&["spec", "template", "spec", "containers"]).unwrap().items();
        let names: Vec<&str> = items.iter().map(|item| item.str_at(&["name"])).collect();
        assert_eq!(names, expected, "{live:?} with {configuration:?}");
    }
}

#[test]
fn what_nobody_tracked_belongs_to_who_came_before() {
    let live = parse(r#"{"metadata":{"name":"a"},"spec":{"replicas":1}}"#);
    let error = apply(Some(&live), r#"{"spec":{"replicas":2}}"#, "me").unwrap_err();
    assert!(error.to_string().contains(r#"conflict with "before-first-apply" using apps/v1"#), "{error}");
}

#[test]
fn kubectl_comes_from_client_side_apply_without_a_conflict() {
    const LAST: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let applied = r#"{"apiVersion":"apps/v1","metadata":{"name":"a"},"spec":{"replicas":1,"paused":true}}"#;
    let mut live = parse(applied);
    live.set_at(&["metadata", "annotations", LAST], applied.into());
    let live = updated(None, &live.to_string(), "kubectl-client-side-apply");
    let changed = r#"{"apiVersion":"apps/v1","metadata":{"name":"a"},"spec":{"replicas":2,"paused":true}}"#;

    // Nobody touched what kubectl had set: it is kubectl's to change.
    let across = apply(Some(&live), changed, "kubectl").unwrap();
    assert_eq!(across.at(&["spec", "replicas"]), Some(&Doc::from(2)));
    assert_eq!(across.str_at(&["metadata", "annotations", LAST]), format!("{changed}\n"));
    assert_eq!(apply(Some(&live), changed, "me").unwrap_err().code(), 409, "for others it is a conflict");

    // What somebody changed since is theirs.
    let mut touched = live.clone();
    touched.set_at(&["spec", "replicas"], 5.into());
    track_update(Some(&live), &mut touched, &deployment(), &manager("other", Operation::Update));
    let both = r#"{"apiVersion":"apps/v1","metadata":{"name":"a"},"spec":{"replicas":2,"paused":false}}"#;
    let error = apply(Some(&touched), both, "kubectl").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "other" using apps/v1: .spec.replicas"#
    );
    assert!(apply(Some(&touched), changed, "kubectl").is_err());
}

#[test]
fn a_configuration_is_checked() {
    for configuration in [
        r#"{"metadata":{"managedFields":[{"manager":"x"}]}}"#,
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"a"},{"name":"a"}]}}}}"#,
    ] {
        assert_eq!(apply(None, configuration, "me").unwrap_err().code(), 400, "{configuration}");
    }
}

#[test]
fn clients_may_reset_the_owners_but_not_forget_them_by_accident() {
    let live = updated(None, r#"{"metadata":{"name":"a"},"spec":{"replicas":1}}"#, "one");
    let send = |list: &str| {
        let mut new = live.clone();
        new.set_at(&["metadata", "managedFields"], parse(list));
        track_update(Some(&live), &mut new, &deployment(), &manager("two", Operation::Update));
        owners(&new).len()
    };
    assert_eq!(send("[{}]"), 0);
    assert_eq!(send("[]"), 1);
    assert_eq!(send(r#"[{"manager":"x","operation":"Nonsense"}]"#), 1);
}

#[test]
fn old_updates_become_one_entry() {
    let mut doc = updated(None, r#"{"metadata":{"name":"a"}}"#, "none");
    for round in 0..15 {
        let mut new = doc.clone();
        new.set_at(&["metadata", "labels", &format!("l{round}")], "x".into());
        track_update(
            Some(&doc),
            &mut new,
            &deployment(),
            &at(&format!("m{round:02}"), Operation::Update, 1_700_000_000 + round),
        );
        doc = new;
    }
    let owners = owners(&doc);
    assert_eq!(owners.len(), MAX_UPDATE_MANAGERS, "{owners:#?}");
    assert!(owners.iter().any(|owner| owner.starts_with("ancient-changes") && owner.contains("f:l0")), "{owners:#?}");
    assert!(owners.iter().any(|owner| owner.starts_with("m14")));
}

#[test]
fn field_sets_round_trip() {
    let text = r#"{"f:a":{".":{},"f:b":{}},"k:{\"name\":\"x\"}":{".":{},"f:c":{}},"v:\"s\"":{}}"#;
    let set = FieldSet::decode(&parse(text));
    assert_eq!(set.encode().to_string(), text);
    assert_eq!(set.paths(), [".a", ".a.b", "[name=\"x\"]", "[name=\"x\"].c", "[=\"s\"]"]);
}

trait TapMetadata {
    fn tap_metadata(self) -> Doc;
}

/// An apply always leaves metadata to hold the owners.
impl TapMetadata for Doc {
    fn tap_metadata(mut self) -> Doc {
        self.entry_at(&["metadata"]).make_object();
        self
    }
}
