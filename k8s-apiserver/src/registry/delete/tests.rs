//! What a deletion decides, as data: `(object, options) -> decision`.

use k8s_core::doc;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn decided(kind: &str, doc: Doc, grace: Option<i64>, propagation: Option<Propagation>) -> Decision {
    let options = Options { grace_period_seconds: grace, propagation, ..Options::default() };
    let mut object = doc;
    object.set_at(&["kind"], kind.into());
    decide(&object, k8s_core::strategy::strategy_for("", kind), &options, now())
}

fn marked(decision: Decision) -> (Option<i64>, Vec<Text>) {
    match decision {
        Decision::Mark(doc) => {
            assert!(!metadata(&doc, "deletionTimestamp").is_empty());
            let grace = doc.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Doc::as_i64);
            (grace, metadata_list(&doc, "finalizers"))
        }
        other => panic!("{other:?}"),
    }
}

/// A pod that runs on a node.
fn running() -> Doc {
    doc!({"metadata": {"generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}})
}

/// The same, being deleted with `grace` seconds to go.
fn leaving(grace: i64) -> Doc {
    let mut pod = running();
    mark(&mut pod, grace, now());
    pod
}

#[test]
fn pods_go_gracefully_and_never_slower_than_before() {
    assert_eq!(marked(decided("Pod", running(), None, None)).0, Some(30));
    assert_eq!(marked(decided("Pod", running(), Some(7), None)).0, Some(7));
    assert_eq!(marked(decided("Pod", running(), Some(-3), None)).0, Some(1));
    assert_eq!(decided("Pod", running(), Some(0), None), Decision::Remove);
    assert_eq!(decided("Pod", leaving(30), None, None), Decision::Pending);
    assert_eq!(decided("Pod", leaving(30), Some(60), None), Decision::Pending);
    assert_eq!(marked(decided("Pod", leaving(30), Some(5), None)).0, Some(5));
    assert_eq!(decided("Pod", leaving(30), Some(0), None), Decision::Remove);
    let mut unbound = running();
    unbound.remove_at(&["spec", "nodeName"]);
    assert_eq!(decided("Pod", unbound, None, None), Decision::Remove);
    let mut finished = running();
    finished.set_at(&["status", "phase"], "Succeeded".into());
    assert_eq!(decided("Pod", finished, Some(30), None), Decision::Remove);
}

#[test]
fn the_end_of_a_shortened_deletion_counts_from_its_beginning() {
    let Decision::Mark(doc) = decided("Pod", leaving(30), Some(5), None) else { panic!("not marked") };
    assert_eq!(metadata(&doc, "deletionTimestamp"), rfc3339(Timestamp::from_second(1_000_005).unwrap()));
    assert_eq!(doc.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(2), "counted once, at the beginning");
}

#[test]
fn finalizers_hold_and_propagation_adds_its_own() {
    let held = || doc!({"metadata": {"finalizers": ["x/y"]}});
    assert_eq!(decided("ConfigMap", doc!({"metadata": {}}), None, None), Decision::Remove);
    assert_eq!(marked(decided("ConfigMap", held(), None, None)), (Some(0), vec!["x/y".into()]));
    for (propagation, expected) in [
        (Propagation::Orphan, &["x/y", "orphan"][..]),
        (Propagation::Foreground, &["x/y", "foregroundDeletion"]),
        (Propagation::Background, &["x/y"]),
    ] {
        assert_eq!(marked(decided("ConfigMap", held(), None, Some(propagation))).1, expected, "{propagation:?}");
    }
    let mut both = doc!({"metadata": {"finalizers": ["orphan"]}});
    assert_eq!(decided("ConfigMap", both.clone(), None, Some(Propagation::Background)), Decision::Remove);
    mark(&mut both, 0, now());
    assert_eq!(decided("ConfigMap", both, None, None), Decision::Pending, "an earlier wish stays");
}

#[test]
fn a_namespace_is_held_by_its_spec() {
    let namespace = doc!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}});
    let Decision::Mark(doc) = decided("Namespace", namespace, None, None) else { panic!("not marked") };
    assert_eq!(doc.str_at(&["status", "phase"]), "Terminating");
    assert_eq!(decided("Namespace", doc.clone(), None, None), Decision::Pending);
    let mut empty = doc;
    empty.remove_at(&["spec", "finalizers"]);
    assert_eq!(decided("Namespace", empty, None, None), Decision::Remove);
}
