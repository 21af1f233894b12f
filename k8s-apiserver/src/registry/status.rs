//! Subresources that are a part of the object: `status`, and the ephemeral containers and resources of pods.

use k8s_core::{
    doc::Doc,
    request::{ApiResponse, ResponseBody},
    status::ApiResult,
};

use super::{
    operation::Operation,
    update::{Base, Part},
};

impl Operation<'_> {
    /// The whole object, as its part subresources show it.
    pub async fn get_whole(&mut self) -> ApiResult<ApiResponse> {
        let found = self.server.cache.get(self.kind, &self.key(), self.options()).await?;
        let found = self.converted(found.ok_or_else(|| self.not_found())?).await?;
        Ok(ApiResponse::ok(ResponseBody::Object(found)))
    }

    /// Which part of the object the request's subresource is, if it is one.
    pub fn part(&self) -> Option<Part> {
        match self.target().subresource.as_str() {
            "" => Some(Part::Main),
            "status" => Some(Part::Status),
            "approval" => Some(Part::Approval),
            "ephemeralcontainers" => Some(Part::Ephemeral),
            "resize" => Some(Part::Resize),
            _ => None,
        }
    }
}

/// `old` with nothing but the ephemeral containers of `new`.
pub(super) fn only_ephemeral_containers(new: &mut Doc, base: &Base) {
    const PATH: [&str; 2] = ["spec", "ephemeralContainers"];
    let (containers, owners) = (new.remove_at(&PATH), new.remove_at(&["metadata", "managedFields"]));
    *new = base.doc.clone();
    for (path, value) in [(&PATH[..], containers), (&["metadata", "managedFields"], owners)] {
        match value {
            Some(value) => new.set_at(path, value),
            None => drop(new.remove_at(path)),
        }
    }
}

/// `old` with nothing but the conditions and the metadata of `new`.
pub(super) fn only_conditions(new: &mut Doc, old: &Doc) {
    let mut kept = old.clone();
    for path in [&["status", "conditions"][..], &["metadata"]] {
        match new.remove_at(path) {
            Some(value) => kept.set_at(path, value),
            None => drop(kept.remove_at(path)),
        }
    }
    *new = kept;
}

/// Puts a condition in the place of the one of its type, or beside the others.
pub(super) fn set_condition(doc: &mut Doc, condition: Doc) {
    let conditions = doc.entry_at(&["status", "conditions"]);
    if conditions.as_array().is_none() {
        *conditions = Doc::Array(Vec::new());
    }
    let Some(list) = conditions.as_array_mut() else { return };
    match list.iter_mut().find(|present| present.str_at(&["type"]) == condition.str_at(&["type"])) {
        Some(found) => *found = condition,
        None => list.push(condition),
    }
}
