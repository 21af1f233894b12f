//! `AdmissionReview`: the question that a webhook is asked, and its answer. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use k8s_core::{
    doc,
    doc::Doc,
    registry::ResourceInfo,
    request::{Options, Propagation, Verb},
    status::{ApiError, Status},
};

use super::shown::{self, Shown};
use crate::{admission::AdmissionRequest, registry::user_info};

/// The group of the review.
const REVIEW_GROUP: &str = "admission.k8s.io";

/// What a webhook said.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// Whether it lets the request pass.
    pub allowed: bool,
    /// The JSON patch to apply.
    pub patch: Option<Doc>,
    /// For the caller.
    pub warnings: Vec<String>,
    /// For the audit log, without the webhook's name before the keys.
    pub annotations: Vec<(String, String)>,
    /// Why it does not, as a `Status`.
    pub status: Option<Doc>,
}

/// The name of an operation in rules and reviews.
pub fn operation(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "CREATE",
        Verb::Delete => "DELETE",
        Verb::Connect => "CONNECT",
        _ => "UPDATE",
    }
}

/// The namespace of a request as reviews name it: a Namespace is in itself.
pub fn namespace<'a>(request: &'a AdmissionRequest<'_>) -> &'a str {
    if request.is_below("", "namespaces") { &request.target.name } else { &request.target.namespace }
}

/// The question about `request`, shown as `shown` in the words of `form`.
pub fn write(request: &AdmissionRequest<'_>, form: &ResourceInfo, shown: &Shown, version: &str, uid: &str) -> Bytes {
    let mut body = described(request, form);
    body.set_at(&["uid"], uid.into());
    body.set_at(&["object"], shown.object.clone().unwrap_or(Doc::Null));
    body.set_at(&["oldObject"], shown.old.clone().unwrap_or(Doc::Null));
    let mut review = doc!({"kind": "AdmissionReview"});
    review.set_at(&["apiVersion"], format!("{REVIEW_GROUP}/{version}").into());
    review.set_at(&["request"], body);
    review.to_json().into()
}

/// The `request` of the review, without what only a webhook gets: its id and the objects.
pub fn described(request: &AdmissionRequest<'_>, form: &ResourceInfo) -> Doc {
    let (target, asked_for) = (request.target, shown::kind(request, request.info));
    let mut body = doc!({
        "kind": kind(&shown::kind(request, form)),
        "resource": resource(form),
        "requestKind": kind(&asked_for),
        "requestResource": resource(request.info),
        "operation": operation(request.verb),
        "userInfo": user_info(request.caller),
        "dryRun": request.options.dry_run,
        "options": options(request.verb, request.options)
    });
    let optional = [
        ("subResource", target.subresource.as_str()),
        ("requestSubResource", target.subresource.as_str()),
        ("name", target.name.as_str()),
        ("namespace", namespace(request)),
    ];
    for (field, value) in optional.into_iter().filter(|(_, value)| !value.is_empty()) {
        body.set_at(&[field], value.into());
    }
    body
}

fn kind((group, version, kind): &(String, String, String)) -> Doc {
    doc!({"group": group.as_str(), "version": version.as_str(), "kind": kind.as_str()})
}

fn resource(info: &ResourceInfo) -> Doc {
    doc!({"group": info.group.as_str(), "version": info.version.as_str(), "resource": info.plural.as_str()})
}

fn options(verb: Verb, options: &Options) -> Doc {
    let kind = match verb {
        Verb::Create => "CreateOptions",
        Verb::Delete => "DeleteOptions",
        Verb::Connect => return Doc::Null,
        _ => "UpdateOptions",
    };
    let mut doc = doc!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if options.dry_run {
        doc.set_at(&["dryRun"], doc!(["All"]));
    }
    if verb != Verb::Delete {
        if let Some(manager) = &options.field_manager {
            doc.set_at(&["fieldManager"], manager.as_str().into());
        }
        return doc;
    }
    if let Some(seconds) = options.grace_period_seconds {
        doc.set_at(&["gracePeriodSeconds"], seconds.into());
    }
    if let Some(uid) = &options.precondition_uid {
        doc.set_at(&["preconditions", "uid"], uid.as_str().into());
    }
    if let Some(revision) = options.precondition_version {
        doc.set_at(&["preconditions", "resourceVersion"], revision.to_string().into());
    }
    if let Some(propagation) = options.propagation {
        doc.set_at(&["propagationPolicy"], Propagation::as_str(propagation).into());
    }
    doc
}

/// Who may answer with a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// May.
    Mutating,
    /// May not.
    Validating,
}

/// Reads an answer to the question `uid` in `version`; the error says what is wrong with it.
pub fn read(body: &[u8], version: &str, uid: &str, role: Role) -> Result<Answer, String> {
    let review = Doc::parse(body).map_err(|why| format!("no JSON: {why}"))?;
    let response = review.get("response").filter(|response| !response.is_null());
    let response = response.ok_or("webhook response was absent")?;
    let (api_version, kind) = (review.str_at(&["apiVersion"]), review.str_at(&["kind"]));
    // The older version let answers say nothing of themselves.
    if version == "v1" {
        let expected = format!("{REVIEW_GROUP}/{version}");
        if api_version != expected || kind != "AdmissionReview" {
            return Err(format!(
                "expected webhook response of {expected}, Kind=AdmissionReview, got {api_version}, Kind={kind}"
            ));
        }
        let found = response.str_at(&["uid"]);
        if found != uid {
            return Err(format!("expected response.uid={uid:?}, got {found:?}"));
        }
    }
    let annotations = response.get("auditAnnotations").and_then(Doc::as_object);
    let annotations = annotations.into_iter().flat_map(|map| map.iter());
    let warnings = response.get("warnings").map_or(&[][..], Doc::items).iter().filter_map(Doc::as_str);
    Ok(Answer {
        allowed: response.get("allowed").and_then(Doc::as_bool).unwrap_or(false),
        patch: patch(response, version, role)?,
        warnings: warnings.map(str::to_owned).collect(),
        annotations: annotations
            .map(|(key, value)| (key.to_owned(), value.as_str().unwrap_or("").to_owned()))
            .collect(),
        status: response.get("status").filter(|status| !status.is_null()).cloned(),
    })
}

fn patch(response: &Doc, version: &str, role: Role) -> Result<Option<Doc>, String> {
    let (patch, kind) = (response.str_at(&["patch"]), response.get("patchType").and_then(Doc::as_str));
    if version == "v1" {
        match (role, patch.is_empty(), kind) {
            (Role::Validating, false, _) => return Err("validating webhook may not return response.patch".into()),
            (Role::Validating, _, Some(_)) => {
                return Err("validating webhook may not return response.patchType".into());
            }
            (Role::Mutating, false, None) => {
                return Err("webhook returned response.patch but not response.patchType".into());
            }
            (Role::Mutating, true, Some(_)) => {
                return Err("webhook returned response.patchType but not response.patch".into());
            }
            _ => {}
        }
    }
    if patch.is_empty() || role == Role::Validating {
        return Ok(None);
    }
    if let Some(other) = kind.filter(|kind| *kind != "JSONPatch") {
        return Err(format!("webhook returned invalid response.patchType of {other:?}"));
    }
    let json = STANDARD.decode(patch).map_err(|why| format!("response.patch is no base64: {why}"))?;
    Doc::parse(&json).map(Some).map_err(|why| format!("response.patch is no JSON: {why}"))
}

/// The refusal of a webhook, as upstream words it: never with a code below 400, always with the webhook's name.
pub fn refusal(name: &str, status: Option<&Doc>) -> ApiError {
    let mut said: Status = status.and_then(|status| status.deserialize().ok()).unwrap_or_default();
    let by = format!("admission webhook {name:?} denied the request");
    let reason = status.map_or("", |status| status.str_at(&["reason"]));
    said.message = match (said.message.as_str(), reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    said.code = said.code.max(400);
    if matches!(said.status.as_str(), "" | "Success") {
        said.status = "Failure".into();
    }
    (said.kind, said.api_version) = ("Status".into(), "v1".into());
    ApiError::from_status(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(version: &str, response: &Doc) -> Vec<u8> {
        let mut review = doc!({"kind": "AdmissionReview"});
        review.set_at(&["apiVersion"], format!("admission.k8s.io/{version}").into());
        review.set_at(&["response"], response.clone());
        review.to_json()
    }

    #[test]
    fn answers_are_read() {
        let patch = STANDARD.encode(r#"[{"op":"remove","path":"/a"}]"#);
        let body = answer(
            "v1",
            &doc!({
                "uid": "u", "allowed": true, "patch": patch.as_str(), "patchType": "JSONPatch",
                "warnings": ["careful"], "auditAnnotations": {"k": "v"}
            }),
        );
        let expected = Answer {
            allowed: true,
            patch: Some(doc!([{"op": "remove", "path": "/a"}])),
            warnings: vec!["careful".into()],
            annotations: vec![("k".into(), "v".into())],
            status: None,
        };
        assert_eq!(read(&body, "v1", "u", Role::Mutating).as_ref(), Ok(&expected));
        let old = answer("v1beta1", &doc!({"allowed": true, "patch": patch.as_str()}));
        assert!(read(&old, "v1beta1", "u", Role::Mutating).unwrap().patch.is_some());
    }

    #[test]
    fn answers_that_do_not_count_are_told_apart() {
        let patch = STANDARD.encode("[]");
        let of = |response: Doc, role| read(&answer("v1", &response), "v1", "u", role).unwrap_err();
        for (response, role, expected) in [
            (doc!({"uid": "x", "allowed": true}), Role::Mutating, "expected response.uid=\"u\", got \"x\""),
            (doc!({"uid": "u", "patch": patch.as_str()}), Role::Mutating, "but not response.patchType"),
            (doc!({"uid": "u", "patchType": "JSONPatch"}), Role::Mutating, "but not response.patch"),
            (doc!({"uid": "u", "patch": patch.as_str(), "patchType": "X"}), Role::Mutating, "patchType of \"X\""),
            (doc!({"uid": "u", "patch": patch.as_str()}), Role::Validating, "may not return response.patch"),
            (doc!({"uid": "u", "patch": "%", "patchType": "JSONPatch"}), Role::Mutating, "no base64"),
        ] {
            let error = of(response, role);
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(read(b"{}", "v1", "u", Role::Mutating), Err("webhook response was absent".into()));
        let other = answer("v1beta1", &doc!({"uid": "u", "allowed": true}));
        assert!(read(&other, "v1", "u", Role::Mutating).unwrap_err().starts_with("expected webhook response of"));
    }

    #[test]
    fn refusals_are_worded_as_upstream() {
        for (status, code, message) in [
            (None, 400, "admission webhook \"w\" denied the request without explanation"),
            (Some(doc!({"message": "no"})), 400, "admission webhook \"w\" denied the request: no"),
            (Some(doc!({"reason": "Nope"})), 400, "admission webhook \"w\" denied the request: Nope"),
            (
                Some(doc!({"code": 403, "message": "m", "status": "Success"})),
                403,
                "admission webhook \"w\" denied the request: m",
            ),
        ] {
            let error = refusal("w", status.as_ref());
            let said = error.status();
            assert_eq!((said.code, said.message.as_str(), said.status.as_str()), (code, message, "Failure"));
        }
    }
}
