//! Patches: the same outcome each time, and an object that stays one.

use std::collections::BTreeSet;

use k8s_core::{
    doc::{Doc, Map},
    patch::{self, MAX_COPIED_BYTES},
    request::PatchKind,
    schema::Node,
    structure::{Mode, check},
};

use crate::samples::{Sample, sample};

/// Two letters choose the kind of patch and the sample; then come the patch and perhaps an object to patch instead.
pub fn run(input: &[u8]) {
    let [kind, choice, rest @ ..] = input else { return };
    let sample = sample(*choice);
    let parts = crate::parts(rest);
    let live = parts.get(1).and_then(|text| object(text, sample)).unwrap_or_else(|| sample.object.clone());
    with_itself(&live, sample);
    let Ok(patch) = Doc::parse(parts[0]) else { return };
    let kind = match kind {
        b'j' => PatchKind::Json,
        b'm' => PatchKind::Merge,
        _ => PatchKind::Strategic,
    };
    let once = patch::apply(kind, &patch, &live, Some(&sample.schema));
    let twice = patch::apply(kind, &patch, &live, Some(&sample.schema));
    match (once, twice) {
        (Ok(once), Ok(twice)) => {
            assert_eq!(once.to_json(), twice.to_json(), "the same patch had two outcomes");
            follows(kind, &patch, &live, once, sample);
        }
        (Err(once), Err(twice)) => {
            assert_eq!(once.to_string(), twice.to_string());
            assert!((400..500).contains(&once.code()), "{once}");
        }
        (once, twice) => panic!("the same patch had two outcomes: {once:?} and {twice:?}"),
    }
}

/// An object of the sample's kind, as a server keeps it.
fn object(text: &[u8], sample: &Sample) -> Option<Doc> {
    let mut object = Doc::parse(text).ok()?;
    object.as_object()?;
    check(&sample.schema, &mut object, Mode::Whole).wrong.is_empty().then_some(object)
}

fn follows(kind: PatchKind, patch: &Doc, live: &Doc, mut patched: Doc, sample: &Sample) {
    let length = patched.to_json().len();
    let most = live.to_json().len() + 2 * patch.to_json().len() + MAX_COPIED_BYTES;
    assert!(length <= most, "{length} bytes came out, at most {most} can");
    if kind == PatchKind::Merge {
        let again = patch::apply(kind, patch, &patched, None);
        assert_eq!(again.ok().as_ref(), Some(&patched), "a merge patch changes nothing the second time");
    }
    if check(&sample.schema, &mut patched, Mode::Whole).wrong.is_empty() {
        let kept = patched.to_json();
        let again = check(&sample.schema, &mut patched, Mode::Whole);
        assert!(again.wrong.is_empty() && again.unknown.is_empty(), "what was pruned is sound: {again:?}");
        assert_eq!(patched.to_json(), kept, "what was made canonical is canonical");
    }
}

/// Merging an object with itself changes nothing.
fn with_itself(live: &Doc, sample: &Sample) {
    // Nulls and directives mean something else in a patch, and so do items that cannot be told apart.
    if !is_plain(live)
        || !are_told_apart(live, Some(sample.schema.root()))
        || k8s_core::apply::apply_configuration(None, &bare(live), &sample.schema, &manager(sample), true).is_err()
    {
        return;
    }
    for kind in [PatchKind::Merge, PatchKind::Strategic] {
        match patch::apply(kind, live, live, Some(&sample.schema)) {
            Ok(merged) => assert_eq!(merged, *live, "{kind:?} with itself"),
            // Lists whose merge key is optional.
            Err(why) => assert!(why.to_string().contains("lacks its merge key"), "{kind:?} with itself: {why}"),
        }
    }
    let test = Doc::Array(vec![
        [("op", "test".into()), ("path", "".into()), ("value", live.clone())].into_iter().collect::<Map>().into(),
    ]);
    assert_eq!(patch::apply(PatchKind::Json, &test, live, None).ok().as_ref(), Some(live));
}

/// Whether the items of every list that is merged have a merge key of their own. (Ports of a pod need not, upstream too.)
fn are_told_apart(doc: &Doc, node: Option<Node<'_>>) -> bool {
    match doc {
        Doc::Object(fields) => fields.iter().all(|(name, value)| {
            let below = node.and_then(|node| node.field(name).or_else(|| node.values()));
            are_told_apart(value, below)
        }),
        Doc::Array(items) => {
            let merged = node.filter(|node| node.patch().merge);
            let identity = |item: &Doc| match merged.and_then(Node::merge_key) {
                Some(key) if item.as_object().is_some() => item.get(key).map(Doc::to_json),
                _ => Some(item.to_json()),
            };
            let distinct: BTreeSet<_> = items.iter().filter_map(identity).collect();
            (merged.is_none() || distinct.len() == items.len())
                && items.iter().all(|item| are_told_apart(item, node.and_then(Node::items)))
        }
        _ => true,
    }
}

fn bare(live: &Doc) -> Doc {
    let mut bare = live.clone();
    bare.remove_at(&["metadata", "managedFields"]);
    bare
}

fn manager(sample: &Sample) -> k8s_core::apply::Manager {
    crate::apply::manager("a", sample)
}

fn is_plain(doc: &Doc) -> bool {
    match doc {
        Doc::Null => false,
        Doc::Array(items) => items.iter().all(is_plain),
        Doc::Object(fields) => fields.iter().all(|(name, value)| !name.starts_with('$') && is_plain(value)),
        _ => true,
    }
}
