//! CBOR, in and out.

use k8s_core::doc;

use super::*;
use crate::outer::cbor::{decode, encode};

const CBOR: &str = "application/cbor";

impl Wire {
    async fn cbor(&self, method: &str, path: &str, media_type: &str, doc: Option<Doc>) -> (Got, Doc) {
        let text = doc.map_or_else(Vec::new, |doc| encode(&doc));
        let got = self.ask(method, path, &[("accept", CBOR), ("content-type", media_type)], text).await;
        let doc = decode(&got.body).unwrap_or_else(|why| panic!("{path}: {why}"));
        (got, doc)
    }
}

fn map(name: &str, value: &str) -> Doc {
    doc!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}})
}

#[tokio::test(start_paused = true)]
async fn every_verb_speaks_cbor() {
    let wire = Wire::new().await;
    let one = format!("{MAPS}/a");
    let (made, doc) = wire.cbor("POST", MAPS, CBOR, Some(map("a", "1"))).await;
    assert_eq!((made.code, made.header("content-type")), (201, CBOR));
    assert!(made.body.starts_with(&[0xd9, 0xd9, 0xf7]), "it describes itself");
    assert_eq!(Some(&doc), Some(&wire.get(&one).await.json()), "the same as in JSON");
    let (put, doc) = wire.cbor("PUT", &one, CBOR, Some(map("a", "2"))).await;
    assert_eq!((put.code, doc.str_at(&["data", "k"])), (200, "2"));
    let path = format!("{one}?fieldManager=m&force=true");
    let (applied, doc) = wire.cbor("PATCH", &path, "application/apply-patch+cbor", Some(map("a", "3"))).await;
    assert_eq!((applied.code, doc.str_at(&["data", "k"])), (200, "3"));
    let (_, list) = wire.cbor("GET", MAPS, CBOR, None).await;
    assert_eq!((list.str_at(&["kind"]), list.at(&["items"]).unwrap().items().len()), ("ConfigMapList", 1));
    let (missing, status) = wire.cbor("GET", &format!("{MAPS}/none"), CBOR, None).await;
    assert_eq!((missing.code, missing.header("content-type")), (404, CBOR));
    assert_eq!(status.str_at(&["reason"]), "NotFound");
    let table = [("accept", "application/cbor;as=Table;v=v1;g=meta.k8s.io")];
    let table = decode(&wire.ask("GET", MAPS, &table, "").await.body).unwrap();
    assert_eq!((table.str_at(&["kind"]), table.at(&["rows"]).unwrap().items().len()), ("Table", 1));
    let preconditions = doc!({"preconditions": {"uid": "other"}});
    assert_eq!(wire.cbor("DELETE", &one, CBOR, Some(preconditions)).await.0.code, 409);
    assert_eq!(wire.cbor("DELETE", &one, CBOR, None).await.0.code, 200);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_a_sequence() {
    let wire = Wire::new().await;
    wire.maps(&["a", "b"]).await;
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let got = wire.ask("GET", &path, &[("accept", "application/cbor, application/json")], "").await;
    assert_eq!(got.header("content-type"), "application/cbor-seq");
    let starts: Vec<usize> =
        (0..got.body.len()).filter(|at| got.body[*at..].starts_with(&[0xd9, 0xd9, 0xf7])).collect();
    let ends = starts.iter().copied().skip(1).chain([got.body.len()]);
    let events: Vec<Doc> = starts.iter().zip(ends).map(|(from, to)| decode(&got.body[*from..to]).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event.str_at(&["object", "metadata", "name"])).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(events.iter().all(|event| event.str_at(&["type"]) == "ADDED"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_cbor_is_refused() {
    let wire = Wire::new().await;
    for (bytes, why) in
        [(&b"{}"[..], "as CBOR"), (b"\xd9\xd9\xf7\x80", "not an object"), (b"\xbf\xff\x00", "more than one")]
    {
        assert!(wire.send("POST", MAPS, CBOR, bytes).await.failed(400).contains(why));
    }
    let patch = wire.send("PATCH", &format!("{MAPS}/a"), CBOR, "").await;
    assert!(patch.failed(415).contains("application/apply-patch+cbor"));
}
