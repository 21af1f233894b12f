//! Conversion between the versions of a custom kind by a webhook: who is asked, and what it may not change.

use crate::{
    doc::{Doc, Text},
    strategy::metadata,
};

/// `spec.conversion.webhook` of a definition with the strategy `Webhook`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// Whom to ask: the `clientConfig`.
    pub client: Doc,
    /// The versions of `ConversionReview` that are understood there, the preferred one first.
    pub review_versions: Vec<Text>,
}

impl Conversion {
    /// What a definition says; `None` where no webhook converts.
    pub(super) fn of(definition: &Doc) -> Option<Self> {
        let conversion = definition.at(&["spec", "conversion"])?;
        if conversion.str_at(&["strategy"]) != "Webhook" {
            return None;
        }
        let versions = conversion.at(&["webhook", "conversionReviewVersions"]).map_or(&[][..], Doc::items);
        Some(Self {
            client: conversion.at(&["webhook", "clientConfig"]).cloned().unwrap_or_default(),
            review_versions: versions.iter().filter_map(|version| version.as_str().map(Text::from)).collect(),
        })
    }
}

/// Checks what a webhook made of `original`, and gives it the metadata of the original but for labels and annotations,
/// which alone a webhook may change. The error says what is wrong: with the object, or with its metadata.
///
/// `api_version` is what was asked for. Follows upstream's webhook converter, also in its words.
pub fn check_converted(original: &Doc, converted: &mut Doc, api_version: &str) -> Result<(), Flaw> {
    let object = |why: String| Err(Flaw::Object(why));
    let found = converted.str_at(&["apiVersion"]);
    if found != api_version {
        return Err(Flaw::Type(format!("invalid groupVersion (expected {api_version}, received {found})")));
    }
    let (expected, found) = (original.str_at(&["kind"]), converted.str_at(&["kind"]));
    if expected != found {
        return Err(Flaw::Type(format!("invalid kind (expected {expected}, received {found})")));
    }
    for (field, called) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (expected, found) = (original.str_at(&["metadata", field]), converted.str_at(&["metadata", field]));
        if expected != found {
            return object(format!("must have the same {called}: {expected} != {found}"));
        }
    }
    restore_metadata(original, converted).map_err(Flaw::Metadata)
}

/// What is wrong with an answer, and by that how upstream begins to say so.
#[derive(Debug, PartialEq)]
pub enum Flaw {
    /// It is of another version or kind.
    Type(String),
    /// It is another object.
    Object(String),
    /// Its labels or annotations are none.
    Metadata(String),
}

fn restore_metadata(original: &Doc, converted: &mut Doc) -> Result<(), String> {
    let answered = converted.get("metadata").ok_or("missing metadata in converted object")?;
    if answered.as_object().is_none() {
        return Err(format!("invalid metadata of type {} in converted object", answered.type_name()));
    }
    let mut metadata = original.get("metadata").cloned().unwrap_or_else(Doc::object);
    for field in ["labels", "annotations"] {
        let Some(pairs) = answered.get(field).filter(|pairs| !pairs.is_null()) else {
            metadata.remove_at(&[field]);
            continue;
        };
        check_pairs(field, pairs, metadata.get(field))?;
        metadata.set_at(&[field], pairs.clone());
    }
    converted.set_at(&["metadata"], metadata);
    Ok(())
}

fn check_pairs(field: &str, pairs: &Doc, original: Option<&Doc>) -> Result<(), String> {
    let Some(map) = pairs.as_object() else {
        return Err(format!("invalid metadata.{field} of type {} in converted object", pairs.type_name()));
    };
    if let Some((key, value)) = map.iter().find(|(_, value)| value.as_str().is_none()) {
        let kind = value.type_name();
        return Err(format!("metadata.{field}[{key}] must be a string, but is {kind} in converted object"));
    }
    // What was let in once is not judged again.
    if original == Some(pairs) {
        return Ok(());
    }
    let mut errors = Vec::new();
    match field {
        "labels" => metadata::check_labels(&mut errors, Some(pairs), "metadata.labels"),
        _ => metadata::check_annotations(&mut errors, Some(pairs), "metadata.annotations"),
    }
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc;

    fn original() -> Doc {
        doc!({
            "apiVersion": "example.com/v1", "kind": "Wheel", "hostPort": "h:1",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"l": "1"}, "annotations": {"a": "1"},
                "generation": 2, "finalizers": ["x/y"]}
        })
    }

    fn answered(metadata: Doc) -> Doc {
        doc!({"apiVersion": "example.com/v2", "kind": "Wheel", "metadata": metadata, "host": "h"})
    }

    #[test]
    fn a_webhook_changes_labels_and_annotations_and_nothing_else_of_the_metadata() {
        let mut converted = answered(doc!({"name": "a", "namespace": "n", "uid": "u", "labels": {"m": "2"},
            "generation": 7, "finalizers": []}));
        check_converted(&original(), &mut converted, "example.com/v2").unwrap();
        let metadata = doc!({"name": "a", "namespace": "n", "uid": "u", "labels": {"m": "2"}, "generation": 2,
            "finalizers": ["x/y"]});
        assert_eq!(converted.get("metadata"), Some(&metadata));
        assert_eq!(converted.str_at(&["host"]), "h");
    }

    #[test]
    fn what_is_no_conversion_is_told_in_upstreams_words() {
        let good = || answered(doc!({"name": "a", "namespace": "n", "uid": "u"}));
        let with = |path: &[&str], value: Doc| {
            let mut doc = good();
            doc.set_at(path, value);
            doc
        };
        let said = |mut doc: Doc| check_converted(&original(), &mut doc, "example.com/v2").unwrap_err();
        let version = "invalid groupVersion (expected example.com/v2, received example.com/v1)";
        assert_eq!(said(with(&["apiVersion"], "example.com/v1".into())), Flaw::Type(version.into()));
        let kind = "invalid kind (expected Wheel, received Cog)";
        assert_eq!(said(with(&["kind"], "Cog".into())), Flaw::Type(kind.into()));
        let name = "must have the same name: a != b";
        assert_eq!(said(with(&["metadata", "name"], "b".into())), Flaw::Object(name.into()));
        let uid = "must have the same UID: u != v";
        assert_eq!(said(with(&["metadata", "uid"], "v".into())), Flaw::Object(uid.into()));
        let Flaw::Metadata(label) = said(with(&["metadata", "labels"], doc!({"-": "1"}))) else { panic!("no flaw") };
        assert!(label.starts_with("metadata.labels: Invalid value: \"-\""), "{label}");
        let number = with(&["metadata", "annotations"], doc!({"a": 1}));
        assert!(matches!(said(number), Flaw::Metadata(why) if why.contains("[a] must be a string")));
    }
}
