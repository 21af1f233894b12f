//! `ConversionReview`: the question that a webhook is asked, and its answer. Pure.

use bytes::Bytes;
use k8s_core::{
    custom::{Flaw, check_converted},
    doc,
    doc::Doc,
};

/// The versions that are spoken.
pub const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

const GROUP: &str = "apiextensions.k8s.io";

/// The type of what is converted as upstream names it: `GROUP/VERSION, Kind=KIND`, of a list if there are several.
pub fn described(docs: &[Doc]) -> String {
    let first = docs.first().unwrap_or(&Doc::Null);
    let list = if docs.len() > 1 { "List" } else { "" };
    format!("{}, Kind={}{list}", first.str_at(&["apiVersion"]), first.str_at(&["kind"]))
}

/// The question `uid`: `objects` (an array) at `api_version`.
pub fn write(version: &str, uid: &str, api_version: &str, objects: Doc) -> Bytes {
    let mut review = doc!({"kind": "ConversionReview", "request": {"uid": uid, "desiredAPIVersion": api_version}});
    review.set_at(&["apiVersion"], format!("{GROUP}/{version}").into());
    review.set_at(&["request", "objects"], objects);
    review.to_json().into()
}

/// The converted objects, in the order of `originals`. The error goes on where "conversion webhook for ..." ends.
pub fn read(body: &[u8], version: &str, uid: &str, api_version: &str, originals: &[Doc]) -> Result<Vec<Doc>, String> {
    let mut review = Doc::parse(body).map_err(|why| format!("failed: the answer is no JSON: {why}"))?;
    let response = response(&review, version, uid).map_err(|why| format!("failed: {why}"))?;
    let count = response.get("convertedObjects").map_or(0, |objects| objects.items().len());
    if count != originals.len() {
        return Err(format!("returned {count} objects, expected {}", originals.len()));
    }
    let objects = review.at_mut(&["response", "convertedObjects"]).and_then(Doc::as_array_mut);
    let mut converted = objects.map(std::mem::take).unwrap_or_default();
    for (place, (original, doc)) in originals.iter().zip(&mut converted).enumerate() {
        check_converted(original, doc, api_version).map_err(|flaw| flawed(&flaw, place, originals.len() == 1))?;
    }
    Ok(converted)
}

/// The `response` of an answer that says that all went well.
fn response<'r>(review: &'r Doc, version: &str, uid: &str) -> Result<&'r Doc, String> {
    let (api_version, kind) = (review.str_at(&["apiVersion"]), review.str_at(&["kind"]));
    let expected = format!("{GROUP}/{version}");
    // The older version let answers say nothing of themselves.
    let says = version == "v1";
    if says && (api_version != expected || kind != "ConversionReview") {
        return Err(format!(
            "expected webhook response of {expected}, Kind=ConversionReview, got {api_version}, Kind={kind}"
        ));
    }
    let response = review.get("response").filter(|response| !response.is_null()).ok_or("no response provided")?;
    let found = response.str_at(&["uid"]);
    if says && found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    match (response.str_at(&["result", "status"]), response.str_at(&["result", "message"])) {
        ("Success", _) => Ok(response),
        (status, "") => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message.to_owned()),
    }
}

/// A flaw in the words that upstream has for one object, and for one of several.
fn flawed(flaw: &Flaw, place: usize, is_alone: bool) -> String {
    match (flaw, is_alone) {
        (Flaw::Type(why), true) => format!("returned invalid object at index 0: {why}"),
        (Flaw::Object(why), true) => format!("returned invalid object: {why}"),
        (Flaw::Metadata(why), true) => format!("returned invalid metadata: {why}"),
        (Flaw::Type(why) | Flaw::Object(why), false) => {
            format!("returned invalid converted object at index {place}: {why}")
        }
        (Flaw::Metadata(why), false) => format!("returned invalid metadata in object at index {place}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Vec<Doc> {
        vec![doc!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}})]
    }

    fn answer(response: Doc) -> Vec<u8> {
        let mut review = doc!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"});
        review.set_at(&["response"], response);
        review.to_json()
    }

    #[test]
    fn questions_name_the_version_and_the_objects() {
        let body = Doc::parse(&write("v1", "u", "g/v2", Doc::Array(one()))).unwrap();
        let expected = doc!({"kind": "ConversionReview", "request": {"uid": "u", "desiredAPIVersion": "g/v2",
            "objects": [{"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}}]},
            "apiVersion": "apiextensions.k8s.io/v1"});
        assert_eq!(body, expected);
        assert_eq!(described(&one()), "g/v1, Kind=K");
        assert_eq!(described(&[one(), one()].concat()), "g/v1, Kind=KList");
    }

    #[test]
    fn answers_that_do_not_count_are_told_in_upstreams_words() {
        let object = doc!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "a"}});
        let good = |objects: Doc| {
            let mut response = doc!({"uid": "u", "result": {"status": "Success"}});
            response.set_at(&["convertedObjects"], objects);
            answer(response)
        };
        let said = |body: &[u8]| read(body, "v1", "u", "g/v2", &one());
        assert_eq!(said(&good(Doc::Array(vec![object.clone()]))), Ok(vec![object.clone()]));
        let other = doc!([{"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}}]);
        for (body, expected) in [
            (answer(Doc::Null), "failed: no response provided"),
            (answer(doc!({"uid": "x"})), "failed: expected response.uid=\"u\", got \"x\""),
            (answer(doc!({"uid": "u"})), "failed: response.result.status was '', not 'Success'"),
            (answer(doc!({"uid": "u", "result": {"status": "Failed", "message": "no"}})), "failed: no"),
            (good(doc!([])), "returned 0 objects, expected 1"),
            (good(other), "returned invalid object at index 0: invalid groupVersion (expected g/v2, received g/v1)"),
        ] {
            assert_eq!(said(&body), Err(expected.into()));
        }
        let strange = br#"{"apiVersion":"v1","kind":"Pod"}"#;
        assert!(said(strange).unwrap_err().starts_with("failed: expected webhook response of apiextensions.k8s.io/v1"));
        let two = [one(), one()].concat();
        let objects = doc!([object.clone(), {"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "b"}}]);
        let expected = "returned invalid converted object at index 1: must have the same name: a != b";
        assert_eq!(read(&good(objects), "v1", "u", "g/v2", &two), Err(expected.into()));
        let old = doc!({"response": {"convertedObjects": [object], "result": {"status": "Success"}}});
        assert!(read(&old.to_json(), "v1beta1", "u", "g/v2", &one()).is_ok());
    }
}
