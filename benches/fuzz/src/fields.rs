//! Sets of fields: the laws of sets, and an encoding that loses nothing.

use k8s_core::{apply::FieldSet, doc::Doc};

/// Two `fieldsV1` documents.
pub fn run(input: &[u8]) {
    let sets: Vec<FieldSet> =
        crate::parts(input).into_iter().take(2).filter_map(|part| Doc::parse(part).ok()).map(decoded).collect();
    if let [a, b] = sets.as_slice() {
        laws(a, b);
        laws(b, a);
    }
}

fn decoded(doc: Doc) -> FieldSet {
    let set = FieldSet::decode(&doc);
    let encoded = set.encode();
    assert_eq!(FieldSet::decode(&encoded), set, "{encoded} is another set");
    assert_eq!(FieldSet::decode(&encoded).encode().to_json(), encoded.to_json());
    set.paths();
    assert_eq!(set.union(&set), set);
    assert_eq!(set.intersection(&set), set);
    assert!(set.difference(&set).is_empty());
    set
}

fn laws(a: &FieldSet, b: &FieldSet) {
    let (union, both, only) = (a.union(b), a.intersection(b), a.difference(b));
    assert_eq!(union, b.union(a));
    assert_eq!(both, b.intersection(a));
    assert_eq!(only.union(&both), *a, "what is only here and what is in both is all");
    assert_eq!(a.intersects(b), !both.is_empty());
    assert!(!only.intersects(b));
    assert_eq!(only.union(b), union);
    assert_eq!(FieldSet::decode(&union.encode()), union);
}
