//! Answers in protobuf: objects, lists, watches, failures, metadata, discovery, and what has none.

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use k8s_core::{doc, doc::Doc};
use tower::ServiceExt;

use super::{
    super::{protobuf::decode, *},
    fake::*,
};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const BOTH: &str = "application/vnd.kubernetes.protobuf,application/json";

/// An answer's code, media type and bytes.
async fn asked(outer: &Outer, method: &str, path: &str, accept: &str) -> (u16, String, Bytes) {
    sent(outer, method, path, accept, Bytes::new()).await
}

async fn sent(outer: &Outer, method: &str, path: &str, accept: &str, json: impl Into<Bytes>) -> (u16, String, Bytes) {
    let asked = request(method, path).header("accept", accept).header("content-type", JSON);
    let response = outer.clone().oneshot(asked.body(body::full(json)).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let media_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    (code, media_type, response.into_body().collect().await.unwrap().to_bytes())
}

fn read(bytes: &[u8]) -> Doc {
    decode(bytes, &Schemas::builtin()).unwrap()
}

/// The fields of a message: number and bytes. Numbers are shown as text.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Bytes)> {
    let varint = |bytes: &mut &[u8]| {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = varint(&mut bytes);
        if key & 7 == 2 {
            let (taken, rest) = bytes.split_at(value as usize);
            found.push((key >> 3, Bytes::copy_from_slice(taken)));
            bytes = rest;
        } else {
            found.push((key >> 3, value.to_string().into()));
        }
    }
    found
}

fn all(bytes: &[u8], number: u64) -> Vec<Bytes> {
    fields(bytes).into_iter().filter(|(found, _)| *found == number).map(|(_, value)| value).collect()
}

fn at(bytes: &[u8], path: &[u64]) -> Bytes {
    path.iter().fold(Bytes::copy_from_slice(bytes), |bytes, number| {
        all(&bytes, *number).first().cloned().unwrap_or_else(|| panic!("{number} of {path:?}"))
    })
}

/// The kind in an envelope, and what is inside.
fn opened(bytes: &[u8]) -> (String, Bytes) {
    let body = bytes.strip_prefix(b"k8s\0").expect("the magic bytes");
    let word = |path: &[u64]| String::from_utf8(at(body, path).to_vec()).unwrap();
    (format!("{} {}", word(&[1, 1]), word(&[1, 2])), at(body, &[2]))
}

#[tokio::test]
async fn an_object_and_its_list() {
    let (outer, _) = outer();
    let (code, media_type, made) = sent(&outer, "POST", CONFIG_MAPS, BOTH, config_map("a")).await;
    assert_eq!((code, media_type.as_str()), (201, PROTOBUF));
    let json = get(&outer, &format!("{CONFIG_MAPS}/a")).await.json();
    assert_eq!(read(&made), json);
    let (code, media_type, got) = asked(&outer, "GET", &format!("{CONFIG_MAPS}/a"), PROTOBUF).await;
    assert_eq!((code, media_type.as_str()), (200, PROTOBUF));
    assert_eq!(got, made);
    send(&outer, "POST", CONFIG_MAPS, JSON, config_map("b")).await;
    let (_, media_type, list) = asked(&outer, "GET", CONFIG_MAPS, PROTOBUF).await;
    let (kind, list) = opened(&list);
    assert_eq!((media_type.as_str(), kind.as_str()), (PROTOBUF, "v1 ConfigMapList"));
    assert_eq!(at(&list, &[1, 2]), "12");
    let names: Vec<Bytes> = all(&list, 2).iter().map(|item| at(item, &[1, 1])).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(at(&all(&list, 2)[1], &[2, 2]), "v");
}

#[tokio::test]
async fn what_was_got_can_be_sent_back() {
    let (outer, _) = outer();
    send(&outer, "POST", CONFIG_MAPS, JSON, config_map("a")).await;
    let path = format!("{CONFIG_MAPS}/a");
    let (_, _, got) = asked(&outer, "GET", &path, PROTOBUF).await;
    let put = request("PUT", &path).header("accept", PROTOBUF).header("content-type", PROTOBUF);
    let answered = outer.clone().oneshot(put.body(body::full(got.clone())).unwrap()).await.unwrap();
    assert_eq!(answered.status(), 200);
    let mut again = read(&answered.into_body().collect().await.unwrap().to_bytes());
    let mut before = read(&got);
    assert_ne!(before.remove_at(&["metadata", "resourceVersion"]), again.remove_at(&["metadata", "resourceVersion"]));
    assert_eq!(again, before);
}

#[tokio::test]
async fn a_long_list_is_whole() {
    let (outer, _) = outer();
    for n in 0..1500 {
        send(&outer, "POST", CONFIG_MAPS, JSON, config_map(&format!("map-{n:04}"))).await;
    }
    let (_, _, list) = asked(&outer, "GET", CONFIG_MAPS, PROTOBUF).await;
    assert!(list.len() > 64 * 1024, "{}", list.len());
    let names: Vec<Bytes> = all(&opened(&list).1, 2).iter().map(|item| at(item, &[1, 1])).collect();
    assert!(names.len() == 1500 && names.is_sorted(), "{}", names.len());
}

#[tokio::test]
async fn metadata_alone_of_every_kind() {
    let (outer, _) = outer();
    const ONE: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    const LIST: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let wheels = "/apis/example.com/v1/namespaces/n/wheels";
    for path in [CONFIG_MAPS, wheels] {
        assert_eq!(send(&outer, "POST", path, JSON, config_map("a")).await.code, 201);
        let (kind, one) = opened(&asked(&outer, "GET", &format!("{path}/a"), ONE).await.2);
        assert_eq!(kind, "meta.k8s.io/v1 PartialObjectMetadata");
        assert_eq!(fields(&one).len(), 1, "metadata and nothing else");
        assert_eq!((at(&one, &[1, 1]), at(&one, &[1, 11, 2])), ("a".into(), "}".into()));
        let (kind, list) = opened(&asked(&outer, "GET", path, LIST).await.2);
        assert_eq!(kind, "meta.k8s.io/v1 PartialObjectMetadataList");
        assert_eq!(at(&list, &[2, 1, 1]), "a");
    }
}

#[tokio::test]
async fn what_has_no_protobuf_is_passed_over() {
    let (outer, door) = outer();
    let wheels = "/apis/example.com/v1/namespaces/n/wheels";
    let (code, media_type, _) = sent(&outer, "POST", wheels, BOTH, config_map("a")).await;
    assert_eq!((code, media_type.as_str()), (201, JSON));
    let before = door.seen.lock().len();
    let (code, media_type, refused) = asked(&outer, "DELETE", &format!("{wheels}/a"), PROTOBUF).await;
    assert_eq!((code, media_type.as_str()), (406, JSON), "who cannot be answered is told so in JSON");
    assert_eq!(Doc::parse(&refused).unwrap().str_at(&["reason"]), "NotAcceptable");
    assert_eq!(door.seen.lock().len(), before, "nothing was asked for");
    const TABLE: &str = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
    assert_eq!(asked(&outer, "GET", CONFIG_MAPS, TABLE).await.0, 406);
    let (_, media_type, table) =
        asked(&outer, "GET", CONFIG_MAPS, &format!("{TABLE},application/json;as=Table;g=meta.k8s.io;v=v1")).await;
    assert_eq!((media_type.as_str(), Doc::parse(&table).unwrap().str_at(&["kind"])), (JSON, "Table"));
}

#[tokio::test]
async fn failures_successes_and_values_that_are_not_stored() {
    let (outer, _) = outer();
    let (code, media_type, missing) = asked(&outer, "GET", &format!("{CONFIG_MAPS}/none"), BOTH).await;
    assert_eq!((code, media_type.as_str()), (404, PROTOBUF));
    let json = get(&outer, &format!("{CONFIG_MAPS}/none")).await.json();
    let status = read(&missing);
    for field in ["kind", "apiVersion", "status", "message", "reason", "code", "details"] {
        assert_eq!(status.get(field), json.get(field), "{field}");
    }
    send(&outer, "POST", CONFIG_MAPS, JSON, config_map("a")).await;
    let (code, _, deleted) = asked(&outer, "DELETE", &format!("{CONFIG_MAPS}/a"), PROTOBUF).await;
    assert_eq!((code, read(&deleted).str_at(&["status"])), (200, "Success"));
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{},"status":{"allowed":true}}"#;
    let (code, _, review) = sent(&outer, "POST", reviews, PROTOBUF, review).await;
    assert_eq!((code, read(&review).at(&["status", "allowed"])), (201, Some(&true.into())));
    let (code, media_type, strange) = asked(&outer, "GET", "/apis/no/such/path", BOTH).await;
    assert_eq!((code, media_type.as_str(), read(&strange).str_at(&["kind"])), (404, PROTOBUF, "Status"));
}

/// The events of a watch, as they come: word and object.
fn events(body: Body) -> impl futures::Stream<Item = (String, Bytes)> + Unpin {
    let chunks = body.into_data_stream().map(|chunk| chunk.unwrap());
    Box::pin(futures::stream::unfold((chunks, Vec::new()), |(mut chunks, mut kept): (_, Vec<u8>)| async move {
        loop {
            if let Some((head, rest)) = kept.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*head) as usize;
                if rest.len() >= length {
                    let event =
                        (String::from_utf8(at(&rest[..length], &[1]).to_vec()).unwrap(), at(&rest[..length], &[2, 1]));
                    kept.drain(..4 + length);
                    return Some((event, (chunks, kept)));
                }
            }
            kept.extend_from_slice(&chunks.next().await?);
        }
    }))
}

#[tokio::test]
async fn a_watch_is_framed() {
    let (outer, _) = outer();
    send(&outer, "POST", CONFIG_MAPS, JSON, config_map("a")).await;
    let watch =
        request("GET", &format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"));
    let watch = watch.header("accept", "application/vnd.kubernetes.protobuf;stream=watch,application/json");
    let response = outer.clone().oneshot(watch.body(body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut events = events(response.into_body());
    let (word, object) = events.next().await.unwrap();
    assert_eq!((word.as_str(), read(&object)), ("ADDED", get(&outer, &format!("{CONFIG_MAPS}/a")).await.json()));
    let (word, object) = events.next().await.unwrap();
    let end = doc!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"resourceVersion": "11", "annotations": {"k8s.io/initial-events-end": "true"}}
    });
    assert_eq!((word.as_str(), read(&object)), ("BOOKMARK", end));
    send(&outer, "PUT", &format!("{CONFIG_MAPS}/a"), JSON, config_map("a")).await;
    let (word, object) = events.next().await.unwrap();
    assert_eq!((word.as_str(), read(&object).str_at(&["metadata", "resourceVersion"])), ("MODIFIED", "12"));
}

#[tokio::test]
async fn a_watch_that_cannot_begin_says_so_in_a_frame() {
    let (outer, door) = outer();
    *door.fail.lock() = Some(ApiError::expired("too old"));
    let watch = request("GET", &format!("{CONFIG_MAPS}?watch=true")).header("accept", PROTOBUF);
    let response = outer.clone().oneshot(watch.body(body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let (word, status) = events(response.into_body()).next().await.unwrap();
    assert_eq!((word.as_str(), read(&status).at(&["code"])), ("ERROR", Some(&410.into())));
}

#[tokio::test]
async fn discovery_of_old() {
    let (outer, _) = outer();
    let (code, media_type, list) = asked(&outer, "GET", "/apis/apps/v1", BOTH).await;
    assert_eq!((code, media_type.as_str()), (200, PROTOBUF));
    let json = get(&outer, "/apis/apps/v1").await.json();
    assert_eq!(read(&list), json);
    for path in ["/apis", "/apis/apps", "/api/v1"] {
        let (code, _, document) = asked(&outer, "GET", path, PROTOBUF).await;
        assert_eq!((code, read(&document)), (200, get(&outer, path).await.json()), "{path}");
    }
    let (kind, versions) = opened(&asked(&outer, "GET", "/api", PROTOBUF).await.2);
    assert_eq!((kind.as_str(), at(&versions, &[1])), ("v1 APIVersions", "v1".into()));
    const AGGREGATED: &str =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/vnd.kubernetes.protobuf";
    let (_, media_type, _) = asked(&outer, "GET", "/apis", AGGREGATED).await;
    assert!(media_type.starts_with("application/json;g=apidiscovery"), "{media_type}");
}
